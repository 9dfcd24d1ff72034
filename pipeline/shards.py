"""Stage 3: encode the corpus and write the token stream as Arrow shards.

corpus + tokenizer -> shards.  Rows are documents ending with <|endoftext|>: {"input_ids": list<uint16 or uint32>}.
A shard is one record batch, so the buffer of its values is the token stream itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError
from pipeline.parallel import Workers, map_parts
from pipeline.stage import Job, Role, Stage, main_of

_BATCH_DOCUMENTS = 256


@dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """How the stream is cut into files."""

    shard_tokens: int = 2**24
    """tokens in one file, at most (a longer document has a file of its own)"""

    def __post_init__(self) -> None:
        if self.shard_tokens < 2:
            raise ConfigError(f"shards.shard_tokens must be at least 2, got {self.shard_tokens}.")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A task: one part of the corpus becomes its own shards."""

    split: str
    index: int
    text: Path
    tokenizer: Path
    folder: Path
    shard_tokens: int


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    split: str
    paths: list[Path]
    documents: int
    tokens: int
    bytes: int


def run(job: Job[ShardsConfig, Workers]) -> Artifact:
    """Encode each part of the corpus by itself and number the shards in order."""
    from pipeline.arrow import name_parts
    from pipeline.encoding import TextEncoder

    corpus, tokenizer = job.inputs["corpus"], job.inputs["tokenizer"]
    encoder = TextEncoder.of(tokenizer)
    with job.draft() as draft:
        parts = [
            _Part(
                split=split,
                index=i,
                text=path,
                tokenizer=tokenizer.payload,
                folder=draft.path,
                shard_tokens=job.config.shard_tokens,
            )
            for split in ("train", "validation", "test")
            for i, path in enumerate(corpus.files(f"{split}-"))
        ]
        encoded = list(map_parts(encode_part, parts, execution=job.execution, label="encoding"))
        totals: dict[str, dict[str, int]] = {"documents": {}, "tokens": {}, "bytes": {}}
        for split in dict.fromkeys(part.split for part in encoded):
            mine = [part for part in encoded if part.split == split]
            name_parts([path for part in mine for path in part.paths], split)
            for name, by_split in totals.items():
                by_split[split] = sum(getattr(part, name) for part in mine)
        draft.fact(**totals, dtype=token_dtype(encoder.vocab_size), vocab_size=encoder.vocab_size)
        draft.fact(end_of_text=encoder.end_of_text, tokenizer_digest=tokenizer.digest)
    return draft.artifact


def token_dtype(vocab_size: int) -> str:
    """Return the narrowest of uint16 and uint32 that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def encode_part(part: _Part) -> _Encoded:
    """Encode one part of the corpus; a pure function of the part and the tokenizer."""
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from pipeline.arrow import read_batch
    from pipeline.encoding import TextEncoder

    encoder = TextEncoder(part.tokenizer)
    texts = read_batch(part.text).column("text")
    paths: list[Path] = []
    shard: list[list[int]] = []
    tokens = in_shard = size = 0
    for ids, text_bytes in _encoded_documents(encoder, texts):
        if shard and in_shard + len(ids) > part.shard_tokens:
            paths.append(_write_shard(part, len(paths), shard, encoder.vocab_size))
            shard, in_shard = [], 0
        shard.append(ids)
        in_shard += len(ids)
        tokens += len(ids)
        size += text_bytes
    if shard:
        paths.append(_write_shard(part, len(paths), shard, encoder.vocab_size))
    return _Encoded(split=part.split, paths=paths, documents=len(texts), tokens=tokens, bytes=size)


def _encoded_documents(encoder: Any, texts: Any) -> Iterator[tuple[list[int], int]]:
    """Yield each document's ids, end-of-text included, and the bytes of its text."""
    for start in range(0, len(texts), _BATCH_DOCUMENTS):
        batch = texts.slice(start, _BATCH_DOCUMENTS).to_pylist()
        for text, ids in zip(batch, encoder.encode_batch(batch), strict=True):
            yield [*ids, encoder.end_of_text], len(text.encode("utf-8"))


def _write_shard(part: _Part, number: int, documents: list[list[int]], vocab_size: int) -> Path:
    import numpy as np
    import pyarrow as pa

    from pipeline.arrow import write_batch

    dtype = token_dtype(vocab_size)
    offsets = np.zeros(len(documents) + 1, dtype=np.int32)
    np.cumsum([len(ids) for ids in documents], out=offsets[1:])
    values = np.fromiter((i for ids in documents for i in ids), dtype=dtype, count=int(offsets[-1]))
    rows = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    path = part.folder / f".{part.split}-{part.index:05d}-{number:05d}"
    write_batch(path, pa.RecordBatch.from_arrays([rows], names=["input_ids"]))
    return path


STAGE = Stage(
    module="pipeline.shards",
    version=1,
    kind="shards",
    config=ShardsConfig,
    execution=Workers,
    roles={
        "corpus": Role(kinds=("corpus",), help="the text to encode"),
        "tokenizer": Role(kinds=("tokenizer",), help="the encoder"),
    },
    determinism="bytes",
    toolchain=("tokenizers", "pyarrow"),
    run=run,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
