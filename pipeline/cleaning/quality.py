"""Machinery: cleaning steps that judge text by published rules: Gopher's, C4's and FineWeb's.

They are rules for English prose from the web.  A word is what white space separates, punctuation and all; a line is
what `\\n` separates, and blank ones are not counted.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.cleaning.step import CleaningStep, DocumentStep, Outcome

# --- Gopher --------------------------------------------------------------------------------------------------

BULLETS = ("•", "‣", "▪", "●", "-", "*")
ELLIPSES = ("...", "…")
_LETTER_TO_END = re.compile(r"[^\W\d_]\S*")


@dataclass(frozen=True, kw_only=True)
class GopherQuality(DocumentStep):
    """Reject what is no prose: Rae et al. 2021, Scaling Language Models (arXiv:2112.11446), appendix A.1.1.

    Stop words are looked for in lower case and count once each.
    """

    name = "gopher_quality"
    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_hashes: float = 0.1
    """`#` per word"""
    max_ellipses: float = 0.1
    """per word"""
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    """share of lines that end with an ellipsis"""
    min_alphabetic_words: float = 0.8
    """share of words with at least one letter"""
    min_stop_words: int = 2
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")

    def open(self) -> Callable[[str], Outcome]:
        stop_words = frozenset(self.stop_words)

        def judged(text: str) -> Outcome:
            words = text.split()
            reason = self._of_words(text, words) or self._of_lines(text)
            if not reason and len(stop_words.intersection(text.lower().split())) < self.min_stop_words:
                reason = "too few stop words"
            return Outcome(text, reason)

        return judged

    def _of_words(self, text: str, words: list[str]) -> str:
        count = len(words)
        if count < self.min_words or not words:
            return "too few words"
        if count > self.max_words:
            return "too many words"
        if not self.min_mean_word_length <= sum(map(len, words)) / count <= self.max_mean_word_length:
            return "mean word length"
        if text.count("#") > self.max_hashes * count:
            return "too many hashes"
        if sum(map(text.count, ELLIPSES)) > self.max_ellipses * count:
            return "too many ellipses"
        least = self.min_alphabetic_words * count
        # Words of letters alone are counted faster, and are mostly enough.
        if sum(map(str.isalpha, words)) < least and len(_LETTER_TO_END.findall(text)) < least:
            return "too few words with letters"
        return ""

    def _of_lines(self, text: str) -> str:
        lines = [line.strip() for line in text.split("\n") if line and not line.isspace()]
        if sum([line.startswith(BULLETS) for line in lines]) > self.max_bullet_lines * len(lines):
            return "too many bullet lines"
        if sum([line.endswith(ELLIPSES) for line in lines]) > self.max_ellipsis_lines * len(lines):
            return "too many ellipsis lines"
        return ""


# --- C4 ------------------------------------------------------------------------------------------------------

END_MARKS = (".", "?", "!", '"', "'", "”", "’")
"""what a sentence ends with; C4 names the first four, and books close quotations with the others"""
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_POLICY = re.compile("|".join(POLICIES))
_CITATION = re.compile(r"\[(?:\d{1,4}|edit|citation needed)\]")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]{0,3}(?=\s|$)")


@dataclass(frozen=True, kw_only=True)
class C4Quality(DocumentStep):
    """Remove lines that are no sentences, and reject what has few left: Raffel et al. 2020 (JMLR 21, 20-074), 2.2.

    The numbers are those of the paper and its code; an earlier version had 3 words and 5 sentences.  Not here: its list
    of bad words, which takes whole subjects and dialects with it, and its repeated spans, a matter of duplicates.
    Sentences are counted as marks `.` `!` `?` before white space.  Blank lines between lines that stay, stay.
    """

    name = "c4_quality"
    changes_text = True
    end_marks: bool = True
    """remove lines that do not end with an end mark, or end with an ellipsis; FineWeb leaves this out"""
    min_words_per_line: int = 5
    max_word_length: int = 1000
    """lines with a longer word are removed"""
    min_sentences: int = 3
    lorem_ipsum: bool = True
    """reject documents with these words"""
    curly_brackets: bool = True
    """reject documents with `{`: they are code"""
    javascript: bool = True
    """remove lines with this word"""
    policies: bool = True
    """remove lines that speak of terms of use, privacy policies or cookies"""
    citations: bool = True
    """remove Wikipedia's [1], [edit] and [citation needed]"""

    def open(self) -> Callable[[str], Outcome]:
        return self._judge

    def _judge(self, text: str) -> Outcome:
        if self.curly_brackets and "{" in text:
            return Outcome(text, "curly bracket")
        small = text.lower()
        if self.lorem_ipsum and "lorem ipsum" in small:
            return Outcome(text, "lorem ipsum")
        counts: Counter[str] = Counter()
        clean = self._cite_not(text, counts)
        clean = self._keep_lines(clean, suspicious=self._is_suspicious(small), counts=counts)
        if self.min_sentences and len(_SENTENCE_END.findall(clean)) < self.min_sentences:
            return Outcome(text, "too few sentences", counts)
        return Outcome(clean if counts else text, counts=counts)

    def _is_suspicious(self, small: str) -> bool:
        """Tell whether any line can have one of the words that remove it."""
        return (self.javascript and "javascript" in small) or (self.policies and bool(_POLICY.search(small)))

    def _cite_not(self, text: str, counts: Counter[str]) -> str:
        if not self.citations or "[" not in text:
            return text
        clean, count = _CITATION.subn("", text)
        if count:
            counts["citations removed"] = count
        return clean

    def _keep_lines(self, text: str, *, suspicious: bool, counts: Counter[str]) -> str:
        kept: list[str] = []
        removed = 0
        for line in text.split("\n"):
            fault = self._fault(line, suspicious) if line and not line.isspace() else ""
            if fault:
                counts[fault] += 1
                removed += 1
            elif line or removed == 0 or (kept and kept[-1]):
                kept.append(line)
        return "\n".join(kept).strip("\n") if removed else text

    def _fault(self, line: str, suspicious: bool) -> str:
        """Return why a line is removed, or nothing."""
        end = line.rstrip()
        if self.end_marks and (not end.endswith(END_MARKS) or end.endswith(ELLIPSES)):
            return "lines without end mark"
        words = line.split()
        if len(words) < self.min_words_per_line:
            return "lines of few words"
        if len(line) > self.max_word_length and max(map(len, words)) > self.max_word_length:
            return "lines with a huge word"
        small = line.lower() if suspicious else ""
        if self.javascript and "javascript" in small:
            return "lines on javascript"
        return "lines on policies" if self.policies and _POLICY.search(small) else ""


# --- FineWeb -------------------------------------------------------------------------------------------------

PUNCTUATION_MARKS = tuple(". ! ? … 。 ！ ？ ｡ ؟ ۔ । ॥ ։ ። ၊ ။ ។ ‼ ⁇ ⁈ ⁉".split())
"""what ends a sentence in the scripts of many speakers"""
_CLOSERS = "\"'”’»)]"


@dataclass(frozen=True, kw_only=True)
class FinewebQuality(DocumentStep):
    """Reject lists, menus and boilerplate by their lines: Penedo et al. 2024, FineWeb (arXiv:2406.17557), 3.6.

    The shares are the paper's; the code that made FineWeb (datatrove) rejects from 0.01 of duplicated characters on,
    counts a mark only if no quotation mark follows, and adds the rule on lines per word.
    """

    name = "fineweb_quality"
    min_punctuated_lines: float = 0.12
    max_short_lines: float = 0.67
    short_line_length: int = 30
    """the longest line that is short"""
    max_duplicate_characters: float = 0.1
    """share of characters in lines that were there before"""
    max_line_ends: float = 0.3
    """line ends per word"""

    def open(self) -> Callable[[str], Outcome]:
        return self._judge

    def _judge(self, text: str) -> Outcome:
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        count = len(lines)
        if not lines:
            return Outcome(text, "no lines")
        if sum(map(_is_punctuated, lines)) <= self.min_punctuated_lines * count:
            return Outcome(text, "too few punctuated lines")
        if sum([len(line) <= self.short_line_length for line in lines]) >= self.max_short_lines * count:
            return Outcome(text, "too many short lines")
        characters = sum(map(len, lines))
        duplicate = characters - sum(map(len, set(lines))) if len(set(lines)) < count else 0
        if duplicate and duplicate >= self.max_duplicate_characters * characters:
            return Outcome(text, "duplicated lines")
        if text.count("\n") > self.max_line_ends * len(text.split()):
            return Outcome(text, "too many line ends")
        return Outcome(text)


def _is_punctuated(line: str) -> bool:
    """Tell whether a line ends with a sentence, closing quotation marks and brackets aside."""
    return line.endswith(PUNCTUATION_MARKS) or line.rstrip().rstrip(_CLOSERS).endswith(PUNCTUATION_MARKS)


STEPS: tuple[type[CleaningStep], ...] = (GopherQuality, C4Quality, FinewebQuality)
