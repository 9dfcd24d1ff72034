"""Program: continue a prompt with a model, token by token.

python -m model.generate REF "Once upon a time" --temperature 0.8 --top-k 50
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from model.config import Sampling
from pipeline.runtime.console import say
from pipeline.runtime.program import default_store, program


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """What to continue, and how."""

    model: Positional[str]
    """the model: kind:id, a given name, or a path"""
    prompt: Positional[str] = ""
    """text to go on from; nothing: a new document"""
    sampling: Annotated[Sampling, arg(name="")] = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    """texts that end the output where they first appear"""
    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    debug: bool = False
    """show a traceback when something fails"""


def run(command: GenerateCommand) -> int:
    """Print the prompt and what follows as it comes."""
    from model.decoding import generate
    from model.open import open_language_model

    opened = open_language_model(command.store, command.model)
    if opened.purpose != "pretrained":
        say(f"{opened.artifact.short} is an assistant, tuned for replies: python -m model.chat {opened.artifact.short}")
    encoder = opened.encoder
    prompt = encoder.encode(command.prompt) or [encoder.end_of_text]
    ids = generate(opened.module, prompt, command.sampling, stop_ids=encoder.stop_ids, banned_ids=encoder.role_ids)
    print(command.prompt, end="", flush=True)
    for text in until(encoder.stream(ids), command.stop):
        print(text, end="", flush=True)
    print()
    return 0


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield text as it comes, up to the first of `stops`, holding back what might be the start of one."""
    held = ""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for piece in pieces:
        held += piece
        found = [at for stop in stops if stop and (at := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)]
            return
        cut = max(0, len(held) - longest)
        yield held[:cut]
        held = held[cut:]
    yield held


def main(argv: Sequence[str] | None = None) -> int:
    return program("model.generate", __doc__, GenerateCommand, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
