"""Machinery: rows of JSON, CSV, TSV and YAML, strictly: the first bad byte, line or row is named."""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

from pipeline.cards import Source
from pipeline.containers import Part
from pipeline.documents import TOO_LONG, Document
from pipeline.errors import DataError
from pipeline.streams import READ_BYTES

Row: TypeAlias = dict[str, Any]
Found: TypeAlias = "tuple[str, Row] | Document"
"""a place with its row, or a row that is left out as a document with the reason"""

EXCERPT = 200
"""characters kept of a row that is left out"""


class BadRow(DataError):
    """A row that cannot be used; `reason` says it without names and numbers, so that it can be counted."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def settle(source: Source, place: str, error: BadRow, excerpt: str) -> Document:
    """Raise a row's error or, if the source says `bad_rows: reject`, leave the row out for its reason."""
    if source.bad_rows == "error":
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


def _lines(part: Part, limit: int) -> Iterator[_Line]:
    """Yield the lines of a stream with their `\\n`, holding no more than `limit` bytes of one."""
    offset = number = 0
    readline = part.stream.readline
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


# --- JSON ----------------------------------------------------------------------------------------------------


class _NotStrict(ValueError):
    """What Python takes for JSON and the standard does not."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _NotStrict("a key stands twice in one object")
    return row


def _no_constants(name: str) -> NoReturn:
    raise _NotStrict(f"{name} is not JSON")


# Made once: `json.loads` with hooks would make one for every row, which takes longer than most rows.
_STRICT = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
_LENIENT = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _STRICT.scan_once  # type: ignore[attr-defined]  # not in typeshed


def _check_surrogates(value: Any, text: str, start: int = 0, end: int | None = None) -> None:
    """Raise UnicodeEncodeError when `value`, read from there, is no text for UTF-8: an escape may be half a pair."""
    if text.find("\\ud", start, end) >= 0 or text.find("\\uD", start, end) >= 0:
        json.dumps(value, ensure_ascii=False).encode("utf-8")


def jsonl_rows(source: Source, part: Part) -> Iterator[Found]:
    """Yield an object per line; lines end at `\\n` alone, and blank ones are no rows."""
    for line in _lines(part, source.max_document_bytes):
        place = f"{part.name}:{line.number}"
        if line.data is None:
            yield Document("", place, TOO_LONG)
            continue
        text = ""
        try:
            text = decode(line.data, place, offset=line.offset)
            if text and not text.isspace():
                yield place, _object(text, place)
        except BadRow as error:
            yield settle(source, place, error, text or line.data[: 4 * EXCERPT].decode("utf-8", "replace"))


def _object(text: str, place: str) -> Row:
    try:
        value = _value(text)
        _check_surrogates(value, text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{place} is not a JSON object: {error}", "not JSON") from error
    if not isinstance(value, dict):
        raise BadRow(f"{place} is not a JSON object but {type(value).__name__}.", "not a JSON object")
    return value


def _value(text: str) -> Any:
    """Read a line, the quick way if it starts and ends as nearly all do."""
    if text.startswith("{"):
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            return _STRICT.decode(text)  # says better what is wrong
        if text[end:].strip(" \t\r\n") == "":
            return value
    return _STRICT.decode(text)


def json_rows(source: Source, part: Part) -> Iterator[Found]:
    """Yield the objects of a list, or of an object of objects, holding one at a time; an empty file has none."""
    text = _Text(part, source.max_document_bytes)
    opening = text.peek()
    if not opening:
        return
    if opening not in "[{":
        raise DataError(f"{part.name} must hold a list of objects or an object of objects.")
    text.take(opening)
    closing = {"[": "]", "{": "}"}[opening]
    keys: set[str] = set()
    for number in itertools.count(1):
        if number == 1 and text.peek() == closing:
            text.take(closing)
            break
        yield _json_row(source, part, text, _key(text, keys) if opening == "{" else number)
        if text.take("," + closing) == closing:
            break
    if text.peek():
        raise text.bad("it goes on after its end")


def _json_row(source: Source, part: Part, text: "_Text", key: str | int) -> Found:
    place = f"{part.name}:{key}"
    try:
        row = text.value()
        if not isinstance(row, dict):
            message = f"{part.name}: entry {key!r} is {type(row).__name__}, not an object."
            raise BadRow(message, "not a JSON object")
    except _UnusedEntry as error:
        return settle(source, place, error, "")
    except BadRow as error:
        if error.reason == "not JSON":  # nothing says where the next entry starts
            raise
        return settle(source, place, error, "")
    return place, {"key": str(key), **row}


def _key(text: "_Text", seen: set[str]) -> str:
    key = text.value()
    if not isinstance(key, str):
        raise text.bad("a key must be a text")
    if key in seen:
        raise text.bad("a key stands twice in one object")
    seen.add(key)
    text.take(":")
    return key


class _UnusedEntry(BadRow):
    """An entry that is not strictly JSON, but whose end is known."""


class _Text:
    """The text of a JSON file, of which no more is held than the value at hand needs."""

    def __init__(self, part: Part, limit: int) -> None:
        self._chunks = utf8_chunks(part)
        self._name, self._limit = part.name, limit
        self._held, self._at, self._ended = "", 0, False

    def bad(self, why: str) -> BadRow:
        return BadRow(f"{self._name} is not JSON: {why}", "not JSON")

    def peek(self) -> str:
        """Return the next sign that is no white space; nothing at the end."""
        while True:
            self._at = _SPACE.match(self._held, self._at).end()  # type: ignore[union-attr]  # it always matches
            if self._at < len(self._held) or not self._more():
                return self._held[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Pass over the next sign, which must be one of those expected."""
        sign = self.peek()
        if not sign or sign not in expected:
            found = repr(sign) if sign else "the end"
            raise self.bad(f"{' or '.join(map(repr, expected))} should stand where {found} is")
        self._at += 1
        return sign

    def value(self) -> Any:
        """Read the value that comes next."""
        self.peek()
        while True:
            try:
                value, end = _STRICT.raw_decode(self._held, self._at)
            except _NotStrict as error:
                raise self._passed_over(str(error)) from error
            except (ValueError, RecursionError) as error:
                if self._is_hopeless(error) or not self._more():
                    raise self.bad(str(error)) from error
                continue
            if end == len(self._held) and self._more():  # a number may go on
                continue
            start, self._at = self._at, end
            try:
                _check_surrogates(value, self._held, start, end)
            except UnicodeEncodeError as error:
                raise _UnusedEntry(f"{self._name} is not JSON: {error}", "not JSON") from error
            return value

    def _more(self) -> bool:
        """Hold twice as much; tell whether there was any more."""
        pieces = [self._held[self._at :]]
        wanted = max(len(pieces[0]), 1)
        self._at = 0
        while wanted > 0 and not self._ended:
            pieces.append(next(self._chunks, ""))
            self._ended = not pieces[-1]
            wanted -= len(pieces[-1])
        self._held = "".join(pieces)
        return len(self._held) > len(pieces[0])

    def _is_hopeless(self, error: Exception) -> bool:
        """Tell whether a value that could not be read would not be better for more text."""
        if not isinstance(error, json.JSONDecodeError) or len(self._held) - self._at > self._limit:
            return True
        is_cut = error.msg.startswith("Unterminated string") or error.pos > len(self._held) - 20
        return not is_cut

    def _passed_over(self, why: str) -> BadRow:
        """Go on behind a value that only the strict reading refuses."""
        while True:
            try:
                _, self._at = _LENIENT.raw_decode(self._held, self._at)
                return _UnusedEntry(f"{self._name} is not JSON: {why}", "not JSON")
            except (ValueError, RecursionError) as error:
                if self._is_hopeless(error) or not self._more():
                    return self.bad(f"{why}; {error}")


_SPACE = re.compile(r"[ \t\r\n]*")


def utf8_chunks(part: Part) -> Iterator[str]:
    """Yield the text of a stream of strict UTF-8 in pieces, without its byte order mark."""
    rest, offset = b"", 0
    while True:
        read = part.stream.read(READ_BYTES)
        data = rest + read
        try:
            text, used = codecs.utf_8_decode(data, "strict", not read)
        except UnicodeDecodeError as error:
            raise bad_byte(part.name, offset + error.start, data[error.start]) from error
        if text:
            yield text.removeprefix("\ufeff") if offset == 0 else text
        if not read:
            return
        rest = data[used:]
        offset += used


# --- CSV and TSV ---------------------------------------------------------------------------------------------


def csv_rows(source: Source, part: Part) -> Iterator[Found]:
    """Yield a row per record; the first names the columns unless the source does."""
    tabs = part.format == "tsv"
    quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    records = _Records(source, part, has_quotes=not tabs)
    reader = csv.reader(records, delimiter="\t" if tabs else ",", quoting=quoting, strict=not tabs)
    csv.field_size_limit(2**31 - 1)
    columns = list(source.columns)
    while True:
        records.is_inside = False
        try:
            row = next(reader, None)
        except csv.Error as error:
            place = f"{part.name}:{records.number}"
            yield settle(source, place, BadRow(f"{place} is not {part.format}: {error}", f"not {part.format}"), "")
            continue
        yield from records.take_rejected()
        if row is None:
            return
        place = f"{part.name}:{records.number}"
        if not columns:
            columns = _checked_columns(row, place)
        elif row:
            yield _csv_row(source, row, columns, place)


def _checked_columns(columns: list[str], place: str) -> list[str]:
    if len(set(columns)) < len(columns):
        raise DataError(f"{place} names a column twice: {', '.join(columns)}.")
    return columns


def _csv_row(source: Source, row: list[str], columns: list[str], place: str) -> Found:
    if len(row) == len(columns):
        return place, dict(zip(columns, row, strict=True))
    expected = f"{len(columns)} are expected ({', '.join(columns)})"
    error = BadRow(f"{place} has {len(row)} fields where {expected}.", "another number of fields")
    return settle(source, place, error, ", ".join(row))


class _Records:
    """The lines that the csv module asks for; `is_inside` tells whether a record has begun."""

    def __init__(self, source: Source, part: Part, *, has_quotes: bool) -> None:
        self.number = 0
        self.is_inside = False
        self._source, self._part, self._has_quotes = source, part, has_quotes
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
        if self._size > self._source.max_document_bytes:
            raise DataError(
                f"{self._part.name}:{self.number} is in a row that is {TOO_LONG} "
                f"({self._source.max_document_bytes}); is a quotation mark open?"
            )
        return line

    def take_rejected(self) -> list[Document]:
        """Return the lines that were left out since last time."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def _read(self) -> Iterator[str]:
        for line in _lines(self._part, self._source.max_document_bytes):
            place = f"{self._part.name}:{self.number + 1}"
            if line.data is None:
                self._leave_out(Document("", place, TOO_LONG), line.quotes, place)
                continue
            try:
                text = decode(line.data, place, offset=line.offset)
            except BadRow as error:
                excerpt = line.data[: 4 * EXCERPT].decode("utf-8", "replace")
                self._leave_out(settle(self._source, place, error, excerpt), line.data.count(b'"'), place)
                continue
            # a file may end its lines with \r alone
            yield from io.StringIO(text, newline="") if "\r" in text[:-2] else (text,)

    def _leave_out(self, document: Document, quotes: int, place: str) -> None:
        if self._has_quotes and (quotes % 2 or self.is_inside):
            raise DataError(f"{place}: a line that cannot be used ({document.reason}) is part of a row of several.")
        self.number += 1
        self._rejected.append(document)


# --- YAML ----------------------------------------------------------------------------------------------------


def yaml_rows(source: Source, part: Part) -> Iterator[Found]:
    """Yield the first two utterances of each conversation; later ones are other answers or turns, as files differ."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        page = yaml.load(decode(read_whole(source, part), part.name), Loader=loader)  # noqa: S506  a safe loader in C
        conversations = list(enumerate(page["conversations"], 1))
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{part.name} is not a list of conversations in YAML: {error}") from error
    for number, turns in conversations:
        place = f"{part.name}:{number}"
        if isinstance(turns, list) and len(turns) >= 2:
            yield place, {"prompt": str(turns[0]), "reply": str(turns[1])}
            continue
        message = f"{part.name}: conversation {number} is not a list of at least two utterances: {turns!r}."
        yield settle(source, place, BadRow(message, "not a conversation"), str(turns))


def read_whole(source: Source, part: Part) -> bytes:
    """Return all bytes of a file whose format cannot be read in pieces.

    Raises DataError when they are more than a document may have.
    """
    data = part.stream.read(source.max_document_bytes + 1)
    if len(data) > source.max_document_bytes:
        raise DataError(
            f"{part.name} is {TOO_LONG} ({source.max_document_bytes}), and {part.format} is read as a whole. "
            "Set max_document_bytes higher in a card, or convert the file to jsonl."
        )
    return data


TEXT_READERS: dict[str, Callable[[Source, Part], Iterator[Found]]] = {
    "jsonl": jsonl_rows,
    "json": json_rows,
    "csv": csv_rows,
    "tsv": csv_rows,
    "yaml_conversations": yaml_rows,
}
