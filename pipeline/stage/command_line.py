"""Machinery: the command line of a stage, made from its settings and those of a recipe's step."""

import dataclasses
import importlib
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, get_type_hints

from pipeline.artifacts.manifest import numbered, role_of
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError
from pipeline.runtime.program import default_store
from pipeline.runtime.settings import build, check_keys, field_names, is_flat
from pipeline.stage.definition import C, Role, Stage, X, stage_of
from pipeline.stage.recipe import RecipeFile, Step, load_recipe

RUN_FLAGS = ("recipe", "step", "store", "plan", "json", "debug")
"""the flags of every stage that say what to do with it, and are no settings"""


@dataclass(frozen=True, kw_only=True)
class Command(Generic[C, X]):
    """What a stage is told: by a command line, by a recipe's step, or by both."""

    stage: Stage[C, X]
    options: Any
    """a `stage.asked`"""
    execution: X
    references: dict[str, str] = field(default_factory=dict)
    """what was given for roles by hand"""
    store: Store
    recipe: RecipeFile | None = None
    step: Step | None = None
    plan: bool = False
    json: bool = False


def parse(stage: Stage[C, X], arguments: Sequence[str]) -> Command[C, X]:
    """Read a stage's command line, on top of the recipe's step that it may name."""
    recipe, step = _recipe_of(stage, arguments)
    return _parse(stage, recipe, step, arguments)


def command_of(recipe: RecipeFile, step: Step, store: Store, settings: Sequence[str] = ()) -> Command[Any, Any]:
    """Return what a step of a recipe is told, with further `settings` as flags."""
    stage = stage_of(step.module)
    if settings:
        return replace(_parse(stage, recipe, step, settings), store=store)
    options, execution = _settings(stage, recipe, step)
    return Command(stage=stage, options=options, execution=execution, store=store, recipe=recipe, step=step)


def _parse(stage: Stage[C, X], recipe: RecipeFile | None, step: Step | None, arguments: Sequence[str]) -> Command[C, X]:
    import tyro

    options, execution = _settings(stage, recipe, step)
    _mark_for_the_parser(stage.asked)
    fields = _command_fields(stage, options, execution)
    shape = dataclasses.make_dataclass("Command", fields, kw_only=True)
    about = importlib.import_module(stage.module).__doc__
    parsed: Any = tyro.cli(shape, args=list(arguments), prog=f"python -m {stage.module}", description=about)
    return Command(
        stage=stage,
        options=parsed.options,
        execution=parsed.execution,
        references={name: ref for role in stage.roles for name, ref in _given(role, getattr(parsed, role)).items()},
        store=Store(parsed.store.expanduser()),
        recipe=recipe,
        step=step,
        plan=parsed.plan,
        json=parsed.json,
    )


def _given(role: str, references: str | tuple[str, ...] | None) -> dict[str, str]:
    """Name what was given for a role on the command line: one reference, several or none."""
    return numbered(role, [references] if isinstance(references, str) else references or ())


def _command_fields(stage: Stage[C, X], options: Any, execution: X) -> list[Any]:
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
        option("options", stage.asked, options, name=""),
        option("execution", stage.execution, execution, name=""),
        option("store", Path, default_store(), help="the folder of artifacts; CAIRN_STORE sets it too"),
        switch("plan", "say what would be done, and do nothing"),
        switch("json", "print the result as JSON"),
        switch("debug", "show a traceback when something fails"),
    ]


def _mark_for_the_parser(options: type[Any]) -> None:
    """Tell the parser which settings stand among those of their owner.

    It alone needs tyro, which takes a while to import: worker processes import stages and parse nothing.
    """
    from tyro.conf import arg

    for name, hint in get_type_hints(options, include_extras=True).items():
        if is_flat(hint) and len(hint.__metadata__) == 1:  # it is not marked yet
            options.__annotations__[name] = Annotated[hint, arg(name="")]


def _recipe_of(stage: Stage[C, X], arguments: Sequence[str]) -> tuple[RecipeFile | None, Step | None]:
    """Read --recipe and --step alone: what they say are the defaults of all other flags."""
    flags = ArgumentParser(prog=f"python -m {stage.module}", add_help=False, allow_abbrev=False)
    flags.add_argument("--recipe")
    flags.add_argument("--step")
    chosen, _ = flags.parse_known_args(arguments)
    if chosen.recipe is None:
        return None, None
    recipe = load_recipe(chosen.recipe)
    return recipe, recipe.step_of(stage.module, chosen.step)


def _settings(stage: Stage[C, X], recipe: RecipeFile | None, step: Step | None) -> tuple[Any, X]:
    """Split a step's table into the stage's two dataclasses; unknown keys are errors."""
    if recipe is None or step is None:
        return stage.asked(), stage.execution()
    where = f"{recipe.path}: [{step.name}]"
    wanted, how = field_names(stage.asked), field_names(stage.execution)
    check_keys(step.settings, wanted + how, where)
    for name in step.inputs:
        if (role := role_of(name)) not in stage.roles:
            raise ConfigError(f"{where} has no input {role!r}; {stage.module} takes {', '.join(stage.roles)}.")
        if name != role and not stage.roles[role].many:
            raise ConfigError(f"{where} gives several steps for {role!r}; {stage.module} takes one.")
    return (
        build(stage.asked, {key: value for key, value in step.settings.items() if key in wanted}, where),
        build(stage.execution, {key: value for key, value in step.settings.items() if key in how}, where),
    )
