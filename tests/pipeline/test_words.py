"""The lesson: words as tokens, by worked example."""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.words import SPECIAL, WordsCommand, WordVocabulary, run, split_words

Lesson: TypeAlias = Callable[..., list[str]]

TEXT = "The fox (old) ran -- away. The end!\n"


def test_words_and_signs_are_split_and_white_space_is_stripped() -> None:
    found = split_words(TEXT, keep_whitespace=False)

    assert found == ["The", "fox", "(", "old", ")", "ran", "--", "away", ".", "The", "end", "!"]


def test_kept_white_space_is_a_token_for_each_character() -> None:
    assert split_words("a  b\n", keep_whitespace=True) == ["a", " ", " ", "b", "\n"]


@given(text=st.text())
def test_with_white_space_kept_the_pieces_are_the_text(text: str) -> None:
    assert "".join(split_words(text, keep_whitespace=True)) == text


def test_the_vocabulary_is_alphabetical_and_ends_with_the_special_tokens() -> None:
    vocabulary = WordVocabulary.of("the hen, the fox", keep_whitespace=False)

    assert tuple(vocabulary.ids) == (",", "fox", "hen", "the", *SPECIAL)
    assert vocabulary.encode("the fox") == [3, 1]


def test_an_unknown_word_becomes_the_one_unknown_id_and_is_lost() -> None:
    vocabulary = WordVocabulary.of("the hen, the fox", keep_whitespace=False)

    ids = vocabulary.encode("the wolf, the bear")

    assert ids == [3, 4, 0, 3, 4]
    assert vocabulary.decode(ids) == "the <|unk|>, the <|unk|>"


def test_without_white_space_decoding_guesses_where_it_stood() -> None:
    vocabulary = WordVocabulary.of(TEXT, keep_whitespace=False)

    assert vocabulary.decode(vocabulary.encode(TEXT)) == "The fox (old) ran -- away. The end!"  # the line end is lost


@given(text=st.text())
def test_with_white_space_kept_a_text_in_the_vocabulary_comes_back(text: str) -> None:
    vocabulary = WordVocabulary.of(text, keep_whitespace=True)

    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_texts_are_joined_by_the_end_of_text() -> None:
    vocabulary = WordVocabulary.of("one two", keep_whitespace=False)

    assert vocabulary.encode("one <|endoftext|> two") == [0, 3, 1]
    assert vocabulary.decode([0, 3, 1]) == "one <|endoftext|> two"


# --- the program ---------------------------------------------------------------------------------------------


@pytest.fixture
def lesson(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return the lines that the lesson prints: lesson(text="the hen")."""

    def lesson(**settings: Any) -> list[str]:
        assert run(WordsCommand(**settings)) == 0
        return [line.strip() for line in capsys.readouterr().out.splitlines()]

    return lesson


def test_the_lesson_shows_each_step_with_words(lesson: Lesson) -> None:
    lines = lesson(text="the hen, the fox", second="the wolf")

    assert "5 tokens: the|hen|,|the|fox" in lines
    assert "6 ids: ','=0 'fox'=1 'hen'=2 'the'=3 '<|unk|>'=4 '<|endoftext|>'=5" in lines
    assert "3 2 0 3 1" in lines
    assert "This is the text, character for character." in lines
    assert "'the <|unk|>'" in lines and "1 of 2 are lost: wolf" in lines
    assert [line[0] for line in lines if line[1:3] == ". "] == list("12345678")


def test_the_lesson_goes_on_with_byte_pairs_to_windows_and_vectors(lesson: Lesson) -> None:
    lines = lesson(text="aa aa aa", second="the wolf 🐺")

    # bytes are numbered as GPT-2 numbers them; " a" is seen twice, "aa" three times, and then " aa"
    assert "258 ids: 256 bytes and 2 merges of two tokens, learned from the first text" in lines
    assert "3 tokens: aa| aa| aa" in lines
    assert "256 257 257, and back: the text" in lines
    assert sum("and back: the text" in line for line in lines) == 2, "the second text is lost"
    assert "inputs 256 257 257 258  targets 257 257 258 83" in lines
    assert "259 rows of 3 numbers, at first by chance; id i is row i" in lines
    vectors = [line for line in lines if re.fullmatch(r"\d+:( [+-]\d\.\d\d){3}", line)]
    assert [line.partition(":")[0] for line in vectors] == ["256", "257", "257", "258"]
    assert vectors[1] == vectors[2], "an id has one row"


def test_the_lesson_says_what_stripped_white_space_costs(lesson: Lesson) -> None:
    stripped, kept = lesson(text="a  b"), lesson(text="a  b", keep_whitespace=True)

    assert "This is not the text, character for character." in stripped
    assert "This is the text, character for character." in kept


def test_a_text_of_one_word_is_a_lesson_too(lesson: Lesson) -> None:
    assert "1 tokens: a" in lesson(text="a", second="")


def test_the_command_prints_it_and_a_text_without_words_is_an_error(program: Callable[..., Any]) -> None:
    ended = program("-m", "pipeline.words", "--text", "the hen", "--keep-whitespace")
    assert ended.code == 0 and "3 tokens: the| |hen" in ended.out, ended.err

    ended = program("-m", "pipeline.words", "--text", " \n")
    assert (ended.code, "the text has no words" in ended.err) == (65, True)
