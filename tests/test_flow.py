"""From raw text to an assistant: what the chain prints, that it is checked, traced, rebuilt and mended."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import IntegrityError
from pipeline.runtime.files import regular_files
from pipeline.sources.card import FOLDER
from pipeline.stage.recipe import FOLDER as RECIPES

STEPS = "corpus tokenizer shards pretrain pretrain_scores messages classifier classifier_scores dialogues".split()
STEPS += ["assistant", "assistant_scores"]
DOMAIN_STEPS = [step for step in STEPS if step.startswith(("pretrain", "classifier", "assistant"))]


@pytest.fixture
def copy(tiny: Any, tmp_path: Path) -> Store:
    """A copy of tiny's store that a test may damage."""
    shutil.copytree(tiny.store.root, tmp_path / "store", symlinks=True)
    return Store(tmp_path / "store")


def table(printed: str) -> list[list[str]]:
    """Return the rows of the closing table, cells apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in printed.split("\n\n")[0].splitlines()]


def test_the_chain_closes_with_a_table_of_every_step(tiny: Any) -> None:
    header, *rows, total = table(tiny.ended.out)
    assert header == ["step", "artifact", "what is in it", "seconds"]
    assert [row[0] for row in rows] == STEPS and total[0] == "all"
    for step, reference, summary, seconds in rows:
        assert reference == tiny[step].short and summary and float(seconds) >= 0
    assert sum(float(row[3]) for row in rows) <= float(total[1]) + 1


def test_the_table_is_followed_by_the_next_commands_to_type(tiny: Any) -> None:
    following = tiny.ended.out.split("\n\n")[1]
    assert 'next: python -m model.generate tiny.pretrain "Once"' in following
    assert "next: python -m model.chat tiny.assistant" in following
    assert "next: python -m pipeline.artifacts lineage tiny.assistant_scores" in following


def test_each_step_is_shown_as_the_command_a_person_would_type(tiny: Any) -> None:
    commands = [line for line in tiny.ended.err.splitlines() if line.startswith("$ python -m ")]
    assert len(commands) == len(STEPS)
    shards = next(line for line in commands if "pipeline.shards" in line)
    assert f"--corpus {tiny['corpus'].short} --tokenizer {tiny['tokenizer'].short} --recipe tiny" in shards


def test_what_comes_out_is_of_some_use(tiny: Any) -> None:
    scores = tiny["classifier_scores"].facts["scores"]
    assert scores["macro_f1"] > 0.8 > 2 * scores["majority_macro_f1"]
    assert tiny["pretrain_scores"].facts["scores"]["bits_per_byte"] < 1.0
    assert tiny["assistant_scores"].facts["scores"]["loss"] < 2.0


@pytest.mark.slow
def test_a_second_run_runs_nothing_and_is_quick(tiny: Any, program: Callable[..., Any]) -> None:
    begun = time.monotonic()
    again = program("-m", "pipeline.run", "tiny", store=tiny.store.root)
    assert time.monotonic() - begun < 20
    assert again.code == 0, again.err
    assert "$ " not in again.err and again.err.count(": up to date") == len(STEPS)
    assert [row[:3] for row in table(again.out)[:-1]] == [row[:3] for row in table(tiny.ended.out)[:-1]]


def test_a_plan_names_exactly_the_steps_that_follow_from_a_changed_setting(
    tiny: Any, program: Callable[..., Any]
) -> None:
    arguments = ("--plan", "--json", "--assistant.epochs", "6")
    plans = json.loads(program("-m", "pipeline.run", "tiny", *arguments, store=tiny.store.root).out)
    states = {plan["step"]: plan["state"] for plan in plans}
    assert {step for step, state in states.items() if state != "up to date"} == {"assistant", "assistant_scores"}
    assert states["assistant"] == "stale" and states["assistant_scores"] == "pending"
    why = {plan["step"]: plan["why"] for plan in plans}
    assert why["assistant"] == ["config.epochs changed (4.0 -> 6.0)"] and why["assistant_scores"] == ["assistant"]


def sources(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from node["sources"]
    for below in node["inputs"]:
        yield from sources(below)


def test_lineage_reaches_the_raw_files_and_their_licences(tiny: Any, program: Callable[..., Any]) -> None:
    ended = program("-m", "pipeline.artifacts", "lineage", "tiny.assistant", "--json", store=tiny.store.root)
    tree = json.loads(ended.out)
    assert tree["digest"] == tiny["assistant"].digest
    assert {node["role"] for node in tree["inputs"]} == {"base", "examples", "tokenizer"}
    found = {source["name"]: source for source in sources(tree)}
    assert found.keys() == {"tiny_stories", "tiny_dialogues"}
    for source in found.values():
        path = FOLDER / source["location"]
        assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert source["license"] == "cc0-1.0" and source["attribution"]


def test_lineage_is_a_tree_that_a_person_can_read(tiny: Any, program: Callable[..., Any]) -> None:
    lines = program("-m", "pipeline.artifacts", "lineage", "tiny.assistant", store=tiny.store.root).out.splitlines()
    assert lines[0].startswith(f"{tiny['assistant'].short}  assistant, ")
    assert any("tiny_stories: " in line and "[cc0-1.0]" in line for line in lines)
    assert any("tiny_dialogues: " in line and "[cc0-1.0]" in line for line in lines)
    assert sum(tiny["tokenizer"].short in line and "(above)" not in line for line in lines) == 1


def test_attribution_reaches_every_derived_artifact(tiny: Any) -> None:
    named = {step: {entry.source for entry in tiny[step].manifest.licenses} for step in STEPS}
    assert named["pretrain"] == {"tiny_stories"}
    assert named["assistant"] == named["assistant_scores"] == {"tiny_stories", "tiny_dialogues"}
    assert named["classifier"] == {"tiny_stories", "tiny_messages"}


def test_every_artifact_verifies(tiny: Any, program: Callable[..., Any]) -> None:
    ended = program("-m", "pipeline.artifacts", "verify", "--json", store=tiny.store.root)
    rows = json.loads(ended.out)
    assert ended.code == 0 and all(row["ok"] for row in rows)
    assert {row["reference"] for row in rows} == {tiny[step].reference for step in STEPS}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_model_and_evaluation_can_be_made_again_to_the_same_bytes(tiny: Any, program: Callable[..., Any]) -> None:
    names = [f"tiny.{step}" for step in DOMAIN_STEPS]
    ended = program("-m", "pipeline.artifacts", "reproduce", *names, "--json", store=tiny.store.root)
    verdicts = {row["reference"]: row["verdict"] for row in json.loads(ended.out)}
    assert ended.code == 0 and verdicts == {tiny[step].reference: "MATCH" for step in DOMAIN_STEPS}


def flip(path: Path) -> bytes:
    """Change one bit in the middle of a file and return what it held."""
    before = path.read_bytes()
    middle = len(before) // 2
    path.chmod(0o644)
    path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    return before


def test_one_flipped_bit_in_any_payload_file_is_seen_and_the_file_is_named(copy: Store) -> None:
    checked = 0
    for folder in copy.folders():
        for path in regular_files(folder / "payload"):
            copy.open(folder).verify()
            if not (before := path.read_bytes()):
                continue
            flip(path)
            with pytest.raises(IntegrityError, match=re.escape(str(path))):
                copy.open(folder).verify()
            path.write_bytes(before)
            checked += 1
    assert checked >= 30


@pytest.mark.slow
def test_a_damaged_model_is_refused_by_name_and_mended_to_the_same_digest(
    copy: Store, program: Callable[..., Any]
) -> None:
    size = ["--model.context-length", "32", "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "32"]
    few = ["--max-steps", "2", "--global-batch-tokens", "64", "--threads", "1"]
    made = program("-m", "train.pretrain", "--shards", copy.find("tiny.shards").reference, *size, *few, store=copy.root)
    model = copy.find(made.out.strip())
    flip(model.payload / "model.safetensors")
    for refused in (
        program("-m", "pipeline.artifacts", "verify", model.reference, store=copy.root),
        program("-m", "train.evaluate", model.reference, store=copy.root),
        program("-m", "model.generate", model.reference, "Once", store=copy.root),
    ):
        assert refused.code == 71
        assert f"{model.payload}/model.safetensors" in refused.err
        assert f"Run `python -m pipeline.artifacts repair {model.short}`" in refused.err
    repaired = program("-m", "pipeline.artifacts", "repair", model.short, store=copy.root)
    assert repaired.code == 0, repaired.err
    copy.find(model.reference).verify(rehash=True)
    assert copy.find(model.reference).digest == model.digest
    assert [path.name.startswith("model-") for path in (copy.root / "quarantine").iterdir()] == [True]


@pytest.fixture
def to_pretraining(tmp_path: Path) -> Path:
    """The recipe tiny without the steps that fine-tune and score."""
    tables = (RECIPES / "tiny.toml").read_text(encoding="utf-8").split("\n\n")
    wanted = ("[corpus]", "[tokenizer]", "[shards]", "[pretrain]", "[messages]", "[dialogues]")
    path = tmp_path / "to_pretraining.toml"
    path.write_text("\n\n".join(table for table in tables if table.startswith(wanted)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_folder_of_ones_own_is_trained_on_and_what_is_not_ones_own_is_said(
    program: Callable[..., Any], to_pretraining: Path, tmp_path: Path
) -> None:
    stories = (FOLDER / "tiny" / "stories.txt").read_text(encoding="utf-8").split("\n***\n")
    mine = tmp_path / "my texts"
    mine.mkdir()
    (mine / "one.txt").write_text("\n\n".join(stories[:150]), encoding="utf-8")
    (mine / "two.md").write_text("\n\n".join(stories[150:300]), encoding="utf-8")
    options = ("--corpus.source", str(mine), "--pretrain.max-steps", "1", "--pretrain.threads", "1")
    ended = program("-m", "pipeline.run", str(to_pretraining), *options)
    assert ended.code == 0, ended.err
    store = Store(tmp_path / "store")
    (location,) = {
        source["location"] for source in store.find("to_pretraining.corpus").manifest.recipe.config["sources"]
    }
    assert "my texts" in location
    assert store.find("to_pretraining.pretrain").facts["steps"] == 1
    assert "note: messages still comes from the shipped data cards tiny_messages" in ended.out
    assert "note: dialogues still comes from the shipped data cards tiny_dialogues" in ended.out
    assert "note: corpus" not in ended.out
    written = program("-m", "model.generate", "to_pretraining.pretrain", "Once", "--max-new-tokens", "5")
    assert written.code == 0 and written.out.startswith("Once")


def test_from_refuses_to_start_after_a_step_that_is_missing(program: Callable[..., Any]) -> None:
    ended = program("-m", "pipeline.run", "tiny", "--from", "shards")
    assert ended.code == 2 and "--from shards: it needs corpus, which is not up to date" in ended.err
