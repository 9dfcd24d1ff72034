"""Packing keeps every token, crosses no document, and wastes little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loading.packing import Packing, pack

documents = st.lists(st.integers(1, 60), max_size=80)
windows = st.integers(2, 25)


def packed(lengths: list[int], window: int) -> Packing:
    return pack(np.array(lengths, dtype=np.int64), window)


def next_fit(lengths: list[int], window: int) -> int:
    """Count the windows of the plain way: a document that no longer fits into the last window opens a new one."""
    count, left = 0, 0
    for length in lengths:
        for piece in [window] * (length // window) + ([length % window] if length % window else []):
            if piece > left:
                count, left = count + 1, window
            left -= piece
    return count


@given(lengths=documents, window=windows)
def test_every_token_lies_at_exactly_one_place_and_in_order(lengths: list[int], window: int) -> None:
    found = packed(lengths, window)

    sources = [np.arange(s, s + n) for s, n in zip(found.source, found.length, strict=True)]
    targets = [np.arange(t, t + n) for t, n in zip(found.target, found.length, strict=True)]
    everything = np.concatenate([np.empty(0, dtype=np.int64), *sources])
    places = np.concatenate([np.empty(0, dtype=np.int64), *targets])
    assert sorted(everything.tolist()) == list(range(sum(lengths)))
    assert len(set(places.tolist())) == len(places) and (places < found.windows * window).all()
    by_document: dict[int, list[int]] = {}
    for piece in np.argsort(found.target):
        by_document.setdefault(int(found.document[piece]), []).extend(sources[piece].tolist())
    ends = np.cumsum(lengths).tolist()
    assert all(
        by_document[i] == list(range(end - n, end)) for i, (n, end) in enumerate(zip(lengths, ends, strict=True))
    )


@given(lengths=documents, window=windows)
def test_no_piece_crosses_a_window_and_only_long_documents_are_cut(lengths: list[int], window: int) -> None:
    found = packed(lengths, window)

    assert (found.target // window == (found.target + found.length - 1) // window).all()
    assert found.cuts == sum((length - 1) // window for length in lengths)
    assert found.cut_documents == sum(length > window for length in lengths)
    assert found.padding == found.windows * window - sum(lengths)


@given(lengths=documents, window=windows)
def test_pieces_lie_without_gaps_and_padding_comes_last(lengths: list[int], window: int) -> None:
    found = packed(lengths, window)

    starts = found.starts()

    for number in range(found.windows):
        mine = found.target // window == number
        ends = np.cumsum(found.length[mine])
        assert found.target[mine].tolist() == (number * window + ends - found.length[mine]).tolist()
        here = starts[starts // window == number] % window
        padding = [int(ends[-1])] if ends[-1] < window else []
        assert here.tolist() == [*(found.target[mine] % window).tolist(), *padding]


@given(lengths=documents, window=windows)
def test_the_windows_are_in_the_order_of_their_last_pieces(lengths: list[int], window: int) -> None:
    found = packed(lengths, window)

    lasts = [int(found.source[found.target // window == number][-1]) for number in range(found.windows)]

    assert lasts == sorted(lasts)
    assert found.target.tolist() == sorted(found.target.tolist())


@given(lengths=documents, window=windows)
def test_at_most_one_window_is_less_than_half_full(lengths: list[int], window: int) -> None:
    found = packed(lengths, window)

    filled = np.bincount(found.target // window, weights=found.length, minlength=found.windows)

    assert (2 * filled < window).sum() <= 1


def test_a_known_case_fills_its_windows_exactly() -> None:
    found = packed([3, 5, 12, 1, 4], 5)

    assert (found.windows, found.padding, found.cuts, found.cut_documents) == (5, 0, 2, 1)
    assert found.document.tolist() == [1, 2, 2, 0, 2, 3, 4]
    assert found.starts().tolist() == [0, 5, 10, 15, 18, 20, 21]


@pytest.mark.parametrize("window", [129, 1025, 4097])
def test_documents_of_real_lengths_leave_far_less_padding_than_the_plain_way(window: int) -> None:
    lengths = np.random.default_rng(0).lognormal(5, 1.2, 5000).astype(np.int64) + 1

    found = pack(lengths, window)

    plain = next_fit(lengths.tolist(), window) * window - int(lengths.sum())
    assert found.padding < 0.005 * lengths.sum() + window
    assert found.padding < plain / 10


def test_300_000_documents_are_packed_in_seconds() -> None:
    import time

    lengths = np.random.default_rng(0).integers(1, 400, 300_000)
    started = time.process_time()

    pack(lengths, 2049)

    assert time.process_time() - started < 10
