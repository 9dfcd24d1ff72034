"""What is left out has one form, whoever leaves it out: the same columns, and an excerpt of one length."""

from pathlib import Path

import pytest

from pipeline.tables import rejects as rejects_module
from pipeline.tables.arrow import read_batch
from pipeline.tables.rejects import EXCERPT, REJECT_COLUMNS, Rejects, publish_rejects, write_rejects


def some(count: int) -> Rejects:
    rejects = Rejects()
    for i in range(count):
        rejects.add("books", f"a.txt:{i}", "read", "empty" if i % 3 else "too long", f"text {i}")
    return rejects


def test_a_reject_says_where_it_was_which_step_left_it_out_why_and_how_it_began() -> None:
    rejects = Rejects()
    rejects.add("books", "a.txt:7", "exact_documents", "exact duplicate", "é" * (EXCERPT + 1), same_as="books a.txt:1")

    [row] = rejects.rows
    assert tuple(row) == REJECT_COLUMNS
    assert list(row.values()) == [
        "books",
        "a.txt:7",
        "exact_documents",
        "exact duplicate",
        "books a.txt:1",
        "é" * EXCERPT,
    ]


def test_reasons_are_counted() -> None:
    assert some(7).reasons() == {"too long": 3, "empty": 4} and Rejects().reasons() == {}


def test_rejects_are_read_as_they_were_written_and_none_have_their_columns_too(tmp_path: Path) -> None:
    write_rejects(tmp_path / "some", some(5).rows)
    write_rejects(tmp_path / "none", ())

    assert read_batch(tmp_path / "some").to_pylist() == some(5).rows
    none = read_batch(tmp_path / "none")
    assert (len(none), tuple(none.schema.names)) == (0, REJECT_COLUMNS)
    assert none.schema == read_batch(tmp_path / "some").schema


def test_rejects_are_published_in_order_so_many_to_a_file_and_none_as_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects_module, "REJECTS_IN_FILE", 2)

    publish_rejects(tmp_path, Rejects())
    assert not list(tmp_path.iterdir())
    publish_rejects(tmp_path, some(5))

    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"rejects-0000{i}-of-00003.arrow" for i in range(3)]
    assert [len(read_batch(path)) for path in files] == [2, 2, 1]
    assert [row for path in files for row in read_batch(path).to_pylist()] == some(5).rows
