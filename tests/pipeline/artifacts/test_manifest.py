"""The manifest is the page it was, or it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import content_digest
from pipeline.artifacts.manifest import MANIFEST, inputs_of, numbered, read_manifest, role_of
from pipeline.artifacts.store import Store
from pipeline.errors import DataError, IntegrityError


@pytest.fixture
def artifact(publish: Callable[..., Artifact], tmp_path: Path) -> Artifact:
    return publish(Store(tmp_path / "store"), {"a.txt": "hello"}, {"n": 1})


def rewrite(artifact: Artifact, change: Callable[[Any], None]) -> None:
    path = artifact.path / MANIFEST
    page = json.loads(path.read_text())
    change(page)
    path.write_text(json.dumps(page))


def test_a_manifest_that_is_read_again_says_the_same(artifact: Artifact) -> None:
    assert read_manifest(artifact.path) == artifact.manifest


def test_the_page_has_the_fields_of_format_version_1_and_no_others(artifact: Artifact) -> None:
    page = json.loads((artifact.path / MANIFEST).read_text())

    assert sorted(page) == sorted(
        "format_version kind kind_version id digest recipe files facts counts determinism licenses".split()
    )
    assert sorted(page["recipe"]) == ["config", "inputs", "stage", "stage_version", "toolchain"]
    assert page["determinism"] == {"class": "bytes", "domain": {}}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("digest", lambda page: page["facts"].update(tokens=7)),
        ("digest", lambda page: page["files"][0].update(sha256="0" * 64)),
        ("id", lambda page: page["recipe"]["config"].update(n=2)),
        ("id", lambda page: page["recipe"].update(stage_version=2)),
        ("id", lambda page: page.update(kind="shards")),
    ],
)
def test_a_changed_page_no_longer_fits_its_names(artifact: Artifact, field: str, change: Callable[[Any], None]) -> None:
    rewrite(artifact, change)

    with pytest.raises(IntegrityError, match=f"its {field} does not follow.*pipeline.artifacts repair corpus:"):
        read_manifest(artifact.path)


def test_another_format_version_is_bad_data_and_no_damage(artifact: Artifact) -> None:
    rewrite(artifact, lambda page: page.update(format_version=2))

    with pytest.raises(DataError, match="format 2; this program reads 1"):
        read_manifest(artifact.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 1}', "\x00"])
def test_what_is_no_page_is_refused(artifact: Artifact, text: str) -> None:
    (artifact.path / MANIFEST).write_text(text)

    with pytest.raises(IntegrityError, match="cannot be read as a manifest"):
        read_manifest(artifact.path)


def test_an_unknown_field_is_refused(artifact: Artifact) -> None:
    rewrite(artifact, lambda page: page.update(surprise=1))

    with pytest.raises(IntegrityError, match="surprise"):
        read_manifest(artifact.path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.txt", "b/../../a.txt", "./a.txt", "b//a.txt"])
def test_a_declared_path_stays_inside_the_payload(artifact: Artifact, path: str) -> None:
    def leave(page: Any) -> None:
        page["files"][0]["path"] = path
        page["digest"] = content_digest(page["files"], page["facts"])

    rewrite(artifact, leave)

    with pytest.raises(IntegrityError, match="leaves its payload"):
        read_manifest(artifact.path)


def test_the_first_input_of_a_role_has_its_name_and_the_others_a_number_too() -> None:
    inputs = {"tokenizer": "t", **numbered("shards", list("abcdefghijkl"))}

    assert list(inputs)[:4] == ["tokenizer", "shards", "shards.2", "shards.3"]
    assert {role_of(name) for name in inputs} == {"tokenizer", "shards"}
    assert inputs_of("shards", dict(sorted(inputs.items()))) == list("abcdefghijkl"), "10 follows 9, not 1"
    assert inputs_of("corpus", inputs) == []
