"""Equal spans are found by their hashes wherever they stand, and a step says which of them are removed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.cleaning.buckets import Folders, name_documents
from pipeline.cleaning.exact_duplicates import (
    FOUND,
    NO_DOCUMENT,
    REMOVED,
    SPAN,
    ExactDuplicates,
    Removed,
    _matched,
    all_but_first,
    remove_rows,
)
from pipeline.cleaning.step import Outcome


@dataclass(frozen=True, kw_only=True)
class Words(ExactDuplicates):
    """Keep the first of equal words, and say of each that goes where it is kept."""

    name: ClassVar[str] = "words"
    everywhere: bool = False
    """remove every word that two documents have, and keep none"""

    def digest(self, texts: Any) -> tuple[list[bytes], Any, Any]:
        words = [(i, j, word) for i, text in enumerate(texts.to_pylist()) for j, word in enumerate(text.split())]
        digests = [sha256(word.encode()).digest() for _, _, word in words]
        return digests, np.array([i for i, _, _ in words], np.uint32), np.array([j for _, j, _ in words], np.uint32)

    def remove(self, rows: Any, documents: int) -> Any:
        if not self.everywhere:
            return all_but_first(rows)
        hashes = list(zip(rows["high"].tolist(), rows["low"].tolist(), strict=True))
        of_hash = {one: sum(rows["documents"][i] for i, other in enumerate(hashes) if other == one) for one in hashes}
        return remove_rows(rows[np.array([of_hash[one] > 1 for one in hashes], bool)], None)

    def outcomes(self, texts: Sequence[str], removed: Removed, parts: Folders) -> Iterator[Outcome]:
        assert sorted(zip(removed.document, removed.span, strict=True)) == [
            *zip(removed.document, removed.span, strict=True)
        ]
        none = removed.kept_part == NO_DOCUMENT
        kept = np.array(["nowhere"] * len(none), dtype=object)
        kept[~none] = name_documents(parts, removed.kept_part[~none], removed.kept_document[~none])
        for number, text in enumerate(texts):
            mine = np.flatnonzero(removed.document == number).tolist()
            goes = {int(removed.span[i]): kept[i] for i in mine}
            words = [word for j, word in enumerate(text.split()) if j not in goes]
            yield Outcome(" ".join(words) if goes else text, counts={f"{j} in {where}": 1 for j, where in goes.items()})


# --- the step ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_buckets")
def test_the_first_span_stays_and_the_others_know_where_it_is(trial: Callable[..., Any]) -> None:
    cleaned = trial(["a b a", "c"], ["b d", "d e"]).run(Words())

    assert cleaned.texts == ["a b", "c", "d", "e"]
    assert cleaned.counts["counts"] == {"2 in book 0": 1, "0 in book 0": 1, "0 in book 2": 1}
    assert cleaned.counts["changed"] == 3


def test_a_part_without_a_span_to_remove_is_handed_on_as_it_is(trial: Callable[..., Any]) -> None:
    before = trial(["a b", "c"], ["a d"])

    cleaned = before.run(Words())

    first = (before.parts[0].folder / "documents.arrow").read_bytes()
    assert cleaned.files["000000/documents.arrow"] == first and cleaned.texts == ["a b", "c", "d"]


def test_documents_that_have_a_span_are_counted_once_however_often_it_stands_in_them(trial: Callable[..., Any]) -> None:
    cleaned = trial(["a a x", "b"], ["b y"], ["z z z"]).run(Words(everywhere=True))

    assert cleaned.texts == ["a a x", "y", "z z z"]
    assert [(row["place"], row["reason"]) for row in cleaned.rejects] == [("1", "nothing left")]
    assert cleaned.counts["counts"] == {"0 in nowhere": 2}


# --- what a bucket decides -----------------------------------------------------------------------------------


def found(*rows: tuple[int, int, int, int, int, int]) -> Any:
    return np.array(list(rows), dtype=FOUND)


def test_all_rows_with_a_hash_but_the_first_are_removed_and_that_one_if_it_has_more_than_one_span() -> None:
    rows = found((1, 1, 0, 5, 1, 1), (1, 1, 2, 0, 3, 1), (1, 2, 0, 7, 1, 1), (3, 0, 1, 4, 2, 1))

    assert all_but_first(rows).tolist() == [(2, 1, 1, 0, 5), (1, 3, 0, 1, 4)]
    assert all_but_first(rows[:0]).dtype == np.dtype(REMOVED)


def test_what_is_kept_nowhere_says_so() -> None:
    assert remove_rows(found((1, 2, 3, 4, 1, 1)), None).tolist() == [(3, 1, 2, NO_DOCUMENT, NO_DOCUMENT)]


def test_hashes_are_compared_by_all_their_bits() -> None:
    removals = np.array([(0, 7, 1, 0, 0), (0, 9, 2, 0, 1)], dtype=REMOVED)
    spans = np.array([(7, 0, 0, 0), (7, 1, 1, 0), (7, 1, 2, 0), (8, 2, 3, 0), (9, 2, 4, 0)], dtype=SPAN)

    at, removal = _matched(removals, spans)

    assert dict(zip(at.tolist(), removal["kept_document"].tolist(), strict=True)) == {1: 0, 2: 0, 4: 1}
