"""Machinery: a stage as data: its settings, inputs and function, and the job that one run of it is."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.lease import Lease
from pipeline.artifacts.manifest import DeterminismClass, License, inputs_of
from pipeline.artifacts.store import Draft, Request, Store, union_of_licenses
from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import DoneElsewhereError, Work, open_work
from pipeline.runtime.provenance import provenance

C = TypeVar("C")
X = TypeVar("X")

_ROOT = Path(__file__).parent.parent.parent
_PACKAGES = ("pipeline", "model", "train")
_FIRST_LINE = re.compile(r'"""Stage (\d+): ')

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
    """what is wanted, resolved: all of it is in the id"""
    options: type[Any] | None = None
    """what a person asks for (cards, names, paths), where that is not the config itself"""
    execution: type[X]
    roles: Mapping[str, Role]
    determinism: DeterminismClass
    toolchain: tuple[str, ...]
    """the libraries whose output bytes matter; their major.minor is in the id"""
    run: Callable[["Job[C, X]"], Artifact | None]
    resolve: Callable[[Any, Store], C] = lambda options, store: options
    """makes the config of the options: what a name or path stands for (locations, hashes)"""
    infer_inputs: Callable[[dict[str, Artifact], Store], dict[str, Artifact]] = lambda inputs, store: inputs
    """adds the inputs that follow from the given ones"""
    extra_toolchain: Callable[[C], tuple[str, ...]] = lambda config: ()
    """further libraries whose output bytes matter with these settings"""
    licenses: Callable[[C], tuple[License, ...]] = lambda config: ()
    summarize: Callable[[Artifact], str]
    """says in a line what is in an artifact of this kind"""
    next_commands: Callable[[Artifact], list[str]] = lambda artifact: _trace(artifact)
    """what a person would type next with it"""
    positional: str | None = None
    """the role that may be given without a flag"""
    launchable: bool = False
    """may be run by `accelerate launch`; has a run folder, a lease and checkpoints"""

    @property
    def asked(self) -> type[Any]:
        """The dataclass that flags and a recipe's table fill."""
        return self.options or self.config


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
        with open_work(self.run_folder / WORK, self.execution) as work:
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


@cache
def stage_modules() -> tuple[str, ...]:
    """Return the modules of our packages that say in their first line that they are a stage, in that order.

    Nothing is imported for it, and no other module, whoever names it, is ever imported as a stage.
    """
    return tuple(found for _, found in sorted(_numbered_modules(_ROOT)))


def _numbered_modules(root: Path) -> list[tuple[int, str]]:
    found: dict[int, str] = {}
    for package in _PACKAGES:
        for path in sorted((root / package).glob("*.py")):
            with path.open(encoding="utf-8") as file:
                number = _FIRST_LINE.match(file.readline())
            if number and (other := found.setdefault(int(number[1]), name := f"{package}.{path.stem}")) != name:
                raise ConfigError(
                    f"{other} and {name} both say they are stage {number[1]}; {name} needs a free number."
                )
    return list(found.items())


def stage_of(module: str) -> Stage[Any, Any]:
    """Return the stage that `module` defines; ConfigError when it is none of ours."""
    if module not in stage_modules():
        raise ConfigError(f"{module} is not a stage of this project; those are {', '.join(stage_modules())}.")
    found = importlib.import_module(module).STAGE
    assert isinstance(found, Stage)
    return found


@cache
def stages_by_kind() -> dict[str, Stage[Any, Any]]:
    """Return for each kind of artifact the first stage that makes it, in the order of the stages."""
    found: dict[str, Stage[Any, Any]] = {}
    for module in stage_modules():
        stage = stage_of(module)
        found.setdefault(stage.kind, stage)
    return found


def describe(artifact: Artifact) -> str:
    """Say in a line what is in an artifact, as the stage says that makes its kind."""
    stage = stages_by_kind().get(artifact.kind)
    return stage.summarize(artifact) if stage else f"{len(artifact.manifest.files)} files"


def next_commands(artifact: Artifact) -> list[str]:
    """Return what a person would type next with an artifact, as the stage says that makes its kind."""
    stage = stages_by_kind().get(artifact.kind)
    return stage.next_commands(artifact) if stage else _trace(artifact)


def _trace(artifact: Artifact) -> list[str]:
    return [f"python -m pipeline.artifacts lineage {artifact.short}"]
