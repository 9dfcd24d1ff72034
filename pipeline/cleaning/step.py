"""Machinery: what a cleaning step is, and the accounting that every step shares."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from pipeline.artifacts.store import Store
from pipeline.executors.resumable import Work
from pipeline.runtime.files import link_or_copy
from pipeline.runtime.hashing import JSON
from pipeline.sources.document import utf8_size
from pipeline.tables.rejects import Rejects, write_rejects

DOCUMENTS = "documents.arrow"
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
class Step:
    """A cleaning step; its fields are its settings, all of them in the corpus's id."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """distributions whose version decides what comes out; they join the corpus's toolchain"""
    changes_text: ClassVar[bool] = False
    """may two different texts become equal by it?"""

    def resolve(self, store: Store) -> Self:
        """Replace what names something outside (a file) by what it says (its hash)."""
        return self


class DocumentStep(Step, ABC):
    """A step that looks at one document at a time."""

    @abstractmethod
    def open(self) -> Callable[[str], Outcome]:
        """Return the pure function that cleans a text; what it needs is loaded here, once per part.

        Raises UnavailableError when an extra is missing.
        """


class CorpusStep(Step, ABC):
    """A step that compares documents: phases of a map over parts, which meet in files."""

    @abstractmethod
    def run(self, work: Work, phase: str, parts: Sequence[Path]) -> list[Path]:
        """Return the folders of the parts that are left, one for each of `parts`; phases are named `phase`.something.

        Each folder holds DOCUMENTS and REJECTS, and its result is {"tallies": [tally]}, as `settle` makes them.
        """


@dataclass(frozen=True)
class Documents:
    """The documents of a part, column by column."""

    texts: list[str]
    sources: list[str]
    places: list[str]
    sizes: list[int]
    """bytes of UTF-8"""

    def __len__(self) -> int:
        return len(self.texts)


def settle(
    step: str, documents: Documents, outcomes: Iterable[Outcome], rejects: Rejects
) -> tuple[Documents, dict[str, JSON]]:
    """Apply the outcomes of a step to a part's documents; return what is left, and the tally of it."""
    left = Documents([], [], [], [])
    reasons: Counter[str] = Counter()
    counts: Counter[str] = Counter()
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
            counts.update(outcome.counts)
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
        left.texts.append(outcome.text)
        left.sources.append(source)
        left.places.append(place)
        left.sizes.append(size)
    tally = {"step": step, **_sums(sources), "changed": changed, "rejected": dict(reasons), "counts": dict(counts)}
    return left, {**tally, "sources": sources, "seconds": time.perf_counter() - started}


def _sums(sources: Mapping[str, Sequence[int]]) -> dict[str, int]:
    names = ("documents_in", "bytes_in", "documents_out", "bytes_out")
    return {name: sum(account[i] for account in sources.values()) for i, name in enumerate(names)}


def add_tallies(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the tallies of one step over parts; keys come out sorted."""
    total: dict[str, Any] = {}
    for tally in tallies:
        for key, value in tally.items():
            total[key] = _plus(total[key], value) if key in total else value
    return {key: dict(sorted(value.items())) if isinstance(value, dict) else value for key, value in total.items()}


def _plus(a: Any, b: Any) -> Any:
    if isinstance(a, dict):
        return {key: _plus(a[key], b[key]) if key in a and key in b else a.get(key, b.get(key)) for key in {**a, **b}}
    if isinstance(a, list):
        return [x + y for x, y in zip(a, b, strict=True)]
    return a if isinstance(a, str) else a + b


# --- parts as files ------------------------------------------------------------------------------------------


def read_documents(folder: Path) -> Documents:
    """Return the documents of a part."""
    import numpy as np

    from pipeline.tables.arrow import offsets_of, read_batch

    batch = read_batch(folder / DOCUMENTS)
    text = batch.column("text")
    sizes = np.diff(offsets_of(text)).tolist()
    return Documents(text.to_pylist(), batch.column("source").to_pylist(), batch.column("place").to_pylist(), sizes)


def write_part(folder: Path, documents: Documents, rejects: Rejects) -> None:
    """Write what is left of a part, and what is not, into `folder`."""
    from pipeline.tables.arrow import string_batch, write_batch

    columns = {"text": documents.texts, "source": documents.sources, "place": documents.places}
    write_batch(folder / DOCUMENTS, string_batch(columns))
    write_rejects(folder, rejects)


def filter_part(
    folder: Path, part: Path, step: str, outcomes: Callable[[Sequence[str]], Iterable[Outcome]]
) -> dict[str, JSON]:
    """Write into `folder` what a step leaves of the part in `part`, and what it does not; return the tally of it."""
    documents, rejects = read_documents(part), Rejects()
    documents, tally = settle(step, documents, outcomes(documents.texts), rejects)
    write_part(folder, documents, rejects)
    return tally


def pass_part(folder: Path, part: Path, step: str) -> dict[str, JSON]:
    """Hand on a part of which a step takes nothing: its file gets a second name; return the tally of it."""
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
    write_rejects(folder, Rejects())
    return {
        "step": step,
        **_sums(sources),
        "changed": 0,
        "rejected": {},
        "counts": {},
        "sources": sources,
        "seconds": 0,
    }
