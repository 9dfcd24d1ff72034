"""Program: a lesson: text becomes tokens, tokens become ids, ids become windows and vectors, each step printed.

    python -m pipeline.words
    python -m pipeline.words --text "The fox ran. The hen sat." --keep-whitespace
    python -m pipeline.words --text "$(cat story.txt)" --second "A fox, unseen."

It starts with words as tokens, as textbooks do: one sees at once what each step does, and where it fails, for a word
that is not in the vocabulary is lost.  The byte pairs after them are what Cairn uses; the words nothing else does.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.runtime.program import program
from pipeline.tokenization.text_encoder import END_OF_TEXT
from pipeline.tokenizer import TokenizerConfig, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN = "<|unk|>"
SPECIAL = (UNKNOWN, END_OF_TEXT)
_SPLIT = re.compile(r"<\|\w+\|>|\w+|--|\.\.\.|[^\w\s]|\s")
"""a special token (one that is typed is taken for one: Cairn does otherwise), a word, signs, one white space"""
_CONTEXT, _WINDOWS, _WIDTH, _SHOWN = 4, 3, 3, 40


def split_words(text: str, *, keep_whitespace: bool) -> list[str]:
    """Cut text into words, signs and, if they are kept, white-space characters: kept, joining gives the text back."""
    found: list[str] = _SPLIT.findall(text)
    return found if keep_whitespace else [word for word in found if not word.isspace()]


@dataclass(frozen=True)
class WordVocabulary:
    """A number for every different word of a text, in alphabetical order, then for the special tokens."""

    ids: dict[str, int]
    keeps_whitespace: bool

    @classmethod
    def of(cls, text: str, *, keep_whitespace: bool) -> "WordVocabulary":
        words = set(split_words(text, keep_whitespace=keep_whitespace)) - set(SPECIAL)
        return cls({word: i for i, word in enumerate((*sorted(words), *SPECIAL))}, keep_whitespace)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; every word that is not in the vocabulary gets the one id of `<|unk|>`."""
        words = split_words(text, keep_whitespace=self.keeps_whitespace)
        return [self.ids.get(word, self.ids[UNKNOWN]) for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Return a text of the ids; white space that was not kept is guessed."""
        words = list(self.ids)
        text = ("" if self.keeps_whitespace else " ").join(words[i] for i in ids)
        return text if self.keeps_whitespace else re.sub(r" ([,.;:?!)\]}%]|\.\.\.)|([(\[{]) ", r"\1\2", text)


@dataclass(frozen=True, kw_only=True)
class WordsCommand:
    """On which text to show it."""

    text: str = (
        "The fox went to the hen house. The hen said: hello, fox! The fox said nothing -- the hen (who was old) said "
        "nothing, too.\nThe owl went to the old mill, and the hen went to the owl."
    )
    """the text to learn from and to encode"""
    second: str = "The wolf said hello to the hen, and the owl said nothing."
    """another text, with words that the first may not have"""
    keep_whitespace: bool = False
    """white space makes tokens too, and the text comes back exactly"""
    debug: bool = False
    """show a traceback when something fails"""


def lesson(text: str, second: str, byte_pairs: "Tokenizer", *, keep_whitespace: bool) -> Iterator[tuple[str, ...]]:
    """Yield the steps, each a title and its lines: five with words, then the same texts in byte pairs."""
    words = WordVocabulary.of(text, keep_whitespace=keep_whitespace)
    cut, other = (split_words(each, keep_whitespace=keep_whitespace) for each in (text, second))
    ids, lost = words.encode(text), [word for word in other if word not in words.ids]
    back, known = words.decode(ids), words.decode(words.encode(second))
    table = (f"{word!r}={i}" for word, i in words.ids.items())
    yield "Split the text into words and signs", f"{len(cut):,} tokens: {_bars(cut)}"
    yield "Number the different ones in alphabetical order", f"{len(words.ids):,} ids: {_some(table)}"
    yield "Replace each token by its number", _some(ids)
    yield "And back", repr(back[:240]), f"This is {'' if back == text else 'not '}the text, character for character."
    yield "Another text has other words", repr(known[:240]), f"{len(lost)} of {len(other)} are lost: {_bars(lost)}"
    yield "In byte pairs nothing is lost: every byte is a token", *_byte_pair_lines(byte_pairs, (text, second))
    end = byte_pairs.get_vocab_size()  # control ids follow the text ids, and only code puts them in
    stream = [*byte_pairs.encode(text).ids, end, *byte_pairs.encode(second).ids]
    yield f"All texts are one stream, {end} between them, and the target of an id is the next one", *_windows(stream)
    yield "The model looks each id up in a table of numbers, which training changes", *_vectors(stream, end + 1)


def _byte_pair_lines(byte_pairs: "Tokenizer", texts: Sequence[str]) -> Iterator[str]:
    size = byte_pairs.get_vocab_size()
    yield f"{size:,} ids: 256 bytes and {size - 256:,} merges of two tokens, learned from the first text"
    for text in texts:
        ids = byte_pairs.encode(text).ids
        yield f"{len(ids):,} tokens: {_bars([byte_pairs.decode([i]) for i in ids])}"
        yield f"{_some(ids)}, and back: {'the text' if byte_pairs.decode(ids) == text else 'NOT the text'}"


def _windows(stream: Sequence[int]) -> Iterator[str]:
    for i in range(0, min(_WINDOWS * _CONTEXT, len(stream) - _CONTEXT), _CONTEXT):
        yield f"inputs {_some(stream[i : i + _CONTEXT])}  targets {_some(stream[i + 1 : i + 1 + _CONTEXT])}"


def _vectors(stream: Sequence[int], vocab_size: int) -> Iterator[str]:
    import numpy as np

    embedding = np.random.default_rng(0).normal(size=(vocab_size, _WIDTH))
    yield f"{vocab_size:,} rows of {_WIDTH} numbers, at first by chance; id i is row i"
    yield from (f"{i}: {' '.join(f'{number:+.2f}' for number in embedding[i])}" for i in stream[:_CONTEXT])


def _bars(words: Sequence[str]) -> str:
    """Write tokens with bars between them, white space visible."""
    return "|".join(repr(word)[1:-1] for word in words[:_SHOWN]) + ("|…" if len(words) > _SHOWN else "")


def _some(entries: Iterable[object]) -> str:
    shown = list(map(str, entries))
    return " ".join(shown[:_SHOWN]) + (" …" if len(shown) > _SHOWN else "")


def run(command: WordsCommand) -> int:
    """Print the lesson."""
    if not command.text.strip():
        raise DataError("the text has no words.")
    byte_pairs = train([command.text], TokenizerConfig(vocab_size=512))
    steps = lesson(command.text, command.second, byte_pairs, keep_whitespace=command.keep_whitespace)
    for number, (title, *lines) in enumerate(steps, 1):
        print("\n   ".join([f"{number}. {title}", *lines]) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return program("pipeline.words", __doc__, WordsCommand, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
