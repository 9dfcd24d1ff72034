"""Machinery: canonical JSON, and SHA-256 of values and of files."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
"""a value that JSON can hold: what is hashed, written and printed"""

Page: TypeAlias = dict[str, Any]
"""an object that was read from JSON: whoever takes a key of it says what that holds"""

_HASHING_THREADS = 8


def canonical_json(value: JSON) -> str:
    """Write `value` in the one form that is hashed: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: JSON) -> str:
    """Return the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the SHA-256 of the bytes of each file, in order; several are hashed at once, which holds no lock."""
    threads = min(len(paths), os.cpu_count() or 1, _HASHING_THREADS)
    if threads < 2:
        yield from map(sha256_of_file, paths)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(sha256_of_file, paths)
    finally:
        pool.shutdown(cancel_futures=True)
