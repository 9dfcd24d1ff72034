"""Where, when and with which versions something was made."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime import provenance as provenance_module
from pipeline.runtime.provenance import installation, provenance, version_of


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


def test_local_parts_of_a_version_are_no_numbers_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: "2.13.0+cpu")

    assert (version_of("torch"), version_of("torch", parts=3)) == ("2.13.0+cpu", "2.13.0")


def test_it_says_what_was_typed_and_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline/corpus.py", "--clean"])
    monkeypatch.setattr(provenance_module.time, "time", lambda: 1012.34567)

    page = provenance(1000.0)

    assert (page["command"], page["seconds"]) == (["pipeline/corpus.py", "--clean"], 12.346)
    assert page["packages"]["torch"] == version_of("torch") and page["python"].startswith("3.")


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Ask the system again in this test, and after it."""
    installation.cache_clear()
    yield
    installation.cache_clear()


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5)])
def test_without_git_there_is_no_commit(error: Exception, asked_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(provenance_module.subprocess, "run", fail)

    assert installation()["git_commit"] is None


def test_outside_a_clone_git_is_not_asked(asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance_module, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.setattr(provenance_module.subprocess, "run", lambda *a, **o: pytest.fail("git was asked"))

    assert installation()["git_commit"] is None


def test_this_machine_is_asked_once(asked_anew: None) -> None:
    assert installation() is installation()
