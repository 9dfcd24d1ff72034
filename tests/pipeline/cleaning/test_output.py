"""What is left is published once: each document in the file of its split, each reject in order, files numbered."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cleaning.output import collect, join_rejects, write_splits
from pipeline.cleaning.step import Documents, write_part
from pipeline.errors import DataError
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import Output, Work, open_work
from pipeline.tables import rejects as rejects_module
from pipeline.tables.arrow import read_batch
from pipeline.tables.rejects import Rejects
from pipeline.tables.splits import split_of

HALF = {"a": {"validation": 0.5}, "b": {"validation": 0.25, "test": 0.25}}


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    with open_work(tmp_path / "work", Workers(workers=1)) as work:
        yield work


def parts_of(work: Work, *parts: list[tuple[str, str]]) -> list[Output]:
    """Write parts of (text, source)."""
    outputs = []
    for i, rows in enumerate(parts):
        folder = work.folder / "left" / f"{i:06d}"
        folder.mkdir(parents=True)
        documents = Documents()
        for j, (text, source) in enumerate(rows):
            documents.add(text, source, f"{i}.{j}", len(text.encode()))
        write_part(folder, documents, Rejects())
        outputs.append(Output(folder, {}))
    return outputs


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def rows_in(path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = read_batch(path).to_pylist()
    return rows


MANY = [[(f"Text {i}.{j} é", "ab"[j % 2]) for j in range(20)] for i in range(5)]


# --- splits --------------------------------------------------------------------------------------------------


def test_each_document_is_in_the_split_of_its_hash_in_the_order_of_the_corpus(work: Work) -> None:
    files, totals = write_splits(work, parts_of(work, *MANY), shares=HALF, part_bytes=2**20)

    found = {split: rows_in(path) for split, path in files}
    assert [split for split, _ in files] == ["train", "validation", "test"]
    for split, rows in found.items():
        expected = [(t, s) for part in MANY for t, s in part if split_of(digest_of(t), HALF[s]) == split]
        assert [(row["text"], row["source"]) for row in rows] == expected
        assert [row["id"] for row in rows] == [digest_of(row["text"]).hex()[:32] for row in rows]
        texts = [row["text"] for row in rows]
        assert totals["documents"][split] == len(texts) and totals["characters"][split] == sum(map(len, texts))
        assert totals["bytes"][split] == sum(len(text.encode()) for text in texts)
    assert all(row["source"] == "b" for row in found["test"])


def test_a_file_takes_consecutive_parts_as_long_as_they_fit(work: Work) -> None:
    parts = parts_of(work, *MANY)
    most = 2 * sum(len(text.encode()) for text, _ in MANY[0])

    files, _ = write_splits(work, parts, shares={"a": {}, "b": {}}, part_bytes=most)

    assert [split for split, _ in files] == ["train", "train", "train"]
    assert [len(rows_in(path)) for _, path in files] == [40, 40, 20]
    texts = [row["text"] for _, path in files for row in rows_in(path)]
    assert texts == [text for part in MANY for text, _ in part]


def test_a_part_without_documents_leaves_no_file(work: Work) -> None:
    files, totals = write_splits(work, parts_of(work, [], [("one", "a")], []), shares={"a": {}}, part_bytes=1)

    assert [(split, [row["text"] for row in rows_in(path)]) for split, path in files] == [("train", ["one"])]
    assert totals["documents"] == {"train": 1}


def test_a_split_that_was_asked_for_gets_a_document_and_no_other_one_moves(work: Work) -> None:
    texts = [f"Text {i}" for i in range(6)]
    shares = {"a": {"validation": 1e-9}}
    assert {split_of(digest_of(text), shares["a"]) for text in texts} == {"train"}

    files, totals = write_splits(work, parts_of(work, [(t, "a") for t in texts]), shares=shares, part_bytes=2**20)

    found = {split: [row["text"] for row in rows_in(path)] for split, path in files}
    assert found["validation"] == [min(texts, key=digest_of)] and totals["documents"] == {"train": 5, "validation": 1}
    assert found["train"] == [text for text in texts if text not in found["validation"]]


def test_fewer_documents_than_splits_are_bad_data(work: Work) -> None:
    with pytest.raises(DataError, match="hold 1 different document"):
        write_splits(work, parts_of(work, [("one", "a")]), shares=HALF, part_bytes=1)


# --- rejects -------------------------------------------------------------------------------------------------


def rejecting(folder: Path, step: str, counts: list[int]) -> list[Output]:
    """Write a phase whose parts reject so many documents each."""
    outputs = []
    for i, count in enumerate(counts):
        part = folder / step / f"{i:06d}"
        part.mkdir(parents=True)
        rejects = Rejects()
        for j in range(count):
            rejects.add("a", f"{i}.{j}", step, "odd", "text")
        write_part(part, Documents(), rejects)
        outputs.append(Output(part, {"counts": [{"rejected": dict(Counter({"odd": count}))}]}))
    return outputs


def test_rejects_of_all_phases_are_joined_in_order_a_part_never_cut(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cleaning.output.REJECTS_IN_FILE", 4)
    phases = [rejecting(tmp_path, "one", [2, 0, 2, 1]), rejecting(tmp_path, "two", [0, 6, 1])]

    files = join_rejects(work, phases)

    assert {name for name, _ in files} == {"rejects"}
    assert [len(rows_in(path)) for _, path in files] == [4, 1, 6, 1]
    rows = [(row["step"], row["place"]) for _, path in files for row in rows_in(path)]
    assert rows == [
        *(("one", place) for place in ("0.0", "0.1", "2.0", "2.1", "3.0")),
        *(("two", f"1.{j}") for j in range(6)),
        ("two", "2.0"),
    ]
    assert tuple(rows_in(files[0][1])[0]) == rejects_module.REJECT_COLUMNS


def test_no_rejects_are_no_file(work: Work, tmp_path: Path) -> None:
    assert join_rejects(work, [rejecting(tmp_path, "one", [0, 0]), []]) == []


# --- what is published ---------------------------------------------------------------------------------------


def test_files_are_numbered_by_name_and_stay_where_they_are(tmp_path: Path) -> None:
    target = tmp_path / "payload"
    target.mkdir()
    files = []
    for i, name in enumerate(["train", "train", "test", "train", "rejects"]):
        (tmp_path / str(i)).write_text(f"{name} {i}")
        files.append((name, tmp_path / str(i)))

    collect(files, target)

    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "train-00000-of-00003.arrow": "train 0",
        "train-00001-of-00003.arrow": "train 1",
        "train-00002-of-00003.arrow": "train 3",
        "test-00000-of-00001.arrow": "test 2",
        "rejects-00000-of-00001.arrow": "rejects 4",
    }
    assert all(path.exists() for _, path in files)
