"""Repetition: Gopher's rules, against a plain reading of their definition."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning.repetition import GopherRepetition
from pipeline.errors import ConfigError

TOP = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def reference(text: str) -> str:
    """Return the reason by the definition, slowly: strings for n-grams, one rule after the other."""
    for name, separator in (("paragraphs", r"\n\n+"), ("lines", r"\n+")):
        spans = re.split(separator, text.strip())
        before: set[str] = set()
        duplicates = []
        for span in spans:
            if span in before:
                duplicates.append(span)
            before.add(span)
        if len(duplicates) / len(spans) > 0.30:
            return f"duplicate {name}"
        if text and sum(map(len, duplicates)) / len(text) > 0.20:
            return f"characters in duplicate {name}"
    words = text.split()
    for n, most in TOP.items():
        counts = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
        top = counts.most_common(1)
        if top and top[0][1] > 1 and len(top[0][0]) * top[0][1] / len(text) > most:
            return "frequent words together"
    for n, most in DUPLICATE.items():
        if counted_characters(words, n) / max(1, len(text)) > most:
            return "duplicate runs of words"
    return ""


def counted_characters(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    characters = i = 0
    while i + n <= len(words):
        ngram = tuple(words[i : i + n])
        if ngram in seen:
            characters += sum(map(len, ngram))
            i += n
        else:
            seen.add(ngram)
            i += 1
    return characters


def reason_of(text: str) -> str:
    outcome = GopherRepetition().open()(text)
    assert outcome.text is text
    return outcome.reason


def distinct_words(count: int, start: int = 0) -> list[str]:
    return [f"w{i:05d}" for i in range(start, start + count)]


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "a\n", "bb\n\n"]), max_size=60))
def test_texts_of_few_words_are_judged_by_the_definition(words: list[str]) -> None:
    text = " ".join(words)
    assert reason_of(text) == reference(text)


def test_texts_with_planted_repeats_are_judged_by_the_definition() -> None:
    dice = random.Random(3)
    reasons = Counter()
    for _ in range(250):
        words = [str(dice.randrange(900)) for _ in range(dice.randrange(60, 400))]
        for _ in range(dice.randrange(12)):
            start, length, to = dice.randrange(len(words)), dice.randrange(2, 16), dice.randrange(len(words))
            words[to:to] = words[start : start + length]
        text = "".join(word + dice.choice("     \n") for word in words)
        reasons[reason_of(text)] += 1
        assert reason_of(text) == reference(text)
    assert reasons[""] > 50
    assert reasons["duplicate runs of words"] > 50


def test_three_tenths_of_duplicate_lines_are_kept_and_more_are_not() -> None:
    long = [" ".join(distinct_words(9, 9 * i)) for i in range(7)]
    assert reason_of("\n".join([*long, "x", "x", "x", "x"][:10])) == ""  # 2 of 10
    assert reason_of("\n".join([*long[:6], "x", "x", "x", "x"])) == ""  # 3 of 10
    assert reason_of("\n".join([*long[:5], "x", "x", "x", "x", "x"])) == "duplicate lines"  # 4 of 10


def test_paragraphs_come_before_lines() -> None:
    assert reason_of("\n\n".join(["one", "two", "two", "two"])) == "duplicate paragraphs"


def test_a_fifth_of_the_characters_in_duplicate_lines_is_too_much() -> None:
    unique = [" ".join(distinct_words(3, 3 * i)) for i in range(8)]
    assert reason_of("\n".join([*unique, "y" * 60, "y" * 60])) == "characters in duplicate lines"
    assert reason_of("\n".join([*unique, "y" * 30, "y" * 30])) == ""


def test_a_pair_of_words_that_fills_a_fifth_is_too_frequent() -> None:
    words = distinct_words(60)
    for i in range(0, 60, 5):
        words[i : i + 2] = ["of", "theme"]
    text = " ".join(words)
    share = 12 * len("of theme") / len(text)
    assert share > 0.20
    assert reason_of(text) == "frequent words together"
    assert reason_of(" ".join(words + distinct_words(30, 100))) == ""


def test_a_short_text_that_repeats_nothing_is_kept() -> None:
    assert reason_of("Nothing here is said twice.") == ""
    assert reason_of("") == ""


def test_equal_n_grams_of_different_words_are_told_apart() -> None:
    # "ab c" and "a bc" have the same letters; only equal words are equal n-grams.
    assert reason_of("ab c d e f a bc d e f " + " ".join(distinct_words(8))) == reference(
        "ab c d e f a bc d e f " + " ".join(distinct_words(8))
    )


def test_thresholds_are_settings() -> None:
    words = distinct_words(40)
    text = " ".join(words + words[:10])
    assert reason_of(text) == "duplicate runs of words"
    lenient = GopherRepetition(max_duplicate_ngrams=(0.5, 0.5, 0.5, 0.5, 0.5, 0.5))
    assert lenient.open()(text).reason == ""
    assert GopherRepetition(max_duplicate_ngrams=()).open()(text).reason == ""
    with pytest.raises(ConfigError, match="n = 2, 3, 4"):
        GopherRepetition(max_top_ngram=(0.2, 0.2, 0.2, 0.2))
