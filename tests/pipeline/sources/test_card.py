"""A data card is a Hugging Face card and the definition of a source."""

from pathlib import Path

import pytest

from pipeline.errors import CairnError, ConfigError, MissingError
from pipeline.runtime.hashing import sha256_of_file
from pipeline.runtime.settings import field_names
from pipeline.sources.card import FOLDER, Source, card_names, load_card

CARD = """---
license: cc-by-4.0
language: [en]
source:
  location: texts/a.txt
  sha256: {sha}
  attribution: "Somebody"
{more}
---

# A card
"""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return tmp_path / "mine.md"


@pytest.mark.parametrize("name", card_names())
def test_every_shipped_card_is_a_dataset_card_and_a_source(name: str) -> None:
    from huggingface_hub import DatasetCard

    theirs = DatasetCard.load(FOLDER / f"{name}.md").data
    ours = load_card(name)

    assert theirs.language == ["en"] and theirs.pretty_name and theirs.size_categories
    assert theirs.license == ours.license != "unknown"
    assert ours.name == name and ours.attribution and len(ours.sha256) == 64


@pytest.mark.parametrize("name", card_names())
def test_a_shipped_card_states_the_hash_of_its_local_file(name: str) -> None:
    source = load_card(name)

    if source.location.startswith("pypi:"):
        assert "==" in source.location and "#" in source.location
    else:
        assert sha256_of_file(FOLDER / source.location) == source.sha256


def test_a_shipped_location_is_relative_and_ones_own_is_absolute(card: Path) -> None:
    card.write_text(CARD.format(sha="ab" * 32, more=""))

    assert load_card("tiny_stories").location == "tiny/stories.txt"
    assert load_card(str(card)).location == str(card.parent / "texts" / "a.txt")


@pytest.mark.parametrize(
    "location", ["https://example.org/a.txt", "s3://bucket/a.txt", "pypi:a==1#b", "hf:a/b@" + "0" * 40]
)
def test_a_location_that_is_no_path_stays_as_it_is(card: Path, location: str) -> None:
    card.write_text(CARD.format(sha="ab" * 32, more="").replace("texts/a.txt", f'"{location}"'))

    assert load_card(str(card)).location == location


def test_every_key_of_a_source_is_explained(card: Path) -> None:
    explained = (FOLDER / "README.md").read_text(encoding="utf-8")

    keys = set(field_names(Source)) - {"name", "license"}
    assert {key for key in keys if f"| `{key}` |" not in explained} == set()


def test_a_source_takes_its_name_from_the_file_and_its_licence_from_the_front_matter(card: Path) -> None:
    card.write_text(CARD.format(sha="ab" * 32, more="  split: {validation: 0.25}"))

    source = load_card(str(card))

    assert (source.name, source.license, source.attribution) == ("mine", "cc-by-4.0", "Somebody")
    assert source.split == {"validation": 0.25}


def test_one_value_of_a_condition_stands_for_a_list_of_one(card: Path) -> None:
    pairs = '  without: {topic: X}\n  pairs: [{prompt: "{a}", reply: "{b}", where: {kind: [p, q], n: r}}]'
    card.write_text(CARD.format(sha="ab" * 32, more=pairs))

    source = load_card(str(card))

    assert source.without == {"topic": ("X",)}
    assert source.pairs[0].where == {"kind": ("p", "q"), "n": ("r",)}


WRONG = {
    "no front matter": ("# A card\n", "has no front matter"),
    "no yaml": ("---\na: [\n---\n", "is not YAML"),
    "no source": ("---\nlicense: mit\n---\n", "no table `source`"),
    "unknown key": (CARD.format(sha=0, more="  locaton: x"), "unknown key 'locaton'. Did you mean 'location'?"),
    "wrong type": (CARD.format(sha=0, more=""), "source.sha256 must be a text, got 0"),
    "unknown filter": (CARD.format(sha="x", more='  text: "{a|frist}"'), "filter 'frist'. Did you mean 'first'?"),
    "whole split": (CARD.format(sha="x", more="  split: {validation: 0.5, test: 0.5}"), "leave some for train"),
    "unknown split": (CARD.format(sha="x", more="  split: {dev: 0.5}"), "a split is validation or test, not 'dev'"),
    "separator alone": (CARD.format(sha="x", more='  separator: "#"'), "belong together"),
    "heading alone": (CARD.format(sha="x", more='  split_at: "#"'), "sections and split_at belong together"),
    "no heading": (CARD.format(sha="x", more="  documents: sections"), "sections and split_at belong together"),
    "wrong heading": (CARD.format(sha="x", more='  documents: sections\n  split_at: "("'), "no regular expression"),
    "unknown encoding": (CARD.format(sha="x", more="  encoding: utf-9"), "'utf-9' is no encoding that Python knows"),
    "encoding of no text": (CARD.format(sha="x", more="  encoding: base64"), "'base64' is no encoding"),
    "encoding of names": (CARD.format(sha="x", more="  encoding: punycode"), "no encoding for files of text"),
    "no length": (CARD.format(sha="x", more="  max_document_bytes: 0"), "max_document_bytes must be at least 1"),
    "no hash": (CARD.format(sha='""', more=""), "sha256 is missing"),
    "unknown policy": (CARD.format(sha="x", more="  bad_rows: skip"), "must be one of 'error', 'reject'"),
    "unknown way": (CARD.format(sha="x", more="  documents: lines"), "must be one of 'auto', 'file', 'blocks'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_card_that_is_no_source_is_a_wrong_setting(card: Path, case: str) -> None:
    text, sentence = WRONG[case]
    card.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_card(str(card))

    assert sentence in str(caught.value)


def test_a_card_that_is_not_there_is_missing_and_the_nearest_is_named() -> None:
    with pytest.raises(MissingError, match="Did you mean 'tiny_stories'"):
        load_card("tiny_storeys")


def test_a_source_cannot_be_made_that_would_leave_no_training_text() -> None:
    with pytest.raises(CairnError, match="leave some for train"):
        Source(name="x", location="x", sha256="x", split={"validation": 1.0})
