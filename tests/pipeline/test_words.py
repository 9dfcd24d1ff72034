"""The lesson: words as tokens, by worked example."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokenization.text_encoder import TextEncoder
from pipeline.words import SPECIAL, STORY, WordVocabulary, learn_byte_pairs, split_words

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

    assert vocabulary.tokens == (",", "fox", "hen", "the", *SPECIAL)
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


def test_byte_pairs_lose_no_word() -> None:
    encoder = learn_byte_pairs(STORY)

    assert isinstance(encoder, TextEncoder)
    assert encoder.decode(encoder.encode("the wolf 🐺")) == "the wolf 🐺"


# --- the program ---------------------------------------------------------------------------------------------


def lesson(bench: Any, *arguments: str) -> list[str]:
    ended = bench("pipeline.words", *arguments)
    assert ended.code == 0, ended.err
    lines: list[str] = ended.out.splitlines()
    return [line.strip() for line in lines]


def test_the_lesson_shows_each_step(bench: Any) -> None:
    lines = lesson(bench, "--text", "the hen, the fox", "--second", "the wolf")

    assert "5 pieces: the|hen|,|the|fox" in lines
    assert "6 tokens: ','=0 'fox'=1 'hen'=2 'the'=3 '<|unk|>'=4 '<|endoftext|>'=5" in lines
    assert "3 2 0 3 1" in lines
    assert "This is the text, character for character." in lines
    assert "1 of 2 pieces are unknown: wolf" in lines
    assert "2 0 3 1 5 3 4" in lines
    assert "'hen, the fox <|endoftext|> the <|unk|>'" in lines
    assert [line[0] for line in lines if line[1:3] == ". "] == list("1234567")


def test_the_lesson_says_what_stripped_white_space_costs(bench: Any) -> None:
    stripped, kept = lesson(bench, "--text", "a  b"), lesson(bench, "--text", "a  b", "--keep-whitespace")

    assert "This is not the text: from character 2 on it is ' b' there and 'b' here." in stripped
    assert "This is the text, character for character." in kept


def test_the_vocabulary_may_come_from_another_text(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("the wolf and the hen")
    (tmp_path / "text.txt").write_text("the hen")

    lines = lesson(bench, "--file", str(tmp_path / "text.txt"), "--vocab-file", str(tmp_path / "book.txt"))

    assert "6 tokens: 'and'=0 'hen'=1 'the'=2 'wolf'=3 '<|unk|>'=4 '<|endoftext|>'=5" in lines


def test_the_byte_pairs_may_be_those_of_an_artifact(chain: Any) -> None:
    lines = lesson(chain.bench, "--text", "the fox", "--tokenizer", chain.tokenizer.reference)

    assert "320 ids: 256 bytes, 58 merges, 6 control tokens" in lines


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--file", "nowhere.txt"], 66, "nowhere.txt is no file"),
        (["--text", " \n"], 65, "the text has no words"),
        (["--text", "a", "--file", "b"], 2, "give one of them"),
        (["--tokenizer", "tokenizer:00"], 66, "names no artifact"),
    ],
)
def test_what_cannot_be_shown_is_an_error(bench: Any, arguments: list[str], code: int, sentence: str) -> None:
    ended = bench("pipeline.words", *arguments)

    assert (ended.code, sentence in ended.err) == (code, True), ended.err


def test_a_corpus_is_no_tokenizer(chain: Any) -> None:
    ended = chain.bench("pipeline.words", "--tokenizer", chain.corpus.reference)

    assert (ended.code, "is a corpus, not a tokenizer" in ended.err) == (65, True)
