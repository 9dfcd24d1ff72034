"""Machinery: what every stage does the same way: parse, plan, run, publish, print the reference.

A stage module states its `Config` (what is wanted; all of it in the id), its `Execution` (how to get it; never in
the id), its inputs and its `run`; everything else happens here, once.
"""

import contextlib
import dataclasses
import importlib
import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.files import write_json
from pipeline.artifacts.identity import as_json, shorten
from pipeline.artifacts.lease import Lease
from pipeline.artifacts.manifest import DeterminismClass, License, Recipe
from pipeline.artifacts.store import Draft, Request, Store, union_of_licenses
from pipeline.artifacts.summary import differences, next_commands, summarize
from pipeline.errors import ConfigError, DataError, MissingError, StoppedError
from pipeline.process import as_known, guarded, is_main_process, prepare_process, provenance, say, version_of
from pipeline.program import default_store
from pipeline.recipe import RecipeFile, Step, load_recipe
from pipeline.settings import build, check_keys, field_names

C = TypeVar("C")
X = TypeVar("X")

UNICODE = "unicode"
"""the name, in a toolchain, of the version of Unicode that this Python knows"""


@dataclass(frozen=True, kw_only=True)
class Role:
    """An input of a stage: the kinds it may have, and what it is for."""

    kinds: tuple[str, ...]
    help: str
    optional: bool = False


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
    resolve: Callable[[C, Store], C] = lambda config, store: config
    """replaces names in the settings (a card, a path) by what they say (locations, hashes)"""
    imply: Callable[[dict[str, Artifact], Store], dict[str, Artifact]] = lambda inputs, store: inputs
    """adds the inputs that follow from the given ones"""
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

    @property
    def run_folder(self) -> Path:
        """The mutable work of a long stage: checkpoints, metrics."""
        return self.store.run_folder(self.request.id)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Give a draft of the artifact that was asked for; it is published when the block ends well."""
        licenses = union_of_licenses(self.inputs, self.stage.licenses(self.config))
        with self.store.draft(self.request, licenses=licenses) as draft:
            yield draft
            draft.provenance = provenance(self.started)


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


@dataclass(frozen=True, kw_only=True)
class _Command(Generic[C, X]):
    """A parsed command line."""

    config: C
    execution: X
    references: dict[str, str]
    store: Store
    recipe: RecipeFile | None
    step: Step | None
    plan: bool
    json: bool
    debug: bool


def main_of(stage: Stage[Any, Any], argv: Sequence[str] | None) -> int:
    """Be the program `python -m STAGE`: parse, then plan or run; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prepare_process()
    return guarded(lambda: _main(stage, arguments), debug="--debug" in arguments)


def _main(stage: Stage[Any, Any], arguments: list[str]) -> int:
    command = _parse(stage, arguments)
    if command.plan:
        plan = _plan(stage, command)
        print(json.dumps(dataclasses.asdict(plan)) if command.json else _plan_line(plan))
        return 0
    inputs = _find_inputs(stage, command, must_exist=True)
    artifact = _execute(stage, command, inputs)
    if artifact is not None and is_main_process():
        _announce(artifact, command)
    return 0


def check(stage_module: str, arguments: list[str]) -> Plan:
    """Check a stage's settings before its inputs are there; return that it is pending."""
    stage = stage_of(stage_module)
    command = _parse(stage, arguments)
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
    return _plan(stage, _parse(stage, arguments))


def stage_of(module: str) -> Stage[Any, Any]:
    """Return the stage that `module` defines; ConfigError when it defines none."""
    found = getattr(importlib.import_module(module), "STAGE", None)
    if not isinstance(found, Stage):
        raise ConfigError(f"{module} is not a stage of this project.")
    return found


# --- the command line ----------------------------------------------------------------------------------------


def _parse(stage: Stage[C, X], arguments: list[str]) -> _Command[C, X]:
    import tyro

    module = importlib.import_module(stage.module)
    recipe, step = _recipe_of(stage, arguments)
    config, execution = _settings(stage, recipe, step)
    fields = _command_fields(stage, config, execution)
    shape = dataclasses.make_dataclass("Command", fields, kw_only=True)
    parsed: Any = tyro.cli(
        shape,
        args=arguments,
        prog=f"python -m {stage.module}",
        description=module.__doc__,
    )
    return _Command(
        config=parsed.config,
        execution=parsed.execution,
        references={role: ref for role in stage.roles if (ref := getattr(parsed, role)) is not None},
        store=Store(parsed.store.expanduser()),
        recipe=recipe,
        step=step,
        plan=parsed.plan,
        json=parsed.json,
        debug=parsed.debug,
    )


def _command_fields(stage: Stage[C, X], config: C, execution: X) -> list[Any]:
    from tyro.conf import FlagCreatePairsOff, Positional, arg

    annotated: Any = Annotated

    def option(key: str, hint: Any, default: Any, *markers: Any, **about: Any) -> Any:
        return key, annotated[(hint, *markers, arg(**about))], field(default=default)

    def switch(name: str, help_: str) -> Any:
        return option(name, bool, False, FlagCreatePairsOff, help=help_)

    def reference(name: str, role: Role) -> Any:
        about = f"{role.help} ({' or '.join(role.kinds)}: reference, name or path)"
        markers = [Positional] if name == stage.positional else []
        return option(name, str | None, None, *markers, help=about, metavar="REF")

    return [
        *(reference(name, role) for name, role in stage.roles.items()),
        option("recipe", str | None, None, help="take settings and inputs from a recipe (name or .toml)"),
        option("step", str | None, None, help="which step of the recipe, if several run this stage"),
        option("config", stage.config, config, name=""),
        option("execution", stage.execution, execution, name=""),
        option("store", Path, default_store(), help="the folder of artifacts; CAIRN_STORE sets it too"),
        switch("plan", "say what would be done, and do nothing"),
        switch("json", "print the result as JSON"),
        switch("debug", "show a traceback when something fails"),
    ]


def _recipe_of(stage: Stage[C, X], arguments: list[str]) -> tuple[RecipeFile | None, Step | None]:
    name = _value_of(arguments, "--recipe")
    if name is None:
        return None, None
    recipe = load_recipe(name)
    return recipe, recipe.step_of(stage.module, _value_of(arguments, "--step"))


def _value_of(arguments: list[str], flag: str) -> str | None:
    """Look a flag up before the real parse, which needs what it says."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def _settings(stage: Stage[C, X], recipe: RecipeFile | None, step: Step | None) -> tuple[C, X]:
    """Split a step's table into the stage's two dataclasses; unknown keys are errors."""
    if recipe is None or step is None:
        return stage.config(), stage.execution()
    where = f"{recipe.path}: [{step.name}]"
    wanted, how = field_names(stage.config), field_names(stage.execution)
    check_keys(step.settings, wanted + how, where)
    if unknown := set(step.inputs) - set(stage.roles):
        raise ConfigError(
            f"{where} has no input {sorted(unknown)[0]!r}; {stage.module} takes {', '.join(stage.roles)}."
        )
    return (
        build(stage.config, {key: value for key, value in step.settings.items() if key in wanted}, where),
        build(stage.execution, {key: value for key, value in step.settings.items() if key in how}, where),
    )


# --- inputs --------------------------------------------------------------------------------------------------


def _find_inputs(stage: Stage[C, X], command: _Command[C, X], *, must_exist: bool) -> dict[str, Artifact]:
    """Open the inputs that were referred to, ask the recipe for the others, and add what they imply.

    Raises MissingError with the command that builds a missing input, unless `must_exist` is false.
    """
    inputs = {role: _open_input(stage, role, ref, command.store) for role, ref in command.references.items()}
    for role, source in (command.step.inputs if command.step else {}).items():
        if role not in inputs and (found := _ask_for(command, source)) is not None:
            inputs[role] = _open_input(stage, role, found, command.store)
    inputs = stage.imply(inputs, command.store)
    for role in missing_roles(stage, inputs, command.step):
        if must_exist:
            raise MissingError(_how_to_get(stage, role, command))
    return inputs


def missing_roles(stage: Stage[Any, Any], inputs: Mapping[str, Artifact], step: Step | None = None) -> list[str]:
    """Return the roles that must be filled and are not; what the step of a recipe names is not optional in it."""
    named = step.inputs if step else {}
    needed = [name for name, role in stage.roles.items() if not role.optional or name in named]
    return [name for name in needed if name not in inputs]


def _open_input(stage: Stage[C, X], role: str, reference: str, store: Store) -> Artifact:
    artifact = store.find(reference)
    kinds = stage.roles[role].kinds
    if artifact.kind not in kinds:
        raise DataError(
            f"{stage.module} wants {' or '.join(kinds)} for --{role}, and {reference} is a {artifact.kind}."
        )
    artifact.verify()
    return artifact


def _ask_for(command: _Command[Any, Any], source: str) -> str | None:
    """Ask the step `source` of the recipe for its artifact; None when it is not up to date."""
    assert command.recipe is not None
    step = command.recipe.steps[source]
    arguments = ["--recipe", str(command.recipe.path), "--step", source, "--store", str(command.store.root)]
    plan = ask(step.module, arguments)
    return plan.reference if plan.state == "up to date" else None


def _how_to_get(stage: Stage[C, X], role: str, command: _Command[C, X]) -> str:
    what = f"{stage.module} needs --{role}, {stage.roles[role].help} ({' or '.join(stage.roles[role].kinds)})."
    if command.recipe is None or command.step is None or role not in command.step.inputs:
        return f"{what} Name it as kind:id, or give --recipe and it is found."
    source = command.recipe.steps[command.step.inputs[role]]
    build_it = f"python -m {source.module} --recipe {command.recipe.reference} --step {source.name}"
    return f"{what} It is not there yet. Run `{build_it}`."


# --- planning ------------------------------------------------------------------------------------------------


def _request(stage: Stage[C, X], config: C, inputs: dict[str, Artifact]) -> Request:
    recipe = Recipe(
        stage=stage.module,
        stage_version=stage.version,
        inputs={role: artifact.name for role, artifact in sorted(inputs.items())},
        config=as_json(config),
        toolchain={name: _tool_version(name) for name in stage.toolchain},
    )
    return Request(kind=stage.kind, kind_version=stage.kind_version, recipe=recipe, determinism=stage.determinism)


def _tool_version(name: str) -> str:
    return unicodedata.unidata_version if name == UNICODE else version_of(name, parts=2)


def _plan(stage: Stage[C, X], command: _Command[C, X]) -> Plan:
    step = command.step.name if command.step else None
    common: dict[str, Any] = {"step": step, "stage": stage.module, "kind": stage.kind, "launchable": stage.launchable}
    inputs = _find_inputs(stage, command, must_exist=False)
    if missing := missing_roles(stage, inputs, command.step):
        sources = command.step.inputs if command.step else {}
        return Plan(**common, state="pending", why=[sources.get(role, role) for role in missing])
    request = _request(stage, stage.resolve(command.config, command.store), inputs)
    artifact = command.store.get(request.kind, request.id)
    if artifact is not None:
        artifact.verify()
        return Plan(**common, id=request.id, state="up to date", why=[], summary=summarize(artifact))
    if any(command.store.run_folder(request.id).glob("checkpoints/step-*")):
        return Plan(**common, id=request.id, state="resume", why=["an unfinished run has checkpoints"])
    if why := _why_stale(command, request):
        return Plan(**common, id=request.id, state="stale", why=why)
    return Plan(**common, id=request.id, state="run", why=["never built"])


def _why_stale(command: _Command[C, X], request: Request) -> list[str]:
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


def _plan_line(plan: Plan) -> str:
    reference = shorten(plan.reference) if plan.reference else plan.kind
    return f"{reference}  {plan.state}{': ' if plan.why else ''}{'; '.join(plan.why)}"


# --- running -------------------------------------------------------------------------------------------------


def _execute(stage: Stage[C, X], command: _Command[C, X], inputs: dict[str, Artifact]) -> Artifact | None:
    config = stage.resolve(command.config, command.store)
    request = _request(stage, config, inputs)
    artifact = command.store.get(request.kind, request.id)
    if artifact is not None:
        artifact.verify()
        say(f"{artifact.short} is up to date")
        return artifact
    return execute(stage, command.store, request, config, command.execution, inputs)


def execute(
    stage: Stage[C, X], store: Store, request: Request, config: C, execution: X, inputs: dict[str, Artifact]
) -> Artifact | None:
    """Run a stage and return what it published; only the main process of a launch gets it."""
    job = Job(
        stage=stage,
        store=store,
        config=config,
        execution=execution,
        inputs=inputs,
        request=request,
        started=time.time(),
    )
    if not stage.launchable:
        return stage.run(job)
    if not is_main_process():
        return stage.run(job)
    lease = Lease.acquire(job.run_folder)
    try:
        artifact = store.get(request.kind, request.id)  # whoever had the lease before may have published
        if artifact is None:
            with _status(job.run_folder):
                artifact = stage.run(dataclasses.replace(job, lease=lease))
        lease.check()
        shutil.rmtree(job.run_folder, ignore_errors=True)  # published: nobody will resume it
    finally:
        lease.release()
    return artifact


@contextmanager
def _status(folder: Path) -> Iterator[None]:
    """Keep status.json: `accelerate launch` turns every failure into exit 1, this says what it was."""

    def write(state: str, exit_code: int | None = None, message: str = "") -> None:
        write_json(folder / "status.json", {"state": state, "exit_code": exit_code, "message": message})

    write("running")
    try:
        yield
    except BaseException as error:
        known = as_known(error)
        with contextlib.suppress(OSError):
            state = "stopped" if known.exit_code == StoppedError.exit_code else "failed"
            write(state, known.exit_code, str(known))
        raise
    write("done", 0)


def request_of(stage: Stage[C, X], artifact: Artifact, store: Store) -> tuple[Request, C, dict[str, Artifact]]:
    """Reconstruct from a manifest what was asked, with today's toolchain and stage version.

    Raises MissingError when an input is gone.
    """
    recipe = artifact.manifest.recipe
    config = build(stage.config, recipe.config, artifact.short)
    inputs = {role: store.find_input(name.kind, name.id, name.digest) for role, name in recipe.inputs.items()}
    for found in inputs.values():
        found.verify()
    return _request(stage, config, inputs), config, inputs


def _announce(artifact: Artifact, command: _Command[Any, Any]) -> None:
    """Print what was made and what to type next; the reference comes last, on stdout."""
    say(f"{artifact.short}: {summarize(artifact)}")
    for line in next_commands(artifact):
        say(f"  next: {line}")
    if command.json:
        page = {"reference": artifact.reference, "digest": artifact.digest, "path": str(artifact.path)}
        print(json.dumps({**page, "facts": artifact.facts}))
    else:
        print(artifact.reference)
