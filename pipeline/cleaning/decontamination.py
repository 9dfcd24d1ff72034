"""Machinery: the cleaning step that rejects documents which hold the text of an evaluation."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.store import Store
from pipeline.cleaning.step import CleaningStep, DocumentStep, Outcome
from pipeline.errors import ConfigError, IntegrityError, MissingError
from pipeline.readers.documents import documents_of, rows_of
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources.card import Source, plain_path
from pipeline.sources.document import Document
from pipeline.sources.listing import local_files, source_of_path
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.templates import check_template, render

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, UInt64

_WORD = re.compile(r"\w+")
_PINNED = re.compile(r"#([0-9a-f]{64})$")
_TEXT_FORMATS = ("txt", "md", "html")
_WHOLE = ReadingOptions(documents="file")
_MULTIPLIER = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True)
class Decontaminate(DocumentStep):
    """Reject documents that share `n` words in a row with an item of the named files (GPT-3: n = 13).

    Brown et al. 2020 (arXiv:2005.14165), appendix C, cut such text out and threw the shortened rests away; here the
    whole document goes.  Words are runs of letters and digits in small letters, punctuation aside.  An item shorter
    than n words counts when all of it is in a document and it has at least `min_words`.

    An item is a paragraph or a line of a text file, or of a row what `text` makes of it; without `text`, each of the
    row's texts by itself.  N-grams are compared by 64-bit hashes: 16 bytes each in memory, and about 150 for
    each different word of the files.  A million n-grams meet one of 10^12 others by chance once in 18 runs.
    """

    name = "decontaminate"
    files: tuple[str, ...] = ()
    """paths; in a corpus each with its hash: path#sha256"""
    n: int = 13
    min_words: int = 6
    text: str = ""
    """a template of the fields of a row"""
    items: Literal["paragraphs", "lines"] = "paragraphs"
    """of text files"""

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError("decontaminate: say against what: decontaminate:files=PATH|PATH.")
        if not 2 <= self.min_words <= self.n:
            raise ConfigError(f"decontaminate: min_words={self.min_words} must be at least 2 and at most n={self.n}.")
        check_template(self.text, "decontaminate:text")

    def resolve(self, store: Store) -> Self:
        """Add the hash of every file to its path, which becomes absolute.

        Raises MissingError when one is not there or is a folder, DataError when no reader reads it.
        """
        return replace(self, files=tuple(_pinned(name, store) for name in self.files))

    def open(self) -> Callable[[str], Outcome]:
        """Read the files and return the function that looks for them in a text.

        Raises IntegrityError when a file is no longer what its hash says.
        """
        index = Index(self.n, self.min_words)
        for name in self.files:
            for item in self._items(name):
                index.add(item)
        index.close()
        return lambda text: Outcome(text, "holds evaluation text" if index.is_in(text) else "")

    def _items(self, name: str) -> Iterator[str]:
        path = Path(_PINNED.sub("", name)).expanduser().absolute()
        pin = _PINNED.search(name)
        if pin and (found := sha256_of_file(path)) != pin[1]:
            raise IntegrityError(
                f"decontaminate: {path} has sha256 {found[:SHORT]} instead of {pin[1][:SHORT]}: it changed since the "
                "corpus was described. Restore it, or run again without naming the old artifact."
            )
        source = Source(name=path.stem, location=str(path), sha256=pin[1] if pin else "unpinned", reading=_WHOLE)
        for file in local_files(str(path)):
            if file.format in _TEXT_FORMATS:
                separator = "\n" if self.items == "lines" else "\n\n"
                for document in documents_of(source, file, block_bytes=2**20):
                    yield from document.text.split(separator)
            else:
                for row in rows_of(source, file):
                    if not isinstance(row, Document):
                        yield from [render(self.text, row[1]) or ""] if self.text else _texts_in(row[1].values())


def _pinned(name: str, store: Store) -> str:
    if _PINNED.search(name):
        return name
    path = plain_path(Path(name))
    if not path.is_file():
        raise MissingError(f"decontaminate: {path} is not there, or is no file.")
    return f"{path}#{source_of_path(path, store).sha256}"


def _texts_in(values: Iterable[Any]) -> Iterator[str]:
    """Yield the texts among values, and in lists and objects inside them."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts_in(value.values())
        elif isinstance(value, list):
            yield from _texts_in(value)


# --- the index -----------------------------------------------------------------------------------------------


@dataclass
class Index:
    """The n-grams of evaluation items, by hash, and those of shorter items by their own length.

    The hash of words w1..wk is h(w1) + h(w2) m + ... + h(wk) m^(k-1) modulo 2^64, so that the hash of a longer n-gram
    starts with that of a shorter one; h is the start of BLAKE2b, m is odd.  A text is first searched for the beginnings
    of `min_words` words; what follows is looked at where one is found.
    """

    n: int
    min_words: int
    _values: dict[str, int] = field(default_factory=dict)
    """hash of every word of the items; 0 is that of a word that is in none of them"""
    _found: "dict[int, list[UInt64[np.ndarray, ' ngrams']]]" = field(default_factory=dict)
    """by length in words, as the items came"""
    _sorted: "dict[int, UInt64[np.ndarray, ' ngrams']]" = field(default_factory=dict)
    """by length, the shortest first; that of the beginnings is 0"""

    def add(self, item: str) -> None:
        """Take in one item."""
        words = words_of(item)
        if len(words) < self.min_words:
            return
        for word in words:
            if word not in self._values:
                self._values[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") | 1
        values = self._hashes_of(words)
        length = min(self.n, len(words))
        self._found.setdefault(length, []).append(_ngrams(values, length))
        self._found.setdefault(0, []).append(_ngrams(values[: len(words) - length + self.min_words], self.min_words))

    def close(self) -> None:
        """Make the index ready to be asked; nothing can be added any more."""
        import numpy as np

        self._sorted = {length: np.unique(np.concatenate(self._found[length])) for length in sorted(self._found)}
        self._found.clear()

    def is_in(self, text: str) -> bool:
        """Tell whether a text holds one of the n-grams or short items."""
        import numpy as np

        words = words_of(text)
        if len(words) < self.min_words or not self._sorted:
            return False
        values = self._hashes_of(words)
        keys = _ngrams(values, self.min_words)
        unknown = np.concatenate(([0], np.cumsum(values == 0)))
        starts = np.flatnonzero(unknown[self.min_words :] == unknown[: len(keys)])
        starts = starts[_are_in(self._sorted[0], keys[starts])]
        for length, hashes in self._sorted.items():
            starts = starts[starts + length <= len(words)]
            if length and any(_are_in(hashes, _ngrams(values[start : start + length], length))[0] for start in starts):
                return True
        return False

    def _hashes_of(self, words: list[str]) -> "UInt64[np.ndarray, ' words']":
        import numpy as np

        look = self._values.get
        return np.fromiter([look(word, 0) for word in words], np.uint64, len(words))


def _ngrams(values: "UInt64[np.ndarray, ' words']", length: int) -> "UInt64[np.ndarray, ' ngrams']":
    """Return the hashes of all n-grams of a length, from those of their words."""
    import numpy as np

    count = len(values) - length + 1
    keys = np.zeros(count, np.uint64)
    for k in range(length):
        keys += values[k : k + count] * np.uint64(pow(_MULTIPLIER, k, 2**64))
    return keys


def _are_in(
    hashes: "UInt64[np.ndarray, ' hashes']", keys: "UInt64[np.ndarray, ' keys']"
) -> "Bool[np.ndarray, ' keys']":
    """Tell of each key whether it is among sorted hashes."""
    import numpy as np

    at = np.minimum(np.searchsorted(hashes, keys), len(hashes) - 1)
    return np.asarray(hashes[at] == keys, np.bool_)


def words_of(text: str) -> list[str]:
    """Return the words that are compared: runs of letters and digits, in small letters."""
    return _WORD.findall(text.lower())


STEPS: tuple[type[CleaningStep], ...] = (Decontaminate,)
