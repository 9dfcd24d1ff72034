"""Machinery: the most frequent runs of one to four words in a sample of texts, exactly and in bounded memory."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Int64

LONGEST = 4
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_FUNCTION_WORDS = 100
"""this many of the commonest words say nothing by themselves"""


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A run of words, how often it occurs, and in how many documents."""

    text: str
    count: int
    documents: int


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """The most frequent runs of words by their length; those made of the commonest words only are left out."""

    words: int
    """words in the sample"""
    distinct: int
    commonest: tuple[str, ...]
    by_length: dict[int, tuple[Phrase, ...]]


def count_phrases(texts: Iterable[str], most: int = 15) -> Phrases:
    """Count the runs of 1 to 4 words, in lower case, within documents."""
    import numpy as np

    vocabulary: dict[str, int] = {}
    numbers: list[Int64[np.ndarray, " words"]] = []
    for text in texts:
        found = [vocabulary.setdefault(word, len(vocabulary)) for word in _WORD.findall(text.lower())]
        numbers.append(np.array(found, dtype=np.int64))
    words = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)
    documents = np.repeat(np.arange(len(numbers)), [len(entry) for entry in numbers])
    names = list(vocabulary)
    counts = np.bincount(words, minlength=len(names))
    common = np.argsort(-counts, kind="stable")[: min(_FUNCTION_WORDS, len(names) // 20)]
    is_common = np.zeros(len(names) + 1, dtype=bool)
    is_common[common] = True
    return Phrases(
        words=len(words),
        distinct=len(names),
        commonest=tuple(names[i] for i in common),
        by_length=_by_length(words, documents, names, is_common, most),
    )


def _by_length(
    words: "Int64[np.ndarray, ' words']",
    documents: "Int64[np.ndarray, ' words']",
    names: Sequence[str],
    is_common: "Bool[np.ndarray, ' numbers']",
    most: int,
) -> dict[int, tuple[Phrase, ...]]:
    """Number the runs that start at each word, one word longer at a time: (run before, next word) is a new run.

    That is exact, where hashes of runs would collide, and takes a few arrays as long as the text.
    """
    import numpy as np

    runs, start = words, np.arange(len(words))
    found: dict[int, tuple[Phrase, ...]] = {}
    for length in range(1, LONGEST + 1):
        if length > 1:
            last = start + length - 1
            inside = last < len(words)
            inside[inside] = documents[start[inside]] == documents[last[inside]]
            start, last = start[inside], last[inside]
            _, runs = np.unique(runs[inside] * (len(names) + 1) + words[last], return_inverse=True)
        only_common = np.logical_and.reduce([is_common[words[start + i]] for i in range(length)])
        found[length] = tuple(_most_frequent(runs, start, only_common, words, documents, names, length, most))
    return found


def _most_frequent(
    runs: "Int64[np.ndarray, ' runs']",
    start: "Int64[np.ndarray, ' runs']",
    left_out: "Bool[np.ndarray, ' runs']",
    words: "Int64[np.ndarray, ' words']",
    documents: "Int64[np.ndarray, ' words']",
    names: Sequence[str],
    length: int,
    most: int,
) -> list[Phrase]:
    import numpy as np

    counts = np.bincount(runs[~left_out]) if len(runs) else np.zeros(0, dtype=np.int64)
    phrases = []
    for run in np.argsort(-counts, kind="stable")[:most]:
        if counts[run] < 2:
            break
        places = start[runs == run]
        text = " ".join(names[words[places[0] + i]] for i in range(length))
        where = len(np.unique(documents[places]))
        phrases.append(Phrase(text=text, count=int(counts[run]), documents=where))
    return phrases
