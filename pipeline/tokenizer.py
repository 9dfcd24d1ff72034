"""Stage 2: train a byte-level BPE on the train split, or take over one that exists.

corpus -> tokenizer.  tokenizer.json is the encoder of text and knows no control token; tokenizer_config.json says
which ids after the text ids control, and how a conversation is written; report.json says how well it fits.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import shorten
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, MissingError
from pipeline.executors.executor import Workers
from pipeline.runtime.console import say
from pipeline.runtime.hashing import JSON
from pipeline.stage.definition import Job, Role, Stage
from pipeline.stage.program import main_of
from pipeline.tokenization.engines import UnsuitableError
from pipeline.tokenization.fast_training import fast_merges, tokenizer_of
from pipeline.tokenization.importing import TokenizerFile, Vocabulary, build_tokenizer, find_tokenizer, read_tokenizer
from pipeline.tokenization.measures import measure, short_lines
from pipeline.tokenization.pretokenizers import Pattern, build_pretokenizer, has_longer_pretoken
from pipeline.tokenization.text_encoder import CONTROL_TOKENS, TextEncoder, tokenizer_config
from pipeline.tokenization.training_sample import Selection, read_bytes, read_texts, select

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTES = 256
_SHORTEST_CAP = 16


@dataclass(frozen=True, kw_only=True)
class _Learning:
    """What vocabulary to learn; in the id as it is asked for."""

    vocab_size: int = 8192
    """ids in all: 256 bytes, the merges, and the control tokens; fewer if the corpus has no more pairs"""
    min_frequency: int = 2
    """a pair must be seen this often to be merged"""
    pattern: Pattern = "gpt2"
    """how text is cut before pairs are merged: gpt2; cl100k; or as gpt2 with digits one by one or in threes"""
    budget_bytes: int | None = None
    """text to learn from, at most: documents of the train split chosen by their content; none: all of it"""
    max_pretoken_bytes: int = 512
    """longer pre-tokens (an unbroken run of letters) are cut for learning, whose time grows with their square"""

    def __post_init__(self) -> None:
        if self.vocab_size < _BYTES + len(CONTROL_TOKENS):
            least = f"{_BYTES} bytes and {len(CONTROL_TOKENS)} control tokens"
            raise ConfigError(f"tokenizer.vocab_size must hold {least}, got {self.vocab_size}.")
        if self.min_frequency < 1:
            raise ConfigError(f"tokenizer.min_frequency must be at least 1, got {self.min_frequency}.")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ConfigError(f"tokenizer.budget_bytes must be at least 1, got {self.budget_bytes}.")
        if self.max_pretoken_bytes < _SHORTEST_CAP:
            raise ConfigError(
                f"tokenizer.max_pretoken_bytes must be at least {_SHORTEST_CAP}, got {self.max_pretoken_bytes}."
            )


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions(_Learning):
    """What vocabulary to learn, or which to take over."""

    import_from: Annotated[str | None, tyro.conf.arg(aliases=["--import"])] = None
    """take over this tokenizer: a tokenizer.json, a folder with encoder.json and vocab.bpe, or a .tiktoken file"""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(_Learning):
    """What vocabulary is learned, or the files of the one that is taken over."""

    imported: tuple[TokenizerFile, ...] = ()
    """the files of that tokenizer and their hashes"""


def resolve(options: TokenizerOptions, store: Store) -> TokenizerConfig:
    """Replace the path of a tokenizer to take over by its files and their hashes.

    Raises ConfigError for settings of learning beside it: nothing is learned.
    """
    asked = {setting.name: getattr(options, setting.name) for setting in fields(_Learning)}
    if options.import_from is None:
        return TokenizerConfig(**asked)
    for name in ("vocab_size", "min_frequency", "budget_bytes", "max_pretoken_bytes"):
        if asked[name] != getattr(_Learning(), name):
            raise ConfigError(f"tokenizer.{name} is for learning, and an imported tokenizer has learned: leave it out.")
    return TokenizerConfig(**asked, imported=find_tokenizer(Path(options.import_from), store))


TrainerName = Literal["auto", "tokenizers"]
_FAST_FROM_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class TokenizerExecution(Workers):
    """How the merges are learned; changes no byte of them."""

    trainer: TrainerName = "auto"
    """the library that learns; auto: gigatoken for much text, when it gives the merges of `tokenizers`"""


def run(job: Job[TokenizerConfig, TokenizerExecution]) -> Artifact:
    """Learn the merges or take them over, and report how well they fit."""
    os.environ["RAYON_NUM_THREADS"] = str(job.execution.workers)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    corpus = job.inputs.get("corpus")
    with job.draft() as draft:
        if job.config.imported:
            tokenizer, about = _import(job.config)
        else:
            tokenizer, about = _train(job.config, corpus, job.execution.trainer, job.store)
        text_size = tokenizer.get_vocab_size()
        tokenizer.save(str(draft.path / "tokenizer.json"))
        _write_json(draft.path / "tokenizer_config.json", tokenizer_config(text_size))
        encoder = TextEncoder(draft.path)
        report = {**about, **measure(encoder, corpus)}
        _write_json(draft.path / "report.json", report)
        draft.fact(vocab_size=encoder.vocab_size, text_size=text_size, control=encoder.control)
        draft.fact(pattern=about["pattern"], bytes_per_token=report["bytes_per_token"])
    for line in short_lines(report):
        say(f"  {line}")
    if not job.config.imported and encoder.vocab_size < job.config.vocab_size:
        say(f"the corpus has pairs for {encoder.vocab_size:,} ids only, of the {job.config.vocab_size:,} asked for")
    return draft.artifact


def _train(
    config: TokenizerConfig, corpus: Artifact | None, trainer: TrainerName, store: Store
) -> "tuple[Tokenizer, dict[str, JSON]]":
    """Return the tokenizer that the train split teaches, and what the report says of its origin."""
    if corpus is None:
        raise MissingError(
            "pipeline.tokenizer needs --corpus, the text whose train split it learns from (corpus:ID, or --recipe "
            "finds it), or --import PATH, a tokenizer that exists: tokenizer.json, or encoder.json with vocab.bpe."
        )
    taken = select(corpus, "train", config.budget_bytes)
    _say_selection(taken)
    cut = has_longer_pretoken(config.pattern, read_bytes(corpus, "train", taken), config.max_pretoken_bytes)
    tokenizer = None
    if trainer == "auto" and config.pattern == "gpt2" and taken.bytes >= _FAST_FROM_BYTES and not cut:
        tokenizer = _train_fast(config, read_texts(corpus, "train", taken), store)
    if tokenizer is None:
        tokenizer = train(read_texts(corpus, "train", taken), config, cut=cut)
    training = {name: value for name, value in vars(taken).items() if name != "last"}
    return tokenizer, {"asked_vocab_size": config.vocab_size, "pattern": config.pattern, "training": training}


def _train_fast(config: TokenizerConfig, texts: Iterable[list[str]], store: Store) -> "Tokenizer | None":
    """Return the tokenizer with the merges that gigatoken learned; None when `tokenizers` has to."""
    merge_count = config.vocab_size - len(CONTROL_TOKENS) - _BYTES
    try:
        with store.scratch() as scratch:
            return tokenizer_of(fast_merges(texts, merge_count, config.min_frequency, scratch))
    except UnsuitableError as error:
        say(f"`tokenizers` learns the merges: {error}")
        return None


def _say_selection(taken: Selection) -> None:
    if taken.documents < taken.of_documents:
        share = f"{taken.documents:,} of {taken.of_documents:,} documents"
        say(f"learning from {share}, {taken.bytes / 1e6:.1f} of {taken.of_bytes / 1e6:.1f} MB")


def _import(config: TokenizerConfig) -> "tuple[Tokenizer, dict[str, JSON]]":
    """Return the tokenizer that was taken over, and what the report says of its origin.

    Raises ConfigError when a pattern was asked for and the file has another.
    """
    found = read_tokenizer(config.imported, config.pattern)
    if found.pattern != config.pattern and config.pattern != TokenizerConfig().pattern:
        raise ConfigError(f"tokenizer.pattern is {config.pattern}, and the file has {found.pattern}: leave it out.")
    _say_left_out(found)
    return build_tokenizer(found), {"pattern": found.pattern, "left_out": list(found.left_out)}


def _say_left_out(found: Vocabulary) -> None:
    if found.left_out:
        names = ", ".join(found.left_out[:5]) + (", …" if len(found.left_out) > 5 else "")
        say(f"left out, so that text never becomes one: {names}; the control tokens are {', '.join(CONTROL_TOKENS)}")


def train(texts: Iterable[str] | Iterable[list[str]], config: TokenizerConfig, *, cut: bool = True) -> "Tokenizer":
    """Return a tokenizer trained on `texts`, an item a document (or a list of them, which is faster).

    `cut` is false for text that is known to have no pre-token over `max_pretoken_bytes`: the same, a sixth sooner.
    No prefix, suffix or limited alphabet: with those the trainer's result changes from run to run.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    pretokenizer = build_pretokenizer(config.pattern)
    capped = pre_tokenizers.Sequence([pretokenizer, pre_tokenizers.FixedLength(config.max_pretoken_bytes)])
    tokenizer.pre_tokenizer = capped if cut else pretokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(CONTROL_TOKENS),
        min_frequency=config.min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = pretokenizer
    return tokenizer


def _write_json(path: Path, page: JSON) -> None:
    path.write_text(json.dumps(page, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def licenses(config: TokenizerConfig) -> tuple[License, ...]:
    """Return what an imported tokenizer asks a derived work to carry: that is the user's to know."""
    names = [Path(file.location).name for file in config.imported]
    if not names:
        return ()
    about = f"{' and '.join(names)}, given by the user; its licence is the user's to know"
    return (License(source="imported tokenizer", license="unknown", attribution=about),)


def summarize(artifact: Artifact) -> str:
    fit = artifact.facts["bytes_per_token"]  # none for one that was imported without a text to measure it on
    return f"{artifact.facts['vocab_size']:,} ids" + (f", {fit:.2f} bytes per token" if fit is not None else "")


def next_commands(artifact: Artifact) -> list[str]:
    corpus = artifact.manifest.recipe.inputs.get("corpus")
    name = shorten(corpus.reference) if corpus else "corpus:ID"
    return [f"python -m pipeline.shards --corpus {name} --tokenizer {artifact.short}"]


STAGE = Stage(
    module="pipeline.tokenizer",
    version=3,
    kind="tokenizer",
    options=TokenizerOptions,
    config=TokenizerConfig,
    execution=TokenizerExecution,
    roles={
        "corpus": Role(
            kinds=("corpus",),
            help="the text whose train split it learns from; beside --import only for the report",
            optional=True,
        )
    },
    determinism="bytes",
    toolchain=("tokenizers",),
    run=run,
    resolve=resolve,
    licenses=licenses,
    summarize=summarize,
    next_commands=next_commands,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
