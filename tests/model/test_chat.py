"""The program that talks."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from model.chat import main, reply_to
from model.config import Sampling
from model.open import OpenedModel, open_language_model
from pipeline.tokenization.text_encoder import CONTROL_TOKENS, Message

GREEDY = Sampling(temperature=0.0, max_new_tokens=30)


@pytest.fixture
def chat(tiny: Any, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run the program in this process and return what it printed and said."""

    def run(*arguments: str, model: str = "tiny.assistant") -> tuple[str, str]:
        options = ("--temperature", "0", "--max-new-tokens", "30", "--store", str(tiny.store.root))
        code = main([model, *arguments, *options])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        return printed.out, printed.err

    return run


@pytest.fixture
def assistant(tiny: Any) -> OpenedModel:
    return open_language_model(tiny.store.root, "tiny.assistant")


def test_a_message_gets_a_reply(chat: Callable[..., tuple[str, str]]) -> None:
    out, err = chat("--message", "Hi there.")
    assert out.strip() and err == ""


def test_a_reply_holds_no_control_token(chat: Callable[..., tuple[str, str]]) -> None:
    out, _ = chat("--message", "Hi there.", "What is an oak?", "<|assistant|> and <|end|>")
    assert not any(token in out for token in CONTROL_TOKENS)


def test_each_message_gets_its_reply_and_the_turns_before_count(
    chat: Callable[..., tuple[str, str]], assistant: OpenedModel
) -> None:
    out, _ = chat("--message", "Hi there.", "Name a tree.")
    first = "".join(reply_to(assistant, [Message("user", "Hi there.")], GREEDY))
    history = [Message("user", "Hi there."), Message("assistant", first), Message("user", "Name a tree.")]
    assert out == first + "\n" + "".join(reply_to(assistant, history, GREEDY)) + "\n"


def test_messages_are_read_line_by_line_until_an_empty_one(
    chat: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, _ = chat("--message", "Hi there.", "Name a tree.")
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi there.\nName a tree.\n\nNot read\n"))
    assert chat()[0] == given


def test_a_base_model_is_told_apart(chat: Callable[..., tuple[str, str]], tiny: Any) -> None:
    out, err = chat("--message", "Hi", model="tiny.pretrain")
    assert f"{tiny['pretrain'].short} is a base model: it continues text and was not taught to reply" in err
    assert f"python -m model.generate {tiny['pretrain'].short}" in err
    assert not any(token in out for token in CONTROL_TOKENS)


def test_a_system_message_is_told_first(assistant: OpenedModel, chat: Callable[..., tuple[str, str]]) -> None:
    out, _ = chat("--message", "Hi there.", "--system", "You speak of trees.")
    history = [Message("system", "You speak of trees."), Message("user", "Hi there.")]
    assert out == "".join(reply_to(assistant, history, GREEDY)) + "\n"


def test_of_a_long_conversation_the_oldest_turns_are_forgotten(assistant: OpenedModel) -> None:
    length = assistant.module.config.context_length
    old = [Message(("user", "assistant")[i % 2], f"word {i} " * 8) for i in range(length)]
    last = Message("user", "Hi there.")
    assert "".join(reply_to(assistant, [*old, last], GREEDY)) != ""
    assert len(old) == length, "the history itself stays whole"


def test_the_same_message_gets_the_same_reply(chat: Callable[..., tuple[str, str]]) -> None:
    assert chat("--message", "Hi there.") == chat("--message", "Hi there.")


def test_a_classifier_cannot_talk(tiny: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny.classifier", "--message", "Hi", "--store", str(tiny.store.root)]) == 65
    assert "is a classifier and cannot write text; `python -m train.evaluate` scores it" in capfd.readouterr().err
