"""Machinery: the manifest, the page that says what an artifact is and how it was made."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, TypeVar

from pipeline.artifacts.identity import artifact_id, content_digest
from pipeline.errors import DataError, IntegrityError
from pipeline.runtime.hashing import Page

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PAYLOAD = "payload"
RECORD = "record"
CARD = "README.md"

T = TypeVar("T")
DeterminismClass = Literal["bytes", "domain"]


@dataclass(frozen=True, kw_only=True)
class InputName:
    """An input as a manifest names it: which artifact it was, and which bytes."""

    kind: str
    id: str
    digest: str

    @property
    def reference(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked: everything the id is computed from, but the kind."""

    stage: str
    stage_version: int
    inputs: dict[str, InputName]
    config: Page
    toolchain: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class License:
    """A licence that came in with a source, and the line it asks derived works to carry."""

    source: str
    license: str
    attribution: str


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One payload file: its path below payload/, size in bytes and SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Determinism:
    """The promise: the same bytes anywhere ("bytes") or within one domain ("domain")."""

    kind: DeterminismClass
    domain: Page = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole page, in the order a person reads it."""

    kind: str
    kind_version: int
    id: str
    digest: str
    recipe: Asked
    files: tuple[FileEntry, ...]
    facts: Page
    counts: Page
    determinism: Determinism
    licenses: tuple[License, ...]
    format_version: int = FORMAT_VERSION

    def as_json(self) -> Page:
        page = asdict(self)
        page["determinism"] = {"class": self.determinism.kind, "domain": self.determinism.domain}
        return page


def numbered(role: str, items: Iterable[T]) -> dict[str, T]:
    """Name the inputs of one role: the first is the role itself, further ones are ROLE.2, ROLE.3, …"""
    return {role if number == 1 else f"{role}.{number}": item for number, item in enumerate(items, 1)}


def role_of(name: str) -> str:
    """Return the role of an input's name."""
    return name.partition(".")[0]


def inputs_of(role: str, inputs: Mapping[str, T]) -> list[T]:
    """Return the inputs of one role in the order they were given."""
    names = [name for name in inputs if role_of(name) == role]
    return [inputs[name] for name in sorted(names, key=lambda name: int(name.partition(".")[2] or 1))]


def recipe_id(kind: str, kind_version: int, recipe: Asked) -> str:
    """Compute the id of what `recipe` asks for; inputs count by digest alone."""
    return artifact_id(
        {
            "kind": kind,
            "kind_version": kind_version,
            "stage": recipe.stage,
            "stage_version": recipe.stage_version,
            "inputs": {role: name.digest for role, name in recipe.inputs.items()},
            "config": recipe.config,
            "toolchain": recipe.toolchain,
        }
    )


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of the artifact in `folder`.

    Raises IntegrityError when it is not the page it was (unreadable, or its id or digest do not follow from
    what it says) and DataError when it has a format this version does not know.
    """
    path = folder / MANIFEST
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        if page["format_version"] != FORMAT_VERSION:
            raise DataError(
                f"{path} has artifact format {page['format_version']}; this program reads {FORMAT_VERSION}."
            )
        manifest = _from_json(page)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path} cannot be read as a manifest: {error!r}. {_advice(folder)}") from error
    _check(manifest, path, _advice(folder))
    return manifest


def _from_json(page: Page) -> Manifest:
    recipe = dict(page["recipe"])
    recipe["inputs"] = {role: InputName(**name) for role, name in recipe["inputs"].items()}
    known = {f.name for f in fields(Manifest)}
    if unknown := set(page) - known:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    return Manifest(
        **{
            **page,
            "recipe": Asked(**recipe),
            "files": tuple(FileEntry(**entry) for entry in page["files"]),
            "determinism": Determinism(kind=page["determinism"]["class"], domain=page["determinism"]["domain"]),
            "licenses": tuple(License(**entry) for entry in page["licenses"]),
        }
    )


def _check(manifest: Manifest, path: Path, advice: str) -> None:
    expected = {
        "id": recipe_id(manifest.kind, manifest.kind_version, manifest.recipe),
        "digest": content_digest([vars(entry) for entry in manifest.files], manifest.facts),
    }
    for name, value in expected.items():
        if getattr(manifest, name) != value:
            raise IntegrityError(f"{path} was changed: its {name} does not follow from what it says. {advice}")
    for entry in manifest.files:
        if not {"", ".", ".."}.isdisjoint(entry.path.split("/")):  # an absolute path begins with an empty part
            raise IntegrityError(f"{path} declares the path {entry.path!r}, which leaves its payload. {advice}")


def _advice(folder: Path) -> str:
    return f"Run `python -m pipeline.artifacts repair {folder.parent.name}:{folder.name[:12]}` to rebuild it."
