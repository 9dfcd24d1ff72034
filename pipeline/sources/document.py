"""Machinery: a document, as every reader yields it, and the size and normal form of text."""

import unicodedata
from typing import NamedTuple

TOO_LONG = "longer than max_document_bytes"
"""the reason of such a reject"""


class Document(NamedTuple):
    """A text and where it came from; one with a reason is left out, and its text is an excerpt."""

    text: str
    place: str
    reason: str = ""
    replaced: int = 0
    """characters put in the place of bytes that mean nothing in the source's encoding, since the document before"""


def normalize(text: str) -> str:
    """Bring text to Unicode NFC and `\\n` line ends."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def utf8_size(text: str) -> int:
    """Return the bytes of a text as UTF-8, without encoding it where they are plain to see."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def is_longer(text: str, limit: int) -> bool:
    """Tell whether `text` has more than `limit` bytes as UTF-8, without encoding it if that is plain to see."""
    return len(text) > limit or (4 * len(text) > limit and not text.isascii() and len(text.encode("utf-8")) > limit)
