"""A plan says what a stage would do, with which inputs, and why."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import shards
from pipeline.runtime.settings import added_later
from pipeline.shards import ShardsConfig
from pipeline.stage import planning
from pipeline.stage.planning import step_name


def plan_of(bench: Any, *arguments: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(bench(*arguments, "--plan", "--json").out)
    return page


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


def test_a_step_is_remembered_under_its_recipe_and_its_name() -> None:
    assert step_name("tiny", "corpus") == "tiny.corpus"


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
