"""Thousands of shards are listed at once, and opened only as far as they are read."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts import artifact as artifact_module
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import DataError, IntegrityError
from pipeline.loading.shard_files import CheckedPaths, LazyFiles, index_of
from pipeline.loading.windows import TokenStream, Windows
from pipeline.tables.arrow import write_batch

FILES = 150


@pytest.fixture
def shards(tmp_path: Path, request_of: Callable[..., Any]) -> Artifact:
    """Published shards: the stream 0..1499 in 150 files, and their index."""
    store = Store(tmp_path / "store")
    with store.draft(request_of(kind="shards")) as draft:
        index = []
        for i in range(FILES):
            name = f"train-{i:05d}-of-{FILES:05d}.arrow"
            column = pa.array([list(range(10 * i, 10 * i + 10))], type=pa.list_(pa.uint16()))
            write_batch(draft.path / name, pa.record_batch({"input_ids": column}))
            index.append([name, 10, 1])
        (draft.path / "index.json").write_text(json.dumps({"train": index}))
        draft.fact(end_of_text=0)
    return draft.artifact


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Allow this process 64 more open files than it has now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 64, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_index_says_what_each_file_of_a_split_holds(shards: Artifact) -> None:
    index = index_of(shards, "train")

    assert (len(index), index[7]) == (FILES, ["train-00007-of-00150.arrow", 10, 1])
    assert index_of(shards, "validation") == []


def test_shards_without_an_index_are_of_an_earlier_version(publish: Callable[..., Artifact], tmp_path: Path) -> None:
    old = publish(Store(tmp_path / "store"), {"train-00000-of-00001.arrow": "x"}, kind="shards")

    with pytest.raises(DataError, match=r"has no index\.json: an earlier version made it"):
        TokenStream.of(old, "train")


def test_a_stream_of_published_shards_opens_and_checks_only_the_files_it_reads(
    shards: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    status_of = artifact_module._status_of
    monkeypatch.setattr(artifact_module, "_status_of", lambda path: checked.append(path.name) or status_of(path))

    stream = TokenStream.of(shards, "train")
    assert (len(stream), checked) == (10 * FILES, ["index.json"])

    assert stream.read(1134, 1137).tolist() == [1134, 1135, 1136]
    assert (checked, len(stream._shards)) == (["index.json", "train-00113-of-00150.arrow"], 1)


def test_a_file_that_was_damaged_after_the_stream_was_made_is_refused_when_it_is_read(
    shards: Artifact, flip: Callable[[Path], None]
) -> None:
    stream = TokenStream.of(shards, "train")
    flip(shards.payload / "train-00005-of-00150.arrow")

    assert stream.read(0, 50).tolist() == list(range(50))
    with pytest.raises(IntegrityError, match=r"train-00005-of-00150\.arrow has sha256"):
        stream.read(50, 51)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files through /proc")
def test_more_shards_than_open_files_are_allowed_can_be_mapped_at_once(shards: Artifact, few_descriptors: None) -> None:
    windows = Windows(TokenStream.of(shards, "train"), context_length=4, stride=5)

    rows = windows.gather(np.arange(len(windows)))

    assert rows[:, 0].tolist() == list(range(0, 1496, 5))
    assert len(windows.stream._shards) == FILES


def test_paths_are_checked_one_by_one(shards: Artifact) -> None:
    paths = CheckedPaths(shards, ["train-00002-of-00150.arrow", "no-such-file.arrow"])

    assert (len(paths), paths[0]) == (2, shards.payload / "train-00002-of-00150.arrow")
    with pytest.raises(KeyError):
        paths[1]


def test_the_file_opened_first_is_let_go_when_there_is_no_room() -> None:
    asked: list[int] = []
    opened = LazyFiles(lambda number: asked.append(number) or str(number), limit=3)

    assert [opened[i] for i in (1, 2, 3, 1, 4, 3, 1)] == ["1", "2", "3", "1", "4", "3", "1"]
    assert asked == [1, 2, 3, 4, 1]
    assert sorted(opened) == [1, 3, 4]
