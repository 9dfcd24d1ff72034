"""Decontamination: documents that hold the text of named evaluation files are rejected."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts.store import Store
from pipeline.cleaning.decontamination import Decontaminate, Index, words_of
from pipeline.errors import CairnError, ConfigError, DataError, IntegrityError, MissingError

QUESTION = "Which of the seven old men in the grey house by the river was the first to see the ship come in?"
HELD = "holds evaluation text"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [
        {"question": QUESTION, "answer": "the second one, who had a telescope", "id": 7},
        {"question": "Who?", "choices": {"text": ["a very tall ship without any sails", "a boat"]}},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def reason(path: Path, document: str, **settings: object) -> str:
    outcome = Decontaminate(files=(str(path),), **settings).open()(document)  # type: ignore[arg-type]
    assert outcome.text is document
    return outcome.reason


def test_thirteen_words_in_a_row_are_held_and_twelve_are_not(questions: Path) -> None:
    words = QUESTION.split()
    for start in range(len(words) - 12):
        assert reason(questions, "so " + " ".join(words[start : start + 13]) + " yes") == HELD
        assert reason(questions, "so " + " ".join(words[start : start + 12]) + " yes") == ""


def test_case_punctuation_and_line_ends_make_no_difference(questions: Path) -> None:
    text = QUESTION.upper().replace(" ", ",\n").replace("?", " – ")
    assert reason(questions, f"({text})") == HELD


def test_a_short_item_is_held_only_as_a_whole(questions: Path) -> None:
    assert reason(questions, "It was the second one who had a telescope.") == HELD
    assert reason(questions, "It was the second one who had a microscope.") == ""
    assert reason(questions, "Behold: a very tall ship, without any sails!") == HELD
    assert reason(questions, "Who? A boat.") == ""


def test_the_shortest_items_are_a_setting(questions: Path) -> None:
    assert reason(questions, "I saw a boat today", min_words=2) == HELD
    assert reason(questions, "It was the second one, who had a telescope.", min_words=8) == ""


def test_a_template_makes_one_item_of_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("ask,reply\nwhat is it then,it is a very red fox indeed\n", encoding="utf-8")
    text = "then it is a very red fox"
    assert reason(path, text, n=7) == ""
    assert reason(path, text, n=7, text="{ask} {reply}") == HELD


def test_text_files_are_read_by_paragraph_or_by_line(tmp_path: Path) -> None:
    path = tmp_path / "items.txt"
    path.write_text(
        "one two three four five six\nseven eight nine ten eleven twelve thirteen\n\nother", encoding="utf-8"
    )
    across, line = "five six seven eight nine ten eleven twelve thirteen", "one two three four five six"
    assert reason(path, across, n=8) == HELD
    assert reason(path, across, n=8, items="lines") == HELD  # the whole second line is in it
    assert reason(path, "four five six seven eight nine ten eleven twelve", n=8, items="lines") == ""
    assert reason(path, line, n=13) == ""
    assert reason(path, line, n=13, items="lines") == HELD


def test_parquet_files_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": [QUESTION]}), path)
    assert reason(path, f"They asked: {QUESTION}") == HELD


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=9), max_size=5), st.lists(st.sampled_from("abcde"), max_size=30)
)
def test_what_is_held_is_what_a_search_for_every_n_gram_finds(items: list[list[str]], words: list[str]) -> None:
    n, least = 5, 3
    index = Index(n, least)
    for item in items:
        index.add(" ".join(item))
    index.close()
    wanted = {
        tuple(item[i : i + min(n, len(item))])
        for item in items
        if len(item) >= least
        for i in range(len(item) - min(n, len(item)) + 1)
    }
    found = any(tuple(words[i : i + k]) in wanted for k in range(least, n + 1) for i in range(len(words) - k + 1))
    assert index.is_in(" ".join(words)) == found


def test_a_planted_n_gram_is_found_in_a_long_text_and_nothing_else() -> None:
    dice = random.Random(5)
    vocabulary = [f"w{i}" for i in range(200)]
    items = [" ".join(dice.choices(vocabulary, k=40)) for _ in range(50)]
    index = Index(13, 6)
    for item in items:
        index.add(item)
    index.close()
    text = dice.choices(vocabulary, k=20_000)
    assert not index.is_in(" ".join(text))
    text[7_000:7_013] = words_of(items[30])[20:33]
    assert index.is_in(" ".join(text))


def test_resolving_pins_every_file_and_a_change_is_refused(questions: Path, tmp_path: Path) -> None:
    step = Decontaminate(files=(str(questions),)).resolve(Store(tmp_path / "store"))
    path, _, digest = step.files[0].rpartition("#")
    assert path == str(questions)
    assert len(digest) == 64
    assert step.resolve(Store(tmp_path / "store")) == step
    assert step.open()(QUESTION).reason == HELD
    questions.write_text(questions.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match=f"{questions} has sha256 .* it changed") as caught:
        step.open()
    assert caught.value.exit_code == 71


def test_a_relative_path_becomes_absolute(questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(questions.parent)
    step = Decontaminate(files=("questions.jsonl",))
    assert step.resolve(Store(tmp_path / "store")).files[0].startswith(f"{questions}#")


@pytest.mark.parametrize(
    ("name", "kind"), [("absent.txt", MissingError), (".", MissingError), ("picture.png", DataError)]
)
def test_files_that_cannot_be_read_are_refused(name: str, kind: type[CairnError], tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(kind, match=str(tmp_path)):
        Decontaminate(files=(str(tmp_path / name),)).resolve(Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files": ()}, "say against what"),
        ({"min_words": 1}, "min_words=1"),
        ({"min_words": 14}, "min_words=14"),
        ({"text": "{question"}, "belongs to no"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(Decontaminate(files=("a.txt",)), **settings)  # type: ignore[arg-type]


def test_files_without_items_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("\n\n", encoding="utf-8")
    assert reason(path, QUESTION) == ""
