"""Machinery: the bench `tokenizer`: learning 32,768 tokens, against the trainer of `tokenizers` on the same text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.bench.environments import NANOGPT
from pipeline.bench.figures import Bound, Measured, Row, alternate, median
from pipeline.bench.machine import limits_of
from pipeline.bench.programs import run_peer, run_stage
from pipeline.bench.session import VOCABULARY, Session
from pipeline.tokenization.text_encoder import CONTROL_TOKENS

_FRAME = ("version", "truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")


def run(session: Session) -> list[Row]:
    """Train in turn, from the train split of the corpus, and compare the merges in order."""
    room = session.room("inputs")
    text = room / "train.jsonl"
    size = _write_train_split(session.corpus, text) / 1e6
    merges: dict[str, list[Any]] = {}
    config = session.tokenizer.manifest.recipe.config

    def ours() -> Measured:
        here = session.room("ours")
        arguments = ("--corpus", str(session.corpus.path), "--vocab-size", str(VOCABULARY), "--workers", "2")
        ended = run_stage("pipeline.tokenizer", *arguments, store=here / "store", folder=here)
        made = Store(here / "store").find(ended.last_line)
        merges["ours"] = merges_of(made.file("tokenizer.json"))
        return Measured(
            value=size / ended.seconds, about={"peak_bytes": ended.peak_bytes, "cpu_seconds": ended.cpu_seconds}
        )

    def theirs() -> Measured:
        here = session.room("theirs")
        wanted = {
            "text": str(text),
            "frame": {name: session.encoder[name] for name in _FRAME},
            "vocab_size": VOCABULARY - len(CONTROL_TOKENS),
            "min_frequency": config["min_frequency"],
            "out": str(here / "tokenizer.json"),
        }
        page = run_peer("tokenizers_training", session.python(NANOGPT), wanted, folder=here)
        merges["tokenizers"] = merges_of(here / "tokenizer.json")
        return Measured(value=size / page["seconds"], about=page)

    runs = alternate({"ours": ours, "tokenizers": theirs}, session.repeats)
    return _rows(runs, merges, limits_of(text, room))


def _rows(runs: dict[str, list[Measured]], merges: dict[str, list[Any]], machine: str) -> list[Row]:
    peer = "tokenizers"
    rows = [
        Row(
            name="tokenizer training, 32k",
            ours=median(runs["ours"]),
            unit="MB/s",
            peer=peer,
            peer_value=median(runs.get(peer)),
            bound=Bound("ratio", ">=", 1.0),
            machine=machine,
        )
    ]
    peaks = {name: max(run.about["peak_bytes"] for run in found) / 1e6 for name, found in runs.items()}
    name = "tokenizer training: peak memory, all processes"
    rows.append(Row(name=name, ours=peaks["ours"], unit="MB", peer=peer, peer_value=peaks.get(peer)))
    if peer in merges:
        same, count = same_start(merges["ours"], merges[peer]), len(merges[peer])
        bound = Bound("ratio", ">=", 1.0)
        name = "merges identical, in order"
        rows.append(Row(name=name, ours=same, unit="merges", peer=peer, peer_value=count, bound=bound))
    return rows


def same_start(ours: list[Any], theirs: list[Any]) -> int:
    """Return how many merges are the same before the first that differs."""
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (mine, other) in enumerate(pairs) if mine != other), min(len(ours), len(theirs)))


def merges_of(path: Path) -> list[Any]:
    """Return the merges of a tokenizer.json in order, each a pair."""
    merges: list[Any] = json.loads(path.read_text(encoding="utf-8"))["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]


def _write_train_split(corpus: Artifact, path: Path) -> int:
    """Write the texts of a corpus's train split as JSONL, and return their bytes."""
    size = 0
    with path.open("w", encoding="utf-8") as out:
        for text in _texts(corpus):
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size += len(text.encode("utf-8"))
    return size


def _texts(corpus: Artifact) -> Iterator[str]:
    from pipeline.tables.arrow import read_batch

    for path in corpus.files("train-"):
        yield from read_batch(path).column("text").to_pylist()
