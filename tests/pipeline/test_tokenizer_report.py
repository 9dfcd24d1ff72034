"""The figures of a tokenizer, by worked example, and how they are printed."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.tokenization.importing import RANKS
from pipeline.tokenization.measures import (
    HARD_TEXTS,
    Fit,
    check_round_trip,
    coverage_of_numbers,
    longest_tokens,
    show_bytes,
)
from pipeline.tokenization.text_encoder import TextEncoder
from pipeline.tokenizer_report import cached_ranks, tokenizer_report_lines

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


def test_the_report_counts_by_source_what_the_encoder_makes_of_the_held_out_text(shared_chain: Any) -> None:
    from pipeline.tables.arrow import read_batch

    report = shared_chain.tokenizer.read_json("report.json")
    encoder = TextEncoder.of(shared_chain.tokenizer)
    texts = [row["text"] for path in shared_chain.corpus.files("validation-") for row in read_batch(path).to_pylist()]
    tokens, size = sum(len(encoder.encode(text)) for text in texts), sum(len(text.encode()) for text in texts)

    assert report["sources"]["raw"]["tokens"] == tokens
    assert report["sources"]["raw"]["bytes"] == size
    assert report["bytes_per_token"] == round(size / tokens, 4) == shared_chain.tokenizer.facts["bytes_per_token"]


def test_ids_that_no_text_used_are_counted(shared_chain: Any) -> None:
    from pipeline.tables.arrow import read_batch

    encoder = TextEncoder.of(shared_chain.tokenizer)
    paths = shared_chain.corpus.files("validation-") + shared_chain.corpus.files("train-")
    ids = [i for path in paths for row in read_batch(path).to_pylist() for i in encoder.encode(row["text"])]
    usage = shared_chain.tokenizer.read_json("report.json")["vocabulary"]

    assert usage["never_used"] == encoder.text_size - len(set(ids))
    assert usage["hardly_used"] == sum(1 for i in set(ids) if ids.count(i) < 5)


def test_the_longest_tokens_come_first(train_encoder: Train) -> None:
    assert longest_tokens(train_encoder(["abab abab abab xy xy"], 300))[:2] == [" abab", "abab"]


def test_hard_texts_are_hard() -> None:
    everything = "".join(HARD_TEXTS.values())

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


# --- printing and comparing ----------------------------------------------------------------------------------


def test_the_lines_say_what_the_report_holds(shared_chain: Any) -> None:
    lines = tokenizer_report_lines(shared_chain.tokenizer)

    assert lines[0] == f"{shared_chain.tokenizer.short}: 320 ids, pattern gpt2"
    assert any(line.startswith("raw  ") for line in lines)
    assert "numbers that are one token:" in lines and "longest tokens:" in lines


def test_another_tokenizer_is_measured_on_the_same_text(chain: Any, encoder_folder: Path) -> None:
    ended = chain.bench("pipeline.tokenizer_report", chain.tokenizer.reference, "--against", str(encoder_folder))

    assert ended.code == 0, ended.err
    row = next(line for line in ended.out.splitlines() if line.startswith("raw  "))
    other = TextEncoder(encoder_folder)
    from pipeline.tables.arrow import read_batch

    texts = [row["text"] for path in chain.corpus.files("validation-") for row in read_batch(path).to_pylist()]
    size, tokens = sum(len(text.encode()) for text in texts), sum(len(other.encode(text)) for text in texts)
    assert f"{size / tokens:.3f}  {tokens / sum(len(text.split()) for text in texts):.3f}" in row


def test_a_comparison_that_cannot_be_made_is_said_and_the_rest_is_printed(chain: Any, tmp_path: Path) -> None:
    ended = chain.bench("pipeline.tokenizer_report", chain.tokenizer.reference, "--against", str(tmp_path / "none"))

    assert (ended.code, "no comparison: " in ended.err) == (0, True)
    assert "longest tokens:" in ended.out


def test_what_tiktoken_downloaded_is_found_by_its_name_and_its_hash(
    chain: Any, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    tokens = [token for token in TextEncoder(encoder_folder).token_bytes if token]
    page = "".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(tokens))
    address = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    path = tmp_path / hashlib.sha1(address.encode()).hexdigest()
    path.write_text(page)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert cached_ranks() == {}, "a file that is not the published one was taken for it"
    monkeypatch.setitem(RANKS, "cl100k", hashlib.sha256(page.encode()).hexdigest())

    assert cached_ranks() == {"cl100k": path}
    assert "cl100k: bytes/token" in chain.bench("pipeline.tokenizer_report", chain.tokenizer.reference).out


def test_what_is_installed_changes_no_byte_of_the_artifact(chain: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    assert chain.bench.artifacts("reproduce", chain.tokenizer.reference).out.split()[0] == "MATCH"


def test_the_figures_are_printed_as_json(chain: Any) -> None:
    ended = chain.bench("pipeline.tokenizer_report", chain.tokenizer.reference, "--json")

    assert json.loads(ended.out) == chain.tokenizer.read_json("report.json")


def test_a_corpus_has_no_such_report(chain: Any) -> None:
    ended = chain.bench("pipeline.tokenizer_report", chain.corpus.reference)

    assert (ended.code, "is a corpus, not a tokenizer" in ended.err) == (65, True)


def test_without_its_corpus_a_tokenizer_is_reported_without_comparison(chain: Any, encoder_folder: Path) -> None:
    folder = chain.corpus.path
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)

    ended = chain.bench("pipeline.tokenizer_report", chain.tokenizer.reference, "--against", str(encoder_folder))

    assert (ended.code, "is not in the store" in ended.err) == (0, True)
    assert "longest tokens:" in ended.out
