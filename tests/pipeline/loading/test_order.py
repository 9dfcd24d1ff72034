"""The order of samples is a pure function of seed and position: a permutation of every epoch, without a table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loading import order as order_module
from pipeline.loading.order import BLOCK_SAMPLES, Order, derive_seed, permute, share_of


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 1000, 4095, 4096, 4097, 65537, 100_003])
def test_a_permutation_is_one_to_one(size: int) -> None:
    for seed in (0, 1, 2**62):
        assert sorted(permute(np.arange(size), size, seed).tolist()) == list(range(size))


@given(size=st.integers(1, 2**40), seed=st.integers(0, 2**63 - 1), places=st.lists(st.integers(0, 2**40), max_size=20))
def test_a_place_is_permuted_the_same_alone_as_among_others(size: int, seed: int, places: list[int]) -> None:
    indices = np.array([place % size for place in places], dtype=np.int64)

    together = permute(indices, size, seed)

    assert all(0 <= i < size for i in together)
    assert together.tolist() == [int(permute(indices[i : i + 1], size, seed)[0]) for i in range(len(indices))]


def test_known_permutations_are_what_they_always_were() -> None:
    # Every sample order ever logged rests on these numbers: a change makes every run another run.
    assert permute(np.arange(10), 10, 7).tolist() == [8, 9, 0, 7, 5, 4, 6, 1, 2, 3]
    assert permute(np.arange(5), 1_000_003, 1).tolist() == [714997, 206666, 392202, 738249, 390160]
    assert Order(5, 3).at(3, 9).tolist() == [0, 3, 1, 3, 2, 4, 0, 4, 1]
    assert derive_seed(1, "dropout", 2) == 4029632480470815843


def unpermute(samples: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Walk the network backwards, in Python's own integers."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = [derive_seed(seed, "round", i) for i in range(6)]
    word, mask = 2**64 - 1, 2**half - 1

    def mix(value: int) -> int:
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & word
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & word
        return value ^ (value >> 31)

    def back(value: int) -> int:
        left, right = value >> half, value & mask
        for key in reversed(keys):
            left, right = right ^ (mix(left ^ key) & mask), left
        value = left << half | right
        return value if value < size else back(value)

    return np.array([back(int(sample)) for sample in samples])


@pytest.mark.parametrize("size", [1, 2, 10**6 + 3, 10**13, 2**42, 2**42 + 1])
def test_every_sample_of_a_huge_epoch_leads_back_to_its_place(size: int) -> None:
    places = np.unique(np.linspace(0, size - 1, 700).astype(np.int64))

    assert unpermute(permute(places, size, 11), size, 11).tolist() == places.tolist()


def test_ten_trillion_samples_are_permuted_without_a_table() -> None:
    size, count = 10**13, 10**5
    rng = np.random.default_rng(0)
    places = np.unique(np.concatenate([rng.integers(0, size, count), np.arange(count), size - 1 - np.arange(count)]))

    samples = permute(places, size, 5)

    assert 0 <= samples.min() and samples.max() < size
    assert len(np.unique(samples)) == len(places)
    tenths = np.bincount(samples[:count] * 10 // size, minlength=10)  # of neighbouring places
    assert abs(tenths - count / 10).max() < 5 * (count / 10) ** 0.5


def test_a_position_in_ten_trillion_samples_is_found_by_computing_one_block() -> None:
    order = Order(10**13, 3)
    order_module._block.cache_clear()

    far = order.at(7 * 10**13 + 123_456_789, 32)

    assert order_module._block.cache_info().misses == 1
    places = np.arange(123_456_789, 123_456_789 + 32)
    assert far.tolist() == permute(places, 10**13, derive_seed(3, "epoch", 7)).tolist()


@pytest.mark.parametrize("size", [BLOCK_SAMPLES - 1, BLOCK_SAMPLES, BLOCK_SAMPLES + 1, 3 * BLOCK_SAMPLES])
def test_an_order_computed_in_blocks_is_the_permutation_of_each_epoch(size: int) -> None:
    samples = Order(size, 8).at(0, 2 * size)

    epochs = [permute(np.arange(size), size, derive_seed(8, "epoch", epoch)) for epoch in (0, 1)]
    assert samples.tolist() == np.concatenate(epochs).tolist()


def test_samples_may_be_written_to_without_touching_the_order() -> None:
    before = Order(10, 7).at(0, 10).tolist()

    Order(10, 7).at(0, 10)[:] = 99

    assert Order(10, 7).at(0, 10).tolist() == before


def test_indices_given_to_permute_are_left_as_they_are() -> None:
    indices = np.arange(10)

    permute(indices, 10, 7)

    assert indices.tolist() == list(range(10))


def test_seeds_and_epochs_give_different_orders() -> None:
    orders = {tuple(Order(100, seed).at(epoch * 100, 100).tolist()) for seed in range(5) for epoch in range(5)}

    assert len(orders) == 25


def test_every_epoch_holds_every_sample_once() -> None:
    samples = Order(37, seed=5).at(0, 37 * 4).reshape(4, 37)

    assert np.sort(samples).tolist() == [list(range(37))] * 4


def test_a_permutation_does_not_leave_neighbours_beside_each_other() -> None:
    samples = permute(np.arange(10_000), 10_000, 3)

    assert (np.abs(np.diff(samples)) == 1).sum() < 20  # 2 are expected of a random one
    assert abs(np.corrcoef(np.arange(10_000), samples)[0, 1]) < 0.05


@given(
    size=st.integers(1, 50),
    seed=st.integers(0, 9),
    start=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_the_order_is_the_same_however_it_is_asked_for(size: int, seed: int, start: int, cuts: list[int]) -> None:
    order = Order(size, seed)
    whole = order.at(start, sum(cuts))

    starts = [start + sum(cuts[:i]) for i in range(len(cuts))]
    pieces = [order.at(place, count) for place, count in zip(starts, cuts, strict=True)]

    assert whole.tolist() == [int(i) for piece in pieces for i in piece]


@given(count=st.integers(0, 60), world_size=st.integers(1, 9))
def test_the_ranks_cover_a_batch_exactly_and_evenly(count: int, world_size: int) -> None:
    samples = np.arange(100, 100 + count)

    parts = [share_of(samples, rank, world_size) for rank in range(world_size)]

    assert np.concatenate(parts).tolist() == samples.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_seeds_are_told_apart_by_their_names_and_fit_63_bits() -> None:
    names = [(1,), (2,), (1, 1), (11,), (1, "1", 1), (1, "epoch", 0), (1, "round", 0)]

    seeds = {derive_seed(*name) for name in names}

    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
