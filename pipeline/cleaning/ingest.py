"""Machinery: ingest: files of sources become parts of documents, by a map over groups of files."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.cleaning import step as cleaning
from pipeline.cleaning.chain import take_steps
from pipeline.executors.resumable import Work, read_result, write_result
from pipeline.readers.documents import documents_of, may_be_cut
from pipeline.sources.card import Source
from pipeline.sources.document import utf8_size
from pipeline.sources.line_ranges import cut_files
from pipeline.sources.streams import SourceFile
from pipeline.tables.rejects import Rejects

FEW_DOCUMENTS = 100
"""below this many documents, whole files are cut into blocks so that both splits get some"""
READ_BYTES = 2**24


# --- reading: a map over groups of files ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """The documents as they were found."""

    phase: str
    parts: list[Path]
    files: list[tuple[Source, SourceFile]]
    block_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A task: consecutive files of the sources."""

    files: tuple[tuple[Source, SourceFile], ...]
    block_bytes: int
    part_bytes: int
    cut_texts: bool
    steps: tuple[str, ...]
    """the cleaning steps that a document takes at once"""


def ingest(
    work: Work, files: list[tuple[Source, SourceFile]], *, block_bytes: int, part_bytes: int, steps: tuple[str, ...]
) -> Ingested:
    """Read the files into parts of about `part_bytes`, cleaned by the `steps` that need one document at a time.

    When that gives few documents, those that may be cut are read again, as blocks.
    """
    cut = any(source.documents == "blocks" for source, _ in files)
    group = _Group(files=(), block_bytes=block_bytes, part_bytes=part_bytes, cut_texts=False, steps=steps)
    pieces = cut_files(work, files, READ_BYTES)
    results = _read_groups(work, "read", group, pieces)
    documents, size = (sum(result[name] for result in results) for name in ("documents", "bytes"))
    if documents >= FEW_DOCUMENTS or not any(may_be_cut(*entry) for entry in files):
        parts = _parts_of(work, "read")
        return Ingested(phase="read", parts=parts, files=files, block_bytes=block_bytes if cut else None)
    block_bytes = max(1, min(block_bytes, size // 16))
    work.drop("read")
    _read_groups(work, "read-blocks", replace(group, block_bytes=block_bytes, cut_texts=True), pieces)
    return Ingested(phase="read-blocks", parts=_parts_of(work, "read-blocks"), files=files, block_bytes=block_bytes)


def _read_groups(
    work: Work, phase: str, group: _Group, files: Sequence[tuple[Source, SourceFile]]
) -> list[dict[str, Any]]:
    groups = [replace(group, files=entries) for entries in _grouped(files)]
    return work.map(phase, _read_group, groups, label="reading")


def _grouped(files: Sequence[tuple[Source, SourceFile]]) -> Iterator[tuple[tuple[Source, SourceFile], ...]]:
    """Cut the list of files into tasks of about the same size; the cuts depend on the files alone."""
    group: list[tuple[Source, SourceFile]] = []
    size = 0
    for entry in files:
        group.append(entry)
        size += entry[1].size + 1000  # a small file has its cost too
        if size >= READ_BYTES // 2:  # a piece of a file that was cut is a task by itself
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _parts_of(work: Work, phase: str) -> list[Path]:
    """Return the parts that a phase of reading wrote, each group as many as its text needs, numbered by links."""
    numbered = work.folder / f"{phase}.parts"
    numbered.mkdir(exist_ok=True)
    found = [folder / name for folder in work.outputs(phase) for name in read_result(folder)["parts"]]
    parts = [numbered / f"{i:06d}" for i in range(len(found))]
    for part, folder in zip(parts, found, strict=True):
        with suppress(FileExistsError):
            part.symlink_to(Path("..", *folder.parts[-3:]))
    return parts


def _read_group(group: _Group, folder: Path) -> dict[str, Any]:
    """Read one group of files into parts of about `part_bytes`, cleaned as far as that goes document by document."""
    parts: list[str] = []
    found = {"documents": 0, "bytes": 0}
    started = time.perf_counter()
    for documents, outcomes in _in_parts(_found_in(group), group.part_bytes):
        parts.append(f"{len(parts):06d}")
        rejects = Rejects()
        documents, tally = cleaning.settle("read", documents, outcomes, rejects)
        tally["seconds"] = time.perf_counter() - started  # reading and parsing are this step's work
        found["documents"] += tally["documents_out"]
        found["bytes"] += tally["bytes_out"]
        documents, tallies = take_steps(documents, group.steps, rejects)
        (folder / parts[-1]).mkdir()
        cleaning.write_part(folder / parts[-1], documents, rejects)
        write_result(folder / parts[-1], {"tallies": [tally, *tallies]})
        started = time.perf_counter()
    return {"parts": parts, **found}


def _in_parts(
    found: Iterator[tuple[str, str, str, cleaning.Outcome]], part_bytes: int
) -> Iterator[tuple[cleaning.Documents, list[cleaning.Outcome]]]:
    """Cut what is found into parts of about `part_bytes`."""
    documents, outcomes = cleaning.Documents([], [], [], []), list[cleaning.Outcome]()
    size = 0
    for source, text, place, outcome in found:
        bytes_of_text = utf8_size(text)
        documents.texts.append(text)
        documents.sources.append(source)
        documents.places.append(place)
        documents.sizes.append(bytes_of_text)
        outcomes.append(outcome)
        size += bytes_of_text + 100  # rejected rows without text fill a part too
        if size >= part_bytes:
            yield documents, outcomes
            documents, outcomes, size = cleaning.Documents([], [], [], []), [], 0
    if outcomes:
        yield documents, outcomes


def _found_in(group: _Group) -> Iterator[tuple[str, str, str, cleaning.Outcome]]:
    """Yield (source, text, place, outcome) of everything that a group of files holds."""
    for source, file in group.files:
        for document in documents_of(source, file, block_bytes=group.block_bytes, cut_texts=group.cut_texts):
            reason = document.reason or ("" if document.text and not document.text.isspace() else "empty")
            counts = {"characters replaced": document.replaced} if document.replaced else {}
            yield source.name, document.text, document.place, cleaning.Outcome(document.text, reason, counts)
