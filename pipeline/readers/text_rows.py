"""Machinery: rows of text: lines of strict UTF-8, CSV, TSV and YAML; the first bad byte, line or row is named."""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from pipeline.errors import DataError
from pipeline.sources.archives import OpenedFile
from pipeline.sources.document import TOO_LONG, Document
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import READ_BYTES
from pipeline.tables.rejects import EXCERPT

Row: TypeAlias = Mapping[str, object]
Found: TypeAlias = "tuple[str, Row] | Document"
"""a place with its row, or a row that is left out as a document with the reason"""


class BadRow(DataError):
    """A row that cannot be used; `reason` says it without names and numbers, so that it can be counted."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def reject_or_raise(reading: ReadingOptions, place: str, error: BadRow, excerpt: str) -> Document:
    """Raise a row's error or, where `bad_rows` is reject, return the row as one that is left out for that reason."""
    if reading.bad_rows == "error":
        raise error
    return Document(excerpt[:EXCERPT], place, error.reason)


# --- text ----------------------------------------------------------------------------------------------------


def decode(data: bytes, where: str, *, offset: int = 0) -> str:
    """Decode strict UTF-8, dropping a byte order mark; `offset` is where `data` starts in its file.

    Raises DataError naming the file and the offset of the first bad byte.
    """
    try:
        return data.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start + (3 if offset == 0 and data.startswith(b"\xef\xbb\xbf") else 0)
        raise bad_byte(where, at, error.object[error.start]) from error


def bad_byte(where: str, at: int, byte: int) -> BadRow:
    """Say which byte is not UTF-8."""
    return BadRow(
        f"{where}: byte {at} (0x{byte:02x}) is not UTF-8. Convert the file to UTF-8 text, name its encoding in a card "
        "(encoding: latin-1, for example), or take it out of the source.",
        "bad UTF-8",
    )


class _Line(NamedTuple):
    number: int
    offset: int
    data: bytes | None
    """None for a line that is too long to be held"""
    quotes: int = 0
    """quotation marks in such a line"""


def lines_of(opened: OpenedFile, limit: int) -> Iterator[_Line]:
    """Yield the lines of a stream with their `\\n`, holding no more than `limit` bytes of one."""
    offset, number = opened.offset, opened.line
    readline = opened.stream.readline
    while data := readline(limit + 1):
        number += 1
        if len(data) <= limit or data.endswith(b"\n"):
            yield _Line(number, offset, data)
            offset += len(data)
            continue
        start, quotes = offset, 0
        while data:
            offset += len(data)
            quotes += data.count(b'"')
            data = b"" if data.endswith(b"\n") else readline(READ_BYTES)
        yield _Line(number, start, None, quotes)


def utf8_chunks(opened: OpenedFile) -> Iterator[str]:
    """Yield the text of a stream of strict UTF-8 in chunks, without its byte order mark."""
    rest, offset = b"", 0
    while True:
        read = opened.stream.read(READ_BYTES)
        data = rest + read
        try:
            text, used = codecs.utf_8_decode(data, "strict", not read)
        except UnicodeDecodeError as error:
            raise bad_byte(opened.name, offset + error.start, data[error.start]) from error
        if text:
            yield text.removeprefix("\ufeff") if offset == 0 else text
        if not read:
            return
        rest = data[used:]
        offset += used


# --- CSV and TSV ---------------------------------------------------------------------------------------------


def csv_rows(reading: ReadingOptions, opened: OpenedFile) -> Iterator[Found]:
    """Yield a row per record; the first names the columns unless the source does."""
    tabs = opened.format == "tsv"
    quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    records = _Records(reading, opened, has_quotes=not tabs)
    reader = csv.reader(records, delimiter="\t" if tabs else ",", quoting=quoting, strict=not tabs)
    csv.field_size_limit(2**31 - 1)
    columns = list(reading.columns)
    while True:
        records.is_inside = False
        try:
            row = next(reader, None)
        except csv.Error as error:
            place = f"{opened.name}:{records.number}"
            bad = BadRow(f"{place} is not {opened.format}: {error}", f"not {opened.format}")
            yield reject_or_raise(reading, place, bad, "")
            continue
        yield from records.take_rejected()
        if row is None:
            return
        place = f"{opened.name}:{records.number}"
        if not columns:
            columns = _checked_columns(row, place)
        elif row:
            yield _csv_row(reading, row, columns, place)


def _checked_columns(columns: list[str], place: str) -> list[str]:
    if len(set(columns)) < len(columns):
        raise DataError(f"{place} names a column twice: {', '.join(columns)}.")
    return columns


def _csv_row(reading: ReadingOptions, row: list[str], columns: list[str], place: str) -> Found:
    if len(row) == len(columns):
        return place, dict(zip(columns, row, strict=True))
    expected = f"{len(columns)} are expected ({', '.join(columns)})"
    error = BadRow(f"{place} has {len(row)} fields where {expected}.", "another number of fields")
    return reject_or_raise(reading, place, error, ", ".join(row))


class _Records:
    """The lines that the csv module asks for; `is_inside` tells whether a record has begun."""

    def __init__(self, reading: ReadingOptions, opened: OpenedFile, *, has_quotes: bool) -> None:
        self.number = 0
        self.is_inside = False
        self._reading, self._opened, self._has_quotes = reading, opened, has_quotes
        self._size = 0
        self._lines = self._read()
        self._rejected: list[Document] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._size = len(line) + (self._size if self.is_inside else 0)
        self.is_inside = True
        if self._size > self._reading.max_document_bytes:
            raise DataError(
                f"{self._opened.name}:{self.number} is in a row that is {TOO_LONG} "
                f"({self._reading.max_document_bytes}); is a quotation mark open?"
            )
        return line

    def take_rejected(self) -> list[Document]:
        """Return the lines that were left out since last time."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def _read(self) -> Iterator[str]:
        for line in lines_of(self._opened, self._reading.max_document_bytes):
            place = f"{self._opened.name}:{self.number + 1}"
            if line.data is None:
                self._leave_out(Document("", place, TOO_LONG), line.quotes, place)
                continue
            try:
                text = decode(line.data, place, offset=line.offset)
            except BadRow as error:
                excerpt = line.data[: 4 * EXCERPT].decode("utf-8", "replace")
                self._leave_out(reject_or_raise(self._reading, place, error, excerpt), line.data.count(b'"'), place)
                continue
            # a file may end its lines with \r alone
            yield from io.StringIO(text, newline="") if "\r" in text[:-2] else (text,)

    def _leave_out(self, document: Document, quotes: int, place: str) -> None:
        if self._has_quotes and (quotes % 2 or self.is_inside):
            raise DataError(f"{place}: a line that cannot be used ({document.reason}) is part of a row of several.")
        self.number += 1
        self._rejected.append(document)


# --- YAML ----------------------------------------------------------------------------------------------------


def yaml_rows(reading: ReadingOptions, opened: OpenedFile) -> Iterator[Found]:
    """Yield the first two utterances of each conversation; later ones are other answers or turns, as files differ."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        page = yaml.load(decode(read_whole(reading, opened), opened.name), Loader=loader)  # noqa: S506  a safe loader in C
        conversations = list(enumerate(page["conversations"], 1))
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{opened.name} is not a list of conversations in YAML: {error}") from error
    for number, turns in conversations:
        place = f"{opened.name}:{number}"
        if isinstance(turns, list) and len(turns) >= 2:
            yield place, {"prompt": str(turns[0]), "reply": str(turns[1])}
            continue
        message = f"{opened.name}: conversation {number} is not a list of at least two utterances: {turns!r}."
        yield reject_or_raise(reading, place, BadRow(message, "not a conversation"), str(turns))


def read_whole(reading: ReadingOptions, opened: OpenedFile) -> bytes:
    """Return all bytes of a file whose format cannot be read in chunks.

    Raises DataError when they are more than a document may have.
    """
    data = opened.stream.read(reading.max_document_bytes + 1)
    if len(data) > reading.max_document_bytes:
        raise DataError(
            f"{opened.name} is {TOO_LONG} ({reading.max_document_bytes}), and {opened.format} is read as a whole. "
            "Set max_document_bytes higher in a card, or convert the file to jsonl."
        )
    return data
