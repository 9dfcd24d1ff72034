"""Machinery: the store, a folder of artifacts: find them, draft new ones, publish by one rename."""

import itertools
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import SHORT, content_digest
from pipeline.artifacts.manifest import (
    CARD,
    MANIFEST,
    PAYLOAD,
    RECORD,
    Asked,
    Determinism,
    DeterminismClass,
    FileEntry,
    License,
    Manifest,
    recipe_id,
)
from pipeline.errors import IntegrityError, MissingError, UsageError
from pipeline.runtime.console import say
from pipeline.runtime.files import regular_files, rename_new, sync_folder, sync_tree, write_json
from pipeline.runtime.hashing import JSON, Page, canonical_json, sha256_of_files
from pipeline.runtime.liveness import ProcessIdentity, boot_id

REQUEST = "request.json"
"""beside unfinished work: what was asked, so that `gc` knows which artifacts it reads"""
_RESERVED_DIRS = ("runs", "refs", "tmp", "quarantine", "sources", "stamps")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a stage; its id is known before anything runs."""

    kind: str
    kind_version: int
    recipe: Asked
    determinism: DeterminismClass

    @property
    def id(self) -> str:
        return recipe_id(self.kind, self.kind_version, self.recipe)

    @property
    def reference(self) -> str:
        return f"{self.kind}:{self.id}"

    def leave_in(self, folder: Path) -> None:
        """Say in the folder of unfinished work what it is for: its inputs are needed until it ends."""
        write_json(folder / REQUEST, {"kind": self.kind, "id": self.id, "recipe": asdict(self.recipe)})


@dataclass(kw_only=True)
class Draft:
    """An artifact in the making: write into `path`, state facts and counts; it is published when its block ends."""

    request: Request
    path: Path
    record: Path
    facts: Page = field(default_factory=dict)
    counts: Page = field(default_factory=dict)
    domain: Page = field(default_factory=dict)
    licenses: tuple[License, ...] = ()
    provenance: JSON = None
    published: Artifact | None = None

    def fact(self, **facts: JSON) -> None:
        """State what consumers may rely on; covered by the digest."""
        self.facts.update(facts)

    def count(self, **counts: JSON) -> None:
        """Account for what went in and came out."""
        self.counts.update(counts)

    @property
    def artifact(self) -> Artifact:
        """The published artifact; exists only after the block ended without an exception."""
        if self.published is None:
            raise RuntimeError("this draft was not published")
        return self.published


class Store:
    """A folder of published artifacts, the work of unfinished ones, and the names people gave."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # --- finding ---------------------------------------------------------------------------------------------

    def place(self, kind: str, identity: str) -> Path:
        """Return where the artifact of this kind and id is or would be."""
        return self.root / kind / identity

    def run_folder(self, identity: str) -> Path:
        """Return the folder of the mutable work of a long stage."""
        return self.root / "runs" / identity

    def get(self, kind: str, identity: str) -> Artifact | None:
        """Return the published artifact with this full id, or None."""
        path = self.place(kind, identity)
        return self.open(path) if (path / MANIFEST).exists() else None

    def open(self, path: Path) -> Artifact:
        """Open the artifact in folder `path`, inside this store or elsewhere."""
        artifact = Artifact.open(path)
        stamps = self.root / "stamps" / f"{artifact.kind}-{artifact.id}.json"
        is_ours = path.resolve() == self.place(artifact.kind, artifact.id).resolve()
        return replace(artifact, stamps=stamps if is_ours else None)

    def folders(self, kind: str | None = None) -> list[Path]:
        """Return the folders of every published artifact, sorted; a half-written one is never among them."""
        kinds = [kind] if kind else sorted(p.name for p in self.root.glob("*") if p.name not in _RESERVED_DIRS)
        return [path.parent for name in kinds for path in sorted((self.root / name).glob(f"*/{MANIFEST}"))]

    def find(self, reference: str) -> Artifact:
        """Open what a person refers to: `kind:id` (the id may be cut short), a given name, or a path.

        Raises MissingError, listing the candidates, when there is none or more than one.
        """
        path = Path(reference).expanduser()
        if (path / MANIFEST).exists():
            return self.open(path)
        named = self.refs().get(reference)
        kind, colon, prefix = (named or reference).partition(":")
        found = [p for p in self.folders(kind) if p.name.startswith(prefix)] if colon and prefix else []
        if len(found) != 1:
            raise self._not_found(reference, kind if colon else None, found)
        return self.open(found[0])

    def find_input(self, name_kind: str, identity: str, digest: str) -> Artifact:
        """Open the input a manifest names: the artifact itself, else another with the same bytes."""
        artifact = self.get(name_kind, identity)
        if artifact is not None and artifact.digest == digest:
            return artifact
        for path in self.folders(name_kind):
            with suppress(IntegrityError):  # of some other artifact
                other = self.open(path)
                if other.digest == digest:
                    return other
        raise MissingError(f"{name_kind}:{identity[:SHORT]} (digest {digest[:SHORT]}) is not in the store {self.root}.")

    def _not_found(self, reference: str, kind: str | None, found: list[Path]) -> MissingError:
        candidates = found or self.folders(kind)
        names = sorted(name for name, target in self.refs().items() if kind in (None, target.partition(":")[0]))
        lines = [f"  {p.parent.name}:{p.name[:SHORT]}" for p in candidates[:20]] + [f"  {name}" for name in names[:20]]
        what = "names more than one artifact" if found else "names no artifact, given name or artifact folder"
        listing = "\n".join(lines) if lines else "  (none)"
        return MissingError(f"{reference!r} {what} in {self.root}. Candidates:\n{listing}")

    # --- names -----------------------------------------------------------------------------------------------

    def refs(self) -> dict[str, str]:
        """Return every given name with the `kind:id` it stands for."""
        found = {}
        for path in sorted((self.root / "refs").glob("*.json")):
            page = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem] = f"{page['kind']}:{page['id']}"
        return found

    def tag(self, name: str, artifact: Artifact) -> None:
        """Let `name` stand for `artifact` from now on."""
        if not name or ":" in name or "/" in name or name.startswith("."):
            raise UsageError(f"{name!r} cannot be a name: it must not be empty, start with '.', or hold ':' or '/'.")
        page = {"kind": artifact.kind, "id": artifact.id, "digest": artifact.digest}
        write_json(self.root / "refs" / f"{name}.json", page)

    # --- making ----------------------------------------------------------------------------------------------

    @contextmanager
    def draft(self, request: Request, *, licenses: tuple[License, ...] = ()) -> Iterator[Draft]:
        """Give a folder to write into, and publish it when the block ends without an exception."""
        with self.scratch() as scratch:
            folder = scratch / "artifact"
            request.leave_in(scratch)
            draft = Draft(request=request, path=folder / PAYLOAD, record=folder / RECORD, licenses=licenses)
            draft.path.mkdir(parents=True)
            draft.record.mkdir()
            yield draft
            manifest = self._complete(folder, draft)
            draft.published = self._publish(folder, manifest)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a private folder on the store's disk; it goes away with the block, or with the next one after a kill."""
        scratch = self.root / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        _sweep(scratch)
        me = ProcessIdentity.current()
        folder = scratch / f"{me.boot_id}_{me.pid}_{me.started}_{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        try:
            yield folder
        finally:
            remove_tree(folder)

    def _complete(self, folder: Path, draft: Draft) -> Manifest:
        """Write the record, the card, and last the manifest; make the payload files read-only."""
        from pipeline.artifacts.card import render_card

        request = draft.request
        paths = list(regular_files(draft.path))
        files = tuple(
            FileEntry(path=path.relative_to(draft.path).as_posix(), size=path.stat().st_size, sha256=sha256)
            for path, sha256 in zip(paths, sha256_of_files(paths), strict=True)
        )
        facts = json.loads(canonical_json(draft.facts))
        manifest = Manifest(
            kind=request.kind,
            kind_version=request.kind_version,
            id=request.id,
            digest=content_digest([vars(entry) for entry in files], facts),
            recipe=request.recipe,
            files=files,
            facts=facts,
            counts=json.loads(canonical_json(draft.counts)),
            determinism=Determinism(kind=request.determinism, domain=json.loads(canonical_json(draft.domain))),
            licenses=draft.licenses,
        )
        (folder / RECORD / "provenance.json").write_text(json.dumps(draft.provenance, indent=2, sort_keys=True) + "\n")
        (folder / CARD).write_text(render_card(manifest), encoding="utf-8")
        for path in paths:
            path.chmod(0o444)
        sync_tree(folder)
        write_json(folder / MANIFEST, manifest.as_json())
        return manifest

    def _publish(self, folder: Path, manifest: Manifest) -> Artifact:
        """Rename the complete folder onto its final name; whoever comes second compares digests."""
        final = self.place(manifest.kind, manifest.id)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists() and not (final / MANIFEST).exists():  # it lost its manifest: nothing can vouch for it
            self.quarantine(manifest.kind, manifest.id)
        if not rename_new(folder, final):
            return self._lost_race(final, manifest)
        (final / PAYLOAD).chmod(0o555)
        sync_folder(final.parent)
        sync_folder(self.root)
        return self.open(final)

    def _lost_race(self, final: Path, manifest: Manifest) -> Artifact:
        first = self.open(final)
        same_promise = (
            manifest.determinism.kind == "bytes" or first.manifest.determinism.domain == manifest.determinism.domain
        )
        if first.digest != manifest.digest and same_promise:
            raise IntegrityError(
                f"{first.short} was published by another process with digest {first.digest[:SHORT]}, and this one "
                f"made {manifest.digest[:SHORT]} of the same recipe: the stage {manifest.recipe.stage} is not "
                "reproducible. Please report it; the first artifact stays."
            )
        if first.digest != manifest.digest:
            say(f"{first.short} was published meanwhile from another determinism domain; it stays, and this one goes.")
        return first

    def quarantine(self, kind: str, identity: str) -> Path:
        """Move a damaged artifact out of the way and return where it is now."""
        target = self.root / "quarantine" / f"{kind}-{identity}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.place(kind, identity), target)
        sync_folder(target.parent)
        return target


def union_of_licenses(inputs: Mapping[str, Artifact], own: tuple[License, ...] = ()) -> tuple[License, ...]:
    """Collect what the inputs and the stage's own sources ask a derived artifact to carry, sorted by source."""
    everything = {entry for artifact in inputs.values() for entry in artifact.manifest.licenses} | set(own)
    return tuple(sorted(everything, key=lambda entry: (entry.source, entry.license, entry.attribution)))


def _sweep(scratch: Path) -> None:
    """Remove the scratch folders of processes that are no more."""
    for folder in scratch.iterdir():
        if is_abandoned(folder):
            remove_tree(folder)


def is_abandoned(folder: Path) -> bool:
    """Tell whether the process that a scratch folder is named after is gone.

    Of a process of another machine, or of before a restart, that cannot be known: its folder stays until nothing was
    written there for a day.
    """
    boot, pid, started = (*folder.name.split("_"), "", "")[:3]
    if not pid.isdigit():
        return False
    if boot == boot_id():
        return not ProcessIdentity(boot_id=boot, pid=int(pid), started=started).is_alive()
    return idle_seconds(folder) > 86_400


def idle_seconds(folder: Path) -> float:
    """Return for how long nothing at or below a path was written."""
    times = [0.0]
    for path in itertools.chain([folder], regular_files(folder), map(Path, (root for root, _, _ in os.walk(folder)))):
        with suppress(FileNotFoundError):  # others are at work in this store
            times.append(path.lstat().st_mtime)
    return time.time() - max(times)


def remove_tree(folder: Path) -> None:
    """Delete a folder, read-only ones below it included."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
