"""Machinery: a command-line program: parse a dataclass, run, turn errors into a sentence and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import CairnError, StoppedError, from_os_error
from pipeline.runtime.console import say
from pipeline.runtime.process import prepare_process

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


def guarded(body: Callable[[], int], *, debug: bool) -> int:
    """Run a program and return its exit code; an error becomes a sentence, with `debug` a traceback."""
    try:
        return body()
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has seen enough
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        known = as_known(error)
        say(f"error: {known}")
        return known.exit_code


def as_known(error: BaseException) -> CairnError:
    """Return the error of ours that says what `error` is: its exit code, and a sentence."""
    if isinstance(error, CairnError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error)
    if isinstance(error, KeyboardInterrupt):
        return StoppedError("stopped. Run the same command again to go on.")
    return CairnError(f"{type(error).__name__}: {error}\nThis is a bug of ours; --debug shows where it happened.")
