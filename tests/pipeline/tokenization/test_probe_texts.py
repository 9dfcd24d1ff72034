"""The probe texts tell engines apart that cut words in another way, however little."""

from pathlib import Path
from unicodedata import category

import pytest

from pipeline.tokenization.agreement import first_difference
from pipeline.tokenization.engines import Tiktoken, open_reference
from pipeline.tokenization.pretokenizers import CL100K, GPT2
from pipeline.tokenization.probe_texts import probe_texts
from pipeline.tokenization.text_encoder import CONTROL_TOKENS

MISTAKES = {
    "contractions in any case": ("gpt2", "'s|'t|'re|'ve|'m|'ll|'d", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    "no contraction 'd": ("gpt2", "|'d", ""),
    "the last blank stays with the others": ("gpt2", r"|\s+(?!\S)", ""),
    "a space is not taken along": ("gpt2", r" ?\p{L}+", r"\p{L}+"),
    "letters of ASCII only": ("gpt2", r"\p{L}+", "[A-Za-z]+"),
    "marks are letters": ("gpt2", r"\p{L}+", r"[\p{L}\p{M}]+"),
    "digits are those of decimal numbers": ("gpt2", r"\p{N}+", r"\p{Nd}+"),
    "digits in groups of three": ("gpt2", r"\p{N}+", r"\p{N}{1,3}"),
    "digits in groups of two": ("cl100k", r"\p{N}{1,3}", r"\p{N}{1,2}"),
    "white space of ASCII only": ("gpt2", r"|\s+(?!\S)|\s+", r"|[ \t-\r]+(?![^ \t-\r])|[ \t-\r]+|\s"),
    "line ends are cut off": ("cl100k", r"[\r\n]*", ""),
    "blank lines are blanks": ("cl100k", r"|\s*[\r\n]+", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_engine_with_one_mistake_in_its_pattern_differs_on_a_probe_text(
    folders: dict[str, Path], mistake: str
) -> None:
    import tiktoken

    name, right, wrong = MISTAKES[mistake]
    pattern = {"gpt2": GPT2, "cl100k": CL100K}[name].regex
    assert right in pattern
    engine, reference = Tiktoken(folders[name]), open_reference(folders[name])
    assert first_difference(engine, reference, probe_texts()) == ""

    ranks = engine._engine._mergeable_ranks
    wrong = pattern.replace(right, wrong)
    engine._engine = tiktoken.Encoding("wrong", pat_str=wrong, mergeable_ranks=ranks, special_tokens={"\0": 10**6})

    assert "differ" in first_difference(engine, reference, probe_texts())


def test_the_probe_texts_are_few_and_hold_every_kind_of_character() -> None:
    texts = probe_texts()

    everything = "".join(texts)
    kinds = {category(c) for c in map(chr, range(0x110000))} - {"Cs", "Co"}  # no text holds one, nothing is in one
    assert {category(c) for c in set(everything)} >= kinds
    assert len(texts) < 300 and len(everything.encode()) < 500_000
    assert all(token in everything for token in CONTROL_TOKENS)
    assert {"", " ", "\n"} <= set(texts)
