"""Program: look at, check, trace, compare, rebuild, name and remove the artifacts of a store.

python -m pipeline.artifacts list
python -m pipeline.artifacts lineage REF
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, subcommand

from pipeline.artifacts import diff
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.gc import Choice, collect, survey, victim_lines
from pipeline.artifacts.identity import SHORT, shorten
from pipeline.artifacts.lineage import draw, trace
from pipeline.artifacts.store import Store
from pipeline.errors import IntegrityError, MissingError
from pipeline.runtime.console import say
from pipeline.runtime.hashing import JSON, Page
from pipeline.runtime.program import default_store, program
from pipeline.stage.definition import describe, next_commands, stages_by_kind
from pipeline.stage.rebuild import repair, reproduce


@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags that every verb has."""

    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    json: bool = False
    """print the result as JSON"""
    debug: bool = False
    """show a traceback when something fails"""

    def open_store(self) -> Store:
        return Store(self.store.expanduser())


@dataclass(frozen=True, kw_only=True)
class List(Common):
    """List the published artifacts."""

    kind: str | None = None
    """only this kind"""


@dataclass(frozen=True, kw_only=True)
class Show(Common):
    """Show what an artifact is, how it was made, and what is in it."""

    ref: Positional[str]
    """kind:id, a given name, or a path"""


@dataclass(frozen=True, kw_only=True)
class Lineage(Common):
    """Print the tree of an artifact down to the raw files and their licences."""

    ref: Positional[str]
    """kind:id, a given name, or a path"""


@dataclass(frozen=True, kw_only=True)
class Verify(Common):
    """Hash every payload file again and compare with the manifest."""

    refs: Positional[tuple[str, ...]] = ()
    """kind:id, given names, or paths; none: everything in the store"""


@dataclass(frozen=True, kw_only=True)
class Reproduce(Common):
    """Build artifacts again, aside, and compare: MATCH, MISMATCH, DOMAIN DIFFERS or VERSION DIFFERS."""

    refs: Positional[tuple[str, ...]] = ()
    """kind:id, given names, or paths; none: everything in the store"""
    workers: int | None = None
    """processes to use instead of the default"""
    engine: Literal["local", "ray"] | None = None
    """where they run, for stages that can choose"""


@dataclass(frozen=True, kw_only=True)
class Repair(Common):
    """Move a damaged artifact to quarantine and build it again."""

    ref: Positional[str]
    """kind:id or a given name"""


@dataclass(frozen=True, kw_only=True)
class Tag(Common):
    """Give an artifact a name."""

    ref: Positional[str]
    """kind:id, a given name, or a path"""
    name: Positional[str]
    """the name; if it was another's, it is this one's now"""


@dataclass(frozen=True, kw_only=True)
class Diff(Common):
    """Say how two artifacts differ: recipe, files, facts, content. Exit code 0: equal bytes; 1: they differ."""

    before: Positional[str]
    """kind:id, a given name, or a path"""
    after: Positional[str]
    """another of the same kind"""


@dataclass(frozen=True, kw_only=True)
class Collect(Common, Choice):
    """List what nothing needs: no name, no unfinished run, no artifact that stays. --delete removes it."""

    delete: bool = False
    """remove what is listed; without it nothing is touched"""
    all: bool = False
    """with --delete: go on even if nothing has a name, so that every artifact goes"""


Command = (
    Annotated[List, subcommand("list")]
    | Annotated[Show, subcommand("show")]
    | Annotated[Lineage, subcommand("lineage")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Repair, subcommand("repair")]
    | Annotated[Tag, subcommand("tag")]
    | Annotated[Diff, subcommand("diff")]
    | Annotated[Collect, subcommand("gc")]
)


def run(command: Common) -> int:
    """Do what a verb says."""
    store = command.open_store()
    match command:
        case List():
            return _list(command, store)
        case Show():
            return _show(command, store)
        case Lineage():
            return _lineage(command, store)
        case Verify():
            return _verify(command, store)
        case Reproduce():
            return _reproduce(command, store)
        case Repair():
            return _repair(command, store)
        case Tag():
            return _tag(command, store)
        case Diff():
            return _diff(command, store)
        case Collect():
            return _collect(command, store)
    raise AssertionError(command)


def _print(command: Common, page: JSON, lines: Iterator[str]) -> int:
    print(json.dumps(page, indent=2, sort_keys=True) if command.json else "\n".join(lines))
    return 0


def _list(command: List, store: Store) -> int:
    kinds = dict.fromkeys([*stages_by_kind(), *(path.parent.name for path in store.folders())])
    if command.kind is not None and command.kind not in kinds:
        raise MissingError(f"there is no kind {command.kind!r}; the kinds are {', '.join(kinds)}.")
    names = {target: name for name, target in store.refs().items()}
    rows = [_row(path, names, store) for path in store.folders(command.kind)]

    def lines() -> Iterator[str]:
        for row in rows:
            yield f"{shorten(row['reference']):<24} {row['name'] or '':<24} {row['summary']}"
        if not rows:
            yield f"nothing is published in {store.root}"

    return _print(command, rows, lines())


def _row(path: Path, names: dict[str, str], store: Store) -> Page:
    """Describe an artifact in a row of the list; a damaged manifest must not hide the others."""
    reference = f"{path.parent.name}:{path.name}"
    row: Page = {"reference": reference, "name": names.get(reference), "digest": None}
    try:
        artifact = store.open(path)
    except IntegrityError:
        return {**row, "summary": "its manifest is damaged: repair it"}
    return {**row, "digest": artifact.digest, "summary": describe(artifact)}


def _show(command: Show, store: Store) -> int:
    artifact = store.find(command.ref)
    provenance = _provenance(artifact)
    page = {"path": str(artifact.path), "manifest": artifact.manifest.as_json(), "provenance": provenance}

    def lines() -> Iterator[str]:
        manifest = artifact.manifest
        yield f"{artifact.reference}\n  {describe(artifact)}\n  digest  {artifact.digest}\n  path    {artifact.path}"
        when = f", {provenance['started']}" if provenance else ""
        yield f"  made by {manifest.recipe.stage} (version {manifest.recipe.stage_version}){when}"
        for title, table in (
            ("config", manifest.recipe.config),
            ("facts", manifest.facts),
            ("counts", manifest.counts),
        ):
            yield f"{title}:"
            yield from (f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(table.items()))
        yield "files:"
        yield from (f"  {entry.sha256[:SHORT]} {entry.size:>12,}  {entry.path}" for entry in manifest.files)
        yield from (f"next: {line}" for line in next_commands(artifact))

    return _print(command, page, lines())


def _provenance(artifact: Artifact) -> Page | None:
    """Read how an artifact was made; null without the record, on which nothing may depend."""
    path = artifact.record / "provenance.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _lineage(command: Lineage, store: Store) -> int:
    tree = trace(store.find(command.ref), store, describe)
    return _print(command, asdict(tree), draw(tree))


def _verify(command: Verify, store: Store) -> int:
    artifacts = [store.find(ref) for ref in command.refs]
    rows: list[Page] = []
    worst: IntegrityError | None = None
    for path in [a.path for a in artifacts] if command.refs else store.folders():
        started = time.monotonic()
        try:
            artifact = store.open(path)
            size = artifact.verify(rehash=True)
            rows.append({"reference": artifact.reference, "ok": True, "bytes": size})
            speed = size / 1e6 / max(1e-9, time.monotonic() - started)
            say(f"{artifact.short} is intact: {size:,} bytes, {speed:,.0f} MB/s")
        except IntegrityError as error:
            rows.append({"reference": f"{path.parent.name}:{path.name}", "ok": False, "error": str(error)})
            say(f"error: {error}")
            worst = error
    bad = sum(not row["ok"] for row in rows)
    _print(command, rows, iter([f"{len(rows) - bad} intact, {bad} damaged"]))
    return worst.exit_code if worst else 0


def _reproduce(command: Reproduce, store: Store) -> int:
    chosen: Page = {"workers": command.workers, "engine": command.engine}
    overrides = {name: value for name, value in chosen.items() if value is not None}
    results = []
    for artifact in [store.find(ref) for ref in command.refs] or [store.open(path) for path in store.folders()]:
        artifact.verify(rehash=True)
        result = reproduce(artifact, store, overrides)
        results.append(result)
        if not command.json:
            print(f"{result.verdict:<16} {artifact.short}  {result.detail}", flush=True)
    if command.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    return IntegrityError.exit_code if any(result.verdict == "MISMATCH" for result in results) else 0


def _repair(command: Repair, store: Store) -> int:
    kind, identity = _place_of(command.ref, store)
    artifact, moved = repair(kind, identity, store)
    say(
        f"{artifact.short} was intact"
        if moved is None
        else f"{artifact.short} is whole again; the damaged one is {moved}"
    )
    page = {"reference": artifact.reference, "digest": artifact.digest, "quarantine": str(moved) if moved else None}
    return _print(command, page, iter([artifact.reference]))


def _place_of(reference: str, store: Store) -> tuple[str, str]:
    """Find an artifact by its folder alone, because its manifest may be damaged."""
    kind, _, prefix = store.refs().get(reference, reference).partition(":")
    found = [path for path in store.folders(kind or None) if prefix and path.name.startswith(prefix)]
    if len(found) != 1:
        artifact: Artifact = store.find(reference)  # says which candidates there are
        return artifact.kind, artifact.id
    return found[0].parent.name, found[0].name


def _tag(command: Tag, store: Store) -> int:
    artifact = store.find(command.ref)
    if store.get(artifact.kind, artifact.id) is None:
        raise MissingError(f"{artifact.path} is not in the store {store.root}, and only what is in it can have a name.")
    store.tag(command.name, artifact)
    return _print(command, {"name": command.name, "reference": artifact.reference}, iter([artifact.reference]))


def _diff(command: Diff, store: Store) -> int:
    found = diff.compare(store.find(command.before), store.find(command.after))
    _print(command, diff.as_json(found), diff.lines(found))
    return 0 if found.equal else 1


def _collect(command: Collect, store: Store) -> int:
    plan = survey(store, command, stages_by_kind())
    shown = collect(store, command, plan, everything=command.all) if command.delete else plan.victims
    size = sum(victim.bytes for victim in shown)
    page: Page = {
        "deleted": command.delete,
        "bytes": size,
        "young": plan.spared,
        "victims": [victim.as_json() for victim in shown],
    }
    what = "freed" if command.delete else "would be freed; nothing was touched, --delete removes it"
    lines = [*victim_lines(shown), f"{size:,} bytes in {len(shown)} places {what}"]
    if plan.spared:
        lines.append(f"{plan.spared} artifacts stay for now, because they are young (--grace-minutes)")
    return _print(command, page, iter(lines))


def main(argv: Sequence[str] | None = None) -> int:
    return program("pipeline.artifacts", __doc__, Command, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
