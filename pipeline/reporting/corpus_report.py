"""Machinery: everything a report says about a corpus, gathered from its files part by part."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import DataError, IntegrityError
from pipeline.reporting.phrases import Phrases, count_phrases
from pipeline.reporting.rejects import Clusters, Reason, count_reasons, find_clusters
from pipeline.reporting.texts import Lengths, Texts, languages_of, measure_texts
from pipeline.runtime.hashing import Page
from pipeline.tables.splits import SPLITS

STEPS = "steps.json"
SECONDS = "steps_seconds.json"
Describe: TypeAlias = Callable[[Artifact], str]


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """A source, what was found in it and what is left of it; None where the corpus does not say."""

    name: str
    license: str
    attribution: str
    sha256: str
    files: int
    documents_in: int | None
    bytes_in: int | None
    documents_out: int
    bytes_out: int


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A step of the cleaning: its settings, and its account."""

    step: str
    settings: Page
    documents_in: int
    bytes_in: int
    documents_out: int
    bytes_out: int
    changed: int
    rejected: Mapping[str, int]
    counts: Mapping[str, int]
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Languages:
    """Documents by language, and how that is known."""

    documents: dict[str, int]
    how: str


@dataclass(frozen=True, kw_only=True)
class TokenizerRow:
    """A tokenizer that was made from the corpus, and its own report."""

    reference: str
    summary: str
    report: Page
    others: tuple[str, ...]
    """further tokenizers of this corpus"""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was asked, by whom it was made, and how it is named."""

    id: str
    digest: str
    stage: str
    toolchain: Mapping[str, str]
    config: Page
    started: str
    seconds: float | None
    commit: str | None


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """All that is shown."""

    reference: str
    documents: dict[str, int]
    bytes: dict[str, int]
    characters: dict[str, int]
    read: int | None
    rejected: int
    sources: tuple[SourceRow, ...]
    steps: tuple[StepRow, ...]
    doubts: tuple[str, ...]
    """where the account does not add up"""
    reasons: tuple[Reason, ...]
    clusters: Clusters
    lengths: tuple[Lengths, ...]
    sample_documents: int
    sample_is_all: bool
    languages: Languages | None
    personal: dict[str, int] | None
    """personal data that was masked, by kind; None when no step looked for it"""
    phrases: Phrases
    tokenizer: TokenizerRow | None
    origin: Origin

    def as_json(self) -> Page:
        return asdict(self)


def gather(
    artifact: Artifact, store: Store, describe: Describe, *, sample_bytes: int, tokenizer: str | None = None
) -> CorpusReport:
    """Read a corpus once or twice, part by part, and return what a report says about it.

    `tokenizer` names one to report on; without it those that were made from this corpus are looked for.
    `describe` says in a line what is in an artifact.  Raises DataError when `artifact` is no corpus.
    """
    if artifact.kind != "corpus":
        raise DataError(f"{artifact.short} is a {artifact.kind}; a report is made of a corpus.")
    texts = measure_texts(artifact, sample_bytes)
    steps = _steps(artifact)
    reasons = count_reasons(artifact)
    counts = artifact.manifest.counts
    return CorpusReport(
        reference=artifact.reference,
        documents=_in_order(artifact.facts["documents"]),
        bytes=_in_order(artifact.facts["bytes"]),
        characters=_in_order(artifact.facts["characters"]),
        read=counts.get("read"),
        rejected=sum(reason.documents for reason in reasons),
        sources=tuple(_sources(artifact, texts)),
        steps=steps,
        doubts=tuple(find_doubts(steps, artifact)),
        reasons=reasons,
        clusters=find_clusters(artifact),
        lengths=(*texts.characters, *texts.words),
        sample_documents=len(texts.sample.texts),
        sample_is_all=texts.sample.is_all,
        languages=_languages(steps, texts),
        personal=_counts_of(steps, "pii"),
        phrases=count_phrases(texts.sample.texts),
        tokenizer=_tokenizer(artifact, store, describe, tokenizer),
        origin=_origin(artifact),
    )


def _in_order(by_split: Mapping[str, int]) -> dict[str, int]:
    return {split: by_split[split] for split in SPLITS if split in by_split}


# --- sources and steps ---------------------------------------------------------------------------------------


def _steps(artifact: Artifact) -> tuple[StepRow, ...]:
    seconds = _record(artifact, SECONDS)
    return tuple(
        StepRow(
            step=page["step"],
            settings=page.get("settings") or {},
            documents_in=page["documents_in"],
            bytes_in=page["bytes_in"],
            documents_out=page["documents_out"],
            bytes_out=page["bytes_out"],
            changed=page.get("changed", 0),
            rejected=page.get("rejected") or {},
            counts=page.get("counts") or {},
            seconds=seconds.get(page["step"]),
        )
        for page in artifact.read_json(STEPS)
    )


def _record(artifact: Artifact, name: str) -> Page:
    """Return a page of the record, which nothing depends on: missing or unreadable is empty."""
    try:
        page: Page = json.loads((artifact.record / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return page


def _sources(artifact: Artifact, texts: Texts) -> Iterator[SourceRow]:
    lines = artifact.file("sources.jsonl").read_text(encoding="utf-8").splitlines()
    pages = {page["name"]: page for page in map(json.loads, lines)}
    steps: list[Page] = artifact.read_json(STEPS)
    accounts = steps[0].get("sources", {}) if steps else {}
    for name in dict.fromkeys([*pages, *accounts, *texts.sources]):
        page = pages.get(name, {})
        found = accounts.get(name)
        left = texts.sources.get(name, (0, 0))
        yield SourceRow(
            name=name,
            license=page.get("license", "unknown"),
            attribution=page.get("attribution", ""),
            sha256=page.get("sha256", ""),
            files=len(page.get("files", ())),
            documents_in=found[0] if found else None,
            bytes_in=found[1] if found else None,
            documents_out=left[0],
            bytes_out=left[1],
        )


def find_doubts(steps: Sequence[StepRow], artifact: Artifact) -> Iterator[str]:
    """Yield a sentence for each place where the account of the steps does not add up."""
    for row in steps:
        if row.documents_in != row.documents_out + sum(row.rejected.values()):
            yield f"{row.step}: {row.documents_in:,} documents in are not those out plus those rejected"
    for before, after in itertools.pairwise(steps):
        if before.documents_out != after.documents_in:
            yield f"{after.step}: {after.documents_in:,} documents in, but {before.documents_out:,} came out before"
    documents = sum(artifact.facts["documents"].values())
    if steps and steps[-1].documents_out != documents:
        yield f"{steps[-1].documents_out:,} documents came out of the last step, and the corpus has {documents:,}"


def _counts_of(steps: Sequence[StepRow], what: str) -> dict[str, int] | None:
    """Sum the counts of the steps whose name holds `what`; None when there is no such step."""
    found = [row.counts for row in steps if what in row.step]
    total: dict[str, int] = {}
    for counts in found:
        for key, value in counts.items():
            total[key] = total.get(key, 0) + value
    return dict(sorted(total.items(), key=lambda entry: -entry[1])) if found else None


def _languages(steps: Sequence[StepRow], texts: Texts) -> Languages | None:
    counted = _counts_of(steps, "lang")
    if counted:
        return Languages(documents=counted, how="of all documents that reached the language step")
    guessed = languages_of(texts.sample.texts)
    if guessed is None:
        return None
    return Languages(documents=guessed, how=f"guessed for {sum(guessed.values()):,} documents of the sample")


# --- what else there is --------------------------------------------------------------------------------------


def _tokenizer(artifact: Artifact, store: Store, describe: Describe, wanted: str | None) -> TokenizerRow | None:
    found = [store.find(wanted)] if wanted else list(_tokenizers_of(artifact, store))
    if not found:
        return None
    chosen = found[0]
    if chosen.kind != "tokenizer":
        raise DataError(f"{chosen.short} is a {chosen.kind}, and --tokenizer names a tokenizer.")
    return TokenizerRow(
        reference=chosen.reference,
        summary=describe(chosen),
        report=chosen.read_json("report.json"),
        others=tuple(f"{other.short}: {describe(other)}" for other in found[1:]),
    )


def _tokenizers_of(artifact: Artifact, store: Store) -> Iterator[Artifact]:
    """Yield the tokenizers that were made from these bytes: those with a name first, then the largest."""
    named = set(store.refs().values())
    found = []
    for path in store.folders("tokenizer"):
        try:
            candidate = store.open(path)
        except (IntegrityError, DataError):  # of some other artifact
            continue
        if artifact.digest in {name.digest for name in candidate.manifest.recipe.inputs.values()}:
            found.append(candidate)
    yield from sorted(found, key=lambda a: (a.reference not in named, -a.facts.get("vocab_size", 0), a.id))


def _origin(artifact: Artifact) -> Origin:
    recipe = artifact.manifest.recipe
    provenance = _record(artifact, "provenance.json") or {}
    return Origin(
        id=artifact.id,
        digest=artifact.digest,
        stage=f"{recipe.stage}, version {recipe.stage_version}",
        toolchain=recipe.toolchain,
        config={key: value for key, value in recipe.config.items() if key != "sources"},
        started=provenance.get("started", ""),
        seconds=provenance.get("seconds"),
        commit=provenance.get("git_commit"),
    )
