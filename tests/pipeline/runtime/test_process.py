"""What a program owes its surroundings: exit codes, a quick --help, progress, provenance."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from itertools import count

import pytest

from pipeline import errors
from pipeline.errors import CairnError
from pipeline.runtime import console
from pipeline.runtime.console import progress
from pipeline.runtime.program import guarded
from pipeline.runtime.provenance import provenance, version_of

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


def test_a_full_disk_says_what_to_do() -> None:
    assert "Free some space" in str(errors.from_os_error(OSError(errno.ENOSPC, "No space left on device")))


def test_no_two_kinds_of_error_share_an_exit_code() -> None:
    kinds = [CairnError, *CairnError.__subclasses__()]
    ours = [kind for kind in kinds if kind.__module__ == "pipeline.errors"]

    assert len({kind.exit_code for kind in ours}) == len(ours) == 9


def test_sigterm_is_an_orderly_end_with_exit_75() -> None:
    code = (
        "import time; from pipeline.runtime.console import say\nfrom pipeline.runtime.process import prepare_process\n"
        "from pipeline.runtime.program import guarded\n"
        "def body():\n    say('ready'); time.sleep(60); return 0\n"
        "prepare_process(); raise SystemExit(guarded(body, debug=False))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None and child.stderr.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read()

    assert (child.returncode, "stopped by SIGTERM. Run the same command again" in said) == (75, True)


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


# --- progress and provenance ---------------------------------------------------------------------------------


def test_progress_yields_everything_and_says_nothing_about_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(100), total=100, label="encoding")) == list(range(100))
    assert capsys.readouterr().err == ""


def test_progress_prints_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))

    list(progress(range(4), total=4, label="encoding", unit="parts"))

    assert capsys.readouterr().err == "encoding: 2 of 4 parts\nencoding: 4 of 4 parts\n"


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, clock = Terminal(), count()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))

    list(progress(range(4), total=4, label="encoding", unit="parts"))

    assert "encoding" in terminal.getvalue() and "4" in terminal.getvalue()


def test_provenance_holds_only_the_environment_that_is_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")

    page = provenance(0.0)

    assert page["environment"]["TZ"] == "UTC"
    assert "do not tell" not in json.dumps(page)
    assert page["started"] == "1970-01-01T00:00:00Z"


def test_the_version_of_a_package_is_cut_to_the_numbers_asked_for() -> None:
    whole = version_of("pyarrow")

    assert version_of("pyarrow", parts=2) == ".".join(whole.split(".")[:2])
    assert version_of("no-such-package-at-all") == "absent"


def test_a_program_stays_offline_unless_it_is_told_otherwise() -> None:
    code = "import os, pipeline.runtime.process as p; p.prepare_process(); print(os.environ['HF_HUB_OFFLINE'])"
    base = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}

    plain = subprocess.run([sys.executable, "-c", code], env=base, capture_output=True, text=True, check=True)
    told = subprocess.run(
        [sys.executable, "-c", code], env={**base, "HF_HUB_OFFLINE": "0"}, capture_output=True, text=True, check=True
    )

    assert (plain.stdout, told.stdout) == ("1\n", "0\n")
