"""Machinery: recipes: one TOML file is one run, one table per step.

Of a step this module reads the name, the stage and the inputs; everything else is the stage's own business.
"""

import graphlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.manifest import numbered, role_of
from pipeline.errors import ConfigError, MissingError
from pipeline.runtime.hashing import JSON, Page
from pipeline.runtime.settings import nearest
from pipeline.stage.definition import stage_modules

FOLDER = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One table of a recipe: which stage runs, on which steps' artifacts, with which settings."""

    name: str
    module: str
    inputs: dict[str, str]
    """the step that each input comes from; further ones of one role are ROLE.2, ROLE.3, …"""
    settings: Page


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A run on one screen; `steps` are in an order in which they can run."""

    name: str
    path: Path
    steps: dict[str, Step]

    @property
    def reference(self) -> str:
        """What a person gives --recipe: a shipped recipe by its name, any other by its path."""
        return self.name if self.path.parent == FOLDER else str(self.path)

    def needed_from(self, name: str) -> set[str]:
        """Return the steps that the step `name`, or one after it, is made from."""
        names = list(self.steps)
        later = names[names.index(name) :]
        return {source for step in later for source in self.ancestors(step)}

    def ancestors(self, name: str) -> set[str]:
        """Return the steps that a step is made from, however far back."""
        direct = set(self.steps[name].inputs.values())
        return direct.union(*(self.ancestors(step) for step in direct))

    def step_of(self, module: str, name: str | None) -> Step:
        """Return the step called `name`, or the only one that runs the stage `module`."""
        if name is not None:
            if name not in self.steps:
                raise ConfigError(f"{self.path} has no step {name!r}.{nearest(name, list(self.steps))}")
            return self.steps[name]
        steps = [step for step in self.steps.values() if step.module == module]
        if len(steps) != 1:
            names = ", ".join(step.name for step in steps) or "none"
            raise ConfigError(f"{self.path} must have one step that runs {module}, or say which with --step: {names}.")
        return steps[0]


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str) -> RecipeFile:
    """Read a shipped recipe by name, or one's own by path.

    Raises MissingError when there is none and ConfigError when it is not a recipe.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.exists():
        raise MissingError(f"There is no recipe {name!r}.{nearest(name, recipe_names())} A path must end in .toml.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    steps = {key: _read_step(path, key, table) for key, table in tables.items()}
    return RecipeFile(name=path.stem, path=path, steps=_in_order(path, steps))


def _read_step(path: Path, name: str, table: JSON) -> Step:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name!r} must be a table, [{name}]: a recipe holds one table per step.")
    settings = dict(table)
    inputs = _read_inputs(path, name, settings.pop("inputs", {}))
    module = _find_module(path, name, settings.pop("stage", name))
    return Step(name=name, module=module, inputs=inputs, settings=settings)


def _read_inputs(path: Path, name: str, table: JSON) -> dict[str, str]:
    """Read `{ corpus = "step", shards = ["step", "step"] }`."""
    lists = {role: [it] if isinstance(it, str) else it for role, it in table.items()} if isinstance(table, dict) else {}
    whole = all(isinstance(it, list) and it and all(isinstance(step, str) for step in it) for it in lists.values())
    if not isinstance(table, dict) or not whole or any("." in role for role in lists):
        raise ConfigError(f"{path}: [{name}] inputs must be a table of step names or lists of them, got {table!r}.")
    return {key: step for role, steps in lists.items() for key, step in numbered(role, steps).items()}


def _find_module(path: Path, name: str, stage: str) -> str:
    known = {key: module for module in stage_modules() for key in (module, module.rpartition(".")[2])}
    if stage not in known:
        short = [key for key in known if "." not in key]
        raise ConfigError(
            f"{path}: [{name}] asks for the stage {stage!r}, which is none of ours.{nearest(stage, short)}"
        )
    return known[stage]


def _in_order(path: Path, steps: dict[str, Step]) -> dict[str, Step]:
    for step in steps.values():
        for key, source in step.inputs.items():
            if source not in steps:
                hint = nearest(source, list(steps))
                role = role_of(key)
                raise ConfigError(f"{path}: [{step.name}] takes its {role} from {source!r}, which is no step.{hint}")
    graph = {name: set(step.inputs.values()) for name, step in steps.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise ConfigError(f"{path}: the steps {' -> '.join(error.args[1])} wait for each other.") from error
    return _stable_order(steps)


def _stable_order(steps: dict[str, Step]) -> dict[str, Step]:
    """Keep the order of the file wherever the inputs allow it."""
    ordered: dict[str, Step] = {}
    while len(ordered) < len(steps):
        for name, step in steps.items():
            if name not in ordered and all(source in ordered for source in step.inputs.values()):
                ordered[name] = step
    return ordered
