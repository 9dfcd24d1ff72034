"""Program: run a recipe: ask every step whether it is up to date, and run what is missing.

    python -m pipeline.run laptop
    python -m pipeline.run laptop --plan
    python -m pipeline.run laptop --tokenizer.vocab-size 4096
    python -m pipeline.run laptop --corpus.source ~/my_texts

Any field of any step can be set as --STEP.FIELD VALUE.
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
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pipeline.artifacts.identity import shorten
from pipeline.artifacts.lease import live_holder
from pipeline.artifacts.manifest import role_of
from pipeline.artifacts.store import Store
from pipeline.artifacts.summary import next_commands
from pipeline.errors import CairnError, StoppedError, UsageError
from pipeline.runtime.console import say
from pipeline.runtime.process import die_with_parent, prepare_process
from pipeline.runtime.program import default_store, guarded
from pipeline.runtime.settings import nearest
from pipeline.stage.definition import stage_of
from pipeline.stage.planning import Plan, ask, check, step_name
from pipeline.stage.recipe import RecipeFile, Step, load_recipe, recipe_names


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Which recipe to run, and how."""

    recipe: Positional[str]
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

    def plans(self) -> Iterator[Plan]:
        """Ask the steps in order; a step whose input is not there yet is pending on it."""
        references: dict[str, str] = {}
        for step in self.recipe.steps.values():
            plan = self.ask(step, references)
            if plan.state == "up to date" and plan.reference:
                references[step.name] = plan.reference
            yield plan

    def ask(self, step: Step, references: dict[str, str]) -> Plan:
        """Ask one step what it would do on these inputs."""
        missing = sorted({source for source in step.inputs.values() if source not in references})
        if missing:
            return replace(check(step.module, self.arguments(step, {})), why=missing)
        return ask(step.module, self.arguments(step, references))

    def arguments(self, step: Step, references: dict[str, str]) -> list[str]:
        """Return the flags of the very command a person would type for this step."""
        known: dict[str, list[str]] = {}
        for key, source in step.inputs.items():
            if source in references:
                known.setdefault(role_of(key), []).append(references[source])
        inputs = [part for role, given in known.items() for part in (f"--{role}", *given)]
        named = _role_flags(step, inputs)
        return [
            *named,
            "--recipe",
            self.recipe.reference,
            "--step",
            step.name,
            "--store",
            str(self.store.root),
            *self.overrides.get(step.name, []),
        ]


def _role_flags(step: Step, inputs: list[str]) -> list[str]:
    """Give the role that the stage takes without a flag its place."""
    positional = stage_of(step.module).positional
    flag = f"--{positional}"
    if positional is None or flag not in inputs:
        return inputs
    at = inputs.index(flag)
    return [inputs[at + 1], *inputs[:at], *inputs[at + 2 :]]


def run(run_: Run) -> int:
    """Bring every step up to date, in order, and close with a table."""
    started = time.monotonic()
    references: dict[str, str] = {}
    table: list[Done] = []
    for step in run_.recipe.steps.values():
        check(step.module, run_.arguments(step, {}))  # a mistake in the last step is told before the first one runs
    begun = run_.command.from_ is None
    needed = run_.recipe.needed_from(run_.command.from_) if run_.command.from_ else set()
    for number, step in enumerate(run_.recipe.steps.values(), 1):
        begun = begun or step.name == run_.command.from_
        before = time.monotonic()
        plan = run_.ask(step, references)
        if plan.state != "up to date" and not begun:
            if step.name in needed:
                raise UsageError(f"--from {run_.command.from_}: it needs {step.name}, which is not up to date.")
            say(f"[{number}/{len(run_.recipe.steps)}] {step.name}: passed over")
            continue
        say(f"[{number}/{len(run_.recipe.steps)}] {step.name}: {plan.state}{_because(plan)}")
        if plan.state != "up to date":
            _run_step(run_, step, plan, run_.arguments(step, references))
            plan = run_.ask(step, references)
        if plan.state != "up to date" or plan.reference is None:
            raise CairnError(f"the step {step.name} ended well and left nothing behind.")
        references[step.name] = plan.reference
        _remember(run_, step, plan.reference)
        table.append(
            Done(step=step.name, reference=plan.reference, summary=plan.summary, seconds=time.monotonic() - before)
        )
    _close(run_, table, time.monotonic() - started)
    return 0


def _because(plan: Plan) -> str:
    what = "on " if plan.state == "pending" else ""
    return f" {what}{', '.join(plan.why)}" if what else f" ({'; '.join(plan.why)})" if plan.why else ""


def _remember(run_: Run, step: Step, reference: str) -> None:
    """Name what the step made RECIPE.STEP, for people and for saying later why it is stale."""
    name = step_name(run_.recipe.name, step.name)
    if run_.store.refs().get(name) != reference:
        run_.store.tag(name, run_.store.find(reference))


def _run_step(run_: Run, step: Step, plan: Plan, arguments: list[str]) -> None:
    """Run a step as the command a person would type, and pass on how it ended."""
    launcher = shlex.split(run_.command.launch) if plan.launchable else []
    program = [*launcher, "-m", step.module] if launcher else [sys.executable, "-m", step.module]
    shown = [*(launcher or ["python"]), "-m", step.module, *arguments]
    say("$ " + " ".join(shlex.quote(shorten(a) if ":" in a and len(a) > 64 else a) for a in shown))
    debug = ["--debug"] if run_.command.debug else []
    status = run_.store.run_folder(plan.id or "") / "status.json"
    status.unlink(missing_ok=True)  # of an earlier attempt
    code = _call([*program, *arguments, *debug])
    if code == 0:
        return
    raise _StepFailed(step.name, (_status_of(status) if launcher else None) or code)


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
        if artifact.kind == "model":
            for line in next_commands(artifact)[:1]:
                yield line.replace(artifact.short, step_name(run_.recipe.name, row.step))
    yield f"python -m pipeline.artifacts lineage {step_name(run_.recipe.name, table[-1].step)}"


def _own_text_note(run_: Run) -> Iterator[str]:
    """Say which steps still read the shipped cards when a person gave a text of their own."""
    own = {step for step, parts in run_.overrides.items() if any(p.partition("=")[0] == "--source" for p in parts)}
    if not own:
        return
    for step in run_.recipe.steps.values():
        cards = step.settings.get("cards")
        if cards and step.name not in own:
            yield f"note: {step.name} still comes from the shipped data cards {', '.join(cards)}"


def plan(run_: Run) -> int:
    """Say for every step what would be done."""
    plans = list(run_.plans())
    if run_.command.json:
        print(json.dumps([{**asdict(p), "reference": p.reference} for p in plans], indent=2))
        return 0
    width = max(len(p.step or "") for p in plans)
    for p in plans:
        print(f"{p.step:<{width}}  {p.state}{_because(p)}")
    return 0


def _place_of_recipe(arguments: list[str]) -> int | None:
    """Find the recipe before the real parse, which needs its steps: the first word that is no flag's value."""
    before = ""
    for place, argument in enumerate(arguments):
        takes_value = before in ("--from", "--launch", "--store") or (before.startswith("--") and "." in before)
        if not argument.startswith("-") and not (takes_value and "=" not in before):
            return place
        before = argument
    return None


def _check_step(recipe: RecipeFile, argument: str, step: str) -> None:
    if step not in recipe.steps:
        raise UsageError(f"{argument}: {recipe.name} has no step {step!r}.{nearest(step, list(recipe.steps))}")


def _split_overrides(recipe: RecipeFile, arguments: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take --STEP.FIELD and its values out of the command line, by step.

    Raises UsageError for a step that the recipe does not have.
    """
    own: list[str] = []
    overrides: dict[str, list[str]] = {}
    target = own
    for argument in arguments:
        name, dot, rest = argument.removeprefix("--").partition(".")
        if argument.startswith("--") and dot and "=" not in name:
            negative = name.startswith("no-") and name not in recipe.steps
            step = name.removeprefix("no-") if negative else name
            _check_step(recipe, argument, step)
            target = overrides.setdefault(step, [])
            target.append(f"--{'no-' if negative else ''}{rest}")
        elif argument.startswith("--"):
            target = own
            own.append(argument)
        else:
            target.append(argument)
    return own, overrides


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    prepare_process()
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> int:
        place = _place_of_recipe(arguments)
        own, overrides = arguments, dict[str, list[str]]()
        recipe = None
        if place is not None and "--help" not in arguments and "-h" not in arguments:
            recipe = load_recipe(arguments[place])
            own, overrides = _split_overrides(recipe, [*arguments[:place], *arguments[place + 1 :]])
            own = [arguments[place], *own]
        description = f"{__doc__}\nRecipes: {', '.join(recipe_names())}."
        command = tyro.cli(RunCommand, args=own, prog="python -m pipeline.run", description=description)
        recipe = recipe or load_recipe(command.recipe)
        if command.from_ is not None:
            _check_step(recipe, f"--from {command.from_}", command.from_)
        command = replace(command, store=command.store.expanduser())
        it = Run(command, recipe, overrides, Store(command.store))
        return plan(it) if command.plan else run(it)

    return guarded(body, debug="--debug" in arguments)


if __name__ == "__main__":
    raise SystemExit(main())
