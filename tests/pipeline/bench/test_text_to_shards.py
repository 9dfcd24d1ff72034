"""The bench of text to shards: what the peers are given, and that a difference in one id is seen."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import text_to_shards
from pipeline.bench.figures import Measured
from pipeline.bench.text_to_shards import compare_ids, document_hashes, ranks_of
from pipeline.errors import IntegrityError
from pipeline.tokenization.engines import pattern_of


def test_every_document_is_held_against_tokenizers_and_one_other_id_is_found(
    shared_chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = shared_chain
    count = sum(chain.corpus.facts["documents"].values())
    assert compare_ids(chain.corpus, chain.shards, chain.tokenizer) == count
    assert document_hashes(chain.shards).total() == count
    honest = text_to_shards._documents

    def altered(shards: Any, split: str) -> Any:
        for number, ids in enumerate(honest(shards, split)):
            yield [*ids[:-2], ids[-2] ^ 1, ids[-1]] if number == 5 else ids

    monkeypatch.setattr(text_to_shards, "_documents", altered)
    with pytest.raises(IntegrityError, match="document 5 of corpus:"):
        compare_ids(chain.corpus, chain.shards, chain.tokenizer)


def test_documents_that_the_shards_lack_or_have_in_excess_are_found(
    shared_chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, honest = shared_chain, text_to_shards._documents
    monkeypatch.setattr(text_to_shards, "_documents", lambda shards, split: iter([*honest(shards, split), [1, 2]]))
    with pytest.raises(IntegrityError, match="more documents"):
        compare_ids(chain.corpus, chain.shards, chain.tokenizer)
    monkeypatch.setattr(text_to_shards, "_documents", lambda shards, split: iter([*honest(shards, split)][:-1]))
    with pytest.raises(IntegrityError, match="other ids"):
        compare_ids(chain.corpus, chain.shards, chain.tokenizer)


def test_tiktoken_built_from_our_tokenizer_gives_the_same_ids(shared_chain: Any) -> None:
    import tiktoken
    from tokenizers import Tokenizer

    path = shared_chain.tokenizer.file("tokenizer.json")
    page = json.loads(path.read_text(encoding="utf-8"))
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in ranks_of(page))}
    theirs = tiktoken.Encoding("t", pat_str=pattern_of(page), mergeable_ranks=ranks, special_tokens={})
    text = "The fox's café had 1234 stars…\n\n  and they'll sit near\tthe barn."
    assert theirs.encode_ordinary(text) == Tokenizer.from_file(str(path)).encode(text).ids


def test_the_text_is_dealt_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text("a\nb\nc\n")
    parts = [tmp_path / "parts" / str(i) for i in range(2)]

    text_to_shards._deal(tmp_path / "all.jsonl", parts)

    assert [part.read_text() for part in parts] == ["a\nc\n", "b\n"]


def measured(value: float) -> Measured:
    return Measured(value=value, about={"encoding": 2 * value, "peak_bytes": 5e8})


def test_every_peer_has_its_row_with_the_bound_it_is_held_to() -> None:
    runs = {name: [measured(value)] for name, value in (("ours", 60.0), ("ours, engine tokenizers", 9.0))}
    runs["datatrove"] = [measured(5.0)]

    rows = {(row.name, row.peer): row for row in text_to_shards._speeds(runs, "machine")}

    assert rows["text to shards", "datatrove"].met is True
    assert rows["text to shards", "nanoGPT's way"].met is None, "which was not to be had"
    assert rows["text to shards, engine tokenizers", "datatrove"].ratio == 9 / 5
    assert rows["corpus to shards alone", ""].ours == 120.0


def test_the_memory_of_a_peer_that_is_not_there_is_unknown() -> None:
    first, second = text_to_shards._memory({"ours": [measured(1)], "datatrove": [measured(1)]})

    assert (first.ours, first.peer_value, first.met) == (500.0, None, True)
    assert (second.ours, second.peer_value, second.met) == (None, 500.0, None)


def test_shards_that_differ_between_runs_are_an_error(chain: Any, session: Any) -> None:
    with pytest.raises(IntegrityError, match="the shards differ between runs or engines"):
        text_to_shards._identity(session, [chain.shards, chain.tokenizer], chain.corpus, {})
