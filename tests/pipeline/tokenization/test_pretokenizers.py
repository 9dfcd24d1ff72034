"""How text is cut into pre-tokens: worked examples, and tiktoken under its own spelling as the oracle."""

import json
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokenization.pretokenizers import (
    KNOWN,
    PRETOKENIZERS,
    build_pretokenizer,
    has_longer_pretoken,
    name_of,
    sure_boundaries,
)
from pipeline.tokenization.text_encoder import TextEncoder, byte_of_symbol
from pipeline.tokenizer import TokenizerConfig, train

TIKTOKEN = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "cl100k": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",  # noqa: E501
    "digits_one": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "digits_three": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
}
"""the first two as tiktoken has them in `tiktoken_ext/openai_public.py`, the others written the same way"""


def pretokens(name: str, text: str) -> list[str]:
    """Cut a text, and turn the byte symbols of its pre-tokens back into text."""
    symbols = byte_of_symbol()
    found = build_pretokenizer(name).pre_tokenize_str(text)
    return [bytes(symbols[c] for c in pretoken).decode("utf-8", errors="replace") for pretoken, _ in found]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt2", "It's 2024,  ok\n\n", ["It", "'s", " 2024", ",", " ", " ok", "\n\n"]),
        ("gpt2", "IT'S 1234567", ["IT", "'", "S", " 1234567"]),
        ("digits_one", "in 1984!", ["in", " ", "1", "9", "8", "4", "!"]),
        ("digits_three", "in 1234567!", ["in", " ", "123", "456", "7", "!"]),
        ("cl100k", "IT'S 1234567", ["IT", "'S", " ", "123", "456", "7"]),
        ("cl100k", "end.\n\n  (next\n", ["end", ".\n\n", " ", " (", "next", "\n"]),
        ("cl100k", "a\n \n b", ["a", "\n \n", " b"]),
        ("qwen2", "v12", ["v", "1", "2"]),
    ],
)
def test_a_worked_example_is_cut_as_its_pattern_says(name: str, text: str, expected: list[str]) -> None:
    assert pretokens(name, text) == expected


@pytest.mark.parametrize("name", KNOWN)
@given(text=st.text(max_size=60))
def test_the_pretokens_are_the_whole_text(name: str, text: str) -> None:
    symbols = byte_of_symbol()
    found = build_pretokenizer(name).pre_tokenize_str(text)

    assert bytes(symbols[c] for pretoken, _ in found for c in pretoken) == text.encode()


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_every_pattern_says_what_it_does_and_where_it_comes_from(name: str) -> None:
    assert len(PRETOKENIZERS[name].about.split()) > 4 and len(PRETOKENIZERS[name].source.split()) > 4


# --- tiktoken as the oracle ----------------------------------------------------------------------------------

signs = st.sampled_from(list("aB 's'T're19٣½²\n\r\t.!-_é\u0301字🦊\u200d\u00a0\u3000\x85\x1cſK"))
texts = st.lists(st.one_of(signs, st.characters(exclude_categories=["Cs"])), max_size=60).map("".join)


@pytest.fixture(scope="module")
def oracles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TextEncoder, Any]]:
    """For each pattern an encoder with merges within every kind of pre-token, and tiktoken with the same ranks."""
    tiktoken = pytest.importorskip("tiktoken")
    from pipeline.tokenization.text_encoder import tokenizer_config

    words = "it's IT'S we're 've 1 12 123 1984 20244 ½² ...!!! --- é字🦊 \n\n \r\n  x\n \t "
    found = {}
    for name in PRETOKENIZERS:
        folder = tmp_path_factory.mktemp(name)
        tokenizer = train([f"{words}{i} {words}" for i in range(50)], TokenizerConfig(vocab_size=600, pattern=name))  # type: ignore[arg-type]
        tokenizer.save(str(folder / "tokenizer.json"))
        page = json.dumps(tokenizer_config(tokenizer.get_vocab_size()))
        (folder / "tokenizer_config.json").write_text(page, encoding="utf-8")
        encoder = TextEncoder(folder)
        ranks = {token: i for i, token in enumerate(encoder.token_bytes) if token}
        oracle = tiktoken.Encoding(name, pat_str=TIKTOKEN[name], mergeable_ranks=ranks, special_tokens={})
        found[name] = (encoder, oracle)
    return found


@pytest.mark.parametrize("name", PRETOKENIZERS)
@given(text=texts)
def test_tiktoken_under_its_own_spelling_gives_the_same_ids(
    oracles: dict[str, tuple[TextEncoder, Any]], name: str, text: str
) -> None:
    encoder, oracle = oracles[name]

    # The ids of tiktoken are ranks; the trainer numbers tokens in the order of its merges too, after the 256 bytes.
    assert encoder.encode(text) == oracle.encode_ordinary(text)
    assert encoder.decode(encoder.encode(text)) == text


# --- how long a pre-token can be -----------------------------------------------------------------------------


def as_array(text: str) -> Any:
    import numpy as np

    return np.frombuffer(text.encode(), dtype=np.uint8)


def boundaries_of(name: str, text: str) -> set[int]:
    """Return where the pre-tokens of a text begin, in bytes: a symbol of one is a byte."""
    lengths = (len(pretoken) for pretoken, _ in build_pretokenizer(name).pre_tokenize_str(text))
    return set(accumulate(lengths, initial=0))


@pytest.mark.parametrize("name", KNOWN)
@given(text=texts)
def test_a_sure_boundary_is_a_boundary_of_every_pattern(name: str, text: str) -> None:
    assert set(sure_boundaries(as_array(text)).tolist()) <= boundaries_of(name, text)


@pytest.mark.parametrize("name", KNOWN)
def test_a_sure_boundary_is_a_boundary_beside_every_character(name: str) -> None:
    everything = [chr(i) for i in range(0x10000) if not 0xD800 <= i < 0xE000]
    text = "".join(f"{c}a{c} 5{c}. {c} \n{c}" for c in everything)

    sure = set(sure_boundaries(as_array(text)).tolist())

    assert len(sure) > 2 * len(everything) and sure <= boundaries_of(name, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("ab cd", [2]),
        ("ab12", [2]),
        ("a  b", [1]),
        ("слово слово", [10]),
        ("end.\n\nThe", [3]),
        ("x\u3000 y", []),
    ],
)
def test_the_sure_boundaries_of_a_worked_example(text: str, expected: list[int]) -> None:
    assert sure_boundaries(as_array(text)).tolist() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word " * 200, False),
        ("x" * 101, True),
        ("x" * 100, False),
        ("é" * 51, True),
        ("一二。" * 100, False),
        ("a " + " " * 101, True),
        ("=" * 101, True),
        ("=\t" * 100, False),
    ],
)
def test_a_longer_pretoken_is_found(text: str, expected: bool) -> None:
    assert has_longer_pretoken("gpt2", [as_array("ok"), as_array(text)], 100) is expected


def test_after_long_doubt_there_is_a_longer_pretoken() -> None:
    text = as_array("一二。" * 100)

    assert has_longer_pretoken("gpt2", [text] * 5, 100, patience=5 * 900) is False
    assert has_longer_pretoken("gpt2", [text] * 5, 100, patience=5 * 900 - 1) is True


# --- what is recognised --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_a_pattern_is_recognised_in_the_file_that_tokenizers_writes(name: str) -> None:
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = build_pretokenizer(name)

    assert name_of(json.loads(tokenizer.to_str())["pre_tokenizer"]) == name


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_transformers_cuts_text_the_same(tmp_path: Any, name: str) -> None:
    import transformers

    tokenizer = train(["it's 1984, IT'S 20245!\n\n  ok"] * 3, TokenizerConfig(vocab_size=300, pattern=name))  # type: ignore[arg-type]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "It's 1984,  IT'S 123456!\n\n ok"

    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))

    assert theirs.encode(text) == tokenizer.encode(text).ids
    assert theirs.decode(theirs.encode(text), clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(
    "page",
    [
        None,
        [],
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel", "add_prefix_space": False}]},
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        },
    ],
)
def test_what_cuts_otherwise_has_no_name(page: Any) -> None:
    assert name_of(page) is None
