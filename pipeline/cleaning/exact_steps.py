"""Machinery: the cleaning steps that remove what stands more than once: documents, paragraphs, lines."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from pipeline.cleaning.buckets import Folders, name_documents, starts_run
from pipeline.cleaning.exact_duplicates import ExactDuplicates, Removed, all_but_first, remove_rows
from pipeline.cleaning.step import Outcome
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.cleaning.buckets import Rows
    from pipeline.cleaning.exact_duplicates import Digests

_PARAGRAPHS = re.compile(r"(\n(?:[^\S\n]*\n)+)")


@dataclass(frozen=True, kw_only=True)
class ExactDocuments(ExactDuplicates):
    """Keep the first of equal documents, in the order of the corpus."""

    name: ClassVar[str] = "exact_documents"

    def digest(self, texts: "pa.StringArray") -> "Digests":
        import numpy as np

        from pipeline.tables.arrow import bytes_of

        digests = [sha256(text).digest() for text in bytes_of(texts)]
        return digests, np.arange(len(texts), dtype=np.uint32), np.zeros(len(texts), np.uint32)

    def remove(self, rows: "Rows", documents: int) -> "Rows":
        return all_but_first(rows)

    def outcomes(self, texts: Sequence[str], removed: Removed, parts: Folders) -> Iterator[Outcome]:
        names = name_documents(parts, removed.kept_part, removed.kept_document)
        kept = dict(zip(removed.document.tolist(), names, strict=True))
        for number, text in enumerate(texts):
            same_as = kept.get(number)
            yield Outcome(text) if same_as is None else Outcome(text, "exact duplicate", same_as=same_as)


@dataclass(frozen=True, kw_only=True)
class ExactParagraphs(ExactDuplicates):
    """Keep the first of equal paragraphs in the whole corpus, where they are long enough to be no chance.

    Blank lines separate paragraphs; spaces around them do not matter.  As in CCNet (Wenzek et al. 2020).
    """

    name: ClassVar[str] = "exact_paragraphs"
    changes_text: ClassVar[bool] = True

    min_characters: int = 100
    """shorter paragraphs stay: dialogue, headings and verse say the same with good reason"""

    def __post_init__(self) -> None:
        _check_length(self.name, self.min_characters)

    def digest(self, texts: "pa.StringArray") -> "Digests":
        return _digest_spans(texts, split_paragraphs, self.min_characters)

    def remove(self, rows: "Rows", documents: int) -> "Rows":
        return all_but_first(rows)

    def outcomes(self, texts: Sequence[str], removed: Removed, parts: Folders) -> Iterator[Outcome]:
        return _without(texts, removed, _drop_paragraphs, "paragraphs removed", "only repeated paragraphs")


@dataclass(frozen=True, kw_only=True)
class BoilerplateLines(ExactDuplicates):
    """Remove lines that stand in many documents: headers, footers, menus, licences; no copy is kept.

    Spaces around a line do not matter; a line that a document repeats counts once in it.
    """

    name: ClassVar[str] = "boilerplate_lines"
    changes_text: ClassVar[bool] = True

    min_characters: int = 20
    """shorter lines stay: headings, and lines of dialogue that many stories have"""
    min_documents: int = 10
    """a line is boilerplate from this many documents on"""
    min_fraction: float = 0.0
    """and from this share of the documents on, whichever is more"""

    def __post_init__(self) -> None:
        _check_length(self.name, self.min_characters)
        if self.min_documents < 2 or not 0 <= self.min_fraction <= 1:
            raise ConfigError(f"{self.name}: min_documents must be at least 2, min_fraction from 0 to 1, got {self}.")

    def digest(self, texts: "pa.StringArray") -> "Digests":
        return _digest_spans(texts, split_lines, self.min_characters)

    def remove(self, rows: "Rows", documents: int) -> "Rows":
        import numpy as np

        least = max(self.min_documents, math.ceil(self.min_fraction * documents))
        starts = starts_run(rows["high"], rows["low"])
        at = np.flatnonzero(starts)
        frequent = np.add.reduceat(rows["documents"], at, dtype=np.int64) >= least if len(rows) else at
        return remove_rows(rows[np.repeat(frequent, np.diff(np.append(at, len(rows))))], None)

    def outcomes(self, texts: Sequence[str], removed: Removed, parts: Folders) -> Iterator[Outcome]:
        return _without(texts, removed, _drop_lines, "lines removed", "only boilerplate lines")


STEPS = (ExactDocuments, ExactParagraphs, BoilerplateLines)


def _check_length(name: str, characters: int) -> None:
    if characters < 1:
        raise ConfigError(f"{name}: min_characters must be at least 1, got {characters}.")


# --- spans of a text -----------------------------------------------------------------------------------------


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text and what separates them, by turns."""
    return _PARAGRAPHS.split(text)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, without their ends."""
    return text.split("\n")


def _drop_paragraphs(text: str, removed: set[int]) -> str:
    """Return the other paragraphs, each but the first with what separates it from the one before."""
    spans = split_paragraphs(text)
    left = [i for i in range(0, len(spans), 2) if i not in removed]
    return "".join(span for i in left for span in spans[i - 1 if i > left[0] else i : i + 1])


def _drop_lines(text: str, removed: set[int]) -> str:
    return "\n".join(line for i, line in enumerate(split_lines(text)) if i not in removed)


def _without(
    texts: Sequence[str], removed: Removed, drop: Callable[[str, set[int]], str], what: str, reason: str
) -> Iterator[Outcome]:
    """Yield each text without its removed spans; one of which no letter is left is rejected."""
    spans: dict[int, set[int]] = {}
    for document, span in zip(removed.document.tolist(), removed.span.tolist(), strict=True):
        spans.setdefault(document, set()).add(span)
    for number, text in enumerate(texts):
        if number not in spans:
            yield Outcome(text)
            continue
        left = drop(text, spans[number])
        yield Outcome(left, "" if left.strip() else reason, counts={what: len(spans[number])})


def _digest_spans(texts: "pa.StringArray", split: Callable[[str], Iterable[str]], least: int) -> "Digests":
    import numpy as np

    digests: list[bytes] = []
    numbers: list[int] = []
    counts: list[int] = []
    for text in texts:
        long = [(i, span) for i, span in enumerate(map(str.strip, split(text.as_py()))) if len(span) >= least]
        digests += [sha256(span.encode("utf-8")).digest() for _, span in long]
        numbers += [i for i, _ in long]
        counts.append(len(long))
    documents = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
    return digests, documents, np.array(numbers, dtype=np.uint32)
