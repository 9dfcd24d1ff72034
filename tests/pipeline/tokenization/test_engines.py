"""Every engine gives the ids of `tokenizers`, or is not used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UnavailableError
from pipeline.tables.arrow import offsets_of, strings
from pipeline.tokenization import engines
from pipeline.tokenization import unicode_17 as newer_letters
from pipeline.tokenization.agreement import difference, distrust, open_trusted, sample_of
from pipeline.tokenization.engines import (
    FAST,
    Gigatoken,
    Reference,
    Tiktoken,
    UnsuitableError,
    engines_for,
    open_encoder,
    open_reference,
    pattern_of,
)
from pipeline.tokenization.pretokenizers import GPT2, build_pretokenizer
from pipeline.tokenization.probe_texts import hard_texts
from pipeline.tokenization.text_encoder import TextEncoder, byte_of_symbol, tokenizer_config
from pipeline.tokenization.unicode_17 import documents_with_newer_letters, holds_newer_letter

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PATTERNS = {"gpt2": "", "cl100k": CL100K, "digits one by one": CL100K.replace("{1,3}", "")}
UNKNOWN = r"\p{N}|\p{L}+|[^\p{L}\p{N}]+"


class Choice(NamedTuple):
    """Which engine encodes, and why no faster one."""

    engine: str
    refused: dict[str, str]


def choose_engine(folder: Path, asked: Any) -> Choice:
    open_trusted.cache_clear()
    engine, refused = open_trusted(folder, engines_for(asked))
    return Choice(engine.name, refused)


def save_encoder(folder: Path, texts: list[str], pattern: str, vocab_size: int = 900) -> Path:
    """Train a tokenizer whose words are those of `pattern`; "" is GPT-2's own."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level]) if pattern else byte_level
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    page = tokenizer_config(tokenizer.get_vocab_size())
    (folder / "tokenizer_config.json").write_text(json.dumps(page), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer for each pattern, which has learned something of the hard texts too."""
    root = tmp_path_factory.mktemp("patterns")
    texts = [*Path(__file__).read_text(encoding="utf-8").split("\n\n"), *hard_texts()[:150]] * 2
    patterns = {**PATTERNS, "unknown": UNKNOWN}
    return {name: save_encoder(root / name, texts, pattern) for name, pattern in patterns.items()}


def edit(folder: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a tokenizer with a change to its tokenizer.json."""
    shutil.copytree(folder, target)
    page = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    change(page)
    (target / "tokenizer.json").write_text(json.dumps(page), encoding="utf-8")
    return target


# --- identity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("engine", FAST)
def test_a_fast_engine_gives_the_ids_of_the_reference_on_every_hard_text(
    folders: dict[str, Path], engine: str, pattern: str
) -> None:
    folder = folders[pattern]
    fast, reference = open_encoder(folder, engine), open_reference(folder)

    for text in hard_texts():
        assert fast.encode_documents([text])[0].tolist() == reference.encoder.encode(text), text
    assert choose_engine(folder, engine) == Choice(engine, {})


@pytest.mark.parametrize("pattern", ["gpt2", "digits one by one"])
def test_gigatoken_gives_the_ids_of_the_reference_on_every_kind_of_character(
    folders: dict[str, Path], pattern: str
) -> None:
    # Of ideographs and syllables, and of what is not assigned, every 16th: there are a million of them.
    many = [*range(0x3400, 0xA000), *range(0xAC00, 0xD7A4), *range(0xE000, 0xF900), *range(0x17000, 0x18D00)]
    codes = sorted({*range(0xD800), *range(0xF900, 0x20000)} - {*many} | {*many[::16], *range(0x20000, 0x110000, 64)})
    lines = ["".join(f"a{chr(c)}1{chr(c)} " for c in codes[i : i + 2000]) for i in range(0, len(codes), 2000)]

    assert difference(Gigatoken(folders[pattern]), open_reference(folders[pattern]), lines) == ""


@pytest.mark.parametrize("engine", FAST)
@settings(max_examples=40)
@given(texts=st.lists(st.text(st.sampled_from(" \t\n\r\xa0\u2028'’sStTreLL019٣½éaé\u0301中👩🏽\u200d.,_<|>\x00"))))
def test_a_fast_engine_gives_the_ids_of_the_reference_on_any_mixture(
    folders: dict[str, Path], engine: str, texts: list[str]
) -> None:
    for pattern in PATTERNS:
        fast, reference = open_encoder(folders[pattern], engine), open_reference(folders[pattern])
        assert difference(fast, reference, texts) == ""


@pytest.mark.parametrize("engine", ["tokenizers", *FAST])
def test_ids_come_as_one_array_with_the_length_of_each_document(folders: dict[str, Path], engine: str) -> None:
    documents = ["one two", "", "\x00", "three\u2028 four", ""]
    encoder = TextEncoder(folders["gpt2"])
    expected = encoder.encode_batch(documents)

    for given_as in (documents, pa.array(documents), pa.array(["x", *documents, "y"]).slice(1, 5)):
        values, lengths = open_encoder(folders["gpt2"], engine).encode_documents(given_as)

        assert (values.dtype, lengths.dtype) == (np.uint16, np.int64)
        assert lengths.tolist() == [len(ids) for ids in expected]
        assert values.tolist() == [i for ids in expected for i in ids]


@pytest.mark.parametrize("engine", ["tokenizers", *FAST])
def test_no_documents_are_no_ids(folders: dict[str, Path], engine: str) -> None:
    for nothing in ([], pa.array([], pa.string())):
        values, lengths = open_encoder(folders["gpt2"], engine).encode_documents(nothing)

        assert (len(values), len(lengths), values.dtype) == (0, 0, np.uint16)


@pytest.mark.parametrize("engine", ["tokenizers", *FAST])
def test_a_vocabulary_above_65536_gives_wide_ids(folders: dict[str, Path], tmp_path: Path, engine: str) -> None:
    def widen(page: dict[str, Any]) -> None:
        vocab, merges = page["model"]["vocab"], page["model"]["merges"]
        byte = list(vocab)[:256]
        for left in byte:
            for right in byte:
                if left + right not in vocab:
                    vocab[left + right] = len(vocab)
                    merges.append([left, right])

    folder = edit(folders["gpt2"], tmp_path / "wide", widen)
    size = len(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(size)), encoding="utf-8")
    texts = ["the wide vocabulary", "\U0002db40\U0002db41"]  # F0 AD, and then AD 80: the last byte has the last pairs

    values, _ = open_encoder(folder, engine).encode_documents(texts)

    assert values.dtype == np.uint32 and values.max() >= 2**16
    assert values.tolist() == [i for ids in TextEncoder(folder).encode_batch(texts) for i in ids]


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
        values, _ = open_encoder(folders["gpt2"], engine).encode_documents(texts)
        assert values.max() < reference.encoder.text_size
        assert difference(open_encoder(folders["gpt2"], engine), reference, texts) == ""


def test_gigatoken_made_anew_in_the_middle_gives_the_same_ids(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = list(hard_texts())
    whole = Gigatoken(folders["cl100k"])
    expected = whole.encode_documents(texts)[0]
    monkeypatch.setattr(engines, "_CHECK_BYTES", 20_000)

    often = Gigatoken(folders["cl100k"], cache_bytes=-(2**40))

    assert np.array_equal(often.encode_documents(texts)[0], expected)
    assert (whole.restarts, often.restarts > 5) == (0, True)


def test_gigatoken_is_made_anew_once_for_the_memory_that_its_cache_took(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = engines.CACHE_BYTES + 10**9
    readings = iter([0, 1, 2, grown])  # and from then on as much, for other reasons
    monkeypatch.setattr(engines, "_private_bytes", lambda: next(readings, grown))
    monkeypatch.setattr(engines, "_CHECK_BYTES", 1000)

    engine = Gigatoken(folders["gpt2"])
    engine.encode_documents(list(hard_texts()))

    assert engine.restarts == 1


# --- which engine --------------------------------------------------------------------------------------------


def test_auto_takes_the_first_that_can_do_the_pattern(folders: dict[str, Path]) -> None:
    assert choose_engine(folders["gpt2"], "auto").engine == "gigatoken"

    choice = choose_engine(folders["unknown"], "auto")

    assert choice.engine == "tiktoken"
    assert "pre_tokenizer" in choice.refused["gigatoken"]


def test_the_reference_is_used_when_asked_for_or_when_nothing_else_is_there(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_engine(folders["gpt2"], "tokenizers") == Choice("tokenizers", {})
    monkeypatch.setattr(engines, "is_installed", lambda name: False)

    assert choose_engine(folders["gpt2"], "auto") == Choice("tokenizers", {})
    with pytest.raises(UnavailableError, match=r'needs the package gigatoken.*"cairn-lm\[fast\]"'):
        choose_engine(folders["gpt2"], "gigatoken")


class Wrong(Reference):
    """An engine that is right about most texts."""

    name = "gigatoken"
    mistake = "\u2028"

    def encode_documents(self, documents: Any) -> tuple[Any, Any]:
        texts = documents if isinstance(documents, list) else documents.to_pylist()
        return super().encode_documents([text.replace(self.mistake, "?") for text in texts])


def test_an_engine_that_differs_on_a_hard_text_is_refused_and_the_text_named(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_open_fast", lambda folder, name: Wrong(folder))

    choice = choose_engine(folders["gpt2"], "auto")

    assert choice.engine == "tokenizers"
    assert choice.refused.keys() == {"gigatoken", "tiktoken"}
    assert "its ids differ from those of tokenizers in " in choice.refused["gigatoken"]
    assert "\\u2028" in choice.refused["gigatoken"]


def test_an_engine_that_loses_bytes_or_differs_in_the_sample_is_not_trusted(folders: dict[str, Path]) -> None:
    reference = open_reference(folders["gpt2"])
    documents = pa.array(["some text \u2028 here", "more"])
    right, _ = reference.encode_documents(documents)
    wrong = Wrong(folders["gpt2"])

    assert distrust(reference, reference, documents, right) == ""
    assert "of a text of 22" in distrust(reference, reference, documents, right[:-1])
    assert "differ" in distrust(wrong, reference, documents, right)


def test_the_sample_of_a_part_is_small_and_from_all_over_it() -> None:
    documents = pa.array([f"{i:06d}" * 5000 for i in range(100)])

    sample = sample_of(documents)

    assert 16 <= len(sample) <= 32 and {len(text) for text in sample} == {2048}
    assert any("000000" in text for text in sample) and any("000096" in text for text in sample)
    assert sample_of(pa.array([], pa.string())) == []


# --- what tiktoken cannot do ---------------------------------------------------------------------------------


def normalize(page: dict[str, Any]) -> None:
    page["normalizer"] = {"type": "NFC"}


def add_prefix_space(page: dict[str, Any]) -> None:
    page["pre_tokenizer"]["add_prefix_space"] = True


def cut_twice(page: dict[str, Any]) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    page["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, page["pre_tokenizer"]]}


def swap_merges(page: dict[str, Any]) -> None:
    merges = page["model"]["merges"]
    merges[0], merges[-1] = merges[-1], merges[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (normalize, "normalizes text"),
        (add_prefix_space, "not cut at byte level"),
        (cut_twice, "not cut by one regular expression"),
        (swap_merges, "do not follow the order of the merges"),
    ],
)
def test_tiktoken_refuses_a_tokenizer_that_it_cannot_do(
    folders: dict[str, Path], tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    folder = edit(folders["gpt2"], tmp_path / "changed", change)

    with pytest.raises(UnsuitableError, match=why):
        Tiktoken(folder)
    assert choose_engine(folder, "tiktoken").engine == "tokenizers"


@pytest.mark.parametrize("change", [normalize, add_prefix_space, cut_twice, swap_merges])
def test_whatever_auto_takes_for_a_strange_tokenizer_gives_the_reference_s_ids(
    folders: dict[str, Path], tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    folder = edit(folders["gpt2"], tmp_path / "changed", change)

    taken = open_encoder(folder, choose_engine(folder, "auto").engine)

    texts = ["e\u0301 12 345", *map("{0} {0}".format, hard_texts()[:60])]
    assert difference(taken, Reference(folder), texts) == ""


def test_the_pattern_is_read_from_the_file(folders: dict[str, Path]) -> None:
    pages = {name: json.loads((folder / "tokenizer.json").read_text("utf-8")) for name, folder in folders.items()}

    assert pattern_of(pages["gpt2"]) == GPT2.regex
    assert pattern_of(pages["cl100k"]) == CL100K


def probe(folder: Path, pattern: str) -> Path:
    """Write a tokenizer whose ids tell of every character whether it is cut off from a letter, digit or sign before."""
    from tokenizers import Tokenizer, decoders, models

    symbols = {byte: symbol for symbol, byte in byte_of_symbol().items()}
    vocabulary = {symbols[byte]: byte for byte in range(256)}
    merges = [(symbols[ord(left)], symbols[byte]) for left in "a1!" for byte in range(0x80, 0x100)]
    vocabulary |= {left + right: 256 + i for i, (left, right) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = build_pretokenizer(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(len(vocabulary))))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
def test_gigatoken_cuts_every_character_of_unicode_as_the_reference_does(pattern: str, tmp_path: Path) -> None:
    folder = probe(tmp_path, pattern)
    fast, reference = Gigatoken(folder), Reference(folder)
    characters = list(map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x110000)]))
    newer = {c for c in characters if holds_newer_letter(c.encode())}
    older = [c for c in characters if c not in newer]
    texts = ["".join(f"a{c} 1{c} !{c} " for c in older[i : i + 128]) for i in range(0, len(older), 128)]

    for batch in (texts, [f"a{c} 1{c} !{c} " for c in sorted(newer)]):
        ours, theirs = fast.encode_documents(batch), reference.encode_documents(batch)
        assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1])
    assert len(newer) == 4657

    # and the probe does tell: without the guard they differ
    assert list(fast._engine.encode("a\u088f".encode())) != reference.encode_documents(["a\u088f"])[0].tolist()


def test_a_version_that_was_not_compared_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "COMPARED", {"gigatoken": "0.9"})

    choice = choose_engine(probe(tmp_path, "gpt2"), "gigatoken")

    assert choice.engine == "tokenizers"
    assert "was not compared, 0.9 was" in choice.refused["gigatoken"]


LETTERS = st.sampled_from([*"aéࢎ中😀", "\u088f", "\u0890", "\ua7ce", "\U00010940", "\U00033479", "\U0003347a"])
NEWER = {"\u088f", "\ua7ce", "\U00010940", "\U00033479"}


@given(texts=st.lists(st.lists(LETTERS, max_size=8).map("".join), max_size=8), first=st.integers(0, 3))
def test_the_documents_with_newer_letters_are_found_in_blocks_of_any_size(texts: list[str], first: int) -> None:
    column = strings(["\u088f", *texts])[1:][first:]
    expected = [i for i, text in enumerate(texts[first:]) if NEWER & set(text)]
    with pytest.MonkeyPatch.context() as patch:
        for block in (1, 2, 3, 2**20):
            patch.setattr(newer_letters, "_BLOCK", block)
            data = memoryview(column.buffers()[2] or b"")
            assert documents_with_newer_letters(data, offsets_of(column)) == expected
    assert [i for i, text in enumerate(texts[first:]) if holds_newer_letter(text.encode())] == expected
