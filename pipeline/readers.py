"""Machinery: bytes become rows and documents, strictly: the first bad byte, line or row is named."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.cards import LEFT_OUT, Source
from pipeline.errors import CairnError, ConfigError, DataError
from pipeline.sources import SourceFile
from pipeline.templates import fields_of, render

Row = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """A piece of text and where it came from; without text it was empty, or is left out for a reason."""

    text: str
    place: str
    reason: str = ""


# --- text ----------------------------------------------------------------------------------------------------

_OTHER_ENCODINGS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a zip archive",
}


def decode(data: bytes, where: str, *, offset: int = 0) -> str:
    """Decode strict UTF-8, dropping a byte order mark; `offset` is where `data` starts in its file.

    Raises DataError naming the file and the offset of the first bad byte.
    """
    try:
        return data.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        kind = next((name for magic, name in _OTHER_ENCODINGS.items() if offset == 0 and data.startswith(magic)), None)
        at = offset + error.start + (3 if offset == 0 and data.startswith(b"\xef\xbb\xbf") else 0)
        what = f" It looks like {kind}." if kind else ""
        raise DataError(
            f"{where}: byte {at} (0x{error.object[error.start]:02x}) is not UTF-8.{what} "
            "Convert the file to UTF-8 text, or take it out of the source."
        ) from error


def normalize(text: str) -> str:
    """Bring text to Unicode NFC and `\\n` line ends."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def blocks_of(text: str, block_bytes: int) -> Iterator[str]:
    """Cut text at blank lines into blocks of about `block_bytes` bytes; if there are none, at line ends or spaces."""
    block: list[str] = []
    size = 0
    for piece in _pieces(text, "\n\n", block_bytes):
        block.append(piece)
        size += len(piece.encode("utf-8"))
        if size >= block_bytes:
            yield "".join(block)
            block, size = [], 0
    if block:
        yield "".join(block)


def _pieces(text: str, separator: str, limit: int) -> Iterator[str]:
    """Split after `separator`, and what is still far too long at the next finer one."""
    finer = {"\n\n": "\n", "\n": " "}.get(separator)
    parts = text.split(separator)
    for i, part in enumerate(parts):
        piece = part + (separator if i + 1 < len(parts) else "")
        if finer and len(piece) > 2 * limit:
            yield from _pieces(piece, finer, limit)
        else:
            yield piece


# --- rows ----------------------------------------------------------------------------------------------------


def rows_of(source: Source, file: SourceFile) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) for every row of a tabular file.

    Raises DataError naming file and line for what is not a row.
    """
    reader = _ROW_READERS.get(file.format)
    if reader is None:
        raise ConfigError(
            f"source {source.name}: {file.name} is {file.format or 'of no known format'}, which has no rows."
        )
    return reader(source, file)


def _jsonl(source: Source, file: SourceFile) -> Iterator[tuple[str, Row]]:
    offset = 0
    for number, line in enumerate(io.BytesIO(file.read_bytes()), 1):
        place = f"{file.name}:{number}"
        text = decode(line, place, offset=offset)
        offset += len(line)
        if text.strip():
            yield place, _object(text, place)


def _object(text: str, place: str) -> Row:
    try:
        value = _strict_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{place} is not a JSON object but {type(value).__name__}.")
    return value


def _strict_json(text: str) -> Any:
    """Read JSON in which no key stands twice and no number is NaN, and whose texts can be written as UTF-8."""
    value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    if "\\ud" in text.lower():  # an escape may be half of a pair of surrogates
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return row


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _json(source: Source, file: SourceFile) -> Iterator[tuple[str, Row]]:
    text = decode(file.read_bytes(), file.name)
    try:
        value = _strict_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} is not JSON: {error}") from error
    items = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else None
    if items is None:
        raise DataError(f"{file.name} must hold a list of objects or an object of objects.")
    for key, row in items:
        if not isinstance(row, dict):
            raise DataError(f"{file.name}: entry {key!r} is {type(row).__name__}, not an object.")
        yield f"{file.name}:{key}", {"key": str(key), **row}


def _csv(source: Source, file: SourceFile) -> Iterator[tuple[str, Row]]:
    text = decode(file.read_bytes(), file.name)
    tabs = file.format == "tsv"
    quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", quoting=quoting, strict=not tabs
    )
    csv.field_size_limit(2**31 - 1)
    columns = list(source.columns)
    try:
        for row in reader:
            if not columns:
                columns = row
                if len(set(columns)) < len(columns):
                    raise DataError(f"{file.name}:{reader.line_num} names a column twice: {', '.join(columns)}.")
            elif row:
                yield _csv_row(row, columns, f"{file.name}:{reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{file.name}:{reader.line_num} is not {file.format}: {error}") from error


def _csv_row(row: list[str], columns: list[str], place: str) -> tuple[str, Row]:
    if len(row) != len(columns):
        raise DataError(f"{place} has {len(row)} fields where {len(columns)} are expected ({', '.join(columns)}).")
    return place, dict(zip(columns, row, strict=True))


def _parquet(source: Source, file: SourceFile) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(file.read_bytes()))
        number = 0
        for batch in table.iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{file.name}:{number}", row
    except pa.ArrowException as error:
        raise DataError(f"{file.name} is not Parquet: {error}") from error


def _yaml_conversations(source: Source, file: SourceFile) -> Iterator[tuple[str, Row]]:
    """Yield the first two utterances of each conversation; later ones are other answers or turns, as files differ."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        page = yaml.load(decode(file.read_bytes(), file.name), Loader=loader)  # noqa: S506  a safe loader in C
        conversations = list(enumerate(page["conversations"], 1))
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{file.name} is not a list of conversations in YAML: {error}") from error
    for number, turns in conversations:
        if not isinstance(turns, list) or len(turns) < 2:
            raise DataError(f"{file.name}: conversation {number} is not a list of at least two utterances: {turns!r}.")
        yield f"{file.name}:{number}", {"prompt": str(turns[0]), "reply": str(turns[1])}


_ROW_READERS: dict[str, Callable[[Source, SourceFile], Iterator[tuple[str, Row]]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "tsv": _csv,
    "parquet": _parquet,
    "yaml_conversations": _yaml_conversations,
}


# --- documents -----------------------------------------------------------------------------------------------


def documents_of(source: Source, file: SourceFile, *, block_bytes: int) -> Iterator[Document]:
    """Yield the documents of a file, normalised; those of a source of blocks cut to about `block_bytes`."""
    for document in _whole_documents(source, file):
        text = normalize(document.text)
        if source.documents != "blocks":
            yield replace(document, text=text.strip("\n"))
            continue
        for number, block in enumerate(blocks_of(text, block_bytes), 1):
            yield Document(block.strip("\n"), f"{document.place}#{number}")


def _whole_documents(source: Source, file: SourceFile) -> Iterator[Document]:
    if file.format != "txt":
        for place, row in rows_of(source, file):
            left_out = source.leaves_out(row)
            yield Document("", place, LEFT_OUT) if left_out else Document(_text_of_row(source, row, place), place)
        return
    text = decode(file.read_bytes(), file.name)
    if source.documents == "rows":
        raise ConfigError(
            f"source {source.name}: {file.name} is plain text and has no rows; use file, blocks or separator."
        )
    if source.documents == "separator":
        for number, part in enumerate(text.split(source.separator), 1):
            yield Document(part, f"{file.name}#{number}")
    else:
        yield Document(text, file.name)


def _text_of_row(source: Source, row: Row, place: str) -> str:
    try:
        return render(source.text, row) or ""
    except CairnError as error:
        raise DataError(
            f"source {source.name}, {place}: {error} The text is made of {', '.join(fields_of(source.text))}; "
            f'set it with a template such as --text "{{{next(iter(row), "title")}}}".'
        ) from error
