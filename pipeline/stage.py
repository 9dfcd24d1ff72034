"""Machinery: what every stage does the same way: parse, plan, run, publish, print the reference.

A stage module states its `Config` (what is wanted; all of it in the id), its `Execution` (how to get it; never in
the id), its inputs and its `run`; everything else happens here, once.
"""

import contextlib
import dataclasses
import importlib
import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.files import remove_folder, write_json
from pipeline.artifacts.identity import as_json, shorten
from pipeline.artifacts.lease import Lease
from pipeline.artifacts.manifest import DeterminismClass, License, Recipe, inputs_of, numbered, role_of
from pipeline.artifacts.store import Draft, Request, Store, union_of_licenses
from pipeline.artifacts.summary import differences, next_commands, summarize
from pipeline.errors import ConfigError, DataError, MissingError, StoppedError
from pipeline.parallel import Crew, Workers, crew
from pipeline.process import (
    as_known,
    guarded,
    installation,
    is_main_process,
    prepare_process,
    provenance,
    say,
    version_of,
)
from pipeline.program import default_store
from pipeline.recipe import RecipeFile, Step, load_recipe
from pipeline.settings import FilledIn, build, check_keys, field_names
from pipeline.work import DoneElsewhereError, Work, open_work

C = TypeVar("C")
X = TypeVar("X")

WORK = "work"
"""the folder, in a run's, of finished parts"""

UNICODE = "unicode"
"""the name, in a toolchain, of the version of Unicode that this Python knows"""


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
    _hide_what_is_filled_in(stage.config)
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
        references={name: ref for role in stage.roles for name, ref in _given(role, getattr(parsed, role)).items()},
        store=Store(parsed.store.expanduser()),
        recipe=recipe,
        step=step,
        plan=parsed.plan,
        json=parsed.json,
        debug=parsed.debug,
    )


def _given(role: str, references: str | tuple[str, ...] | None) -> dict[str, str]:
    """Name what was given for a role on the command line: one reference, several or none."""
    return numbered(role, [references] if isinstance(references, str) else references or ())


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
        if role.many:
            return option(name, tuple[str, ...], (), *markers, help=f"{about}; one or several", metavar="REF [REF …]")
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


def _hide_what_is_filled_in(config: type[Any]) -> None:
    """Keep the parser from settings that are no flags; it alone needs tyro, and worker processes parse nothing."""
    from tyro.conf import Suppress

    for name, hint in get_type_hints(config, include_extras=True).items():
        if FilledIn in getattr(hint, "__metadata__", ()):
            config.__annotations__[name] = Annotated[hint, Suppress]


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
    for name in step.inputs:
        if (role := role_of(name)) not in stage.roles:
            raise ConfigError(f"{where} has no input {role!r}; {stage.module} takes {', '.join(stage.roles)}.")
        if name != role and not stage.roles[role].many:
            raise ConfigError(f"{where} gives several steps for {role!r}; {stage.module} takes one.")
    return (
        build(stage.config, {key: value for key, value in step.settings.items() if key in wanted}, where),
        build(stage.execution, {key: value for key, value in step.settings.items() if key in how}, where),
    )


# --- inputs --------------------------------------------------------------------------------------------------


def _find_inputs(stage: Stage[C, X], command: _Command[C, X], *, must_exist: bool) -> dict[str, Artifact]:
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


def _from_recipe(command: _Command[Any, Any]) -> dict[str, str]:
    """Return the inputs that the recipe's step asks for, and from which step, but for roles that were given by hand."""
    given = set(map(role_of, command.references))
    sources = command.step.inputs if command.step else {}
    return {name: source for name, source in sources.items() if role_of(name) not in given}


def missing_inputs(stage: Stage[C, X], command: _Command[C, X], inputs: Mapping[str, Artifact]) -> list[str]:
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


def _ask_for(command: _Command[Any, Any], source: str) -> str | None:
    """Ask the step `source` of the recipe for its artifact; None when it is not up to date."""
    assert command.recipe is not None
    step = command.recipe.steps[source]
    arguments = ["--recipe", str(command.recipe.path), "--step", source, "--store", str(command.store.root)]
    plan = ask(step.module, arguments)
    return plan.reference if plan.state == "up to date" else None


def _how_to_get(stage: Stage[C, X], name: str, command: _Command[C, X]) -> str:
    role = role_of(name)
    what = f"{stage.module} needs --{role}, {stage.roles[role].help} ({' or '.join(stage.roles[role].kinds)})."
    if command.recipe is None or command.step is None or name not in command.step.inputs:
        return f"{what} Name it as kind:id, or give --recipe and it is found."
    source = command.recipe.steps[command.step.inputs[name]]
    build_it = f"python -m {source.module} --recipe {command.recipe.reference} --step {source.name}"
    return f"{what} It is not there yet. Run `{build_it}`."


# --- planning ------------------------------------------------------------------------------------------------


def _request(stage: Stage[C, X], config: C, inputs: dict[str, Artifact]) -> Request:
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


def _plan(stage: Stage[C, X], command: _Command[C, X]) -> Plan:
    step = command.step.name if command.step else None
    common: dict[str, Any] = {"step": step, "stage": stage.module, "kind": stage.kind, "launchable": stage.launchable}
    inputs = _find_inputs(stage, command, must_exist=False)
    if missing := missing_inputs(stage, command, inputs):
        asked = _from_recipe(command)
        return Plan(**common, state="pending", why=[asked.get(name, name) for name in missing])
    request = _request(stage, stage.resolve(command.config, command.store), inputs)
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
    with _awake(command.execution, stage.foresee(command.config, command.store)) as hands:
        config = stage.resolve(command.config, command.store)
        request = _request(stage, config, inputs)
        artifact = command.store.get(request.kind, request.id)
        if artifact is not None:
            artifact.verify()
            say(f"{artifact.short} is up to date")
            return artifact
        return execute(stage, command.store, request, config, command.execution, inputs, hands)


@contextmanager
def _awake(execution: object, tasks: int) -> Iterator[Crew | None]:
    """Let worker processes start, if there are tasks for them, while it is found out what is to be done."""
    if tasks < 2 or not isinstance(execution, Workers):
        yield None
        return
    with crew(execution) as hands:
        hands.wake(tasks)
        yield hands


def execute(
    stage: Stage[C, X],
    store: Store,
    request: Request,
    config: C,
    execution: X,
    inputs: dict[str, Artifact],
    hands: Crew | None = None,
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
        hands=hands,
    )
    if not stage.launchable:
        return _run_parts(job)
    if not is_main_process():
        return stage.run(job)
    lease = Lease.acquire(job.run_folder)
    try:
        request.leave_in(job.run_folder)
        artifact = store.get(request.kind, request.id)  # whoever had the lease before may have published
        if artifact is None:
            with _status(job.run_folder):
                artifact = stage.run(dataclasses.replace(job, lease=lease))
        lease.check()
        remove_folder(job.run_folder)  # published: nobody will resume it
    finally:
        lease.release()
    return artifact


def _run_parts(job: Job[C, X]) -> Artifact | None:
    """Run a stage of parts; if somebody else publishes it meanwhile, theirs is what we would have made."""
    Thread(target=installation, daemon=True).start()
    try:
        artifact = job.stage.run(job)
    except DoneElsewhereError:
        say(f"the parts of this task are done; task 0 publishes {shorten(job.request.reference)}")
        return job.store.get(job.request.kind, job.request.id)
    except OSError:
        if (artifact := job.store.get(job.request.kind, job.request.id)) is None:
            raise
    remove_folder(job.run_folder)
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
