"""Machinery: texts as sets of hashed word n-grams (shingles), and their MinHash signatures.

Words are runs of letters, digits and marks in lower case; in scripts that write no spaces each character is a word.
All is done on arrays of characters, many texts at a time; what a text gives depends on nothing but the text.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Int64, UInt8, UInt32, UInt64

ALGORITHM = 2
"""the version of rensa's algorithm; signatures of another cannot be compared with these"""

_BATCH = 1 << 16
"""characters worked on at a time"""
_BASE = 0x9E3779B97F4A7C15
_CODES = 1 << 16
_NO_SPACES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
)
"""Thai and Lao, Myanmar, Khmer, kana, Han; what lies beyond the first 2**16 characters is treated alike"""


def mix(values: "UInt64[np.ndarray, '*shape']") -> "UInt64[np.ndarray, '*shape']":
    """Return each number scrambled one to one, so that near ones end far apart.

    The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
    """
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def sign(
    texts: Sequence[str], *, words: int, values: int, seed: int
) -> "tuple[UInt32[np.ndarray, 'texts values'], Bool[np.ndarray, ' texts']]":
    """Return the signatures of texts, and which texts have any word; of two texts' signatures about as many values are
    equal as their sets of shingles overlap, by Jaccard.

    A text of fewer than `words` words has one shingle, of all of them.
    """
    import numpy as np

    rensa = require_rensa()
    signatures = [np.empty((0, values), dtype=np.uint32)]
    spoken = [np.empty(0, dtype=np.bool_)]
    for group in _batches(texts):
        hashes, counts = _shingles(*_hash_words(group), words)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
        digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, values, seed)
        signatures.append(np.array(digests.to_rows(), dtype=np.uint32).reshape(-1, values))
        spoken.append(counts > 0)
    return np.concatenate(signatures), np.concatenate(spoken)


def require_rensa() -> Any:
    """Import rensa; UnavailableError when it is missing or computes something else."""
    try:
        import rensa  # type: ignore[import-untyped]
    except ImportError:
        raise UnavailableError(
            'near_duplicates needs the package rensa. Install it: python -m pip install "cairn-lm[clean]"'
        ) from None
    if rensa.RMinHash.ALGORITHM_VERSION != ALGORITHM:
        raise UnavailableError(
            f"near_duplicates needs version {ALGORITHM} of rensa's algorithm; the installed rensa has version "
            f'{rensa.RMinHash.ALGORITHM_VERSION}. Install the right one: python -m pip install "cairn-lm[clean]"'
        )
    return rensa


# --- words ---------------------------------------------------------------------------------------------------


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into groups of about _BATCH characters; a longer text is a group by itself."""
    start = size = 0
    for i, text in enumerate(texts):
        if size and size + len(text) > _BATCH:
            yield texts[start:i]
            start, size = i, 0
        size += len(text) + 1
    if size:
        yield texts[start:]


def _hash_words(texts: Sequence[str]) -> "tuple[UInt64[np.ndarray, ' words'], Int64[np.ndarray, ' texts']]":
    """Return the hashes of all words, and how many each text has."""
    import numpy as np

    if len(texts) > 1 or len(texts[0]) <= _BATCH:
        return _hash_few_words(texts)
    found = [_hash_few_words([span])[0] for span in _cut(texts[0])]
    hashes = np.concatenate(found)
    return hashes, np.array([len(hashes)])


def _cut(text: str) -> Iterator[str]:
    """Cut a long text at spaces into spans of at most _BATCH characters; where there is none, anywhere."""
    start = 0
    while start < len(text):
        stop = start + _BATCH
        space = text.rfind(" ", start, stop) if stop < len(text) else -1
        stop = space + 1 if space > start else stop
        yield text[start:stop]
        start = stop


def _hash_few_words(texts: Sequence[str]) -> "tuple[UInt64[np.ndarray, ' words'], Int64[np.ndarray, ' texts']]":
    """Return the same for texts of few characters: a word's hash is a polynomial in its characters' hashes."""
    import numpy as np

    code_hashes, kinds = _tables()
    powers, inverses = _powers(_BATCH + 1)
    joined = "\n".join(texts)
    codes = np.minimum(np.frombuffer(joined.encode("utf-32-le"), dtype="<u4"), _CODES)
    values = code_hashes[codes]
    far = np.flatnonzero(codes == _CODES)
    values[far] = [mix(np.array([ord(joined[i])], dtype=np.uint64))[0] for i in far.tolist()]
    kind = kinds[codes]
    before = np.concatenate([np.zeros(1, dtype=np.uint8), kind[:-1]])
    starts = np.flatnonzero((kind > 0) & ((before != 1) | (kind == 2)))
    if len(starts):
        hashes = mix(np.add.reduceat(values * powers[: len(values)], starts) * inverses[starts])
    else:
        hashes = np.empty(0, dtype=np.uint64)
    ends = np.cumsum([len(text) + 1 for text in texts])
    return hashes, np.diff(np.searchsorted(starts, ends), prepend=0)


@cache
def _tables() -> "tuple[UInt64[np.ndarray, ' codes'], UInt8[np.ndarray, ' codes']]":
    """Return by character the hash of its lower case, 0 outside words; and 1 if it is in a word, 2 if it is one."""
    import unicodedata

    import numpy as np

    kinds = np.zeros(_CODES + 1, dtype=np.uint8)
    lower = np.arange(_CODES + 1, dtype=np.uint64)
    for code, character in enumerate(map(chr, range(_CODES))):
        kinds[code] = unicodedata.category(character)[0] in "LMN"
        lower[code] = ord(character.lower()[0])
    for first, last in _NO_SPACES:
        kinds[first : last + 1] *= 2
    kinds[_CODES] = 2
    return np.where(kinds > 0, mix(lower), np.uint64(0)), kinds


@cache
def _powers(count: int) -> "tuple[UInt64[np.ndarray, ' powers'], UInt64[np.ndarray, ' powers']]":
    """Return the powers of an odd number and of its inverse, modulo 2**64."""
    import numpy as np

    inverse = pow(_BASE, -1, 1 << 64)
    base = np.full(count, _BASE, dtype=np.uint64)
    base[0] = 1
    back = np.full(count, inverse, dtype=np.uint64)
    back[0] = 1
    return np.cumprod(base, dtype=np.uint64), np.cumprod(back, dtype=np.uint64)


# --- shingles ------------------------------------------------------------------------------------------------


def _shingles(
    hashes: "UInt64[np.ndarray, ' words']", counts: "Int64[np.ndarray, ' texts']", words: int
) -> "tuple[UInt64[np.ndarray, ' shingles'], Int64[np.ndarray, ' texts']]":
    """Return the hashes of all runs of `words` words within a text, and how many each text has."""
    import numpy as np

    hashes, counts = _padded(hashes, counts, words)
    total = max(0, len(hashes) - words + 1)
    rolled = hashes[:total].copy()
    for k in range(1, words):
        rolled *= np.uint64(_BASE)
        rolled += hashes[k : k + total]
    text = np.repeat(np.arange(len(counts)), counts)
    whole = text[:total] == text[words - 1 :]
    return mix(rolled[whole]), np.maximum(counts - words + 1, 0)


def _padded(
    hashes: "UInt64[np.ndarray, ' words']", counts: "Int64[np.ndarray, ' texts']", words: int
) -> "tuple[UInt64[np.ndarray, ' padded'], Int64[np.ndarray, ' texts']]":
    """Fill up texts with fewer words than a shingle, but not those with none."""
    import numpy as np

    more = np.where((counts > 0) & (counts < words), words - counts, 0)
    if not more.any():
        return hashes, counts
    shift = np.repeat(np.cumsum(more) - more, counts)
    padded = np.zeros(len(hashes) + more.sum(), dtype=np.uint64)
    padded[np.arange(len(hashes)) + shift] = hashes
    return padded, counts + more
