"""The options of reading are the same in a card, on the command line and in a recipe: flat there, nested in the id."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.runtime.hashing import sha256_of_file
from pipeline.runtime.settings import from_json, to_json
from pipeline.sources.card import load_card
from pipeline.sources.reading_options import ReadingOptions

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "separator alone": ({"separator": "#"}, "documents = separator and separator belong together"),
    "no separator": ({"documents": "separator"}, "documents = separator and separator belong together"),
    "heading alone": ({"split_at": "#"}, "documents = sections and split_at belong together"),
    "wrong heading": ({"documents": "sections", "split_at": "("}, r"split_at '\(' is no regular expression"),
    "unknown encoding": ({"encoding": "utf-9"}, "encoding 'utf-9' is no encoding that Python knows"),
    "encoding of bytes": ({"encoding": "base64"}, "encoding 'base64' is no encoding that Python knows"),
    "encoding of names": ({"encoding": "punycode"}, "encoding 'punycode' is no encoding for files of text"),
    "no length": ({"max_document_bytes": 0}, "max_document_bytes must be at least 1, got 0"),
    "unknown filter": ({"text": "{a|frist}"}, "text: .* filter 'frist'. Did you mean 'first'"),
    "open brace": ({"text": "{a} {"}, "text: .* belongs to no {field}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_that_make_no_sense_are_wrong_settings(case: str) -> None:
    options, sentence = WRONG[case]

    with pytest.raises(ConfigError, match=sentence):
        ReadingOptions(**options)


def test_what_is_wrong_in_a_card_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("---\nsource:\n  location: a\n  sha256: x\n  encoding: utf-9\n---\n")

    with pytest.raises(ConfigError, match=r"mine\.md: encoding 'utf-9'"):
        load_card(str(tmp_path / "mine.md"))


ASKED: dict[str, Any] = {
    "text": "{title}: {body}",
    "documents": "blocks",
    "encoding": "latin-1",
    "errors": "replace",
    "bad_rows": "reject",
    "max_document_bytes": 1000,
    "format": "csv",
    "columns": ["title", "body"],
}


def flags() -> list[str]:
    """Write the options as flags."""
    lists = {name: value if isinstance(value, list) else [str(value)] for name, value in ASKED.items()}
    return [part for name, values in lists.items() for part in (f"--{name.replace('_', '-')}", *values)]


def test_card_command_line_and_recipe_ask_for_the_same_in_the_same_words(bench: Any, tmp_path: Path) -> None:
    data = tmp_path / "rows.data"
    data.write_bytes("".join(f"Größe {i},klein\n" for i in range(9)).encode("latin-1"))
    card = {"location": str(data), "sha256": sha256_of_file(data), **ASKED}
    (tmp_path / "rows.md").write_text(f"---\nsource: {json.dumps(card)}\n---\n")
    table = {"source": str(data), **ASKED}
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in table.items()]
    (tmp_path / "mine.toml").write_text("[corpus]\n" + "".join(lines))
    ways = [
        ("--cards", str(tmp_path / "rows.md")),
        ("--source", str(data), *flags()),
        ("--recipe", str(tmp_path / "mine.toml")),
    ]

    configs = [bench.make("pipeline.corpus", *way).manifest.recipe.config for way in ways]

    expected = {**to_json(ReadingOptions()), **ASKED, "encoding": "iso8859-1"}  # the one name of latin-1
    assert [config["sources"][0]["reading"] for config in configs] == [expected] * 3
    assert set(configs[0]) == {"sources", "clean", "extracts_html", "block_bytes", "part_bytes"}
    assert configs[1] == configs[2]


def test_a_partial_table_keeps_what_the_others_are(bench: Any, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'[corpus]\nsource = "{text_file}"\ndocuments = "paragraphs"\n')

    artifact = bench.make("pipeline.corpus", "--recipe", str(tmp_path / "mine.toml"), "--encoding", "latin_1")

    assert artifact.manifest.recipe.config["sources"][0]["reading"] == {
        **to_json(ReadingOptions()),
        "documents": "paragraphs",
        "encoding": "iso8859-1",
    }


def test_beside_cards_they_are_refused_for_a_card_says_them_itself(bench: Any) -> None:
    ended = bench("pipeline.corpus", "--cards", "tiny_stories", "--encoding", "latin-1")

    assert (ended.code, "corpus.encoding is for --source" in ended.err) == (78, True)


def test_the_options_come_back_from_a_manifest_as_they_were() -> None:
    options = ReadingOptions(**{**ASKED, "columns": ("title", "body")})

    assert from_json(ReadingOptions, json.loads(json.dumps(to_json(options))), "here") == options
    assert dataclasses.replace(options, documents="file") != options
