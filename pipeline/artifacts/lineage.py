"""Machinery: where an artifact comes from: the tree down to the raw files and their licences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.store import Store
from pipeline.errors import MissingError
from pipeline.runtime.hashing import Page


@dataclass(frozen=True, kw_only=True)
class Node:
    """An artifact, its role in the one above, the sources it read itself, and what it was made from."""

    role: str
    reference: str
    digest: str
    summary: str
    sources: list[Page] = field(default_factory=list)
    inputs: list["Node"] = field(default_factory=list)


def trace(artifact: Artifact, store: Store, describe: Callable[[Artifact], str], role: str = "") -> Node:
    """Follow the inputs of `artifact`; one that is gone from the store is shown as missing, by its digest.

    `describe` says in a line what is in an artifact.
    """
    recipe = artifact.manifest.recipe
    inputs = []
    for name_role, name in sorted(recipe.inputs.items()):
        try:
            inputs.append(trace(store.find_input(name.kind, name.id, name.digest), store, describe, name_role))
        except MissingError:
            inputs.append(
                Node(role=name_role, reference=name.reference, digest=name.digest, summary="not in this store")
            )
    return Node(
        role=role,
        reference=artifact.reference,
        digest=artifact.digest,
        summary=describe(artifact),
        sources=[_source(source) for source in recipe.config.get("sources", [])],
        inputs=inputs,
    )


def _source(source: Page) -> Page:
    return {name: source[name] for name in ("name", "location", "sha256", "license", "attribution")}


def draw(node: Node) -> Iterator[str]:
    """Yield the lines of the tree; a branch that was already drawn is only named."""
    yield from _draw(node, "", "", set())


def _draw(node: Node, first: str, rest: str, seen: set[str]) -> Iterator[str]:
    kind, _, identity = node.reference.partition(":")
    label = f"{node.role}: " if node.role else ""
    again = node.reference in seen
    yield f"{first}{label}{kind}:{identity[:SHORT]}  {'(above)' if again else node.summary}"
    if again:
        return
    seen.add(node.reference)
    leaves: list[Node | Page] = [*node.sources, *node.inputs]
    for i, leaf in enumerate(leaves):
        last = i + 1 == len(leaves)
        branch, trunk = rest + ("└── " if last else "├── "), rest + ("    " if last else "│   ")
        if isinstance(leaf, Node):
            yield from _draw(leaf, branch, trunk, seen)
        else:
            yield f"{branch}{leaf['name']}: {leaf['location']}  sha256 {leaf['sha256'][:SHORT]}  [{leaf['license']}]"
            if leaf["attribution"]:
                yield f"{trunk}{leaf['attribution']}"
