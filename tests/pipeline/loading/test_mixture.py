"""A mixture gives every source its share to the sample, the same for everybody, from any position on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.loading.mixture import MAX_PATTERN, Mixture, whole_shares
from pipeline.loading.order import share_of

some_counts = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(tuple)


def sources_of(samples: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    return np.searchsorted(np.cumsum(sizes), samples, side="right")


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([0.7, 0.3], (7, 3)),
        ([7, 3], (7, 3)),
        ([1, 1, 1], (1, 1, 1)),
        ([0.1, 0.2, 0.7], (1, 2, 7)),
        ([5.0], (1,)),
        ([0.123, 0.877], (123, 877)),
        ([1e-4, 1], (1, 10_000)),
    ],
)
def test_weights_become_the_smallest_whole_numbers_in_their_proportion(
    weights: list[float], counts: tuple[int, ...]
) -> None:
    assert whole_shares(weights) == counts


@given(st.lists(st.floats(0.01, 1000), min_size=2, max_size=8))
def test_weights_without_a_common_measure_are_less_than_a_sample_off(weights: list[float]) -> None:
    counts = whole_shares(weights)

    pattern = sum(counts)
    assert pattern <= MAX_PATTERN
    assert all(abs(n - pattern * w / sum(weights)) < 1 + 1e-6 for n, w in zip(counts, weights, strict=True))


@pytest.mark.parametrize("weights", [[0.5, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_a_weight_that_is_no_share_is_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="weights must be positive numbers, got 1|0.5"):
        whole_shares(weights)


def test_a_weight_below_one_sample_in_a_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match="the weight 1e-09 is too small: it is less than one sample in 65,536"):
        whole_shares([1, 1e-9])


@given(counts=some_counts, seed=st.integers(0, 5), start=st.integers(0, 30))
def test_every_pattern_holds_exactly_the_samples_that_are_due(counts: tuple[int, ...], seed: int, start: int) -> None:
    sizes = tuple(11 * n + 5 for n in counts)
    length = sum(counts)

    for number in range(start, start + 3):
        sources = sources_of(Mixture(sizes, counts, seed).at(number * length, length), sizes)
        assert np.bincount(sources, minlength=len(counts)).tolist() == list(counts)


@given(counts=some_counts)
def test_no_source_is_ever_a_sample_per_source_ahead_or_behind(counts: tuple[int, ...]) -> None:
    sources, _ = Mixture((1,) * len(counts), counts, 0).draws(0, 2 * sum(counts))
    n = np.arange(1, len(sources) + 1)
    for source, count in enumerate(counts):
        ahead = np.cumsum(sources == source) - n * count / sum(counts)
        assert abs(ahead).max() < len(counts)


def test_a_thousand_samples_at_seven_to_three_are_seven_hundred_and_three_hundred() -> None:
    sizes = (5000, 77)

    sources = sources_of(Mixture(sizes, whole_shares([0.7, 0.3]), 4).at(0, 1000), sizes)

    assert np.bincount(sources).tolist() == [700, 300]


def test_the_epochs_of_each_source_are_whole_permutations_in_turn() -> None:
    sizes, counts = (13, 50, 7), (2, 3, 4)
    samples = Mixture(sizes, counts, 9).at(0, 9 * 700)
    firsts = np.cumsum([0, *sizes])

    for source, size in enumerate(sizes):
        own = samples[sources_of(samples, sizes) == source] - firsts[source]
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert len(epochs) > 20
        assert np.sort(epochs).tolist() == [list(range(size))] * len(epochs)
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > 0.9 * len(epochs), "orders do not repeat"


@given(start=st.integers(0, 20_000), cuts=st.lists(st.integers(0, 5000), max_size=5))
def test_the_order_from_any_position_on_is_that_of_a_run_that_never_stopped(start: int, cuts: list[int]) -> None:
    mixture = Mixture((999, 100_000, 31), (5, 90, 5), 3)
    whole = mixture.at(0, start + sum(cuts))

    starts = [start + sum(cuts[:i]) for i in range(len(cuts))]
    pieces = [Mixture((999, 100_000, 31), (5, 90, 5), 3).at(p, n) for p, n in zip(starts, cuts, strict=True)]

    assert [int(i) for piece in pieces for i in piece] == whole[start:].tolist()


def test_the_processes_of_any_launch_see_the_batches_of_one() -> None:
    mixture = Mixture((500, 300, 200), whole_shares([0.5, 0.4, 0.1]), 1)
    alone = mixture.at(0, 640).reshape(20, 32)

    for world_size in (1, 2, 4):
        for step in range(20):
            parts = [share_of(mixture.at(step * 32, 32), rank, world_size) for rank in range(world_size)]
            assert np.concatenate(parts).tolist() == alone[step].tolist()


def test_a_position_far_away_is_found_without_what_came_before() -> None:
    mixture = Mixture((10**13, 10**9), (9, 1), 2)

    samples = mixture.at(10**15 + 7, 1000)

    assert np.bincount(sources_of(samples, mixture.sizes)).tolist() == [900, 100]
    assert len(set(samples.tolist())) == 1000


def test_known_mixtures_are_what_they_always_were() -> None:
    # As for the orders of one source: a change makes every run another run.
    assert Mixture((5, 3), (3, 1), 7).at(0, 12).tolist() == [1, 4, 7, 3, 2, 0, 6, 1, 3, 0, 5, 4]


def test_a_batch_may_be_written_to_without_touching_the_order() -> None:
    mixture = Mixture((5, 3), (3, 1), 7)
    before = mixture.at(0, 4).tolist()

    mixture.at(0, 4)[:] = 99

    assert mixture.at(0, 4).tolist() == before
