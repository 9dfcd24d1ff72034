"""Stage 5: turn labelled rows, or prompts with replies, into examples for fine-tuning.

sources + tokenizer -> examples.  Rows are {"input_ids", "label"} for a classifier, {"input_ids", "loss_mask"} for an
assistant, whose mask is 1 on the tokens it is to learn to say.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Draft, Store
from pipeline.errors import ConfigError, DataError
from pipeline.executors.executor import Workers, map_parts
from pipeline.runtime.hashing import canonical_json
from pipeline.runtime.settings import FilledIn
from pipeline.sources.card import LEFT_OUT, Pair, Source, check_names, load_card
from pipeline.sources.document import Document
from pipeline.sources.listing import SourceFile, open_source, source_of_path
from pipeline.stage.definition import Job, Role, Stage
from pipeline.stage.program import main_of
from pipeline.tables.rejects import Rejects, publish_rejects
from pipeline.tables.splits import SPLITS, assign_splits, by_split

_PART_EXAMPLES = 2000

ExampleTask = Literal["classification", "conversation"]


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """Which rows, and what becomes of them."""

    example_type: ExampleTask = "classification"
    """classification: a text and its label; conversation: a prompt and its reply"""
    cards: tuple[str, ...] = ()
    """data cards to read: shipped names, or paths ending in .md"""
    source: str | None = None
    """a file or folder of your own, instead of cards: .jsonl .json .csv .tsv .parquet"""
    text: str = "{text}"
    """for rows of --source: a template of the fields that make the text to classify"""
    label: str = "label"
    """for rows of --source: the field that is the label"""
    prompt: str = "{prompt}"
    """for rows of --source: a template of what the user says"""
    reply: str = "{reply}"
    """for rows of --source: a template of what the assistant replies"""
    max_tokens: int = 256
    """a longer text is cut to this; a longer conversation is left out, so that no reply is cut"""
    max_rows: int | None = None
    """take at most this many of each source, those whose hash is smallest; None: all"""
    validation_fraction: float = 0.1
    """share held out while training, for sources whose card does not say"""
    sources: Annotated[tuple[Source, ...], FilledIn] = ()
    """what the cards and paths say; filled in by the program"""

    def __post_init__(self) -> None:
        if self.max_tokens < 4:
            raise ConfigError(f"examples.max_tokens must be at least 4, got {self.max_tokens}.")
        if self.max_rows is not None and self.max_rows < 2:
            raise ConfigError(f"examples.max_rows must be at least 2, got {self.max_rows}.")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"examples.validation_fraction must be between 0 and 1, got {self.validation_fraction}.")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A candidate: its parts (text, or prompt and reply), its label, and the key that decides its split."""

    source: str
    place: str
    parts: tuple[str, ...]
    label: str
    key: bytes


@dataclass(frozen=True)
class _Rejected:
    source: str
    place: str
    reason: str
    text: str


def resolve(config: ExamplesConfig, store: Store) -> ExamplesConfig:
    """Replace the names of cards and paths by what they say, hashes included."""
    if config.sources:
        return config
    if config.source is not None:
        own = source_of_path(Path(config.source), store)
        pair = Pair(prompt=config.prompt, reply=config.reply)
        sources: tuple[Source, ...] = (
            replace(own, text=config.text, label=config.label, pairs=(pair,), documents="rows"),
        )
    else:
        sources = tuple(map(load_card, config.cards))
    if not sources:
        raise ConfigError("No rows were named: give --source FILE, or --cards NAME.")
    check_names(sources)
    default = {"validation": config.validation_fraction}
    plain = ExamplesConfig()
    return replace(
        config,
        cards=(),
        source=None,
        text=plain.text,
        label=plain.label,
        prompt=plain.prompt,
        reply=plain.reply,
        sources=tuple(replace(source, split=source.split or default) for source in sources),
    )


def run(job: Job[ExamplesConfig, Workers]) -> Artifact:
    """Read, check, split and encode the rows."""
    from pipeline.tokenization.text_encoder import TEMPLATE_VERSION, TextEncoder

    config, tokenizer = job.config, job.inputs["tokenizer"]
    with job.store.scratch() as scratch, job.draft() as draft:
        rejects = Rejects()
        rows, read = _accepted(config, job.store, scratch, rejects)
        labels = label_names(rows) if config.example_type == "classification" else []
        splits = assign_splits([row.key for row in rows], [_split_rule(config, row) for row in rows])
        _check_labels(rows, splits, labels)
        tasks = [
            _Part(rows=tuple(rows[i : i + _PART_EXAMPLES]), tokenizer=tokenizer.payload, task=config.example_type)
            for i in range(0, len(rows), _PART_EXAMPLES)
        ]
        encoded = [ids for part in map_parts(_encode, tasks, execution=job.execution, label="encoding") for ids in part]
        encoder = TextEncoder.of(tokenizer)
        _write(draft, config, rows, splits, encoded, labels, rejects, encoder.vocab_size)
        publish_rejects(draft.path, rejects)
        rejected = rejects.reasons()
        draft.count(read=read, examples=read - sum(rejected.values()), rejected=rejected)
        draft.fact(example_type=config.example_type, labels=labels, template_version=TEMPLATE_VERSION)
        draft.fact(tokenizer_digest=tokenizer.digest, vocab_size=encoder.vocab_size)
    return draft.artifact


# --- rows ----------------------------------------------------------------------------------------------------


def _accepted(config: ExamplesConfig, store: Store, scratch: Path, rejects: Rejects) -> tuple[list[_Row], int]:
    """Return the rows to encode and how many were read; the others go to `rejects`."""
    rows: list[_Row] = []
    seen: dict[tuple[str, ...], str] = {}
    read = 0
    for source in config.sources:
        mine: list[_Row] = []
        for candidate in _candidates(config.example_type, source, store, scratch):
            read += 1
            if isinstance(candidate, _Row) and candidate.parts in seen:
                same = seen[candidate.parts] == candidate.label
                candidate = _Rejected(
                    candidate.source, candidate.place, "duplicate" if same else "other label", candidate.parts[0]
                )
            if isinstance(candidate, _Rejected):
                rejects.add(candidate.source, candidate.place, "examples", candidate.reason, candidate.text)
                continue
            seen[candidate.parts] = candidate.label
            mine.append(candidate)
        rows += _at_most(mine, config.max_rows, rejects)
    return rows, read


def _at_most(rows: list[_Row], count: int | None, rejects: Rejects) -> list[_Row]:
    """Keep the rows whose hashes are smallest: a sample that does not depend on their order."""
    if count is None or len(rows) <= count:
        return rows
    # Another hash than the one that decides the split: else the smallest would all be held out.
    chosen = {id(row) for row in sorted(rows, key=lambda row: sha256_of_text(row.parts, row.label))[:count]}
    for row in rows:
        if id(row) not in chosen:
            rejects.add(row.source, row.place, "examples", "above max_rows", row.parts[0])
    return [row for row in rows if id(row) in chosen]


def sha256_of_text(parts: tuple[str, ...], label: str) -> bytes:
    """Return a hash by which rows are sampled."""
    return hashlib.sha256("\x1f".join(("max_rows", *parts, label)).encode("utf-8")).digest()


def _candidates(task: ExampleTask, source: Source, store: Store, scratch: Path) -> Iterator[_Row | _Rejected]:
    for file in open_source(source, store):
        rejected: list[Document] = []
        rows = checked_rows(source, file, scratch, rejected)
        yield from (_Rejected(source.name, one.place, one.reason, one.text) for one in rejected)
        for place, row in rows:
            if source.leaves_out(row):
                yield _Rejected(source.name, place, LEFT_OUT, str(row))
            else:
                yield from _pairs(source, place, row) if task == "conversation" else _labelled(source, place, row)


def checked_rows(
    source: Source, file: SourceFile, scratch: Path, rejected: list[Document]
) -> list[tuple[str, dict[str, Any]]]:
    """Return (place, row), checked strictly, and read by `datasets` where it has a reader for the format.

    What is left out is added to `rejected`.
    """
    from pipeline.readers.documents import rows_of

    strict = list(rows_of(source, file, rejected.append))
    if not strict or rejected or file.format not in ("csv", "tsv", "jsonl", "parquet"):
        return strict
    kept = _datasets_rows(source, file, scratch, strict)
    return [(place, row) for (place, _), row in zip(strict, kept, strict=True)]


def _datasets_rows(
    source: Source, file: SourceFile, scratch: Path, strict: list[tuple[str, dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    from datasets import Features, Value, disable_progress_bars, load_dataset

    from pipeline.sources.archives import copy_bytes

    disable_progress_bars()
    path = scratch / f"{hashlib.sha256(file.name.encode()).hexdigest()[:16]}.{file.format}"
    copy_bytes(source, file, path)
    options: dict[str, Any] = {}
    if file.format in ("csv", "tsv"):
        columns = list(strict[0][1]) if strict else list(source.columns)
        options = {
            "features": Features({name: Value("string") for name in columns}),
            "keep_default_na": False,
            "delimiter": "\t" if file.format == "tsv" else ",",
            "quoting": 3 if file.format == "tsv" else 0,
            "names": columns,
            "header": None if source.columns else 0,
            "encoding": "utf-8-sig",
        }
    builder = {"tsv": "csv", "jsonl": "json"}.get(file.format, file.format)
    found = load_dataset(builder, data_files=str(path), split="train", cache_dir=str(scratch / "datasets"), **options)
    if len(found) == len(strict) and all(map(_agree, found, (row for _, row in strict))):
        yield from found
    else:  # rows that the card leaves out, blank lines, or a guess: `datasets` makes a date of text that looks like one
        yield from (row for _, row in strict)


def _agree(read: dict[str, Any], row: dict[str, Any]) -> bool:
    """Tell whether two readings of a row are equal; `datasets` fills in None for a field that only other rows have."""
    return {name: value for name, value in read.items() if value is not None or name in row} == row


def _labelled(source: Source, place: str, row: dict[str, Any]) -> Iterator[_Row | _Rejected]:
    text = _render(source.text, row, place, source)
    label = row.get(source.label)
    if label is None and source.label not in row:
        raise DataError(
            f"source {source.name}, {place}: there is no field {source.label!r} for the label; it has {', '.join(row)}."
        )
    if text is None or not text.strip():
        yield _Rejected(source.name, place, "no text", "")
    elif label is None or not str(label).strip():
        yield _Rejected(source.name, place, "no label", text)
    else:
        key = hashlib.sha256(text.encode("utf-8")).digest()
        yield _Row(source=source.name, place=place, parts=(text,), label=str(label).strip(), key=key)


def _pairs(source: Source, place: str, row: dict[str, Any]) -> Iterator[_Row | _Rejected]:
    """Yield a row's prompts with their replies; they share a key, so that they stay in one split."""
    key = hashlib.sha256(canonical_json({k: str(v) for k, v in row.items()}).encode("utf-8")).digest()
    for pair in source.pairs or (Pair(prompt="{prompt}", reply="{reply}"),):
        if any(str(row.get(name)) not in values for name, values in pair.where.items()):
            continue
        prompt, reply = (_render(template, row, place, source) for template in (pair.prompt, pair.reply))
        if not prompt or not prompt.strip():
            yield _Rejected(source.name, place, "no prompt", "")
        elif not reply or not reply.strip():
            yield _Rejected(source.name, place, "no reply", prompt)
        else:
            yield _Row(source=source.name, place=place, parts=(prompt.strip(), reply.strip()), label="", key=key)


def _render(template: str, row: dict[str, Any], place: str, source: Source) -> str | None:
    from pipeline.sources.document import normalize
    from pipeline.sources.templates import render

    try:
        text = render(template, row)
    except DataError as error:
        raise DataError(f"source {source.name}, {place}: {error} The template is {template!r}.") from error
    return None if text is None else normalize(text)


def label_names(rows: Sequence[_Row]) -> list[str]:
    """Return the labels in the order of their numbers: sorted.

    Raises DataError when there are fewer than two.
    """
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        raise DataError(f"a classifier needs at least two labels, and the rows have {labels}.")
    return labels


def _split_rule(config: ExamplesConfig, row: _Row) -> dict[str, float]:
    return next(source.split for source in config.sources if source.name == row.source)


def _check_labels(rows: Sequence[_Row], splits: Sequence[str], labels: Sequence[str]) -> None:
    learned = {row.label for row, split in zip(rows, splits, strict=True) if split == "train"}
    if unseen := set(labels) - learned:
        raise DataError(f"no training row has the label(s) {', '.join(sorted(unseen))}: add rows, or leave those out.")


# --- encoding and writing ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A task: some consecutive rows."""

    rows: tuple[_Row, ...]
    tokenizer: Path
    task: ExampleTask


def _encode(part: _Part) -> list[tuple[list[int], list[int]]]:
    """Return (ids, loss mask) of each row."""
    from pipeline.tokenization.text_encoder import Message, TextEncoder

    encoder = TextEncoder(part.tokenizer)
    if part.task == "classification":
        return [(ids, []) for ids in encoder.encode_batch([row.parts[0] for row in part.rows])]
    return [
        encoder.conversation_ids([Message("user", row.parts[0]), Message("assistant", row.parts[1])])
        for row in part.rows
    ]


def _write(
    draft: Draft,
    config: ExamplesConfig,
    rows: Sequence[_Row],
    splits: Sequence[str],
    encoded: Sequence[tuple[list[int], list[int]]],
    labels: list[str],
    rejects: Rejects,
    vocab_size: int,
) -> None:
    import pyarrow as pa

    from pipeline.tables.arrow import PartWriter
    from pipeline.tokenization.text_encoder import token_dtype

    ids_type = pa.list_(pa.uint16() if token_dtype(vocab_size) == "uint16" else pa.uint32())
    extra = ("label", pa.int64()) if config.example_type == "classification" else ("loss_mask", pa.list_(pa.uint8()))
    schema = pa.schema([("input_ids", ids_type), extra])
    writers = {split: PartWriter(draft.path, split, schema, part_bytes=2**24) for split in SPLITS}
    counts: Counter[str] = Counter()
    longest = truncated = 0
    for row, split, (ids, mask) in zip(rows, splits, encoded, strict=True):
        if config.example_type == "conversation" and len(ids) > config.max_tokens:
            rejects.add(row.source, row.place, "examples", "above max_tokens", row.parts[0])
            continue
        truncated += len(ids) > config.max_tokens
        ids = ids[: config.max_tokens]
        value: Any = labels.index(row.label) if labels else mask
        writers[split].add({"input_ids": ids, extra[0]: value}, 4 * len(ids))
        counts[split] += 1
        longest = max(longest, len(ids))
    for split, writer in writers.items():
        writer.close()
        if split in set(splits) and not counts[split]:
            raise DataError(
                f"every example of the {split} split is longer than {config.max_tokens} tokens; raise max_tokens."
            )
    draft.fact(examples=dict(counts), longest=longest)
    draft.count(truncated=truncated)


def licenses(config: ExamplesConfig) -> tuple[License, ...]:
    """Return what the sources ask a derived work to carry."""
    return tuple(source.as_license for source in config.sources)


STAGE = Stage(
    module="pipeline.examples",
    version=2,
    kind="examples",
    config=ExamplesConfig,
    execution=Workers,
    roles={"tokenizer": Role(kinds=("tokenizer",), help="the encoder, the same as the model's")},
    determinism="bytes",
    toolchain=("tokenizers", "pyarrow", "datasets"),
    run=run,
    resolve=resolve,
    licenses=licenses,
    summarize=lambda artifact: f"{by_split(artifact.facts['examples'])} {artifact.facts['example_type']} examples",
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
