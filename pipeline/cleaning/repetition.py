"""Machinery: the cleaning step that rejects what says the same again and again, by Gopher's repetition rules."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.cleaning.step import CleaningStep, DocumentStep, Outcome
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64

_PARAGRAPH_BREAK = re.compile("\n{2,}")
_LINE_BREAK = re.compile("\n+")
TOP_N = 2
"""the first n of the rule on the most frequent n-gram"""
DUPLICATE_N = 5
"""the first n of the rule on duplicate n-grams"""
_BITS = 32


@dataclass(frozen=True, kw_only=True)
class GopherRepetition(DocumentStep):
    """Reject documents that repeat themselves: Rae et al. 2021 (arXiv:2112.11446), table A1.

    All shares are of the characters of the text, or of its number of lines or paragraphs.  What the paper leaves open
    is as in the code that made FineWeb (datatrove), so that its thresholds mean what they meant there:
    - paragraphs are separated by blank lines, lines by line ends, words by white space (so this says nothing about
      scripts without spaces); a line or paragraph is a duplicate when it was there before;
    - the top n-gram is the most frequent one, of several the first; its characters with single spaces, times how often
      it is there.  Here it must be there twice: else any text of a line would be refused;
    - duplicate n-grams are found from left to right: one that was there before is counted, without spaces, and the
      search goes on behind it, so that no character counts twice.
    """

    name = "gopher_repetition"
    max_duplicate_lines: float = 0.30
    max_duplicate_paragraphs: float = 0.30
    max_duplicate_line_characters: float = 0.20
    max_duplicate_paragraph_characters: float = 0.20
    max_top_ngram: tuple[float, ...] = (0.20, 0.18, 0.16)
    """for n = 2, 3, 4"""
    max_duplicate_ngrams: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
    """for n = 5 to 10"""

    def __post_init__(self) -> None:
        if len(self.max_top_ngram) > DUPLICATE_N - TOP_N:
            raise ConfigError(f"gopher_repetition: max_top_ngram={self.max_top_ngram} is for n = 2, 3, 4 at most.")

    def open(self) -> Callable[[str], Outcome]:
        return lambda text: Outcome(text, self._of_lines(text) or self._of_words(text))

    def _of_lines(self, text: str) -> str:
        body = text.strip()
        limits = (
            ("paragraphs", _PARAGRAPH_BREAK, self.max_duplicate_paragraphs, self.max_duplicate_paragraph_characters),
            ("lines", _LINE_BREAK, self.max_duplicate_lines, self.max_duplicate_line_characters),
        )
        for what, separator, most, most_characters in limits:
            spans = separator.split(body)
            count, characters = duplicates_of(spans)
            if count > most * len(spans):
                return f"duplicate {what}"
            if characters > most_characters * len(text):
                return f"characters in duplicate {what}"
        return ""

    def _of_words(self, text: str) -> str:
        words = text.split()
        last = DUPLICATE_N + len(self.max_duplicate_ngrams) - 1
        for ngrams in repeated_ngrams(words, last):
            if ngrams.n < DUPLICATE_N:
                if ngrams.n - TOP_N < len(self.max_top_ngram):
                    most = self.max_top_ngram[ngrams.n - TOP_N]
                    if top_characters(ngrams) > most * len(text):
                        return "frequent words together"
            elif duplicate_characters(ngrams) > self.max_duplicate_ngrams[ngrams.n - DUPLICATE_N] * len(text):
                return "duplicate runs of words"
        return ""


def duplicates_of(spans: Sequence[str]) -> tuple[int, int]:
    """Return how many spans were there before, and their characters."""
    distinct = set(spans)
    if len(distinct) == len(spans):
        return 0, 0
    return len(spans) - len(distinct), sum(map(len, spans)) - sum(map(len, distinct))


# --- n-grams -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of a text that are there more than once."""

    n: int
    places: "Int64[np.ndarray, ' ngrams']"
    """where they start, ascending"""
    names: "Int64[np.ndarray, ' ngrams']"
    """which n-gram starts there: small numbers, equal for equal ones"""
    ends: "Int64[np.ndarray, ' ends']"
    """characters of all words before the one of this index"""


def repeated_ngrams(words: Sequence[str], last: int) -> Iterator[Ngrams]:
    """Yield the n-grams that are there more than once, for n from 2 to `last`, as long as there are any.

    Exact: an n-gram is named by its first n - 1 words' name and its last word's, and only where the shorter one is
    repeated the longer one can be.  So the work shrinks with n.
    """
    import numpy as np

    numbers: dict[str, int] = {}
    ids = np.fromiter([numbers.setdefault(word, len(numbers)) for word in words], np.int64, len(words))
    ends = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=ends[1:])
    places = np.arange(len(words))
    names = ids
    for n in range(2, last + 1):
        inside = places + n <= len(words)
        places = places[inside]
        keys = (names[inside] << _BITS) | ids[places + n - 1]
        order = np.argsort(keys, kind="stable")
        equal = np.diff(keys[order]) == 0
        if not equal.any():
            return
        repeated = np.zeros(len(keys), bool)
        repeated[1:] = equal
        names = np.cumsum(~repeated)[repeated | np.append(equal, False)]
        repeated[:-1] |= equal
        where = order[repeated]
        back = np.argsort(where)
        places, names = places[where[back]], names[back]
        yield Ngrams(n, places, names, ends)


def top_characters(ngrams: Ngrams) -> int:
    """Return the characters of the most frequent n-gram, single spaces included, times how often it is there."""
    import numpy as np

    counts = np.bincount(ngrams.names)[ngrams.names]
    first = int(ngrams.places[counts.argmax()])
    length = int(ngrams.ends[first + ngrams.n] - ngrams.ends[first]) + ngrams.n - 1
    return length * int(counts.max())


def duplicate_characters(ngrams: Ngrams) -> int:
    """Return the characters in n-grams that were there before, from left to right, none counted twice."""
    seen: set[int] = set()
    free = total = 0
    for place, name in zip(ngrams.places.tolist(), ngrams.names.tolist(), strict=True):
        if place < free:
            continue
        if name in seen:
            free = place + ngrams.n
            total += int(ngrams.ends[free] - ngrams.ends[place])
        else:
            seen.add(name)
    return total


STEPS: tuple[type[CleaningStep], ...] = (GopherRepetition,)
