"""Parquet and Arrow become rows; what is cut or damaged is noticed."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.readers.documents import documents_of, rows_of
from pipeline.sources.card import Source
from pipeline.sources.formats import FORMATS
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile


def file_of(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(name=path.name, location=str(path), format=FORMATS[path.suffix], size=path.stat().st_size)


def source(*, without: Any = None, exclude: tuple[str, ...] = (), **reading: Any) -> Source:
    options = ReadingOptions(**reading)
    return Source(name="test", location="x", sha256="x", reading=options, without=without or {}, exclude=exclude)


def found(about: Source, file: SourceFile) -> list[tuple[str, str, str]]:
    return [(d.place, d.text, d.reason) for d in documents_of(about, file, block_bytes=4096)]


def test_of_a_table_only_the_columns_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.readers import documents as readers_module

    seen: list[Any] = []
    monkeypatch.setattr(readers_module, "render", lambda template, row: seen.append(row) or row["b"])
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": ["p", "q"]})
    pq.write_table(table, tmp_path / "a.parquet")
    file = file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())

    assert [t for _, t, _ in found(source(text="{b}!", without={"c": ("q",)}), file)] == ["x", ""]
    assert seen == [{"b": "x", "c": "p"}]
    assert [row for _, row in rows_of(source(), file)] == table.to_pylist()


def test_an_arrow_stream_that_was_cut_between_two_batches_is_not_taken_for_whole(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"text": [f"row {i}" for i in range(100)]})
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    data = (tmp_path / "a.arrow").read_bytes()

    for end in (len(data) - 8, len(data) - 1, len(data) // 2, 3):
        with pytest.raises(DataError, match=r"a\.arrow (ends without the mark|is not Arrow)"):
            found(source(), file_of(tmp_path / "a.arrow", data[:end]))
    assert len(found(source(), file_of(tmp_path / "a.arrow", data))) == 100


def test_a_page_of_parquet_with_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": ["needle in a haystack"]})
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, tmp_path / "a.parquet", write_page_checksum=True, **options)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[data.index(b"needle")] ^= 1

    with pytest.raises(DataError, match=r"a\.parquet is not Parquet: .*CRC"):
        found(source(), file_of(tmp_path / "a.parquet", bytes(data)))


def test_bytes_and_broken_text_in_a_table_are_bad_data(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff"]).buffers())
    columns = ((pa.array([b"x"]), "holds bytes, not text"), (broken, r"a\.parquet:2 holds text that is not UTF-8"))
    for column, sentence in columns:
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        file = file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
        with pytest.raises(DataError, match=sentence):
            found(source(), file)
    assert [reason for _, _, reason in found(source(bad_rows="reject"), file)] == ["", "bad UTF-8"]
