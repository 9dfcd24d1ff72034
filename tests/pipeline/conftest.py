"""Fixtures of this room: stages that run in this process, artifacts made by hand, and copies of what was built."""

import contextlib
import importlib
import io
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
from pipeline.tokenization.text_encoder import TextEncoder, tokenizer_config
from pipeline.tokenizer import TokenizerConfig, train

# The same examples every time, however slow the machine is, and no folder of theirs beside the sources.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

CHEAP_STEPS = ("corpus", "tokenizer", "shards", "messages", "dialogues")


@dataclass(frozen=True)
class Ended:
    """A program that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def call(module: str, *arguments: str) -> Ended:
    """Run the program `python -m MODULE ARGUMENTS` in this process, and leave the process as it was."""
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = importlib.import_module(module).main(list(arguments))
    except SystemExit as stop:  # how tyro ends on a command line it cannot parse
        code = int(stop.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(environment)
    return Ended(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Bench:
    """A store to work in, and the programs that work in it."""

    store: Store

    def __call__(self, module: str, *arguments: str) -> Ended:
        """Run a program in this store."""
        return call(module, *arguments, "--store", str(self.store.root))

    def artifacts(self, verb: str, *arguments: str) -> Ended:
        """Run a verb of `python -m pipeline.artifacts`."""
        return call("pipeline.artifacts.__main__", verb, *arguments, "--store", str(self.store.root))

    def make(self, module: str, *arguments: str) -> Artifact:
        """Run a stage that must succeed, and open what it published."""
        ended = self(module, *arguments)
        assert ended.code == 0, ended.err
        return self.store.find(ended.out.strip())

    def corpus(self, source: Path, *arguments: str) -> Artifact:
        """Make a corpus of a file or folder."""
        return self.make("pipeline.corpus", "--source", str(source), *arguments)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty store of this test's own."""
    return Bench(Store(tmp_path / "store"))


@pytest.fixture(scope="session")
def make_bench() -> Callable[[Path], Bench]:
    """Open a store at a place of one's own."""
    return lambda root: Bench(Store(root))


def paragraphs(count: int, seed: int = 0) -> list[str]:
    """Return different little paragraphs, the same ones for the same seed."""
    draw = random.Random(seed)
    animals = ("fox", "hen", "café owner", "wolf", "goose", "mouse")
    places = ("the barn", "a green hill", "the river", "an old mill", "the well")
    return [
        f"Story {i}: the {draw.choice(animals)} went to {draw.choice(places)} and saw {draw.randrange(99)} stars. "
        f"Then it met the {draw.choice(animals)}, and they sat near {draw.choice(places)}."
        for i in range(count)
    ]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A small text file: 60 paragraphs."""
    path = tmp_path / "stories.txt"
    path.write_text("\n\n".join(paragraphs(60)) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Chain:
    """A corpus, its tokenizer and its shards in a store of their own."""

    bench: Bench
    corpus: Artifact
    tokenizer: Artifact
    shards: Artifact


@pytest.fixture(scope="session")
def shared_chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Make a chain of 300 one-paragraph documents in several parts; look, but do not write."""
    root = tmp_path_factory.mktemp("chain")
    source = root / "raw.jsonl"
    source.write_text("".join(f'{{"text": "{text}"}}\n' for text in paragraphs(300)), encoding="utf-8")
    bench = Bench(Store(root / "store"))
    corpus = bench.corpus(source, "--part-bytes", "10000", "--workers", "1")
    tokenizer = bench.make("pipeline.tokenizer", "--corpus", corpus.reference, "--vocab-size", "320")
    shards = bench.make(
        "pipeline.shards", "--corpus", corpus.reference, "--tokenizer", tokenizer.reference, "--shard-tokens", "1500"
    )
    return Chain(bench, corpus, tokenizer, shards)


def copy_store(origin: Store, target: Path, artifacts: list[Artifact]) -> Store:
    """Copy these artifacts and every given name to a store at `target`."""
    for artifact in artifacts:
        shutil.copytree(artifact.path, target / artifact.kind / artifact.id)
    names = {artifact.reference for artifact in artifacts}
    for name, reference in origin.refs().items():
        if reference in names:
            (target / "refs").mkdir(exist_ok=True)
            shutil.copy(origin.root / "refs" / f"{name}.json", target / "refs")
    return Store(target)


@pytest.fixture
def chain(shared_chain: Chain, tmp_path: Path) -> Chain:
    """A copy of the chain, to be damaged at will."""
    made = [shared_chain.corpus, shared_chain.tokenizer, shared_chain.shards]
    store = copy_store(shared_chain.bench.store, tmp_path / "chain", made)
    return Chain(Bench(store), *(store.find(artifact.reference) for artifact in made))


@pytest.fixture
def cheap(tiny: Any, tmp_path: Path) -> Bench:
    """A copy of what `tiny` made before any weights: corpus, tokenizer, shards and both kinds of examples."""
    return Bench(copy_store(tiny.store, tmp_path / "cheap", [tiny[step] for step in CHEAP_STEPS]))


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """Change one bit in the middle of a file, as a failing disk would."""

    def flip(path: Path) -> None:
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        path.chmod(0o444)

    return flip


def request_for(config: Any = None, *, kind: str = "corpus", determinism: Any = "bytes") -> Request:
    """Ask for an artifact that no stage makes."""
    recipe = Asked(stage="test.stage", stage_version=1, inputs={}, config=config or {}, toolchain={})
    return Request(kind=kind, kind_version=1, recipe=recipe, determinism=determinism)


@pytest.fixture
def request_of() -> Callable[..., Request]:
    """Make a request by hand: request_of({"n": 1}, kind="corpus")."""
    return request_for


@pytest.fixture
def publish() -> Callable[..., Artifact]:
    """Publish files by hand: publish(store, {"a.txt": "hello"})."""

    def publish(store: Store, files: dict[str, str], config: Any = None, **about: Any) -> Artifact:
        with store.draft(request_for(config, **about)) as draft:
            for name, text in files.items():
                path = draft.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return draft.artifact

    return publish


def encoder_in(folder: Path, texts: list[str], vocab_size: int) -> TextEncoder:
    """Train a tokenizer on `texts` and open it as an encoder."""
    import json

    tokenizer = train(iter(texts), TokenizerConfig(vocab_size=vocab_size))
    tokenizer.save(str(folder / "tokenizer.json"))
    page = json.dumps(tokenizer_config(tokenizer.get_vocab_size()))
    (folder / "tokenizer_config.json").write_text(page, encoding="utf-8")
    return TextEncoder(folder)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the two files of a small tokenizer that has seen the words of the control tokens."""
    folder = tmp_path_factory.mktemp("encoder")
    control = "<|endoftext|> <|pad|> <|system|> <|user|> <|assistant|> <|end|> "
    encoder_in(folder, [*paragraphs(200), control * 50], 400)
    yield folder


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> TextEncoder:
    """The encoder of that folder."""
    return TextEncoder(encoder_folder)


@pytest.fixture
def train_encoder(tmp_path: Path) -> Callable[[list[str], int], TextEncoder]:
    """Train an encoder of one's own: train_encoder(["aaa"], 300)."""
    return lambda texts, vocab_size: encoder_in(tmp_path, texts, vocab_size)
