"""Fixtures of this room: stages that run in this process, artifacts made by hand, and copies of what was built."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
from pipeline.reporting.corpus_report import CorpusReport, gather
from pipeline.stage.definition import describe
from pipeline.tables.arrow import PartWriter
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


# --- a corpus by hand, and its report ------------------------------------------------------------------------

HEADS = ("step", "reason", "same_as", "excerpt")


@dataclass
class Raw:
    """A corpus by hand: (split, source, place, text), and rejects (source, place, step, reason, same_as, excerpt)."""

    documents: list[tuple[str, str, str, str]] = field(default_factory=list)
    rejects: list[tuple[str, str, str, str, str, str]] = field(default_factory=list)
    steps: list[dict[str, Any]] | None = None
    license: str = "CC0-1.0"
    attribution: str = "somebody"

    def publish(self, store: Store, part_bytes: int = 200) -> Artifact:
        """Write it in the format of a corpus."""
        with store.draft(request_for({"clean": []})) as draft:
            totals: dict[str, dict[str, int]] = {"documents": {}, "bytes": {}, "characters": {}}
            for split in ("train", "validation", "test"):
                texts = [row for row in self.documents if row[0] == split]
                _write(draft.path, split, ("id", "source", "place", "text"), map(_with_id, texts), part_bytes)
                if texts:
                    totals["documents"][split] = len(texts)
                    totals["bytes"][split] = sum(len(row[3].encode()) for row in texts)
                    totals["characters"][split] = sum(len(row[3]) for row in texts)
            _write(draft.path, "rejects", ("source", "place", *HEADS), self.rejects, part_bytes)
            (draft.path / "steps.json").write_text(json.dumps(self.account()))
            names = dict.fromkeys(row[1] for row in self.documents)
            about = {"license": self.license, "attribution": self.attribution}
            pages = [{"name": name, "sha256": "ab" * 32, "files": ["a", "b"], **about} for name in names]
            (draft.path / "sources.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
            (draft.record / "steps_seconds.json").write_text(json.dumps({"read": 1.5}))
            draft.fact(**totals)
            draft.count(read=len(self.documents) + len(self.rejects), documents=len(self.documents))
            draft.provenance = {"started": "2026-01-01T00:00:00Z", "seconds": 3.25, "git_commit": None}
        return draft.artifact

    def account(self) -> list[dict[str, Any]]:
        """Return the accounting table that follows from the rejects, with the steps in order of first use."""
        if self.steps is not None:
            return self.steps
        left = len(self.documents) + len(self.rejects)
        rows = []
        for name in dict.fromkeys(["read", *(row[2] for row in self.rejects)]):
            reasons = [row[3] for row in self.rejects if row[2] == name]
            account = {"documents_in": left, "bytes_in": 10 * left}
            left -= len(reasons)
            account |= {"documents_out": left, "bytes_out": 10 * left}
            rejected = {reason: reasons.count(reason) for reason in reasons}
            sources = (
                {"books": [account["documents_in"], account["bytes_in"], left, 10 * left]} if name == "read" else {}
            )
            rows.append(
                {"step": name, "settings": {"least": 3}, **account, "changed": 0, "rejected": rejected, "counts": {}}
                | {"sources": sources}
            )
        return rows


def _with_id(row: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    return hashlib.sha256(row[3].encode()).hexdigest()[:32], row[1], row[2], row[3]


def _write(folder: Path, name: str, columns: tuple[str, ...], rows: Any, part_bytes: int) -> None:
    writer = PartWriter(folder, name, pa.schema(dict.fromkeys(columns, pa.string())), part_bytes=part_bytes)
    for row in rows:
        writer.add(dict(zip(columns, row, strict=True)), sum(map(len, row)))
    writer.close()


@pytest.fixture
def raw() -> Raw:
    """Six documents of two sources and five rejects; `b 1` stands for two copies, `books g:9` for one, and is gone."""
    texts = ["the red fox ran", "the red fox slept\n\nand slept", "one two three four five", "a b", "x" * 30, "the hen"]
    documents = [
        ("validation" if i == 2 else "train", "books" if i < 4 else "my notes", f"f.txt:{i}", t)
        for i, t in enumerate(texts)
    ]
    return Raw(
        documents=documents,
        rejects=[
            ("books", "g:1", "length", "too short", "", "hi"),
            ("books", "g:2", "exact", "same text", "books f.txt:0", "the red fox ran"),
            ("my notes", "g:3", "near", "near duplicate", "books f.txt:0", "the red fox walked"),
            ("books", "g:4", "near", "near duplicate", "books g:9", "gone one"),
            ("books", "g:9", "quality", "few words", "", "gone"),
        ],
    )


@pytest.fixture
def make_raw() -> type[Raw]:
    """Make a corpus by hand: make_raw(documents=[("train", "books", "f.txt:0", "a text")]).publish(store)."""
    return Raw


def gather_report(artifact: Artifact, store: Store, *, sample_bytes: int = 2**20, **options: Any) -> CorpusReport:
    return gather(artifact, store, describe, sample_bytes=sample_bytes, **options)


@pytest.fixture
def gathered() -> Callable[..., CorpusReport]:
    """Report on a published corpus: gathered(artifact, store, tokenizer="tokenizer:3f9c")."""
    return gather_report


@pytest.fixture
def report_of(tmp_path: Path) -> Callable[..., CorpusReport]:
    """Publish a corpus by hand and report on it: report_of(raw, "one", part_bytes=1)."""

    def report(raw: Raw, name: str = "store", *, part_bytes: int = 200, **options: Any) -> CorpusReport:
        store = Store(tmp_path / name)
        return gather_report(raw.publish(store, part_bytes), store, **options)

    return report
