"""Machinery: the bench `shards`: raw text to published shards, against nanoGPT's way and datatrove."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.bench.environments import DATATROVE, NANOGPT, Environment
from pipeline.bench.figures import Bound, Measured, Row, alternate, median
from pipeline.bench.machine import limits_of
from pipeline.bench.mixed_text import texts_of
from pipeline.bench.programs import run_peer, run_stage
from pipeline.bench.session import Session
from pipeline.errors import IntegrityError
from pipeline.runtime.console import say
from pipeline.runtime.hashing import Page
from pipeline.tokenization.engines import pattern_of
from pipeline.tokenization.text_encoder import END_OF_TEXT, byte_of_symbol

_WORKERS = 2
_BATCH = 256
_HASH = 8


@dataclass
class _Ours:
    """Our two programs, one after the other, in a store of their own; the last one's artifacts are kept."""

    session: Session
    encoder: str
    shards: list[Artifact] = field(default_factory=list)
    corpus: Artifact | None = None

    def __call__(self) -> Measured:
        room = self.session.room("ours")
        store = room / "store"
        workers = ("--workers", str(_WORKERS))
        first = run_stage("pipeline.corpus", "--source", str(self.session.text), *workers, store=store, folder=room)
        inputs = ("--corpus", first.last_line, "--tokenizer", str(self.session.tokenizer.path))
        second = run_stage("pipeline.shards", *inputs, *workers, *self.flags(), store=store, folder=room)
        self.corpus = Store(store).find(first.last_line)
        self.shards.append(Store(store).find(second.last_line))
        size = self.session.text_bytes / 1e6
        return Measured(
            value=size / (first.seconds + second.seconds),
            about={
                "encoding": size / second.seconds,
                "peak_bytes": max(first.peak_bytes, second.peak_bytes),
                "cpu_seconds": first.cpu_seconds + second.cpu_seconds,
            },
        )

    def flags(self) -> tuple[str, ...]:
        """Return how the engine is chosen; nothing: ours chooses."""
        return ("--encoder", self.encoder) if self.encoder else ()


@dataclass
class _Peer:
    """A peer's script, which also writes the hashes of the documents it made."""

    session: Session
    script: str
    settings: Page
    documents: Path
    environment: Environment

    def __call__(self) -> Measured:
        room = self.session.room(self.script)
        wanted = {**self.settings, "out": str(room), "documents": str(self.documents), "workers": _WORKERS}
        page = run_peer(self.script, self.session.python(self.environment), wanted, folder=room)
        return Measured(value=self.session.text_bytes / 1e6 / page["seconds"], about=page)


def run(session: Session) -> list[Row]:
    """Measure text to shards, and hold the ids against those of `tokenizers`, document by document."""
    room = session.room("inputs")
    settings = _settings(session, room)
    fast, plain = _Ours(session, ""), _Ours(session, "tokenizers")
    contestants: dict[str, Callable[[], Measured]] = {"ours": fast}
    for name, script, environment in (
        ("nanoGPT's way", "nanogpt_shards", NANOGPT),
        ("datatrove", "datatrove_shards", DATATROVE),
    ):
        contestants[name] = _Peer(session, script, settings, room / f"{script}.hashes", environment)
    contestants["ours, engine tokenizers"] = plain
    runs = alternate(contestants, session.repeats)
    rows = [*_speeds(runs, limits_of(session.text, room)), *_memory(runs)]
    return [*rows, *_identity(session, [*fast.shards, *plain.shards], fast.corpus, contestants)]


def _speeds(runs: dict[str, list[Measured]], machine: str) -> list[Row]:
    ours, slow = median(runs["ours"]), median(runs.get("ours, engine tokenizers"))
    alone = median([Measured(value=run.about["encoding"]) for run in runs["ours"]])
    peers = (("nanoGPT's way", 5.0), ("datatrove", 10.0))
    rows: list[Row] = []
    for name, ratio in peers:
        value = median(runs.get(name))
        bound = Bound("ratio", ">=", ratio)
        rows.append(
            Row(
                name="text to shards", ours=ours, unit="MB/s", peer=name, peer_value=value, bound=bound, machine=machine
            )
        )
    for name, _ in peers:
        value = median(runs.get(name))
        rows.append(Row(name="text to shards, engine tokenizers", ours=slow, unit="MB/s", peer=name, peer_value=value))
    rows.append(Row(name="corpus to shards alone", ours=alone, unit="MB/s", machine=machine))
    return rows


def _memory(runs: dict[str, list[Measured]]) -> list[Row]:
    def peak(name: str) -> float | None:
        return max((run.about["peak_bytes"] / 1e6 for run in runs.get(name, [])), default=None)

    bound = Bound("ours", "<=", 1000.0)
    ours = (("text to shards", "ours"), ("text to shards, engine tokenizers", "ours, engine tokenizers"))
    return [
        Row(
            name=f"{title}: peak memory, all processes",
            ours=peak(name),
            unit="MB",
            peer=peer,
            peer_value=peak(peer),
            bound=bound,
        )
        for (title, name), peer in zip(ours, ("nanoGPT's way", "datatrove"), strict=True)
    ]


# --- what the peers are given --------------------------------------------------------------------------------


def _settings(session: Session, room: Path) -> Page:
    """Write the text and the tokenizer in the forms that the peers read."""
    config = json.loads(session.tokenizer.file("tokenizer_config.json").read_text(encoding="utf-8"))
    end = next(int(i) for i, entry in config["added_tokens_decoder"].items() if entry["content"] == END_OF_TEXT)
    page = session.encoder
    (room / "ranks.tiktoken").write_text("\n".join(ranks_of(page)) + "\n", encoding="ascii")
    token = {"id": end, "content": END_OF_TEXT, "single_word": False, "lstrip": False, "rstrip": False}
    with_end = {**page, "added_tokens": [{**token, "normalized": False, "special": True}]}
    (room / "tokenizer.json").write_text(json.dumps(with_end, ensure_ascii=False), encoding="utf-8")
    _deal(session.text, [room / "parts" / f"{i}.jsonl" for i in range(_WORKERS)])
    return {
        "text": str(session.text),
        "folder": str(room / "parts"),
        "tokenizer": str(room / "tokenizer.json"),
        "ranks": str(room / "ranks.tiktoken"),
        "pattern": pattern_of(page),
        "end": end,
        "dtype": "uint16" if end < 2**16 else "uint32",
    }


def ranks_of(page: dict[str, Any]) -> Iterator[str]:
    """Yield the vocabulary of a byte-level tokenizer.json as lines of tiktoken: the bytes in base 64, the rank."""
    symbols = byte_of_symbol()
    for token, rank in sorted(page["model"]["vocab"].items(), key=lambda item: int(item[1])):
        yield f"{base64.b64encode(bytes(symbols[character] for character in token)).decode()} {rank}"


def _deal(text: Path, parts: Sequence[Path]) -> None:
    """Cut the text into as many files, a line to each in turn: a worker reads whole files."""
    parts[0].parent.mkdir()
    outs = [part.open("w", encoding="utf-8") for part in parts]
    with text.open(encoding="utf-8") as lines:
        for i, line in enumerate(lines):
            outs[i % len(outs)].write(line)
    for out in outs:
        out.close()


# --- are they the same ids? ----------------------------------------------------------------------------------


def _identity(
    session: Session, shards: list[Artifact], corpus: Artifact | None, peers: Mapping[str, object]
) -> list[Row]:
    """Compare every document's ids; raises IntegrityError when the engines, or `tokenizers`, disagree."""
    assert corpus is not None
    if len({artifact.digest for artifact in shards}) > 1:
        raise IntegrityError("the shards differ between runs or engines: " + ", ".join(a.digest for a in shards))
    say("comparing the ids of every document")
    count = compare_ids(corpus, shards[0], session.tokenizer)
    rows = [_shared("ids identical to tokenizers", count, "tokenizers", count)]
    mine = document_hashes(shards[0])
    documents = sum(1 for _ in texts_of(session.text))
    for name, peer in peers.items():
        if isinstance(peer, _Peer) and peer.documents.exists():
            data = peer.documents.read_bytes()
            theirs = Counter(data[i : i + _HASH] for i in range(0, len(data), _HASH))
            rows.append(_shared(f"ids identical to {name}", (mine & theirs).total(), name, documents))
    return rows


def _shared(name: str, same: int, peer: str, documents: int) -> Row:
    bound = Bound("ratio", ">=", 1.0)
    return Row(name=name, ours=same, unit="documents", peer=peer, peer_value=documents, bound=bound)


def compare_ids(corpus: Artifact, shards: Artifact, tokenizer: Artifact) -> int:
    """Encode every document of a corpus with `tokenizers` and compare with the shards; return how many there are.

    Raises IntegrityError naming the first document whose ids differ.
    """
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(tokenizer.file("tokenizer.json")))
    end = int(shards.facts["end_of_text"])
    count = 0
    for split in corpus.facts["documents"]:
        found = _documents(shards, split)
        for texts in _batches(corpus, split):
            for encoding in reference.encode_batch_fast(texts, add_special_tokens=False):
                if next(found, None) != [*encoding.ids, end]:
                    raise IntegrityError(f"document {count} of {corpus.short} ({split}) has other ids than tokenizers.")
                count += 1
        if next(found, None) is not None:
            raise IntegrityError(f"{shards.short} has more documents than {corpus.short} in {split}.")
    return count


def _batches(corpus: Artifact, split: str) -> Iterator[list[str]]:
    from pipeline.tables.arrow import read_batch

    for path in corpus.files(f"{split}-"):
        texts = read_batch(path).column("text")
        for start in range(0, len(texts), _BATCH):
            yield texts.slice(start, _BATCH).to_pylist()


def _documents(shards: Artifact, split: str) -> Iterator[list[int]]:
    from pipeline.tables.arrow import read_batch

    for path in shards.files(f"{split}-"):
        rows = read_batch(path).column("input_ids")
        for row in rows:
            yield row.values.to_numpy().tolist()


def document_hashes(shards: Artifact) -> Counter[bytes]:
    """Return the hashes of all documents' ids, as the peers' scripts write theirs."""
    import hashlib

    import numpy as np

    return Counter(
        hashlib.sha256(np.asarray(row, dtype="<u4").tobytes()).digest()[:_HASH]
        for split in shards.facts["documents"]
        for row in _documents(shards, split)
    )
