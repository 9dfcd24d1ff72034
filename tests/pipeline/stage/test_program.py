"""What every stage does the same way: parse, plan, find its inputs, run, print the reference."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import shards
from pipeline.errors import ConfigError
from pipeline.runtime.settings import added_later
from pipeline.shards import ShardsConfig
from pipeline.stage import planning
from pipeline.stage.definition import stage_of
from pipeline.stage.planning import step_name


def plan_of(bench: Any, *arguments: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(bench(*arguments, "--plan", "--json").out)
    return page


def test_the_last_line_on_stdout_is_the_reference_and_the_log_is_on_stderr(bench: Any, text_file: Path) -> None:
    ended = bench("pipeline.corpus", "--source", str(text_file))

    artifact = bench.store.find(ended.out.strip())
    assert ended.out == f"{artifact.reference}\n"
    assert f"next: python -m pipeline.tokenizer --corpus {artifact.short}" in ended.err


def test_the_result_as_json_holds_reference_digest_path_and_facts(bench: Any, text_file: Path) -> None:
    page = json.loads(bench("pipeline.corpus", "--source", str(text_file), "--json").out)

    artifact = bench.store.find(page["reference"])
    assert (page["digest"], page["path"], page["facts"]) == (artifact.digest, str(artifact.path), artifact.facts)


def test_a_plan_says_the_id_before_anything_runs_and_changes_nothing(bench: Any, text_file: Path) -> None:
    before = plan_of(bench, "pipeline.corpus", "--source", str(text_file))
    published = bench.store.folders()

    artifact = bench.corpus(text_file)

    assert (before["state"], before["id"], published) == ("run", artifact.id, [])
    assert plan_of(bench, "pipeline.corpus", "--source", str(text_file))["state"] == "up to date"


def test_what_how_changes_is_not_in_the_id_and_what_what_changes_is(bench: Any, text_file: Path) -> None:
    base = ("pipeline.corpus", "--source", str(text_file))

    plain, workers, fraction = (
        plan_of(bench, *base, *more)["id"] for more in ([], ["--workers", "3"], ["--validation-fraction", "0.4"])
    )

    assert plain == workers != fraction


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


def test_a_stage_finds_the_inputs_of_its_recipe_by_itself(bench: Any, text_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'[corpus]\nsource = "{text_file}"\n[tokenizer]\ninputs = {{ corpus = "corpus" }}\nvocab_size = 290\n'
    )
    missing = bench("pipeline.tokenizer", "--recipe", str(recipe))
    corpus = bench.make("pipeline.corpus", "--recipe", str(recipe))

    tokenizer = bench.make("pipeline.tokenizer", "--recipe", str(recipe))

    assert (missing.code, "It is not there yet. Run `python -m pipeline.corpus --recipe " in missing.err) == (66, True)
    assert tokenizer.manifest.recipe.inputs["corpus"] == corpus.name


def test_the_command_that_builds_a_missing_input_can_be_typed_as_it_is_printed(
    bench: Any, text_file: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'[corpus]\nsource = "{text_file}"\n[tokenizer]\ninputs = {{ corpus = "corpus" }}\n')
    printed = bench("pipeline.tokenizer", "--recipe", str(recipe)).err.split("Run `python -m ")[1].split("`")[0]

    assert bench(*printed.split()).code == 0


def test_a_missing_input_without_a_recipe_says_how_to_name_it(bench: Any) -> None:
    ended = bench("pipeline.shards")

    assert (ended.code, "pipeline.shards needs --corpus" in ended.err) == (66, True)
    assert "Name it as kind:id, or give --recipe" in ended.err


def test_a_plan_without_its_input_is_pending(bench: Any) -> None:
    assert plan_of(bench, "pipeline.tokenizer", "--recipe", "tiny")["state"] == "pending"
    assert plan_of(bench, "pipeline.tokenizer", "--recipe", "tiny")["why"] == ["corpus"]


def test_several_artifacts_of_one_role_are_inputs_in_the_order_given(chain: Any) -> None:
    flags = ("--corpus", chain.corpus.reference, "--tokenizer", chain.tokenizer.reference)
    other = chain.bench.make("pipeline.shards", *flags, "--shard-tokens", "700")
    one, two = chain.shards.reference, other.reference

    ids = [plan_of(chain.bench, "train.pretrain", "--shards", *refs)["id"] for refs in ([one], [one, two], [two, one])]

    assert None not in ids and len(set(ids)) == 3


def test_a_step_with_several_inputs_waits_for_all_of_them_and_the_command_line_replaces_them_all(
    chain: Any, text_file: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    steps = f'[corpus]\nsource = "{text_file}"\n'
    steps += '[tokenizer]\ninputs = { corpus = "corpus" }\nvocab_size = 290\n'
    for name, tokens in (("web", 500), ("books", 900)):
        inputs = '{ corpus = "corpus", tokenizer = "tokenizer" }'
        steps += f'[{name}]\nstage = "shards"\ninputs = {inputs}\nshard_tokens = {tokens}\n'
    recipe.write_text(steps + '[pretrain]\ninputs = { shards = ["web", "books"] }\n')
    flags = ("--recipe", str(recipe))
    for step in ("pipeline.corpus", "pipeline.tokenizer"):
        chain.bench.make(step, *flags)
    chain.bench.make("pipeline.shards", *flags, "--step", "web")

    waiting = plan_of(chain.bench, "train.pretrain", *flags)
    refused = chain.bench("train.pretrain", *flags)
    by_hand = plan_of(chain.bench, "train.pretrain", *flags, "--shards", chain.shards.reference)
    chain.bench.make("pipeline.shards", *flags, "--step", "books")
    ready = plan_of(chain.bench, "train.pretrain", *flags)

    assert (waiting["state"], waiting["why"]) == ("pending", ["books"])
    assert (refused.code, "--step books" in refused.err) == (66, True)
    assert (by_hand["state"], ready["state"]) == ("run", "run")
    assert by_hand["id"] == plan_of(chain.bench, "train.pretrain", "--shards", chain.shards.reference)["id"]


@pytest.mark.parametrize(
    ("module", "role", "given", "wanted"),
    [
        ("pipeline.tokenizer", "corpus", "shards", "corpus"),
        ("pipeline.shards", "corpus", "tokenizer", "corpus"),
        ("pipeline.shards", "tokenizer", "corpus", "tokenizer"),
        ("pipeline.examples", "tokenizer", "corpus", "tokenizer"),
        ("train.pretrain", "shards", "tokenizer", "shards"),
    ],
)
def test_an_artifact_of_the_wrong_kind_is_bad_data(chain: Any, module: str, role: str, given: str, wanted: str) -> None:
    reference = getattr(chain, given).reference

    ended = chain.bench(module, f"--{role}", reference)

    assert f"{module} wants {wanted} for --{role}, and {reference} is a {given}." in ended.err
    assert ended.code == 65


def test_the_toolchain_is_in_the_id(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("pipeline.tokenizer", "--corpus", chain.corpus.reference, "--vocab-size", "320")
    before = plan_of(chain.bench, *asked)
    monkeypatch.setattr(planning, "version_of", lambda name, parts=None: "99.0")

    after = plan_of(chain.bench, *asked)

    assert (before["state"], after["state"]) == ("up to date", "run")
    assert before["id"] == chain.tokenizer.id != after["id"]


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


def test_debug_shows_the_traceback_and_keeps_the_exit_code(bench: Any) -> None:
    ended = bench("pipeline.corpus", "--cards", "nothing", "--debug")

    assert (ended.code, "Traceback" in ended.err) == (66, True)


def test_a_module_that_is_no_stage_is_said_to_be_none() -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.loading\.windows is not a stage"):
        stage_of("pipeline.loading.windows")


def test_a_step_is_remembered_under_its_recipe_and_its_name() -> None:
    assert step_name("tiny", "corpus") == "tiny.corpus"


def test_where_and_when_it_ran_is_recorded_but_names_nothing(bench: Any, text_file: Path) -> None:
    artifact = bench.corpus(text_file)

    page = json.loads((artifact.record / "provenance.json").read_text())

    assert {"host", "started", "seconds", "command", "packages", "environment"} <= set(page)
    assert page["host"] not in (artifact.path / "manifest.json").read_text() or page["host"] == ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithMore(ShardsConfig):
    more: int = added_later(0, before=0)


def test_a_setting_that_is_added_to_a_stage_leaves_every_id_as_it_was(
    chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("pipeline.shards", "--corpus", chain.corpus.reference, "--tokenizer", chain.tokenizer.reference)
    flags = ("--shard-tokens", str(chain.shards.manifest.recipe.config["shard_tokens"]))
    monkeypatch.setattr(shards, "STAGE", dataclasses.replace(shards.STAGE, config=WithMore))

    same, other = (plan_of(chain.bench, *asked, *flags, *more) for more in ([], ["--more", "1"]))

    assert (same["state"], same["id"]) == ("up to date", chain.shards.id)
    assert (other["state"], other["id"] == chain.shards.id) == ("run", False)
    assert "MATCH" in chain.bench.artifacts("reproduce", chain.shards.short).out


def test_the_steps_of_a_recipe_are_planned_once_each(
    bench: Any, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "mine.toml"
    steps = f'[corpus]\nsource = "{text_file}"\n[tokenizer]\ninputs = {{ corpus = "corpus" }}\nvocab_size = 290\n'
    recipe.write_text(steps + '[shards]\ninputs = { corpus = "corpus", tokenizer = "tokenizer" }\n')
    for stage in ("corpus", "tokenizer"):
        bench.make(f"pipeline.{stage}", "--recipe", str(recipe))
    planned: list[str] = []
    plan = planning.plan_stage
    monkeypatch.setattr(planning, "plan_stage", lambda c, plans: planned.append(c.step.name) or plan(c, plans))

    bench.make("pipeline.shards", "--recipe", str(recipe))

    assert planned == ["corpus", "tokenizer"]
