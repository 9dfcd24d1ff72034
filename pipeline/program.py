"""Machinery: a program that is no stage: parse a dataclass from the command line, run, exit with the right code."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.process import guarded, prepare_process

T = TypeVar("T")


def default_store() -> Path:
    """Return the store of this shell: CAIRN_STORE, else ./artifacts."""
    return Path(os.environ.get("CAIRN_STORE", "artifacts"))


def program(
    name: str, description: str | None, command: type[T] | Any, run: Callable[[T], int], argv: Sequence[str] | None
) -> int:
    """Parse `command` and run it; an error becomes a sentence and an exit code, with --debug a traceback."""
    import tyro

    prepare_process()
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> int:
        return run(tyro.cli(command, args=arguments, prog=f"python -m {name}", description=description))

    return guarded(body, debug="--debug" in arguments)
