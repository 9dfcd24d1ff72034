"""Machinery: the files of a source become rows and documents, as its card says."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator

from pipeline.errors import CairnError, ConfigError, DataError, UnavailableError
from pipeline.readers.columnar_rows import arrow_rows, parquet_rows
from pipeline.readers.json_rows import json_rows, jsonl_rows
from pipeline.readers.segmentation import blocks_of, paragraphs_of, sections_of, split_text
from pipeline.readers.text_rows import (
    BadRow,
    Found,
    Row,
    csv_rows,
    decode,
    read_whole,
    reject_or_raise,
    utf8_chunks,
    yaml_rows,
)
from pipeline.sources.archives import OpenedFile, opened_files
from pipeline.sources.card import LEFT_OUT, Source
from pipeline.sources.document import TOO_LONG, Document, is_longer, utf8_size
from pipeline.sources.formats import TEXTS
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile
from pipeline.sources.templates import fields_of, render

_TEXT_READERS: dict[str, Callable[[ReadingOptions, OpenedFile], Iterator[Found]]] = {
    "jsonl": jsonl_rows,
    "json": json_rows,
    "csv": csv_rows,
    "tsv": csv_rows,
    "yaml_conversations": yaml_rows,
}


# --- rows ----------------------------------------------------------------------------------------------------


def rows_of(source: Source, file: SourceFile) -> Iterator[Found]:
    """Yield (place, row) for every row of a tabular file; what is left out is a document with a reason.

    Raises DataError naming file and line for what is not a row, unless the source says `bad_rows: reject`.
    """
    for opened in opened_files(source, file):
        if isinstance(opened, Document):
            yield opened
        else:
            yield from _rows_in(source, opened, ())


def _rows_in(source: Source, opened: OpenedFile, columns: Iterable[str]) -> Iterator[Found]:
    if opened.format in ("parquet", "arrow"):
        return (parquet_rows if opened.format == "parquet" else arrow_rows)(source.reading, opened, tuple(columns))
    reader = _TEXT_READERS.get(opened.format)
    if reader is None:
        raise ConfigError(
            f"source {source.name}: {opened.name} is {opened.format or 'of no known format'}, which has no rows."
        )
    return reader(source.reading, opened)


# --- documents -----------------------------------------------------------------------------------------------


def documents_of(source: Source, file: SourceFile, *, block_bytes: int, cut_texts: bool = False) -> Iterator[Document]:
    """Yield the documents of a file; those of a source of blocks cut to about `block_bytes`.

    With `cut_texts` text is cut into blocks too where the source leaves the choice; a row is a document always.

    What is left out is a document with a reason, so that all that was found is accounted for.  A file is read as a
    stream; the memory needed is a small multiple of the source's `max_document_bytes`.
    """
    for opened in opened_files(source, file):
        if isinstance(opened, Document):
            yield opened
            continue
        if opened.format in TEXTS:
            documents = _documents_of_text(source, opened, block_bytes, cut_texts)
        else:
            documents = _documents_of_rows(source, opened, block_bytes)
        if source.reading.errors == "replace":
            yield from _with_replaced(opened, documents)
        else:
            yield from documents


def may_be_cut(source: Source, file: SourceFile) -> bool:
    """Tell whether it was left open how (some of) a file becomes documents: it is text, or an archive."""
    return source.reading.documents == "auto" and not file.unread and file.format in (*TEXTS, "")


def _with_replaced(opened: OpenedFile, documents: Iterator[Document]) -> Iterator[Document]:
    """Count on each document what was replaced while it was read; the last one gets what came after it."""
    told = 0
    held: Document | None = None
    for document in documents:
        if held:
            yield held
        held = document._replace(replaced=opened.replaced - told)
        told = opened.replaced
    if held:
        yield held._replace(replaced=held.replaced + opened.replaced - told)


# --- documents of text ---------------------------------------------------------------------------------------


def _documents_of_text(source: Source, opened: OpenedFile, block_bytes: int, cut_texts: bool) -> Iterator[Document]:
    reading = source.reading
    way = "blocks" if cut_texts and reading.documents == "auto" else reading.documents
    if way == "rows":
        raise ConfigError(
            f"source {source.name}: {opened.name} is plain text and has no rows; use file, blocks, paragraphs, "
            "sections or separator."
        )
    chunks = _unix_line_ends(_text_of_html(reading, opened) if opened.format == "html" else utf8_chunks(opened))
    if way == "blocks":
        yield from _blocks(opened.name, chunks, block_bytes)
    elif way in ("auto", "file"):
        yield from _whole(reading, opened, chunks, block_bytes)
    else:
        number = 0
        for number, text in enumerate(_spans_of(reading, chunks), 1):
            yield _finished(text, f"{opened.name}#{number}")
        if not number:
            yield Document("", opened.name)  # an empty file is accounted for


def _spans_of(reading: ReadingOptions, chunks: Iterator[str]) -> Iterator[str | None]:
    """Cut text where its documents end; None for one that is too long."""
    limit = reading.max_document_bytes
    if reading.documents == "paragraphs":
        return paragraphs_of(chunks, limit)
    if reading.documents == "sections":
        return sections_of(chunks, re.compile(reading.split_at), limit)
    return split_text(chunks, "".join(_unix_line_ends([reading.separator])), limit)


def _finished(text: str | None, place: str) -> Document:
    return Document("", place, TOO_LONG) if text is None else Document(text.strip("\n"), place)


def _blocks(name: str, chunks: Iterable[str], block_bytes: int) -> Iterator[Document]:
    number = 0
    for number, block in enumerate(blocks_of(chunks, block_bytes), 1):
        yield Document(block.strip("\n"), f"{name}#{number}")
    if not number:
        yield Document("", name)


def _whole(reading: ReadingOptions, opened: OpenedFile, chunks: Iterator[str], block_bytes: int) -> Iterator[Document]:
    """Yield a file as one document; one that is too long as blocks, where the source leaves the choice."""
    held: list[str] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += utf8_size(chunk)
        if size > reading.max_document_bytes:
            break
    else:
        yield _finished("".join(held), opened.name)
        return
    if reading.documents == "auto":
        yield from _blocks(opened.name, _joined(held, chunks), block_bytes)
        return
    message = (
        f"{opened.name} as one document is {TOO_LONG} ({reading.max_document_bytes}). Cut it with documents: blocks, "
        "paragraphs, sections or separator, or set max_document_bytes higher in a card."
    )
    yield reject_or_raise(reading, opened.name, BadRow(message, TOO_LONG), held[0])


def _joined(held: list[str], rest: Iterator[str]) -> Iterator[str]:
    while held:
        yield held.pop(0)
    yield from rest


def _unix_line_ends(chunks: Iterable[str]) -> Iterator[str]:
    """Bring line ends to `\\n`; a pair may lie across two chunks."""
    is_open = False
    for chunk in chunks:
        if is_open and chunk.startswith("\n"):
            chunk = chunk[1:]
        is_open = chunk.endswith("\r")
        yield chunk.replace("\r\n", "\n").replace("\r", "\n") if "\r" in chunk else chunk


def _text_of_html(reading: ReadingOptions, opened: OpenedFile) -> Iterator[str]:
    """Yield the main text of a page, without menus, scripts and other boilerplate."""
    try:
        from trafilatura import extract
    except ImportError as error:
        raise UnavailableError(
            f"{opened.name}: reading HTML needs the package trafilatura. "
            'Install it: python -m pip install "cairn-lm[html]"'
        ) from error
    page = decode(read_whole(reading, opened), opened.name)
    yield (extract(page, include_comments=False, deduplicate=False) if page.strip() else "") or ""


# --- documents of rows ---------------------------------------------------------------------------------------


def _documents_of_rows(source: Source, opened: OpenedFile, block_bytes: int) -> Iterator[Document]:
    reading = source.reading
    columns = {*fields_of(reading.text), *source.without}
    text_of = _text_maker(source)
    limit, is_cut, is_chosen = reading.max_document_bytes, reading.documents == "blocks", bool(source.without)
    for found in _rows_in(source, opened, columns):
        if isinstance(found, Document):
            yield found
            continue
        place, row = found
        if is_chosen and source.leaves_out(row):
            yield Document("", place, LEFT_OUT)
            continue
        try:
            text = text_of(row, place)
        except BadRow as error:
            yield reject_or_raise(reading, place, error, "")
            continue
        if is_longer(text, limit):
            yield Document("", place, TOO_LONG)
        elif is_cut:
            yield from _blocks(place, _unix_line_ends([text]), block_bytes)
        else:
            yield Document(text.strip("\n"), place)


def _text_maker(source: Source) -> Callable[[Row, str], str]:
    """Return what makes a row's text; a template of a single field needs no rendering where that is text."""
    template = source.reading.text
    field = template[1:-1]
    if template != "{" + field + "}" or fields_of(template) != [field]:
        return functools.partial(_text_of_row, source)

    def text_of(row: Row, place: str) -> str:
        value = row.get(field)
        return value if isinstance(value, str) else _text_of_row(source, row, place)

    return text_of


def _text_of_row(source: Source, row: Row, place: str) -> str:
    try:
        return render(source.reading.text, row) or ""
    except DataError as error:
        raise BadRow(
            f"source {source.name}, {place}: {error} The text is made of {', '.join(fields_of(source.reading.text))}; "
            f'set it with a template such as --text "{{{next(iter(row), "title")}}}".',
            "no such field",
        ) from error
    except CairnError as error:
        raise DataError(f"source {source.name}, {place}: {error}") from error
