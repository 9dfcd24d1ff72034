"""Machinery: what a bench may ask for: the text, the peers, and artifacts made of the text; each made when asked."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.bench.environments import Environment, python_of
from pipeline.bench.programs import run_stage
from pipeline.sources.card import FOLDER

VOCABULARY = 32768
_SHIPPED_MEGABYTES = 0.35


@dataclass
class Session:
    """One run of the program: its settings, a folder that is kept and one that is not."""

    folder: Path
    scratch: Path
    megabytes: float
    repeats: int
    own_text: Path | None = None

    @cached_property
    def text(self) -> Path:
        """The JSONL file that everything is measured on."""
        from pipeline.bench.mixed_text import mixed_text, own_text, shipped_text

        if self.own_text is not None:
            return own_text(self.own_text, self.folder, self.megabytes)
        if self.megabytes <= _SHIPPED_MEGABYTES:
            return shipped_text(FOLDER / "tiny" / "stories.txt", self.folder, self.megabytes)
        return mixed_text(self.folder, self.megabytes)

    @cached_property
    def text_bytes(self) -> int:
        """The bytes of the texts themselves, without what JSON adds."""
        from pipeline.bench.mixed_text import texts_of

        return sum(len(text.encode("utf-8")) for text in texts_of(self.text))

    def python(self, environment: Environment) -> Path:
        """Return the Python of a peer."""
        return python_of(environment, self.folder / "environments")

    def room(self, name: str) -> Path:
        """Return a new empty folder that is gone when the program ends."""
        room = self.scratch / f"{len(list(self.scratch.iterdir())):04d}-{name}"
        room.mkdir(parents=True)
        return room

    # --- artifacts made of the text, kept between runs -------------------------------------------------------

    @cached_property
    def store(self) -> Store:
        """A store that is kept as long as our code is what it is: a change of code need not be a change of version."""
        sources = sorted((FOLDER.parent / "pipeline").rglob("*.py"))
        key = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
        for old in self.folder.glob("store-*"):
            if old.name != f"store-{key}":
                shutil.rmtree(old, ignore_errors=True)
        return Store(self.folder / f"store-{key}")

    def make(self, module: str, *arguments: str) -> Artifact:
        """Return what a stage makes of these arguments, from the store that is kept if it is there."""
        ended = run_stage(module, *arguments, store=self.store.root, folder=self.room(module))
        return self.store.find(ended.last_line)

    @cached_property
    def corpus(self) -> Artifact:
        return self.make("pipeline.corpus", "--source", str(self.text))

    @cached_property
    def tokenizer(self) -> Artifact:
        """A vocabulary of 32,768, or as many as the text has pairs for."""
        arguments = ("--corpus", self.corpus.reference, "--vocab-size", str(VOCABULARY))
        return self.make("pipeline.tokenizer", *arguments)

    @cached_property
    def shards(self) -> Artifact:
        return self.make("pipeline.shards", "--corpus", self.corpus.reference, "--tokenizer", self.tokenizer.reference)

    @cached_property
    def encoder(self) -> dict[str, object]:
        """What tokenizer.json says."""
        page: dict[str, object] = json.loads(self.tokenizer.file("tokenizer.json").read_text(encoding="utf-8"))
        return page
