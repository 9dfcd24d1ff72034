"""Machinery: ingest: files of sources become parts of documents, by a map over groups of files."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.cleaning.chain import take_steps
from pipeline.cleaning.step import DocumentStep, Outcome, apply_outcomes, write_part
from pipeline.executors.resumable import Output, Work
from pipeline.readers.documents import documents_of, may_be_cut
from pipeline.runtime.hashing import JSON
from pipeline.sources.card import Source
from pipeline.sources.document import Document, utf8_size
from pipeline.sources.line_ranges import cut_files
from pipeline.sources.streams import SourceFile
from pipeline.tables.documents import Documents
from pipeline.tables.rejects import Rejects

FEW_DOCUMENTS = 100
"""below this many documents, whole files are cut into blocks so that both splits get some"""
READ_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """The documents as they were found."""

    parts: list[Output]
    files: list[tuple[Source, SourceFile]]
    block_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A work item: consecutive files of the sources."""

    files: tuple[tuple[Source, SourceFile], ...]
    block_bytes: int
    part_bytes: int
    cut_texts: bool
    steps: tuple[DocumentStep, ...]
    """the cleaning steps that a document takes at once"""


def ingest(
    work: Work,
    files: list[tuple[Source, SourceFile]],
    *,
    block_bytes: int,
    part_bytes: int,
    steps: tuple[DocumentStep, ...],
) -> Ingested:
    """Read the files into parts of about `part_bytes`, cleaned by the `steps` that need one document at a time.

    When that gives few documents, those that may be cut are read again, as blocks.
    """
    cut = any(source.reading.documents == "blocks" for source, _ in files)
    group = _Group(files=(), block_bytes=block_bytes, part_bytes=part_bytes, cut_texts=False, steps=steps)
    chunks = cut_files(work, files, READ_BYTES)
    read = _read_groups(work, "read", group, chunks)
    documents, size = (sum(output.result[name] for output in read) for name in ("documents", "bytes"))
    if documents >= FEW_DOCUMENTS or not any(may_be_cut(*entry) for entry in files):
        return Ingested(parts=_parts_of(read), files=files, block_bytes=block_bytes if cut else None)
    block_bytes = max(1, min(block_bytes, size // 16))
    work.drop(read)
    read = _read_groups(work, "read-blocks", replace(group, block_bytes=block_bytes, cut_texts=True), chunks)
    return Ingested(parts=_parts_of(read), files=files, block_bytes=block_bytes)


def _read_groups(work: Work, phase: str, group: _Group, files: Sequence[tuple[Source, SourceFile]]) -> list[Output]:
    groups = [replace(group, files=entries) for entries in _grouped(files)]
    return work.map(phase, _read_group, groups, label="reading")


def _grouped(files: Sequence[tuple[Source, SourceFile]]) -> Iterator[tuple[tuple[Source, SourceFile], ...]]:
    """Group the files into work items of about the same size; the groups depend on the files alone."""
    group: list[tuple[Source, SourceFile]] = []
    size = 0
    for entry in files:
        group.append(entry)
        size += entry[1].size + 1000  # a small file has its cost too
        if size >= READ_BYTES // 2:  # a chunk of a file that was cut is a work item by itself
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _parts_of(groups: Sequence[Output]) -> list[Output]:
    """Return the parts that were read, in order; each group made as many as its text needs."""
    return [Output(group.folder / page["name"], page) for group in groups for page in group.result["parts"]]


def _read_group(group: _Group, folder: Path) -> dict[str, JSON]:
    """Read one group of files into parts of about `part_bytes`, cleaned as far as that goes document by document."""
    parts: list[dict[str, Any]] = []
    started = time.perf_counter()
    for documents, outcomes in _parts_in(group):
        rejects = Rejects()
        documents, of_reading = apply_outcomes("read", documents, outcomes, rejects)
        of_reading["seconds"] = time.perf_counter() - started  # reading and parsing are this step's work
        documents, of_steps = take_steps(documents, group.steps, rejects)
        parts.append({"name": f"{len(parts):06d}", "counts": [of_reading, *of_steps]})
        (folder / parts[-1]["name"]).mkdir()
        write_part(folder / parts[-1]["name"], documents, rejects)
        started = time.perf_counter()
    of_group = [part["counts"][0] for part in parts]
    found = {name: sum(counts[f"{name}_out"] for counts in of_group) for name in ("documents", "bytes")}
    return {"parts": parts, **found}


def _parts_in(group: _Group) -> Iterator[tuple[Documents, list[Outcome]]]:
    """Yield all that a group of files holds, about `part_bytes` at a time, and what becomes of each document."""
    documents, outcomes, size = Documents(), list[Outcome](), 0
    for source, file in group.files:
        for document in documents_of(source, file, block_bytes=group.block_bytes, cut_texts=group.cut_texts):
            bytes_of_text = utf8_size(document.text)
            documents.add(document.text, source.name, document.place, bytes_of_text)
            outcomes.append(_outcome_of(document))
            size += bytes_of_text + 100  # rejected rows without text fill a part too
            if size >= group.part_bytes:
                yield documents, outcomes
                documents, outcomes, size = Documents(), [], 0
    if outcomes:
        yield documents, outcomes


def _outcome_of(document: Document) -> Outcome:
    reason = document.reason or ("" if document.text and not document.text.isspace() else "empty")
    return Outcome(document.text, reason, {"characters replaced": document.replaced} if document.replaced else {})
