"""Program: talk with an assistant; a reply streams as it is made.

python -m model.chat REF
python -m model.chat REF --message "What is a whale?"
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from model.config import Sampling
from pipeline.runtime.console import say
from pipeline.runtime.program import default_store, program
from pipeline.tokenization.text_encoder import Message

if TYPE_CHECKING:
    from model.open import OpenedModel


@dataclass(frozen=True, kw_only=True)
class ChatCommand:
    """Whom to talk with, and how replies are sampled."""

    model: Positional[str]
    """the assistant: kind:id, a given name, or a path"""
    message: tuple[str, ...] = ()
    """say this, print the replies, and end; without it, messages are read line by line"""
    system: str = ""
    """what the assistant is told before the conversation"""
    sampling: Annotated[Sampling, arg(name="")] = field(
        default_factory=lambda: Sampling(temperature=0.3, max_new_tokens=120)
    )
    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    debug: bool = False
    """show a traceback when something fails"""


def run(command: ChatCommand) -> int:
    """Hold the conversation until there is nothing more to read."""
    from model.open import open_language_model

    opened = open_language_model(command.store, command.model)
    if opened.purpose != "assistant":
        say(
            f"{opened.artifact.short} is a base model: it continues text and was not taught to reply. "
            f'Use `python -m model.generate {opened.artifact.short} "…"`, or teach it with `python -m train.instruct`.'
        )
    history = [Message("system", command.system)] if command.system else []
    for text in command.message or _typed():
        history.append(Message("user", text))
        reply = ""
        for piece in reply_to(opened, history, command.sampling):
            print(piece, end="", flush=True)
            reply += piece
        print()
        history.append(Message("assistant", reply))
    return 0


def reply_to(opened: "OpenedModel", history: Sequence[Message], sampling: Sampling) -> Iterator[str]:
    """Yield the reply to the last message; the oldest turns are forgotten when the context is full."""
    from model.decoding import generate

    encoder, length = opened.encoder, opened.module.config.context_length
    system = [turn for turn in history[:1] if turn.role == "system"]
    turns = list(history[len(system) :])
    prompt, _ = encoder.conversation_ids([*system, *turns], reply_follows=True)
    while len(prompt) > length // 2 and len(turns) > 2:
        del turns[:2]  # what was said, and the reply to it
        prompt, _ = encoder.conversation_ids([*system, *turns], reply_follows=True)
    ids = generate(opened.module, prompt, sampling, stop_ids=encoder.stop_ids, banned_ids=encoder.role_ids)
    yield from encoder.stream(ids)


def _typed() -> Iterator[str]:
    """Yield the lines a person types; an empty one, or the end of input, ends the conversation."""
    if sys.stdin.isatty():
        say("Type a message; an empty line ends the conversation.")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not line.strip():
            return
        yield line.strip()


def main(argv: Sequence[str] | None = None) -> int:
    return program("model.chat", __doc__, ChatCommand, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
