"""Near duplicates are found across parts, those that only share words are not, and nothing depends on who does it."""

import itertools
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cleaning import buckets, near_duplicates
from pipeline.cleaning.near_duplicates import NearDuplicates, first_connected, hash_bands
from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers

STEP = NearDuplicates()


def story(seed: int, words: int = 300, vocabulary: int = 400) -> str:
    """Return paragraphs of words of which few are frequent and many rare, as in a language."""
    draw = random.Random(seed)
    chosen = [f"w{int(vocabulary ** draw.random())}" for _ in range(words)]
    return "\n\n".join(" ".join(chosen[i : i + 60]) for i in range(0, words, 60))


def edited(text: str, share: float, seed: int) -> str:
    draw, words = random.Random(seed), text.split(" ")
    for i in draw.sample(range(len(words)), round(share * len(words))):
        words[i] = f"new{draw.randrange(10**6)}"
    return " ".join(words)


# --- by hand -------------------------------------------------------------------------------------------------


def test_the_first_of_a_cluster_is_kept_and_the_others_name_it(trial: Callable[..., Any]) -> None:
    one, two = story(1), story(2)

    cleaned = trial([two, one], [edited(one, 0.02, 3), story(4)], [edited(two, 0.01, 5), two.upper()]).run(STEP)

    assert cleaned.texts == [two, one, story(4)]
    assert cleaned.same == {"2": "1", "4": "0", "5": "0"}
    assert {(row["step"], row["reason"], row["excerpt"]) for row in cleaned.rejects} >= {
        ("near_duplicates", "near duplicate", two.upper()[:200])
    }
    assert cleaned.counts["rejected"] == {"near duplicate": 3} and cleaned.counts["counts"] == {"clusters": 2}
    assert cleaned.counts["changed"] == 0


def test_of_a_chain_of_likes_only_the_first_stays(trial: Callable[..., Any]) -> None:
    chain = [story(1, words=1000)]
    for i in range(4):
        chain.append(edited(chain[-1], 0.02, i))

    cleaned = trial(chain[:2], chain[2:]).run(STEP)

    assert cleaned.texts == chain[:1] and set(cleaned.same.values()) == {"0"}
    assert trial([chain[0], chain[4]]).run(STEP).texts == [chain[0], chain[4]], "the ends alone are not alike"


def near_pairs() -> list[tuple[str, str]]:
    texts = [story(seed) for seed in range(60)]
    moved = ["\n\n".join(random.Random(i).sample(t.split("\n\n"), 5)) for i, t in enumerate(texts[:20])]
    changed = [edited(text, 0.02, i) for i, text in enumerate(texts[20:40])]
    cut = [text.rpartition(" ")[0].upper() + "!" for text in texts[40:]]
    return list(zip(texts, moved + changed + cut, strict=True))


def far_pairs() -> list[tuple[str, str]]:
    start, quotation = story(9001, words=100), story(9002, words=60)
    shuffled = [
        (text, " ".join(random.Random(i).sample(text.split(), 300)))
        for i, text in enumerate(map(story, range(100, 120)))
    ]
    same_start = [(start + "\n\n" + story(200 + i), start + "\n\n" + story(300 + i)) for i in range(20)]
    same_quotation = [(story(400 + i) + " " + quotation, quotation + "\n\n" + story(500 + i)) for i in range(20)]
    return shuffled + same_start + same_quotation


def test_edits_moves_and_cuts_are_found_and_shared_words_starts_and_quotations_are_not(
    trial: Callable[..., Any],
) -> None:
    near, far = near_pairs(), far_pairs()
    firsts, seconds = [a for a, _ in near + far], [b for _, b in near + far]

    cleaned = trial(firsts[:50], firsts[50:], seconds).run(STEP)

    assert cleaned.same == {str(len(firsts) + i): str(i) for i in range(len(near))}


def test_texts_without_words_are_like_nothing(trial: Callable[..., Any]) -> None:
    assert trial(["", "***", "---"], ["", "?"]).run(STEP).texts == ["", "***", "---", "", "?"]


def test_no_documents_are_no_trouble(trial: Callable[..., Any]) -> None:
    assert trial().run(STEP) == trial().seen([])
    assert trial([], []).run(STEP).texts == []


def test_a_key_in_common_alone_joins_nothing(trial: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "hash_bands", lambda s, bands: np.zeros((len(s), bands), dtype=np.uint64))
    texts = [story(seed) for seed in range(5)]

    cleaned = trial(texts, [edited(texts[3], 0.02, 1), story(9)]).run(STEP)

    assert cleaned.texts == [*texts, story(9)] and cleaned.same == {"5": "3"}


def test_documents_with_a_key_in_common_beyond_the_leaders_looked_at_are_left_alone(
    trial: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "hash_bands", lambda s, bands: np.zeros((len(s), bands), dtype=np.uint64))
    monkeypatch.setattr(near_duplicates, "_MOST_LEADERS", 2)
    texts = [story(seed) for seed in range(4)]

    cleaned = trial(texts, [edited(text, 0.02, 1) for text in texts]).run(STEP)

    assert cleaned.same == {"4": "0", "5": "1"}


@pytest.mark.parametrize(
    "settings_of", [{"threshold": 0.0}, {"threshold": 1.1}, {"words": 0}, {"bands": 0}, {"rows": 0}, {"seed": -1}]
)
def test_settings_that_make_no_sense_are_refused(settings_of: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="near_duplicates: .* got"):
        NearDuplicates(**settings_of)


def test_the_chance_to_be_compared_is_as_documented() -> None:
    chances = [round(1 - (1 - s**STEP.rows) ** STEP.bands, 3) for s in (0.3, 0.5, 0.6, 0.7, 0.75, 0.8)]
    assert chances == [0.014, 0.27, 0.615, 0.918, 0.98, 0.998]


def test_bands_have_equal_keys_where_all_their_values_are_equal() -> None:
    signatures = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [3, 4, 1, 2]], dtype=np.uint32)
    keys = hash_bands(signatures, 2)
    assert hash_bands(np.arange(4, dtype=np.uint32)[None], 2).tolist() == [
        [13928490197745479305, 18137923573262921337]
    ], "other keys than were published"
    assert (keys[0] == keys[1]).tolist() == [True, False] and len(np.unique(keys)) == 5


@given(count=st.integers(1, 30), pairs=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_connected_nodes_are_found(count: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a % count, b % count) for a, b in pairs]
    plain = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            plain[a] = plain[b] = min(plain[a], plain[b])

    assert first_connected(count, np.array(pairs, dtype=np.int64).reshape(-1, 2)).tolist() == plain


# --- whoever does it, and however often it is stopped --------------------------------------------------------

SHORT = [story(seed, words=40) for seed in range(3)]
PARTS = [[SHORT[0], SHORT[1]], [SHORT[0].upper(), "?", SHORT[2]], [SHORT[1] + " end", SHORT[2], SHORT[0]]]
FEW = NearDuplicates(bands=4, rows=3)


@given(cuts=st.lists(st.integers(0, 8), max_size=3), rows_per_bucket=st.sampled_from([1, 5, 1000]))
@settings(max_examples=20)
def test_any_cut_into_parts_and_buckets_leaves_the_same(
    cuts: list[int], rows_per_bucket: int, trial_in: Callable[..., Any]
) -> None:
    texts = [text for part in PARTS for text in part]
    ends = [0, *sorted(cuts), len(texts)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "ROWS_PER_BUCKET", rows_per_bucket)

        cleaned = trial_in(Path(folder), [texts[a:z] for a, z in itertools.pairwise(ends)]).run(FEW)

    assert cleaned.same == {"2": "0", "5": "1", "6": "4", "7": "0"} and cleaned.counts["counts"] == {"clusters": 3}


@pytest.mark.usefixtures("small_buckets")
def test_the_bytes_are_the_same_after_an_interruption_anywhere(interrupted: Callable[..., Any]) -> None:
    runs = interrupted(FEW, PARTS)
    whole = next(runs)
    again = list(runs)
    assert len(again) >= 15 and all(cleaned == whole for cleaned in again) and whole.counts["rejected"]


@pytest.mark.usefixtures("small_buckets")
def test_two_workers_give_the_same_bytes_as_one(trial: Callable[..., Any]) -> None:
    assert trial(*PARTS).run(FEW, Workers(workers=2)) == trial(*PARTS).run(FEW)


@pytest.mark.usefixtures("small_buckets")
def test_three_tasks_of_a_job_array_give_the_same_bytes_as_one(trial: Callable[..., Any]) -> None:
    shared, found = trial(*PARTS), {}

    def take_part(index: int) -> None:
        found[index] = shared.run(FEW, Workers(workers=1, task_index=index, num_tasks=3))

    threads = [threading.Thread(target=take_part, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == dict.fromkeys(range(3), trial(*PARTS).run(FEW))
