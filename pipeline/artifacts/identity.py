"""Machinery: canonical JSON, hashes, and the two names of an artifact.

The *id* says what was asked (known before a stage runs), the *digest* says what came out.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""what `json.loads` returns"""

_HASHING_THREADS = 8

SHORT = 12
"""hexadecimal digits shown to a person"""


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


def as_json(config: Any) -> JSON:
    """Return a (nested) dataclass as what canonical JSON holds: tuples become lists."""
    return json.loads(canonical_json(dataclasses.asdict(config)))


def artifact_id(recipe: Mapping[str, JSON]) -> str:
    """Name what was asked.

    `recipe` holds kind, kind_version, stage, stage_version, inputs {role: digest}, config and toolchain.
    """
    return digest_of(dict(recipe))


def content_digest(files: Iterable[Mapping[str, JSON]], facts: Mapping[str, JSON]) -> str:
    """Name what came out: the payload's {path, size, sha256}, sorted by path, and the facts."""
    listing = sorted(
        ({key: file[key] for key in ("path", "size", "sha256")} for file in files), key=lambda f: f["path"]
    )
    return digest_of({"files": listing, "facts": dict(facts)})


def shorten(reference: str) -> str:
    """Shorten the hexadecimal part of a `kind:id` reference for a person."""
    kind, _, identity = reference.partition(":")
    return f"{kind}:{identity[:SHORT]}"
