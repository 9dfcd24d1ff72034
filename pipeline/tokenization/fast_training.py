"""Machinery: learn BPE merges with gigatoken where they are the very merges of `tokenizers`, several times sooner.

Why they are equal: what BPE learns (Sennrich et al. 2016) follows from how often each pre-token is seen, and from
which of several equally frequent pairs comes first.  The counts are equal where the pre-tokens are: for GPT-2's
pattern, in the versions that were compared, on text without the characters that Unicode 17 added (see `engines`).  The
order of ties is promised nowhere; it is compared on tie-rich texts and on a sample of the corpus itself, every time,
and tests compare many more.  gigatoken knows no minimum frequency, but pairs are merged in falling order of theirs, so
a vocabulary whose last pair was frequent enough is the same with and without one.

Where it is not trusted, `tokenizers` learns: another pattern, another version, a character of Unicode 17, a pre-token
over the cap on length (which gigatoken does not have), too few frequent pairs, or any difference in a comparison.
"""

import json
import os
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tokenization.engines import UnsuitableError, check_versions
from pipeline.tokenization.text_encoder import byte_of_symbol
from pipeline.tokenization.unicode_17 import holds_unicode_17

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEPARATOR = b"\xff\xfe\xff"
"""between documents: bytes that are in no UTF-8"""
_SAMPLE_BYTES = 2**19
_TIE_RICH = 24
_SURPLUS = 1000
"""merges asked for beyond those needed, because some make a token that is there already"""

Merges = list[tuple[bytes, bytes]]


def fast_merges(texts: Iterable[list[str]], merge_count: int, min_frequency: int, scratch: Path) -> Merges:
    """Return the merges that `tokenizers` would learn from `texts`; those of the first bytes are checked.

    Raises UnsuitableError saying why they must be learned by `tokenizers` itself.
    """
    if find_spec("gigatoken") is None:
        raise UnsuitableError("gigatoken is not installed")
    check_versions()
    for corpus in tie_rich_texts():
        _check_equal(corpus, 400)
    path = scratch / "texts.bin"
    _check_equal(_write_texts(texts, path), 1000)
    merges = _first_making(merge_count, _train(path, merge_count))
    if not _last_is_frequent(path, merges, max(1, min_frequency)):
        raise UnsuitableError("the text has too few pairs that are frequent enough")
    return merges


def _train(texts: Path | bytes, merge_count: int) -> Merges:
    """Return the merges that gigatoken learns from a file or from bytes, some more than asked for."""
    import gigatoken

    in_memory = isinstance(texts, bytes)
    source = texts if in_memory else gigatoken.TextFileSource([str(texts)], separator=SEPARATOR)
    with _discard_output():
        _, merges = gigatoken.train_bpe(
            source, 256 + merge_count + _SURPLUS, [], separator=SEPARATOR if in_memory else None
        )
    return list(merges)


@contextmanager
def _discard_output() -> Iterator[None]:
    """Discard what a library writes past Python, to the process's own stdout and stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    copies = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        for descriptor, copy in enumerate(copies, 1):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)


def _first_making(tokens: int, merges: Merges) -> Merges:
    """Return the first merges, as many as make `tokens` different tokens: two merges may make the same one."""
    seen: set[bytes] = set()
    for count, (left, right) in enumerate(merges, 1):
        seen.add(left + right)
        if len(seen) == tokens:
            return merges[:count]
    raise UnsuitableError("the text has too few pairs, or very many ways to make a token")


def reference_merges(texts: Iterable[str], merge_count: int) -> Merges:
    """Return the merges that `tokenizers` learns with GPT-2's pattern and no minimum frequency."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merge_count, min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    symbols = byte_of_symbol()
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]

    def read(side: str) -> bytes:
        return bytes(symbols[character] for character in side)

    return [(read(left), read(right)) for left, right in pairs]


def tie_rich_texts() -> Iterator[list[str]]:
    """Yield small corpora of few letters, in which many pairs are seen equally often: always the same ones."""
    draw = random.Random(20)
    alphabets = ("ab", "abc", "ab ", "abcd \n", "aé ", "a1 '", "xyé🦊 ", "abcdefgh ")
    for number in range(_TIE_RICH):
        letters = alphabets[number % len(alphabets)]
        lengths = [draw.randrange(draw.choice((8, 40, 200))) for _ in range(draw.randrange(1, 12))]
        yield ["".join(draw.choice(letters) for _ in range(length)) for length in lengths]


def _check_equal(texts: list[str], merge_count: int) -> None:
    """Raise UnsuitableError when gigatoken learns other merges from these texts; it goes on where nothing is left."""
    theirs = reference_merges(texts, merge_count)
    data = SEPARATOR.join(text.encode("utf-8") for text in texts)
    ours = _train(data, merge_count)
    if ours[: len(theirs)] != theirs:
        raise UnsuitableError(f"gigatoken learns other merges than `tokenizers` from texts like {texts[0][:40]!r}")


def _write_texts(texts: Iterable[list[str]], path: Path) -> list[str]:
    """Write the texts to a file, looking for characters of Unicode 17; return the first texts as a sample."""
    sample: list[str] = []
    size = 0
    with path.open("wb") as out:
        for batch in texts:
            for text in batch:
                data = text.encode("utf-8")
                if holds_unicode_17(data):
                    raise UnsuitableError("the text has letters that only gigatoken knows for letters")
                out.write(data)
                out.write(SEPARATOR)
                if size < _SAMPLE_BYTES:
                    sample.append(text[:_SAMPLE_BYTES])
                    size += len(data)
    return sample


def _last_is_frequent(path: Path, merges: Merges, times: int) -> bool:
    """Tell whether the last pair was seen `times` times when it was merged.

    So often its token stands in the text in the end: no later merge takes it up.
    """
    import gigatoken
    import numpy as np

    tokenizer = tokenizer_of(merges)
    last = tokenizer.get_vocab_size() - 1
    engine = gigatoken.Tokenizer.from_json(tokenizer.to_str().encode("utf-8"))
    for document in _documents(path):
        times -= int(np.count_nonzero(engine.encode(document) == last))
        if times <= 0:
            return True
    return False


def _documents(path: Path) -> Iterator[bytes]:
    """Yield the documents of a file, reading a chunk of it at a time."""
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            *documents, rest = (rest + chunk).split(SEPARATOR)
            yield from documents


def tokenizer_of(merges: Merges) -> "Tokenizer":
    """Return a `tokenizers.Tokenizer` of GPT-2's pattern with these merges, its ids as the trainer gives them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    symbols = {byte: symbol for symbol, byte in byte_of_symbol().items()}

    def written(token: bytes) -> str:
        return "".join(symbols[byte] for byte in token)

    vocabulary = {symbol: i for i, symbol in enumerate(sorted(symbols.values()))}
    pairs = [(written(left), written(right)) for left, right in merges]
    for left, right in pairs:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
