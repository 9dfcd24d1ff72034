"""Bytes become rows and documents."""

import json
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.errors import ConfigError, DataError, UnavailableError
from pipeline.readers import documents
from pipeline.readers.documents import documents_of, may_be_cut, rows_of
from pipeline.sources.card import LEFT_OUT, Source
from pipeline.sources.document import TOO_LONG, Document
from pipeline.sources.formats import FORMATS, TEXTS
from pipeline.sources.reading_options import Format, ReadingOptions
from pipeline.sources.streams import SourceFile


def file_of(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(name=path.name, location=str(path), format=FORMATS[path.suffix], size=path.stat().st_size)


def source(*, without: Any = None, exclude: tuple[str, ...] = (), **reading: Any) -> Source:
    options = ReadingOptions(**reading)
    return Source(name="test", location="x", sha256="x", reading=options, without=without or {}, exclude=exclude)


# --- rows ----------------------------------------------------------------------------------------------------


def test_rows_with_an_unwanted_value_are_left_out_for_that_reason(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"topic": "a"}\n{"topic": "b"}\n{"topic": 3}\n{}\n')

    about = source(without={"topic": ("b", "3")}, text="text")
    found = [document.reason for document in documents_of(about, file, block_bytes=99)]

    assert found == ["", LEFT_OUT, LEFT_OUT, ""]


def test_plain_text_has_no_rows(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "text")

    with pytest.raises(ConfigError, match="is txt, which has no rows"):
        list(rows_of(source(), file))
    with pytest.raises(ConfigError, match="use file, blocks, paragraphs"):
        list(documents_of(source(documents="rows"), file, block_bytes=9))


# --- documents -----------------------------------------------------------------------------------------------


def places(about: Source, file: SourceFile, block_bytes: int = 4096) -> dict[str, str]:
    return {document.place: document.text for document in documents_of(about, file, block_bytes=block_bytes)}


def test_a_file_is_one_document_without_the_newlines_around_it(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "\n\n  one\r\n\r\ntwo \n\n")

    assert places(source(), file) == {"a.txt": "  one\n\ntwo "}


def test_documents_are_parted_by_their_separator(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "one\n***\ntwo\n***\n")

    found = places(source(documents="separator", separator="\n***\n"), file)

    assert found == {"a.txt#1": "one", "a.txt#2": "two", "a.txt#3": ""}


@pytest.mark.parametrize(
    ("documents", "name", "is_cut"),
    [
        ("auto", "a.txt", False),
        ("blocks", "a.txt", True),
        ("file", "a.txt", False),
        ("auto", "a.jsonl", False),
        ("blocks", "a.jsonl", True),
        ("rows", "a.jsonl", False),
    ],
)
def test_only_a_source_of_blocks_is_cut_into_blocks(tmp_path: Path, documents: Any, name: str, is_cut: bool) -> None:
    text = "one\n\ntwo\n\nthree"
    file = file_of(tmp_path / name, text if name.endswith(".txt") else json.dumps({"text": text}))

    found = places(source(documents=documents), file, block_bytes=4)

    assert len(found) == (3 if is_cut else 1)


def found(about: Source, file: SourceFile) -> list[tuple[str, str, str]]:
    return [(d.place, d.text, d.reason) for d in documents_of(about, file, block_bytes=4096)]


def test_paragraphs_lie_between_blank_lines(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "\n\none\nmore of it\r\n\r\n \t\n\ntwo\n\n\n")

    assert places(source(documents="paragraphs"), file) == {"a.txt#1": "one\nmore of it", "a.txt#2": "two"}


def test_a_section_starts_at_each_matching_line_and_what_is_before_the_first_is_one_too(tmp_path: Path) -> None:
    text = "By nobody\n\nCHAPTER I\nIt rained.\nIn CHAPTER II it did not.\nCHAPTER II\n\nSun.\n"
    about = source(documents="sections", split_at=r"CHAPTER [IVX]+")

    assert places(about, file_of(tmp_path / "a.txt", text)) == {
        "a.txt#1": "By nobody",
        "a.txt#2": "CHAPTER I\nIt rained.\nIn CHAPTER II it did not.",
        "a.txt#3": "CHAPTER II\n\nSun.",
    }
    assert places(about, file_of(tmp_path / "b.txt", "\n\nCHAPTER I\nRain.")) == {"b.txt#1": "CHAPTER I\nRain."}
    assert places(about, file_of(tmp_path / "c.txt", "No chapter.")) == {"c.txt#1": "No chapter."}


@pytest.mark.parametrize("way", ["file", "blocks", "paragraphs", "sections", "separator"])
def test_an_empty_file_is_one_empty_document(tmp_path: Path, way: Any) -> None:
    about = source(documents=way, **{"sections": {"split_at": "x"}, "separator": {"separator": "x"}}.get(way, {}))

    assert found(about, file_of(tmp_path / "a.txt", "")) in ([("a.txt", "", "")], [("a.txt#1", "", "")])


# --- too long ------------------------------------------------------------------------------------------------


def test_a_line_that_is_too_long_is_left_out_and_those_around_it_are_read(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text}) for text in ("one", "x" * 5000, "two")]
    about = source(max_document_bytes=1000)

    assert found(about, file_of(tmp_path / "a.jsonl", "\n".join(rows))) == [
        ("a.jsonl:1", "one", ""),
        ("a.jsonl:2", "", TOO_LONG),
        ("a.jsonl:3", "two", ""),
    ]
    table = "text,n\none,1\n" + "x" * 5000 + ",2\ntwo,3\n"
    assert found(about, file_of(tmp_path / "a.csv", table)) == [
        ("a.csv:2", "one", ""),
        ("a.csv:3", "", TOO_LONG),
        ("a.csv:4", "two", ""),
    ]


def test_a_row_that_becomes_too_long_a_text_is_left_out(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["one", "é" * 501, "é" * 500]}), tmp_path / "a.parquet")
    file = file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())

    assert [reason for _, _, reason in found(source(max_document_bytes=1000), file)] == ["", TOO_LONG, ""]


def test_a_file_that_is_too_long_for_one_document_is_cut_unless_it_must_be_one(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "Ten bytes.\n\n" * 1000)

    assert len(places(source(max_document_bytes=1000), file)) > 2
    with pytest.raises(DataError, match=r"a\.txt as one document is longer than max_document_bytes \(1000\)"):
        places(source(documents="file", max_document_bytes=1000), file)
    [one] = documents_of(source(documents="file", bad_rows="reject", max_document_bytes=1000), file, block_bytes=9)
    assert one.reason == TOO_LONG


@pytest.mark.parametrize("way", ["paragraphs", "sections", "separator"])
def test_a_span_that_is_too_long_is_left_out_and_those_around_it_are_read(tmp_path: Path, way: Any) -> None:
    ways: dict[str, Any] = {"paragraphs": {}, "sections": {"split_at": "#"}, "separator": {"separator": "\n\n"}}
    file = file_of(tmp_path / "a.txt", "#one\n\n#" + "x" * 2000 + "\n\n#two")
    about = source(documents=way, max_document_bytes=1000, **ways[way])

    assert [(text, reason) for _, text, reason in found(about, file)] == [("#one", ""), ("", TOO_LONG), ("#two", "")]


# --- bad rows ------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, bytes, list[tuple[str, str]]]] = {
    "jsonl": (
        "a.jsonl",
        b'{"text": "a"}\n{"text": \n["text"]\n{"text": "\xff"}\n{"text": "a", "text": "b"}\n{"text": NaN}\n'
        b'{"text": "\\ud800"}\n{"title": "x"}\n{"text": "b"}\n',
        [
            ("a.jsonl:1", ""),
            ("a.jsonl:2", "not JSON"),
            ("a.jsonl:3", "not a JSON object"),
            ("a.jsonl:4", "bad UTF-8"),
            ("a.jsonl:5", "not JSON"),
            ("a.jsonl:6", "not JSON"),
            ("a.jsonl:7", "not JSON"),
            ("a.jsonl:8", "no such field"),
            ("a.jsonl:9", ""),
        ],
    ),
    "json": (
        "a.json",
        b'[{"text": "a"}, 3, {"text": "a", "text": "b"}, {"text": -Infinity}, {"text": "\\ud800"}, {"text": "b"}]',
        [
            ("a.json:1", ""),
            ("a.json:2", "not a JSON object"),
            ("a.json:3", "not JSON"),
            ("a.json:4", "not JSON"),
            ("a.json:5", "not JSON"),
            ("a.json:6", ""),
        ],
    ),
    "csv": (
        "a.csv",
        b'text,n\na,1\nb\nc,d,e\n\xff,2\n"f" g,3\nh,4\n',
        [
            ("a.csv:2", ""),
            ("a.csv:3", "another number of fields"),
            ("a.csv:4", "another number of fields"),
            ("a.csv:5", "bad UTF-8"),
            ("a.csv:6", "not csv"),
            ("a.csv:7", ""),
        ],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_left_out_for_a_reason_when_that_is_asked_for(tmp_path: Path, case: str) -> None:
    name, data, expected = BAD[case]
    file = file_of(tmp_path / name, data)

    assert sorted((place, reason) for place, _, reason in found(source(bad_rows="reject"), file)) == expected
    with pytest.raises(DataError):
        found(source(), file)


def test_among_the_rows_those_that_are_left_out_are_documents_with_a_reason(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"text": "a"}\nnothing\n{"text": "b"}\n')

    assert list(rows_of(source(bad_rows="reject"), file)) == [
        ("a.jsonl:1", {"text": "a"}),
        Document("nothing\n", "a.jsonl:2", "not JSON"),
        ("a.jsonl:3", {"text": "b"}),
    ]


# --- HTML ----------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><html><head><title>Foxes</title><style>p {color: red}</style></head><body>
<nav><a href="/">Home</a> <a href="/more">More</a></nav><article><h1>Of foxes</h1>
<p>The fox is a small animal that lives in woods, in fields and at the edge of towns.</p>
<p>It eats mice &amp; berries, sleeps in a den, and is “clever” in every fable.</p></article>
<script>track()</script><footer>Imprint</footer></body></html>"""


def test_of_a_page_its_text_is_read(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    [document] = documents_of(source(), file_of(tmp_path / "a.html", PAGE), block_bytes=4096)

    assert "lives in woods" in document.text and "mice & berries" in document.text
    assert not any(word in document.text for word in ("track", "color", "Imprint", "Home"))
    assert found(source(), file_of(tmp_path / "b.htm", " ")) == [("b.htm", "", "")]


def test_without_the_package_for_pages_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)

    with pytest.raises(UnavailableError, match=r'pip install "cairn-lm\[html\]"'):
        found(source(), file_of(tmp_path / "a.html", PAGE))


# --- few documents -------------------------------------------------------------------------------------------


def test_where_the_choice_is_left_texts_may_be_cut_and_rows_never(tmp_path: Path) -> None:
    text = "one\n\ntwo\n\nthree"
    files = [file_of(tmp_path / "a.txt", text), file_of(tmp_path / "a.jsonl", json.dumps({"text": text}))]

    cut = [[d.text for d in documents_of(source(), file, block_bytes=4, cut_texts=True)] for file in files]

    assert cut == [["one", "two", "three"], [text]]
    assert [may_be_cut(source(), file) for file in files] == [True, False]
    assert not may_be_cut(source(documents="file"), files[0])


def test_every_format_that_a_card_may_name_has_a_suffix_and_a_reader() -> None:
    named = set(get_args(Format)) - {""}

    assert named == set(FORMATS.values())
    assert named == {*TEXTS, *documents._TEXT_READERS, "parquet", "arrow"}
