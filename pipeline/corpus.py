"""Stage 1: read raw text, clean it step by step, split it.

sources -> corpus.  Rows are documents {"id", "text", "source", "place"}; what was left out is in `rejects`, with step
and reason, and steps.json accounts for every document between the one and the other.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Draft, Store
from pipeline.cleaning.chain import add_up, clean, leading, packages_of, read_steps, resolve_steps
from pipeline.cleaning.ingest import ingest
from pipeline.cleaning.output import collect, join_rejects, write_splits
from pipeline.cleaning.step import CleaningStep
from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers
from pipeline.runtime.console import say
from pipeline.runtime.files import write_json
from pipeline.runtime.settings import Flat, json_of
from pipeline.sources.card import Source, check_names, load_card, readers_of
from pipeline.sources.listing import may_hold_html, open_source, source_of_path
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile
from pipeline.stage.definition import Job, Stage
from pipeline.stage.planning import UNICODE
from pipeline.stage.program import main_of
from pipeline.tables.splits import by_split


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """What is in the id as it is asked for."""

    block_bytes: int = 4096
    """size of the blocks that files are cut into when there are few documents"""
    part_bytes: int = 2**24
    """text in one file of the corpus, about; every step works on one part at a time"""

    def __post_init__(self) -> None:
        for name in ("block_bytes", "part_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"corpus.{name} must be at least 1, got {getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class CorpusOptions(_Sizes):
    """Which text, and how it is split."""

    cards: tuple[str, ...] = ()
    """data cards to read: shipped names, or paths ending in .md"""
    source: str | None = None
    """a file or folder of your own, instead of cards: text, HTML or rows, packed or not; the flags from --text to
    --columns say how it is read (README: your own text)"""
    reading: Annotated[ReadingOptions, Flat] = field(default_factory=ReadingOptions)
    validation_fraction: float = 0.05
    """share of the documents held out, for sources whose card does not say"""
    clean: tuple[str, ...] = ("line_ends", "unicode")
    """cleaning steps, in order, each NAME or NAME:SETTING=VALUE,SETTING=VALUE; exact duplicates always go"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"corpus.validation_fraction must be between 0 and 1, got {self.validation_fraction}.")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(_Sizes):
    """The text, by location and hash, and what becomes of it."""

    sources: tuple[Source, ...]
    clean: tuple[str, ...]
    """cleaning steps, every setting and the hash of every file named"""
    extracts_html: bool
    """whether a source holds HTML, whose text depends on the extracting library"""


def resolve(options: CorpusOptions, store: Store) -> CorpusConfig:
    """Replace the names of cards and paths by what they say, hashes included."""
    sources = _sources(options, store)
    check_names(sources)
    default = {"validation": options.validation_fraction}
    return CorpusConfig(
        sources=tuple(replace(source, split=source.split or default) for source in sources),
        clean=resolve_steps(options.clean, store),
        extracts_html=any(map(may_hold_html, sources)),
        block_bytes=options.block_bytes,
        part_bytes=options.part_bytes,
    )


def _sources(options: CorpusOptions, store: Store) -> tuple[Source, ...]:
    """Describe a person's own file or folder as a source, or else read the cards."""
    if options.source is not None:
        path = Path(options.source).expanduser()
        if path.suffix == ".md" and path.is_file() and path.read_bytes()[:4] == b"---\n":
            say(f"{path} starts like a data card; it is read as text. To use it as a card: --cards {path}")
        return (source_of_path(path, store, options.reading),)
    if not options.cards:
        raise ConfigError("No text was named: give --source FILE_OR_FOLDER, or --cards NAME.")
    for name in (option.name for option in fields(ReadingOptions)):
        if getattr(options.reading, name) != getattr(ReadingOptions(), name):
            raise ConfigError(f"corpus.{name} is for --source: a card says itself how its files are read.")
    return tuple(map(load_card, options.cards))


def run(job: Job[CorpusConfig, Workers]) -> Artifact:
    """Read every source, take its documents through the cleaning steps, and write the splits."""
    config = job.config
    with job.work() as work:
        steps = read_steps(config.clean)
        while_reading, afterwards = leading(steps)
        opened = [(source, file) for source in config.sources for file in open_source(source, job.store)]
        read = ingest(work, opened, block_bytes=config.block_bytes, part_bytes=config.part_bytes, steps=while_reading)
        phase_outputs = clean(work, read.parts, afterwards)
        shares = {source.name: source.split for source in config.sources}
        files, totals = write_splits(work, phase_outputs[-1], shares=shares, part_bytes=config.part_bytes)
        rejects = join_rejects(work, phase_outputs)
        with job.draft() as draft:
            collect([*files, *rejects], draft.path)
            table = add_up(phase_outputs)
            rejected = _account(draft, steps, table)
            _write_sources(draft.path / "sources.jsonl", read.files)
            draft.fact(block_bytes=read.block_bytes, **totals)
            draft.count(read=table[0]["documents_in"], documents=table[-1]["documents_out"], rejected=rejected)
    return draft.artifact


def _account(draft: Draft, steps: Sequence[CleaningStep], table: list[dict[str, Any]]) -> dict[str, int]:
    """Write the accounting table, and how long each step took; return the rejects by reason."""
    settings = [{}, *map(json_of, steps)]
    seconds: Counter[str] = Counter()
    for counts in table:
        seconds[counts["step"]] += round(counts.pop("seconds"), 3)
    page = [{**counts, "settings": values} for counts, values in zip(table, settings, strict=True)]
    write_json(draft.path / "steps.json", page, indent=2)
    write_json(draft.record / "steps_seconds.json", seconds, indent=2)
    rejected: Counter[str] = Counter()
    for counts in table:
        rejected.update(counts["rejected"])
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


def summarize(artifact: Artifact) -> str:
    documents, size = artifact.facts["documents"], artifact.facts["bytes"]
    rejected = sum(artifact.manifest.counts.get("rejected", {}).values())
    return f"{by_split(documents)} documents, {sum(size.values()) / 1e6:.1f} MB, {rejected:,} rejected"


def extra_toolchain(config: CorpusConfig) -> tuple[str, ...]:
    """Return the libraries whose output the steps, texts cut out of HTML or data sets from the hub depend on."""
    html = ("trafilatura",) if config.extracts_html else ()
    return (*packages_of(read_steps(config.clean)), *html, *readers_of(config.sources))


STAGE = Stage(
    module="pipeline.corpus",
    version=4,
    kind="corpus",
    options=CorpusOptions,
    config=CorpusConfig,
    execution=Workers,
    roles={},
    determinism="bytes",
    toolchain=(UNICODE, "pyarrow"),
    extra_toolchain=extra_toolchain,
    run=run,
    resolve=resolve,
    licenses=licenses,
    summarize=summarize,
    next_commands=lambda artifact: [f"python -m pipeline.tokenizer --corpus {artifact.short}"],
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
