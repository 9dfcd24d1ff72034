"""Machinery: the benches `cleaning` and `capacity`: what each cleaning step and each stage costs, per core."""

import json

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.bench.figures import Bound, Row
from pipeline.bench.machine import limits_of
from pipeline.bench.programs import Ended, disk_of, run_stage
from pipeline.bench.session import VOCABULARY, Session
from pipeline.errors import ConfigError
from pipeline.runtime.console import say
from pipeline.runtime.hashing import Page


def cleaning(session: Session) -> list[Row]:
    """Clean the text with every step there is, and say how fast each was on what reached it."""
    room = session.room("cleaning")
    store = room / "store"
    arguments = ("--source", str(session.text), "--clean", *every_step(), "--workers", "2")
    ended = run_stage("pipeline.corpus", *arguments, store=store, folder=room)
    corpus = Store(store).find(ended.last_line)
    whole = Row(
        name="corpus, all cleaning steps, 2 workers",
        ours=session.text_bytes / 1e6 / ended.seconds,
        unit="MB/s",
        machine=limits_of(session.text, room),
    )
    return [whole, *_steps(corpus), _peak("corpus, all cleaning steps", ended)]


def every_step() -> tuple[str, ...]:
    """Return the names of all cleaning steps, with the settings they have by themselves: first those of the preset web.

    One that needs to be told something (the files to decontaminate against) is left out, and said.
    """
    from pipeline.cleaning.chain import parse_step, parse_steps, steps_by_name

    fit = []
    for name in dict.fromkeys([*(step.name for step in parse_steps(["web"])), *steps_by_name()]):
        try:
            parse_step(name)
        except (ConfigError, TypeError) as error:
            say(f"the step {name} is left out: {error}")
            continue
        fit.append(name)
    return tuple(fit)


def _steps(corpus: Artifact) -> list[Row]:
    """Return a row per step: bytes that came in, over the seconds of work summed over the workers."""
    seconds = json.loads((corpus.record / "steps_seconds.json").read_text(encoding="utf-8"))
    return step_rows(corpus.read_json("steps.json"), seconds)


def step_rows(entries: list[Page], seconds: dict[str, float]) -> list[Row]:
    """Return a row per name: the seconds of a step that is there twice are not told apart."""
    rows = []
    for name in dict.fromkeys(entry["step"] for entry in entries):
        mine = [entry for entry in entries if entry["step"] == name]
        size = sum(entry["bytes_out" if name == "read" else "bytes_in"] for entry in mine)
        rejected = sum(entry["documents_in"] - entry["documents_out"] for entry in mine)
        kept = f"{rejected:,} of {mine[0]['documents_in']:,} documents rejected"
        speed = size / 1e6 / seconds[name] if seconds.get(name) else None
        rows.append(Row(name=f"step {name}", ours=speed, unit="MB/s per core", machine=kept, note="no time"))
    return rows


def capacity(session: Session) -> list[Row]:
    """Measure each stage with one worker: MB/s of a core, its memory, and the disk that it takes."""
    room = session.room("capacity")
    store = room / "store"
    source = ("--source", str(session.text))
    rows: list[Row] = []

    def stage(name: str, module: str, *arguments: str) -> str:
        before = disk_of(store)
        ended = run_stage(module, *arguments, "--workers", "1", store=store, folder=room, watch_disk=True)
        rows.extend(_stage_rows(name, session.text_bytes, ended, before, disk_of(store)))
        return ended.last_line

    corpus = stage("corpus", "pipeline.corpus", *source)
    tokenizer = stage("tokenizer", "pipeline.tokenizer", "--corpus", corpus, "--vocab-size", str(VOCABULARY))
    stage("shards", "pipeline.shards", "--corpus", corpus, "--tokenizer", tokenizer)
    stage("corpus, all cleaning steps", "pipeline.corpus", *source, "--clean", *every_step())
    return rows


def _stage_rows(name: str, size: int, ended: Ended, before: int, after: int) -> list[Row]:
    return [
        Row(name=f"{name}, 1 worker", ours=size / 1e6 / ended.seconds, unit="MB/s per core"),
        _peak(f"{name}, 1 worker", ended),
        Row(name=f"{name}, disk while it runs", ours=(ended.peak_disk - before) / size, unit="bytes per byte of text"),
        Row(name=f"{name}, disk afterwards", ours=(after - before) / size, unit="bytes per byte of text"),
    ]


def _peak(name: str, ended: Ended) -> Row:
    bound = Bound("ours", "<=", 1000.0)
    return Row(name=f"{name}: peak memory, all processes", ours=ended.peak_bytes / 1e6, unit="MB", bound=bound)
