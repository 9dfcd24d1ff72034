"""Machinery: measure a tokenizer: bytes per token, vocabulary use, numbers, and that text comes back."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import DataError
from pipeline.runtime.hashing import JSON
from pipeline.tokenization.text_encoder import TextEncoder
from pipeline.tokenization.training_sample import read_selected, select

MEASURED_BYTES = 2**22
"""of each split, at most: about a million tokens"""
HARDLY = 5
"""an id that the measured text holds less often than this is hardly used"""
PROBE_TEXTS = {
    "empty": "",
    "spaces and line ends": "  \t \r\n\n \r   ",
    "NUL and control characters": "\x00\x01\x07\x1b[0m\x7f\x85",
    "combining marks": "é e\u0301 Z\u0351\u036b\u0343a\u0323\u0308l\u0334go",
    "emoji joined into one": "👩‍👩‍👧🏽‍👦 🏳️‍🌈 🇨🇿 1️⃣",
    "right to left": "שָׁלוֹם \u202bمرحبا\u202c (abc) \u200f",
    "beside the surrogates": "\ud7ff\ue000",
    "noncharacters and the last code point": "\ufdd0\ufffe\uffff\U0010ffff",
    "unassigned": "\u0378\u088f\U000e0080",
    "replacement sign and byte order mark": "\ufffd\ufeff",
    "no spaces": "我们在这里。これはテストです。นี่คือการทดสอบ",
    "mathematical letters": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ①½Ⅷ٣",
    "a control token as text": "<|endoftext|><|user|>",
    "one sign, often": "a" * 3000 + " " * 300 + "\n" * 300,
}
NUMBERS = (" 7", " 42", " 365", " 1984", " 2024", " 65536", " 3.14159", " 1,000,000")


# --- measuring -----------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Fit:
    """What was counted on some text."""

    documents: int = 0
    bytes: int = 0
    words: int = 0
    """between white space"""
    tokens: int = 0

    def add(self, text: str, tokens: int) -> None:
        """Count one document."""
        self.documents += 1
        self.bytes += len(text.encode("utf-8"))
        self.words += len(text.split())
        self.tokens += tokens

    def as_json(self) -> dict[str, JSON]:
        ratios = {
            "bytes_per_token": round(self.bytes / max(1, self.tokens), 4),
            "tokens_per_word": round(self.tokens / max(1, self.words), 4),
        }
        return {**vars(self), **ratios}


def measure(encoder: TextEncoder, corpus: Artifact | None) -> dict[str, JSON]:
    """Return the figures of a tokenizer: of itself and, when there is a corpus, of how it fits that.

    Raises DataError when a text does not come back as it was.
    """
    counts = _Counts(encoder)
    held_out = fit_by_source(corpus, "validation", counts.encode) if corpus else {}
    train = fit_by_source(corpus, "train", counts.encode) if corpus else {}
    everything = sum_of(held_out.values())
    fit = everything.as_json() if corpus else {"bytes_per_token": None, "tokens_per_word": None}
    return {
        "bytes_per_token": fit["bytes_per_token"],
        "tokens_per_word": fit["tokens_per_word"],
        "sources": {name: found.as_json() for name, found in sorted(held_out.items())},
        "vocabulary": counts.usage(sum_of(train.values()).bytes + everything.bytes),
        "longest_tokens": longest_tokens(encoder),
        "round_trip": check_round_trip(encoder),
        "numbers": coverage_of_numbers(encoder),
    }


class _Counts:
    """Encodes, and remembers how often each id came out."""

    def __init__(self, encoder: TextEncoder) -> None:
        import numpy as np

        self.encoder = encoder
        self.seen = np.zeros(encoder.text_size, dtype=np.int64)

    def encode(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each text."""
        import numpy as np

        encoded = self.encoder.encode_batch(texts)
        ids = np.fromiter((i for document in encoded for i in document), dtype=np.int64)
        self.seen += np.bincount(ids, minlength=len(self.seen))
        return [len(document) for document in encoded]

    def usage(self, measured_bytes: int) -> dict[str, JSON] | None:
        """Return how much of the vocabulary the text used; None when there was no text."""
        if not measured_bytes:
            return None
        never = int((self.seen == 0).sum())
        hardly = int((self.seen < HARDLY).sum()) - never
        return {
            "text_ids": len(self.seen),
            "measured_bytes": measured_bytes,
            "never_used": never,
            "never_used_share": round(never / len(self.seen), 4),
            "hardly_used": hardly,
            "hardly_used_share": round(hardly / len(self.seen), 4),
            "hardly_means_below": HARDLY,
        }


def fit_by_source(corpus: Artifact, split: str, count_tokens: Callable[[list[str]], list[int]]) -> dict[str, Fit]:
    """Count the tokens of a bounded sample of a split, by source."""
    found: dict[str, Fit] = {}
    for batch in read_selected(corpus, split, select(corpus, split, MEASURED_BYTES)):
        texts, sources = batch.column("text").to_pylist(), batch.column("source").to_pylist()
        for text, source, tokens in zip(texts, sources, count_tokens(texts), strict=True):
            found.setdefault(source, Fit()).add(text, tokens)
    return found


def sum_of(fits: Iterable[Fit]) -> Fit:
    """Add up what was counted."""
    total = Fit()
    for fit in fits:
        for name, value in vars(fit).items():
            setattr(total, name, getattr(total, name) + value)
    return total


def longest_tokens(encoder: TextEncoder, count: int = 20) -> list[str]:
    """Return the longest tokens, those of lower id first; U+FFFD stands for what is no character by itself."""
    longest = sorted(encoder.token_bytes, key=len, reverse=True)[:count]
    return [token.decode("utf-8", errors="replace") for token in longest]


def check_round_trip(encoder: TextEncoder) -> dict[str, JSON]:
    """Check that every byte has an id of its own and that the probe texts come back; return what was checked.

    Raises DataError naming what does not.
    """
    known = set(encoder.token_bytes)
    if missing := [byte for byte in range(256) if bytes([byte]) not in known]:
        raise DataError(f"the tokenizer has no id for the byte {missing[0]}: not every text could be encoded.")
    for name, text in PROBE_TEXTS.items():
        if (found := encoder.decode(encoder.encode(text))) != text:
            raise DataError(f"the tokenizer does not give back a text ({name}): {text[:40]!r} became {found[:40]!r}.")
    return {"bytes": 256, "texts": sorted(PROBE_TEXTS)}


def coverage_of_numbers(encoder: TextEncoder) -> dict[str, JSON]:
    """Tell how the numbers up to 9999 and the years 1900 to 2029 are cut, after a space as in running text."""
    alone = digit_groups(encoder, [str(n) for n in range(10_000)])
    spaced = digit_groups(encoder, [f" {n}" for n in range(10_000)])
    years = range(1900, 2030)
    return {
        "one_token": {
            f"{digits} digits": _share(alone[n] for n in range(10_000) if len(str(n)) == digits)
            for digits in (1, 2, 3, 4)
        },
        "one_token_after_a_space": {
            f"{digits} digits": _share(spaced[n] for n in range(10_000) if len(str(n)) == digits)
            for digits in (1, 2, 3, 4)
        },
        "years_one_token": _share(spaced[n] for n in years),
        "four_digits_cut": dict(Counter("+".join(map(str, spaced[n])) for n in range(1000, 10_000))),
        "years_cut": dict(Counter("+".join(map(str, spaced[n])) for n in years)),
        "examples": {text: [show_bytes(encoder.token_bytes[i]) for i in encoder.encode(text)] for text in NUMBERS},
    }


def digit_groups(encoder: TextEncoder, numbers: list[str]) -> list[tuple[int, ...]]:
    """Return how many digits each token of each number holds; a token that is only the space is passed over."""
    digits = [len(token.strip()) for token in encoder.token_bytes]
    return [tuple(digits[i] for i in ids if digits[i]) for ids in encoder.encode_batch(numbers)]


def _share(cuts: Iterator[tuple[int, ...]]) -> float:
    found = [len(cut) == 1 for cut in cuts]
    return round(sum(found) / len(found), 4)


def show_bytes(token: bytes) -> str:
    """Write a token for people: as text where it is text, else its bytes in hexadecimal."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)


# --- printing ------------------------------------------------------------------------------------------------


def short_lines(report: dict[str, Any]) -> list[str]:
    """Return the report in a few lines, for the log."""
    lines = []
    if report["bytes_per_token"] is not None:
        fit = f"{report['bytes_per_token']:.2f} bytes per token, {report['tokens_per_word']:.2f} tokens per word"
        lines.append(f"{fit} on held-out text")
    if usage := report["vocabulary"]:
        never, hardly = usage["never_used_share"], usage["hardly_used_share"]
        lines.append(f"vocabulary: {never:.1%} never used, {hardly:.1%} fewer than {usage['hardly_means_below']} times")
    longest = " ".join(repr(token) for token in report["longest_tokens"][:4])
    lines.append(f"longest tokens: {longest if len(longest) < 90 else longest[:90] + '…'}")
    numbers = report["numbers"]
    lines.append(
        f"numbers that are one token: {numbers['one_token']['2 digits']:.0%} of two digits, "
        f"{numbers['one_token']['3 digits']:.0%} of three, {numbers['years_one_token']:.0%} of the years 1900 to 2029"
    )
    lines.append(f"all 256 bytes and {len(report['round_trip']['texts'])} probe texts come back as they were")
    return lines
