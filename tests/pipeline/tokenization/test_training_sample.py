"""Taking documents up to a number of bytes."""

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.tokenization.training_sample import read_selected, read_texts, select

Rows = list[tuple[str, str]]


def key(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[16:32], 16)


@pytest.fixture
def corpus_of(tmp_path: Path, request_of: Callable[..., Any]) -> Callable[[list[Rows]], Artifact]:
    """Publish a corpus by hand: a list of parts, each a list of (text, source)."""
    import pyarrow as pa

    from pipeline.tables.arrow import write_batch

    def publish(parts: list[Rows]) -> Artifact:
        schema = pa.schema({"id": pa.string(), "text": pa.string(), "source": pa.string()})
        with Store(tmp_path / "store").draft(request_of({"parts": parts})) as draft:
            for i, rows in enumerate(parts):
                page = [
                    {"id": hashlib.sha256(text.encode()).hexdigest()[:32], "text": text, "source": source}
                    for text, source in rows
                ]
                path = draft.path / f"train-{i:05d}-of-{len(parts):05d}.arrow"
                write_batch(path, pa.RecordBatch.from_pylist(page, schema=schema))
        return draft.artifact

    return publish


def texts_of(corpus: Artifact, budget: int | None) -> list[str]:
    return [text for batch in read_texts(corpus, "train", select(corpus, "train", budget)) for text in batch]


ROWS: Rows = [(f"document {i} " + "x" * (i % 37), f"source {i % 3}") for i in range(600)]


def test_without_a_budget_every_document_is_taken_in_the_order_of_the_corpus(corpus_of: Any) -> None:
    corpus = corpus_of([ROWS[:400], ROWS[400:]])

    assert texts_of(corpus, None) == [text for text, _ in ROWS]


@pytest.mark.parametrize("budget", [1, 50, 1000, 7777, 15000])
def test_the_first_documents_by_the_second_half_of_their_id_are_taken(corpus_of: Any, budget: int) -> None:
    corpus = corpus_of([ROWS[:100], ROWS[100:]])
    expected: set[str] = set()
    size = 0
    for text in sorted((text for text, _ in ROWS), key=key):
        if expected and size + len(text) > budget:
            break
        expected.add(text)
        size += len(text)

    taken = select(corpus, "train", budget)

    assert set(texts_of(corpus, budget)) == expected
    assert (taken.documents, taken.bytes) == (len(expected), size)
    assert (taken.of_documents, taken.of_bytes) == (600, sum(len(text) for text, _ in ROWS))


@pytest.mark.parametrize("cuts", [[], [1], [300], [7, 7, 8, 599], [100, 200, 300, 400, 500], [600]])
@pytest.mark.parametrize("budget", [1, 3000, 12_345])
def test_where_the_parts_are_cut_changes_nothing(corpus_of: Any, cuts: list[int], budget: int) -> None:
    parts = [ROWS[a:b] for a, b in pairwise([0, *cuts, 600])]

    assert texts_of(corpus_of(parts), budget) == texts_of(corpus_of([ROWS]), budget)


def test_every_source_gives_its_share(corpus_of: Any) -> None:
    corpus = corpus_of([ROWS[i : i + 50] for i in range(0, 600, 50)])
    taken = select(corpus, "train", sum(len(text) for text, _ in ROWS) // 2)

    found = Counter(
        name for batch in read_selected(corpus, "train", taken) for name in batch.column("source").to_pylist()
    )

    assert all(70 <= found[f"source {i}"] <= 130 for i in range(3)), found


def test_bytes_are_counted_not_characters(corpus_of: Any) -> None:
    corpus = corpus_of([[("é" * 10, "s"), ("🦊" * 10, "s")]])

    assert select(corpus, "train", None).bytes == 60
    assert select(corpus, "train", 59).documents == 1


def test_a_first_document_over_the_budget_is_taken_alone(corpus_of: Any) -> None:
    assert len(texts_of(corpus_of([ROWS]), 1)) == 1


def test_a_split_that_is_not_there_has_nothing(corpus_of: Any) -> None:
    found = select(corpus_of([ROWS[:3]]), "validation", 100)

    assert (found.documents, found.of_documents) == (0, 0)
