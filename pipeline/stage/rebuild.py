"""Machinery: make an artifact again from what its manifest says, and compare."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.diff import differences
from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, IntegrityError
from pipeline.runtime.hashing import Page
from pipeline.stage.definition import Stage, stage_modules, stage_of
from pipeline.stage.execution import execute
from pipeline.stage.planning import older_version, request_of

Verdict = Literal["MATCH", "MISMATCH", "DOMAIN DIFFERS", "VERSION DIFFERS"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What making an artifact again showed."""

    reference: str
    verdict: Verdict
    detail: str


def reproduce(artifact: Artifact, store: Store, overrides: Page) -> Comparison:
    """Rebuild `artifact` aside and compare digests; the store keeps nothing of it.

    `overrides` replaces fields of the stage's Execution, which must not change a byte of class "bytes".
    """
    manifest = artifact.manifest
    if manifest.recipe.stage not in stage_modules():
        detail = f"made by {manifest.recipe.stage}, which is no stage of this project"
        return Comparison(reference=artifact.reference, verdict="VERSION DIFFERS", detail=detail)
    stage = stage_of(manifest.recipe.stage)
    if older := older_version(stage, artifact):
        return Comparison(reference=artifact.reference, verdict="VERSION DIFFERS", detail=f"stale: {older}")
    request, config, inputs = request_of(stage, artifact, store)
    if request.id != manifest.id:
        changed = "; ".join(differences(manifest.recipe, request.recipe))
        return Comparison(reference=artifact.reference, verdict="VERSION DIFFERS", detail=changed)
    with store.scratch() as scratch:
        aside = AsideStore(scratch / "store", store)
        rebuilt = execute(stage, aside, request, config, execution_of(stage, manifest, overrides), inputs)
        assert rebuilt is not None, "only a launch with several processes has none"
        return _compare(artifact, rebuilt.manifest)


class AsideStore(Store):
    """A store that publishes into a folder of its own and fetches sources through the real one."""

    def __init__(self, root: Path, real: Store) -> None:
        super().__init__(root)
        root.mkdir(parents=True)
        (root / "sources").symlink_to((real.root / "sources").absolute())
        (real.root / "sources").mkdir(parents=True, exist_ok=True)


def execution_of(stage: Stage[Any, Any], manifest: Manifest, overrides: Page) -> Any:
    """Return the Execution that stays in the manifest's determinism domain where a field of it can choose."""
    names = {field.name for field in dataclasses.fields(stage.execution)}
    if unknown := set(overrides) - names:
        raise ConfigError(f"{stage.module} has no {sorted(unknown)[0]!r} to set; it has {', '.join(sorted(names))}.")
    domain = {key: value for key, value in manifest.determinism.domain.items() if key in names}
    return stage.execution(**{**domain, **overrides})


def _compare(artifact: Artifact, rebuilt: Manifest) -> Comparison:
    before = artifact.manifest
    if before.digest == rebuilt.digest:
        return Comparison(reference=artifact.reference, verdict="MATCH", detail=f"digest {rebuilt.digest}")
    if before.determinism.domain != rebuilt.determinism.domain:
        detail = f"made in {before.determinism.domain}, rebuilt in {rebuilt.determinism.domain}"
        return Comparison(reference=artifact.reference, verdict="DOMAIN DIFFERS", detail=detail)
    return Comparison(reference=artifact.reference, verdict="MISMATCH", detail=_first_difference(before, rebuilt))


def _first_difference(before: Manifest, after: Manifest) -> str:
    old = {entry.path: entry.sha256 for entry in before.files}
    new = {entry.path: entry.sha256 for entry in after.files}
    for path in sorted(set(old) | set(new)):
        if old.get(path) != new.get(path):
            return f"first difference in {path}: sha256 {old.get(path, 'absent')} before, {new.get(path, 'absent')} now"
    changed = sorted(
        key for key in before.facts.keys() | after.facts.keys() if before.facts.get(key) != after.facts.get(key)
    )
    return f"the files are equal, the facts {', '.join(changed)} differ"


def repair(kind: str, identity: str, store: Store) -> tuple[Artifact, Path | None]:
    """Move a damaged artifact to quarantine and build it again; return it and where the damaged one is.

    An artifact that is whole stays as it is.  Raises IntegrityError when what comes out has another digest than the
    manifest states: then what was made from it cannot be vouched for; and when the manifest itself is damaged: then it
    does not say how to build it, and it is only moved away.
    """
    try:
        artifact = store.open(store.place(kind, identity))
    except IntegrityError:
        moved = store.quarantine(kind, identity)
        raise IntegrityError(
            f"the manifest of {kind}:{identity[:SHORT]} is damaged and no longer says how it was made; "
            f"it is now {moved}. Run the recipe or command that made it again: it gets the same name."
        ) from None
    try:
        artifact.verify(rehash=True)
        return artifact, None
    except IntegrityError:
        pass
    stage = stage_of(artifact.manifest.recipe.stage)
    if older := older_version(stage, artifact):
        raise IntegrityError(f"{artifact.short} cannot be built again as it was: stale: {older}. It stays where it is.")
    request, config, inputs = request_of(stage, artifact, store)
    if request.id != identity:
        changed = "; ".join(differences(artifact.manifest.recipe, request.recipe))
        raise IntegrityError(f"{artifact.short} cannot be built again as it was: {changed}. It stays where it is.")
    moved = store.quarantine(kind, identity)
    rebuilt = execute(stage, store, request, config, execution_of(stage, artifact.manifest, {}), inputs)
    if rebuilt is None or rebuilt.digest != artifact.digest:
        raise IntegrityError(
            f"{artifact.short} was built again with another digest: it was made in "
            f"{artifact.manifest.determinism.domain}. What was made from the old one has to be made again too."
        )
    return rebuilt, moved
