"""Machinery: segmentation: how a stream of text is cut into documents, a chunk at a time."""

import itertools
import re
from collections.abc import Iterable, Iterator

from pipeline.sources.document import is_longer, utf8_size

_WINDOW = 2**23
"""characters in which the end of a block is looked for; a run without any space is cut there"""


# --- between separators --------------------------------------------------------------------------------------


def split_text(chunks: Iterable[str], separator: str, limit: int) -> Iterator[str | None]:
    """Yield the spans between separators, as `str.split` would; None for one of more than `limit` bytes."""
    held = _Held(limit)
    rest = ""
    for chunk in chunks:
        *spans, rest = (rest + chunk).split(separator)
        for span in spans:
            held.add(span)
            yield held.take()
        sure = max(0, len(rest) - len(separator) + 1)  # what follows may be the start of a separator
        held.add(rest[:sure])
        rest = rest[sure:]
    held.add(rest)
    yield held.take()


class _Held:
    """Text that is put together, up to a limit in bytes; of what is longer nothing is kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._spans: list[str] = []
        self._size = 0

    def add(self, span: str) -> None:
        self._size += len(span)
        if self._size > self.limit:
            self._spans = []
        elif span:
            self._spans.append(span)

    def add_line(self, line: str | None) -> None:
        """Add a line and its end; None is a line that is too long already."""
        if line is None:
            self._size += self.limit
        self.add((line or "") + "\n")

    def take(self) -> str | None:
        """Return what was added, and start again."""
        text = "".join(self._spans)
        too_long = self._size > self.limit or is_longer(text, self.limit)
        self._spans, self._size = [], 0
        return None if too_long else text


# --- of whole lines ------------------------------------------------------------------------------------------


def paragraphs_of(chunks: Iterable[str], limit: int) -> Iterator[str | None]:
    """Yield the runs of lines between blank lines; a line of spaces is blank."""
    held = _Held(limit)
    is_open = False
    for line in _lines(chunks, limit):
        if line is not None and (not line or line.isspace()):
            if is_open:
                yield held.take()
            is_open = False
            continue
        is_open = True
        held.add_line(line)
    if is_open:
        yield held.take()


def sections_of(chunks: Iterable[str], heading: re.Pattern[str], limit: int) -> Iterator[str | None]:
    """Yield the text up to each line whose start matches `heading`; text before the first is a section too.

    A line that is too long takes what follows it up to the next heading along, but not what is before it.
    """
    held = _Held(limit)
    is_open = False
    for line in _lines(chunks, limit):
        if line is None or heading.match(line):
            if is_open:
                yield held.take()
            is_open = True
        is_open = is_open or bool(line and not line.isspace())
        held.add_line(line)
    if is_open:
        yield held.take()


def _lines(chunks: Iterable[str], limit: int) -> Iterator[str | None]:
    """Yield the lines without their ends; None for one of more than `limit` bytes, which is not held."""
    return split_text(chunks, "\n", limit)


# --- blocks --------------------------------------------------------------------------------------------------


def blocks_of(chunks: Iterable[str], block_bytes: int) -> Iterator[str]:
    """Cut text at blank lines into blocks of about `block_bytes` bytes; if there are none, at line ends or spaces."""
    block: list[str] = []
    size = 0
    for window in _windows(chunks):
        for span in _spans(window, "\n\n", block_bytes):
            is_long = len(span) > 2 * block_bytes  # it is a line, then
            for short in _cut_at_spaces(span, block_bytes - size, block_bytes) if is_long else (span,):
                block.append(short)
                size += utf8_size(short)
                if size >= block_bytes:
                    yield "".join(block)
                    block, size = [], 0
    if block:
        yield "".join(block)


def _cut_at_spaces(text: str, first: int, others: int) -> Iterator[str]:
    """Cut text after the first space from which on a span has enough bytes; the first span needs fewer than others."""
    data = text.encode("utf-8")
    start, enough = 0, first
    while start < len(data):
        end = data.find(b" ", start + enough - 1) + 1 or len(data)
        yield data[start:end].decode("utf-8")
        start, enough = end, others


def _windows(chunks: Iterable[str]) -> Iterator[str]:
    """Yield the text in windows that end at the best place to cut; where they end depends on the text alone."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= _WINDOW:
            window = rest[:_WINDOW]
            cuts = ((window.rfind(separator), len(separator)) for separator in ("\n\n", "\n", " "))
            end = next((start + length for start, length in cuts if start >= 0), _WINDOW)
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _spans(text: str, separator: str, limit: int) -> Iterator[str]:
    """Split after `separator`, and what is still far too long at line ends."""
    *ended, last = text.split(separator)
    for span in itertools.chain((span + separator for span in ended), [last]):
        if separator != "\n" and len(span) > 2 * limit:
            yield from _spans(span, "\n", limit)
        else:
            yield span
