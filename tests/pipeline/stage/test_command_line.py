"""A command line and a recipe's step say the same things, and mistakes in either are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.stage.command_line import command_of, parse
from pipeline.stage.definition import stage_of
from pipeline.stage.recipe import load_recipe


def plan_of(bench: Any, *arguments: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(bench(*arguments, "--plan", "--json").out)
    return page


def test_the_order_of_two_ways_to_say_the_same_is_one_question(bench: Any, text_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'[corpus]\nsource = "{text_file}"\nvalidation_fraction = 0.2\n')

    typed = plan_of(bench, "pipeline.corpus", "--source", str(text_file), "--validation-fraction", "0.2")
    written = plan_of(bench, "pipeline.corpus", "--recipe", str(recipe))

    assert typed["id"] == written["id"]


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_default(
    chain: Any, text_file: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[tokenizer]\nvocab_size = 280\n[shards]\nshard_tokens = 50\n")
    flags = ("--recipe", str(recipe), "--corpus", chain.corpus.reference)

    from_recipe = chain.bench.make("pipeline.tokenizer", *flags)
    from_line = chain.bench.make("pipeline.tokenizer", *flags, "--vocab-size", "270")

    assert (from_recipe.facts["vocab_size"], from_line.facts["vocab_size"]) == (280, 270)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("pipeline.corpus", "--sorce", "x"), 2, "--sorce"),
        (("pipeline.tokenizer", "--vocab-size", "many"), 2, "many"),
        (("pipeline.tokenizer", "--vocab-size"), 2, "--vocab-size"),
        (("pipeline.corpus", "--documents", "pages"), 2, "pages"),
        (("pipeline.tokenizer", "--vocab-size", "5"), 78, "got 5"),
        (("pipeline.shards", "--shard-tokens", "1"), 78, "from 2 to 2,147,483,647, got 1"),
        (("pipeline.corpus", "--workers", "0"), 78, "at least 1, got 0"),
        (("pipeline.corpus", "--validation-fraction", "1.5"), 78, "between 0 and 1, got 1.5"),
        (("pipeline.corpus", "--block-bytes", "0"), 78, "block_bytes must be at least 1, got 0"),
        (("pipeline.examples", "--max-tokens", "3"), 78, "at least 4, got 3"),
        (("pipeline.corpus", "--cards", "tiny_storeys"), 66, "Did you mean 'tiny_stories'"),
        (("pipeline.corpus", "--recipe", "tny"), 66, "Did you mean 'tiny'"),
        (("pipeline.examples", "--recipe", "tiny"), 78, "say which with --step: messages, dialogues"),
        (("pipeline.corpus", "--recipe", "tiny", "--step", "corpsu"), 78, "Did you mean 'corpus'"),
        (("pipeline.tokenizer", "--corpus", "corpus:123"), 66, "names no artifact"),
        (("pipeline.tokenizer", "--corpus", "latest"), 66, "names no artifact"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_sentence_and_an_exit_code(
    bench: Any, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ended = bench(*arguments)

    assert (ended.code, sentence in ended.err, "Traceback" in ended.err) == (code, True, False), ended.err


def test_a_step_is_told_the_same_by_its_table_and_by_its_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[tokenizer]\nvocab_size = 280\nworkers = 3\n")
    recipe, store = load_recipe(str(path)), Store(tmp_path / "store")
    step = recipe.steps["tokenizer"]

    table = command_of(recipe, step, store)
    more = command_of(recipe, step, store, ["--vocab-size", "290"])
    typed = parse(table.stage, ["--recipe", str(path), "--step", "tokenizer", "--store", str(store.root)])

    assert (table.options, table.execution) == (typed.options, typed.execution)
    assert (table.options.vocab_size, table.execution.workers, more.options.vocab_size) == (280, 3, 290)
    assert (more.execution.workers, more.store, typed.step) == (3, store, step)


def test_several_references_of_one_role_are_numbered(tmp_path: Path) -> None:
    command = parse(stage_of("train.pretrain"), ["--shards", "shards:1", "a.name", "--store", str(tmp_path)])

    assert command.references == {"shards": "shards:1", "shards.2": "a.name"}
    assert parse(stage_of("train.evaluate"), ["model:1"]).references == {"model": "model:1"}


@pytest.mark.parametrize(
    ("flags", "encoding"), [(["--encoding", "latin-1"], "latin-1"), (["--encoding=cp1252"], "cp1252"), ([], "utf-8")]
)
def test_settings_that_stand_among_their_owners_are_flags_without_its_name(flags: list[str], encoding: str) -> None:
    options = parse(stage_of("pipeline.corpus"), flags).options

    assert options.reading.encoding == encoding
