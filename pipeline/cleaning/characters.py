"""Machinery: cleaning steps that look at characters: line ends, Unicode, invisible characters, mojibake, length.

A good order is mojibake (which needs the wrong characters as they are), line_ends (which keeps what breaks a line),
unicode, control_characters; `trim` and `length` come last.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.cleaning.step import CleaningStep, DocumentStep, Outcome
from pipeline.cleaning.wrapping import Unwrap
from pipeline.errors import ConfigError, UnavailableError

# --- line ends -----------------------------------------------------------------------------------------------

_BREAKS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class LineEnds(DocumentStep):
    """End every line with `\\n`: CR LF and CR become that.

    With `unicode` so do the other characters that the Unicode Standard (5.8, newline guidelines) says end a line: VT,
    FF, NEL, LS and PS.
    """

    name = "line_ends"
    changes_text = True
    unicode: bool = False

    def open(self) -> Callable[[str], Outcome]:
        return self._unicode if self.unicode else self._ascii

    def _unicode(self, text: str) -> Outcome:
        clean, count = _BREAKS.subn("\n", text)
        return Outcome(clean, counts={"line ends": count}) if count else Outcome(text)

    def _ascii(self, text: str) -> Outcome:
        if "\r" not in text:
            return Outcome(text)
        clean = text.replace("\r\n", "\n")
        count = len(text) - len(clean) + clean.count("\r")
        return Outcome(clean.replace("\r", "\n"), counts={"line ends": count})


# --- Unicode -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Unicode(DocumentStep):
    """Bring text to a Unicode normal form (UAX #15); the K forms also lose what looks the same, as ² and ﬁ do."""

    name = "unicode"
    changes_text = True
    form: Literal["NFC", "NFKC", "NFD", "NFKD"] = "NFC"

    def open(self) -> Callable[[str], Outcome]:
        form = self.form

        def normal(text: str) -> Outcome:
            if text.isascii() or unicodedata.is_normalized(form, text):
                return Outcome(text)
            return Outcome(unicodedata.normalize(form, text))

        return normal


# --- what cannot be seen -------------------------------------------------------------------------------------

CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 and C1 without tab and line feed"""
INVISIBLE = "\u00ad\u180e\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff"
"""soft hyphen, zero-width spaces, word joiner, byte order mark, interlinear marks, and what is no character"""
BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"
"""marks, embeddings, overrides and isolates of writing direction, and their deprecated kin"""


@dataclass(frozen=True, kw_only=True)
class ControlCharacters(DocumentStep):
    """Remove characters that show nothing; tab and line feed stay, and so do the zero-width joiners U+200C and U+200D.

    Those two spell words in Persian and in Indic scripts, and join emoji.
    """

    name = "control_characters"
    changes_text = True
    controls: bool = True
    """C0 and C1 control codes"""
    invisible: bool = True
    """zero-width spaces, byte order marks inside text, soft hyphens, noncharacters"""
    bidi: bool = True
    """controls of writing direction"""

    def open(self) -> Callable[[str], Outcome]:
        kinds = {"control characters": CONTROLS, "invisible characters": INVISIBLE, "bidi controls": BIDI}
        asked = (self.controls, self.invisible, self.bidi)
        wanted = {kind: re.compile(f"[{signs}]") for (kind, signs), on in zip(kinds.items(), asked, strict=True) if on}
        anything = re.compile("|".join(pattern.pattern for pattern in wanted.values()) or r"(?!)")

        def visible(text: str) -> Outcome:
            found = Counter(anything.findall(text))
            if not found:
                return Outcome(text)
            counts: Counter[str] = Counter()
            for sign, count in found.items():
                counts[next(kind for kind, pattern in wanted.items() if pattern.match(sign))] += count
            return Outcome(text.translate(dict.fromkeys(map(ord, found))), counts=counts)

        return visible


# --- mojibake ------------------------------------------------------------------------------------------------


_UNUSUAL = re.compile("[^\x00-\x7f‘’“”–—…]")
"""a broken character has at least one of these in it; quotation marks, dashes and the ellipsis are in most books"""


@dataclass(frozen=True, kw_only=True)
class Mojibake(DocumentStep):
    """Repair text that was decoded with the wrong encoding: `sÃ³` becomes `só` (ftfy, line by line).

    Only that is repaired unless a setting asks for more.
    """

    name = "mojibake"
    packages = ("ftfy",)
    changes_text = True
    restore_byte_a0: bool = True
    """take a space for a no-break space where that completes a broken character"""
    replace_lossy_sequences: bool = True
    """where a byte of a character was lost, put U+FFFD for the character"""
    decode_inconsistent_utf8: bool = True
    """repair broken characters also in a line that has whole ones beside them"""
    fix_c1_controls: bool = True
    """take a C1 control code for the Windows-1252 character of that number"""
    unescape_html: bool = False
    uncurl_quotes: bool = False
    fix_latin_ligatures: bool = False
    fix_character_width: bool = False

    def open(self) -> Callable[[str], Outcome]:
        try:
            import ftfy
            from ftfy.badness import is_bad
        except ImportError as error:
            raise UnavailableError(
                'the cleaning step mojibake needs the package ftfy. Install it: python -m pip install "cairn-lm[clean]"'
            ) from error
        config = ftfy.TextFixerConfig(
            unescape_html=self.unescape_html,
            remove_terminal_escapes=False,
            fix_encoding=True,
            restore_byte_a0=self.restore_byte_a0,
            replace_lossy_sequences=self.replace_lossy_sequences,
            decode_inconsistent_utf8=self.decode_inconsistent_utf8,
            fix_c1_controls=self.fix_c1_controls,
            fix_latin_ligatures=self.fix_latin_ligatures,
            fix_character_width=self.fix_character_width,
            uncurl_quotes=self.uncurl_quotes,
            fix_line_breaks=False,
            fix_surrogates=False,
            remove_control_chars=False,
            normalization=None,
            explain=False,
        )
        more = self.unescape_html or self.uncurl_quotes or self.fix_latin_ligatures or self.fix_character_width

        def repaired(text: str) -> Outcome:
            if not more and (text.isascii() or not _UNUSUAL.search(text) or not is_bad(text)):
                return Outcome(text)  # what ftfy would find out for every line, slower
            clean = ftfy.fix_text(text, config)
            return Outcome(text) if clean == text else Outcome(clean, counts={"documents repaired": 1})

        return repaired


# --- length --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trim(DocumentStep):
    """Take off spaces at line ends and blank lines around the text, and leave at most so many blank lines in a row."""

    name = "trim"
    changes_text = True
    max_blank_lines: int = 2

    def __post_init__(self) -> None:
        if self.max_blank_lines < 0:
            raise ConfigError(f"trim:max_blank_lines={self.max_blank_lines} must be at least 0.")

    def open(self) -> Callable[[str], Outcome]:
        limit = self.max_blank_lines + 1
        many = re.compile("\n{%d,}" % (limit + 1))  # noqa: UP031  the braces are the pattern's

        def trimmed(text: str) -> Outcome:
            clean = text
            if " \n" in text or "\t\n" in text or text[-1:].isspace():
                clean = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
            clean = many.sub("\n" * limit, clean.strip("\n"))
            return Outcome(text) if clean == text else Outcome(clean)

        return trimmed


@dataclass(frozen=True, kw_only=True)
class Length(DocumentStep):
    """Reject documents that are too short or too long; a limit of 0 is none.  Words are what white space separates."""

    name = "length"
    min_characters: int = 100
    max_characters: int = 0
    min_words: int = 0
    max_words: int = 0

    def __post_init__(self) -> None:
        for what, low, high in (
            ("characters", self.min_characters, self.max_characters),
            ("words", self.min_words, self.max_words),
        ):
            if low < 0 or high < 0 or 0 < high < low:
                raise ConfigError(f"length: min_{what}={low} and max_{what}={high} leave no document; 0 is no limit.")

    def open(self) -> Callable[[str], Outcome]:
        counts_words = bool(self.min_words or self.max_words)

        def measured(text: str) -> Outcome:
            words = len(text.split()) if counts_words else 0
            if len(text) < self.min_characters or words < self.min_words:
                return Outcome(text, "too short")
            if 0 < self.max_characters < len(text) or 0 < self.max_words < words:
                return Outcome(text, "too long")
            return Outcome(text)

        return measured


STEPS: tuple[type[CleaningStep], ...] = (LineEnds, Unicode, ControlCharacters, Mojibake, Unwrap, Trim, Length)
