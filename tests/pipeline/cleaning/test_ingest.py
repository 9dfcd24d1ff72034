"""Files become parts: everything found is in one of them or accounted for, and how it was cut is told by the files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.cleaning import ingest as ingest_module
from pipeline.cleaning.chain import add_up, leading, parse_steps
from pipeline.cleaning.ingest import FEW_DOCUMENTS, Ingested, ingest
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import open_work
from pipeline.sources.card import Source
from pipeline.sources.listing import open_source, source_of_path
from pipeline.tables.arrow import read_batch
from pipeline.tables.documents import DOCUMENTS, read_documents
from pipeline.tables.rejects import REJECTS

Reads = Callable[..., Ingested]


@pytest.fixture
def read(tmp_path: Path) -> Reads:
    """Ingest a file or folder: read(path, workers=1, steps=(), block=4096, part=2**24, and reading options)."""
    store = Store(tmp_path / "store")

    def run(
        path: Path,
        *,
        workers: int = 1,
        steps: Sequence[str] = (),
        block: int = 4096,
        part: int = 2**24,
        **settings: Any,
    ) -> Ingested:
        plain = source_of_path(path, store)
        source: Source = replace(plain, reading=replace(plain.reading, **settings))
        files = [(source, file) for file in open_source(source, store)]
        taken, left = leading(parse_steps(steps))
        assert not left
        with open_work(tmp_path / f"work{workers}", Workers(workers=workers)) as work:
            return ingest(work, files, block_bytes=block, part_bytes=part, steps=taken)

    return run


def write_rows(path: Path, count: int) -> list[str]:
    texts = [f"Text {i} of {path.stem}." for i in range(count)]
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    return texts


def texts_of(found: Ingested) -> list[str]:
    return [text for part in found.parts for text in read_documents(part.folder).texts]


def test_documents_come_in_the_order_of_the_files_in_parts_of_about_the_size_asked_for(
    read: Reads, tmp_path: Path
) -> None:
    expected = write_rows(tmp_path / "a.jsonl", 150)

    found = read(tmp_path / "a.jsonl", part=1000)

    assert texts_of(found) == expected and found.block_bytes is None
    sizes = [sum(100 + size for size in read_documents(part.folder).sizes) for part in found.parts]
    assert len(sizes) > 10 and all(1000 <= size < 1200 for size in sizes[:-1])


def test_groups_and_workers_change_no_byte_of_any_part(
    read: Reads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    expected = [text for i in range(6) for text in write_rows(folder / f"{i}.jsonl", 30)]
    monkeypatch.setattr(ingest_module, "READ_BYTES", 3000)

    one, two = (read(folder, workers=workers, part=1000) for workers in (1, 2))

    assert len({part.folder.parent for part in one.parts}) > 3 and texts_of(one) == expected
    contents = [[(part.folder / DOCUMENTS).read_bytes() for part in found.parts] for found in (one, two)]
    assert contents[0] == contents[1]


def test_a_file_cut_at_line_ends_gives_what_it_gives_as_a_whole(
    read: Reads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "a.jsonl", 150)
    [whole] = [read_documents(part.folder) for part in read(tmp_path / "a.jsonl").parts]
    monkeypatch.setattr(ingest_module, "READ_BYTES", 500)

    cut = [read_documents(part.folder) for part in read(tmp_path / "a.jsonl", workers=2).parts]

    assert len(cut) > 5
    assert [text for part in cut for text in part.texts] == whole.texts
    assert [place for part in cut for place in part.places] == whole.places


def test_what_is_left_out_is_counted_and_kept_as_a_reject(read: Reads, tmp_path: Path) -> None:
    rows = ['{"text": "good %d"}' % i for i in range(FEW_DOCUMENTS)]  # noqa: UP031  braces
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, '{"text": "  "}', "no row", '{"text": "last"}']) + "\n")

    found = read(tmp_path / "a.jsonl", bad_rows="reject")

    [counts] = add_up([found.parts])
    assert counts["step"] == "read" and counts["documents_in"] == FEW_DOCUMENTS + 3
    assert counts["documents_out"] == FEW_DOCUMENTS + 1 and sum(counts["rejected"].values()) == 2
    [part] = found.parts
    rejects = read_batch(part.folder / REJECTS).to_pylist()
    assert [(row["step"], row["place"]) for row in rejects] == [("read", "a.jsonl:101"), ("read", "a.jsonl:102")]
    assert rejects[0]["reason"] == "empty" and rejects[1]["excerpt"].strip() == "no row"


def test_characters_that_were_replaced_are_counted(read: Reads, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one \xff two\n\nthree \xfe\xfe\n\n" * 60)

    found = read(tmp_path / "a.txt", errors="replace", documents="paragraphs")

    assert add_up([found.parts])[0]["counts"] == {"characters replaced": 180}


def test_steps_are_taken_at_once_and_counted_each_by_itself(read: Reads, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 120)

    found = read(tmp_path / "a.jsonl", steps=("trim", "length:min_characters=13"))

    table = add_up([found.parts])
    assert [counts["step"] for counts in table] == ["read", "trim", "length"]
    assert [counts["documents_out"] for counts in table] == [120, 120, 110]
    assert len(texts_of(found)) == 110


# --- few documents -------------------------------------------------------------------------------------------


def test_text_that_makes_few_documents_is_read_again_in_blocks_and_the_first_reading_goes(
    read: Reads, tmp_path: Path
) -> None:
    text = "\n\n".join(f"Paragraph {i} of a long book." for i in range(200))
    (tmp_path / "a.txt").write_text(text)

    found = read(tmp_path / "a.txt")

    assert found.block_bytes == len(text) // 16
    assert 14 <= len(texts_of(found)) <= 17 and "\n\n".join(texts_of(found)) == text
    assert {path.relative_to(tmp_path / "work1").parts[0] for path in tmp_path.rglob(DOCUMENTS)} == {"read-blocks"}


def test_rows_are_documents_however_few_they_are(read: Reads, tmp_path: Path) -> None:
    expected = write_rows(tmp_path / "a.jsonl", 3)

    found = read(tmp_path / "a.jsonl")

    assert texts_of(found) == expected and found.block_bytes is None


def test_blocks_that_were_asked_for_are_not_made_smaller(read: Reads, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"Paragraph {i} of a long book." for i in range(50)))

    found = read(tmp_path / "a.txt", documents="blocks", block=1000)

    assert found.block_bytes == 1000 and len(texts_of(found)) == 2
