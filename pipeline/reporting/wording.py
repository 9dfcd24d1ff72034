"""Machinery: numbers and untrusted text as a person reads them, on a page or in a terminal."""

import difflib
import re
import unicodedata
from collections.abc import Sequence

_HIDDEN = ("Cc", "Cf", "Cn", "Co", "Zl", "Zp")
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Return a number of bytes with a unit: 12.3 MB."""
    unit = 0
    while count >= 999.5 and unit + 1 < len(_UNITS):
        count, unit = count / 1000, unit + 1
    if unit == 0:
        return f"{count:.0f} bytes"
    return f"{count:.{0 if count >= 99.95 else 1 if count >= 9.995 else 2}f} {_UNITS[unit]}"


def percent(part: float, whole: float) -> str:
    """Return a share: never 0% of something, nor 100% of what is not all."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1%"
    if 99.9 < share < 100:
        return ">99.9%"
    return f"{share:.1f}%" if share < 99.95 and share else f"{share:.0f}%"


def visible(text: str) -> str:
    """Return text on one line in which nothing is hidden: control and direction characters are shown as what they are.

    So an excerpt cannot steer a terminal nor turn the rest of a page around.  A blank line is shown as ¶.
    """
    flat = re.sub(r"[^\S\n\r]*(\r\n|\n)[^\S\n\r]*", "\n", text)
    flat = re.sub(r"\n{2,}", " ¶ ", flat).replace("\n", " ").replace("\t", " ")
    return "".join(map(_visible_character, flat))


def _visible_character(letter: str) -> str:
    if ord(letter) < 0x20:
        return chr(0x2400 + ord(letter))
    return f"⟨{ord(letter):04X}⟩" if unicodedata.category(letter) in _HIDDEN else letter


def token(text: str) -> str:
    """Return a token with its spaces and line ends to be seen."""
    return visible(text.replace(" ", "␣").replace("\n", "⏎"))


def excerpt(text: str, most: int) -> str:
    """Return the start of a text, whole words only, with … where it goes on; `text` itself may be such a start."""
    if len(text) < most:
        return text
    return re.sub(r"\S*$", "", text[:most]).rstrip() + " …" if re.search(r"\s", text[:most]) else f"{text[: most - 1]}…"


def changed_words(kept: str, copy: str) -> Sequence[tuple[str, bool]]:
    """Cut `copy` into runs of words, each with whether it is missing at that place in `kept`."""
    before, after = kept.split(), copy.split()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    runs = []
    for what, _, _, start, end in matcher.get_opcodes():
        if end > start:
            words = " ".join(after[start:end])
            runs.append((words, what != "equal" and words != "…"))
    return runs


def title_of(name: str) -> str:
    """Return a key of a JSON page as words: bytes_per_token is `bytes per token`."""
    return name.replace("_", " ")
