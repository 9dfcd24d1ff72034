"""Machinery: published shards by number: listed without being opened, checked and mapped when they are first read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import DataError

T = TypeVar("T")

MAX_OPEN_SHARDS = 2**14
"""files mapped at once; a map holds no file descriptor, and Linux allows a process 65,530 maps"""


class LazyFiles(dict[int, T], Generic[T]):
    """What was made of numbered files, each opened when it is first asked for; the oldest goes when it is full."""

    def __init__(self, open_file: Callable[[int], T], limit: int = MAX_OPEN_SHARDS) -> None:
        super().__init__()
        self._open_file, self._limit = open_file, limit

    def __missing__(self, number: int) -> T:
        if len(self) >= self._limit:
            del self[next(iter(self))]
        self[number] = self._open_file(number)
        return self[number]


@runtime_checkable
class Paths(Protocol):
    """Files by number; what a list of paths is too."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Path: ...


@dataclass(frozen=True)
class CheckedPaths:
    """Files of an artifact by number, each checked when it is asked for and not before."""

    artifact: Artifact
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int, /) -> Path:
        return self.artifact.file(self.names[number])


def index_of(shards: Artifact, split: str) -> list[list[Any]]:
    """Return [file, tokens, documents, …] of each shard of a split, in order, without opening any.

    Raises DataError for shards of a version that wrote no index.
    """
    if not shards.has("index.json"):
        raise DataError(
            f"{shards.short} has no index.json: an earlier version made it. Run the command that made it again."
        )
    rows: list[list[Any]] = shards.read_json("index.json").get(split, [])
    return rows
