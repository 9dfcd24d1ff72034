"""Parquet and Arrow become rows; what is cut or damaged is noticed."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.readers import columnar_rows
from pipeline.readers.documents import documents_of, rows_of
from pipeline.sources.card import Source
from pipeline.sources.document import Document
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


def test_a_table_that_names_a_column_twice_is_bad_data(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)

    with pytest.raises(DataError, match=r"a\.arrow names a column twice: text, text"):
        found(source(), file_of(tmp_path / "a.arrow", (tmp_path / "a.arrow").read_bytes()))


def test_rows_are_the_same_in_batches_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [f"row {i}" for i in range(50)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    with pa.ipc.new_file(tmp_path / "b.arrow", table.schema) as writer:
        writer.write_table(table)
    monkeypatch.setattr(columnar_rows, "BATCH_ROWS", 7)

    for name in ("a.parquet", "b.arrow"):
        rows = list(rows_of(source(), file_of(tmp_path / name, (tmp_path / name).read_bytes())))
        assert rows == [(f"{name}:{i + 1}", {"text": f"row {i}"}) for i in range(50)]


def test_what_would_be_held_whole_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["x" * 5000]}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(data))
    packed = SourceFile(name="a.parquet.gz", location=str(tmp_path / "a.parquet.gz"), format="parquet", size=len(data))

    assert len(found(source(), packed)) == 1
    monkeypatch.setattr(columnar_rows, "MAX_PACKED_PARQUET_BYTES", 50)
    with pytest.raises(DataError, match="is Parquet of more than 50 bytes inside a container"):
        found(source(), packed)
    monkeypatch.setattr(columnar_rows, "MAX_ROW_GROUP_BYTES", 50)
    with pytest.raises(DataError, match=r"a\.parquet has a row group of \d+ bytes, more than 50"):
        found(source(), file_of(tmp_path / "a.parquet", data))


# --- labels --------------------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder with one data set as `datasets` writes it: to Parquet, and to disk as an Arrow stream."""
    from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars

    disable_progress_bars()
    label = ClassLabel(names=["no", "yes"])
    features = Features({"text": Value("string"), "label": label, "tags": List(label), "n": Value("int64")})
    columns = {"text": ["a", "b", "c", "d"], "label": [1, 0, -1, None], "tags": [[0], [], [1], []], "n": [1, 1, 1, 1]}
    rows = Dataset.from_dict(columns, features=features)
    rows.to_parquet(tmp_path / "set.parquet")
    rows.save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "data-00000-of-00001.arrow").rename(tmp_path / "set.arrow")
    return tmp_path


@pytest.mark.parametrize("name", ["set.parquet", "set.arrow"])
def test_a_label_comes_by_its_name_and_one_without_a_name_is_none(named: Path, name: str) -> None:
    file = file_of(named / name, (named / name).read_bytes())

    rows = [row for _, row in rows_of(source(), file) if not isinstance(row, Document)]  # type: ignore[misc]

    assert [row["label"] for row in rows] == ["yes", "no", None, None]
    assert [(row["tags"], row["n"]) for row in rows] == [([0], 1), ([], 1), ([1], 1), ([], 1)]
    assert [text for _, text, _ in found(source(text="{text} {label}"), file)] == ["a yes", "b no", "", ""]


@pytest.mark.parametrize("page", ["no JSON", "[]", '{"info": {"features": {"text": {"_type": "ClassLabel"}}}}'])
def test_features_that_datasets_did_not_write_are_bad_data(tmp_path: Path, page: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": ["a"]}).replace_schema_metadata({"huggingface": page})
    pq.write_table(table, tmp_path / "a.parquet")

    with pytest.raises(DataError, match=r"a\.parquet says its features in metadata that `datasets` did not write"):
        found(source(), file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes()))
