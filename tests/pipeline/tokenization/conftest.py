"""Fixtures of this room: tokenizers of several patterns, and some that are strange to a fast engine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.tokenization import engines
from pipeline.tokenization.agreement import choose_engine
from pipeline.tokenization.engines import engines_for
from pipeline.tokenization.pretokenizers import CL100K
from pipeline.tokenization.probe_texts import probe_texts
from pipeline.tokenization.text_encoder import tokenizer_config

PATTERNS = {
    "gpt2": "",
    "cl100k": CL100K.regex,
    "digits one by one": CL100K.regex.replace("{1,3}", ""),
    "unknown": r"\p{N}|\p{L}+|[^\p{L}\p{N}]+",
}


class Choice(NamedTuple):
    """Which engine encodes, and why no faster one."""

    engine: str
    refused: dict[str, str]


@pytest.fixture
def choose() -> Callable[[Path, Any], Choice]:
    """Choose an engine as a process does that has chosen none yet: choose(folder, "auto")."""

    def choose(folder: Path, asked: Any) -> Choice:
        choose_engine.cache_clear()
        engine, refused = choose_engine(folder, engines_for(asked))
        return Choice(engine.name, refused)

    return choose


def save_encoder(folder: Path, texts: list[str], pattern: str, vocab_size: int = 900) -> Path:
    """Train a tokenizer whose words are those of `pattern`; "" is GPT-2's own."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level]) if pattern else byte_level
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    page = tokenizer_config(tokenizer.get_vocab_size())
    (folder / "tokenizer_config.json").write_text(json.dumps(page), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer for each pattern, which has learned something of the probe texts too."""
    root = tmp_path_factory.mktemp("patterns")
    source = Path(engines.__file__).read_text(encoding="utf-8")
    texts = [*source.split("\n\n"), *probe_texts()[:150], "Sa\nSAAA\n" * 20] * 2
    return {name: save_encoder(root / name, texts, pattern) for name, pattern in PATTERNS.items()}


def edit_copy(folder: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a tokenizer with a change to its tokenizer.json."""
    shutil.copytree(folder, target)
    page = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    change(page)
    (target / "tokenizer.json").write_text(json.dumps(page), encoding="utf-8")
    return target


@pytest.fixture
def edit() -> Callable[[Path, Path, Callable[[dict[str, Any]], None]], Path]:
    """Copy a tokenizer with a change to its tokenizer.json: edit(folder, target, change)."""
    return edit_copy


def normalize(page: dict[str, Any]) -> None:
    page["normalizer"] = {"type": "NFC"}


def add_prefix_space(page: dict[str, Any]) -> None:
    page["pre_tokenizer"]["add_prefix_space"] = True


def cut_twice(page: dict[str, Any]) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    page["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, page["pre_tokenizer"]]}


def swap_merges(page: dict[str, Any]) -> None:
    merges = page["model"]["merges"]
    merges[0], merges[-1] = merges[-1], merges[0]


@pytest.fixture(
    params=[
        (normalize, "normalizes text"),
        (add_prefix_space, "not cut at byte level"),
        (cut_twice, "not cut by one regular expression"),
        (swap_merges, "do not follow the order of the merges"),
    ],
    ids=lambda param: param[0].__name__,
)
def strange(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path) -> tuple[Path, str]:
    """A tokenizer that tiktoken cannot do, and why."""
    change, why = request.param
    return edit_copy(folders["gpt2"], tmp_path / "changed", change), why
