"""A large file is read by chunks as it would be read whole: the same rows, places and errors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import DataError, IntegrityError
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import Work, open_work
from pipeline.readers.documents import documents_of
from pipeline.sources.card import Source
from pipeline.sources.document import Document
from pipeline.sources.line_ranges import cut_files
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile

LINES = ['{"text": "one"}', "", '{"text": "a longer line, é"}', "no row", '{"text": "two"}', " ", '{"text": "end"}'] * 5


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    with open_work(tmp_path / "work", Workers(workers=1)) as work:
        yield work


def file_of(path: Path, text: str) -> SourceFile:
    path.write_text(text, encoding="utf-8")
    return SourceFile(name=path.name, location=str(path), format="jsonl", size=path.stat().st_size)


def source(**reading: str) -> Source:
    options = ReadingOptions(bad_rows="reject", **reading)  # type: ignore[arg-type]
    return Source(name="test", location="x", sha256="x", reading=options)


def read(files: list[tuple[Source, SourceFile]]) -> list[Document]:
    return [document for source, file in files for document in documents_of(source, file, block_bytes=99)]


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 16, 17, 40, 150])
def test_chunks_together_are_the_file(tmp_path: Path, work: Work, chunk_bytes: int, end: str) -> None:
    entry = (source(), file_of(tmp_path / "a.jsonl", "\n".join(LINES) + end))

    cut = cut_files(work, [entry], chunk_bytes)

    assert len(cut) > 1
    assert read(cut) == read([entry])
    assert sum(file.size for _, file in cut) == entry[1].size


def test_the_line_of_an_error_in_a_chunk_is_that_of_the_file(tmp_path: Path, work: Work) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"text": "x"}\n' * 50 + "no row\n")
    strict = Source(name="test", location="x", sha256="x")

    cut = cut_files(work, [(strict, file)], 100)

    with pytest.raises(DataError, match=r"a\.jsonl:51 is not a JSON object"):
        read(cut)


def test_a_line_longer_than_chunks_is_in_one_of_them(tmp_path: Path, work: Work) -> None:
    entry = (source(), file_of(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "' + "x" * 500 + '"}\n{"text": "b"}\n'))

    cut = cut_files(work, [entry], 50)

    assert [len(document.text) for document in read(cut)] == [1, 500, 1]
    assert len(cut) == 2


@pytest.mark.parametrize("reading", [{"encoding": "utf-16-le"}, {"encoding": "latin-1"}])
def test_a_file_in_another_encoding_stays_whole(tmp_path: Path, work: Work, reading: dict[str, str]) -> None:
    entry = (source(**reading), file_of(tmp_path / "a.jsonl", "\n".join(LINES)))

    assert cut_files(work, [entry], 10) == [entry]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv", "a.txt"])
def test_what_has_not_a_row_in_every_line_of_its_bytes_stays_whole(tmp_path: Path, work: Work, name: str) -> None:
    file = SourceFile(name=name, location=str(tmp_path / name), format=name.split(".")[1], size=10**9)
    unread = SourceFile(name="b.jsonl", location="b", format="jsonl", size=10**9, unread="link")
    files = [(source(), file), (source(), unread)]

    assert cut_files(work, files, 10) == files


def test_a_file_that_changes_while_its_chunks_are_read_is_refused(tmp_path: Path, work: Work) -> None:
    entry = (source(), file_of(tmp_path / "a.jsonl", "\n".join(LINES)))
    cut = cut_files(work, [entry], 40)
    (tmp_path / "a.jsonl").write_text("\n".join(LINES[::-1]))

    with pytest.raises(IntegrityError, match="was changed while it was being read"):
        read(cut)
