r"""Machinery: the regular expressions that cut text into pre-tokens before byte pairs are merged.

No merge crosses the boundary of a pre-token, so the pattern decides what a token can be: a word with the space before
it, up to three digits, a run of punctuation.  The expressions are written for Oniguruma, which `tokenizers` uses.
There `{1,3}+` is not possessive, as in tiktoken's spelling, but "groups of three, once or more": a whole number as
one.  Hence only plain quantifiers here; tests hold the ids equal to those of tiktoken under its own spelling.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.runtime.hashing import JSON

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Int64, UInt8
    from tokenizers.pre_tokenizers import PreTokenizer

Pattern = Literal["gpt2", "cl100k", "digits_one", "digits_three"]


@dataclass(frozen=True, kw_only=True)
class Pretokenizer:
    """A pattern under its name: an ordered choice of pre-tokens, tried at each place from left to right."""

    name: str
    alternatives: tuple[str, ...]
    about: str
    """for people: what is a pre-token"""
    source: str
    """where it was published"""

    @property
    def regex(self) -> str:
        """The expression whose matches, one after the other, are the pre-tokens; they leave nothing of the text out."""
        return "|".join(self.alternatives)


_WORDS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", r" ?\p{L}+")
_OTHERS_AND_SPACE = (r" ?[^\s\p{L}\p{N}]+", r"\s+(?!\S)", r"\s+")
_ANY_CASE_WORDS = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+")
_OTHERS_AND_LINES = (r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+")

GPT2 = Pretokenizer(
    name="gpt2",
    alternatives=(*_WORDS, r" ?\p{N}+", *_OTHERS_AND_SPACE),
    about="words, numbers of any length and punctuation, each with the space before it; 's 't 're 've 'm 'll 'd alone",
    source="Radford et al. 2019, Language Models are Unsupervised Multitask Learners; src/encoder.py of openai/gpt-2",
)
DIGITS_ONE = Pretokenizer(
    name="digits_one",
    alternatives=(*_WORDS, r"\p{N}", *_OTHERS_AND_SPACE),
    about="as gpt2, but every digit is a pre-token of its own, without the space",
    source="one digit a token: Chowdhery et al. 2022, PaLM, section 4.1; Touvron et al. 2023, LLaMA, section 2.1",
)
DIGITS_THREE = Pretokenizer(
    name="digits_three",
    alternatives=(*_WORDS, r"\p{N}{1,3}", *_OTHERS_AND_SPACE),
    about="as gpt2, but digits in groups of up to three from the left, without the space",
    source="the group of digits is that of cl100k; on the direction see Singh and Strouse 2024, Tokenization counts",
)
CL100K = Pretokenizer(
    name="cl100k",
    alternatives=(*_ANY_CASE_WORDS, r"\p{N}{1,3}", *_OTHERS_AND_LINES),
    about="words with one sign or space before them, digits in groups of up to three, punctuation with the line ends "
    "after it, blank lines; contractions in any case",
    source="cl100k_base in tiktoken_ext/openai_public.py of openai/tiktoken; the plain spelling is that of Llama 3",
)
QWEN2 = Pretokenizer(
    name="qwen2",
    alternatives=(*_ANY_CASE_WORDS, r"\p{N}", *_OTHERS_AND_LINES),
    about="as cl100k, but every digit is a pre-token of its own",
    source="tokenizer.json of Qwen2; only for import",
)

PRETOKENIZERS = {p.name: p for p in (GPT2, CL100K, DIGITS_ONE, DIGITS_THREE)}
"""what a tokenizer may be trained with"""
KNOWN = {**PRETOKENIZERS, QWEN2.name: QWEN2}
"""what an imported tokenizer may have"""


def build_pretokenizer(name: str) -> "PreTokenizer":
    """Return the `tokenizers` pre-tokenizer of a pattern: cut, then write bytes as GPT-2's printable symbols.

    For gpt2 it is the one that `ByteLevel` brings along, so that tokenizer.json is what it always was.
    """
    from tokenizers import Regex, pre_tokenizers

    if name == GPT2.name:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(KNOWN[name].regex), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# --- long pre-tokens -----------------------------------------------------------------------------------------

_LETTER, _DIGIT, _SIGN, _SPACE, _CONTROL, _HIGH, _MAYBE_SPACE = range(7)


def has_longer_pretoken(
    name: str, chunks: "Iterable[UInt8[np.ndarray, ' bytes']]", limit: int, *, patience: int = 2**22
) -> bool:
    """Tell whether any chunk of UTF-8 has a pre-token of more than `limit` bytes.

    Only spans without a sure boundary are cut in earnest, which is slow; after `patience` bytes of them (as in Chinese,
    where such boundaries are rare) the answer is yes, to be on the safe side.
    """
    pretokenizer = build_pretokenizer(name)
    for chunk in chunks:
        for span in spans_over(chunk, limit):
            patience -= len(span)
            if patience < 0:
                return True
            found = pretokenizer.pre_tokenize_str(span.tobytes().decode("utf-8"))
            if any(len(pretoken) > limit for pretoken, _ in found):  # a symbol of a pre-token is a byte
                return True
    return False


def spans_over(chunk: "UInt8[np.ndarray, ' bytes']", limit: int) -> "Iterator[UInt8[np.ndarray, ' span']]":
    """Yield the spans of UTF-8 of more than `limit` bytes that have no sure boundary inside."""
    import numpy as np

    edges = np.concatenate([[0], sure_boundaries(chunk), [len(chunk)]])
    for i in np.flatnonzero(np.diff(edges) > limit):
        yield chunk[edges[i] : edges[i + 1]]


def sure_boundaries(chunk: "UInt8[np.ndarray, ' bytes']") -> "Int64[np.ndarray, ' boundaries']":
    """Return where a pre-token begins by all of the patterns, found without them in a thirtieth of the time.

    It is so where an ASCII letter or digit comes before another kind of ASCII character, and where anything but
    white space comes before a space.
    """
    import numpy as np

    kinds = _byte_kinds()[chunk]
    return np.flatnonzero(_is_boundary()[kinds[:-1] * 7 + kinds[1:]]) + 1


def _byte_kinds() -> "UInt8[np.ndarray, '256']":
    """Return what each byte is; a byte of a longer character may end a white-space character of Unicode, or not."""
    import numpy as np

    kinds = np.full(256, _HIGH, dtype=np.uint8)
    kinds[:128] = _CONTROL
    kinds[33:127] = _SIGN
    kinds[[ord(c) for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]] = _LETTER
    kinds[48:58] = _DIGIT
    kinds[32] = _SPACE
    kinds[sorted({chr(i).encode()[-1] for i in range(128, 0x10000) if chr(i).isspace()})] = _MAYBE_SPACE
    return kinds


def _is_boundary() -> "Bool[np.ndarray, '49']":
    """Return, by 7 times the kind of a byte plus the kind of the next, whether every pattern cuts between them."""
    import numpy as np

    table = np.zeros((7, 7), dtype=bool)
    table[_LETTER, [_DIGIT, _SIGN, _SPACE, _CONTROL]] = True
    table[_DIGIT, [_LETTER, _SIGN, _SPACE, _CONTROL]] = True
    table[[_LETTER, _DIGIT, _SIGN, _HIGH], _SPACE] = True
    return table.reshape(-1)


# --- recognizing ---------------------------------------------------------------------------------------------


def name_of(page: JSON) -> str | None:
    """Return which pattern the `pre_tokenizer` of a tokenizer.json is, or None when it is not one we know.

    The comparison is of text with text: an unknown expression is never compiled, however it would behave.
    """
    if not isinstance(page, dict):
        return None
    if page.get("type") == "ByteLevel":
        return GPT2.name if _is_byte_level(page, use_regex=True) else None
    steps = page.get("pretokenizers")
    if page.get("type") != "Sequence" or not isinstance(steps, list) or len(steps) != 2:
        return None
    split, byte_level = steps
    if not (_is_plain_split(split) and _is_byte_level(byte_level, use_regex=False)):
        return None
    return next((p.name for p in KNOWN.values() if split.get("pattern") == {"Regex": p.regex}), None)


def _is_byte_level(page: JSON, *, use_regex: bool) -> bool:
    """Tell whether this step writes bytes as symbols and changes nothing else; `use_regex` is true when left out."""
    return (
        isinstance(page, dict)
        and page.get("type") == "ByteLevel"
        and page.get("add_prefix_space") is False
        and page.get("use_regex", True) is use_regex
    )


def _is_plain_split(page: JSON) -> bool:
    """Tell whether this step makes the matches the pre-tokens, in either way of saying so."""
    if not isinstance(page, dict) or page.get("type") != "Split":
        return False
    return (page.get("behavior"), page.get("invert")) in (("Isolated", False), ("Removed", True))
