"""Machinery: the cleaning steps by name, read from a recipe, and run in order over the parts of a corpus.

A step is written `name` or `name:setting=value,setting=value`; a list of values is separated by `|`.
"""

import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pipeline.artifacts.store import Store
from pipeline.cleaning.step import (
    CorpusStep,
    Documents,
    DocumentStep,
    Outcome,
    Step,
    add_tallies,
    read_documents,
    settle,
    write_part,
)
from pipeline.errors import ConfigError
from pipeline.executors.resumable import Work, read_result
from pipeline.runtime.hashing import JSON
from pipeline.runtime.settings import check_keys, nearest
from pipeline.tables.rejects import REJECTS, Rejects

_ROOMS = {
    "characters": (
        "line_ends",
        "unicode",
        "control_characters",
        "mojibake",
        "trim",
        "length",
        "unwrap",
    ),
    "quality": ("gopher_quality", "c4_quality", "fineweb_quality"),
    "repetition": ("gopher_repetition",),
    "language": ("language",),
    "pii": ("pii",),
    "decontamination": ("decontaminate",),
    "exact_steps": ("exact_documents", "exact_paragraphs", "boilerplate_lines"),
    "near_duplicates": ("near_duplicates",),
}
"""the modules of this package, and the steps in each: a module is imported when one of its steps is asked for"""
STEPS = tuple(name for names in _ROOMS.values() for name in names)
"""the names of all cleaning steps"""

_CHARACTERS = ("mojibake", "line_ends:unicode=true", "unicode", "control_characters")
_RULES = ("language", "gopher_repetition", "gopher_quality")
_REPEATS = ("boilerplate_lines", "exact_documents", "near_duplicates", "exact_paragraphs")
PRESETS: dict[str, tuple[str, ...]] = {
    "standard": (*_CHARACTERS, "trim", "length"),
    "web": (*_CHARACTERS, "trim", *_RULES, "c4_quality:end_marks=false", "fineweb_quality", *_REPEATS, "pii", "length"),
    "books": (
        *_CHARACTERS,
        "unwrap",
        "trim",
        *_RULES,
        "c4_quality:end_marks=false,min_words_per_line=1,curly_brackets=false",
        "fineweb_quality",
        *_REPEATS,
        "pii",
        "length",
    ),
}
"""names that stand for several steps: what harms no text; English web pages; English books wrapped at 70 columns"""


@cache
def step_named(name: str) -> type[Step]:
    """Return a cleaning step; ConfigError when there is none of that name."""
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None:
        raise ConfigError(f"there is no cleaning step {name!r}.{nearest(name, [*STEPS, *PRESETS])}")
    found: dict[str, type[Step]] = {
        step.name: step for step in importlib.import_module(f"pipeline.cleaning.{room}").STEPS
    }
    return found[name]


def parse_steps(entries: Sequence[str]) -> tuple[Step, ...]:
    """Read steps as they are written; ConfigError names what is wrong with which."""
    written = [name for entry in entries for name in PRESETS.get(entry, (entry,))]
    return tuple(map(parse_step, written))


def parse_step(entry: str) -> Step:
    """Read one step: `length:min_characters=100` is Length(min_characters=100)."""
    name, _, written = entry.partition(":")
    kind = step_named(name)
    pairs = dict(pair.partition("=")[::2] for pair in written.split(",") if pair)
    check_keys(pairs, [field.name for field in dataclasses.fields(kind)], f"the cleaning step {name}")
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{name}:{key}") for key, value in pairs.items()})


def _value(hint: Any, text: str, where: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], item, where) for item in text.split("|") if item)
    if hint is bool and text in ("true", "false"):
        return text == "true"
    try:
        return hint(text) if hint in (int, float, str) else _choice(hint, text)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}={text!r} must be {_described(hint)}.") from None


def _choice(hint: Any, text: str) -> str:
    if text not in get_args(hint):
        raise ValueError
    return text


def _described(hint: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(
        hint, f"one of {', '.join(map(str, get_args(hint)))}"
    )


def write_step(step: Step) -> str:
    """Write a step with all its settings, in one way only: it goes into the id."""
    settings = [f"{field.name}={_written(getattr(step, field.name))}" for field in dataclasses.fields(step)]
    return f"{step.name}:{','.join(settings)}" if settings else step.name


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "|".join(map(_written, value))
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    if set(text) & set(",|"):
        raise ConfigError(f"a setting of a cleaning step cannot hold ',' or '|': {text!r}.")
    return text


def resolve_steps(entries: Sequence[str], store: Store) -> tuple[str, ...]:
    """Return the steps with every setting written out, ending with the removal of exact duplicates.

    A step that changes text can make two texts equal, so that removal is added unless it follows the last such step.
    """
    steps = [step.resolve(store) for step in parse_steps(entries)]
    names = [step.name for step in steps]
    after = max((i for i, step in enumerate(steps) if step.changes_text), default=-1)
    if "exact_documents" not in names[after + 1 :]:
        steps.append(parse_step("exact_documents"))
    return tuple(map(write_step, steps))


# --- running -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A task: one part of documents goes through consecutive document steps."""

    part: Path
    steps: tuple[str, ...]


def leading(entries: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part the steps into those that a document can take while it is read, and the rest."""
    steps = parse_steps(entries)
    count = next((i for i, step in enumerate(steps) if isinstance(step, CorpusStep)), len(steps))
    return tuple(map(write_step, steps[:count])), tuple(map(write_step, steps[count:]))


def clean(work: Work, parts: list[Path], entries: Sequence[str], *, read: str) -> tuple[list[Path], list[list[Path]]]:
    """Take parts through the steps, in order; return what is left, and each phase's folders with rejects and tallies.

    `read` is the phase that made `parts`.  A phase's files are freed when the next one is done with them, its rejects
    excepted.
    """
    trail: list[list[Path]] = []
    before = read
    for number, group in enumerate(_grouped(parse_steps(entries)), 1):
        name = f"{number:02d}-{group[0].name}"
        if isinstance(group[0], CorpusStep):
            parts = group[0].run(work, name, parts)
        else:
            tasks = [_Pass(part=part, steps=tuple(map(write_step, group))) for part in parts]
            work.map(name, _clean_part, tasks, label="cleaning")
            parts = work.outputs(name)
        trail.append(parts)
        work.drop(before, keep=[REJECTS])
        before = parts[0].parent.name if parts else before
    return parts, trail


def _grouped(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield runs of document steps, which one pass can do, and corpus steps, each by itself."""
    group: list[Step] = []
    for step in steps:
        if isinstance(step, CorpusStep):
            if group:
                yield group
            yield [step]
            group = []
        else:
            group.append(step)
    if group:
        yield group


def _clean_part(task: _Pass, folder: Path) -> dict[str, JSON]:
    rejects = Rejects()
    documents, tallies = take_steps(read_documents(task.part), task.steps, rejects)
    write_part(folder, documents, rejects)
    return {"tallies": tallies}


def take_steps(
    documents: Documents, entries: Sequence[str], rejects: Rejects
) -> tuple[Documents, list[dict[str, JSON]]]:
    """Take documents through document steps, one step at a time; return what is left, and each step's tally."""
    tallies = []
    for entry in entries:
        step = entry.partition(":")[0]
        documents, tally = settle(step, documents, map(opened(entry), documents.texts), rejects)
        tallies.append(tally)
    return documents, tallies


@cache
def opened(entry: str) -> Callable[[str], Outcome]:
    """Return the function of a document step; a process loads what it needs once."""
    step = parse_step(entry)
    assert isinstance(step, DocumentStep)
    return step.open()


def settings_of(entry: str) -> dict[str, JSON]:
    """Return the settings of a step as a table."""
    return dataclasses.asdict(parse_step(entry))


def packages_of(entries: Sequence[str]) -> tuple[str, ...]:
    """Return the distributions whose versions decide what the steps make of a text."""
    return tuple(sorted({package for step in parse_steps(entries) for package in step.packages}))


def tallies_in(folder: Path) -> list[dict[str, Any]]:
    """Return the tallies of one part, a step each."""
    tallies: list[dict[str, Any]] = read_result(folder)["tallies"]
    return tallies


def tallies_of(trail: Sequence[Sequence[Path]]) -> list[dict[str, Any]]:
    """Return the accounting table: one entry per step, in order, summed over parts."""
    table: list[dict[str, Any]] = []
    for folders in trail:
        table.extend(add_tallies(of_step) for of_step in zip(*map(tallies_in, folders), strict=True))
    return table
