"""Machinery: what this machine can do at most, measured in the same run as what it is held against."""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.bench.figures import show
from pipeline.runtime.hashing import Page
from pipeline.runtime.provenance import version_of

_MEGABYTE = 10**6


def hashing(paths: Sequence[Path]) -> float:
    """Return the MB/s of hashlib's SHA-256 over files, one after the other."""

    def hash_all() -> None:
        for path in paths:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")

    return _rate(sum(path.stat().st_size for path in paths), hash_all)


def reading(path: Path) -> float:
    """Return the MB/s of a sequential read (of what the page cache has, if it was read before)."""
    buffer = bytearray(2**20)

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return _rate(path.stat().st_size, read)


def writing(folder: Path, size: int = 64 * _MEGABYTE) -> float:
    """Return the MB/s of a sequential write that ends with fsync."""
    path, block = folder / "write.bin", os.urandom(2**20)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(size // len(block)):
                file.write(block)
            os.fsync(file.fileno())

    try:
        return _rate(size // len(block) * len(block), write)
    finally:
        path.unlink(missing_ok=True)


def widening(tokens: int = 2**25) -> float:
    """Return the M tokens/s of copying 16-bit tokens in order into 64-bit ones, the least a batch can cost."""
    import numpy as np

    narrow = np.arange(tokens, dtype=np.uint32).astype(np.uint16)
    wide = np.zeros(2**15, dtype=np.int64)

    def widen() -> None:
        for start in range(0, tokens, len(wide)):
            wide[:] = narrow[start : start + len(wide)]

    return _rate(tokens, widen)


def conditions() -> Page:
    """Describe the machine and what else it does: figures mean nothing without."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "packages": {name: version_of(name) for name in ("gigatoken", "numpy", "pyarrow", "tiktoken", "tokenizers")},
    }


def limits_of(text: Path, folder: Path) -> str:
    """Say how fast this machine reads, hashes and writes a file."""
    read, hashed, written = reading(text), hashing([text]), writing(folder)
    return f"machine reads {show(read)}, hashes {show(hashed)}, writes {show(written)} MB/s"


def _rate(amount: int, work: Callable[[], None]) -> float:
    """Return millions a second, the best of three: a limit is what can be reached."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return amount / _MEGABYTE / max(best, 1e-9)
