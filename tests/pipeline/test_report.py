"""The report of a corpus as a person asks for it: a page, a summary, JSON, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_a_corpus_that_the_stage_made_has_a_report_of_its_steps(chain: Any) -> None:
    ended = chain.bench(
        "pipeline.report", chain.corpus.short, "--out", str(chain.bench.store.root / "page.html"), "--json"
    )

    report = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert [step["step"] for step in report["steps"]] == ["read", "line_ends", "unicode", "exact_documents"]
    assert (report["rejected"], report["clusters"]["clusters"]) == (0, 0)
    assert sum(report["documents"].values()) == report["sources"][0]["documents_out"] == 300
    assert report["tokenizer"]["reference"] == chain.tokenizer.reference


def test_the_program_writes_the_page_and_prints_where_it_is_last(
    bench: Any, raw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = raw.publish(bench.store)
    monkeypatch.chdir(tmp_path)

    ended = bench("pipeline.report", artifact.short)

    name = f"corpus-{artifact.id[:12]}.html"
    assert (ended.code, ended.out.splitlines()[-1]) == (0, name), ended.err
    assert (tmp_path / name).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "6 documents of 11 kept (5 train + 1 validation)" in ended.out
    assert "near: near duplicate" in ended.out


def test_json_is_the_report_and_where_the_page_is(bench: Any, raw: Any, tmp_path: Path) -> None:
    artifact = raw.publish(bench.store)

    ended = bench("pipeline.report", artifact.short, "--out", str(tmp_path / "deep" / "p.html"), "--json")

    page = json.loads(ended.out)
    assert (page["page"], page["rejected"]) == (str(tmp_path / "deep" / "p.html"), 5)
    assert (tmp_path / "deep" / "p.html").exists()


def test_what_is_no_corpus_has_no_report(chain: Any, tmp_path: Path) -> None:
    other = ("--tokenizer", chain.shards.short)
    ended = chain.bench("pipeline.report", chain.corpus.short, *other)
    assert (ended.code, "names a tokenizer" in ended.err) == (65, True)
    assert chain.bench("pipeline.report", chain.tokenizer.short).code == 65
    assert chain.bench("pipeline.report", "corpus:zzz").code == 66
    assert chain.bench("pipeline.report", chain.corpus.short, "--out", str(tmp_path)).code == 2
    assert chain.bench("pipeline.report", chain.corpus.short, "--sample-bytes", "0").code == 2


def test_a_flipped_bit_in_the_corpus_is_refused(
    bench: Any, raw: Any, flip: Callable[[Path], None], tmp_path: Path
) -> None:
    artifact = raw.publish(bench.store)
    flip(artifact.payload / "steps.json")

    assert bench("pipeline.report", artifact.short, "--out", str(tmp_path / "p.html")).code == 71
