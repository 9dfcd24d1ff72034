"""Machinery: rows of Parquet and Arrow files, a batch at a time; a label that has a name comes by its name."""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from pipeline.errors import DataError
from pipeline.readers.text_rows import BadRow, Found, Row, reject_or_raise
from pipeline.sources.archives import OpenedFile
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import Stream

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 1024
BATCH_BYTES = 2**24
"""bytes of text in one batch of rows, about"""
MAX_PACKED_PARQUET_BYTES = 2**30
"""Parquet is read from its end, so one inside a container is held whole, up to this"""
MAX_ROW_GROUP_BYTES = 2**32
"""a row group of Parquet is held whole; the libraries' own are a hundredth of this"""
Labels: TypeAlias = Mapping[str, Mapping[object, str]]
"""the name of each number, by column"""
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def parquet_rows(reading: ReadingOptions, opened: OpenedFile, columns: Collection[str] = ()) -> Iterator[Found]:
    """Yield the rows, of all columns or those of `columns` that there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        where = str(opened.path) if opened.path else pa.BufferReader(_packed_parquet(opened))
        with pq.ParquetFile(where, page_checksum_verification=True, pre_buffer=False) as table:
            names = _chosen(table.schema_arrow.names, columns, opened.name)
            batches = table.iter_batches(_batch_rows(table.metadata, opened.name), columns=names, use_threads=False)
            yield from _rows(reading, opened, batches, _label_names(table.schema_arrow, opened.name))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{opened.name} is not Parquet: {error}") from error


def _packed_parquet(opened: OpenedFile) -> bytes:
    data: bytes = opened.stream.read(MAX_PACKED_PARQUET_BYTES + 1)
    if len(data) > MAX_PACKED_PARQUET_BYTES:
        raise DataError(
            f"{opened.name} is Parquet of more than {MAX_PACKED_PARQUET_BYTES} bytes inside a container, where it can "
            "only be read whole. Unpack it: Parquet is compressed already."
        )
    return data


def _batch_rows(metadata: "pq.FileMetaData", name: str) -> int:
    """Return how many rows fill a batch; DataError for a row group that is too large to be held."""
    sizes = [
        (metadata.row_group(i).total_byte_size, metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)
    ]
    size, rows = max(sizes, default=(0, 0))
    if size > MAX_ROW_GROUP_BYTES:
        raise DataError(
            f"{name} has a row group of {size} bytes, more than {MAX_ROW_GROUP_BYTES}, which would be held whole. "
            "Write it again with smaller row groups."
        )
    return max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, rows) // max(1, size)))


def arrow_rows(reading: ReadingOptions, opened: OpenedFile, columns: Collection[str] = ()) -> Iterator[Found]:
    """Yield the rows of an Arrow IPC file or stream; the file format is a stream between two marks.

    Raises DataError for a stream without its end mark: pyarrow reads one that was cut between batches as if whole.
    """
    import pyarrow as pa

    stream = _Tail(opened.stream)
    if opened.stream.peek(8)[:8] == b"ARROW1\0\0":
        stream.read(8)
    elif not opened.stream.peek(1):
        raise DataError(f"{opened.name} is not Arrow: it is empty.")
    try:
        with pa.ipc.open_stream(pa.PythonFile(stream, mode="r")) as reader:
            names = _chosen(reader.schema.names, columns, opened.name)
            labels = _label_names(reader.schema, opened.name)
            yield from _rows(reading, opened, _small_batches(reader, names), labels)
    except (pa.ArrowException, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{opened.name} is not Arrow: {error}") from error
    if stream.tail != _END_OF_STREAM:
        raise DataError(f"{opened.name} ends without the mark that ends an Arrow stream: it was cut. Get it again.")


class _Tail(Stream):
    """A stream that remembers its last eight bytes."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int | None = -1) -> bytes:
        data = self._stream.read(size)
        self.tail = (self.tail + data[-8:])[-8:]
        return data


def _small_batches(reader: "pa.RecordBatchReader", names: list[str]) -> Iterator["pa.RecordBatch"]:
    for batch in reader:
        chosen = batch.select(names)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, batch.num_rows) // max(1, chosen.nbytes)))
        for start in range(0, batch.num_rows, rows):
            yield chosen.slice(start, rows)


def _chosen(names: list[str], columns: Collection[str], where: str) -> list[str]:
    if len(set(names)) < len(names):
        raise DataError(f"{where} names a column twice: {', '.join(names)}.")
    chosen = [name for name in names if name in columns]
    return chosen if len(chosen) == len(set(columns)) and chosen else names


def _label_names(schema: "pa.Schema", where: str) -> Labels:
    """Return the names that `datasets` keeps in a schema for the numbers of a column of labels."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        labels = {name: of for name, of in features.items() if isinstance(of, dict) and of.get("_type") == "ClassLabel"}
        return {name: dict(enumerate(of["names"])) for name, of in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} says its features in metadata that `datasets` did not write: {error!r}.") from error


def _named(row: Row, labels: Labels) -> Row:
    """Put names in the place of numbers; one without a name (`datasets` writes -1) stands for no label."""
    return {**row, **{name: names.get(row[name]) for name, names in labels.items() if name in row}}


def _rows(
    reading: ReadingOptions,
    opened: OpenedFile,
    batches: Iterator["pa.RecordBatch"],
    labels: Labels,
) -> Iterator[Found]:
    number = 0
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:  # somewhere in this batch
            rows = [_row_or_error(batch.slice(i, 1), f"{opened.name}:{number + i + 1}") for i in range(batch.num_rows)]
        for row in rows:
            number += 1
            place = f"{opened.name}:{number}"
            if isinstance(row, BadRow):
                yield reject_or_raise(reading, place, row, "")
            else:
                yield place, _named(row, labels) if labels else row


def _row_or_error(batch: "pa.RecordBatch", place: str) -> Row | BadRow:
    try:
        row: Row = batch.to_pylist()[0]
        return row
    except UnicodeDecodeError as error:
        return BadRow(f"{place} holds text that is not UTF-8: {error}", "bad UTF-8")
