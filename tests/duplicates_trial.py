"""Program: plant near and far pairs of known likeness in a folder of text, and count what near_duplicates finds.

    python tests/duplicates_trial.py FOLDER [--documents 2000] [--pairs 100] [--set threshold=0.8 ...]

Texts are cut at paragraphs into documents of about 4,000 characters.  A near pair is a document and a copy of it with
words replaced here and there, until the Jaccard index of their sets of word n-grams, counted exactly, is at its level.
Far pairs share a start, a quotation, or all their words in another order.  What the step leaves out of the planted
pairs is printed by kind and level; so is how like each document left out of the folder's own text truly is to the one
kept for it.
"""

import argparse
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.cleaning.near_duplicates import NearDuplicates
from pipeline.cleaning.step import write_part
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import Output, open_work
from pipeline.tables.arrow import read_batch
from pipeline.tables.documents import Documents
from pipeline.tables.rejects import REJECTS, Rejects

LEVELS = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PART = 500


@dataclass(frozen=True)
class Pair:
    """Two texts, what was done to the second, and how like they are."""

    kind: str
    first: str
    second: str
    likeness: float


def documents_in(folder: Path, characters: int = 4000) -> Iterator[str]:
    """Yield the texts of a folder, cut at paragraphs."""
    for path in sorted(folder.rglob("*.txt")):
        text = ""
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            text += paragraph + "\n\n"
            if len(text) >= characters:
                yield text
                text = ""


def n_grams(text: str, words: int) -> set[tuple[str, ...]]:
    found = re.findall(r"[^\W_]+", text.lower())
    return {tuple(found[i : i + words]) for i in range(max(1, len(found) - words + 1))}


def likeness(a: str, b: str, words: int) -> float:
    """Return the exact Jaccard index of the sets of n-grams."""
    one, two = n_grams(a, words), n_grams(b, words)
    return len(one & two) / len(one | two)


def edited(text: str, level: float, words: int, draw: random.Random) -> str:
    """Replace words by others of the text, one after the other in random order, until the likeness is at `level`."""
    pieces = re.split(r"(\s+)", text)
    places = [i for i in range(0, len(pieces), 2) if pieces[i]]
    others = [pieces[i] for i in places]
    draw.shuffle(places)
    left = 2 * level / (1 + level)  # of n n-grams that each text has, so many are in both
    step = max(1, round(len(places) * (1 - left ** (1 / words)) / 8))
    for start in range(0, len(places), step):
        if likeness(text, "".join(pieces), words) <= level:
            break
        for place in places[start : start + step]:
            pieces[place] = draw.choice(others)
    return "".join(pieces)


def moved(text: str, draw: random.Random) -> str:
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(draw.sample(paragraphs, len(paragraphs)))


def near_pairs(texts: Sequence[str], words: int, draw: random.Random) -> Iterator[Pair]:
    for i, text in enumerate(texts):
        level = LEVELS[i % len(LEVELS)]
        second = edited(text, level, words, draw)
        yield Pair(f"edited to {level:.2f}", text, second, likeness(text, second, words))
        second = moved(text, draw)
        yield Pair("paragraphs moved", text, second, likeness(text, second, words))


def far_pairs(texts: Sequence[str], words: int, draw: random.Random) -> Iterator[Pair]:
    start, quotation = texts[-1][:1000], texts[-2][:600]
    for one, two in zip(texts[:-2:2], texts[1:-2:2], strict=False):
        yield from (
            Pair(kind, a, b, likeness(a, b, words))
            for kind, a, b in (
                ("same start", start + one[1000:], start + two[1000:]),
                ("same quotation", one[:1500] + quotation + one[1500:], two[:2500] + quotation + two[2500:]),
                ("same words, shuffled", one, " ".join(draw.sample(one.split(), len(one.split())))),
            )
        )


def left_out(texts: Sequence[str], step: NearDuplicates, workers: int) -> dict[int, int]:
    """Return the number of each text that the step leaves out, and of the one kept for it."""
    with tempfile.TemporaryDirectory() as folder, open_work(Path(folder), Workers(workers=workers)) as work:
        parts = []
        for start in range(0, len(texts), PART):
            part = Path(folder, "read", f"{start // PART:06d}")
            part.mkdir(parents=True)
            some = list(texts[start : start + PART])
            places = [str(start + i) for i in range(len(some))]
            write_part(part, Documents(some, ["-"] * len(some), places, [len(t.encode()) for t in some]), Rejects())
            parts.append(Output(part, {}))
        rows = [row for part in step.run(work, "trial", parts) for row in read_batch(part.folder / REJECTS).to_pylist()]
    return {int(row["place"]): int(row["same_as"].split()[1]) for row in rows}


def report(kinds: Sequence[tuple[str, float, bool]]) -> None:
    """Print how many of each kind were left out, kinds in the order of their likeness."""
    table: dict[str, list[tuple[float, bool]]] = {}
    for kind, truth, found in kinds:
        table.setdefault(kind, []).append((truth, found))
    print(f"{'planted':24}{'pairs':>7}{'mean likeness':>16}{'left out':>10}")
    for kind, rows in sorted(table.items(), key=lambda item: item[1][0][0]):
        mean = sum(truth for truth, _ in rows) / len(rows)
        print(f"{kind:24}{len(rows):7}{mean:16.3f}{sum(found for _, found in rows) / len(rows):10.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=2000, help="of the folder's own, taken at random")
    parser.add_argument("--pairs", type=int, default=100, help="per kind and level")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the step: threshold=0.8 words=3")
    asked = parser.parse_args()
    kinds = {field.name: type(field.default) for field in fields(NearDuplicates)}
    chosen = dict(pair.split("=") for pair in asked.set)
    step = NearDuplicates(**{key: kinds[key](value) for key, value in chosen.items()})
    draw = random.Random(asked.seed)
    own = list(documents_in(asked.folder))
    draw.shuffle(own)
    base, own = own[: asked.pairs * len(LEVELS)], own[asked.pairs * len(LEVELS) :]
    near = list(near_pairs(base, step.words, draw))
    far = list(far_pairs(own[: 2 * asked.pairs + 2], step.words, draw))
    own = own[2 * asked.pairs + 2 :][: asked.documents]

    # A pair is tried where nothing else is like it: a text of each pair comes once, in trials of their own.
    trials = [near[0::2], near[1::2], *(far[k::3] for k in range(3))]
    rows: list[tuple[str, float, bool]] = []
    for pairs in trials:
        texts = [text for pair in pairs for text in (pair.first, pair.second)]
        lost = left_out([*texts, *own], step, asked.workers)
        rows += [(pair.kind, pair.likeness, lost.get(2 * i + 1) == 2 * i) for i, pair in enumerate(pairs)]
    report(rows)
    lost = left_out(own, step, asked.workers)
    truths = sorted(likeness(own[a], own[b], step.words) for a, b in lost.items())
    print(f"\n{len(own)} documents of the folder's own: {len(lost)} left out, their likeness to the one kept:")
    print("  " + " ".join(f"{truth:.2f}" for truth in truths))


if __name__ == "__main__":
    main()
