"""The program that measures: what it prints, what it keeps, and how it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.__main__ import BENCHES, Command, bench, default_folder
from pipeline.errors import ConfigError, MissingError


def test_verify_needs_no_peer_and_no_network_and_leaves_only_what_is_kept(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    arguments = ("--only", "verify", "--megabytes", "2", "--repeats", "1", "--folder", str(kept))
    ended = program("-m", "pipeline.bench", *arguments, "--json", str(tmp_path / "figures.json"))
    assert ended.code == 0, ended.err
    assert "| first verification of 2 MB" in ended.out and "hashlib.file_digest" in ended.out
    page = json.loads((tmp_path / "figures.json").read_text())
    assert page["rows"][0]["unit"] == "s" and page["rows"][0]["ratio"] > 0 and page["processors"] > 0
    assert list(kept.iterdir()) == []


def test_a_bench_that_does_not_exist_is_a_usage_error(program: Callable[..., Any]) -> None:
    ended = program("-m", "pipeline.bench", "--only", "nonsense")
    assert ended.code == 2 and "nonsense" in ended.err


def test_a_bench_that_fails_does_not_take_the_others_with_it(program: Callable[..., Any], tmp_path: Path) -> None:
    arguments = ("--only", "verify", "tokenizer", "--megabytes", "2", "--repeats", "1", "--folder", str(tmp_path / "k"))
    ended = program("-m", "pipeline.bench", *arguments, "--text", str(tmp_path / "no_such.jsonl"))
    assert ended.code == MissingError.exit_code
    assert "first verification of 2 MB" in ended.out and "no_such.jsonl" in ended.err


def test_every_bench_names_a_function_that_is_there() -> None:
    for name in BENCHES:
        assert callable(bench(name))


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"repeats": 0}, {"megabytes": 0.0}):
        with pytest.raises(ConfigError, match="repeats must be at least 1, and megabytes above 0"):
            Command(**wrong)


def test_what_can_be_made_again_is_kept_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/cairn-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "cairn-bench"
