"""Machinery: the cleaning steps by name, read from a recipe, and run in order over the parts of a corpus.

A step is written `name` or `name:setting=value,setting=value`; a list of values is separated by `|`.  A new one is a
class in the `STEPS` of a module of this package, and nothing else.
"""

import dataclasses
import importlib
import itertools
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from pipeline.artifacts.store import Store
from pipeline.cleaning.step import (
    CleaningStep,
    CorpusStep,
    DocumentStep,
    Outcome,
    add_counts,
    apply_outcomes,
    write_part,
)
from pipeline.errors import ConfigError
from pipeline.executors.resumable import Output, Work
from pipeline.runtime.hashing import JSON
from pipeline.runtime.settings import check_keys, nearest, set_fields, values_before
from pipeline.tables.documents import Documents, read_documents
from pipeline.tables.rejects import REJECTS, Rejects

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
def steps_by_name() -> dict[str, type[CleaningStep]]:
    """Return all cleaning steps: those in the STEPS of this package's modules."""
    room = __name__.rpartition(".")[0]
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"{room}.{name}") for name in names]
    return {step.name: step for module in modules for step in getattr(module, "STEPS", ())}


def parse_steps(entries: Sequence[str]) -> tuple[CleaningStep, ...]:
    """Read steps as they are written; ConfigError names what is wrong with which."""
    written = [name for entry in entries for name in PRESETS.get(entry, (entry,))]
    return tuple(map(parse_step, written))


def read_steps(written: Sequence[str]) -> tuple[CleaningStep, ...]:
    """Read steps that `resolve_steps` wrote: a setting that is missing there has the value from before it was added."""
    return tuple(parse_step(entry, values_before(steps_by_name()[entry.partition(":")[0]])) for entry in written)


def parse_step(entry: str, defaults: Mapping[str, Any] = {}) -> CleaningStep:
    """Read one step: `length:min_characters=100` is Length(min_characters=100); `defaults` go before the step's own."""
    name, _, written = entry.partition(":")
    steps = steps_by_name()
    if name not in steps:
        raise ConfigError(f"there is no cleaning step {name!r}.{nearest(name, [*steps, *PRESETS])}")
    kind = steps[name]
    pairs = dict(pair.partition("=")[::2] for pair in written.split(",") if pair)
    check_keys(pairs, [field.name for field in dataclasses.fields(kind)], f"the cleaning step {name}")
    hints = get_type_hints(kind)
    return kind(**{**defaults, **{key: _value(hints[key], value, f"{name}:{key}") for key, value in pairs.items()}})


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


def write_step(step: CleaningStep) -> str:
    """Write a step with all its settings, in one way only: it goes into the id."""
    settings = [f"{field.name}={_written(getattr(step, field.name))}" for field in set_fields(step)]
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
    """A work item: one part of documents goes through consecutive document steps."""

    part: Path
    steps: tuple[DocumentStep, ...]


def leading(steps: Sequence[CleaningStep]) -> tuple[tuple[DocumentStep, ...], tuple[CleaningStep, ...]]:
    """Cut the steps into those that a document can take while it is read, and the rest."""
    first = tuple(itertools.takewhile(lambda step: isinstance(step, DocumentStep), steps))
    return cast(tuple[DocumentStep, ...], first), tuple(steps[len(first) :])


def clean(work: Work, parts: list[Output], steps: Sequence[CleaningStep]) -> list[list[Output]]:
    """Take parts through the steps, in order; return the outputs of every phase, from `parts` to what is left.

    A phase's files are freed when the next one is done with them, its rejects excepted.
    """
    phase_outputs = [parts]
    for number, group in enumerate(_grouped(steps), 1):
        before = phase_outputs[-1]
        if isinstance(group, CorpusStep):
            phase_outputs.append(group.run(work, f"{number:02d}-{group.name}", before))
        else:
            items = [_Pass(part=part.folder, steps=group) for part in before]
            phase_outputs.append(work.map(f"{number:02d}-{group[0].name}", _clean_part, items, label="cleaning"))
        work.drop(before, keep=[REJECTS])
    return phase_outputs


def _grouped(steps: Sequence[CleaningStep]) -> Iterator[CorpusStep | tuple[DocumentStep, ...]]:
    """Yield corpus steps, and runs of document steps, which one pass can do."""
    for one_at_a_time, group in itertools.groupby(steps, key=lambda step: isinstance(step, DocumentStep)):
        if one_at_a_time:
            yield cast(tuple[DocumentStep, ...], tuple(group))
        else:
            yield from cast(Iterator[CorpusStep], group)


def _clean_part(item: _Pass, folder: Path) -> dict[str, JSON]:
    rejects = Rejects()
    documents, counts = take_steps(read_documents(item.part), item.steps, rejects)
    write_part(folder, documents, rejects)
    return {"counts": counts}


def take_steps(
    documents: Documents, steps: Sequence[DocumentStep], rejects: Rejects
) -> tuple[Documents, list[dict[str, JSON]]]:
    """Take documents through document steps, one step at a time; return what is left, and each step's counts."""
    counts = []
    for step in steps:
        documents, of_step = apply_outcomes(step.name, documents, map(_opened(step), documents.texts), rejects)
        counts.append(of_step)
    return documents, counts


@cache
def _opened(step: DocumentStep) -> Callable[[str], Outcome]:
    """Return the function of a step; a process loads what it needs once."""
    return step.open()


def packages_of(steps: Sequence[CleaningStep]) -> tuple[str, ...]:
    """Return the distributions whose versions decide what the steps make of a text."""
    return tuple(sorted({package for step in steps for package in step.packages}))


def add_up(phase_outputs: Sequence[Sequence[Output]]) -> list[dict[str, Any]]:
    """Return the accounting table: one entry per step, in order, summed over parts."""
    table: list[dict[str, Any]] = []
    for outputs in phase_outputs:
        table.extend(add_counts(of_step) for of_step in zip(*(part.result["counts"] for part in outputs), strict=True))
    return table
