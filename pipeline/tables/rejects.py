"""Machinery: rejects: what was left out, by which step and why, as rows of Arrow files."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

REJECTS = "rejects.arrow"
REJECT_COLUMNS = ("source", "place", "step", "reason", "same_as", "excerpt")


@dataclass
class Rejects:
    """What was left out of a part, row by row."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, source: str, place: str, step: str, reason: str, text: str, same_as: str = "") -> None:
        """Reject one document, keeping the start of its text."""
        row = {"source": source, "place": place, "step": step, "reason": reason, "same_as": same_as}
        self.rows.append({**row, "excerpt": text[:200]})


def write_rejects(folder: Path, rejects: Rejects) -> None:
    from pipeline.tables.arrow import string_batch, write_batch

    columns = {name: [row[name] for row in rejects.rows] for name in REJECT_COLUMNS}
    write_batch(folder / REJECTS, string_batch(columns))


class RejectWriter:
    """Writes what was left out, and why, to rejects-*.arrow."""

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        from pipeline.tables.arrow import PartWriter

        columns = ("source", "place", "step", "reason", "excerpt")
        self._writer = PartWriter(folder, "rejects", pa.schema(dict.fromkeys(columns, pa.string())), part_bytes=2**24)
        self._reasons: Counter[str] = Counter()

    def add(self, source: str, place: str, step: str, reason: str, text: str) -> None:
        """Reject one row, keeping the start of its text."""
        row = {"source": source, "place": place, "step": step, "reason": reason, "excerpt": text[:200]}
        self._writer.add(row, len(row["excerpt"]) + 100)
        self._reasons[reason] += 1

    def close(self) -> dict[str, int]:
        """Finish the files and return the number of rejects by reason."""
        self._writer.close()
        return dict(self._reasons)
