"""Stage 5: turn labelled rows, or prompts with replies, into examples for fine-tuning.

sources + tokenizer -> examples.  Rows are {"input_ids", "label"} for a classifier, {"input_ids", "loss_mask"} for an
assistant, whose mask is 1 on the tokens it is to learn to say.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError
from pipeline.executors.executor import Workers, map_parts
from pipeline.readers.example_rows import Candidate, ExampleType, candidates_of
from pipeline.runtime.settings import Flat
from pipeline.sources.card import Pair, Source, check_names, load_card, readers_of
from pipeline.sources.document import Document
from pipeline.sources.listing import open_source, source_of_path
from pipeline.sources.reading_options import ReadingOptions
from pipeline.stage.definition import Job, Role, Stage
from pipeline.stage.planning import UNICODE
from pipeline.stage.program import main_of
from pipeline.tables.rejects import Rejects, publish_rejects
from pipeline.tables.splits import SPLITS, assign_splits, by_split

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_EXAMPLES = 2000

Encoded = tuple[list[int], list[int]]
"""the ids of an example and, for a conversation, its loss mask"""


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What is in the id as it is asked for."""

    example_type: ExampleType = "classification"
    """classification: a text and its label; conversation: a prompt and its reply"""
    max_tokens: int = 256
    """a longer text is cut to this; a longer conversation is left out, so that no reply is cut"""
    max_rows: int | None = None
    """take at most this many of each source, those whose hash is smallest; None: all"""

    def __post_init__(self) -> None:
        if self.max_tokens < 4:
            raise ConfigError(f"examples.max_tokens must be at least 4, got {self.max_tokens}.")
        if self.max_rows is not None and self.max_rows < 2:
            raise ConfigError(f"examples.max_rows must be at least 2, got {self.max_rows}.")


@dataclass(frozen=True, kw_only=True)
class ExamplesOptions(_Shape):
    """Which rows, and what becomes of them."""

    cards: tuple[str, ...] = ()
    """data cards to read: shipped names, or paths ending in .md"""
    source: str | None = None
    """a file or folder of your own, instead of cards: rows of any format that corpus reads"""
    reading: Annotated[ReadingOptions, Flat] = field(default_factory=lambda: ReadingOptions(documents="rows"))
    label: str = "label"
    """for rows of --source: the field that is the label"""
    prompt: str = "{prompt}"
    """for rows of --source: a template of what the user says"""
    reply: str = "{reply}"
    """for rows of --source: a template of what the assistant replies"""
    validation_fraction: float = 0.1
    """share held out while training, for sources whose card does not say"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"examples.validation_fraction must be between 0 and 1, got {self.validation_fraction}.")


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig(_Shape):
    """The rows, by location and hash, and what becomes of them."""

    sources: tuple[Source, ...]


def resolve(options: ExamplesOptions, store: Store) -> ExamplesConfig:
    """Replace the names of cards and paths by what they say, hashes included."""
    if options.source is not None:
        own = source_of_path(Path(options.source), store, options.reading)
        pair = Pair(prompt=options.prompt, reply=options.reply)
        sources: tuple[Source, ...] = (replace(own, label=options.label, pairs=(pair,)),)
    else:
        sources = tuple(map(load_card, options.cards))
    if not sources:
        raise ConfigError("No rows were named: give --source FILE, or --cards NAME.")
    check_names(sources)
    default = {"validation": options.validation_fraction}
    return ExamplesConfig(
        **{setting.name: getattr(options, setting.name) for setting in fields(_Shape)},
        sources=tuple(replace(source, split=source.split or default) for source in sources),
    )


def run(job: Job[ExamplesConfig, Workers]) -> Artifact:
    """Read, check, split and encode the rows."""
    from pipeline.tokenization.text_encoder import TEMPLATE_VERSION, TextEncoder

    config, tokenizer = job.config, job.inputs["tokenizer"]
    with job.draft() as draft:
        rejects = Rejects()
        rows, read = _accepted(config, job.store, rejects)
        labels = label_names(rows) if config.example_type == "classification" else []
        shares = {source.name: source.split for source in config.sources}
        splits = assign_splits([row.key for row in rows], [shares[row.source] for row in rows])
        _check_labels(rows, splits, labels)
        vocab_size = TextEncoder.of(tokenizer).vocab_size
        examples = _fitting(config, rows, splits, _encoded(rows, job), labels, rejects)
        _check_splits(config, splits, examples)
        _write(draft.path, _schema(labels, vocab_size), examples)
        publish_rejects(draft.path, rejects)
        rejected = rejects.reasons()
        draft.count(read=read, examples=len(examples), rejected=rejected)
        draft.count(truncated=sum(example.is_cut for example in examples))
        draft.fact(examples=dict(Counter(example.split for example in examples)))
        draft.fact(longest=max(len(example.input_ids) for example in examples))
        draft.fact(example_type=config.example_type, labels=labels, template_version=TEMPLATE_VERSION)
        draft.fact(tokenizer_digest=tokenizer.digest, vocab_size=vocab_size)
    return draft.artifact


# --- rows ----------------------------------------------------------------------------------------------------


def _accepted(config: ExamplesConfig, store: Store, rejects: Rejects) -> tuple[list[Candidate], int]:
    """Return the rows to encode and how many were read; the others go to `rejects`."""
    rows: list[Candidate] = []
    seen: dict[tuple[str, ...], str] = {}
    read = 0
    for source in config.sources:
        mine: list[Candidate] = []
        for found in candidates_of(source, open_source(source, store), config.example_type):
            read += 1
            if isinstance(found, Candidate) and found.texts in seen:
                reason = "duplicate" if seen[found.texts] == found.label else "other label"
                found = Document(found.texts[0], found.place, reason)
            if isinstance(found, Document):
                rejects.add(source.name, found.place, "examples", found.reason, found.text)
                continue
            seen[found.texts] = found.label
            mine.append(found)
        rows += _at_most(mine, config.max_rows, rejects)
    return rows, read


def _at_most(rows: list[Candidate], count: int | None, rejects: Rejects) -> list[Candidate]:
    """Keep the rows whose hashes are smallest: a sample that does not depend on their order."""
    if count is None or len(rows) <= count:
        return rows
    chosen = {id(row) for row in sorted(rows, key=_sampling_hash)[:count]}
    for row in rows:
        if id(row) not in chosen:
            rejects.add(row.source, row.place, "examples", "above max_rows", row.texts[0])
    return [row for row in rows if id(row) in chosen]


def _sampling_hash(row: Candidate) -> bytes:
    """Return another hash than the one that decides the split: else the smallest would all be held out."""
    return hashlib.sha256("\x1f".join(("max_rows", *row.texts, row.label)).encode("utf-8")).digest()


def label_names(rows: Sequence[Candidate]) -> list[str]:
    """Return the labels in the order of their numbers: sorted.

    Raises DataError when there are fewer than two.
    """
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        raise DataError(f"a classifier needs at least two labels, and the rows have {labels}.")
    return labels


def _check_labels(rows: Sequence[Candidate], splits: Sequence[str], labels: Sequence[str]) -> None:
    learned = {row.label for row, split in zip(rows, splits, strict=True) if split == "train"}
    if unseen := set(labels) - learned:
        raise DataError(f"no training row has the label(s) {', '.join(sorted(unseen))}: add rows, or leave those out.")


# --- encoding ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """A work item: some consecutive rows."""

    rows: tuple[Candidate, ...]
    tokenizer: Path
    example_type: ExampleType


def _encoded(rows: Sequence[Candidate], job: Job[ExamplesConfig, Workers]) -> list[Encoded]:
    batches = [
        _Batch(
            rows=tuple(rows[i : i + _BATCH_EXAMPLES]),
            tokenizer=job.inputs["tokenizer"].payload,
            example_type=job.config.example_type,
        )
        for i in range(0, len(rows), _BATCH_EXAMPLES)
    ]
    results = map_parts(_encode, batches, execution=job.execution, label="encoding")
    return [encoded for result in results for encoded in result]


def _encode(batch: _Batch) -> list[Encoded]:
    from pipeline.tokenization.text_encoder import Message, TextEncoder

    encoder = TextEncoder(batch.tokenizer)
    if batch.example_type == "classification":
        return [(ids, []) for ids in encoder.encode_batch([row.texts[0] for row in batch.rows])]
    turns = [[Message("user", row.texts[0]), Message("assistant", row.texts[1])] for row in batch.rows]
    return [encoder.conversation_ids(messages) for messages in turns]


# --- writing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Example:
    """A row of the artifact, of no more than max_tokens."""

    split: str
    input_ids: list[int]
    target: int | list[int]
    """the number of the label, or the loss mask"""
    is_cut: bool


def _fitting(
    config: ExamplesConfig,
    rows: Sequence[Candidate],
    splits: Sequence[str],
    encoded: Sequence[Encoded],
    labels: Sequence[str],
    rejects: Rejects,
) -> list[_Example]:
    """Cut texts that are too long; conversations that are go to `rejects`."""
    number = {label: i for i, label in enumerate(labels)}
    examples: list[_Example] = []
    for row, split, (ids, mask) in zip(rows, splits, encoded, strict=True):
        is_long = len(ids) > config.max_tokens
        if is_long and config.example_type == "conversation":
            rejects.add(row.source, row.place, "examples", "above max_tokens", row.texts[0])
        else:
            examples.append(_Example(split, ids[: config.max_tokens], number.get(row.label, mask), is_long))
    return examples


def _check_splits(config: ExamplesConfig, splits: Sequence[str], examples: Sequence[_Example]) -> None:
    if empty := set(splits) - {example.split for example in examples}:
        raise DataError(
            f"every example of the {min(empty)} split is longer than {config.max_tokens} tokens; raise max_tokens."
        )


def _schema(labels: Sequence[str], vocab_size: int) -> "pa.Schema":
    """Return the columns of the artifact, with the names of the labels for `datasets`."""
    import pyarrow as pa

    from pipeline.tables.features import schema_with_features
    from pipeline.tokenization.text_encoder import token_dtype

    ids = pa.list_(pa.uint16() if token_dtype(vocab_size) == "uint16" else pa.uint32())
    if labels:
        return schema_with_features(pa.schema({"input_ids": ids, "label": pa.int64()}), {"label": labels})
    return schema_with_features(pa.schema({"input_ids": ids, "loss_mask": pa.list_(pa.uint8())}))


def _write(folder: Path, schema: "pa.Schema", examples: Sequence[_Example]) -> None:
    from pipeline.tables.arrow import PartWriter

    for split in SPLITS:
        writer = PartWriter(folder, split, schema, part_bytes=2**24)
        for example in examples:
            if example.split == split:
                row = dict(zip(schema.names, (example.input_ids, example.target), strict=True))
                writer.add(row, 4 * len(example.input_ids))
        writer.close()


def licenses(config: ExamplesConfig) -> tuple[License, ...]:
    """Return what the sources ask a derived work to carry."""
    return tuple(source.as_license for source in config.sources)


STAGE = Stage(
    module="pipeline.examples",
    version=3,
    kind="examples",
    options=ExamplesOptions,
    config=ExamplesConfig,
    execution=Workers,
    roles={"tokenizer": Role(kinds=("tokenizer",), help="the encoder, the same as the model's")},
    determinism="bytes",
    toolchain=(UNICODE, "tokenizers", "pyarrow"),
    extra_toolchain=lambda config: readers_of(config.sources),
    run=run,
    resolve=resolve,
    licenses=licenses,
    summarize=lambda artifact: f"{by_split(artifact.facts['examples'])} {artifact.facts['example_type']} examples",
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
