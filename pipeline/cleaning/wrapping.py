"""Machinery: the cleaning step that joins lines which were broken only to fit a page: books at 70 columns."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pipeline.cleaning.step import DocumentStep, Outcome
from pipeline.errors import ConfigError

_LINE_SHARE = 0.98
"""share of a document's lines that fit its width; the rest stick out, as addresses do"""
_RAGGED_SHARE = 2 / 3
_MARKER = re.compile(r"[•‣▪●*+\-–—>|#](?:\s|$)|(?:\d{1,3}|[A-Za-z]|[ivxlIVXL]{1,5})[.)]\s|\(\w{1,3}\)\s")
_TABLE = re.compile(r"\S(?: {3,}|\t)\S|\|")
_NO_SPACES = "\u2e80"
"""from here on, Unicode's scripts are mostly written without spaces: there a line end says nothing about words"""


@dataclass(frozen=True, kw_only=True)
class Unwrap(DocumentStep):
    """Join lines that were broken only to fit a page; verse, lists, tables and headings stay as they are.

    The width of a document is the length that 98% of its lines keep to.  Where it is not between the settings, the
    document is not wrapped and stays.  A line end inside a paragraph (no blank line) goes away when
    - the next line's first word would not have fit: length + 1 + word > width - slack; or, as not every book is filled
      evenly, the next line starts with a small letter and the line is at least two thirds of the width; and
    - the next line is indented by one space at most, starts with no list marker, and neither is a row of a table.
    The lines are joined by a space; after a hyphen or dash that touches a word by nothing: `well-` `known`.
    """

    name = "unwrap"
    changes_text = True
    min_width: int = 60
    max_width: int = 120
    slack: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.min_width <= self.max_width or self.slack < 0:
            raise ConfigError(
                f"unwrap: min_width={self.min_width}, max_width={self.max_width}, slack={self.slack} make no sense: "
                "widths are positive, the first is the smaller one, and slack is not negative."
            )

    def open(self) -> Callable[[str], Outcome]:
        return self._unwrap

    def _unwrap(self, text: str) -> Outcome:
        lines = [line.rstrip() for line in text.split("\n")]
        width = width_of(lines)
        if not self.min_width <= width <= self.max_width:
            return Outcome(text)
        pieces = [lines[0]]
        joined = 0
        for line, following in pairwise(lines):
            if self._is_wrapped(line, following, width):
                pieces.append("" if line[-1] in "-—–" and line[-2:-1] not in ("", " ") else " ")
                pieces.append(following.lstrip())
                joined += 1
            else:
                pieces += ("\n", following)
        return Outcome("".join(pieces), counts={"lines joined": joined}) if joined else Outcome(text)

    def _is_wrapped(self, line: str, following: str, width: int) -> bool:
        """Tell whether a line ends only because the page does."""
        if not line or not following or following[:2].isspace() or max(line[-1], following[0]) >= _NO_SPACES:
            return False
        following = following.lstrip()
        word = following.split(None, 1)[0]
        full = len(line) + 1 + len(word) > width - self.slack
        if not full and not (following[0].islower() and len(line) >= _RAGGED_SHARE * width):
            return False
        return not (_MARKER.match(following) or _TABLE.search(line) or _TABLE.search(following))


def width_of(lines: list[str]) -> int:
    """Return the length that 98% of the lines that are not blank keep to; 0 without lines."""
    lengths = sorted(len(line) for line in lines if line)
    return lengths[int((len(lengths) - 1) * _LINE_SHARE)] if lengths else 0
