"""Machinery: planning a stage: its inputs, the id of what is asked, and whether that is up to date."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import as_json
from pipeline.artifacts.manifest import Recipe, role_of
from pipeline.artifacts.store import Request, Store
from pipeline.artifacts.summary import differences, summarize
from pipeline.errors import DataError, MissingError
from pipeline.runtime.provenance import version_of
from pipeline.runtime.settings import build
from pipeline.stage.command_line import Command, parse
from pipeline.stage.definition import WORK, C, Stage, X, stage_of

UNICODE = "unicode"
"""the name, in a toolchain, of the version of Unicode that this Python knows"""


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
    summary: str = ""
    launchable: bool = False

    @property
    def reference(self) -> str | None:
        return f"{self.kind}:{self.id}" if self.id else None


def check(stage_module: str, arguments: list[str]) -> Plan:
    """Check a stage's settings before its inputs are there; return that it is pending."""
    stage = stage_of(stage_module)
    command = parse(stage, arguments)
    sources = list((command.step.inputs if command.step else {}).values())
    return Plan(
        step=command.step.name if command.step else None,
        stage=stage.module,
        kind=stage.kind,
        state="pending",
        why=sources,
    )


def ask(stage_module: str, arguments: list[str]) -> Plan:
    """Ask a stage, by the name of its module, what it would do with this command line."""
    stage = stage_of(stage_module)
    return plan(stage, parse(stage, arguments))


# --- inputs --------------------------------------------------------------------------------------------------


def find_inputs(stage: Stage[C, X], command: Command[C, X], *, must_exist: bool) -> dict[str, Artifact]:
    """Open the inputs that were referred to, ask the recipe for the others, and add what they imply.

    Raises MissingError with the command that builds a missing input, unless `must_exist` is false.
    """
    inputs = {name: _open_input(stage, name, ref, command.store) for name, ref in command.references.items()}
    asked = _from_recipe(command)
    for name, source in asked.items():
        if (found := _ask_for(command, source)) is not None:
            inputs[name] = _open_input(stage, name, found, command.store)
    if all(name in inputs for name in asked):  # else what is implied could stand in for what is only not there yet
        inputs = stage.imply(inputs, command.store)
    for name in missing_inputs(stage, command, inputs):
        if must_exist:
            raise MissingError(_how_to_get(stage, name, command))
    return inputs


def _from_recipe(command: Command[Any, Any]) -> dict[str, str]:
    """Return the inputs that the recipe's step asks for, and from which step, but for roles that were given by hand."""
    given = set(map(role_of, command.references))
    sources = command.step.inputs if command.step else {}
    return {name: source for name, source in sources.items() if role_of(name) not in given}


def missing_inputs(stage: Stage[C, X], command: Command[C, X], inputs: Mapping[str, Artifact]) -> list[str]:
    """Return what must be there and is not: what the recipe's step asks for, else every role that is not optional."""
    asked = [name for name in _from_recipe(command) if name not in inputs]
    return asked or [name for name, role in stage.roles.items() if not role.optional and name not in inputs]


def _open_input(stage: Stage[C, X], name: str, reference: str, store: Store) -> Artifact:
    artifact = store.find(reference)
    role = role_of(name)
    kinds = stage.roles[role].kinds
    if artifact.kind not in kinds:
        raise DataError(
            f"{stage.module} wants {' or '.join(kinds)} for --{role}, and {reference} is a {artifact.kind}."
        )
    artifact.verify()
    return artifact


def _ask_for(command: Command[Any, Any], source: str) -> str | None:
    """Ask the step `source` of the recipe for its artifact; None when it is not up to date."""
    assert command.recipe is not None
    step = command.recipe.steps[source]
    arguments = ["--recipe", str(command.recipe.path), "--step", source, "--store", str(command.store.root)]
    plan = ask(step.module, arguments)
    return plan.reference if plan.state == "up to date" else None


def _how_to_get(stage: Stage[C, X], name: str, command: Command[C, X]) -> str:
    role = role_of(name)
    what = f"{stage.module} needs --{role}, {stage.roles[role].help} ({' or '.join(stage.roles[role].kinds)})."
    if command.recipe is None or command.step is None or name not in command.step.inputs:
        return f"{what} Name it as kind:id, or give --recipe and it is found."
    source = command.recipe.steps[command.step.inputs[name]]
    build_it = f"python -m {source.module} --recipe {command.recipe.reference} --step {source.name}"
    return f"{what} It is not there yet. Run `{build_it}`."


# --- planning ------------------------------------------------------------------------------------------------


def request_for(stage: Stage[C, X], config: C, inputs: dict[str, Artifact]) -> Request:
    recipe = Recipe(
        stage=stage.module,
        stage_version=stage.version,
        inputs={role: artifact.name for role, artifact in sorted(inputs.items())},
        config=as_json(config),
        toolchain={name: _tool_version(name) for name in (*stage.toolchain, *stage.uses(config))},
    )
    return Request(kind=stage.kind, kind_version=stage.kind_version, recipe=recipe, determinism=stage.determinism)


def _tool_version(name: str) -> str:
    return unicodedata.unidata_version if name == UNICODE else version_of(name, parts=2)


def plan(stage: Stage[C, X], command: Command[C, X]) -> Plan:
    step = command.step.name if command.step else None
    common: dict[str, Any] = {"step": step, "stage": stage.module, "kind": stage.kind, "launchable": stage.launchable}
    inputs = find_inputs(stage, command, must_exist=False)
    if missing := missing_inputs(stage, command, inputs):
        asked = _from_recipe(command)
        return Plan(**common, state="pending", why=[asked.get(name, name) for name in missing])
    request = request_for(stage, stage.resolve(command.config, command.store), inputs)
    artifact = command.store.get(request.kind, request.id)
    if artifact is not None:
        artifact.verify()
        return Plan(**common, id=request.id, state="up to date", why=[], summary=summarize(artifact))
    if any(command.store.run_folder(request.id).glob("checkpoints/step-*")):
        return Plan(**common, id=request.id, state="resume", why=["an unfinished run has checkpoints"])
    if any(command.store.run_folder(request.id).glob(f"{WORK}/*/[0-9]*")):
        return Plan(**common, id=request.id, state="resume", why=["an unfinished run has finished parts"])
    if why := _why_stale(command, request):
        return Plan(**common, id=request.id, state="stale", why=why)
    return Plan(**common, id=request.id, state="run", why=["never built"])


def _why_stale(command: Command[C, X], request: Request) -> list[str]:
    """Say what changed since the artifact that this step of this recipe made last."""
    if command.recipe is None or command.step is None:
        return []
    reference = command.store.refs().get(step_name(command.recipe.name, command.step.name))
    kind, _, identity = (reference or "").partition(":")
    before = command.store.get(kind, identity) if reference else None
    return differences(before.manifest.recipe, request.recipe) if before else []


def step_name(recipe: str, step: str) -> str:
    """Return the name under which `pipeline.run` remembers what a step made."""
    return f"{recipe}.{step}"


def request_of(stage: Stage[C, X], artifact: Artifact, store: Store) -> tuple[Request, C, dict[str, Artifact]]:
    """Reconstruct from a manifest what was asked, with today's toolchain and stage version.

    Raises MissingError when an input is gone.
    """
    recipe = artifact.manifest.recipe
    config = build(stage.config, recipe.config, artifact.short)
    inputs = {role: store.find_input(name.kind, name.id, name.digest) for role, name in recipe.inputs.items()}
    for found in inputs.values():
        found.verify()
    return request_for(stage, config, inputs), config, inputs
