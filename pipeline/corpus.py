"""Stage 1: read raw text, clean it step by step, split it.

sources -> corpus.  Rows are documents {"id", "text", "source", "place"}; what was left out is in `rejects`, with step
and reason, and steps.json accounts for every document between the one and the other.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.files import link_or_copy, part_name, sync_file, write_json
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Draft, Store
from pipeline.cards import MAX_DOCUMENT_BYTES, BadRows, Documents, Errors, Format, Source, load_card
from pipeline.cleaning import step as cleaning
from pipeline.cleaning.chain import (
    clean,
    leading,
    packages_of,
    resolve_steps,
    settings_of,
    take_steps,
    tallies_in,
    tallies_of,
)
from pipeline.cutting import cut_files
from pipeline.documents import utf8_size
from pipeline.errors import ConfigError
from pipeline.formats import Kind, kind_of
from pipeline.parallel import Workers
from pipeline.process import say
from pipeline.readers import documents_of, may_be_cut
from pipeline.settings import FilledIn
from pipeline.sources import is_hashed, may_hold_html, open_source, source_of_path
from pipeline.splits import SPLITS, fill_empty, smallest_of, split_of
from pipeline.stage import UNICODE, Job, Stage, main_of
from pipeline.streams import SourceFile
from pipeline.work import Work, read_result, write_result

FEW_DOCUMENTS = 100
"""below this many documents, whole files are cut into blocks so that both splits get some"""
_OF_OWN_SOURCE = (
    "text",
    "documents",
    "separator",
    "split_at",
    "encoding",
    "errors",
    "bad_rows",
    "max_document_bytes",
    "format",
    "columns",
)
_READ_BYTES = 2**24
_REJECTS_IN_FILE = 50_000
_DIGESTS = "digests.bin"


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Which text, and how it is split."""

    cards: tuple[str, ...] = ()
    """data cards to read: shipped names, or paths ending in .md"""
    source: str | None = None
    """a file or folder of your own, instead of cards: text, HTML or rows, packed or not (README: your own text)"""
    text: str = "{text}"
    """for rows of --source: a template of the fields that make the text"""
    documents: Documents = "auto"
    """for --source: how text becomes documents; auto is file, but blocks where documents are few or too long"""
    separator: str = ""
    """for --source with --documents separator: the text between two documents"""
    split_at: str = ""
    """for --source with --documents sections: a regular expression for the start of a document's first line"""
    encoding: str = "utf-8"
    """for --source: of text and tables of text, by Python's name for it"""
    errors: Errors = "strict"
    """for --source: a byte that means nothing in the encoding is an error, or replaced and counted"""
    bad_rows: BadRows = "error"
    """for --source: a row that cannot be used is an error, or left out and counted"""
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    """for --source: a longer line or row is left out; this bounds the memory of reading"""
    format: Format = ""
    """for --source: of every file, where suffixes do not say it"""
    columns: tuple[str, ...] = ()
    """for --source: the names of the columns of a csv or tsv without a header line"""
    validation_fraction: float = 0.05
    """share of the documents held out, for sources whose card does not say"""
    block_bytes: int = 4096
    """size of the blocks that files are cut into when there are few documents"""
    clean: tuple[str, ...] = ("line_ends", "unicode")
    """cleaning steps, in order, each NAME or NAME:SETTING=VALUE,SETTING=VALUE; exact duplicates always go"""
    part_bytes: int = 2**24
    """text in one file of the corpus, about; every step works on one part at a time"""
    sources: Annotated[tuple[Source, ...], FilledIn] = ()
    """what the cards and paths say; filled in by the program"""
    extracts_html: Annotated[bool, FilledIn] = False
    """whether a source holds HTML, whose text depends on the extracting library; filled in by the program"""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"corpus.validation_fraction must be between 0 and 1, got {self.validation_fraction}.")
        for name in ("block_bytes", "part_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"corpus.{name} must be at least 1, got {getattr(self, name)}.")


def resolve(config: CorpusConfig, store: Store) -> CorpusConfig:
    """Replace the names of cards and paths by what they say, hashes included."""
    if config.sources:
        return config
    sources = own_source(config, store) or tuple(map(load_card, config.cards))
    if not sources:
        raise ConfigError("No text was named: give --source FILE_OR_FOLDER, or --cards NAME.")
    default = {"validation": config.validation_fraction}
    check_names(sources)
    filled = tuple(replace(source, split=source.split or default) for source in sources)
    plain = CorpusConfig()
    return replace(
        config,
        **{name: getattr(plain, name) for name in ("cards", "source", *_OF_OWN_SOURCE)},
        clean=resolve_steps(config.clean, store),
        sources=filled,
        extracts_html=any(map(may_hold_html, filled)),
    )


def foresee(config: CorpusConfig, store: Store) -> int:
    """Return into how many tasks a large file of the user's will be cut, if it is new."""
    if config.source is None or kind_of(config.source, config.format) != Kind(format="jsonl"):
        return 0
    path = Path(config.source).expanduser()
    try:
        size = path.stat().st_size
    except OSError:  # said in better words by whoever needs the file
        return 0
    return size // _READ_BYTES if size >= 2 * _READ_BYTES and not is_hashed(path, store) else 0


def check_names(sources: tuple[Source, ...]) -> None:
    """Raise ConfigError when two sources have one name: what is said of one would be said of both."""
    twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
    if twice:
        raise ConfigError(f"two sources are called {twice[0]!r}; rename one of the cards.")


def own_source(config: CorpusConfig, store: Store) -> tuple[Source, ...]:
    """Describe a user's own file or folder as a source, if there is one."""
    if config.source is None:
        return ()
    path = Path(config.source).expanduser()
    if path.suffix == ".md" and path.is_file() and path.read_bytes()[:4] == b"---\n":
        say(f"{path} starts like a data card; it is read as text. To use it as a card: --cards {path}")
    found = source_of_path(path, store, format_=config.format)
    return (replace(found, **{name: getattr(config, name) for name in _OF_OWN_SOURCE}),)


def run(job: Job[CorpusConfig, Workers]) -> Artifact:
    """Read every source, take its documents through the cleaning steps, and write the splits."""
    config = job.config
    with job.work() as work:
        read = _read(work, config, open_files(config, job.store))
        parts, trail = clean(work, read.parts, leading(config.clean)[1], read=read.phase)
        trail = [read.parts, *trail]
        files, totals = _write_splits(work, config, parts)
        rejects = work.map("rejects", _write_rejects, list(_reject_files(trail)), label="writing")
        work.rest()
        with job.draft() as draft:
            _collect(work.outputs("write"), files, draft.path)
            _collect(work.outputs("rejects"), ["rejects" for _ in rejects], draft.path)
            table = tallies_of(trail)
            rejected = _account(draft, config, table)
            _write_sources(draft.path / "sources.jsonl", read.files)
            draft.fact(block_bytes=read.block_bytes, **totals)
            draft.count(read=table[0]["documents_in"], documents=table[-1]["documents_out"], rejected=rejected)
    return draft.artifact


# --- reading: a map over groups of files ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Read:
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


def open_files(config: CorpusConfig, store: Store) -> list[tuple[Source, SourceFile]]:
    """Return every file of the sources, in order."""
    return [(source, file) for source in config.sources for file in open_source(source, store)]


def _read(work: Work, config: CorpusConfig, files: list[tuple[Source, SourceFile]]) -> _Read:
    """Read the files; when that gives few documents, read those again whose documents may be cut, as blocks."""
    cut = any(source.documents == "blocks" for source in config.sources)
    pieces = cut_files(work, files, _READ_BYTES)
    results = _read_groups(work, "read", config, pieces, config.block_bytes)
    documents, size = (sum(result[name] for result in results) for name in ("documents", "bytes"))
    if documents >= FEW_DOCUMENTS or not any(may_be_cut(*entry) for entry in files):
        parts = _parts_of(work, "read")
        return _Read(phase="read", parts=parts, files=files, block_bytes=config.block_bytes if cut else None)
    block_bytes = max(1, min(config.block_bytes, size // 16))
    work.drop("read")
    _read_groups(work, "read-blocks", config, pieces, block_bytes, cut_texts=True)
    return _Read(phase="read-blocks", parts=_parts_of(work, "read-blocks"), files=files, block_bytes=block_bytes)


def _read_groups(
    work: Work,
    phase: str,
    config: CorpusConfig,
    files: Sequence[tuple[Source, SourceFile]],
    block_bytes: int,
    *,
    cut_texts: bool = False,
) -> list[dict[str, Any]]:
    steps = leading(config.clean)[0]
    groups = [
        _Group(files=group, block_bytes=block_bytes, part_bytes=config.part_bytes, cut_texts=cut_texts, steps=steps)
        for group in _grouped(files)
    ]
    return work.map(phase, _read_group, groups, label="reading")


def _grouped(files: Sequence[tuple[Source, SourceFile]]) -> Iterator[tuple[tuple[Source, SourceFile], ...]]:
    """Cut the list of files into tasks of about the same size; the cuts depend on the files alone."""
    group: list[tuple[Source, SourceFile]] = []
    size = 0
    for entry in files:
        group.append(entry)
        size += entry[1].size + 1000  # a small file has its cost too
        if size >= _READ_BYTES // 2:  # a piece of a file that was cut is a task by itself
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
        rejects = cleaning.Rejects()
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


# --- splitting and writing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A task: the documents of a part are hashed, which names them and says their split."""

    folder: Path
    shares: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class _File:
    """A task: what consecutive parts hold of a split becomes a file of the corpus."""

    split: str
    parts: tuple[tuple[Path, Path], ...]
    """folders of documents, and of their hashes"""
    shares: dict[str, dict[str, float]]
    moved: dict[bytes, str]


def _write_splits(
    work: Work, config: CorpusConfig, parts: Sequence[Path]
) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Write the files of every split; return the split of each file, nothing for one without documents, and totals."""
    shares = {source.name: source.split for source in config.sources}
    pages = work.map("digests", _digest, [_Part(part, shares) for part in parts], label="hashing")
    smallest = {
        split: smallest_of(bytes.fromhex(d) for page in pages for d in page["smallest"].get(split, ()))
        for split in SPLITS
    }
    counts = _sums([page["documents"] for page in pages])
    moved = fill_empty(counts, smallest, {name for share in shares.values() for name in share})
    folders = list(zip(parts, work.outputs("digests"), strict=True))
    tasks: list[_File] = []
    for split in SPLITS:
        # What moves may be in any part; that happens in a corpus of a few documents only.
        with_some = [i for i, page in enumerate(pages) if moved or split in page["documents"]]
        sizes = [pages[i]["bytes"].get(split, 0) for i in with_some]
        for group in _consecutive(sizes, config.part_bytes):
            mine = tuple(folders[with_some[i]] for i in group)
            tasks.append(_File(split=split, parts=mine, shares=shares, moved=moved))
    written = work.map("write", _write, tasks, label="writing")
    totals = {
        name: _sums([{task.split: page[name]} for task, page in zip(tasks, written, strict=True) if page[name]])
        for name in ("documents", "bytes", "characters")
    }
    return [task.split if page["documents"] else "" for task, page in zip(tasks, written, strict=True)], totals


def _consecutive(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Group consecutive indices while their sizes add up to at most `limit`."""
    group: list[int] = []
    size = 0
    for i, more in enumerate(sizes):
        if group and size + more > limit:
            yield group
            group, size = [], 0
        group.append(i)
        size += more
    if group:
        yield group


def _sums(pages: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for page in pages:
        total.update(page)
    return {split: total[split] for split in SPLITS if split in total}


def _digest(part: _Part, folder: Path) -> dict[str, Any]:
    """Write the SHA-256 of every document; count documents and bytes by split."""
    from pipeline.arrow import bytes_of, read_batch

    batch = read_batch(part.folder / cleaning.DOCUMENTS)
    texts = list(bytes_of(batch.column("text")))
    digests = [hashlib.sha256(text).digest() for text in texts]
    (folder / _DIGESTS).write_bytes(b"".join(digests))
    sources = batch.column("source").to_pylist()
    splits = [split_of(d, part.shares[source]) for d, source in zip(digests, sources, strict=True)]
    size: Counter[str] = Counter()
    for split, text in zip(splits, texts, strict=True):
        size[split] += len(text)
    smallest = {s: smallest_of(d for d, split in zip(digests, splits, strict=True) if split == s) for s in size}
    return {
        "documents": Counter(splits),
        "bytes": size,
        "smallest": {split: [d.hex() for d in found] for split, found in smallest.items()},
    }


def _write(file: _File, folder: Path) -> dict[str, Any]:
    """Write one file of a split: one record batch."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.arrow import numbers, one_batch, read_batch, strings, write_batch

    chosen: list[pa.RecordBatch] = []
    for part, hashed in file.parts:
        batch = read_batch(part / cleaning.DOCUMENTS)
        digests = (hashed / _DIGESTS).read_bytes()
        ids: list[str] = []
        rows: list[int] = []
        for i, source in enumerate(batch.column("source").to_pylist()):
            digest = digests[32 * i : 32 * i + 32]
            if file.moved.get(digest, split_of(digest, file.shares[source])) == file.split:
                ids.append(digest.hex()[:32])
                rows.append(i)
        mine = batch.take(numbers(np.array(rows, dtype=np.int64)))
        chosen.append(pa.RecordBatch.from_arrays([strings(ids), *mine.columns], names=["id", *mine.schema.names]))
    batch = one_batch(chosen)
    write_batch(folder / cleaning.DOCUMENTS, batch)
    sync_file(folder / cleaning.DOCUMENTS)  # now, while others compute, and not when all of it is published
    texts = batch.column("text")
    size, characters = (pc.sum(of(texts)).as_py() or 0 for of in (pc.binary_length, pc.utf8_length))
    return {"documents": len(batch), "bytes": size, "characters": characters}


def _reject_files(trail: Sequence[Sequence[Path]]) -> Iterator["_Rejected"]:
    """Group the rejects of all phases, in order, into files of some ten thousand."""
    folders = [folder for phase in trail for folder in phase]
    counts = [sum(sum(t["rejected"].values()) for t in tallies_in(folder)) for folder in folders]
    for group in _consecutive(counts, _REJECTS_IN_FILE):
        if any(counts[i] for i in group):
            yield _Rejected(folders=tuple(folders[i] for i in group if counts[i]))


@dataclass(frozen=True)
class _Rejected:
    """A task: the rejects of some parts become a file."""

    folders: tuple[Path, ...]


def _write_rejects(rejected: _Rejected, folder: Path) -> dict[str, Any]:
    from pipeline.arrow import one_batch, read_batch, write_batch

    batch = one_batch([read_batch(path / cleaning.REJECTS) for path in rejected.folders])
    write_batch(folder / cleaning.DOCUMENTS, batch)
    return {"rejects": len(batch)}


def _collect(folders: Sequence[Path], names: Sequence[str], target: Path) -> None:
    """Link the finished files into the artifact, numbered by name; they stay where they are for a rerun."""
    kept = [(name, folder / cleaning.DOCUMENTS) for name, folder in zip(names, folders, strict=True) if name]
    totals = Counter(name for name, _ in kept)
    numbers: Counter[str] = Counter()
    for name, path in kept:
        link_or_copy(path, target / part_name(name, numbers[name], totals[name]))
        numbers[name] += 1


def _account(draft: Draft, config: CorpusConfig, table: list[dict[str, Any]]) -> dict[str, int]:
    """Write the accounting table, and how long each step took; return the rejects by reason."""
    settings = [{}, *map(settings_of, config.clean)]
    names = [tally["step"] for tally in table]
    seconds: Counter[str] = Counter()
    for name, tally in zip(names, table, strict=True):
        seconds[name] += round(tally.pop("seconds"), 3)
    page = [{**tally, "settings": values} for tally, values in zip(table, settings, strict=True)]
    write_json(draft.path / "steps.json", page, indent=2)
    write_json(draft.record / "steps_seconds.json", seconds, indent=2)
    rejected: Counter[str] = Counter()
    for tally in table:
        rejected.update(tally["rejected"])
    return dict(rejected)


def _write_sources(path: Path, files: Sequence[tuple[Source, SourceFile]]) -> None:
    """Write which files the text came from, one line per source."""
    names: dict[str, list[str]] = {}
    sources = {source.name: source for source, _ in files}
    for source, file in files:
        if not file.unread:
            names.setdefault(source.name, []).append(file.name)
    with path.open("w", encoding="utf-8") as out:
        for name, source in sources.items():
            page: dict[str, Any] = {
                "name": name,
                "sha256": source.sha256,
                "license": source.license,
                "attribution": source.attribution,
                "files": names[name],
            }
            out.write(json.dumps(page, ensure_ascii=False, sort_keys=True) + "\n")


def licenses(config: CorpusConfig) -> tuple[License, ...]:
    """Return what the sources ask a derived work to carry."""
    return tuple(source.as_license for source in config.sources)


STAGE = Stage(
    module="pipeline.corpus",
    version=3,
    kind="corpus",
    config=CorpusConfig,
    execution=Workers,
    roles={},
    determinism="bytes",
    toolchain=(UNICODE, "pyarrow"),
    uses=lambda config: (*packages_of(config.clean), *(["trafilatura"] if config.extracts_html else [])),
    run=run,
    foresee=foresee,
    resolve=resolve,
    licenses=licenses,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
