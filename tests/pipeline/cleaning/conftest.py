"""Fixtures of this room: corpus steps run on texts, in parts cut as one likes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cleaning import buckets
from pipeline.cleaning.step import CorpusStep, add_counts, write_part
from pipeline.executors import resumable
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import Output, Work, open_work
from pipeline.tables.arrow import read_batch
from pipeline.tables.documents import DOCUMENTS, Documents
from pipeline.tables.rejects import REJECTS, Rejects

ALONE = Workers(workers=1)


@dataclass(frozen=True)
class Cleaned:
    """What a step left of a corpus: rows of all parts, the counts, and the bytes of every file."""

    documents: list[dict[str, str]]
    rejects: list[dict[str, str]]
    counts: dict[str, Any]
    files: dict[str, bytes]

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.documents]

    @property
    def same(self) -> dict[str, str]:
        """Return for each document left out which is kept for it, by place."""
        return {row["place"]: row["same_as"].removeprefix("book ") for row in self.rejects}


@dataclass(frozen=True)
class Trial:
    """A folder of work with documents in it; a document's place is its number in the corpus."""

    folder: Path
    parts: tuple[Output, ...]

    def run(self, step: CorpusStep, execution: Workers = ALONE) -> Cleaned:
        with open_work(self.folder, execution) as work:
            return self.seen(step.run(work, "01-step", self.parts))

    def seen(self, outputs: Sequence[Output]) -> Cleaned:
        assert len(outputs) == len(self.parts)
        counts = add_counts(output.result["counts"][0] for output in outputs)
        if outputs:
            assert counts.pop("seconds") > 0
            assert counts["documents_in"] == counts["documents_out"] + sum(counts["rejected"].values())
        folders = [output.folder for output in outputs]
        return Cleaned(
            [row for folder in folders for row in read_batch(folder / DOCUMENTS).to_pylist()],
            [row for folder in folders for row in read_batch(folder / REJECTS).to_pylist()],
            counts,
            {f"{path.parent.name}/{path.name}": path.read_bytes() for f in folders for path in f.glob("*.arrow")},
        )


def write_trial(folder: Path, parts: Sequence[Sequence[str]]) -> Trial:
    numbers = itertools.count()
    for i, texts in enumerate(parts):
        part = folder / "00-read" / f"{i:06d}"
        part.mkdir(parents=True)
        places = [str(next(numbers)) for _ in texts]
        sizes = [len(text.encode()) for text in texts]
        write_part(part, Documents(list(texts), ["book"] * len(texts), places, sizes), Rejects())
    return Trial(folder, tuple(Output(part, {}) for part in sorted(folder.glob("00-read/*"))))


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Trial]:
    """Write documents in parts: trial(["a", "b"], ["a"])."""
    numbers = itertools.count()
    return lambda *parts: write_trial(tmp_path / f"trial{next(numbers)}", parts)


@pytest.fixture(scope="session")
def trial_in() -> Callable[[Path, Sequence[Sequence[str]]], Trial]:
    """Write documents in parts at a place of one's own."""
    return write_trial


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a bucket hold so little that a few documents fill many."""
    monkeypatch.setattr(buckets, "ROWS_PER_BUCKET", 4)


class KilledError(Exception):
    """What a kill is to what was not finished."""


def killed_at(turn: int, do: Callable[..., None]) -> Callable[..., None]:
    """Return `do`, which dies when it is called for the turn-th time, from 0."""
    turns = itertools.count()

    def dying(*arguments: Any) -> None:
        if next(turns) == turn:
            raise KilledError
        do(*arguments)

    return dying


@pytest.fixture
def interrupted(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Iterator[Cleaned]]:
    """Yield what a step leaves: undisturbed, then killed at each part of each phase and at each freeing, and run again.

    It fails when a part that was finished is made again.
    """
    make, drop = resumable._make_output, Work.drop
    made: list[Path] = []
    drops: list[Sequence[Output]] = []

    def counted(call: Any) -> None:
        make(call)
        made.append(call.folder)

    def noted(work: Work, outputs: Sequence[Output]) -> None:
        drop(work, outputs)
        drops.append(outputs)

    def rerun(step: CorpusStep, parts: Sequence[Sequence[str]], owner: Any, name: str, turn: int) -> Cleaned:
        made.clear()
        again, whole = trial(*parts), getattr(owner, name)
        monkeypatch.setattr(owner, name, killed_at(turn, whole))
        with pytest.raises(KilledError):
            again.run(step)
        monkeypatch.setattr(owner, name, whole)
        return again.run(step)

    def run(step: CorpusStep, parts: Sequence[Sequence[str]]) -> Iterator[Cleaned]:
        monkeypatch.setattr(resumable, "_make_output", counted)
        monkeypatch.setattr(Work, "drop", noted)
        yield trial(*parts).run(step)
        places = [(resumable, "_make_output", turn) for turn in range(len(made))]
        places += [(Work, "drop", turn) for turn in range(len(drops))]
        outputs = len(made)
        for place in places:
            yield rerun(step, parts, *place)
            assert len(made) == len(set(made)) == outputs

    return run
