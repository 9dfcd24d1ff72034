"""Machinery: probe texts: short texts on which implementations of byte-level BPE give other ids, if they ever do.

They agree on ordinary text.  What sets them apart is how they cut it into words: case and apostrophes of contractions,
which characters are white space, letters or digits (each has its version of Unicode), white space before a word or at
the end, long runs of one character, and control tokens that stand in the text.
"""

from functools import lru_cache

from pipeline.tokenization.text_encoder import CONTROL_TOKENS

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "’s", "'ſ")
_BLANKS = ("", " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\v\f", "\x00", "\x85")
_MORE_BLANKS = ("\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\u200b")
_DIGITS = ("0", "12", "345", "6789", "1234567", "٣٤٥٦", "१२३४", "𝟘𝟙𝟚𝟛", "²³¹", "ⅣⅧ", "½", "一二三", "①②③④")
_MARKS = (
    "e\u0301",
    "a\u0300\u0323\u0316",
    "नमस्ते",
    "กำลัง",
    "עִבְרִית",
    "العَرَبِيَّة",
    "한국어",
    "\u1112\u1161\u11ab",
    "İıŉßﬁK",
)
_SIGNS = ("👩‍👩‍👧🏽", "🇨🇿🇩🇪", "☕️", "→←", "…", "--", "!?", "/*", "*/", "://", "_", "__init__", "$", "€", "<|", "|>")


@lru_cache(maxsize=1)
def probe_texts() -> tuple[str, ...]:
    """Return some 200 texts, 300 kB in all: the same ones for the same version of Unicode."""
    atoms = (*_CONTRACTIONS, *_BLANKS, *_MORE_BLANKS, *_DIGITS, *_MARKS, *_SIGNS, "a", "Aa", "AAA", "x" * 300)
    pairs = ["".join(f"{atom}{other}" for other in atoms) for atom in atoms]
    runs = [atom * 200 for atom in ("a", " ", "\n", "\t", " \t", "1", "ab", "é", "中", "'", "👩", "\u0301", "=-")]
    every_byte = "".join(map(chr, range(256)))
    characters = [f"a{c}1{c} {c}{c}b" for c in _category_boundaries()]
    lines = ["".join(characters[i : i + 500]) for i in range(0, len(characters), 500)]
    return (*atoms, *pairs, *runs, *CONTROL_TOKENS, "".join(CONTROL_TOKENS), every_byte, *lines)


def _category_boundaries() -> list[str]:
    """Return the first and last character of every run of one category; where nothing is assigned yet, every 32nd."""
    from unicodedata import category

    import numpy as np

    ranges = [range(0xD800), range(0xE000, 0x33480), range(0xE0000, 0xE01F8)]
    found: list[str] = []
    for codes in ranges:
        categories = np.frombuffer("".join(map(category, map(chr, codes))).encode("ascii"), dtype="S2")
        first = np.append(True, categories[1:] != categories[:-1])
        last = np.append(first[1:], True)
        sparse = (categories == b"Cn") & (np.array(codes) % 32 == 0)
        found += map(chr, (codes.start + np.flatnonzero(first | last | sparse)).tolist())
    return found
