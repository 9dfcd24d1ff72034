"""The accounting of a step: what goes in comes out or is rejected, by source and by reason."""

from pathlib import Path

from pipeline.cleaning.step import Outcome, add_counts, apply_outcomes, write_part
from pipeline.tables.arrow import read_batch
from pipeline.tables.documents import Documents, read_documents
from pipeline.tables.rejects import REJECTS, Rejects


def four() -> Documents:
    texts = ["one", "zwei", "dréi", ""]
    return Documents(texts, ["a", "b", "a", "b"], ["1", "2", "3", "4"], [len(text.encode()) for text in texts])


def test_what_goes_in_comes_out_or_is_rejected() -> None:
    rejects = Rejects()
    outcomes = [
        Outcome("one"),
        Outcome("ZWEI!", counts={"shouts": 2}),
        Outcome("dréi", "odd", same_as="a 1"),
        Outcome(""),
    ]

    left, counts = apply_outcomes("shout", four(), outcomes, rejects)

    assert (left.texts, left.sources, left.places, left.sizes) == (
        ["one", "ZWEI!", ""],
        ["a", "b", "b"],
        ["1", "2", "4"],
        [3, 5, 0],
    )
    assert counts.pop("seconds") >= 0
    assert counts == {
        "step": "shout",
        "documents_in": 4,
        "bytes_in": 12,
        "documents_out": 3,
        "bytes_out": 8,
        "changed": 1,
        "rejected": {"odd": 1},
        "counts": {"shouts": 2},
        "sources": {"a": [2, 8, 1, 3], "b": [2, 4, 2, 5]},
    }
    assert rejects.rows == [
        {"source": "a", "place": "3", "step": "shout", "reason": "odd", "same_as": "a 1", "excerpt": "dréi"}
    ]


def test_the_counts_of_parts_add_up_whatever_keys_each_of_them_has() -> None:
    first = {"step": "x", "documents_in": 2, "rejected": {"a": 1}, "sources": {"s": [1, 2, 3, 4]}, "seconds": 0.5}
    second = {
        "step": "x",
        "documents_in": 3,
        "rejected": {"b": 2, "a": 1},
        "sources": {"t": [1, 1, 1, 1]},
        "seconds": 1.0,
    }

    assert add_counts([first, second]) == {
        "step": "x",
        "documents_in": 5,
        "rejected": {"a": 2, "b": 2},
        "sources": {"s": [1, 2, 3, 4], "t": [1, 1, 1, 1]},
        "seconds": 1.5,
    }
    assert first["rejected"] == {"a": 1}, "adding changes none of what is added"


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    rejects = Rejects()
    rejects.add("a", "9", "read", "empty", "x" * 500)
    write_part(tmp_path, four(), rejects)

    assert read_documents(tmp_path) == four()
    assert read_batch(tmp_path / REJECTS).to_pylist() == rejects.rows
