"""Rows become candidates: what is left out says why, and a row's other fields change nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.readers.example_rows import Candidate, ExampleType, candidates_of
from pipeline.sources.card import Pair, Source
from pipeline.sources.document import Document
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile

Row = dict[str, Any]


def source(text: str = "{text}", bad_rows: Any = "error", **about: Any) -> Source:
    return Source(name="mine", location="x", sha256="x", reading=ReadingOptions(text=text, bad_rows=bad_rows), **about)


def found(
    folder: Path, about: Source, *files: list[Row], example_type: ExampleType = "classification"
) -> list[Candidate | Document]:
    """Return what rows give, each list as a file of its own: a.jsonl, b.jsonl…"""
    listed = []
    for name, rows in zip(("a.jsonl", "b.jsonl"), files, strict=False):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        listed.append(SourceFile(name=name, location=str(folder / name), format="jsonl", size=1))
    return list(candidates_of(about, listed, example_type))


def texts(candidates: list[Candidate | Document]) -> list[Any]:
    """Return texts and label of what is used, place and reason of what is not."""
    return [
        (one.texts, one.label) if isinstance(one, Candidate) else (one.place, one.reason, one.text)
        for one in candidates
    ]


def test_a_text_is_normal_and_a_label_is_what_is_written_there(tmp_path: Path) -> None:
    rows = [{"text": "cafe\u0301\r\n", "label": " a "}, {"text": "b", "label": 0}, {"text": "c", "label": False}]

    assert texts(found(tmp_path, source(), rows)) == [
        (("café\n",), "a"),
        (("b",), "0"),
        (("c",), "False"),
    ]


def test_what_a_row_lacks_is_why_it_is_left_out(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b"}, {"text": "c", "label": None}, {"text": "d", "label": "\n"}]
    rows += [{"label": "x"}, {"text": " ", "label": "x"}, {}]

    assert texts(found(tmp_path, source(), rows))[1:] == [
        ("a.jsonl:2", "no label", "b"),
        ("a.jsonl:3", "no label", "c"),
        ("a.jsonl:4", "no label", "d"),
        ("a.jsonl:5", "no text", ""),
        ("a.jsonl:6", "no text", ""),
        ("a.jsonl:7", "no text", ""),
    ]


def test_rows_that_cannot_be_used_come_in_their_place(tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "a", "label": "x"}, ["no row"], {"text": "b", "label": "x"}]

    assert texts(found(tmp_path, source(bad_rows="reject", without={"text": ("b",)}), rows)) == [
        (("a",), "x"),
        ("a.jsonl:2", "not a JSON object", '["no row"]\n'),
        ("a.jsonl:3", "left out by the card", "{'text': 'b', 'label': 'x'}"),
    ]


def test_a_field_that_another_file_has_is_not_unknown(tmp_path: Path) -> None:
    assert texts(found(tmp_path, source(), [{"text": "a"}], [{"text": "b", "label": "x"}])) == [
        ("a.jsonl:1", "no label", "a"),
        (("b",), "x"),
    ]


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({}, r"source mine: no row has the field 'label'. Did you mean 'labels'\? Set --text"),
        ({"label": "text", "text": "{txt}"}, r"source mine: no row has the field 'txt'. Did you mean 'text'"),
        ({"label": "qqq"}, r"no row has the field 'qqq'. Known: labels, text"),
    ],
)
def test_a_field_that_no_row_has_is_named(tmp_path: Path, about: Row, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        found(tmp_path, source(**about), [{"text": "a", "labels": 1}, {"text": "b"}])


def test_a_field_of_bytes_is_no_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [b"x"], "label": ["a"]}), tmp_path / "a.parquet")
    file = SourceFile(name="a.parquet", location=str(tmp_path / "a.parquet"), format="parquet", size=1)

    with pytest.raises(DataError, match=r"source mine, a\.parquet:1: the field 'text' holds bytes"):
        list(candidates_of(source(), [file], "classification"))


# --- pairs ---------------------------------------------------------------------------------------------------

PAIRS = (
    Pair(prompt="What is {name}?", reply="{what}"),
    Pair(prompt="Who is {name}?", reply="{who}", where={"kind": ("person", "3")}),
)


def pairs(folder: Path, rows: list[Row]) -> list[Candidate | Document]:
    return found(folder, source(pairs=PAIRS), rows, example_type="conversation")


def test_a_row_gives_the_pairs_whose_conditions_it_meets(tmp_path: Path) -> None:
    rows = [
        {"name": "Ada", "what": " A name.\n", "who": "A person.", "kind": "person"},
        {"name": "Oslo", "what": "A town.", "who": "nobody"},
        {"name": "Bo", "what": None, "who": "A dog.", "kind": 3},
        {"what": "x"},
    ]

    assert texts(pairs(tmp_path, rows)) == [
        (("What is Ada?", "A name."), ""),
        (("Who is Ada?", "A person."), ""),
        (("What is Oslo?", "A town."), ""),
        ("a.jsonl:3", "no reply", "What is Bo?"),
        (("Who is Bo?", "A dog."), ""),
        ("a.jsonl:4", "no prompt", ""),
    ]


def test_the_pairs_of_a_row_share_a_key_that_follows_from_them_alone(tmp_path: Path) -> None:
    row = {"name": "Ada", "what": "A name.", "who": "A person.", "kind": "person"}
    others = [{**row, "new": 1}, {**row, "kind": "3"}, {**row, "who": "Somebody."}]

    (one, two), *changed = [
        [found.key for found in pairs(tmp_path, [row]) if isinstance(found, Candidate)] for row in [row, *others]
    ]

    assert one == two and len(one) == 32
    assert changed[:2] == [[one, one]] * 2
    assert one not in changed[2] and len(set(changed[2])) == 1


def test_a_field_of_a_pair_that_no_row_is_asked_for_may_be_missing(tmp_path: Path) -> None:
    assert texts(pairs(tmp_path, [{"name": "Oslo", "what": "A town."}])) == [(("What is Oslo?", "A town."), "")]
    with pytest.raises(DataError, match="no row has the field 'who'"):
        pairs(tmp_path, [{"name": "Ada", "what": "A name.", "kind": "person"}])


def test_without_pairs_in_the_card_the_fields_are_prompt_and_reply(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "reply": "Hello"}]

    assert texts(found(tmp_path, source(), rows, example_type="conversation")) == [(("Hi", "Hello"), "")]
