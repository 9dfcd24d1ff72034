"""What a person sees while a program runs."""

import io
import sys
from itertools import count

import pytest

from pipeline.runtime import console
from pipeline.runtime.console import progress, say


def test_what_is_said_is_on_stderr_and_stdout_is_for_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    say("reading")

    assert capsys.readouterr() == ("", "reading\n")


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


def test_without_a_total_progress_says_how_many_are_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 11))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))

    list(progress(iter("ab"), total=None, label="reading"))

    assert capsys.readouterr().err == "reading: 1 it\nreading: 2 it\n"
