"""Machinery: rows of JSON and of lines of JSON, strictly, a row at a time."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import NoReturn

import orjson

from pipeline.errors import DataError
from pipeline.readers.text_rows import BadRow, Found, Row, decode, lines_of, reject_or_raise, utf8_chunks
from pipeline.sources.archives import OpenedFile
from pipeline.sources.document import TOO_LONG, Document
from pipeline.sources.reading_options import ReadingOptions
from pipeline.tables.rejects import EXCERPT


class _NotStrict(ValueError):
    """What Python takes for JSON and the standard does not."""


def _no_duplicates(pairs: list[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _NotStrict("a key stands twice in one object")
    return row


def _no_constants(name: str) -> NoReturn:
    raise _NotStrict(f"{name} is not JSON")


# Made once: `json.loads` with hooks would make one for every row, which takes longer than most rows.
_STRICT = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
_LENIENT = json.JSONDecoder()
_scan: Callable[[str, int], tuple[object, int]] = _STRICT.scan_once  # type: ignore[attr-defined]  # not in typeshed


def _check_surrogates(value: object, text: str, start: int = 0, end: int | None = None) -> None:
    """Raise UnicodeEncodeError when `value`, read from there, is no text for UTF-8: an escape may be half a pair."""
    if text.find("\\ud", start, end) >= 0 or text.find("\\uD", start, end) >= 0:
        json.dumps(value, ensure_ascii=False).encode("utf-8")


def jsonl_rows(reading: ReadingOptions, opened: OpenedFile) -> Iterator[Found]:
    """Yield an object per line; lines end at `\\n` alone, and blank ones are no rows."""
    for line in lines_of(opened, reading.max_document_bytes):
        place = f"{opened.name}:{line.number}"
        if line.data is None:
            yield Document("", place, TOO_LONG)
            continue
        if (row := read_plain(line.data)) is not None:
            yield place, row
            continue
        text = ""
        try:
            text = decode(line.data, place, offset=line.offset)
            if text and not text.isspace():
                yield place, _object(text, place)
        except BadRow as error:
            yield reject_or_raise(reading, place, error, text or line.data[: 4 * EXCERPT].decode("utf-8", "replace"))


def read_plain(data: bytes) -> Row | None:
    """Read an object whose values are all texts, as nearly all rows are, several times quicker.

    None: it is something else, or it may be wrong, and only the strict reader can tell.  orjson takes a key that stands
    twice: then there are more quotation marks than the four of each entry and those within the texts, unless some of
    these are written in another way.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(value) is not dict or not all(type(entry) is str for entry in value.values()):
        return None
    within = sum(text.count('"') for entry in value.items() for text in entry)
    if data.count(b'"') != 4 * len(value) + within or (within and b"\\u0022" in data):
        return None
    return value


def _object(text: str, place: str) -> Row:
    try:
        value = _value(text)
        _check_surrogates(value, text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{place} is not a JSON object: {error}", "not JSON") from error
    if not isinstance(value, dict):
        raise BadRow(f"{place} is not a JSON object but {type(value).__name__}.", "not a JSON object")
    return value


def _value(text: str) -> object:
    """Read a line, the quick way if it starts and ends as nearly all do."""
    if text.startswith("{"):
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            return _STRICT.decode(text)  # says better what is wrong
        if text[end:].strip(" \t\r\n") == "":
            return value
    return _STRICT.decode(text)


def json_rows(reading: ReadingOptions, opened: OpenedFile) -> Iterator[Found]:
    """Yield the objects of a list, or of an object of objects, holding one at a time; an empty file has none."""
    text = _Text(opened, reading.max_document_bytes)
    opening = text.peek()
    if not opening:
        return
    if opening not in "[{":
        raise DataError(f"{opened.name} must hold a list of objects or an object of objects.")
    text.take(opening)
    closing = {"[": "]", "{": "}"}[opening]
    keys: set[str] = set()
    for number in itertools.count(1):
        if number == 1 and text.peek() == closing:
            text.take(closing)
            break
        yield _json_row(reading, opened, text, _key(text, keys) if opening == "{" else number)
        if text.take("," + closing) == closing:
            break
    if text.peek():
        raise text.bad("it goes on after its end")


def _json_row(reading: ReadingOptions, opened: OpenedFile, text: "_Text", key: str | int) -> Found:
    place = f"{opened.name}:{key}"
    try:
        row = text.value()
        if not isinstance(row, dict):
            message = f"{opened.name}: entry {key!r} is {type(row).__name__}, not an object."
            raise BadRow(message, "not a JSON object")
    except _UnusedEntry as error:
        return reject_or_raise(reading, place, error, "")
    except BadRow as error:
        if error.reason == "not JSON":  # nothing says where the next entry starts
            raise
        return reject_or_raise(reading, place, error, "")
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

    def __init__(self, opened: OpenedFile, limit: int) -> None:
        self._chunks = utf8_chunks(opened)
        self._name, self._limit = opened.name, limit
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

    def value(self) -> object:
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
        chunks = [self._held[self._at :]]
        wanted = max(len(chunks[0]), 1)
        self._at = 0
        while wanted > 0 and not self._ended:
            chunks.append(next(self._chunks, ""))
            self._ended = not chunks[-1]
            wanted -= len(chunks[-1])
        self._held = "".join(chunks)
        return len(self._held) > len(chunks[0])

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
