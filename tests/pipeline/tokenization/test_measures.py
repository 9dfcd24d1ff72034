"""The figures of a tokenizer, by worked example."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.tables.arrow import read_batch
from pipeline.tokenization.measures import (
    PROBE_TEXTS,
    Fit,
    check_round_trip,
    coverage_of_numbers,
    longest_tokens,
    show_bytes,
    sum_of,
)
from pipeline.tokenization.text_encoder import TextEncoder

Train = Callable[[list[str], int], TextEncoder]


def test_the_fit_of_a_worked_example() -> None:
    fit = Fit()
    fit.add("abc abc", 5)
    fit.add("é", 2)

    # 9 bytes, 3 words and 7 tokens in 2 documents
    assert fit.as_json() == {
        "documents": 2,
        "bytes": 9,
        "words": 3,
        "tokens": 7,
        "bytes_per_token": round(9 / 7, 4),
        "tokens_per_word": round(7 / 3, 4),
    }


def test_fits_add_up() -> None:
    one, two = Fit(documents=1, bytes=7, words=2, tokens=5), Fit(documents=2, bytes=1, words=1, tokens=1)

    assert sum_of([one, two]) == Fit(documents=3, bytes=8, words=3, tokens=6)
    assert sum_of([]) == Fit()


def test_the_report_counts_by_source_what_the_encoder_makes_of_the_held_out_text(shared_chain: Any) -> None:
    report = shared_chain.tokenizer.read_json("report.json")
    encoder = TextEncoder.of(shared_chain.tokenizer)
    texts = [row["text"] for path in shared_chain.corpus.files("validation-") for row in read_batch(path).to_pylist()]
    tokens, size = sum(len(encoder.encode(text)) for text in texts), sum(len(text.encode()) for text in texts)

    assert report["sources"]["raw"]["tokens"] == tokens
    assert report["sources"]["raw"]["bytes"] == size
    assert report["bytes_per_token"] == round(size / tokens, 4) == shared_chain.tokenizer.facts["bytes_per_token"]


def test_ids_that_no_text_used_are_counted(shared_chain: Any) -> None:
    encoder = TextEncoder.of(shared_chain.tokenizer)
    paths = shared_chain.corpus.files("validation-") + shared_chain.corpus.files("train-")
    ids = [i for path in paths for row in read_batch(path).to_pylist() for i in encoder.encode(row["text"])]
    usage = shared_chain.tokenizer.read_json("report.json")["vocabulary"]

    assert usage["never_used"] == encoder.text_size - len(set(ids))
    assert usage["hardly_used"] == sum(1 for i in set(ids) if ids.count(i) < 5)


def test_the_longest_tokens_come_first(train_encoder: Train) -> None:
    assert longest_tokens(train_encoder(["abab abab abab xy xy"], 300))[:2] == [" abab", "abab"]


def test_the_probe_texts_hold_what_encoders_stumble_over() -> None:
    everything = "".join(PROBE_TEXTS.values())

    assert {"\x00", "\u0301", "\u200d", "\u202b", "\ud7ff", "\ue000", "\uffff", "\U0010ffff"} <= set(everything)


def test_a_tokenizer_that_changes_text_is_refused(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_round_trip(encoder)["bytes"] == 256
    encode = TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, text: encode(self, text.replace("e\u0301", "é")))

    with pytest.raises(DataError, match="combining marks"):
        check_round_trip(encoder)


def test_the_coverage_of_numbers_of_a_worked_example(train_encoder: Train) -> None:
    encoder = train_encoder(["1984 a 1984 a 1984 19 19"], 300)  # learns 19 and 84, and 1984 after a space

    found = coverage_of_numbers(encoder)

    assert found["one_token"] == {
        "1 digits": 1.0,
        "2 digits": round(2 / 90, 4),
        "3 digits": 0.0,
        "4 digits": 0.0,
    }
    assert found["one_token_after_a_space"]["4 digits"] == 0.0001
    assert found["years_cut"]["4"] == 1 and found["years_one_token"] == round(1 / 130, 4)
    assert sum(found["four_digits_cut"].values()) == 9000
    assert found["examples"][" 1984"] == [" 1984"]
    assert found["examples"][" 42"] == [" ", "4", "2"]


def test_a_token_that_is_no_text_is_shown_as_bytes() -> None:
    assert (show_bytes("é".encode()), show_bytes(b"\xc3")) == ("é", "<c3>")
