"""Machinery: what a person sees while a program runs: lines of the log, and progress."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def say(message: str) -> None:
    """Tell the person something; the log is on stderr, stdout is for the result."""
    print(message, file=sys.stderr, flush=True)


def progress(items: Iterable[T], *, total: int | None, label: str, unit: str = "it") -> Iterator[T]:
    """Yield `items` behind a progress bar; on anything but a terminal, print a line every ten seconds."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, delay=2.0, leave=False)
        return
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > 10:
            last = time.monotonic()
            say(f"{label}: {done}{f' of {total}' if total else ''} {unit}")
