"""Shards are one stream, and windows are slices of it."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, IntegrityError
from pipeline.loading.windows import NO_TOKEN, CoveringWindows, TokenStream, Windows, document_ids
from pipeline.tables.arrow import read_batch, write_batch

END = 0


@pytest.fixture
def stream_of(tmp_path: Path) -> Callable[..., TokenStream]:
    """Write shards of documents, and open them as a stream: stream_of([[1, 2], [3]], [[4]])."""

    def write(*shards: list[list[int]]) -> TokenStream:
        paths = []
        for number, documents in enumerate(shards):
            paths.append(tmp_path / f"{number}.arrow")
            rows = pa.array(documents, type=pa.list_(pa.uint16()))
            write_batch(paths[-1], pa.RecordBatch.from_arrays([rows], names=["input_ids"]))
        return TokenStream(paths, [sum(map(len, documents)) for documents in shards], end_of_text=END)

    return write


def test_a_stream_is_its_shards_one_after_the_other(stream_of: Callable[..., TokenStream]) -> None:
    stream = stream_of([[1, 2], [3]], [[4, 5, 6]], [[7]])

    assert len(stream) == 7
    assert stream.read(0, 7).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_every_slice_of_a_stream_equals_that_of_its_tokens(stream_of: Callable[..., TokenStream]) -> None:
    tokens = list(range(100, 112))
    stream = stream_of([tokens[:3], tokens[3:5]], [tokens[5:6]], [tokens[6:8], tokens[8:12]])

    for start in range(12):
        for stop in range(start, 13):
            assert stream.read(start, stop).tolist() == tokens[start:stop]


def test_a_file_that_holds_less_than_its_index_says_is_refused(stream_of: Callable[..., TokenStream]) -> None:
    path = stream_of([[1, 2, 3]])._paths[0]

    with pytest.raises(IntegrityError, match=r"0\.arrow has 3 tokens, and its index says 4"):
        TokenStream([path], [4], end_of_text=END).read(0, 3)


def test_a_stream_opens_a_file_when_it_is_read_and_not_before(
    stream_of: Callable[..., TokenStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = stream_of([[1, 2]], [[3, 4]], [[5, 6]])._paths
    opened: list[str] = []
    monkeypatch.setattr("pipeline.tables.arrow.read_batch", lambda path: opened.append(path.name) or read_batch(path))

    stream = TokenStream(paths, [2, 2, 2], end_of_text=END)
    assert (len(stream), opened) == (6, [])
    assert stream.read(3, 4).tolist() == [4]
    assert opened == ["1.arrow"]
    assert stream.read(1, 5).tolist() == [2, 3, 4, 5]
    assert opened == ["1.arrow", "0.arrow", "2.arrow"]


def test_a_stream_of_no_files_is_empty() -> None:
    assert len(TokenStream([], [], end_of_text=END)) == 0


@given(
    cuts=st.lists(st.integers(0, 60), max_size=6),
    starts=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    length=st.integers(1, 10),
)
def test_rows_read_together_are_those_read_one_by_one(cuts: list[int], starts: list[int], length: int) -> None:
    tokens = np.arange(1000, 1060, dtype=np.uint16)
    bounds = sorted([0, *cuts, 60])
    stream = TokenStream([], [b - a for a, b in pairwise(bounds)], end_of_text=END)
    stream._shards.update({i: tokens[a:b] for i, (a, b) in enumerate(pairwise(bounds))})

    rows = stream.read_rows(np.array(starts), length)

    assert rows.tolist() == [tokens[start : start + length].tolist() for start in starts]
    assert rows.dtype == np.int64


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 20])
def test_windows_are_slices_of_the_stream_also_over_the_ends_of_shards(
    stream_of: Callable[..., TokenStream], stride: int
) -> None:
    tokens = list(range(1000, 1030))
    windows = Windows(stream_of([tokens[:7]], [tokens[7:9]], [tokens[9:30]]), context_length=4, stride=stride)

    rows = windows.gather(np.arange(len(windows)))

    starts = range(0, 30 - 4, stride)
    assert rows.tolist() == [tokens[start : start + 5] for start in starts]


def test_windows_are_gathered_in_the_order_asked_for(stream_of: Callable[..., TokenStream]) -> None:
    windows = Windows(stream_of([list(range(20))]), context_length=3, stride=3)

    assert windows.gather(np.array([4, 0, 4])).tolist() == [[12, 13, 14, 15], [0, 1, 2, 3], [12, 13, 14, 15]]


def test_a_gathered_batch_may_be_written_to_without_touching_the_shards(
    stream_of: Callable[..., TokenStream],
) -> None:
    windows = Windows(stream_of([list(range(20))]), context_length=3, stride=3)

    windows.gather(np.array([0]))[:] = 7

    assert windows.gather(np.array([0])).tolist() == [[0, 1, 2, 3]]


def test_with_a_stride_of_the_context_every_token_but_the_first_is_predicted_once(
    stream_of: Callable[..., TokenStream],
) -> None:
    windows = Windows(stream_of([list(range(41))]), context_length=8, stride=8)

    rows = windows.gather(np.arange(len(windows)))

    assert rows[:, 1:].ravel().tolist() == list(range(1, 41))


def test_a_context_above_the_corpus_says_the_largest_that_fits(stream_of: Callable[..., TokenStream]) -> None:
    stream = stream_of([list(range(20))])

    with pytest.raises(ConfigError, match=r"context_length 20 .* 20 tokens, so at most 19") as caught:
        Windows(stream, context_length=20, stride=20)

    assert caught.value.exit_code == 78
    assert len(Windows(stream, context_length=19, stride=19)) == 1


def test_a_stride_below_one_is_refused(stream_of: Callable[..., TokenStream]) -> None:
    with pytest.raises(ConfigError, match="stride must be at least 1, got 0"):
        Windows(stream_of([list(range(20))]), context_length=4, stride=0)


def test_covering_windows_of_a_worked_example(stream_of: Callable[..., TokenStream]) -> None:
    windows = CoveringWindows(stream_of([list(range(10))]), context_length=4)

    assert windows.gather(np.arange(3)).tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, -1, -1, -1]]


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9, 16, 17, 41])
@pytest.mark.parametrize("context_length", [1, 2, 8, 50])
def test_covering_windows_predict_every_token_but_the_first_once(
    stream_of: Callable[..., TokenStream], length: int, context_length: int
) -> None:
    windows = CoveringWindows(stream_of([list(range(length))]), context_length)

    rows = windows.gather(np.arange(len(windows)))

    assert [int(i) for i in rows[:, 1:].ravel() if i != NO_TOKEN] == list(range(1, length))
    assert rows[:, 0].tolist() == list(range(0, max(0, length - 1), context_length))


def test_an_end_of_text_is_read_with_the_document_after_it() -> None:
    rows = np.array([[5, 6, 0, 7, 0, 8], [0, 1, 2, 3, 4, 0], [0, 0, 1, 1, 1, 1]])

    assert document_ids(rows, 0).tolist() == [[0, 0, 1, 1, 2], [1, 1, 1, 1, 1], [1, 2, 2, 2, 2]]
