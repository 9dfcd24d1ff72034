"""Machinery: how two artifacts differ: what was asked, the files, the facts, and what is in them."""

import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.manifest import Asked, Manifest
from pipeline.errors import UsageError
from pipeline.runtime.hashing import JSON, Page
from pipeline.tables.rejects import EXCERPT

_EXAMPLES = 5
_IDS_AT_ONCE = 2**20
"""documents whose identifiers are in memory at a time: about 250 MB"""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Payload files by path; a changed one with its size before and after."""

    added: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    changed: dict[str, tuple[int, int]] = field(default_factory=dict)
    same: int = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the artifact `after` differs from `before`."""

    before: str
    after: str
    equal: bool
    """the same digest: the same bytes and facts"""
    recipe: list[str]
    files: Files
    facts: list[str]
    counts: list[str]
    content: Page


def compare(before: Artifact, after: Artifact) -> Difference:
    """Compare two artifacts of one kind; files are read only where their manifests differ.

    Raises UsageError when they are of different kinds.
    """
    if before.kind != after.kind:
        raise UsageError(f"{before.short} and {after.short} are of different kinds: there is nothing to compare.")
    old, new = before.manifest, after.manifest
    equal = old.digest == new.digest
    return Difference(
        before=before.reference,
        after=after.reference,
        equal=equal,
        recipe=differences(old.recipe, new.recipe),
        files=_files(old, new),
        facts=list(changed_fields(old.facts, new.facts, "facts")),
        counts=list(changed_fields(old.counts, new.counts, "counts")),
        content={} if equal else _content(before, after),
    )


def _files(old: Manifest, new: Manifest) -> Files:
    before, after = ({entry.path: entry for entry in manifest.files} for manifest in (old, new))
    both = sorted(before.keys() & after.keys())
    changed = [path for path in both if before[path].sha256 != after[path].sha256]
    return Files(
        added={path: after[path].size for path in sorted(after.keys() - before.keys())},
        removed={path: before[path].size for path in sorted(before.keys() - after.keys())},
        changed={path: (before[path].size, after[path].size) for path in changed},
        same=len(both) - len(changed),
    )


def _content(before: Artifact, after: Artifact) -> Page:
    match before.kind:
        case "corpus":
            return _documents(before, after)
        case "tokenizer":
            return _vocabulary(before.read_json("tokenizer.json"), after.read_json("tokenizer.json"))
        case "shards":
            return _tokens(before.facts, after.facts)
    return {}


# --- corpora -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Document:
    """A document by its place in a corpus."""

    artifact: Artifact
    file: int
    row: int
    split: str
    bytes: int


def _documents(before: Artifact, after: Artifact) -> Page:
    """Count the documents that came, went and changed their split; identifiers are compared a slice at a time.

    A document is its text: equal texts are one.
    """
    total = sum(before.facts["documents"].values()) + sum(after.facts["documents"].values())
    slices = -(-total // _IDS_AT_ONCE) or 1
    came, went, moved, same = _Side(), _Side(), 0, 0
    for turn in range(slices):
        old, new = (_identifiers(artifact, turn, slices) for artifact in (before, after))
        came.take(new[name] for name in new.keys() - old.keys())
        went.take(old[name] for name in old.keys() - new.keys())
        both = old.keys() & new.keys()
        changed = sum(old[name].split != new[name].split for name in both)
        moved, same = moved + changed, same + len(both) - changed
    return {"added": came.as_json(), "removed": went.as_json(), "moved": moved, "same": same}


@dataclass
class _Side:
    """What only one of two corpora holds."""

    documents: int = 0
    bytes: int = 0
    first: list[_Document] = field(default_factory=list)

    def take(self, found: Iterator[_Document]) -> None:
        """Count these documents, and keep the first ones of the corpus."""
        for document in found:
            self.documents += 1
            self.bytes += document.bytes
            self.first.append(document)
            if len(self.first) > 1000:
                self._cut()
        self._cut()

    def _cut(self) -> None:
        self.first = heapq.nsmallest(_EXAMPLES, self.first, key=lambda document: (document.file, document.row))

    def as_json(self) -> JSON:
        return {"documents": self.documents, "bytes": self.bytes, "examples": [_example(d) for d in self.first]}


def _split_files(artifact: Artifact) -> list[Path]:
    return [path for path in artifact.files() if path.suffix == ".arrow" and not path.name.startswith("rejects-")]


def _identifiers(artifact: Artifact, turn: int, slices: int) -> dict[bytes, _Document]:
    """Return the documents in slice `turn` of `slices`, by the first 16 bytes of their SHA-256."""
    import pyarrow.compute as pc

    from pipeline.tables.arrow import read_batch

    found: dict[bytes, _Document] = {}
    for file, path in enumerate(_split_files(artifact)):
        batch = read_batch(path)
        split = path.name.partition("-")[0]
        sizes = pc.binary_length(batch.column("text")).to_pylist()
        for row, name in enumerate(batch.column("id").to_pylist()):
            if int(name[:8], 16) % slices == turn:
                found.setdefault(bytes.fromhex(name), _Document(artifact, file, row, split, sizes[row]))
    return found


def _example(document: _Document) -> JSON:
    from pipeline.tables.arrow import read_batch

    path = _split_files(document.artifact)[document.file]
    row = read_batch(path).slice(document.row, 1).to_pylist()[0]
    return {"id": row["id"], "split": document.split, "source": row["source"], "excerpt": row["text"][:EXCERPT]}


# --- tokenizers and shards -----------------------------------------------------------------------------------


def _vocabulary(before: Page, after: Page) -> Page:
    """Compare what two byte-level BPE learned: merges in order, because an encoder applies them in order."""
    old, new = before["model"]["vocab"], after["model"]["vocab"]
    old_merges, new_merges = (
        [merge if isinstance(merge, str) else " ".join(merge) for merge in page["model"]["merges"]]
        for page in (before, after)
    )
    pairs = enumerate(zip(old_merges, new_merges, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(old_merges), len(new_merges)))
    was, now = ({key: value for key, value in page.items() if key != "model"} for page in (before, after))
    return {
        "vocabulary": {"before": len(old), "after": len(new), "shared": len(old.keys() & new.keys())},
        "same_id": sum(new.get(token) == number for token, number in old.items()),
        "merges": {
            "before": len(old_merges),
            "after": len(new_merges),
            "shared": len(set(old_merges) & set(new_merges)),
            "equal_from_start": first,
        },
        "first_different_merge": None
        if old_merges == new_merges
        else {"number": first, "before": old_merges[first : first + 1], "after": new_merges[first : first + 1]},
        "settings": list(changed_fields(was, now, "tokenizer.json")),
    }


def _tokens(before: Page, after: Page) -> Page:
    splits = sorted(before["tokens"].keys() | after["tokens"].keys())
    return {
        "tokens": {split: [before["tokens"].get(split, 0), after["tokens"].get(split, 0)] for split in splits},
        "total": [sum(facts["tokens"].values()) for facts in (before, after)],
        "same_tokenizer": before.get("tokenizer_digest") == after.get("tokenizer_digest"),
    }


# --- for a person --------------------------------------------------------------------------------------------


def lines(difference: Difference) -> Iterator[str]:
    """Yield the difference as a person reads it: - what was, + what is."""
    yield f"- {difference.before}\n+ {difference.after}"
    if difference.equal:
        yield "equal: the same bytes and facts" + (", asked for differently:" if difference.recipe else "")
    for title, changes in (
        ("recipe", difference.recipe),
        ("facts", difference.facts),
        ("counts", difference.counts),
        ("files", list(_file_lines(difference.files))),
        ("content", list(_content_lines(difference.content))),
    ):
        if changes and not (difference.equal and title == "files"):
            yield f"{title}:"
            yield from (f"  {line}" for line in changes)


def _file_lines(files: Files) -> Iterator[str]:
    yield from (f"- {path}  {size:,} bytes" for path, size in files.removed.items())
    yield from (f"+ {path}  {size:,} bytes" for path, size in files.added.items())
    yield from (f"~ {path}  {old:,} -> {new:,} bytes" for path, (old, new) in files.changed.items())
    yield f"= {files.same} files are the same"


def _content_lines(content: Page) -> Iterator[str]:
    for key, value in content.items():
        if key in ("added", "removed"):
            sign = "+" if key == "added" else "-"
            yield f"{sign} {value['documents']:,} documents {key}, {value['bytes']:,} bytes"
            for example in value["examples"]:
                name, text = example["id"][:SHORT], _on_one_line(example["excerpt"])
                yield f"{sign}   {name} {example['split']:<10} {example['source']}: {text}"
        elif key == "moved":
            yield f"~ {value:,} documents moved to another split"
        elif key == "same":
            yield f"= {value:,} documents are the same"
        elif key == "settings":
            yield from value
        else:
            yield f"{key.replace('_', ' ')}: {json.dumps(value, ensure_ascii=False)}"


def _on_one_line(text: str, width: int = 80) -> str:
    """Return the start of a text without what could steer a terminal."""
    flat = "".join(letter if letter.isprintable() else " " for letter in text)
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def as_json(difference: Difference) -> JSON:
    """Return the difference as what JSON holds."""
    return asdict(difference)


# --- what was asked ------------------------------------------------------------------------------------------


def differences(before: Asked, after: Asked) -> list[str]:
    """Say, field by field, what is asked for now that was not asked for before."""
    lines = []
    if (before.stage, before.stage_version) != (after.stage, after.stage_version):
        lines.append(f"stage {before.stage} {before.stage_version} -> {after.stage} {after.stage_version}")
    for role in sorted(set(before.inputs) | set(after.inputs)):
        old, new = before.inputs.get(role), after.inputs.get(role)
        if (old and old.digest) != (new and new.digest):
            lines.append(
                f"input {role} changed ({old.id[:SHORT] if old else 'none'} -> {new.id[:SHORT] if new else 'none'})"
            )
    lines.extend(changed_fields(before.config, after.config, "config"))
    lines.extend(changed_fields(before.toolchain, after.toolchain, "toolchain"))
    return lines


def changed_fields(before: JSON, after: JSON, where: str) -> Iterator[str]:
    """Yield a line for each place where two JSON values differ; `where` names the whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            if key in before and key in after:
                yield from changed_fields(before[key], after[key], f"{where}.{key}")
            else:
                verb, value = ("is new", after[key]) if key in after else ("is no more", before[key])
                yield f"{where}.{key} {verb} ({_brief(value)})"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from changed_fields(old, new, f"{where}[{i}]")
    elif before != after:
        yield f"{where} changed ({_brief(before)} -> {_brief(after)})"


def _brief(value: JSON) -> str:
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
