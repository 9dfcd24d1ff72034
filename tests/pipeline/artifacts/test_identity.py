"""The two names of an artifact, worked by hand and pinned."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.identity import artifact_id, content_digest, shorten
from pipeline.artifacts.manifest import Asked, InputName, recipe_id
from pipeline.runtime.hashing import canonical_json, digest_of, sha256_of_file

ASKED: dict[str, Any] = {
    "kind": "corpus",
    "kind_version": 1,
    "stage": "pipeline.corpus",
    "stage_version": 1,
    "inputs": {},
    "config": {"text": "é"},
    "toolchain": {"unicode": "14.0.0"},
}


def test_canonical_json_sorts_keys_and_has_no_spaces_and_keeps_unicode() -> None:
    text = canonical_json({"b": [1, 2.5, None, True], "a": {"z": "é", "y": '"'}})

    assert text == '{"a":{"y":"\\"","z":"é"},"b":[1,2.5,null,true]}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_canonical_json_refuses_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": number})


def test_a_digest_is_the_sha256_of_the_canonical_json_in_utf8() -> None:
    assert digest_of({"b": 1, "a": "é"}) == hashlib.sha256(b'{"a":"\xc3\xa9","b":1}').hexdigest()


def test_a_known_question_has_the_id_it_always_had() -> None:
    # If this changes, every id in every store changes: that is a new format version.
    assert artifact_id(ASKED) == "1c9707b06f947115ce1b32bcc63615d74ccfd33088cd9f0b5a182bd2a99b02fa"


def test_known_bytes_have_the_digest_they_always_had() -> None:
    found = content_digest([{"path": "a", "size": 1, "sha256": "00"}], {"n": 1})

    assert found == "68bfe4fe93a19ea3854d80e76e45776f6a17911bc857186d6551a9c9dfd44d01"


@pytest.mark.parametrize("key", sorted(ASKED))
def test_every_part_of_the_question_is_in_the_id(key: str) -> None:
    changed = {**ASKED, key: {"other": "thing"}}

    assert artifact_id(changed) != artifact_id(ASKED)


def test_the_digest_does_not_depend_on_the_order_of_the_files() -> None:
    files = [{"path": name, "size": 1, "sha256": name * 64} for name in "abc"]

    assert content_digest(files, {}) == content_digest(files[::-1], {})


@pytest.mark.parametrize("key", ["path", "size", "sha256"])
def test_every_part_of_a_file_entry_is_in_the_digest(key: str) -> None:
    entry = {"path": "a", "size": 1, "sha256": "00"}

    assert content_digest([{**entry, key: "other"}], {}) != content_digest([entry], {})


def test_the_facts_are_in_the_digest() -> None:
    assert content_digest([], {"tokens": 1}) != content_digest([], {"tokens": 2})


def test_inputs_count_by_their_bytes_and_not_by_their_names() -> None:
    def asked(identity: str, digest: str) -> str:
        inputs = {"corpus": InputName(kind="corpus", id=identity, digest=digest)}
        recipe = Asked(stage="s", stage_version=1, inputs=inputs, config={}, toolchain={})
        return recipe_id("tokenizer", 1, recipe)

    assert asked("one", "same") == asked("two", "same")
    assert asked("one", "same") != asked("one", "other")


def test_the_hash_of_a_file_is_the_standard_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")

    assert sha256_of_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_reference_is_shortened_for_people_and_keeps_its_kind() -> None:
    assert shorten("corpus:" + "0123456789abcdef" * 4) == "corpus:0123456789ab"
