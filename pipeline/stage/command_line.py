"""Machinery: the command line of a stage, made from its settings and those of a recipe's step."""

import dataclasses
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, get_type_hints

from pipeline.artifacts.manifest import numbered, role_of
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError
from pipeline.runtime.program import default_store
from pipeline.runtime.settings import FilledIn, build, check_keys, field_names
from pipeline.stage.definition import C, Role, Stage, X
from pipeline.stage.recipe import RecipeFile, Step, load_recipe


@dataclass(frozen=True, kw_only=True)
class Command(Generic[C, X]):
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


# --- the command line ----------------------------------------------------------------------------------------


def parse(stage: Stage[C, X], arguments: list[str]) -> Command[C, X]:
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
    return Command(
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
