"""The stage that learns the vocabulary."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.tokenization.text_encoder import TextEncoder
from pipeline.tokenizer import TokenizerConfig, train


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

    from pipeline.tables.arrow import read_batch

    texts = [row["text"] for path in corpus.files("train-") for row in read_batch(path).to_pylist()]
    expected = train(iter(texts), TokenizerConfig(vocab_size=400))
    assert json.loads(expected.to_str()) == tokenizer.read_json("tokenizer.json")


def test_the_order_of_the_documents_does_not_change_the_vocabulary() -> None:
    texts = [f"the {n} foxes and the {n % 7} hens" for n in range(300)]

    one, two = (train(iter(t), TokenizerConfig(vocab_size=350)) for t in (texts, texts[::-1]))

    assert one.to_str() == two.to_str()


@pytest.mark.parametrize("pattern", ["cl100k", "digits_one", "digits_three"])
def test_a_pattern_decides_what_a_number_may_be(bench: Any, text_file: Path, pattern: str) -> None:
    text_file.write_text("\n\n".join(f"In 1984 there were {n} and 1984 more, in 1984." for n in range(60)))
    corpus = bench.corpus(text_file)

    artifact = bench.make(
        "pipeline.tokenizer", "--corpus", corpus.reference, "--vocab-size", "300", "--pattern", pattern
    )

    encoder = TextEncoder.of(artifact)
    cut = [encoder.token_bytes[i].decode() for i in encoder.encode("1984")]
    assert cut == {"digits_one": ["1", "9", "8", "4"]}.get(pattern, ["198", "4"])
    assert artifact.facts["pattern"] == artifact.read_json("report.json")["pattern"] == pattern


def test_a_pattern_with_other_pieces_learns_other_merges() -> None:
    text = ["a1984 b1984 c1984"] * 3

    one = train(text, TokenizerConfig(vocab_size=300, pattern="digits_one"))
    gpt2 = train(text, TokenizerConfig(vocab_size=300))

    assert "1984" in gpt2.get_vocab() and not any("19" in token for token in one.get_vocab())


def test_lists_of_documents_are_learned_from_like_documents_one_by_one() -> None:
    texts = [f"the {n} foxes\n\n" for n in range(100)]

    one = train(texts, TokenizerConfig(vocab_size=300))
    lists = train([texts[:7], texts[7:]], TokenizerConfig(vocab_size=300))

    assert one.to_str() == lists.to_str()


def test_the_budget_is_learned_from_alone_and_reported(chain: Any) -> None:
    from pipeline.tokenization.training_sample import read_texts, select

    artifact = chain.bench.make(
        "pipeline.tokenizer", "--corpus", chain.corpus.reference, "--vocab-size", "320", "--budget-bytes", "5000"
    )

    taken = select(chain.corpus, "train", 5000)
    texts = [text for batch in read_texts(chain.corpus, "train", taken) for text in batch]
    training = artifact.read_json("report.json")["training"]
    assert training["documents"] == taken.documents == len(texts) < training["of_documents"]
    assert 4000 < training["bytes"] == sum(len(text.encode()) for text in texts) <= 5000
    expected = train(texts, TokenizerConfig(vocab_size=320))
    assert json.loads(expected.to_str()) == artifact.read_json("tokenizer.json")


def test_a_long_piece_is_cut_for_learning_and_leaves_no_trace_in_the_file() -> None:
    run = "".join(random.Random(0).choices("abcdefghijklmnop", k=300_000))

    started = time.monotonic()
    tokenizer = train([run], TokenizerConfig(vocab_size=1000))

    assert time.monotonic() - started < 8  # uncut it takes twenty seconds, and three minutes for three times the text
    assert "FixedLength" not in tokenizer.to_str()


def test_a_corpus_with_a_long_piece_is_cut_for_learning(bench: Any, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    texts = [*(f"word{n} word{n} " * 20 for n in range(20)), *("ab" * n for n in range(300, 320))]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = bench.corpus(source)

    artifact = bench.make("pipeline.tokenizer", "--corpus", corpus.reference, "--vocab-size", "400")

    from pipeline.tables.arrow import read_batch

    learned = [row["text"] for path in corpus.files("train-") for row in read_batch(path).to_pylist()]
    config = TokenizerConfig(vocab_size=400)
    assert artifact.read_json("tokenizer.json") == json.loads(train(learned, config).to_str())
    assert artifact.read_json("tokenizer.json") != json.loads(train(learned, config, cut=False).to_str())


def test_pieces_within_the_cap_are_learned_as_without_it() -> None:
    texts = [f"word{n} " * 20 for n in range(50)]

    capped, uncapped = (train(texts, TokenizerConfig(vocab_size=320, max_pretoken_bytes=n)) for n in (16, 10**6))

    assert capped.to_str() == uncapped.to_str()


def test_the_number_of_threads_changes_no_byte(chain: Any) -> None:
    ended = chain.bench.artifacts("reproduce", chain.tokenizer.reference, "--workers", "3")

    assert (ended.code, ended.out.split()[0]) == (0, "MATCH")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"vocab_size": 261}, "must hold 256 bytes and 6 control tokens, got 261"),
        ({"min_frequency": 0}, "min_frequency must be at least 1"),
        ({"budget_bytes": 0}, "budget_bytes must be at least 1"),
        ({"max_pretoken_bytes": 15}, "max_pretoken_bytes must be at least 16"),
    ],
)
def test_settings_that_make_no_vocabulary_are_refused(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TokenizerConfig(**settings)
