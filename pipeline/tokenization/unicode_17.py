"""Machinery: find the letters and digits that Unicode 17 added, in bytes of UTF-8.

`gigatoken` cuts words by Unicode 17 and `tokenizers` by Unicode 16: they differ in these characters alone, as
was found by trying every character.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from jaxtyping import Int64, Integer, UInt8, UInt32

_ADDED_IN_UNICODE_17 = """
88f c5c cdc a7ce-a7cf a7d2 a7d4 a7f1 10940-10959 10ec5-10ec7 11db0-11ddb 11de0-11de9 16ea0-16eb8 16ebb-16ed3
16ff2-16ff6 187f8-187ff 18d09-18d1e 18d80-18df2 1e6c0-1e6de 1e6e0-1e6e2 1e6e4-1e6e5 1e6e7-1e6ed 1e6f0-1e6f4
1e6fe-1e6ff 2b73a-2b73f 2cea2-2cead 323b0-33479
"""
"""code points and ranges of them, in order; each is three or four bytes of UTF-8"""
_CHUNK_BYTES = 2**20
_LONG_LEAD, _LONGEST_LEAD = 0xE0, 0xF0
"""the first bytes, from these on, of characters of three and of four bytes"""


@lru_cache(maxsize=1)
def _bounds() -> "tuple[UInt32[np.ndarray, ' ranges'], UInt32[np.ndarray, ' ranges']]":
    """Return the first and the last code point of every range."""
    import numpy as np

    ranges = [entry.partition("-") for entry in _ADDED_IN_UNICODE_17.split()]
    firsts = [int(first, 16) for first, _, _ in ranges]
    lasts = [int(last or first, 16) for first, _, last in ranges]
    return np.array(firsts, dtype=np.uint32), np.array(lasts, dtype=np.uint32)


def holds_unicode_17(document: bytes) -> bool:
    """Tell whether a document (UTF-8) holds such a character."""
    import numpy as np

    if document.isascii():
        return False
    return bool(documents_with_unicode_17(document, np.array([0, len(document)])))


def documents_with_unicode_17(data: "bytes | pa.Buffer", offsets: "Integer[np.ndarray, ' offsets']") -> list[int]:
    """Return the numbers of the documents that hold such a character, in order.

    `data` is a buffer of UTF-8; document i is what lies from `offsets[i]` to `offsets[i + 1]`.
    """
    import numpy as np

    text = np.frombuffer(data, dtype=np.uint8)[: offsets[-1]] if offsets[-1] else np.empty(0, dtype=np.uint8)
    found = [
        _positions_between(text, start, min(start + _CHUNK_BYTES, len(text)))
        for start in range(int(offsets[0]), len(text), _CHUNK_BYTES)
    ]
    positions = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    numbers: list[int] = np.unique(np.searchsorted(offsets, positions, side="right") - 1).tolist()
    return numbers


def _positions_between(text: "UInt8[np.ndarray, ' bytes']", start: int, stop: int) -> "Int64[np.ndarray, ' found']":
    """Return where such characters begin between `start` and `stop`; the last may end after it."""
    import numpy as np

    leads = start + np.flatnonzero(text[start:stop] >= _LONG_LEAD)
    if not len(leads):
        return leads
    six_bits = text.take(leads[:, None] + np.arange(4), mode="clip").astype(np.uint32) & 0x3F
    first, second, third, fourth = six_bits.T
    code = np.where(
        text[leads] < _LONGEST_LEAD,
        (first & 0xF) << 12 | second << 6 | third,
        (first & 0x7) << 18 | second << 12 | third << 6 | fourth,
    )
    firsts, lasts = _bounds()
    before = np.searchsorted(firsts, code, side="right") - 1
    found: np.ndarray = leads[(before >= 0) & (code <= lasts[before])]
    return found
