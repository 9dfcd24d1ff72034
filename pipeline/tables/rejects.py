"""Machinery: rejects: what was left out, by which step and why, as rows of Arrow files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

REJECTS = "rejects.arrow"
REJECT_COLUMNS = ("source", "place", "step", "reason", "same_as", "excerpt")
REJECTS_IN_FILE = 50_000
"""rejects in a file of an artifact, at most"""
EXCERPT = 200
"""characters of a text that are kept, or shown, to tell what it was"""


@dataclass
class Rejects:
    """What was left out, row by row."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, source: str, place: str, step: str, reason: str, text: str, same_as: str = "") -> None:
        """Reject one document or row, keeping the start of its text."""
        row = {"source": source, "place": place, "step": step, "reason": reason, "same_as": same_as}
        self.rows.append({**row, "excerpt": text[:EXCERPT]})

    def reasons(self) -> dict[str, int]:
        """Return the number of rejects by reason."""
        return dict(Counter(row["reason"] for row in self.rows))


def write_rejects(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rejects as one file."""
    from pipeline.tables.arrow import string_batch, write_batch
    from pipeline.tables.features import batch_with_features

    write_batch(path, batch_with_features(string_batch({name: [row[name] for row in rows] for name in REJECT_COLUMNS})))


def publish_rejects(folder: Path, rejects: Rejects) -> None:
    """Write rejects as the rejects-*.arrow of an artifact; none, no file."""
    from pipeline.tables.arrow import part_name

    files = [rejects.rows[i : i + REJECTS_IN_FILE] for i in range(0, len(rejects.rows), REJECTS_IN_FILE)]
    for i, rows in enumerate(files):
        write_rejects(folder / part_name("rejects", i, len(files)), rows)
