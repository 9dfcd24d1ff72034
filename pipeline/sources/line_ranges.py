"""Machinery: a large file of lines as chunks, each a range of its lines, so that more than one worker reads it.

A chunk is some bytes of the file, from the start of a line to the end of one, and the number of lines before it: what
is read of it, places and errors included, is what would be read of the whole file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from pipeline.executors.resumable import Work
from pipeline.runtime.files import stamp_of
from pipeline.runtime.hashing import JSON
from pipeline.sources.card import Source
from pipeline.sources.formats import kind_of
from pipeline.sources.streams import READ_BYTES, SourceFile

Entry = tuple[Source, SourceFile]


@dataclass(frozen=True)
class _Lines:
    """A work item: count the lines of a chunk."""

    file: SourceFile


def cut_files(work: Work, files: Sequence[Entry], chunk_bytes: int) -> list[Entry]:
    """Return the files, those in chunks that are large and may be cut at any line end."""
    chunks = [
        (source, list(_chunks(file, chunk_bytes)) if _has_lines(source, file) else [file]) for source, file in files
    ]
    items = [_Lines(chunk) for _, of_file in chunks for chunk in of_file if chunk.stop]
    if not items:
        return list(files)
    counts = iter([output.result["lines"] for output in work.map("lines", _count_lines, items, label="counting lines")])
    cut: list[Entry] = []
    for source, of_file in chunks:
        line = 0
        for chunk in of_file:
            cut.append((source, replace(chunk, line=line)))
            line += next(counts) if chunk.stop else 0
    return cut


def _has_lines(source: Source, file: SourceFile) -> bool:
    """Tell whether a row of the file is a line of its bytes: then any line end is a place to cut."""
    plain = file.format == "jsonl" and not file.member and not file.unread and not kind_of(file.name).is_container
    return plain and source.reading.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii")


def _chunks(file: SourceFile, chunk_bytes: int) -> Iterator[SourceFile]:
    """Cut a file after the first line end from every multiple of `chunk_bytes` on."""
    if file.size < 2 * chunk_bytes:
        yield file
        return
    stamp = stamp_of(file.location)
    with open(file.location, "rb") as data:
        cuts = dict.fromkeys(_line_start(data, at, file.size) for at in range(0, file.size, chunk_bytes))
    for start, stop in pairwise([*cuts, file.size] if file.size not in cuts else cuts):
        yield replace(file, start=start, stop=stop, size=stop - start, sha256="", stamp=stamp)


def _line_start(data: BinaryIO, at: int, size: int) -> int:
    """Return where the first line starts that does so at `at` or later."""
    if at == 0:
        return 0
    data.seek(at - 1)
    position = at - 1
    while found := data.read(READ_BYTES):
        if (end := found.find(b"\n")) >= 0:
            return position + end + 1
        position += len(found)
    return size


def _count_lines(item: _Lines, folder: Path) -> dict[str, JSON]:
    count, left = 0, item.file.stop - item.file.start
    with open(item.file.location, "rb") as data:
        data.seek(item.file.start)
        while left and (found := data.read(min(READ_BYTES, left))):
            count += found.count(b"\n")
            left -= len(found)
    return {"lines": count}
