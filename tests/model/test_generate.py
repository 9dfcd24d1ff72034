"""The program that continues a prompt."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from model.generate import main, until


@pytest.fixture
def generate(tiny: Any, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the program in this process and return what it printed."""

    def run(*arguments: str, model: str = "tiny.pretrain") -> str:
        code = main([model, *arguments, "--store", str(tiny.store.root)])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        return printed.out

    return run


def test_the_prompt_is_echoed_and_gone_on_from(generate: Callable[..., str]) -> None:
    text = generate("Once upon a time", "--max-new-tokens", "8")
    assert text.startswith("Once upon a time") and len(text.rstrip("\n")) > len("Once upon a time")


def test_greedy_text_is_the_same_every_time(generate: Callable[..., str]) -> None:
    options = ("Once", "--temperature", "0", "--max-new-tokens", "20")
    assert generate(*options) == generate(*options, "--seed", "7")


def test_a_seed_gives_one_text_and_another_seed_another(generate: Callable[..., str]) -> None:
    options = ("Once", "--temperature", "1.5", "--max-new-tokens", "20")
    assert generate(*options, "--seed", "1") == generate(*options, "--seed", "1")
    assert generate(*options, "--seed", "1") != generate(*options, "--seed", "2")


def test_text_ends_before_the_first_stop(generate: Callable[..., str]) -> None:
    whole = generate("Once", "--temperature", "0", "--max-new-tokens", "30").rstrip("\n")
    stop = whole[len("Once") + 12 :][:4]
    cut = generate("Once", "--temperature", "0", "--max-new-tokens", "30", "--stop", stop).rstrip("\n")
    assert cut == "Once" + whole[len("Once") :].partition(stop)[0] and len(cut) < len(whole)


def test_without_a_prompt_a_new_document_begins(generate: Callable[..., str]) -> None:
    assert generate("--max-new-tokens", "10", "--temperature", "0").strip()


def test_a_control_token_in_the_prompt_is_text(generate: Callable[..., str]) -> None:
    text = generate("<|endoftext|>", "--max-new-tokens", "3", "--temperature", "0")
    assert text.startswith("<|endoftext|>")


def test_an_assistant_is_pointed_to_chat(tiny: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny.assistant", "Hi", "--max-new-tokens", "2", "--store", str(tiny.store.root)]) == 0
    assert (
        f"is an assistant, tuned for replies: python -m model.chat {tiny['assistant'].short}" in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["tiny.classifier", "Hi"], 65, "is a classifier and cannot write text"),
        (["tiny.nothing", "Hi"], 66, "'tiny.nothing' names no artifact"),
        (["tiny.tokenizer", "Hi"], 65, "is not a model"),
        (["tiny.pretrain", "Hi", "--temperature", "-1"], 78, "temperature must be 0 or more"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_an_exit_code(
    arguments: list[str], code: int, message: str, tiny: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--store", str(tiny.store.root)]) == code
    err = capfd.readouterr().err
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize(
    "pieces, stops, text",
    [
        (["ab", "cd"], [], "abcd"),
        (["ab", "cd"], ["bc"], "a"),
        (["a", "b", "c"], ["zz"], "abc"),
        (["abab", "abc"], ["abc"], "abab"),
        (["one. ", "two."], [". t", "e"], "on"),
        ([""], ["x"], ""),
    ],
)
def test_a_stop_is_found_across_pieces_and_never_shown(pieces: Iterable[str], stops: list[str], text: str) -> None:
    assert "".join(until(pieces, stops)) == text


def test_text_streams_as_it_comes_but_for_what_may_be_a_stop() -> None:
    stream = until(iter(["Hello ", "wor", "ld"]), ["world!"])
    assert next(stream) == "H" and "".join(stream) == "ello world"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stop_text_is_found_however_it_is_cut_into_pieces(size: int) -> None:
    text = "Take two eggs. Ingredients: salt."
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert "".join(until(pieces, ["Ingredients"])) == "Take two eggs. "
    assert "".join(until(pieces, ["Nothing like it"])) == text
