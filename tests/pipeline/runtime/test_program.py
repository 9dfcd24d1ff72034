"""A program ends with the exit code of its error, and its --help is quick and teaches."""

import errno
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.errors import ConfigError
from pipeline.runtime import program as program_module
from pipeline.runtime.program import as_known, default_store, guarded, program

# --- exit codes ----------------------------------------------------------------------------------------------

CODES: dict[str, tuple[BaseException, int]] = {
    "bug": (ZeroDivisionError("oops"), 70),
    "ours": (errors.CairnError("x"), 70),
    "usage": (errors.UsageError("x"), 2),
    "data": (errors.DataError("x"), 65),
    "missing": (errors.MissingError("x"), 66),
    "unavailable": (errors.UnavailableError("x"), 69),
    "integrity": (errors.IntegrityError("x"), 71),
    "storage": (errors.StorageError("x"), 74),
    "stopped": (errors.StoppedError("x"), 75),
    "config": (errors.ConfigError("x"), 78),
    "no such file": (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), 66),
    "permission": (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 74),
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), 74),
    "not a folder": (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.txt"), 74),
    "ctrl-c": (KeyboardInterrupt(), 75),
}


@pytest.mark.parametrize("case", CODES)
def test_every_error_has_its_exit_code_and_no_traceback(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code = CODES[case]

    def body() -> int:
        raise error

    assert guarded(body, debug=False) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and "Traceback" not in printed.err and printed.out == ""


@pytest.mark.parametrize("case", ["bug", "data", "ctrl-c"])
def test_debug_shows_the_traceback_of_every_error(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code = CODES[case]

    def body() -> int:
        raise error

    assert guarded(body, debug=True) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_body_that_ends_well_ends_with_its_own_code() -> None:
    assert guarded(lambda: 0, debug=False) == 0


def test_whoever_reads_our_output_may_stop_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which is given back afterwards

    def body() -> int:
        raise BrokenPipeError

    assert guarded(body, debug=False) == 0
    assert sys.stdout is None, "what is still to be written goes nowhere"


def test_an_error_that_nobody_foresaw_is_said_to_be_ours() -> None:
    known = as_known(ZeroDivisionError("division by zero"))

    assert str(known).startswith("ZeroDivisionError: division by zero\nThis is a bug of ours; --debug shows")
    assert as_known(known) is known


# --- the command line ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """Count things."""

    count: int
    """how many there are"""
    debug: bool = False


def count(command: Command) -> int:
    if command.count < 0:
        raise ConfigError(f"count must not be negative, got {command.count}.")
    print(command.count)
    return 0


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave signals and environment of this process as they are."""
    monkeypatch.setattr(program_module, "prepare_process", lambda: None)


def test_a_program_parses_runs_and_ends_with_the_code_of_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert program("test.count", "Count.", Command, count, ["--count", "3"]) == 0
    assert capsys.readouterr().out == "3\n"
    assert program("test.count", "Count.", Command, count, ["--count", "-1"]) == 78
    assert capsys.readouterr().err == "error: count must not be negative, got -1.\n"


def test_a_command_line_that_cannot_be_parsed_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        program("test.count", "Count.", Command, count, ["--cuont", "3"])

    assert stop.value.code == 2 and "--count" in capsys.readouterr().err


def test_debug_on_the_command_line_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert program("test.count", "Count.", Command, count, ["--count", "-1", "--debug"]) == 78
    assert "Traceback" in capsys.readouterr().err


def test_the_store_is_that_of_the_shell_or_lies_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_STORE", "/somewhere")
    assert default_store() == Path("/somewhere")
    monkeypatch.delenv("CAIRN_STORE")
    assert default_store() == Path("artifacts")


# --- --help --------------------------------------------------------------------------------------------------

PROGRAMS = [
    *("pipeline.corpus", "pipeline.tokenizer", "pipeline.shards", "pipeline.examples", "pipeline.run"),
    *("pipeline.artifacts", "model.generate", "model.chat"),
    *("train.pretrain", "train.classify", "train.instruct", "train.evaluate"),
]
HEAVY = {"torch", "datasets", "pyarrow", "accelerate", "transformers", "tokenizers", "matplotlib", "safetensors"}
ASK_FOR_HELP = """
import json, os, runpy, sys, time
sys.argv = ["program", "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__")
except SystemExit as stop:
    page = {{"code": stop.code, "seconds": time.process_time(), "modules": sorted(sys.modules)}}
    print(json.dumps(page), file=sys.stderr)
"""


@pytest.mark.parametrize("module", PROGRAMS)
def test_help_teaches_within_a_second_and_loads_no_heavy_library(module: str) -> None:
    command = [sys.executable, "-c", ASK_FOR_HELP.format(module=module)]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    page = json.loads(done.stderr.splitlines()[-1])
    assert HEAVY & set(page["modules"]) == set()
    assert page["seconds"] < 1.0  # of the processor's time, which other programs do not lengthen
    assert (page["code"] or 0) == 0
    assert f"usage: python -m {module} " in done.stdout and len(done.stdout.splitlines()) > 10
