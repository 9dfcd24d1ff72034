"""Machinery: canonical JSON, hashes, and the two names of an artifact.

The *id* says what was asked (known before a stage runs), the *digest* says what came out.
"""

from collections.abc import Iterable, Mapping

from pipeline.runtime.hashing import JSON, Page, digest_of

SHORT = 12
"""hexadecimal digits shown to a person"""


def artifact_id(recipe: Mapping[str, JSON]) -> str:
    """Name what was asked.

    `recipe` holds kind, kind_version, stage, stage_version, inputs {role: digest}, config and toolchain.
    """
    return digest_of(dict(recipe))


def content_digest(files: Iterable[Page], facts: Mapping[str, JSON]) -> str:
    """Name what came out: the payload's {path, size, sha256}, sorted by path, and the facts."""
    listing = sorted(
        ({key: file[key] for key in ("path", "size", "sha256")} for file in files), key=lambda f: f["path"]
    )
    return digest_of({"files": listing, "facts": dict(facts)})


def shorten(reference: str) -> str:
    """Shorten the hexadecimal part of a `kind:id` reference for a person."""
    kind, _, identity = reference.partition(":")
    return f"{kind}:{identity[:SHORT]}"
