"""Machinery: the benches `verify` and `opening`: checking an artifact, and opening one of ten thousand shards."""

import hashlib
import json
import random
import time
from collections.abc import Callable
from os import stat as status

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
from pipeline.bench.figures import Bound, Measured, Row, alternate, median, show
from pipeline.bench.machine import hashing, reading
from pipeline.bench.session import Session
from pipeline.runtime.console import say

_FILE_BYTES = 2**25
_SHARDS = 10_000
_LINES = _SHARDS * 100 // 94
"""some of which are held out"""


def verify(session: Session) -> list[Row]:
    """Compare the first verification of an artifact with hashing its files, the files in the page cache for both."""
    artifact = _artifact_of(int(session.megabytes * 1e6), Store(session.room("verify") / "store"))
    paths = [artifact.payload / entry.path for entry in artifact.manifest.files]

    def ours() -> Measured:
        found = Artifact.open(artifact.path)  # without stamps: no earlier check is remembered
        return _timed(lambda: found.verify())

    def theirs() -> Measured:
        def hash_all() -> None:
            for path in paths:
                with path.open("rb") as file:
                    hashlib.file_digest(file, "sha256").hexdigest()

        return _timed(hash_all)

    theirs()  # fills the page cache
    runs = alternate({"ours": ours, "hashlib.file_digest": theirs}, session.repeats)
    machine = f"machine hashes {show(hashing(paths))}, reads {show(reading(paths[0]))} MB/s"
    return [
        Row(
            name=f"first verification of {session.megabytes:g} MB",
            ours=median(runs["ours"]),
            unit="s",
            peer="hashlib.file_digest",
            peer_value=median(runs["hashlib.file_digest"]),
            bound=Bound("ratio", "<=", 1.2),
            machine=machine,
        )
    ]


def _timed(work: Callable[[], object]) -> Measured:
    started = time.perf_counter()
    work()
    return Measured(value=time.perf_counter() - started)


def _artifact_of(size: int, store: Store) -> Artifact:
    """Publish an artifact of random bytes, in files of 32 MiB."""
    recipe = Asked(stage="pipeline.bench", stage_version=1, inputs={}, config={"bytes": size}, toolchain={})
    request = Request(kind="corpus", kind_version=1, recipe=recipe, determinism="bytes")
    draw = random.Random(0)
    with store.draft(request) as draft:
        for i, start in enumerate(range(0, size, _FILE_BYTES)):
            (draft.path / f"train-{i:05d}.arrow").write_bytes(draw.randbytes(min(_FILE_BYTES, size - start)))
    return draft.artifact


# --- ten thousand shards -------------------------------------------------------------------------------------


def opening(session: Session) -> list[Row]:
    """Open 10,000 shards that were verified before, and draw the first batch of their stream."""
    shards = _many_shards(session)
    shards.verify()  # the first time, it hashes; the store remembers
    runs = [_timed(lambda: _open(session.store, shards.reference)) for _ in range(session.repeats)]
    looked = median([_timed(lambda: [status(path) for path in paths_of(shards)]) for _ in range(session.repeats)])
    count = len(shards.files("train-"))
    return [
        Row(
            name=f"opening {count:,} verified shards",
            ours=median(runs),
            unit="s",
            bound=Bound("ours", "<=", 1.0),
            machine=f"machine looks at as many files in {show(looked)} s",
        )
    ]


def paths_of(artifact: Artifact) -> list[str]:
    """Return the paths of an artifact's files, which are not looked at."""
    return [str(artifact.payload / entry.path) for entry in artifact.manifest.files]


def _open(store: Store, reference: str) -> None:
    """Do what training does before its first step: find, check, open the stream, draw a batch."""
    from pipeline.loading.order import Order
    from pipeline.loading.windows import TokenStream, Windows

    shards = store.find(reference)
    shards.verify()
    windows = Windows(TokenStream.of(shards, "train"), 32, 32)
    windows.gather(Order(len(windows), seed=0).at(0, 32))


def _many_shards(session: Session) -> Artifact:
    """Make a corpus of short documents, and shards with a file for each."""
    text = session.folder / "text" / f"lines-{_SHARDS}.jsonl"
    if not text.exists():
        draw = random.Random(0)
        rows = ({"text": f"{draw.getrandbits(64)} is number {i} of the lines in this file."} for i in range(_LINES))
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    say(f"making {_SHARDS:,} shards")
    corpus = session.make("pipeline.corpus", "--source", str(text))
    tokenizer = session.make("pipeline.tokenizer", "--corpus", corpus.reference, "--vocab-size", "300")
    inputs = ("--corpus", corpus.reference, "--tokenizer", tokenizer.reference)
    return session.make("pipeline.shards", *inputs, "--shard-tokens", "2")
