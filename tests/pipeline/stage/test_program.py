"""A stage as a program: the reference on stdout, the log on stderr, what is recorded."""

import json
from pathlib import Path
from typing import Any


def test_the_last_line_on_stdout_is_the_reference_and_the_log_is_on_stderr(bench: Any, text_file: Path) -> None:
    ended = bench("pipeline.corpus", "--source", str(text_file))

    artifact = bench.store.find(ended.out.strip())
    assert ended.out == f"{artifact.reference}\n"
    assert f"next: python -m pipeline.tokenizer --corpus {artifact.short}" in ended.err


def test_the_result_as_json_holds_reference_digest_path_and_facts(bench: Any, text_file: Path) -> None:
    page = json.loads(bench("pipeline.corpus", "--source", str(text_file), "--json").out)

    artifact = bench.store.find(page["reference"])
    assert (page["digest"], page["path"], page["facts"]) == (artifact.digest, str(artifact.path), artifact.facts)


def test_debug_shows_the_traceback_and_keeps_the_exit_code(bench: Any) -> None:
    ended = bench("pipeline.corpus", "--cards", "nothing", "--debug")

    assert (ended.code, "Traceback" in ended.err) == (66, True)


def test_where_and_when_it_ran_is_recorded_but_names_nothing(bench: Any, text_file: Path) -> None:
    artifact = bench.corpus(text_file)

    page = json.loads((artifact.record / "provenance.json").read_text())

    assert {"host", "started", "seconds", "command", "packages", "environment"} <= set(page)
    assert page["host"] not in (artifact.path / "manifest.json").read_text() or page["host"] == ""
