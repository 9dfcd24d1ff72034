"""Machinery: find what nothing in a store needs any more, and remove it.

Needed are the artifacts that a name, an unfinished run, a draft being written or `keep` refers to, and everything these
were made from.  A victim is renamed into tmp/ before it is deleted, so that a crash leaves nothing half there.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.lease import LEASE, live_holder
from pipeline.artifacts.manifest import MANIFEST, InputName
from pipeline.artifacts.store import REQUEST, Store, idle_seconds, is_abandoned, remove_tree
from pipeline.errors import DataError, IntegrityError, UsageError
from pipeline.runtime.console import say
from pipeline.runtime.files import regular_files
from pipeline.runtime.hashing import JSON
from pipeline.runtime.liveness import ProcessIdentity

_DAY_SECONDS = 86_400.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a person wants removed, beyond artifacts that nothing refers to."""

    keep: tuple[str, ...] = ()
    """references that stay, with what they were made from"""
    grace_minutes: float = 10.0
    """what was published within so many minutes stays: its maker may be about to name or use it"""
    runs: bool = False
    """remove the work of dead runs too"""
    days: float = 1.0
    """of runs and sources, only what nobody wrote to for so many days"""
    quarantine: bool = False
    """remove damaged artifacts that were set aside"""
    sources: bool = False
    """remove fetched files that no manifest names"""


@dataclass(frozen=True, kw_only=True)
class Victim:
    """Something to remove: its paths go together."""

    what: str
    why: str
    bytes: int
    paths: tuple[Path, ...]

    def as_json(self) -> JSON:
        return {"what": self.what, "why": self.why, "bytes": self.bytes, "paths": [str(path) for path in self.paths]}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A store as it was looked at: what may go, what stays, and why nothing may be known to stay."""

    victims: tuple[Victim, ...]
    roots: frozenset[str]
    """`kind:id` of what a name, `keep` or unfinished work refers to, as far as it is in the store"""
    live: frozenset[str]
    """`kind:id` of the roots, of what is too young to judge, and of all these were made from"""
    spared: int
    """artifacts that stay only because they are young"""
    seen: frozenset[str]
    """`kind:id` of every artifact there was"""
    damaged: tuple[str, ...] = ()
    """`kind:id` of artifacts whose manifest cannot be read; they stay, for `repair` to look at"""

    @property
    def bytes(self) -> int:
        return sum(victim.bytes for victim in self.victims)


def survey(store: Store, choice: Choice, kinds: Iterable[str] = ()) -> Survey:
    """Look at the whole store and say what nothing needs; nothing is touched.

    `kinds` are those of our stages: in a folder of theirs, what has no manifest is damaged, and no folder of a user's.
    """
    index = _Index.read(store)
    roots = set(_roots(store, index, choice))
    young = index.young(choice.grace_minutes)
    live = index.closure({*roots, *young})
    dead = [reference for reference in sorted(index.artifacts) if reference not in live]
    return Survey(
        victims=(
            *(_dead_artifact(index.artifacts[reference], store) for reference in dead),
            *_dead_runs(store, choice),
            *_dead_scratch(store),
            *_lost_stamps(store),
            *(_quarantined(store, kinds) if choice.quarantine else ()),
            *(_unused_sources(store, index, live, choice.days) if choice.sources else ()),
        ),
        roots=frozenset(roots),
        live=frozenset(live),
        spared=len(live) - len(index.closure(roots)),
        seen=frozenset(index.artifacts),
        damaged=tuple(index.damaged),
    )


def collect(store: Store, choice: Choice, plan: Survey, *, everything: bool = False) -> tuple[Victim, ...]:
    """Remove the victims of `plan` and return those that went; what is needed by now stays.

    Raises UsageError when nothing in the store is referred to, so that all would go, unless `everything`; and
    IntegrityError when what an artifact was made from cannot be known, because its manifest is damaged.
    """
    dead = [victim for victim in plan.victims if victim.what in plan.seen]
    if dead and not plan.roots and not everything:
        raise UsageError(
            f"Nothing in {store.root} has a name, so all {len(dead)} artifacts would go. Give those you want a name "
            "(`python -m pipeline.artifacts tag REF NAME`), or list them with --keep, or say --all."
        )
    if dead and plan.damaged:
        raise IntegrityError(
            f"the manifest of {_short(plan.damaged[0])} is damaged, so it cannot be known what it needs. "
            f"Run `python -m pipeline.artifacts repair {_short(plan.damaged[0])}` first."
        )
    needed = _needed_by_now(store, choice, plan)
    gone = []
    for victim in sorted(plan.victims, key=lambda victim: not _is_scratch(victim)):  # the store sweeps these by itself
        if victim.what not in needed and _remove(victim, store):
            gone.append(victim)
    return tuple(gone)


def _needed_by_now(store: Store, choice: Choice, plan: Survey) -> set[str]:
    """Return what is needed now, also by what was published or begun since the store was looked at."""
    index = _Index.read(store)
    young = set(index.artifacts) - plan.seen
    return index.closure({*_roots(store, index, choice), *young})


def _remove(victim: Victim, store: Store) -> bool:
    """Rename a victim out of sight, then delete it; return whether it was still there to remove."""
    if _is_scratch(victim):
        for path in victim.paths:
            remove_tree(path)
        return True
    if any(_is_held(path) for path in victim.paths if path.parent == store.root / "runs"):
        say(f"{victim.what} was taken up again; it stays")
        return False
    with store.scratch() as aside:
        moved = [_move(path, aside / str(i)) for i, path in enumerate(victim.paths)]
    return any(moved)


def _move(path: Path, target: Path) -> bool:
    try:
        os.rename(path, target)
    except FileNotFoundError:  # somebody else removed it
        return False
    return True


# --- artifacts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Index:
    """Every artifact of a store, by reference, and the one that stands for given bytes."""

    artifacts: dict[str, Artifact]
    by_digest: dict[tuple[str, str], str]
    damaged: list[str]

    @classmethod
    def read(cls, store: Store) -> "_Index":
        index = cls({}, {}, [])
        for path in store.folders():
            reference = f"{path.parent.name}:{path.name}"
            try:
                artifact = store.open(path)
            except (IntegrityError, DataError):
                index.damaged.append(reference)
                continue
            except FileNotFoundError:  # removed since it was listed
                continue
            index.artifacts[reference] = artifact
            index.by_digest.setdefault((artifact.kind, artifact.digest), reference)
        return index

    def resolve(self, name: InputName) -> str | None:
        """Return the artifact that `Store.find_input` opens for an input, or None."""
        artifact = self.artifacts.get(name.reference)
        if artifact is not None and artifact.digest == name.digest:
            return name.reference
        return self.by_digest.get((name.kind, name.digest))

    def young(self, minutes: float) -> set[str]:
        """Return the artifacts that were published within so many minutes."""
        manifests = {reference: artifact.path / MANIFEST for reference, artifact in self.artifacts.items()}
        return {reference for reference, path in manifests.items() if idle_seconds(path) < 60 * minutes}

    def closure(self, roots: Iterable[str]) -> set[str]:
        """Return the roots and everything they were made from, as far as it is here."""
        live: set[str] = set()
        waiting = list(roots)
        while waiting:
            reference = waiting.pop()
            if reference in live or reference not in self.artifacts:
                continue
            live.add(reference)
            inputs = self.artifacts[reference].manifest.recipe.inputs.values()
            waiting.extend(found for name in inputs if (found := self.resolve(name)))
        return live


def _roots(store: Store, index: _Index, choice: Choice) -> Iterator[str]:
    yield from (reference for reference in store.refs().values() if reference in index.artifacts)
    for kept in choice.keep:
        artifact = store.find(kept)
        if artifact.reference in index.artifacts:
            yield artifact.reference
    dead = {path for victim in _dead_runs(store, choice) for path in victim.paths}
    unfinished = [path for path in _folders(store.root / "runs") if path not in dead]
    drafts = [path for path in _folders(store.root / "tmp") if not is_abandoned(path)]
    for folder in (*unfinished, *drafts):
        yield from _needs_of(folder, index)


def _needs_of(folder: Path, index: _Index) -> Iterator[str]:
    """Yield the inputs of the work in a folder, and what it is just publishing; nothing when it does not say."""
    try:
        page = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    names = [InputName(**name) for name in page["recipe"]["inputs"].values()]
    found = (f"{page['kind']}:{page['id']}", *map(index.resolve, names))
    yield from (reference for reference in found if reference in index.artifacts)


def _dead_artifact(artifact: Artifact, store: Store) -> Victim:
    stamps = store.root / "stamps" / f"{artifact.kind}-{artifact.id}.json"
    why = "no name, run or other artifact that stays needs it"
    return _victim(artifact.reference, why, artifact.path, *([stamps] if stamps.exists() else []))


# --- runs, scratch and the rest ------------------------------------------------------------------------------


def _dead_runs(store: Store, choice: Choice) -> Iterator[Victim]:
    published = {path.name for path in store.folders()}
    for folder in _folders(store.root / "runs"):
        if _is_held(folder):
            continue
        if folder.name.startswith("."):
            yield _victim(f"run {folder.name}", "was being removed when its process died", folder)
        elif folder.name in published:
            yield _victim(f"run {folder.name[:SHORT]}", "its artifact is published", folder)
        elif choice.runs and (days := _idle_days(folder)) >= choice.days:
            yield _victim(f"run {folder.name[:SHORT]}", f"unfinished, and nobody is at it for {days:.1f} days", folder)


def _is_held(folder: Path) -> bool:
    """Tell whether a process of this machine writes in a run folder: by its lease, or as a holder of its parts."""
    leases = [path.parent for path in regular_files(folder) if path.name == LEASE]
    holders = [path.name for path in folder.glob("*/holders/*")]
    return any(live_holder(path) is not None for path in leases) or any(map(_is_alive, holders))


def _is_alive(name: str) -> bool:
    """Tell whether the process that a file or folder is named after, boot_pid_start…, still runs."""
    boot, pid, start = (*name.split("_"), "", "")[:3]
    return pid.isdigit() and ProcessIdentity(boot_id=boot, pid=int(pid), started=start).is_alive()


def _idle_days(path: Path) -> float:
    return idle_seconds(path) / _DAY_SECONDS


def _dead_scratch(store: Store) -> Iterator[Victim]:
    for folder in _folders(store.root / "tmp"):
        if is_abandoned(folder):
            yield _victim(f"scratch of process {folder.name.split('_')[1]}", "the process is no more", folder)


def _is_scratch(victim: Victim) -> bool:
    return all(path.parent.name == "tmp" for path in victim.paths)


def _lost_stamps(store: Store) -> Iterator[Victim]:
    present = {f"{path.parent.name}-{path.name}.json" for path in store.folders()}
    lost = [path for path in sorted((store.root / "stamps").glob("*.json")) if path.name not in present]
    if lost:
        yield _victim(f"{len(lost)} stamps", "what they vouch for is gone", *lost)


def _quarantined(store: Store, kinds: Iterable[str]) -> Iterator[Victim]:
    for folder in _folders(store.root / "quarantine"):
        yield _victim(f"quarantine/{folder.name[:40]}", "damaged, and set aside", folder)
    for folder in (path for kind in kinds for path in _folders(store.root / kind) if not (path / MANIFEST).exists()):
        yield _victim(f"{folder.parent.name}:{folder.name}", "it lost its manifest: nothing can vouch for it", folder)


def _unused_sources(store: Store, index: _Index, live: set[str], days: float) -> Iterator[Victim]:
    """Yield fetched files whose SHA-256, which they are named by, is in no manifest and no unfinished request."""
    pages = [json.dumps(index.artifacts[reference].manifest.recipe.config) for reference in sorted(live)]
    pages += [path.read_text(encoding="utf-8") for path in _requests(store)]
    named = {found for page in pages for found in _SHA256.findall(page)}
    for path in sorted((store.root / "sources").glob("*")):
        found = _SHA256.match(path.name)
        if found is not None and found.group() not in named and _idle_days(path) >= days:
            yield _victim(f"source {path.name[:SHORT]}{path.suffix}", "no manifest that stays names it", path)


def _requests(store: Store) -> list[Path]:
    return [path for name in ("runs", "tmp") for path in sorted((store.root / name).glob(f"*/{REQUEST}"))]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir() and not path.is_symlink())


def _victim(what: str, why: str, *paths: Path) -> Victim:
    return Victim(what=what, why=why, bytes=sum(map(size_of, paths)), paths=paths)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    size = 0
    for file in regular_files(path) if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(FileNotFoundError):  # others are at work in this store
            size += file.lstat().st_size
    return size


# --- for a person --------------------------------------------------------------------------------------------


def victim_lines(victims: Iterable[Victim]) -> Iterator[str]:
    """Yield a line for each victim: what, bytes, why."""
    for victim in victims:
        yield f"{_short(victim.what):<32} {victim.bytes:>16,}  {victim.why}"


def _short(what: str) -> str:
    return _SHA256.sub(lambda found: found.group()[:SHORT], what)
