"""The figures of a tokenizer are printed, beside those of others."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.tokenization.importing import RANKS
from pipeline.tokenization.text_encoder import TextEncoder
from pipeline.tokenizer_report import cached_ranks, tokenizer_report_lines


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
