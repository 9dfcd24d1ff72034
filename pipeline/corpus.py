"""Stage 1: read raw text, normalise it, drop exact duplicates, split it.

sources -> corpus.  Rows are documents {"id", "text", "source"}; what was left out is in `rejects`, by reason.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Draft, Store
from pipeline.cards import Documents, Source, load_card
from pipeline.errors import ConfigError, DataError
from pipeline.parallel import Workers, map_parts
from pipeline.process import say
from pipeline.sources import SourceFile, open_source, source_of_path
from pipeline.stage import UNICODE, Job, Stage, main_of

SPLITS = ("train", "validation", "test")
FEW_DOCUMENTS = 100
"""below this many documents, whole files are cut into blocks so that both splits get some"""
_READ_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Which text, and how it is split."""

    cards: tuple[str, ...] = ()
    """data cards to read: shipped names, or paths ending in .md"""
    source: str | None = None
    """a file or folder of your own, instead of cards: .txt .md .jsonl .json .csv .tsv .parquet"""
    text: str = "{text}"
    """for rows of --source: a template of the fields that make the text"""
    documents: Documents = "auto"
    """for --source: how a file becomes documents"""
    separator: str = ""
    """for --source with --documents separator: the text between two documents"""
    validation_fraction: float = 0.05
    """share of the documents held out, for sources whose card does not say"""
    block_bytes: int = 4096
    """size of the blocks that files are cut into when there are few documents"""
    part_bytes: int = 2**24
    """text in one file of the corpus, about; shards are encoded one part at a time"""
    sources: Annotated[tuple[Source, ...], tyro.conf.Suppress] = ()
    """what the cards and paths say; filled in by the program"""

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
        cards=(),
        source=None,
        text=plain.text,
        documents=plain.documents,
        separator=plain.separator,
        sources=filled,
    )


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
    found = source_of_path(path, store)
    return (replace(found, text=config.text, documents=config.documents, separator=config.separator),)


def run(job: Job[CorpusConfig, Workers]) -> Artifact:
    """Read every source, keep the first of equal documents, and write the splits."""
    sources = job.config.sources
    files = [(source, file) for source in sources for file in open_source(source, job.store)]
    with job.store.scratch() as scratch, job.draft() as draft:
        gathered = _gather(files, job.config.block_bytes, scratch / "whole", job.execution.workers)
        block_bytes = job.config.block_bytes if _cut(sources) else None
        if len(gathered.kept) < FEW_DOCUMENTS and any(_may_be_cut(*entry) for entry in files):
            block_bytes = max(1, min(job.config.block_bytes, sum(gathered.sizes) // 16))
            files = [_as_blocks(source, file) for source, file in files]
            gathered = _gather(files, block_bytes, scratch / "blocks", job.execution.workers)
        _write(draft, sources, gathered, job.config.part_bytes)
        _write_sources(draft.path / "sources.jsonl", files)
        draft.fact(block_bytes=block_bytes)
    return draft.artifact


def _cut(sources: tuple[Source, ...]) -> bool:
    return any(source.documents == "blocks" for source in sources)


def _may_be_cut(source: Source, file: SourceFile) -> bool:
    """Tell whether it was left open how a file becomes documents; a row is a document always."""
    return source.documents == "auto" and file.format == "txt"


def _as_blocks(source: Source, file: SourceFile) -> tuple[Source, SourceFile]:
    return (replace(source, documents="blocks") if _may_be_cut(source, file) else source), file


# --- reading: a map over groups of files ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A task: consecutive files of the sources, and the scratch file their documents go to."""

    files: tuple[tuple[Source, SourceFile], ...]
    block_bytes: int
    path: Path


@dataclass(kw_only=True)
class _Gathered:
    """Every document that is not a duplicate, by its place in the scratch files."""

    groups: list[Path]
    digests: list[bytes]
    sizes: list[int]
    kept: set[int]
    read: int


def _gather(files: Sequence[tuple[Source, SourceFile]], block_bytes: int, folder: Path, workers: int) -> _Gathered:
    folder.mkdir()
    groups = [
        _Group(files=group, block_bytes=block_bytes, path=folder / f"{i:05d}.arrow")
        for i, group in enumerate(_grouped(files))
    ]
    digests: list[bytes] = []
    sizes: list[int] = []
    for group_digests, group_sizes in map_parts(_read_group, groups, workers=workers, label="reading"):
        digests.extend(group_digests)
        sizes.extend(group_sizes)
    first: dict[bytes, int] = {}
    for i, digest in enumerate(digests):
        if sizes[i]:
            first.setdefault(digest, i)
    return _Gathered(
        groups=[group.path for group in groups],
        digests=digests,
        sizes=sizes,
        kept=set(first.values()),
        read=len(digests),
    )


def _grouped(files: Sequence[tuple[Source, SourceFile]]) -> Iterator[tuple[tuple[Source, SourceFile], ...]]:
    """Cut the list of files into tasks of about the same size; the cuts depend on the files alone."""
    group: list[tuple[Source, SourceFile]] = []
    size = 0
    for entry in files:
        group.append(entry)
        size += entry[1].size
        if size >= _READ_BYTES:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _read_group(group: _Group) -> tuple[list[bytes], list[int]]:
    """Read one group of files into a scratch file; return each document's SHA-256 and size in bytes."""
    import pyarrow as pa

    from pipeline.arrow import write_batch
    from pipeline.readers import documents_of

    rows: list[dict[str, str]] = []
    digests: list[bytes] = []
    sizes: list[int] = []
    for source, file in group.files:
        for document in documents_of(source, file, block_bytes=group.block_bytes):
            is_text = document.text.strip() and not document.reason
            data = document.text.encode("utf-8") if is_text else b""
            row = {"text": document.text, "source": source.name, "place": document.place, "reason": document.reason}
            rows.append(row)
            digests.append(hashlib.sha256(data).digest())
            sizes.append(len(data))
    schema = pa.schema(dict.fromkeys(("text", "source", "place", "reason"), pa.string()))
    write_batch(group.path, pa.RecordBatch.from_pylist(rows, schema=schema))
    return digests, sizes


# --- splitting and writing -----------------------------------------------------------------------------------


def split_of(digest: bytes, split: dict[str, float]) -> str:
    """Return the split of a document from its SHA-256: the same text is in the same split everywhere."""
    position = int.from_bytes(digest[:8], "big") / 2**64
    for name in ("validation", "test"):
        share = split.get(name, 0.0)
        if position < share:
            return name
        position -= share
    return "train"


def assign_splits(digests: Sequence[bytes], splits: Sequence[dict[str, float]]) -> list[str]:
    """Return the split of every document; one that is asked for and would be empty gets the likeliest document.

    Raises DataError when there are fewer documents than splits.
    """
    found = [split_of(digest, split) for digest, split in zip(digests, splits, strict=True)]
    wanted = ["train", *sorted({name for split in splits for name in split})]
    if len(found) < len(wanted):
        raise DataError(
            f"The sources hold {len(found)} different document(s), and the splits {', '.join(wanted)} need one each. "
            "Add text, or cut it into documents with --documents blocks."
        )
    for name in wanted:
        counts = Counter(found)
        if counts[name] == 0:
            spare = [i for i, split in enumerate(found) if counts[split] > 1]
            found[min(spare, key=lambda i: digests[i])] = name
    return found


def _write(draft: Draft, sources: tuple[Source, ...], gathered: _Gathered, part_bytes: int) -> None:
    import pyarrow as pa

    from pipeline.arrow import PartWriter, iter_rows

    document = pa.schema({"id": pa.string(), "text": pa.string(), "source": pa.string()})
    writers = {split: PartWriter(draft.path, split, document, part_bytes=part_bytes) for split in SPLITS}
    rejects = RejectWriter(draft.path)
    split_by_index = _splits_of_kept(sources, gathered)
    documents: Counter[str] = Counter()
    size: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for i, row in enumerate(iter_rows(gathered.groups)):
        split = split_by_index.get(i)
        if split is None:
            reason = row["reason"] or ("duplicate" if gathered.sizes[i] else "empty")
            rejects.add(row["source"], row["place"], "corpus", reason, row["text"])
            continue
        name = gathered.digests[i].hex()[:32]
        writers[split].add({"id": name, "text": row["text"], "source": row["source"]}, gathered.sizes[i])
        documents[split] += 1
        size[split] += gathered.sizes[i]
        characters[split] += len(row["text"])
    for writer in writers.values():
        writer.close()
    draft.fact(documents=dict(documents), bytes=dict(size), characters=dict(characters))
    draft.count(read=gathered.read, documents=documents.total(), rejected=rejects.close())


def _splits_of_kept(sources: tuple[Source, ...], gathered: _Gathered) -> dict[int, str]:
    from pipeline.arrow import iter_rows

    rules = {source.name: source.split for source in sources}
    kept = sorted(gathered.kept)
    names = [row["source"] for i, row in enumerate(iter_rows(gathered.groups)) if i in gathered.kept]
    splits = assign_splits([gathered.digests[i] for i in kept], [rules[name] for name in names])
    return dict(zip(kept, splits, strict=True))


class RejectWriter:
    """Writes what was left out, and why, to rejects-*.arrow."""

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        from pipeline.arrow import PartWriter

        columns = ("source", "place", "step", "reason", "excerpt")
        self._writer = PartWriter(folder, "rejects", pa.schema(dict.fromkeys(columns, pa.string())), part_bytes=2**24)
        self._reasons: Counter[str] = Counter()

    def add(self, source: str, place: str, step: str, reason: str, text: str) -> None:
        """Reject one row, keeping the start of its text."""
        row = {"source": source, "place": place, "step": step, "reason": reason, "excerpt": text[:200]}
        self._writer.add(row, len(row["excerpt"]) + 100)
        self._reasons[reason] += 1

    def close(self) -> dict[str, int]:
        """Finish the files and return the number of rejects by reason."""
        self._writer.close()
        return dict(self._reasons)


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
    version=1,
    kind="corpus",
    config=CorpusConfig,
    execution=Workers,
    roles={},
    determinism="bytes",
    toolchain=(UNICODE, "pyarrow"),
    run=run,
    resolve=resolve,
    licenses=licenses,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
