"""Machinery: what a cleaning step is, and the accounting that every step shares."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from pipeline.artifacts.store import Store
from pipeline.executors.resumable import Output, Work
from pipeline.runtime.files import link_or_copy
from pipeline.runtime.hashing import JSON
from pipeline.sources.document import utf8_size
from pipeline.tables.documents import DOCUMENTS, Documents, read_documents, write_documents
from pipeline.tables.rejects import REJECTS, Rejects, write_rejects

_NOTHING: Mapping[str, int] = {}


class Outcome(NamedTuple):
    """What a step makes of a document: its text, or why it is rejected; and what there is to count."""

    text: str
    reason: str = ""
    """why it is rejected, in few words that can be counted; nothing: it is kept"""
    counts: Mapping[str, int] = _NOTHING
    same_as: str = ""
    """for duplicates: SOURCE PLACE of the document that is kept"""


@dataclass(frozen=True, kw_only=True)
class CleaningStep:
    """A cleaning step; its fields are its settings, all of them in the corpus's id."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """distributions whose version decides what comes out; they join the corpus's toolchain"""
    changes_text: ClassVar[bool] = False
    """may two different texts become equal by it?"""

    def resolve(self, store: Store) -> Self:
        """Replace what names something outside (a file) by what it says (its hash)."""
        return self


class DocumentStep(CleaningStep, ABC):
    """A step that looks at one document at a time."""

    @abstractmethod
    def open(self) -> Callable[[str], Outcome]:
        """Return the pure function that cleans a text; what it needs is loaded here, once per part.

        Raises UnavailableError when an extra is missing.
        """


class CorpusStep(CleaningStep, ABC):
    """A step that compares documents: phases of a map over parts, which meet in files."""

    @abstractmethod
    def run(self, work: Work, phase: str, parts: Sequence[Output]) -> list[Output]:
        """Return what is left of each of `parts`; phases are named `phase`.something.

        Each folder holds DOCUMENTS and REJECTS, and its result is {"counts": [counts]}, as `apply_outcomes` makes them.
        """


def apply_outcomes(
    step: str, documents: Documents, outcomes: Iterable[Outcome], rejects: Rejects
) -> tuple[Documents, dict[str, JSON]]:
    """Apply the outcomes of a step to a part's documents; return what is left, and counts."""
    left = Documents()
    reasons: Counter[str] = Counter()
    events: Counter[str] = Counter()
    sources: dict[str, list[int]] = {}
    changed = 0
    started = time.perf_counter()
    for text, source, place, size, outcome in zip(
        documents.texts, documents.sources, documents.places, documents.sizes, outcomes, strict=True
    ):
        account = sources.setdefault(source, [0, 0, 0, 0])
        account[0] += 1
        account[1] += size
        if outcome.counts:
            events.update(outcome.counts)
        reason = outcome.reason or ("nothing left" if outcome.text is not text and not outcome.text.strip() else "")
        if reason:
            reasons[reason] += 1
            rejects.add(source, place, step, reason, text, outcome.same_as)
            continue
        if outcome.text is not text and outcome.text != text:
            changed += 1
            size = utf8_size(outcome.text)
        account[2] += 1
        account[3] += size
        left.add(outcome.text, source, place, size)
    return left, {
        "step": step,
        **_sums(sources),
        "changed": changed,
        "rejected": dict(reasons),
        "counts": dict(events),
        "sources": sources,
        "seconds": time.perf_counter() - started,
    }


def _sums(sources: Mapping[str, Sequence[int]]) -> dict[str, int]:
    names = ("documents_in", "bytes_in", "documents_out", "bytes_out")
    return {name: sum(account[i] for account in sources.values()) for i, name in enumerate(names)}


def add_counts(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the counts of one step over parts; keys come out sorted."""
    total: dict[str, Any] = {}
    for of_part in counts:
        for key, value in of_part.items():
            total[key] = _plus(total[key], value) if key in total else value
    return {key: dict(sorted(value.items())) if isinstance(value, dict) else value for key, value in total.items()}


def _plus(a: Any, b: Any) -> Any:
    if isinstance(a, dict):
        return {key: _plus(a[key], b[key]) if key in a and key in b else a.get(key, b.get(key)) for key in {**a, **b}}
    if isinstance(a, list):
        return [x + y for x, y in zip(a, b, strict=True)]
    return a if isinstance(a, str) else a + b


# --- parts as files ------------------------------------------------------------------------------------------


def write_part(folder: Path, documents: Documents, rejects: Rejects) -> None:
    """Write what is left of a part, and what is not, into `folder`."""
    write_documents(folder, documents)
    write_rejects(folder / REJECTS, rejects.rows)


def filter_part(
    folder: Path, part: Path, step: str, outcomes: Callable[[Sequence[str]], Iterable[Outcome]]
) -> dict[str, JSON]:
    """Write into `folder` what a step leaves of the part in `part`, and what it does not; return the counts."""
    documents, rejects = read_documents(part), Rejects()
    documents, counts = apply_outcomes(step, documents, outcomes(documents.texts), rejects)
    write_part(folder, documents, rejects)
    return counts


def pass_part(folder: Path, part: Path, step: str) -> dict[str, JSON]:
    """Hand on a part of which a step takes nothing: its file gets a second name; return the counts."""
    import pyarrow.compute as pc

    from pipeline.tables.arrow import read_batch

    batch = read_batch(part / DOCUMENTS)
    column = batch.column("source")
    sources: dict[str, list[int]] = {}
    for source in pc.unique(column).to_pylist():
        mine = batch.filter(pc.equal(column, source)).column("text") if len(pc.unique(column)) > 1 else batch["text"]
        size = pc.sum(pc.binary_length(mine)).as_py()
        sources[source] = [len(mine), size, len(mine), size]
    link_or_copy(part / DOCUMENTS, folder / DOCUMENTS)
    write_rejects(folder / REJECTS, ())
    return {
        "step": step,
        **_sums(sources),
        "changed": 0,
        "rejected": {},
        "counts": {},
        "sources": sources,
        "seconds": 0,
    }
