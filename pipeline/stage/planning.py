"""Machinery: planning a stage: its inputs, the id of what is asked, and whether that is up to date."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.diff import differences
from pipeline.artifacts.manifest import Asked, role_of
from pipeline.artifacts.store import Request, Store
from pipeline.errors import DataError, MissingError
from pipeline.runtime.provenance import version_of
from pipeline.runtime.settings import from_json, json_of
from pipeline.stage.command_line import Command, command_of
from pipeline.stage.definition import WORK, C, Stage, X

UNICODE = "unicode"
"""the name, in a toolchain, of the version of Unicode that this Python knows"""


UP_TO_DATE = "up to date"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a stage would do if asked now."""

    step: str | None
    stage: str
    kind: str
    state: str
    """up to date | resume | run | stale | pending"""
    why: list[str]
    id: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    """the reference of each input that is there"""
    summary: str = ""
    launchable: bool = False

    @property
    def reference(self) -> str | None:
        return f"{self.kind}:{self.id}" if self.id else None

    @property
    def made(self) -> str | None:
        """The reference of what is there already, if it is up to date."""
        return self.reference if self.state == UP_TO_DATE else None


# --- a recipe ------------------------------------------------------------------------------------------------


def plan_recipe(commands: Iterable[Command[Any, Any]]) -> dict[str, Plan]:
    """Plan the steps of a recipe, each once: `commands` are its steps' in an order in which they can run."""
    plans: dict[str, Plan] = {}
    for command in commands:
        assert command.step is not None
        plans[command.step.name] = plan_stage(command, plans)
    return plans


def plan_ancestors(command: Command[Any, Any]) -> dict[str, Plan]:
    """Plan the steps that the command's step is made from, as far as the command does not name its inputs itself."""
    if command.recipe is None:
        return {}
    sources = set(_steps_asked(command).values())
    needed = sources.union(*map(command.recipe.ancestors, sources))
    steps = [step for name, step in command.recipe.steps.items() if name in needed]
    return plan_recipe(command_of(command.recipe, step, command.store) for step in steps)


# --- inputs --------------------------------------------------------------------------------------------------


def find_inputs(command: Command[Any, Any], plans: Mapping[str, Plan]) -> dict[str, Artifact]:
    """Open the inputs that were referred to, those that the recipe's steps made, and those that follow from them."""
    asked = _steps_asked(command)
    made = {name: found for name, source in asked.items() if (found := plans[source].made)}
    inputs = {name: _open_input(command, name, ref) for name, ref in {**command.references, **made}.items()}
    if len(made) < len(asked):  # what is inferred could stand in for what is only not there yet
        return inputs
    return command.stage.infer_inputs(inputs, command.store)


def require_inputs(command: Command[Any, Any]) -> dict[str, Artifact]:
    """Return all inputs of a stage that is to run; raises MissingError with the command that builds a missing one."""
    inputs = find_inputs(command, plan_ancestors(command))
    for name in _missing(command, inputs):
        raise MissingError(_how_to_get(command, name))
    return inputs


def _steps_asked(command: Command[Any, Any]) -> dict[str, str]:
    """Return the inputs that the recipe's step asks for, and from which step, but for roles that were given by hand."""
    given = set(map(role_of, command.references))
    sources = command.step.inputs if command.step else {}
    return {name: source for name, source in sources.items() if role_of(name) not in given}


def _missing(command: Command[Any, Any], inputs: Mapping[str, Artifact]) -> list[str]:
    """Return what must be there and is not: what the recipe's step asks for, else every role that is not optional."""
    asked = [name for name in _steps_asked(command) if name not in inputs]
    return asked or [name for name, role in command.stage.roles.items() if not role.optional and name not in inputs]


def _open_input(command: Command[Any, Any], name: str, reference: str) -> Artifact:
    artifact = command.store.find(reference)
    stage, role = command.stage, role_of(name)
    kinds = stage.roles[role].kinds
    if artifact.kind not in kinds:
        raise DataError(
            f"{stage.module} wants {' or '.join(kinds)} for --{role}, and {reference} is a {artifact.kind}."
        )
    artifact.verify()
    return artifact


def _how_to_get(command: Command[Any, Any], name: str) -> str:
    stage, role = command.stage, role_of(name)
    what = f"{stage.module} needs --{role}, {stage.roles[role].help} ({' or '.join(stage.roles[role].kinds)})."
    if command.recipe is None or command.step is None or name not in command.step.inputs:
        return f"{what} Name it as kind:id, or give --recipe and it is found."
    source = command.recipe.steps[command.step.inputs[name]]
    build_it = f"python -m {source.module} --recipe {command.recipe.reference} --step {source.name}"
    return f"{what} It is not there yet. Run `{build_it}`."


# --- planning ------------------------------------------------------------------------------------------------


def request_for(stage: Stage[C, X], config: C, inputs: dict[str, Artifact]) -> Request:
    """Return what is asked of a stage with a resolved config and these inputs: its id follows from it."""
    asked = Asked(
        stage=stage.module,
        stage_version=stage.version,
        inputs={role: artifact.name for role, artifact in sorted(inputs.items())},
        config=json_of(config),
        toolchain={name: _tool_version(name) for name in (*stage.toolchain, *stage.extra_toolchain(config))},
    )
    return Request(kind=stage.kind, kind_version=stage.kind_version, recipe=asked, determinism=stage.determinism)


def _tool_version(name: str) -> str:
    return unicodedata.unidata_version if name == UNICODE else version_of(name, parts=2)


def plan_stage(command: Command[Any, Any], plans: Mapping[str, Plan]) -> Plan:
    """Say what a stage would do if asked now; `plans` are those of the recipe's steps that it takes inputs from."""
    stage, store = command.stage, command.store
    inputs = find_inputs(command, plans)
    common: dict[str, Any] = {
        "step": command.step.name if command.step else None,
        "stage": stage.module,
        "kind": stage.kind,
        "inputs": {name: artifact.reference for name, artifact in inputs.items()},
        "launchable": stage.launchable,
    }
    if missing := _missing(command, inputs):
        asked = _steps_asked(command)
        return Plan(**common, state="pending", why=sorted({asked.get(name, name) for name in missing}))
    request = request_for(stage, stage.resolve(command.options, store), inputs)
    artifact = store.get(request.kind, request.id)
    if artifact is not None:
        artifact.verify()
        return Plan(**common, id=request.id, state=UP_TO_DATE, why=[], summary=stage.summarize(artifact))
    return Plan(**common, id=request.id, **_state(command, request))


def _state(command: Command[Any, Any], request: Request) -> dict[str, Any]:
    """Say in which state something is that is not there, and why."""
    run_folder = command.store.run_folder(request.id)
    if any(run_folder.glob("checkpoints/step-*")):
        return {"state": "resume", "why": ["an unfinished run has checkpoints"]}
    if any(run_folder.glob(f"{WORK}/*/[0-9]*")):
        return {"state": "resume", "why": ["an unfinished run has finished parts"]}
    if why := _why_stale(command, request):
        return {"state": "stale", "why": why}
    return {"state": "run", "why": ["never built"]}


def _why_stale(command: Command[Any, Any], request: Request) -> list[str]:
    """Say what changed since the artifact that this step of this recipe made last."""
    if command.recipe is None or command.step is None:
        return []
    reference = command.store.refs().get(step_name(command.recipe.name, command.step.name))
    kind, _, identity = (reference or "").partition(":")
    before = command.store.get(kind, identity) if reference else None
    if before is None:
        return []
    older = older_version(command.stage, before)
    return [older] if older else differences(before.manifest.recipe, request.recipe)


def step_name(recipe: str, step: str) -> str:
    """Return the name under which `pipeline.run` remembers what a step made."""
    return f"{recipe}.{step}"


def older_version(stage: Stage[Any, Any], artifact: Artifact) -> str | None:
    """Say so when another version of the stage made an artifact: its settings may have other names and meanings."""
    made_by = artifact.manifest.recipe.stage_version
    return None if made_by == stage.version else f"made by version {made_by}; this is version {stage.version}"


def request_of(stage: Stage[C, X], artifact: Artifact, store: Store) -> tuple[Request, C, dict[str, Artifact]]:
    """Reconstruct from the manifest of an artifact of this version what was asked, with today's toolchain.

    Raises MissingError when an input is gone.
    """
    asked = artifact.manifest.recipe
    config = from_json(stage.config, asked.config, artifact.short)
    inputs = {role: store.find_input(name.kind, name.id, name.digest) for role, name in asked.inputs.items()}
    for found in inputs.values():
        found.verify()
    return request_for(stage, config, inputs), config, inputs
