"""Every command of the README runs, with the recipe `tiny` in place of `laptop`."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cleaning.chain import steps_by_name
from pipeline.sources.card import FOLDER
from pipeline.stage.definition import stages_by_kind

ROOT = FOLDER.parent


def readme_commands() -> list[str]:
    """Return the lines of the README's shell blocks that are programs of ours."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if "venv" not in line and "pip install" not in line]


def test_the_set_up_lines_are_the_two_that_ci_and_a_user_type() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python -m pip install -c constraints.txt -e . && python -m pipeline.run laptop\n" in text
    assert 'python -m pip install -c constraints.txt -e ".[dev]" && python -m pytest\n' in text


@pytest.fixture(scope="module")
def home(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home: a copy of the store, and a folder of texts."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny.store.root, home / "store")
    (home / "my_texts").mkdir()
    shutil.copy(FOLDER / "tiny" / "stories.txt", home / "my_texts" / "mine.txt")
    return home


@pytest.mark.parametrize("command", readme_commands())
def test_a_command_of_the_readme_does_what_it_says(
    command: str, home: Path, program: Callable[..., Any], one_thread: list[str]
) -> None:
    words = shlex.split(command.replace("laptop", "tiny").replace("~", str(home)))
    words = [
        str(home / word) if word.endswith(".html") else word for word in words
    ]  # what it writes is not the project's
    if "--corpus.source" in words:  # the same command with fewer steps and threads
        words += [*one_thread, "--pretrain.max-steps", "2", "--classifier.max-steps", "2", "--assistant.max-steps", "2"]
    words = ["-m", "accelerate.commands.launch", *words[2:]] if words[0] == "accelerate" else words[1:]
    ended = program(*words, store=home / "store")
    assert ended.code == 0, ended.err
    assert ended.out.strip()


def test_the_readme_names_every_program() -> None:
    named = " ".join(readme_commands())
    for program in ("pipeline.run", "pipeline.artifacts", "model.generate", "model.chat", "train.pretrain"):
        assert program in named


def test_the_readme_has_no_gap_left_to_fill() -> None:
    assert not re.findall(
        r"[A-Z]{4,}_[A-Z]+(?!\w)", (ROOT / "README.md").read_text(encoding="utf-8").replace("CAIRN_STORE", "")
    )


def test_the_readme_has_a_row_for_every_cleaning_step_and_every_kind_of_artifact() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| ")]
    named = {name.strip() for row in rows for name in row.split(",")}

    assert set(steps_by_name()) - named == set()
    assert set(stages_by_kind()) - named == set()
