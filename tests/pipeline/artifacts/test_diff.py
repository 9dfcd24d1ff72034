"""`artifacts diff`: what was asked, the files, the facts, and what is in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import diff
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.diff import compare
from pipeline.artifacts.store import Store
from pipeline.errors import UsageError


def corpus(bench: Any, folder: Path, texts: list[str], *arguments: str) -> Artifact:
    path = folder / "raw.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made: Artifact = bench.corpus(path, "--workers", "1", *arguments)
    return made


TEXTS = [f"Story {i} is about the number {i * i}." for i in range(40)]


def test_the_same_artifact_is_equal_and_the_exit_code_is_0(chain: Any) -> None:
    ended = chain.bench.artifacts("diff", chain.shards.short, chain.shards.reference)

    assert (ended.code, "equal: the same bytes and facts" in ended.out) == (0, True)


def test_corpora_differ_by_documents_and_the_exit_code_is_1(bench: Any, tmp_path: Path) -> None:
    before = corpus(bench, tmp_path, TEXTS)
    after = corpus(bench, tmp_path, [*TEXTS[2:], "A new one."])

    ended = bench.artifacts("diff", before.short, after.short, "--json")
    page = json.loads(ended.out)

    assert (ended.code, page["equal"]) == (1, False)
    content = page["content"]
    assert (content["added"]["documents"], content["added"]["bytes"]) == (1, len("A new one."))
    assert [example["excerpt"] for example in content["added"]["examples"]] == ["A new one."]
    assert content["removed"]["bytes"] == sum(len(text) for text in TEXTS[:2])
    assert {example["excerpt"] for example in content["removed"]["examples"]} == set(TEXTS[:2])
    assert content["same"] + content["moved"] == 38
    assert any(line.startswith("config.sources[0].sha256 changed") for line in page["recipe"])


def test_documents_that_only_moved_to_another_split_are_counted(bench: Any, tmp_path: Path) -> None:
    before = corpus(bench, tmp_path, TEXTS, "--validation-fraction", "0.1")
    after = corpus(bench, tmp_path, TEXTS, "--validation-fraction", "0.6")

    content = compare(before, after).content

    moved = after.facts["documents"]["validation"] - before.facts["documents"]["validation"]
    assert (content["moved"], content["same"]) == (moved, 40 - moved)
    assert content["added"]["documents"] == content["removed"]["documents"] == 0


def test_comparing_identifiers_slice_by_slice_gives_the_same_answer(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = corpus(bench, tmp_path, TEXTS[:30])
    after = corpus(bench, tmp_path, TEXTS[10:], "--part-bytes", "300")
    at_once = compare(before, after)
    monkeypatch.setattr(diff, "_IDS_AT_ONCE", 7)

    assert compare(before, after) == at_once
    assert at_once.content["added"]["documents"] == at_once.content["removed"]["documents"] == 10
    assert len(at_once.content["added"]["examples"]) == 5


def test_tokenizers_differ_from_the_first_merge_that_is_another(chain: Any) -> None:
    chain.bench.store.tag("old", chain.tokenizer)
    larger = chain.bench.make("pipeline.tokenizer", "--corpus", chain.corpus.short, "--vocab-size", "330")

    content = compare(chain.tokenizer, larger).content

    merges, vocabulary = content["merges"], content["vocabulary"]
    assert (merges["after"] - merges["before"], vocabulary["after"] - vocabulary["before"]) == (10, 10)
    assert merges["equal_from_start"] == merges["before"] == merges["shared"]
    assert content["first_different_merge"]["before"] == [] != content["first_different_merge"]["after"]
    assert vocabulary["shared"] == content["same_id"] == vocabulary["before"]


def test_a_merge_that_was_learned_in_another_order_is_named(publish: Any, tmp_path: Path) -> None:
    pages = [
        {"model": {"vocab": {"a": 0, "b": 1, "ab": 2, "ba": 3}, "merges": merges}, "decoder": {"type": kind}}
        for merges, kind in [(["a b", "b a"], "ByteLevel"), ([["b", "a"], ["a", "b"]], "Fuse")]
    ]
    one, two = (
        publish(Store(tmp_path), {"tokenizer.json": json.dumps(page)}, {"n": i}, kind="tokenizer")
        for i, page in enumerate(pages)
    )

    content = compare(one, two).content

    assert content["first_different_merge"] == {"number": 0, "before": ["a b"], "after": ["b a"]}
    assert content["merges"]["shared"] == 2
    assert content["settings"] == ["tokenizer.json.decoder.type changed (ByteLevel -> Fuse)"]


def test_shards_differ_by_tokens(chain: Any) -> None:
    smaller = chain.bench.make("pipeline.tokenizer", "--corpus", chain.corpus.short, "--vocab-size", "300")
    other = chain.bench.make(
        "pipeline.shards", "--corpus", chain.corpus.short, "--tokenizer", smaller.short, "--shard-tokens", "1500"
    )

    found = compare(chain.shards, other)

    assert found.content["tokens"]["train"] == [chain.shards.facts["tokens"]["train"], other.facts["tokens"]["train"]]
    assert found.content["total"][0] < found.content["total"][1]
    assert found.content["same_tokenizer"] is False
    assert set(found.files.changed) == {"validation-00000-of-00001.arrow", "index.json"}
    assert len(found.files.added) + 2 == len(other.files()) and len(found.files.removed) + 2 == len(
        chain.shards.files()
    )


def test_the_lines_say_what_was_and_what_is(bench: Any, tmp_path: Path) -> None:
    before = corpus(bench, tmp_path, TEXTS)
    evil = "evil \x1b[2J text\nof two lines"
    after = corpus(bench, tmp_path, [*TEXTS, evil])

    out = bench.artifacts("diff", before.short, after.short).out

    assert f"- {before.reference}\n+ {after.reference}\n" in out
    assert f"+ 1 documents added, {len(evil)} bytes" in out and "= 40 documents are the same" in out
    assert "evil  [2J text of two lines" in out and "\x1b" not in out
    assert "facts.documents.train changed" in out or "facts.documents.validation changed" in out


def test_artifacts_of_different_kinds_are_not_compared(chain: Any) -> None:
    with pytest.raises(UsageError, match="of different kinds"):
        compare(chain.corpus, chain.tokenizer)
    assert chain.bench.artifacts("diff", chain.corpus.short, chain.tokenizer.short).code == 2


def test_equal_bytes_that_were_asked_for_differently_say_how(publish: Any, tmp_path: Path) -> None:
    one, two = (publish(Store(tmp_path), {"a.txt": "x"}, {"n": i}) for i in (1, 2))

    found = compare(one, two)

    assert found.equal and found.recipe == ["config.n changed (1 -> 2)"]
    assert "equal: the same bytes and facts, asked for differently:" in list(diff.lines(found))
