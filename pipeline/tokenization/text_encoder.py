"""Machinery: text to ids and back, with control tokens that no text can produce, and the one chat template.

The encoder knows no control token: a text that holds `<|endoftext|>` literally becomes the ids of its characters.
Control ids follow the text ids, and only code puts them in.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import DataError

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
END = "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
CONTROL_TOKENS = (END_OF_TEXT, PAD, *ROLES.values(), END)

TEMPLATE_VERSION = 1
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""the template for `transformers`; `conversation_ids` is what Cairn itself uses, and a test holds them equal"""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


class TextEncoder:
    """A byte-level BPE as an artifact holds it: text ids 0..n-1, control ids from n on."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.control = {entry["content"]: int(i) for i, entry in config["added_tokens_decoder"].items()}
        self.text_size: int = self._tokenizer.get_vocab_size(with_added_tokens=False)
        if self._tokenizer.get_added_tokens_decoder():
            raise DataError(f"{folder}/tokenizer.json has control tokens, which text could then produce.")
        if sorted(self.control.values()) != list(range(self.text_size, self.text_size + len(self.control))):
            raise DataError(f"{folder}: the control ids must follow the {self.text_size} text ids.")

    @classmethod
    def of(cls, artifact: Artifact) -> "TextEncoder":
        """Open the encoder of a tokenizer or model artifact; its files are checked first."""
        for name in TOKENIZER_FILES:
            artifact.file(name)
        return cls(artifact.payload)

    @property
    def vocab_size(self) -> int:
        """All ids, control ids included."""
        return self.text_size + len(self.control)

    @property
    def end_of_text(self) -> int:
        return self.control[END_OF_TEXT]

    @property
    def end(self) -> int:
        """The id that ends a turn."""
        return self.control[END]

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids after which a model has said what it had to say."""
        return frozenset([self.end_of_text, self.end])

    @property
    def role_ids(self) -> frozenset[int]:
        """The ids that no model should say: whose turn it is, and padding."""
        return frozenset(self.control.values()) - self.stop_ids

    def encode(self, text: str) -> list[int]:
        """Return the text ids of `text`; never a control id."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the text ids of many texts."""
        return [e.ids for e in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the text ids; control ids have none, bytes that are no UTF-8 show as U+FFFD."""
        return b"".join(self.token_bytes[i] for i in ids).decode("utf-8", errors="replace")

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode ids as they come, a character when all its bytes are there."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in ids:
            yield decoder.decode(self.token_bytes[i])
        yield decoder.decode(b"", final=True)

    @cached_property
    def token_lengths(self) -> list[int]:
        """How many bytes each id stands for: a token is written with a sign for each of its bytes."""
        by_id = {i: len(token) for token, i in self._tokenizer.get_vocab(with_added_tokens=False).items()}
        return [by_id.get(i, 0) for i in range(self.vocab_size)]

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes each id stands for; nothing for control ids.

        Raises DataError for a tokenizer that is no byte-level BPE, or whose ids have gaps.
        """
        symbols = byte_of_symbol()
        by_id = {i: token for token, i in self._tokenizer.get_vocab(with_added_tokens=False).items()}
        if missing := [i for i in range(self.text_size) if i not in by_id]:
            raise DataError(f"{self._folder}/tokenizer.json has {self.text_size} tokens, but none of id {missing[0]}.")
        try:
            text = [bytes([symbols[character] for character in by_id[i]]) for i in range(self.text_size)]
        except KeyError as error:
            raise DataError(
                f"{self._folder}/tokenizer.json is no byte-level BPE: {error.args[0]!r} in one of its tokens is not "
                "one of the 256 signs for bytes."
            ) from error
        return [*text, *([b""] * len(self.control))]

    def conversation_ids(
        self, messages: Sequence[Message], *, reply_follows: bool = False
    ) -> tuple[list[int], list[int]]:
        """Return the ids of a conversation and its loss mask, 1 on what the assistant says and on its end.

        `reply_follows` ends with the assistant's role, for the network to go on.  Raises DataError for an unknown role.
        """
        ids: list[int] = []
        mask: list[int] = []
        for message in messages:
            if message.role not in ROLES:
                raise DataError(f"the role {message.role!r} is none of {', '.join(ROLES)}.")
            turn = [*self.encode(message.content), self.end]
            ids += [self.control[ROLES[message.role]], *turn]
            mask += [0, *([int(message.role == "assistant")] * len(turn))]
        if reply_follows:
            ids.append(self.control[ROLES["assistant"]])
            mask.append(0)
        return ids, mask


def token_dtype(vocab_size: int) -> str:
    """Return the narrowest of uint16 and uint32 that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def byte_of_symbol() -> dict[str, int]:
    """Return which byte each symbol of a byte-level BPE stands for (GPT-2's table of printable stand-ins)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return symbols | {chr(256 + i): byte for i, byte in enumerate(others)}


def tokenizer_config(text_size: int) -> dict[str, Any]:
    """Return the page that tells `transformers` of the control tokens and the chat template."""
    options = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    decoder = {str(text_size + i): {"content": token, **options} for i, token in enumerate(CONTROL_TOKENS)}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [*ROLES.values(), END],
        "eos_token": END_OF_TEXT,
        "pad_token": PAD,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
