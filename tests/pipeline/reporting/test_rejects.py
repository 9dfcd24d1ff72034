"""What was left out: counts and examples by step and reason, and clusters of duplicates."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.reporting import rejects
from pipeline.reporting.rejects import SHOWN, count_reasons, find_clusters

# --- reasons -------------------------------------------------------------------------------------------------


def test_rejects_are_counted_by_step_and_reason_with_the_first_of_each(raw: Any, tmp_path: Path) -> None:
    reasons = {(row.step, row.reason): row for row in count_reasons(raw.publish(Store(tmp_path)))}

    assert {key: row.documents for key, row in reasons.items()} == {
        ("near", "near duplicate"): 2,
        ("length", "too short"): 1,
        ("exact", "same text"): 1,
        ("quality", "few words"): 1,
    }
    assert [e.place for e in reasons["near", "near duplicate"].examples] == ["g:3", "g:4"]
    [short] = reasons["length", "too short"].examples
    assert (short.source, short.place, short.excerpt) == ("books", "g:1", "hi")


@pytest.mark.parametrize("part_bytes", [1, 10**6])
def test_examples_of_a_reason_are_few_however_many_there_are(raw: Any, tmp_path: Path, part_bytes: int) -> None:
    raw.rejects += [("books", f"h:{i}", "length", "too short", "", f"text {i}") for i in range(50)]

    first, *_ = count_reasons(raw.publish(Store(tmp_path), part_bytes))

    assert (first.step, first.documents) == ("length", 51), "the most frequent comes first"
    assert [example.place for example in first.examples] == ["g:1", "h:0", "h:1"] and SHOWN == 3


def test_what_lost_nothing_has_no_reasons_and_no_clusters(raw: Any, tmp_path: Path) -> None:
    raw.rejects = []
    artifact = raw.publish(Store(tmp_path))

    assert count_reasons(artifact) == ()
    assert find_clusters(artifact) == rejects.Clusters(clusters=0, copies=0)


# --- duplicates ----------------------------------------------------------------------------------------------


def test_clusters_name_the_kept_document_and_its_copies(raw: Any, tmp_path: Path) -> None:
    clusters = find_clusters(raw.publish(Store(tmp_path)))

    assert (clusters.clusters, clusters.copies, clusters.is_exact) == (2, 3, True)
    assert clusters.sizes == {"1 copy": 1, "2 to 3": 1}
    first = clusters.largest[0]
    assert first.kept is not None and (first.kept.place, first.kept.excerpt) == ("f.txt:0", "the red fox ran")
    assert [example.place for example in first.examples] == ["g:2", "g:3"]
    assert first.reasons == {"exact: same text": 1, "near: near duplicate": 1}


def test_a_document_that_stood_for_copies_and_was_left_out_later_is_told_so(raw: Any, tmp_path: Path) -> None:
    gone = find_clusters(raw.publish(Store(tmp_path))).largest[1]

    assert gone.kept is not None and (gone.kept.excerpt, gone.later) == ("gone", "quality: few words")


def test_a_cluster_whose_document_is_nowhere_is_shown_without_it(make_raw: Any, tmp_path: Path) -> None:
    rows = [("books", "g:1", "exact", "same text", "books nowhere:1", "a copy")]
    artifact = make_raw([("train", "books", "f:1", "another")], rows).publish(Store(tmp_path))

    [cluster] = find_clusters(artifact).largest

    assert (cluster.key, cluster.copies, cluster.kept, cluster.later) == ("books nowhere:1", 1, None, "")


@pytest.mark.parametrize("part_bytes", [1, 10**6])
def test_only_the_largest_clusters_are_looked_at_and_the_sizes_of_all_are_told(
    make_raw: Any, tmp_path: Path, part_bytes: int
) -> None:
    rows = [
        ("books", f"g:{size}.{i}", "exact", "same text", f"books f:{size}", "text")
        for size in (1, 3, 4, 12, 120)
        for i in range(size)
    ]
    artifact = make_raw([("train", "books", "f:4", "text")], rows).publish(Store(tmp_path), part_bytes)

    found = find_clusters(artifact, most=2)

    assert [(cluster.key, cluster.copies) for cluster in found.largest] == [("books f:120", 120), ("books f:12", 12)]
    assert all(len(cluster.examples) == SHOWN for cluster in found.largest)
    assert (found.clusters, found.copies) == (5, 140)
    assert found.sizes == {"1 copy": 1, "2 to 3": 1, "4 to 9": 1, "10 to 99": 1, "100 and more": 1}


def test_with_more_clusters_than_fit_in_memory_the_largest_are_still_found(
    raw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.rejects += [("books", f"k:{i}", "exact", "same text", f"books other:{i}", "t") for i in range(30)]
    monkeypatch.setattr(rejects, "_KEYS_AT_ONCE", 5)

    clusters = find_clusters(raw.publish(Store(tmp_path)))

    assert not clusters.is_exact
    assert (clusters.largest[0].key, clusters.largest[0].copies) == ("books f.txt:0", 2)
