"""The stage that learns the vocabulary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.encoding import TextEncoder
from pipeline.errors import ConfigError
from pipeline.tokenizer import TokenizerConfig, measure, train


def test_the_vocabulary_is_as_large_as_asked_for_with_the_control_tokens(shared_chain: Any) -> None:
    artifact = shared_chain.tokenizer

    assert artifact.facts["vocab_size"] == TextEncoder.of(artifact).vocab_size == 320
    assert artifact.facts["text_size"] == 320 - 6
    assert sorted(artifact.facts["control"].values()) == list(range(314, 320))


def test_the_payload_is_what_transformers_reads_and_a_report(shared_chain: Any) -> None:
    assert [path.name for path in shared_chain.tokenizer.files()] == [
        "report.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_most_frequent_pair_is_merged_first() -> None:
    tokenizer = train(iter(["ab ab ab ab cd cd"]), TokenizerConfig(vocab_size=263))

    assert set(tokenizer.get_vocab()) >= {"ab"}
    assert tokenizer.get_vocab_size() == 257


def test_a_pair_seen_too_seldom_is_not_merged() -> None:
    tokenizer = train(iter(["ab cd cd cd"]), TokenizerConfig(vocab_size=300, min_frequency=3))

    assert "cd" in tokenizer.get_vocab() and "ab" not in tokenizer.get_vocab()


def test_a_corpus_of_few_pairs_gives_a_smaller_vocabulary_and_says_so(bench: Any, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": "x" * n}) + "\n" for n in range(1, 9)))
    corpus = bench.corpus(source)

    ended = bench("pipeline.tokenizer", "--corpus", corpus.reference, "--vocab-size", "5000")

    artifact = bench.store.find(ended.out.strip())
    assert artifact.facts["vocab_size"] < 300
    assert f"for {artifact.facts['vocab_size']} ids only, of the 5,000 asked for" in ended.err


def test_only_the_train_split_is_learned_from(bench: Any, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": f"word{n} " * 50}) + "\n" for n in range(20)))
    corpus = bench.corpus(source, "--validation-fraction", "0.5")
    tokenizer = bench.make("pipeline.tokenizer", "--corpus", corpus.reference, "--vocab-size", "400")

    from pipeline.arrow import read_rows

    texts = [row["text"] for path in corpus.files("train-") for row in read_rows(path)]
    expected = train(iter(texts), TokenizerConfig(vocab_size=400))
    assert json.loads(expected.to_str()) == tokenizer.read_json("tokenizer.json")


def test_the_order_of_the_documents_does_not_change_the_vocabulary() -> None:
    texts = [f"the {n} foxes and the {n % 7} hens" for n in range(300)]

    one, two = (train(iter(t), TokenizerConfig(vocab_size=350)) for t in (texts, texts[::-1]))

    assert one.to_str() == two.to_str()


def test_a_report_of_a_worked_example(train_encoder: Callable[[list[str], int], TextEncoder]) -> None:
    encoder = train_encoder(["ab ab ab"], 263)

    report = measure(encoder, iter(["abc abc", "é"]))

    # "ab" and "c", then " ", "ab" and "c", and the two bytes of "é": 7 tokens of 9 bytes, in 3 words
    assert (report["bytes_per_token"], report["tokens_per_word"]) == (round(9 / 7, 4), round(7 / 3, 4))
    assert report["used_fraction"] == round(5 / 257, 4)
    assert report["longest_tokens"][0] == "ab"


def test_the_number_of_threads_changes_no_byte(chain: Any) -> None:
    ended = chain.bench.artifacts("reproduce", chain.tokenizer.reference, "--workers", "3")

    assert (ended.code, ended.out.split()[0]) == (0, "MATCH")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"vocab_size": 261}, "must hold 256 bytes and 6 control tokens, got 261"),
        ({"min_frequency": 0}, "min_frequency must be at least 1"),
    ],
)
def test_settings_that_make_no_vocabulary_are_refused(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TokenizerConfig(**settings)
