"""Program: run a recipe: ask every step whether it is up to date, and run what is missing.

    python -m pipeline.run laptop
    python -m pipeline.run laptop --plan
    python -m pipeline.run laptop --tokenizer.vocab-size 4096
    python -m pipeline.run laptop --corpus.source ~/my_texts

Any field of any step can be set as --STEP.FIELD VALUE, after the recipe's name.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from pipeline.artifacts.identity import shorten
from pipeline.artifacts.lease import live_holder
from pipeline.artifacts.manifest import inputs_of, role_of
from pipeline.artifacts.store import Store
from pipeline.errors import CairnError, MissingError, StoppedError, UsageError
from pipeline.runtime.console import say
from pipeline.runtime.process import die_with_parent, prepare_process
from pipeline.runtime.program import default_store, guarded
from pipeline.runtime.settings import nearest
from pipeline.stage.command_line import RUN_FLAGS, Command, command_of
from pipeline.stage.definition import Stage, next_commands
from pipeline.stage.planning import Plan, plan_recipe, plan_stage, step_name
from pipeline.stage.recipe import RecipeFile, load_recipe, recipe_names


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Which recipe to run, and how."""

    recipe: Positional[str | None] = None
    """a shipped recipe's name, or a path ending in .toml"""
    plan: bool = False
    """say for every step what would be done, and do nothing"""
    from_: Annotated[str | None, arg(name="from")] = None
    """start at this step; what it and the steps after it need must be up to date"""
    launch: str = ""
    """launcher for the steps that train, such as "accelerate launch --multi_gpu --num_processes 2" """
    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    json: bool = False
    """print the result as JSON"""
    debug: bool = False
    """show a traceback when something fails"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A row of the closing table."""

    step: str
    reference: str
    summary: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """A recipe, the settings given for its steps on the command line, and the store."""

    command: RunCommand
    recipe: RecipeFile
    overrides: dict[str, list[str]]
    store: Store

    @cached_property
    def commands(self) -> dict[str, Command[Any, Any]]:
        """What each step is told; making them all finds a mistake in the last step before the first one runs."""
        steps = self.recipe.steps.items()
        return {name: command_of(self.recipe, step, self.store, self.overrides.get(name, ())) for name, step in steps}

    def arguments(self, step: str, plan_: Plan) -> list[str]:
        """Return the flags of the very command a person would type for this step, with the inputs of its plan."""
        store = ["--store", str(self.store.root)]
        flags = ["--recipe", self.recipe.reference, "--step", step, *store, *self.overrides.get(step, [])]
        inputs = {name: plan_.inputs[name] for name in self.recipe.steps[step].inputs}
        return [*_role_flags(self.commands[step].stage, inputs), *flags]


def _role_flags(stage: Stage[Any, Any], inputs: dict[str, str]) -> list[str]:
    """Write the inputs of a step as flags; the role that the stage takes without a flag comes first, in its place."""
    roles = sorted({role_of(name): None for name in inputs}, key=lambda role: role != stage.positional)
    flags = ([] if role == stage.positional else [f"--{role}"] for role in roles)
    return [part for role, flag in zip(roles, flags, strict=True) for part in (*flag, *inputs_of(role, inputs))]


def run(run_: Run) -> int:
    """Bring every step up to date, in order, and close with a table."""
    started = time.monotonic()
    plans: dict[str, Plan] = {}
    table: list[Done] = []
    begun = run_.command.from_ is None
    needed = run_.recipe.needed_from(run_.command.from_) if run_.command.from_ else set()
    for number, (step, command) in enumerate(run_.commands.items(), 1):
        begun = begun or step == run_.command.from_
        before = time.monotonic()
        plans[step] = found = plan_stage(command, plans)
        if not found.made and not begun:
            if step in needed:
                raise UsageError(f"--from {run_.command.from_}: it needs {step}, which is not up to date.")
            say(f"[{number}/{len(run_.commands)}] {step}: passed over")
            continue
        say(f"[{number}/{len(run_.commands)}] {step}: {found.state}{_because(found)}")
        if not found.made:
            _run_step(run_, step, found)
            plans[step] = found = plan_stage(command, plans)
        if found.made is None:
            raise CairnError(f"the step {step} ended well and left nothing behind.")
        _remember(run_, step, found.made)
        table.append(Done(step=step, reference=found.made, summary=found.summary, seconds=time.monotonic() - before))
    _close(run_, table, time.monotonic() - started)
    return 0


def _because(plan: Plan) -> str:
    what = "on " if plan.state == "pending" else ""
    return f" {what}{', '.join(plan.why)}" if what else f" ({'; '.join(plan.why)})" if plan.why else ""


def _remember(run_: Run, step: str, reference: str) -> None:
    """Name what the step made RECIPE.STEP, for people and for saying later why it is stale."""
    name = step_name(run_.recipe.name, step)
    if run_.store.refs().get(name) != reference:
        run_.store.tag(name, run_.store.find(reference))


def _run_step(run_: Run, step: str, plan_: Plan) -> None:
    """Run a step as the command a person would type, and pass on how it ended."""
    arguments = run_.arguments(step, plan_)
    launcher = shlex.split(run_.command.launch) if plan_.launchable else []
    program = [*(launcher or [sys.executable]), "-m", plan_.stage]
    shown = [*(launcher or ["python"]), "-m", plan_.stage, *arguments]
    say("$ " + " ".join(shlex.quote(shorten(a) if ":" in a and len(a) > 64 else a) for a in shown))
    debug = ["--debug"] if run_.command.debug else []
    status = run_.store.run_folder(plan_.id or "") / "status.json"
    status.unlink(missing_ok=True)  # of an earlier attempt
    code = _call([*program, *arguments, *debug])
    if code == 0:
        return
    raise _StepFailed(step, (_status_of(status) if launcher else None) or code)


class _StepFailed(CairnError):
    """A step ended with an error, which it has explained itself."""

    def __init__(self, step: str, code: int) -> None:
        stopped = code == StoppedError.exit_code
        super().__init__(f"the step {step} {'was stopped' if stopped else f'failed (exit {code})'}.")
        self.exit_code = code


def _call(command: list[str]) -> int:
    """Run a child in a process group of its own and hand signals on to all of it."""
    # Also the launcher of a step ends when this process is killed, whatever program it is.
    prepare = partial(die_with_parent, os.getpid())
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True, preexec_fn=prepare)

    def pass_on(signum: int, frame: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(child.pid, signum)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _status_of(path: Path, *, patience_seconds: float = 60.0) -> int | None:
    """Read what a launched step says of itself; its launcher knows only that it failed, and may end before it does."""
    deadline = time.monotonic() + patience_seconds
    while live_holder(path.parent) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        code = json.loads(path.read_text(encoding="utf-8"))["exit_code"]
    except (OSError, ValueError, KeyError):
        return None
    return int(code) if code else None


def _close(run_: Run, table: list[Done], seconds: float) -> None:
    if run_.command.json:
        print(json.dumps([asdict(row) for row in table], indent=2))
        return
    rows = [(row.step, shorten(row.reference), row.summary, f"{row.seconds:.1f}") for row in table]
    rows = [("step", "artifact", "what is in it", "seconds"), *rows, ("all", "", "", f"{seconds:.1f}")]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}")
    print()
    for line in _next(run_, table):
        print(f"next: {line}")
    for line in _own_text_note(run_):
        print(line)


def _next(run_: Run, table: list[Done]) -> Iterator[str]:
    """Yield what to type next, with the names that the steps' artifacts now have."""
    for row in table:
        artifact = run_.store.find(row.reference)
        if run_.commands[row.step].stage.launchable:
            for line in next_commands(artifact)[:1]:
                yield line.replace(artifact.short, step_name(run_.recipe.name, row.step))
    yield f"python -m pipeline.artifacts lineage {step_name(run_.recipe.name, table[-1].step)}"


def _own_text_note(run_: Run) -> Iterator[str]:
    """Say which steps still read the shipped cards when a person gave a text of their own."""
    asked = {name: command.options for name, command in run_.commands.items()}
    own = {name for name in run_.overrides if getattr(asked[name], "source", None)}
    for name, options in asked.items():
        if own and name not in own and (cards := getattr(options, "cards", ())):
            yield f"note: {name} still comes from the shipped data cards {', '.join(cards)}"


def plan(run_: Run) -> int:
    """Say for every step what would be done."""
    plans = plan_recipe(run_.commands.values()).values()
    if run_.command.json:
        print(json.dumps([{**asdict(p), "reference": p.reference} for p in plans], indent=2))
        return 0
    width = max(len(p.step or "") for p in plans)
    for p in plans:
        print(f"{p.step:<{width}}  {p.state}{_because(p)}")
    return 0


def _check_step(recipe: RecipeFile, argument: str, step: str) -> None:
    if step not in recipe.steps:
        raise UsageError(f"{argument}: {recipe.name} has no step {step!r}.{nearest(step, list(recipe.steps))}")


def _overrides(recipe: RecipeFile, arguments: list[str]) -> dict[str, list[str]]:
    """Sort --STEP.FIELD and its values by step.

    Raises UsageError for what is no such flag, and for a step that the recipe does not have.
    """
    found: dict[str, list[str]] = {}
    step = ""
    for argument in arguments:
        if argument.startswith("--"):
            negative = "no-" if argument.startswith("--no-") and argument[5:].partition(".")[0] in recipe.steps else ""
            step, dot, rest = argument.removeprefix(f"--{negative}").partition(".")
            if not dot or "=" in step:
                raise UsageError(f"{argument} is no flag of pipeline.run; those of a step are --STEP.FIELD.")
            _check_step(recipe, argument, step)
            if rest.partition("=")[0] in RUN_FLAGS:
                raise UsageError(f"{argument} is no setting of {step}: --{rest} is for the whole run.")
            found.setdefault(step, []).append(f"--{negative}{rest}")
        elif not step:
            raise UsageError(f"{argument!r}: one recipe is run at a time.")
        else:
            found[step].append(argument)
    return found


def _run_of(arguments: list[str]) -> Run:
    """Read the command line; the recipe says what else may stand there."""
    import tyro

    description = f"{__doc__}\nRecipes: {', '.join(recipe_names())}."
    about: dict[str, Any] = {"prog": "python -m pipeline.run", "description": description}
    command, others = tyro.cli(RunCommand, args=arguments, return_unknown_args=True, **about)
    if command.recipe is None:
        raise UsageError(f"which recipe? There are {', '.join(recipe_names())}, and paths ending in .toml.")
    try:
        recipe = load_recipe(command.recipe)
    except MissingError as error:
        if others:
            raise MissingError(f"{error} The recipe's name comes before the settings of its steps.") from error
        raise
    overrides = _overrides(recipe, others)
    if command.from_ is not None:
        _check_step(recipe, f"--from {command.from_}", command.from_)
    command = replace(command, store=command.store.expanduser())
    return Run(command, recipe, overrides, Store(command.store))


def main(argv: Sequence[str] | None = None) -> int:
    prepare_process()
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> int:
        asked = _run_of(arguments)
        return plan(asked) if asked.command.plan else run(asked)

    return guarded(body, debug="--debug" in arguments)


if __name__ == "__main__":
    raise SystemExit(main())
