"""Stage 3: encode the corpus and write the tokens as Arrow shards, as one stream or packed into windows.

corpus + tokenizer -> shards.  Each document ends with <|endoftext|>.  layout stream: rows are documents,
{"input_ids": list<uint16 or uint32>}.  layout packed: rows are windows of context_length + 1 ids, whole documents
followed by <|pad|>, and "document_starts" says where in the window each begins; padding begins like a document.
A shard is one record batch, so the buffer of its values is the token stream itself; index.json counts them by file.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, DataError
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import Output, Work
from pipeline.runtime.console import say
from pipeline.runtime.files import link_or_copy, sync_file, write_json
from pipeline.runtime.hashing import JSON
from pipeline.stage.definition import Job, Role, Stage
from pipeline.stage.program import main_of
from pipeline.tables.splits import SPLITS, by_split
from pipeline.tokenization.agreement import choose_engine, find_mismatch
from pipeline.tokenization.engines import REFERENCE, EncoderName, engines_for, open_reference
from pipeline.tokenization.text_encoder import END_OF_TEXT, PAD, TextEncoder, token_dtype

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64, UInt

    from pipeline.tokenization.engines import Lengths, TokenIds

INDEX = "index.json"
_MOST_TOKENS = 2**31 - 1
_TOTALS = ("documents", "tokens", "bytes")
_PACKING = ("windows", "padding", "cut_documents", "cuts")


@dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """How the tokens are laid out and cut into files."""

    shard_tokens: int = 2**24
    """tokens in one file, at most (a longer document or window has a file of its own)"""
    layout: Literal["stream", "packed"] = "stream"
    """stream: documents one after the other, windows are cut when training; packed: windows of whole documents"""
    context_length: int | None = None
    """for packed: a window has one id more than this"""

    def __post_init__(self) -> None:
        if not 2 <= self.shard_tokens <= _MOST_TOKENS:
            raise ConfigError(f"shards.shard_tokens must be from 2 to {_MOST_TOKENS:,}, got {self.shard_tokens}.")
        if self.layout == "stream" and self.context_length is not None:
            raise ConfigError("shards.context_length is for layout packed; a stream serves every context length.")
        if self.layout == "packed" and not 1 <= (self.context_length or 0) < _MOST_TOKENS:
            raise ConfigError(f"shards.context_length must be at least 1 for packed, got {self.context_length}.")


@dataclass(frozen=True, kw_only=True)
class ShardsExecution(Workers):
    """How the shards are made; changes no byte of them."""

    encoder: EncoderName = "auto"
    """the library that encodes; auto: the fastest that is installed and gives the ids of `tokenizers`"""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A work item: one part of the corpus becomes its own shards."""

    split: str
    text: Path
    tokenizer: Path
    engines: tuple[str, ...]
    """those to try, the best first: a machine of a cluster may lack what another one has"""
    config: ShardsConfig


def run(job: Job[ShardsConfig, ShardsExecution]) -> Artifact:
    """Encode each part of the corpus by itself and number the shards in order."""
    corpus, tokenizer = job.inputs["corpus"], job.inputs["tokenizer"]
    control, vocab_size = tokenizer.facts["control"], tokenizer.facts["vocab_size"]
    engines = engines_for(job.execution.encoder)
    texts = [(split, path) for split in SPLITS for path in corpus.files(f"{split}-")]
    with job.work() as work:
        parts = [
            _Part(split=split, text=path, tokenizer=tokenizer.payload, engines=engines, config=job.config)
            for split, path in texts
        ]
        encoded, refused = _encode(work, parts)
        results = [output.result for output in encoded]
        with job.draft() as draft:
            shards = _place(encoded, draft.path)
            write_json(draft.path / INDEX, shards)
            names = (*_TOTALS, *(_PACKING if job.config.layout == "packed" else ()))
            draft.fact(**{name: _by_split(results, name) for name in names})
            draft.fact(layout=job.config.layout, dtype=token_dtype(vocab_size), vocab_size=vocab_size)
            if job.config.layout == "packed":
                draft.fact(context_length=job.config.context_length, pad=control[PAD])
            draft.fact(end_of_text=control[END_OF_TEXT], tokenizer_digest=tokenizer.digest)
            used = sorted({result["engine"] for result in results})
            write_json(draft.record / "encoder.json", {"engines": used, "refused": refused})
    return draft.artifact


def _encode(work: Work, parts: list[_Part]) -> tuple[list[Output], dict[str, str]]:
    """Encode all parts with the best engines, or all with the reference if one of those differs anywhere.

    Return what that gave, and which engines were not used, on some machine at least, and why.
    """
    encoded = work.map("encode", encode_part, parts, label="encoding")
    results = [output.result for output in encoded]
    refused = {name: reason for result in results for name, reason in result["refused"].items()}
    mismatches = {result["engine"]: result["mismatch"] for result in results if result["mismatch"]}
    for name, reason in (refused | mismatches).items():
        say(f"{name} is not used: {reason}")
    if not mismatches:
        return encoded, refused
    say(f"everything is encoded with {REFERENCE} instead")
    parts = [replace(part, engines=(REFERENCE,)) for part in parts]
    return work.map("encode-again", encode_part, parts, label="encoding"), refused | mismatches


def _place(encoded: list[Output], folder: Path) -> dict[str, JSON]:
    """Give the shards of all parts their final names in `folder`; return [name, tokens, documents] of each by split."""
    from pipeline.tables.arrow import part_name

    found: dict[str, list[tuple[Path, int, int]]] = {}
    for made, result in encoded:
        for name, tokens, documents in result["files"]:
            found.setdefault(result["split"], []).append((made / name, tokens, documents))
    index: dict[str, JSON] = {}
    for split, files in found.items():
        names = [part_name(split, i, len(files)) for i in range(len(files))]
        for (path, _, _), name in zip(files, names, strict=True):
            link_or_copy(path, folder / name)
        index[split] = [[name, *counts] for name, (_, *counts) in zip(names, files, strict=True)]
    return index


def _by_split(results: list[dict[str, Any]], name: str) -> dict[str, JSON]:
    totals: dict[str, JSON] = {}
    for split in dict.fromkeys(result["split"] for result in results):
        totals[split] = sum(result[name] for result in results if result["split"] == split)
    return totals


# --- one part ------------------------------------------------------------------------------------------------


def encode_part(part: _Part, out: Path) -> dict[str, JSON]:
    """Encode one part of the corpus into `out`; a pure function of the part and the tokenizer.

    The result has `engine` and why others were `refused`; and `files`, [name, tokens, documents] of each, or else
    `mismatch`, why the engine's ids cannot be right.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from pipeline.tables.arrow import offsets_of, read_batch

    reference = open_reference(part.tokenizer)
    engine, refused = choose_engine(part.tokenizer, part.engines)
    about: dict[str, JSON] = {"split": part.split, "engine": engine.name, "refused": refused}
    texts = read_batch(part.text).column("text")
    values, lengths = engine.encode_documents(texts)
    if engine is not reference and (found := find_mismatch(engine, reference, texts, values)):
        return {**about, "mismatch": found}
    encoder = reference.encoder
    stream = end_documents(values, lengths, encoder.end_of_text)
    write = _write_packed if part.config.layout == "packed" else _write_stream
    counts = write(part.config, out, stream, lengths + 1, encoder)
    offsets = offsets_of(texts)
    totals: dict[str, JSON] = {"documents": len(texts), "tokens": len(stream), "bytes": int(offsets[-1] - offsets[0])}
    return {**about, "mismatch": "", **totals, **counts}


def end_documents(values: "TokenIds", lengths: "Lengths", end_of_text: int) -> "UInt[np.ndarray, ' stream']":
    """Return the stream of documents of these lengths, each followed by `end_of_text`."""
    import numpy as np

    ends = np.cumsum(lengths + 1) - 1
    stream = np.empty(len(values) + len(lengths), dtype=values.dtype)
    is_text = np.ones(len(stream), dtype=bool)
    is_text[ends] = False
    stream[is_text] = values
    stream[ends] = end_of_text
    return stream


def _write_stream(
    config: ShardsConfig, out: Path, stream: "TokenIds", lengths: "Lengths", encoder: TextEncoder
) -> dict[str, JSON]:
    """Write whole documents, as many to a file as fit."""
    import numpy as np

    ends = np.concatenate([[0], np.cumsum(lengths)])
    files: list[JSON] = []
    first = 0
    while first < len(lengths):
        fitting = int(np.searchsorted(ends, ends[first] + config.shard_tokens, side="right")) - 1
        stop = max(first + 1, fitting)
        start, end = int(ends[first]), int(ends[stop])
        if end - start > _MOST_TOKENS:
            raise DataError(f"a document of {end - start:,} tokens is longer than a file can hold; split it.")
        name = f"{len(files):05d}.arrow"
        write_lists(out / name, {"input_ids": (stream[start:end], ends[first : stop + 1] - start)})
        files.append([name, end - start, stop - first])
        first = stop
    return {"files": files}


def _write_packed(
    config: ShardsConfig, out: Path, stream: "TokenIds", lengths: "Lengths", encoder: TextEncoder
) -> dict[str, JSON]:
    """Write windows of whole documents, as many to a file as fit; a document counts where it begins."""
    import numpy as np

    from pipeline.loading.packing import pack

    assert config.context_length is not None
    packing = pack(lengths, config.context_length + 1)
    window = packing.window
    ids = np.full(packing.windows * window, encoder.control[PAD], dtype=stream.dtype)
    for i, length in enumerate(packing.length.tolist()):
        source, target = packing.source[i], packing.target[i]
        ids[target : target + length] = stream[source : source + length]
    begins = np.isin(packing.source, np.cumsum(lengths) - lengths)
    marks = packing.starts()
    files: list[JSON] = []
    step = max(1, config.shard_tokens // window)
    for first in range(0, packing.windows, step):
        start, end = first * window, min(first + step, packing.windows) * window
        bounds = np.searchsorted(marks, np.arange(start, end + 1, window))
        here = marks[bounds[0] : bounds[-1]]
        name = f"{len(files):05d}.arrow"
        columns = {
            "input_ids": (ids[start:end], np.arange(0, end - start + 1, window)),
            "document_starts": ((here % window).astype(token_dtype(window)), bounds - bounds[0]),
        }
        write_lists(out / name, columns)
        inside = (packing.target >= start) & (packing.target < end)
        files.append([name, end - start, int((begins & inside).sum())])
    counts: dict[str, JSON] = {name: getattr(packing, name) for name in _PACKING}
    return {"files": files, **counts}


def write_lists(
    path: Path, columns: "dict[str, tuple[UInt[np.ndarray, ' values'], Int64[np.ndarray, ' offsets']]]"
) -> None:
    """Write lists, each column given by its values and its offsets, as one record batch."""
    import numpy as np
    import pyarrow as pa

    from pipeline.tables.arrow import numbers, write_batch
    from pipeline.tables.features import batch_with_features

    lists = [
        pa.ListArray.from_arrays(numbers(offsets.astype(np.int32)), numbers(values))
        for values, offsets in columns.values()
    ]
    write_batch(path, batch_with_features(pa.RecordBatch.from_arrays(lists, names=list(columns))))
    sync_file(path)  # now, while others compute, and not when all of it is published


STAGE = Stage(
    module="pipeline.shards",
    version=3,
    kind="shards",
    config=ShardsConfig,
    execution=ShardsExecution,
    roles={
        "corpus": Role(kinds=("corpus",), help="the text to encode"),
        "tokenizer": Role(kinds=("tokenizer",), help="the encoder"),
    },
    determinism="bytes",
    toolchain=("tokenizers", "pyarrow"),
    run=run,
    summarize=lambda artifact: f"{by_split(artifact.facts['tokens'])} tokens",
    next_commands=lambda artifact: [f"python -m train.pretrain --shards {artifact.short}"],
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
