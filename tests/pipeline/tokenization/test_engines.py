"""Every engine gives the ids of `tokenizers`, or says that it cannot do a tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tables.arrow import offsets_of, strings
from pipeline.tokenization import engines
from pipeline.tokenization.agreement import first_difference
from pipeline.tokenization.engines import (
    FAST,
    Gigatoken,
    ReferenceEncoder,
    Tiktoken,
    UnsuitableError,
    open_engine,
    open_reference,
    pattern_of,
)
from pipeline.tokenization.pretokenizers import CL100K, GPT2, build_pretokenizer
from pipeline.tokenization.probe_texts import probe_texts
from pipeline.tokenization.text_encoder import TextEncoder, byte_of_symbol, tokenizer_config
from pipeline.tokenization.unicode_17 import documents_with_unicode_17

PATTERNS = ("gpt2", "cl100k", "digits one by one")

# --- identity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("engine", FAST)
def test_a_fast_engine_gives_the_ids_of_the_reference_on_every_probe_text(
    folders: dict[str, Path], choose: Callable[..., Any], engine: str, pattern: str
) -> None:
    folders = folders[pattern]
    fast, reference = open_engine(folders, engine), open_reference(folders)

    for text in probe_texts():
        assert fast.encode_documents([text])[0].tolist() == reference.encoder.encode(text), text
    assert choose(folders, engine) == (engine, {})


@pytest.mark.parametrize("pattern", ["gpt2", "digits one by one"])
def test_gigatoken_gives_the_ids_of_the_reference_on_every_kind_of_character(
    folders: dict[str, Path], pattern: str
) -> None:
    # Of ideographs and syllables, and of what is not assigned, every 16th: there are a million of them.
    many = [*range(0x3400, 0xA000), *range(0xAC00, 0xD7A4), *range(0xE000, 0xF900), *range(0x17000, 0x18D00)]
    codes = sorted({*range(0xD800), *range(0xF900, 0x20000)} - {*many} | {*many[::16], *range(0x20000, 0x110000, 64)})
    lines = ["".join(f"a{chr(c)}1{chr(c)} " for c in codes[i : i + 2000]) for i in range(0, len(codes), 2000)]

    assert first_difference(Gigatoken(folders[pattern]), open_reference(folders[pattern]), lines) == ""


@pytest.mark.parametrize("engine", FAST)
@settings(max_examples=40)
@given(texts=st.lists(st.text(st.sampled_from(" \t\n\r\xa0\u2028'’sStTreLL019٣½éaé\u0301中👩🏽\u200d.,_<|>\x00"))))
def test_a_fast_engine_gives_the_ids_of_the_reference_on_any_mixture(
    folders: dict[str, Path], engine: str, texts: list[str]
) -> None:
    for pattern in PATTERNS:
        fast, reference = open_engine(folders[pattern], engine), open_reference(folders[pattern])
        assert first_difference(fast, reference, texts) == ""


@pytest.mark.parametrize("engine", ["tokenizers", *FAST])
def test_ids_come_as_one_array_with_the_length_of_each_document(folders: dict[str, Path], engine: str) -> None:
    documents = ["one two", "", "\x00", "three\u2028 four", ""]
    encoder = TextEncoder(folders["gpt2"])
    expected = encoder.encode_batch(documents)

    for given_as in (documents, pa.array(documents), pa.array(["x", *documents, "y"]).slice(1, 5)):
        values, lengths = open_engine(folders["gpt2"], engine).encode_documents(given_as)

        assert (values.dtype, lengths.dtype) == (np.uint16, np.int64)
        assert lengths.tolist() == [len(ids) for ids in expected]
        assert values.tolist() == [i for ids in expected for i in ids]


@pytest.mark.parametrize("engine", ["tokenizers", *FAST])
def test_no_documents_are_no_ids(folders: dict[str, Path], engine: str) -> None:
    for nothing in ([], pa.array([], pa.string())):
        values, lengths = open_engine(folders["gpt2"], engine).encode_documents(nothing)

        assert (len(values), len(lengths), values.dtype) == (0, 0, np.uint16)


@pytest.mark.parametrize("engine", ["tokenizers", *FAST])
def test_a_vocabulary_above_65536_gives_wide_ids(
    folders: dict[str, Path], edit: Callable[..., Path], tmp_path: Path, engine: str
) -> None:
    def widen(page: dict[str, Any]) -> None:
        vocab, merges = page["model"]["vocab"], page["model"]["merges"]
        byte = list(vocab)[:256]
        for left in byte:
            for right in byte:
                if left + right not in vocab:
                    vocab[left + right] = len(vocab)
                    merges.append([left, right])

    folders = edit(folders["gpt2"], tmp_path / "wide", widen)
    size = len(json.loads((folders / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    (folders / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(size)), encoding="utf-8")
    texts = ["the wide vocabulary", "\U0002db40\U0002db41"]  # F0 AD, and then AD 80: the last byte has the last pairs

    values, _ = open_engine(folders, engine).encode_documents(texts)

    assert values.dtype == np.uint32 and values.max() >= 2**16
    assert values.tolist() == [i for ids in TextEncoder(folders).encode_batch(texts) for i in ids]


def test_a_document_that_tiktoken_gives_up_on_is_encoded_by_the_reference(folders: dict[str, Path]) -> None:
    blanks = "a" + " " * 1_000_000 + "b"
    engine = Tiktoken(folders["gpt2"])

    with pytest.raises(ValueError, match="[Ss]tack"):
        engine._engine.encode_to_numpy(blanks)
    assert engine.encode_documents([blanks])[0].tolist() == TextEncoder(folders["gpt2"]).encode(blanks)


def test_no_text_is_a_control_token_of_an_engine(folders: dict[str, Path]) -> None:
    texts = ["<|\x00|>", "a<|\x00|> b <|endoftext|><|pad|>"]
    reference = open_reference(folders["gpt2"])

    for engine in FAST:
        values, _ = open_engine(folders["gpt2"], engine).encode_documents(texts)
        assert values.max() < reference.encoder.text_size
        assert first_difference(open_engine(folders["gpt2"], engine), reference, texts) == ""


def test_gigatoken_opened_again_in_the_middle_gives_the_same_ids(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = list(probe_texts())
    whole = Gigatoken(folders["cl100k"])
    expected = whole.encode_documents(texts)[0]
    monkeypatch.setattr(engines, "_CHECK_BYTES", 20_000)

    often = Gigatoken(folders["cl100k"], cache_bytes=-(2**40))

    assert np.array_equal(often.encode_documents(texts)[0], expected)
    assert (whole.restarts, often.restarts > 5) == (0, True)


def test_gigatoken_is_opened_again_once_for_the_memory_that_its_cache_took(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = engines.CACHE_BYTES + 10**9
    readings = iter([0, 1, 2, grown])  # and from then on as much, for other reasons
    monkeypatch.setattr(engines, "_private_bytes", lambda: next(readings, grown))
    monkeypatch.setattr(engines, "_CHECK_BYTES", 1000)

    engine = Gigatoken(folders["gpt2"])
    engine.encode_documents(list(probe_texts()))

    assert engine.restarts == 1


# --- what tiktoken cannot do ---------------------------------------------------------------------------------


def test_tiktoken_refuses_a_tokenizer_that_it_cannot_do(strange: tuple[Path, str], choose: Callable[..., Any]) -> None:
    folders, why = strange

    with pytest.raises(UnsuitableError, match=why):
        Tiktoken(folders)
    assert choose(folders, "tiktoken").engine == "tokenizers"


def test_the_pattern_is_read_from_the_file(folders: dict[str, Path]) -> None:
    pages = {name: json.loads((folders / "tokenizer.json").read_text("utf-8")) for name, folders in folders.items()}

    assert pattern_of(pages["gpt2"]) == GPT2.regex
    assert pattern_of(pages["cl100k"]) == CL100K.regex


def probe(folders: Path, pattern: str) -> Path:
    """Write a tokenizer whose ids tell of every character whether it is cut off from a letter, digit or sign before."""
    from tokenizers import Tokenizer, decoders, models

    symbols = {byte: symbol for symbol, byte in byte_of_symbol().items()}
    vocabulary = {symbols[byte]: byte for byte in range(256)}
    merges = [(symbols[ord(left)], symbols[byte]) for left in "a1!" for byte in range(0x80, 0x100)]
    vocabulary |= {left + right: 256 + i for i, (left, right) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = build_pretokenizer(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folders / "tokenizer.json"))
    (folders / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(len(vocabulary))))
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
def test_gigatoken_cuts_every_character_of_unicode_as_the_reference_does(pattern: str, tmp_path: Path) -> None:
    folders = probe(tmp_path, pattern)
    fast, reference = Gigatoken(folders), ReferenceEncoder(folders)
    characters = list(map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x110000)]))
    column = strings(characters)
    added = {characters[i] for i in documents_with_unicode_17(memoryview(column.buffers()[2]), offsets_of(column))}
    others = [c for c in characters if c not in added]
    texts = ["".join(f"a{c} 1{c} !{c} " for c in others[i : i + 128]) for i in range(0, len(others), 128)]

    for batch in (texts, [f"a{c} 1{c} !{c} " for c in sorted(added)]):
        ours, theirs = fast.encode_documents(batch), reference.encode_documents(batch)
        assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1])
    assert len(added) == 4657

    # and the probe does tell: without the guard they differ
    assert list(fast._engine.encode("a\u088f".encode())) != reference.encode_documents(["a\u088f"])[0].tolist()
