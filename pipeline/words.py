"""Program: a lesson: words as tokens, step by step, and the byte pairs of the same text beside them.

    python -m pipeline.words
    python -m pipeline.words --text "The fox ran. The hen sat." --keep-whitespace
    python -m pipeline.words --file story.txt --second "A fox, unseen." --tokenizer tokenizer:1c0e…

Textbooks start with such a tokenizer, because one sees at once what each step does, and where it fails: a word that is
not in the vocabulary is lost.  Nothing else in the project uses it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.artifacts.store import Store
from pipeline.errors import DataError, MissingError, UsageError
from pipeline.runtime.program import default_store, program
from pipeline.tokenization.text_encoder import CONTROL_TOKENS, END_OF_TEXT, TextEncoder, tokenizer_config

UNKNOWN = "<|unk|>"
SPECIAL = (UNKNOWN, END_OF_TEXT)

_SPLIT = re.compile(
    r"<\|\w+\|>"  # a special token, typed into the text: here it is taken for one, which is why Cairn does otherwise
    r"|\w+"  # a word or a number
    r"|--|\.\.\."  # two signs of more than one character
    r"|[^\w\s]"  # any other sign by itself
    r"|\s"  # one space, one line end
)
_SPACE_BEFORE = re.compile(r" ([,.;:?!)\]}%]|\.\.\.)")
_SPACE_AFTER = re.compile(r"([(\[{]) ")
_SHOWN = 40


def split_words(text: str, *, keep_whitespace: bool) -> list[str]:
    """Cut text into words, signs and, if they are kept, single white-space characters.

    Kept, they make the cut exact: joining the pieces gives the text back.
    """
    pieces: list[str] = _SPLIT.findall(text)
    return pieces if keep_whitespace else [piece for piece in pieces if not piece.isspace()]


@dataclass(frozen=True)
class WordVocabulary:
    """Every different word of a text in alphabetical order, then the special tokens; an id is a place in that list."""

    tokens: tuple[str, ...]
    keeps_whitespace: bool

    @classmethod
    def of(cls, text: str, *, keep_whitespace: bool) -> "WordVocabulary":
        """Collect the words of a text."""
        words = set(split_words(text, keep_whitespace=keep_whitespace)) - set(SPECIAL)
        return cls((*sorted(words), *SPECIAL), keep_whitespace)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; every word that is not in the vocabulary gets the one id of `<|unk|>`."""
        unknown = self.ids[UNKNOWN]
        return [self.ids.get(word, unknown) for word in split_words(text, keep_whitespace=self.keeps_whitespace)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return a text of the ids; without white space it is guessed where it stood."""
        tokens = [self.tokens[i] for i in ids]
        if self.keeps_whitespace:
            return "".join(tokens)
        return _SPACE_AFTER.sub(r"\1", _SPACE_BEFORE.sub(r"\1", " ".join(tokens)))


# --- the lesson ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WordsCommand:
    """On which text to show it."""

    text: str | None = None
    """the text to learn from and to encode"""
    file: Path | None = None
    """or a file with that text"""
    second: str = "The wolf said hello to the hen, and the owl said nothing."
    """another text, with words that the first may not have"""
    keep_whitespace: bool = False
    """white space makes tokens too, and the text comes back exactly"""
    vocab_file: Path | None = None
    """take the words of the vocabulary from this text instead"""
    tokenizer: str | None = None
    """byte-pair tokenizer to show beside it (reference, name or path); none: one learned from the same text"""
    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    debug: bool = False
    """show a traceback when something fails"""

    def __post_init__(self) -> None:
        if self.text is not None and self.file is not None:
            raise UsageError("--text and --file both say which text: give one of them.")


STORY = (
    "The fox went to the hen house. The hen said: hello, fox! The fox said nothing -- the hen (who was old) said "
    "nothing, too.\nThe owl went to the old mill, and the hen went to the owl."
)
"""the text of the lesson when none is given"""


def run(command: WordsCommand) -> int:
    """Print the lesson."""
    text = _text_of(command)
    learned = _read(command.vocab_file) if command.vocab_file else text
    encoder = _encoder_of(command, learned)
    for line in lesson(text, command.second, learned, encoder, keep_whitespace=command.keep_whitespace):
        print(line)
    return 0


def lesson(text: str, second: str, learned: str, encoder: TextEncoder, *, keep_whitespace: bool) -> Iterator[str]:
    """Yield the lines of the lesson: six steps with words, then the same texts in byte pairs."""
    words = split_words(text, keep_whitespace=keep_whitespace)
    vocabulary = WordVocabulary.of(learned, keep_whitespace=keep_whitespace)
    ids = vocabulary.encode(text)
    yield from _step(1, "Split the text into words and signs", f"{len(words):,} pieces: {_pieces(words)}")
    yield from _step(2, "Number the different ones in alphabetical order", _vocabulary_line(vocabulary))
    yield from _step(3, "Replace each piece by its number", f"{_numbers(ids)}")
    yield from _step(4, "And back", *_decoded(vocabulary.decode(ids), text))
    yield from _step(5, "Another text has other words", *_unknown_lines(vocabulary, second))
    yield from _step(6, "Several texts in one stream", *_joined_lines(vocabulary, text, second))
    yield from _step(7, "The same two texts in byte pairs", *_byte_pair_lines(encoder, text, second))


def _step(number: int, title: str, *lines: str) -> Iterator[str]:
    yield f"{number}. {title}"
    yield from (f"   {line}" for line in lines)
    yield ""


def _vocabulary_line(vocabulary: WordVocabulary) -> str:
    shown = [f"{token!r}={i}" for i, token in enumerate(vocabulary.tokens)]
    if len(shown) > _SHOWN:
        shown = [*shown[: _SHOWN - 4], "…", *shown[-3:]]
    return f"{len(vocabulary.tokens):,} tokens: {' '.join(shown)}"


def _decoded(found: str, text: str) -> Iterator[str]:
    yield f"{_cut(found)!r}"
    if found == text:
        yield "This is the text, character for character."
    else:
        at = next((i for i, (a, b) in enumerate(zip(found, text, strict=False)) if a != b), min(len(found), len(text)))
        there, here = text[at : at + 12], found[at : at + 12]
        yield f"This is not the text: from character {at} on it is {there!r} there and {here!r} here."


def _unknown_lines(vocabulary: WordVocabulary, second: str) -> Iterator[str]:
    words = split_words(second, keep_whitespace=vocabulary.keeps_whitespace)
    unknown = [word for word in words if word not in vocabulary.ids]
    yield f"{_cut(second)!r}"
    yield _numbers(vocabulary.encode(second))
    yield f"{_cut(vocabulary.decode(vocabulary.encode(second)))!r}"
    yield f"{len(unknown)} of {len(words)} pieces are unknown: {_pieces(unknown) or 'none'}"


def _joined_lines(vocabulary: WordVocabulary, text: str, second: str) -> Iterator[str]:
    end = vocabulary.ids[END_OF_TEXT]
    first, then = vocabulary.encode(text), vocabulary.encode(second)
    yield f"{END_OF_TEXT} has the number {end} and says that what follows has nothing to do with what was before:"
    yield f"{_numbers(first[-4:])} {end} {_numbers(then[:4])}"
    yield f"{vocabulary.decode([*first[-4:], end, *then[:4]])!r}"


def _byte_pair_lines(encoder: TextEncoder, text: str, second: str) -> Iterator[str]:
    """Show the second text token by token; its words need not be known, for every byte is a token."""
    merges = encoder.text_size - 256
    yield f"{encoder.vocab_size:,} ids: 256 bytes, {merges:,} merges, {len(CONTROL_TOKENS)} control tokens"
    merged = [repr(_show(token)) for token in encoder.token_bytes[256 : encoder.text_size]]
    yield f"the first merges made: {' '.join(merged[:20]) or '(none)'}{' …' if len(merged) > 20 else ''}"
    for given in (text, second):
        ids = encoder.encode(given)
        yield f"{len(ids):,} tokens: {_pieces([_show(encoder.token_bytes[i]) for i in ids])}"
        yield _numbers(ids)
        same = "the text, character for character" if encoder.decode(ids) == given else "NOT the text"
        yield f"and back: {same}; nothing is unknown"
    typed = encoder.encode(END_OF_TEXT)
    yield f"{END_OF_TEXT} is the id {encoder.end_of_text}, which only code puts in; typed it is {_numbers(typed)}"


def _show(token: bytes) -> str:
    return token.decode("utf-8", errors="replace")


def _pieces(words: Sequence[str]) -> str:
    """Write pieces with bars between them, white space visible."""
    shown = "|".join(repr(word)[1:-1] for word in words[:_SHOWN])
    return shown + ("|…" if len(words) > _SHOWN else "")


def _numbers(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids[:_SHOWN])) + (" …" if len(ids) > _SHOWN else "")


def _cut(text: str) -> str:
    return text if len(text) <= 240 else f"{text[:240]}…"


# --- where the texts and the byte pairs come from ------------------------------------------------------------


def _text_of(command: WordsCommand) -> str:
    text = _read(command.file) if command.file else STORY if command.text is None else command.text
    if not text.strip():
        raise DataError("the text has no words.")
    return text


def _read(path: Path) -> str:
    if not path.is_file():
        raise MissingError(f"{path} is no file.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}.") from None


def _encoder_of(command: WordsCommand, learned: str) -> TextEncoder:
    """Open the tokenizer that was named, else learn a small one from the text."""
    store = Store(command.store.expanduser())
    if command.tokenizer is not None:
        artifact = store.find(command.tokenizer)
        if artifact.kind not in ("tokenizer", "model"):
            raise DataError(f"{command.tokenizer} is a {artifact.kind}, not a tokenizer.")
        return TextEncoder.of(artifact)
    return learn_byte_pairs(learned)


def learn_byte_pairs(text: str, vocab_size: int = 512) -> TextEncoder:
    """Learn a small byte-pair vocabulary from one text."""
    import json
    import tempfile

    from pipeline.tokenizer import TokenizerConfig, train

    tokenizer = train([text], TokenizerConfig(vocab_size=vocab_size))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save(str(folder / "tokenizer.json"))
        page = json.dumps(tokenizer_config(tokenizer.get_vocab_size()))
        (folder / "tokenizer_config.json").write_text(page, encoding="utf-8")
        return TextEncoder(folder)


def main(argv: Sequence[str] | None = None) -> int:
    return program("pipeline.words", __doc__, WordsCommand, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
