"""Stage 2: train a byte-level BPE on the train split.

corpus -> tokenizer.  tokenizer.json is the encoder of text and knows no control token; tokenizer_config.json says
which ids after the text ids control, and how a conversation is written.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.encoding import CONTROL_TOKENS, TextEncoder, tokenizer_config
from pipeline.errors import ConfigError
from pipeline.parallel import Workers
from pipeline.process import say
from pipeline.stage import Job, Role, Stage, main_of

_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """What vocabulary to learn."""

    vocab_size: int = 8192
    """ids in all: 256 bytes, the merges, and the control tokens; fewer if the corpus has no more pairs"""
    min_frequency: int = 2
    """a pair must be seen this often to be merged"""

    def __post_init__(self) -> None:
        if self.vocab_size < _BYTES + len(CONTROL_TOKENS):
            least = f"{_BYTES} bytes and {len(CONTROL_TOKENS)} control tokens"
            raise ConfigError(f"tokenizer.vocab_size must hold {least}, got {self.vocab_size}.")
        if self.min_frequency < 1:
            raise ConfigError(f"tokenizer.min_frequency must be at least 1, got {self.min_frequency}.")


def run(job: Job[TokenizerConfig, Workers]) -> Artifact:
    """Learn the merges, and report how well they fit."""
    os.environ["RAYON_NUM_THREADS"] = str(job.execution.workers)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    corpus = job.inputs["corpus"]
    with job.draft() as draft:
        tokenizer = train(_texts(corpus, "train"), job.config)
        text_size = tokenizer.get_vocab_size()
        tokenizer.save(str(draft.path / "tokenizer.json"))
        _write_json(draft.path / "tokenizer_config.json", tokenizer_config(text_size))
        encoder = TextEncoder(draft.path)
        report = measure(encoder, _texts(corpus, "validation"))
        _write_json(draft.path / "report.json", {"asked_vocab_size": job.config.vocab_size, **report})
        draft.fact(vocab_size=encoder.vocab_size, text_size=text_size, control=encoder.control)
        draft.fact(bytes_per_token=report["bytes_per_token"])
    if encoder.vocab_size < job.config.vocab_size:
        say(f"the corpus has pairs for {encoder.vocab_size:,} ids only, of the {job.config.vocab_size:,} asked for")
    return draft.artifact


def train(texts: Iterator[str], config: TokenizerConfig) -> Any:
    """Return a `tokenizers.Tokenizer` trained on `texts`, an item a document.

    No prefix, suffix or limited alphabet: with those the trainer's result changes from run to run.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(CONTROL_TOKENS),
        min_frequency=config.min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def measure(encoder: TextEncoder, texts: Iterator[str]) -> dict[str, Any]:
    """Encode held-out text: bytes per token, tokens per word, and how much of the vocabulary it uses."""
    tokens = size = words = 0
    used: set[int] = set()
    for text in texts:
        ids = encoder.encode(text)
        used.update(ids)
        tokens += len(ids)
        size += len(text.encode("utf-8"))
        words += len(text.split())
    longest = sorted(encoder.token_bytes, key=len, reverse=True)[:20]
    return {
        "bytes_per_token": round(size / max(1, tokens), 4),
        "tokens_per_word": round(tokens / max(1, words), 4),
        "used_fraction": round(len(used) / encoder.text_size, 4),
        "longest_tokens": [token.decode("utf-8", errors="replace") for token in longest],
    }


def _texts(corpus: Artifact, split: str) -> Iterator[str]:
    from pipeline.arrow import read_batch

    for path in corpus.files(f"{split}-"):
        yield from read_batch(path).column("text").to_pylist()


def _write_json(path: Path, page: Any) -> None:
    path.write_text(json.dumps(page, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


STAGE = Stage(
    module="pipeline.tokenizer",
    version=1,
    kind="tokenizer",
    config=TokenizerConfig,
    execution=Workers,
    roles={"corpus": Role(kinds=("corpus",), help="the text whose train split it learns from")},
    determinism="bytes",
    toolchain=("tokenizers",),
    run=run,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
