"""What the README says of the bytes on disk: a reader written from that page alone, which imports nothing of ours."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def H(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read an artifact as the page says, and check everything that it says can be checked."""
    data = (folder / "manifest.json").read_bytes()
    page: dict[str, Any] = json.loads(data)
    asked = page["recipe"]
    inputs = {role: name["digest"] for role, name in asked["inputs"].items()}
    versions = {name: page[name] for name in ("kind", "kind_version")}
    rest = {name: asked[name] for name in ("stage", "stage_version", "config", "toolchain")}
    files = sorted(page["files"], key=lambda file: file["path"])
    found = {path.relative_to(folder / "payload").as_posix(): path for path in (folder / "payload").rglob("*")}

    assert data == canonical(page) + b"\n"
    assert (page["id"], folder.name) == (H({**versions, **rest, "inputs": inputs}), page["id"])
    assert page["digest"] == H({"files": files, "facts": page["facts"]})
    assert sorted(found) == [file["path"] for file in files]
    for file in files:
        content = found[file["path"]].read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    return page


def read_stream(folder: Path, page: dict[str, Any], split: str) -> list[int]:
    """Return the tokens of a split from the values buffers alone."""
    tokens: list[int] = []
    index = json.loads((folder / "payload" / "index.json").read_text(encoding="utf-8"))
    for name, count, documents in index[split]:
        data = (folder / "payload" / name).read_bytes()
        reader = pa.ipc.open_file(pa.BufferReader(data))
        batch = reader.get_batch(0)
        column = batch.column("input_ids")
        stream = np.frombuffer(
            column.buffers()[-1], dtype=np.dtype(page["facts"]["dtype"]).newbyteorder("<"), count=count
        )
        assert (data[:6], reader.num_record_batches, len(batch)) == (b"ARROW1", 1, documents)
        assert [int(row[-1].as_py()) for row in column] == [page["facts"]["end_of_text"]] * documents
        tokens += stream.tolist()
    return tokens


@pytest.mark.parametrize("kind", ["corpus", "tokenizer", "shards"])
def test_a_manifest_is_what_the_page_says(shared_chain: Any, kind: str) -> None:
    artifact = getattr(shared_chain, kind)

    assert read_manifest(artifact.path)["kind"] == kind
    assert json.loads((artifact.path / "manifest.json").read_text())["format_version"] == 1


def test_the_values_buffers_of_shards_are_the_token_stream(shared_chain: Any) -> None:
    folder = shared_chain.shards.path
    page = read_manifest(folder)

    for split, count in page["facts"]["tokens"].items():
        tokens = read_stream(folder, page, split)
        assert (len(tokens), max(tokens) < page["facts"]["vocab_size"]) == (count, True)
