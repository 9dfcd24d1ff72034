"""Runs of words are counted exactly, within documents."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.reporting.phrases import LONGEST, count_phrases


def test_phrases_are_counted_as_a_plain_count_does() -> None:
    texts = ["The red fox. The red fox ran!", "A red fox, don't run", "the red"]

    found = count_phrases(texts)

    pairs = {phrase.text: (phrase.count, phrase.documents) for phrase in found.by_length[2]}
    assert pairs == {"red fox": (3, 2), "the red": (3, 2)}
    assert {p.text: p.count for p in found.by_length[3]} == {"the red fox": 2}
    assert found.by_length[4] == ()
    assert (found.words, found.distinct) == (14, 7)


@settings(max_examples=50)
@given(texts=st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=6))
def test_every_run_that_is_there_twice_is_counted(texts: list[str]) -> None:
    """With so few different words none is so common that it says nothing."""
    found = count_phrases(texts, most=10**6)

    for length in range(1, LONGEST + 1):
        runs: Counter[str] = Counter()
        where: Counter[str] = Counter()
        for text in texts:
            words = text.split()
            mine = [" ".join(words[i : i + length]) for i in range(len(words) - length + 1)]
            runs.update(mine)
            where.update(set(mine))
        expected = {run: (count, where[run]) for run, count in runs.items() if count > 1}
        assert {p.text: (p.count, p.documents) for p in found.by_length[length]} == expected


def test_no_phrase_crosses_the_border_of_two_documents() -> None:
    found = count_phrases(["one two", "three one", "two three"] * 4)

    assert {p.text for p in found.by_length[2]} == {"one two", "three one", "two three"}
    assert found.by_length[3] == ()


def test_runs_of_the_commonest_words_alone_are_left_out() -> None:
    rare = " ".join(f"word{i} word{i}" for i in range(40))

    found = count_phrases(["of the " * 50 + "of the king " * 5 + rare])

    assert set(found.commonest) >= {"of", "the"}
    assert "of the" not in {p.text for p in found.by_length[2]}
    assert found.by_length[3][0].text in ("the king of", "of the king", "king of the")


def test_no_more_are_shown_than_asked_for_and_the_most_frequent_come_first() -> None:
    found = count_phrases(["a a a b b c c c c d d"], most=3).by_length[1]

    assert [(phrase.text, phrase.count) for phrase in found] == [("c", 4), ("a", 3), ("b", 2)]


def test_no_text_has_no_phrases() -> None:
    assert count_phrases([]).by_length == {1: (), 2: (), 3: (), 4: ()}
    assert count_phrases(["", "!?"]).words == 0
