"""Machinery: a stage as data: its settings, inputs and function, and the job that one run of it is."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.lease import Lease
from pipeline.artifacts.manifest import DeterminismClass, License, inputs_of
from pipeline.artifacts.store import Draft, Request, Store, union_of_licenses
from pipeline.errors import ConfigError
from pipeline.executors.executor import Crew, Workers
from pipeline.executors.resumable import DoneElsewhereError, Work, open_work
from pipeline.runtime.provenance import provenance

C = TypeVar("C")
X = TypeVar("X")

WORK = "work"
"""the folder, in a run's, of finished parts"""


@dataclass(frozen=True, kw_only=True)
class Role:
    """An input of a stage: the kinds it may have, and what it is for."""

    kinds: tuple[str, ...]
    help: str
    optional: bool = False
    many: bool = False
    """may be given several times, in an order that matters"""


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[C, X]):
    """A stage as data: its name, version, settings, inputs, promise and function."""

    module: str
    version: int
    """bumped when the output changes for the same input"""
    kind: str
    kind_version: int = 1
    config: type[C]
    execution: type[X]
    roles: Mapping[str, Role]
    determinism: DeterminismClass
    toolchain: tuple[str, ...]
    """the libraries whose output bytes matter; their major.minor is in the id"""
    run: Callable[["Job[C, X]"], Artifact | None]
    foresee: Callable[[C, Store], int] = lambda config, store: 0
    """how many tasks there surely are to do, as far as that can be told before `resolve`, which may take long"""
    resolve: Callable[[C, Store], C] = lambda config, store: config
    """replaces names in the settings (a card, a path) by what they say (locations, hashes)"""
    imply: Callable[[dict[str, Artifact], Store], dict[str, Artifact]] = lambda inputs, store: inputs
    """adds the inputs that follow from the given ones"""
    uses: Callable[[C], tuple[str, ...]] = lambda config: ()
    """further libraries whose output bytes matter with these settings"""
    licenses: Callable[[C], tuple[License, ...]] = lambda config: ()
    positional: str | None = None
    """the role that may be given without a flag"""
    launchable: bool = False
    """may be run by `accelerate launch`; has a run folder, a lease and checkpoints"""


@dataclass(frozen=True, kw_only=True)
class Job(Generic[C, X]):
    """One run of a stage: everything it may look at."""

    stage: Stage[C, X]
    store: Store
    config: C
    execution: X
    inputs: dict[str, Artifact]
    request: Request
    started: float
    lease: Lease | None = None
    hands: Crew | None = None
    """worker processes that have started already"""

    def inputs_of(self, role: str) -> list[Artifact]:
        """Return all artifacts given for a role, in the order they were given."""
        return inputs_of(role, self.inputs)

    @property
    def run_folder(self) -> Path:
        """The mutable work of a long stage: checkpoints, metrics."""
        return self.store.run_folder(self.request.id)

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Give the map over parts that goes on after a kill, for stages whose Execution is `Workers`."""
        assert isinstance(self.execution, Workers)
        with open_work(self.run_folder / WORK, self.execution, self.hands) as work:
            self.request.leave_in(self.run_folder)
            yield work

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Give a draft of the artifact that was asked for; it is published when the block ends well.

        Raises DoneElsewhereError in all tasks of a job array but the first, which publishes.
        """
        if isinstance(self.execution, Workers) and self.execution.task_index > 0:
            raise DoneElsewhereError
        licenses = union_of_licenses(self.inputs, self.stage.licenses(self.config))
        with self.store.draft(self.request, licenses=licenses) as draft:
            yield draft
            draft.provenance = provenance(self.started)


def stage_of(module: str) -> Stage[Any, Any]:
    """Return the stage that `module` defines; ConfigError when it defines none."""
    found = getattr(importlib.import_module(module), "STAGE", None)
    if not isinstance(found, Stage):
        raise ConfigError(f"{module} is not a stage of this project.")
    return found
