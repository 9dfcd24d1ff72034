"""A recipe is names and edges; what does not make sense is said with its place."""

from pathlib import Path

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import CairnError, ConfigError, MissingError
from pipeline.stage.command_line import command_of
from pipeline.stage.recipe import load_recipe, recipe_names

TWO_STEPS = """
[shards]
inputs = { corpus = "texts", tokenizer = "words" }
[words]
stage = "tokenizer"
inputs = { corpus = "texts" }
vocab_size = 300
[texts]
stage = "pipeline.corpus"
cards = ["tiny_stories"]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def test_steps_stand_in_an_order_in_which_they_can_run(recipe: Path) -> None:
    recipe.write_text(TWO_STEPS)

    assert list(load_recipe(str(recipe)).steps) == ["texts", "words", "shards"]


def test_a_step_holds_its_stage_its_inputs_and_the_rest_as_settings(recipe: Path) -> None:
    recipe.write_text(TWO_STEPS)

    step = load_recipe(str(recipe)).steps["words"]

    assert (step.module, step.inputs, step.settings) == (
        "pipeline.tokenizer",
        {"corpus": "texts"},
        {"vocab_size": 300},
    )


def test_a_stage_finds_its_step_by_itself_or_by_name(recipe: Path) -> None:
    recipe.write_text(TWO_STEPS + '[words_2]\nstage = "tokenizer"\n')
    loaded = load_recipe(str(recipe))

    assert loaded.step_of("pipeline.shards", None).name == "shards"
    assert loaded.step_of("pipeline.tokenizer", "words_2").name == "words_2"
    with pytest.raises(ConfigError, match="--step: words_2, words"):
        loaded.step_of("pipeline.tokenizer", None)
    with pytest.raises(ConfigError, match=r"no step 'wrods'\. Did you mean 'words'"):
        loaded.step_of("pipeline.tokenizer", "wrods")


def test_an_input_may_be_a_list_of_steps(recipe: Path) -> None:
    recipe.write_text(
        TWO_STEPS
        + '[books]\nstage = "shards"\n[pretrain]\ninputs = { shards = ["books", "shards"] }\nweights = [0.7, 0.3]\n'
    )
    loaded = load_recipe(str(recipe))

    assert loaded.steps["pretrain"].inputs == {"shards": "books", "shards.2": "shards"}
    assert list(loaded.steps)[-1] == "pretrain"
    assert loaded.needed_from("pretrain") == {"books", "shards", "words", "texts"}


WRONG = {
    "no toml": ("[corpus", "is not TOML"),
    "no table": ("corpus = 3", "'corpus' must be a table, [corpus]"),
    "unknown stage": ('[x]\nstage = "tokeniser"', "[x] asks for the stage 'tokeniser'"),
    "unknown package": ('[x]\nstage = "nothing.at.all"', "asks for the stage 'nothing.at.all'"),
    "unknown step": ('[shards]\ninputs = { corpus = "corpsu" }\n[corpus]', "which is no step. Did you mean 'corpus'?"),
    "inputs no table": ('[shards]\ninputs = "corpus"', "inputs must be a table of step names"),
    "input no name": ("[shards]\ninputs = { corpus = 3 }", "inputs must be a table of step names"),
    "input of no step": ("[shards]\ninputs = { corpus = [] }", "inputs must be a table of step names or lists of them"),
    "unknown step in a list": (
        '[pretrain]\ninputs = { shards = ["shrads"] }\n[shards]',
        "takes its shards from 'shrads'",
    ),
    "numbered input": (
        '[pretrain]\ninputs = { "shards.3" = "shards" }\n[shards]',
        "inputs must be a table of step names",
    ),
    "cycle": (
        '[a]\nstage = "shards"\ninputs = { corpus = "b" }\n[b]\nstage = "shards"\ninputs = { corpus = "a" }',
        "wait for each other",
    ),
    "own input": ('[shards]\ninputs = { corpus = "shards" }', "wait for each other"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_recipe_is_a_sentence_with_the_file_in_it(recipe: Path, case: str) -> None:
    text, sentence = WRONG[case]
    recipe.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_recipe(str(recipe))

    assert sentence in str(caught.value) and str(recipe) in str(caught.value)


@pytest.mark.parametrize(("name", "hint"), [("tny", "Did you mean 'tiny'"), ("no/such.toml", "must end in .toml")])
def test_a_recipe_that_is_not_there_is_missing(name: str, hint: str) -> None:
    with pytest.raises(MissingError, match=hint):
        load_recipe(name)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_makes_sense_to_every_stage_it_names(name: str) -> None:
    recipe = load_recipe(name)

    commands = [command_of(recipe, step, Store(Path("none"))) for step in recipe.steps.values()]

    assert [command.stage.module for command in commands] == [step.module for step in recipe.steps.values()]


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("vocab_sise = 300", 78, "[tokenizer] has the unknown key 'vocab_sise'. Did you mean 'vocab_size'?"),
        ('vocab_size = "300"', 78, "[tokenizer].vocab_size must be a whole number, got '300'"),
        ("vocab_size = 5", 78, "must hold 256 bytes and 6 control tokens, got 5"),
        ('inputs = { corpsu = "corpus" }', 78, "[tokenizer] has no input 'corpsu'; pipeline.tokenizer takes corpus"),
        (
            'inputs = { corpus = ["corpus", "corpus"] }',
            78,
            "gives several steps for 'corpus'; pipeline.tokenizer takes one",
        ),
        ("workers = 0", 78, "workers must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_of_a_step_is_named_with_its_step(recipe: Path, line: str, code: int, sentence: str) -> None:
    recipe.write_text(f'[corpus]\ncards = ["tiny_stories"]\n[tokenizer]\n{line}\n')

    with pytest.raises(CairnError) as caught:
        command_of(found := load_recipe(str(recipe)), found.steps["tokenizer"], Store(Path("none")))

    assert (caught.value.exit_code, sentence in str(caught.value)) == (code, True), str(caught.value)


def test_a_recipe_imports_no_package_of_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "mine.toml").write_text('[a]\nstage = "foreign.x"\n')
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ConfigError, match=r"\[a\] asks for the stage 'foreign\.x', which is none of ours"):
        load_recipe(str(tmp_path / "mine.toml"))
