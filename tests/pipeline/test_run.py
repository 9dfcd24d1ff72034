"""A recipe is run step by step: only what is missing, and nothing before it is checked."""

import dataclasses
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import tokenizer
from pipeline.stage.command_line import RUN_FLAGS

STEPS = """
[corpus]
source = "{text}"
[tokenizer]
inputs = {{ corpus = "corpus" }}
vocab_size = 290
[shards]
inputs = {{ corpus = "corpus", tokenizer = "tokenizer" }}
"""


@dataclass(frozen=True)
class Ran:
    """A recipe of three cheap steps over a text of one's own, run to its end."""

    recipe: str
    text: Path
    bench: Any
    ended: Any


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory, make_bench: Any) -> Ran:
    root = tmp_path_factory.mktemp("run")
    text, recipe, bench = root / "stories.txt", root / "mine.toml", make_bench(root / "store")
    text.write_text("\n\n".join(f"Story {i}: the fox met {i % 7} hens by the river." for i in range(80)))
    recipe.write_text(STEPS.format(text=text))
    return Ran(str(recipe), text, bench, bench("pipeline.run", str(recipe)))


@pytest.fixture
def ran(shared_run: Ran, make_bench: Any, tmp_path: Path) -> Ran:
    """A copy of the run's store, to go on in."""
    shutil.copytree(shared_run.bench.store.root, tmp_path / "run")
    return replace(shared_run, bench=make_bench(tmp_path / "run"))


@pytest.fixture
def recipe(tmp_path: Path, text_file: Path) -> str:
    """The same recipe, not run yet."""
    path = tmp_path / "mine.toml"
    path.write_text(STEPS.format(text=text_file))
    return str(path)


def plan_of(bench: Any, *arguments: str) -> dict[str, tuple[str, list[str]]]:
    """Return (state, why) by step."""
    ended = bench("pipeline.run", *arguments, "--plan", "--json")
    assert ended.code == 0, ended.err
    return {page["step"]: (page["state"], page["why"]) for page in json.loads(ended.out)}


def test_a_run_makes_every_step_and_closes_with_a_table(shared_run: Ran) -> None:
    store, ended = shared_run.bench.store, shared_run.ended

    assert (ended.code, ended.err.count("$ python -m ")) == (0, 3), ended.err
    header, *rows = ended.out.splitlines()[:4]
    assert header.split() == ["step", "artifact", "what", "is", "in", "it", "seconds"]
    assert [row.split()[:2] for row in rows] == [
        [step, store.find(f"mine.{step}").short] for step in ("corpus", "tokenizer", "shards")
    ]
    assert "next: python -m pipeline.artifacts lineage mine.shards" in ended.out


def test_a_second_run_does_nothing(ran: Ran) -> None:
    before = {path: path.stat().st_ctime_ns for path in ran.bench.store.folders()}

    again = ran.bench("pipeline.run", ran.recipe, "--json")

    assert (again.code, again.err.count(": up to date"), "$ " in again.err) == (0, 3, False)
    assert [row["step"] for row in json.loads(again.out)] == ["corpus", "tokenizer", "shards"]
    assert {path: path.stat().st_ctime_ns for path in ran.bench.store.folders()} == before and len(before) == 3


def test_before_the_first_run_every_step_waits_for_the_one_before(bench: Any, recipe: str) -> None:
    assert plan_of(bench, recipe) == {
        "corpus": ("run", ["never built"]),
        "tokenizer": ("pending", ["corpus"]),
        "shards": ("pending", ["corpus", "tokenizer"]),
    }


def test_a_changed_setting_is_named_and_what_follows_is_pending(ran: Ran) -> None:
    assert plan_of(ran.bench, ran.recipe, "--tokenizer.vocab-size", "280") == {
        "corpus": ("up to date", []),
        "tokenizer": ("stale", ["config.vocab_size changed (290 -> 280)"]),
        "shards": ("pending", ["tokenizer"]),
    }


def test_a_changed_text_is_named_by_its_hash(ran: Ran) -> None:
    before = ran.text.read_text()
    ran.text.write_text(f"{before}\n\nThe end.\n")
    try:
        found = plan_of(ran.bench, ran.recipe)
    finally:
        ran.text.write_text(before)

    assert found["corpus"][0] == "stale" and "sources[0].sha256 changed" in found["corpus"][1][0]
    assert found["tokenizer"] == ("pending", ["corpus"])


def test_the_recipe_comes_before_settings_of_its_steps_and_may_follow_other_flags(ran: Ran) -> None:
    plain = plan_of(ran.bench, ran.recipe)

    assert plan_of(ran.bench, "--from", "shards", ran.recipe) == plain
    assert plan_of(ran.bench, ran.recipe, "--tokenizer.vocab-size=290") == plain
    ended = ran.bench("pipeline.run", "--tokenizer.vocab-size", "280", ran.recipe)
    assert (ended.code, "The recipe's name comes before the settings of its steps" in ended.err) == (66, True)
    assert ran.bench("pipeline.run", "--plan").code == 2


def test_ones_own_recipe_of_a_shipped_name_is_not_taken_for_the_shipped_one(ran: Ran) -> None:
    own = ran.bench.store.root / "tiny.toml"
    own.write_text(Path(ran.recipe).read_text())

    found = plan_of(ran.bench, str(own))

    assert {step: state for step, (state, _) in found.items()} == dict.fromkeys(found, "up to date")


def test_a_changed_vocabulary_makes_exactly_what_follows_from_it_stale(tiny: Any, cheap: Any) -> None:
    found = plan_of(cheap, "tiny", "--tokenizer.vocab-size", "600")

    assert found["corpus"] == ("up to date", [])
    assert found["tokenizer"] == ("stale", ["config.vocab_size changed (1024 -> 600)"])
    others = {step: state for step, (state, _) in found.items() if step not in ("corpus", "tokenizer")}
    assert set(others.values()) == {"pending"} and len(others) == 9
    assert found["messages"] == found["dialogues"] == ("pending", ["tokenizer"])
    assert found["classifier"] == ("pending", ["messages", "pretrain"])


def test_several_inputs_of_one_role_are_given_to_its_step_together(tmp_path: Path, bench: Any) -> None:
    from pipeline.run import Run, RunCommand
    from pipeline.stage.planning import Plan
    from pipeline.stage.recipe import load_recipe

    path = tmp_path / "mine.toml"
    path.write_text('[a]\nstage = "shards"\n[b]\nstage = "shards"\n[pretrain]\ninputs = { shards = ["b", "a"] }\n')
    recipe = load_recipe(str(path))
    run = Run(RunCommand(recipe=str(path)), recipe, {}, bench.store)

    inputs = {"shards": "shards:2", "shards.2": "shards:1", "tokenizer": "tokenizer:inferred"}
    plan = Plan(step="pretrain", stage="train.pretrain", kind="model", state="run", why=[], inputs=inputs)
    arguments = run.arguments("pretrain", plan)

    assert arguments[:4] == ["--shards", "shards:2", "shards:1", "--recipe"]


def test_a_changed_setting_that_changes_no_byte_makes_nothing_else_stale(ran: Ran) -> None:
    again = ran.bench("pipeline.run", ran.recipe, "--corpus.part-bytes", "9999999")

    assert (again.code, again.err.count("$ python -m ")) == (0, 1), again.err
    assert "tokenizer: up to date" in again.err and "shards: up to date" in again.err


def test_from_starts_at_a_step_when_what_it_needs_is_there(ran: Ran) -> None:
    ended = ran.bench("pipeline.run", ran.recipe, "--from", "shards", "--shards.shard-tokens", "500")

    assert (ended.code, ended.err.count("$ python -m ")) == (0, 1)


def test_from_a_step_whose_inputs_are_not_there_is_refused(bench: Any, recipe: str) -> None:
    ended = bench("pipeline.run", recipe, "--from", "shards")

    assert "--from shards: it needs corpus, which is not up to date." in ended.err
    assert (ended.code, bench.store.folders()) == (2, [])


def test_heads_that_do_not_divide_are_told_before_the_first_step_runs(bench: Any) -> None:
    ended = bench("pipeline.run", "tiny", "--pretrain.model.n-head", "3")

    assert (ended.code, "$ python" in ended.err) == (78, False)
    assert "n_head" in ended.err and "128" in ended.err
    assert bench.store.folders() == []


def test_a_step_that_fails_passes_its_exit_code_on_and_keeps_what_was_made(ran: Ran) -> None:
    broken = Path(ran.recipe).with_name("broken.toml")
    broken.write_text(
        f'{Path(ran.recipe).read_text()}\n[examples]\ninputs = {{ tokenizer = "tokenizer" }}\nsource = "{ran.text}"\n'
    )

    ended = ran.bench("pipeline.run", str(broken))

    assert (ended.code, "the step examples failed (exit 78)" in ended.err) == (78, True), ended.err
    assert [path.parent.name for path in ran.bench.store.folders()] == ["corpus", "shards", "tokenizer"]


def test_a_text_of_ones_own_is_said_not_to_reach_the_steps_that_read_cards(
    bench: Any, text_file: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "both.toml"
    recipe.write_text(
        '[corpus]\ncards = ["tiny_stories"]\n[tokenizer]\ninputs = { corpus = "corpus" }\nvocab_size = 290\n'
        '[dialogues]\nstage = "examples"\nexample_type = "conversation"\ninputs = { tokenizer = "tokenizer" }\n'
        'cards = ["tiny_dialogues"]\n'
    )

    ended = bench("pipeline.run", str(recipe), "--corpus.source", str(text_file))

    assert ended.code == 0, ended.err
    assert "note: dialogues still comes from the shipped data cards tiny_dialogues" in ended.out
    assert "stories" in json.dumps(bench.store.find("both.corpus").manifest.recipe.config["sources"])


MISTAKES = [
    ((), 2, "recipe"),
    (("tny",), 66, "There is no recipe 'tny'. Did you mean 'tiny'"),
    (("nothing.toml",), 66, "There is no recipe"),
    (("tiny", "--plam"), 2, "--plam"),
    (("tiny", "--tokeniser.vocab-size", "300"), 2, "tiny has no step 'tokeniser'. Did you mean 'tokenizer'?"),
    (("tiny", "--tokenizer.vocab-sise", "300"), 2, "--vocab-sise"),
    (("tiny", "--tokenizer.vocab-size", "many"), 2, "many"),
    (("tiny", "--tokenizer.vocab-size", "5"), 78, "got 5"),
    (("tiny", "--from", "tokeniser"), 2, "Did you mean 'tokenizer'?"),
    (("tiny", "--corpus.source", "/no/such/folder"), 66, "/no/such/folder does not exist"),
    (("tiny", "--corpus.cards", "tiny_storeys"), 66, "Did you mean 'tiny_stories'"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), MISTAKES)
def test_a_mistake_is_a_sentence_and_an_exit_code_and_runs_nothing(
    bench: Any, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ended = bench("pipeline.run", *arguments)

    assert (ended.code, sentence in ended.err) == (code, True), ended.err
    assert "$ python" not in ended.err and "Traceback" not in ended.err
    assert bench.store.folders() == []


def test_a_plan_of_a_damaged_store_names_the_file(cheap: Any, flip: Any) -> None:
    path = cheap.store.find("tiny.corpus").files("train-")[0]
    flip(path)

    ended = cheap("pipeline.run", "tiny", "--plan")

    assert (ended.code, f"{path} has sha256" in ended.err) == (71, True)


def test_a_store_that_cannot_be_made_is_an_error_of_storage(tmp_path: Path, recipe: str, make_bench: Any) -> None:
    (tmp_path / "file").write_text("not a folder")

    ended = make_bench(tmp_path / "file" / "store")("pipeline.corpus", "--recipe", recipe)

    assert (ended.code, "Not a directory" in ended.err) == (74, True), ended.err


@pytest.mark.parametrize("flag", RUN_FLAGS)
def test_a_flag_that_says_what_to_do_with_a_stage_is_no_setting_of_a_step(ran: Ran, flag: str) -> None:
    ended = ran.bench("pipeline.run", ran.recipe, f"--corpus.{flag}", "x")

    assert (ended.code, f"--corpus.{flag} is no setting of corpus" in ended.err) == (2, True), ended.err


def test_a_step_that_another_version_made_is_stale_in_one_sentence(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "STAGE", dataclasses.replace(tokenizer.STAGE, version=99))

    found = plan_of(ran.bench, ran.recipe)

    assert found["tokenizer"] == ("stale", [f"made by version {tokenizer_version}; this is version 99"])


tokenizer_version = tokenizer.STAGE.version
