"""The bench of tokenizer training: the same text for both, and merges compared in order."""

import json
from pathlib import Path
from typing import Any

from pipeline.bench.figures import Measured
from pipeline.bench.mixed_text import texts_of
from pipeline.bench.training import _rows, _write_train_split, merges_of, same_start


def test_the_first_merge_that_differs_ends_the_count() -> None:
    assert same_start([["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]]) == 2
    assert same_start([["a", "b"], ["c", "d"], ["e", "f"]], [["a", "b"], ["d", "c"], ["e", "f"]]) == 1
    assert same_start([["a", "b"]], [["a", "b"], ["c", "d"]]) == 1


def test_merges_are_pairs_in_either_form_of_the_file(tmp_path: Path) -> None:
    for name, merges in (("new", [["a", "b"], ["ab", "c d"]]), ("old", ["a b", "ab c"])):
        (tmp_path / name).write_text(json.dumps({"model": {"merges": merges}}))

    assert merges_of(tmp_path / "new") == [["a", "b"], ["ab", "c d"]]
    assert merges_of(tmp_path / "old") == [["a", "b"], ["ab", "c"]]


def test_the_peer_learns_from_the_train_split_alone(chain: Any, tmp_path: Path) -> None:
    size = _write_train_split(chain.corpus, tmp_path / "train.jsonl")

    texts = list(texts_of(tmp_path / "train.jsonl"))
    assert len(texts) == chain.corpus.facts["documents"]["train"]
    assert size == chain.corpus.facts["bytes"]["train"] == sum(len(text.encode()) for text in texts)


def measured(value: float) -> list[Measured]:
    return [Measured(value=value, about={"peak_bytes": 2e6})]


def test_the_rows_say_how_fast_how_large_and_how_many_merges_are_the_same() -> None:
    merges = {"ours": [["a", "b"], ["c", "d"]], "tokenizers": [["a", "b"], ["d", "c"]]}

    speed, memory, same = _rows({"ours": measured(9.0), "tokenizers": measured(10.0)}, merges, "machine")

    assert (speed.met, memory.ours, memory.peer_value) == (False, 2.0, 2.0)
    assert (same.ours, same.peer_value, same.met) == (1, 2, False)


def test_without_the_peer_there_is_nothing_to_compare() -> None:
    speed, memory = _rows({"ours": measured(9.0)}, {"ours": [["a", "b"]]}, "machine")

    assert (speed.met, memory.peer_value) == (None, None)
