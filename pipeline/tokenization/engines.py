"""Machinery: encode many documents fast, with the very ids that `tokenizers` gives.

`tokenizers` is the reference and the fallback.  A faster engine is used when it is installed, when it says that it can
do this tokenizer, and when it gives the same ids as the reference on `hard_texts`; whoever encodes a part also compares
a sample of that part and counts its bytes (`distrust`).  What this promises: an engine that differs on a hard text or
on a sample never writes a byte, and every character of Unicode is cut as the reference cuts it (a test tries them all).
"""

import json
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from pipeline.errors import UnavailableError
from pipeline.runtime.provenance import version_of
from pipeline.tokenization.pretokenizers import GPT2
from pipeline.tokenization.text_encoder import TextEncoder, token_dtype
from pipeline.tokenization.unicode_17 import documents_with_newer_letters

EncoderName: TypeAlias = Literal["auto", "tokenizers", "tiktoken", "gigatoken"]
REFERENCE = "tokenizers"
FAST = ("gigatoken", "tiktoken")
"""the engines that `auto` tries, in this order"""

# `tokenizers` takes some 50 bytes of memory for each byte of the batch that it encodes.
_BATCH_CHARACTERS = 2**18
_CHECK_BYTES = 2**20
CACHE_BYTES = 3 * 2**25
"""how much memory a cache of words may take before it is dropped"""


class UnsuitableError(Exception):
    """This engine cannot do this tokenizer; the message says why."""


class Engine(Protocol):
    """Encodes documents; opened once and used for many parts."""

    name: str

    def encode_documents(self, documents: Any) -> tuple[Any, Any]:
        """Return all ids one after the other, without control ids, and the number of ids of each document.

        `documents` is a pyarrow StringArray or a list of str; the ids are uint16 or uint32, the lengths int64.
        """
        ...


def open_encoder(folder: Path, engine: str) -> Engine:
    """Open an engine on the two files of a tokenizer; the same object when asked again.

    Raises UnsuitableError when it cannot do this tokenizer.
    """
    return open_reference(folder) if engine == REFERENCE else _open_fast(folder, engine)


@lru_cache(maxsize=1)
def open_reference(folder: Path) -> "Reference":
    """Open the reference on the two files of a tokenizer."""
    return Reference(folder)


@lru_cache(maxsize=1)
def _open_fast(folder: Path, engine: str) -> Engine:
    return Gigatoken(folder) if engine == "gigatoken" else Tiktoken(folder)


def is_installed(engine: str) -> bool:
    """Tell whether the package of an engine is there."""
    return find_spec(engine) is not None


def engines_for(asked: EncoderName) -> tuple[str, ...]:
    """Return the engines to try, the best first, the reference last.

    Raises UnavailableError when the one asked for is not installed.
    """
    if asked == "auto":
        return (*filter(is_installed, FAST), REFERENCE)
    if asked != REFERENCE and not is_installed(asked):
        raise UnavailableError(
            f'--encoder {asked} needs the package {asked}. Install it: python -m pip install "cairn-lm[fast]"'
        )
    return tuple(dict.fromkeys((asked, REFERENCE)))


# --- the engines ---------------------------------------------------------------------------------------------


class Reference:
    """`tokenizers` in small batches."""

    name = REFERENCE

    def __init__(self, folder: Path) -> None:
        self.encoder = TextEncoder(folder)
        self._dtype = token_dtype(self.encoder.vocab_size)

    def encode_documents(self, documents: Any) -> tuple[Any, Any]:
        import numpy as np

        batches = (self.encoder.encode_batch(batch) for batch in _batches(documents))
        return _joined([np.array(ids, dtype=self._dtype) for batch in batches for ids in batch], self._dtype)

    @cached_property
    def _widths(self) -> Any:
        import numpy as np

        return np.array(self.encoder.token_lengths, dtype=np.uint32)

    def count_bytes(self, values: Any) -> int:
        """Return how many bytes of text these ids stand for."""
        return sum(int(self._widths[values[i : i + 2**20]].sum()) for i in range(0, len(values), 2**20))


class Tiktoken:
    """`tiktoken` with the ranks and the pattern that tokenizer.json states."""

    name = "tiktoken"

    def __init__(self, folder: Path) -> None:
        import tiktoken

        self._reference = open_reference(folder).encoder
        self._dtype = token_dtype(self._reference.vocab_size)
        page = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        pattern = pattern_of(page)
        _check_ranks(page["model"])
        ranks = {token: i for i, token in enumerate(self._reference.token_bytes[: self._reference.text_size])}
        # Without any control token it would look for one at every character; this one is never allowed.
        control = {"<|\x00|>": len(ranks)}
        try:
            self._engine = tiktoken.Encoding("cairn", pat_str=pattern, mergeable_ranks=ranks, special_tokens=control)
        except ValueError as error:
            raise UnsuitableError(f"tiktoken cannot read the pattern: {error}") from error

    def encode_documents(self, documents: Any) -> tuple[Any, Any]:
        return _joined([self._encode(text) for batch in _batches(documents) for text in batch], self._dtype)

    def _encode(self, text: str) -> Any:
        import numpy as np

        try:
            return self._engine.encode_to_numpy(text, disallowed_special=())
        except ValueError:  # its regular expressions give up on runs of about a million blanks; encode_ordinary panics
            return np.array(self._reference.encode(text), dtype=self._dtype)


class Gigatoken:
    """`gigatoken`, made anew whenever its cache of words has grown too large.

    It cuts words by a newer Unicode than `tokenizers`, so a document with one of the letters that differ is encoded by
    the reference.  That these are all was found by trying every character with the versions of `COMPARED`.
    """

    name = "gigatoken"

    def __init__(self, folder: Path, cache_bytes: int = CACHE_BYTES) -> None:
        check_versions()
        self._reference = open_reference(folder)
        self._page = (folder / "tokenizer.json").read_bytes()
        self._dtype = token_dtype(self._reference.encoder.vocab_size)
        self._cache_bytes = cache_bytes
        self.restarts = 0
        self._unchecked = 0
        self._engine = self._made()
        self._base = _private_bytes()

    def encode_documents(self, documents: Any) -> tuple[Any, Any]:
        from pipeline.tables.arrow import bytes_of, offsets_of

        ids: list[Any] = []
        texts = _column(documents)
        newer = set(documents_with_newer_letters(texts.buffers()[2] or b"", offsets_of(texts)))
        for number, document in enumerate(bytes_of(texts)):
            if number in newer:
                ids.append(self._reference.encode_documents([str(document, "utf-8")])[0])
                continue
            # One by one: for a batch it would import awkward, which takes longer than encoding a part.
            ids.append(self._engine.encode(bytes(document)))
            self._unchecked += len(document)
            if self._unchecked > _CHECK_BYTES:
                self._unchecked = 0
                if _private_bytes() - self._base > self._cache_bytes + 4 * sum(map(len, ids)):
                    self._engine = None  # frees the old one first
                    self._engine = self._made()
                    self._base = _private_bytes() - 4 * sum(map(len, ids))
                    self.restarts += 1
        return _joined(ids, self._dtype)

    def _made(self) -> Any:
        import gigatoken

        try:
            return gigatoken.Tokenizer.from_json(self._page)
        except (RuntimeError, ValueError) as error:
            raise UnsuitableError(str(error).partition("\n")[0]) from error


COMPARED = {"gigatoken": "0.10", "tokenizers": "0.23"}
"""the versions whose letters, digits and blanks were compared, character by character"""


def check_versions() -> None:
    """Raise UnsuitableError when gigatoken or `tokenizers` is not of a version that was compared."""
    for package, compared in COMPARED.items():
        if (found := version_of(package, 2)) != compared:
            raise UnsuitableError(f"{package} {found} was not compared, {compared} was")


def _private_bytes() -> int:
    """Return the memory that this process has for itself, files that it maps left out."""
    import psutil

    info = psutil.Process().memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def _joined(ids: list[Any], dtype: str) -> tuple[Any, Any]:
    import numpy as np

    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return np.concatenate([np.empty(0, dtype=dtype), *ids], dtype=dtype, casting="unsafe"), lengths


def _column(documents: Any) -> Any:
    """Return documents as a StringArray."""
    from pipeline.tables.arrow import strings

    return strings(documents) if isinstance(documents, list) else documents


def _batches(documents: Any) -> Iterator[list[str]]:
    """Yield the documents in order, some at a time, so that a batch is small or one document."""
    from pipeline.tables.arrow import bytes_of

    batch: list[str] = []
    size = 0
    for document in bytes_of(_column(documents)):
        if batch and size + len(document) > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(str(document, "utf-8"))
        size += len(document)
    if batch:
        yield batch


# --- what a tokenizer.json says ------------------------------------------------------------------------------


def pattern_of(page: dict[str, Any]) -> str:
    """Return the regular expression that cuts text into words; UnsuitableError when it is not one alone."""
    if page.get("normalizer") is not None:
        raise UnsuitableError("the tokenizer normalizes text")
    steps = page["pre_tokenizer"] or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    last = steps[-1]
    if last.get("type") != "ByteLevel" or last["add_prefix_space"]:
        raise UnsuitableError("the words are not cut at byte level")
    if len(steps) == 1 and last["use_regex"]:
        return GPT2.regex
    split = steps[0]
    if len(steps) != 2 or last["use_regex"] or split["type"] != "Split" or "Regex" not in split["pattern"]:
        raise UnsuitableError("the words are not cut by one regular expression")
    if split["behavior"] != "Isolated" or split["invert"]:
        raise UnsuitableError(f"the words are cut in the manner {split['behavior']!r}")
    return str(split["pattern"]["Regex"])


def _check_ranks(model: dict[str, Any]) -> None:
    """Check that ids are ranks: each token a byte, or made by one merge, in the order of the merges."""
    plain = model.get("type") == "BPE" and not any(
        model.get(key) for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    )
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    made = [model["vocab"].get("".join(pair), -1) for pair in pairs]
    in_order = all(a < b for a, b in pairwise(made))
    if not plain or not in_order or len(made) + 256 != len(model["vocab"]):
        raise UnsuitableError("the ids do not follow the order of the merges")
