"""Machinery: encode many documents fast, with the very ids that `tokenizers` gives.

`tokenizers` is the reference and the fallback.  A faster engine is used when it is installed, when it says that it can
do this tokenizer, and when it gives the same ids as the reference on `probe_texts`; whoever encodes a part then
compares a sample of it and counts its bytes (see `agreement`).  What this promises: an engine that differs on a probe
text or on a sample never writes a byte, and every character of Unicode is cut as the reference cuts it (a test tries
them all).
"""

import json
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from pipeline.errors import UnavailableError
from pipeline.runtime.provenance import version_of
from pipeline.tokenization.pretokenizers import GPT2
from pipeline.tokenization.text_encoder import TextEncoder, token_dtype
from pipeline.tokenization.unicode_17 import documents_with_unicode_17

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from jaxtyping import Int64, UInt, UInt32

    Documents: TypeAlias = pa.StringArray | list[str]
    TokenIds: TypeAlias = UInt[np.ndarray, " tokens"]
    """uint16 or uint32: see `token_dtype`"""
    Lengths: TypeAlias = Int64[np.ndarray, " documents"]

EncoderName: TypeAlias = Literal["auto", "tokenizers", "tiktoken", "gigatoken"]
REFERENCE = "tokenizers"
FAST = ("gigatoken", "tiktoken")
"""the engines that `auto` tries, in this order"""

# `tokenizers` takes some 50 bytes of memory for each byte of the batch that it encodes.
_BATCH_CHARACTERS = 2**18
_CHECK_BYTES = 2**20
"""how much text is encoded between two looks at the memory that the cache takes"""
_CHUNK_TOKENS = 2**20
CACHE_BYTES = 3 * 2**25
"""how much memory a cache of words may take before it is dropped"""


class UnsuitableError(Exception):
    """This engine cannot do this tokenizer; the message says why."""


class Engine(Protocol):
    """Encodes documents; opened once and used for many parts."""

    name: str

    def encode_documents(self, documents: "Documents") -> "tuple[TokenIds, Lengths]":
        """Return all ids one after the other, without control ids, and the number of ids of each document."""
        ...


def open_engine(folder: Path, engine: str) -> Engine:
    """Open an engine on the two files of a tokenizer; the same object when asked again.

    Raises UnsuitableError when it cannot do this tokenizer.
    """
    return open_reference(folder) if engine == REFERENCE else _open_fast(folder, engine)


@lru_cache(maxsize=1)
def open_reference(folder: Path) -> "ReferenceEncoder":
    """Open the reference on the two files of a tokenizer."""
    return ReferenceEncoder(folder)


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


class ReferenceEncoder:
    """`tokenizers` in small batches."""

    name = REFERENCE

    def __init__(self, folder: Path) -> None:
        self.encoder = TextEncoder(folder)
        self._dtype = token_dtype(self.encoder.vocab_size)

    def encode_documents(self, documents: "Documents") -> "tuple[TokenIds, Lengths]":
        import numpy as np

        batches = (self.encoder.encode_batch(batch) for batch in _batches(documents))
        return _concatenate([np.array(ids, dtype=self._dtype) for batch in batches for ids in batch], self._dtype)

    @cached_property
    def _token_bytes(self) -> "UInt32[np.ndarray, ' vocab']":
        import numpy as np

        return np.array(self.encoder.token_lengths, dtype=np.uint32)

    def count_bytes(self, values: "TokenIds") -> int:
        """Return how many bytes of text these ids stand for."""
        chunks = (values[i : i + _CHUNK_TOKENS] for i in range(0, len(values), _CHUNK_TOKENS))
        return sum(int(self._token_bytes[chunk].sum()) for chunk in chunks)


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

    def encode_documents(self, documents: "Documents") -> "tuple[TokenIds, Lengths]":
        return _concatenate([self._encode(text) for batch in _batches(documents) for text in batch], self._dtype)

    def _encode(self, text: str) -> "TokenIds":
        import numpy as np

        try:
            return self._engine.encode_to_numpy(text, disallowed_special=())
        except ValueError:  # its regular expressions give up on runs of about a million blanks; encode_ordinary panics
            return np.array(self._reference.encode(text), dtype=self._dtype)


class Gigatoken:
    """`gigatoken`, opened again whenever its cache of words has grown too large.

    It cuts words by Unicode 17 and `tokenizers` by Unicode 16, so a document with a letter or digit that Unicode 17
    added is encoded by the reference.  That no other character differs was found by trying all, with `COMPARED`.
    """

    name = "gigatoken"

    def __init__(self, folder: Path, cache_bytes: int = CACHE_BYTES) -> None:
        check_versions()
        self._reference = open_reference(folder)
        self._page = (folder / "tokenizer.json").read_bytes()
        self._dtype = token_dtype(self._reference.encoder.vocab_size)
        self._cache_bytes = cache_bytes
        self.restarts = 0
        self._bytes_since_check = 0
        self._engine = self._open()
        self._bytes_when_opened = _private_bytes()

    def encode_documents(self, documents: "Documents") -> "tuple[TokenIds, Lengths]":
        from pipeline.tables.arrow import bytes_of, data_of, offsets_of

        ids: list[TokenIds] = []
        texts = _as_column(documents)
        too_new = set(documents_with_unicode_17(data_of(texts), offsets_of(texts)))
        for number, document in enumerate(bytes_of(texts)):
            if number in too_new:
                ids.append(self._reference.encode_documents([str(document, "utf-8")])[0])
                continue
            # One by one: for a batch it would import awkward, which takes longer than encoding a part.
            ids.append(self._engine.encode(bytes(document)))
            self._bytes_since_check += len(document)
            if self._bytes_since_check > _CHECK_BYTES:
                self._bytes_since_check = 0
                self._drop_large_cache(4 * sum(map(len, ids)))
        return _concatenate(ids, self._dtype)

    def _drop_large_cache(self, result_bytes: int) -> None:
        """Open the engine again when this process has grown by more than the cache may take and the ids so far do."""
        if _private_bytes() - self._bytes_when_opened > self._cache_bytes + result_bytes:
            self._engine = None  # its memory is given back before another one takes as much
            self._engine = self._open()
            self._bytes_when_opened = _private_bytes() - result_bytes
            self.restarts += 1

    def _open(self) -> Any:
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


def _concatenate(ids: "list[TokenIds]", dtype: str) -> "tuple[TokenIds, Lengths]":
    import numpy as np

    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return np.concatenate([np.empty(0, dtype=dtype), *ids], dtype=dtype, casting="unsafe"), lengths


def _as_column(documents: "Documents") -> "pa.StringArray":
    from pipeline.tables.arrow import strings

    return strings(documents) if isinstance(documents, list) else documents


def _batches(documents: "Documents") -> Iterator[list[str]]:
    """Yield the documents in order, some at a time, so that a batch is small or one document."""
    from pipeline.tables.arrow import bytes_of

    batch: list[str] = []
    size = 0
    for document in bytes_of(_as_column(documents)):
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
    merged = [model["vocab"].get("".join(pair), -1) for pair in pairs]
    in_order = all(a < b for a, b in pairwise(merged))
    if not plain or not in_order or len(merged) + 256 != len(model["vocab"]):
        raise UnsuitableError("the ids do not follow the order of the merges")
