"""The peers' environments are what their pins say, whole or not at all."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.bench.environments import ENVIRONMENTS, Environment, _run, python_of
from pipeline.errors import UnavailableError


def maker(commands: list[list[str]], why: str | None = None) -> Callable[[Sequence[str]], str | None]:
    """Return what stands for venv and pip: it notes the commands, and makes the folder."""

    def run(command: Sequence[str]) -> str | None:
        commands.append(list(command))
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
        return why if "pip" in command else None

    return run


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path: Path) -> None:
    commands: list[list[str]] = []
    first = python_of(Environment("a", ("numpy==2.4.6", "torch==2.13.0")), tmp_path, maker(commands))
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]
    assert commands[1][-2:] == ["--no-deps", "numpy==2.4.6"] and commands[2][-1] == "torch==2.13.0"
    assert python_of(Environment("a", ("numpy==2.4.6", "torch==2.13.0")), tmp_path, maker(commands)) == first
    assert len(commands) == 3
    assert python_of(Environment("a", ("numpy==2.4.5",)), tmp_path, maker(commands)) != first
    assert len(commands) == 5


def test_an_environment_that_pip_could_not_fill_is_not_used_later(tmp_path: Path) -> None:
    half = Environment("a", ("numpy==0.0.1",))
    with pytest.raises(UnavailableError, match=r"numpy==0.0.1\n  no such version"):
        python_of(half, tmp_path, maker([], "no such version"))
    commands: list[list[str]] = []
    python_of(half, tmp_path, maker(commands))
    assert len(commands) == 2


def test_every_peer_is_pinned_to_one_version_and_has_none_twice() -> None:
    for environment in ENVIRONMENTS:
        names = [pin.split("==")[0].lower() for pin in environment.pins]
        assert all(pin.count("==") == 1 for pin in environment.pins)
        assert len(set(names)) == len(names)
    assert len({environment.key for environment in ENVIRONMENTS}) == len(ENVIRONMENTS)


def test_why_a_command_failed_is_the_end_of_what_it_said() -> None:
    code = "import sys; print('1\\n2\\n3\\n4', file=sys.stderr); sys.exit(1)"

    assert _run([sys.executable, "-c", code]) == "2\n  3\n  4"
    assert _run([sys.executable, "-c", "print('out'); raise SystemExit(1)"]) == "out"
    assert _run([sys.executable, "-c", ""]) is None


def test_without_torch_nothing_is_resolved(tmp_path: Path) -> None:
    commands: list[list[str]] = []
    python_of(Environment("a", ("numpy==2.4.6",)), tmp_path, maker(commands))

    assert len(commands) == 2 and "--no-deps" in commands[1]
