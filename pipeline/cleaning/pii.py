"""Machinery: the cleaning step that masks what identifies a person: addresses, numbers of phones, cards, accounts.

Patterns repeat no repetition, and what they can take is bounded, so that the time is linear in any text.  What they
find is checked by what a number says about itself: check digits, lengths, dates.  Nothing goes over a line end.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.cleaning.step import CleaningStep, DocumentStep, Outcome
from pipeline.errors import ConfigError

Kind = Literal["email", "iban", "card", "ip", "phone"]
Finder = Callable[[str], Iterator[tuple[int, int]]]


@dataclass(frozen=True, kw_only=True)
class Pii(DocumentStep):
    """Replace e-mail addresses, IBANs, payment cards, public IP addresses and phone numbers by <EMAIL>, <IBAN>, ...

    - email: local part, @, a domain whose top level is letters; `name at example dot org` is not seen.
    - iban: of the countries in the registry, by length and check digits (ISO 13616: mod 97).
    - card: an issuer's first digits and length, unbroken or in the issuer's groups, and the check digit (Luhn).
    - ip: public IPv4 and IPv6, as FineWeb; private and reserved ones tell nothing about anybody, and four numbers
      after `version`, `section` and the like are no address.
    - phone: international (+ or 00), North American (3-3-4), national (a leading 0, groups, 10 to 12 digits), and any
      after a word like `tel`.  A row of digits alone, a date, a price or an ISBN is none.
    """

    name = "pii"
    changes_text = True
    types: tuple[Kind, ...] = ("email", "iban", "card", "ip", "phone")

    def __post_init__(self) -> None:
        if not self.types or len(set(self.types)) < len(self.types) or not set(self.types) <= set(FINDERS):
            raise ConfigError(f"pii: types={'|'.join(self.types)!r} must be some of {'|'.join(FINDERS)}, each once.")

    def open(self) -> Callable[[str], Outcome]:
        finders = [(kind, PLACEHOLDERS[kind], find) for kind, find in FINDERS.items() if kind in self.types]

        def masked(text: str) -> Outcome:
            counts: Counter[str] = Counter()
            clean = text
            for _ in range(_PASSES):
                before = counts.total()
                clean = _mask_once(clean, finders, counts)
                if counts.total() == before:
                    break
            return Outcome(clean, counts=counts) if counts else Outcome(text)

        return masked


_PASSES = 8
"""what is masked may have hidden another thing: two numbers side by side look like one that is too long"""
_A_DIGIT = re.compile(r"[0-9]")


def _mask_once(text: str, finders: Sequence[tuple[Kind, str, Finder]], counts: Counter[str]) -> str:
    digits = _A_DIGIT.search(text) is not None
    for kind, placeholder, find in finders:
        if "@" in text if kind == "email" else digits:
            text, count = _mask(text, find, placeholder)
            if count:
                counts[_LABELS[kind]] += count
    return text


def _mask(text: str, find: Finder, placeholder: str) -> tuple[str, int]:
    """Put the placeholder for what is found; not beside another one, so that masking twice is masking once."""
    pieces: list[str] = []
    done = 0
    for start, end in find(text):
        if start >= done and not text.endswith(_ALL_PLACEHOLDERS, max(0, start - 7), start):
            if not text.startswith(_ALL_PLACEHOLDERS, end):
                pieces += (text[done:start], placeholder)
                done = end
    return ("".join(pieces) + text[done:], len(pieces) // 2) if pieces else (text, 0)


# --- e-mail --------------------------------------------------------------------------------------------------

_NOT_BESIDE = "".join(f"(?<!<{kind.upper()}>)" for kind in get_args(Kind))
_EMAIL = re.compile(
    rf"{_NOT_BESIDE}"
    r"(?<![\w.+%-])[.+%-]{0,8}(?P<it>\w[\w.+%-]{0,63}@(?:[^\W_][\w-]{0,61}\.){1,8}(?:xn--[\w-]{1,59}|[^\W\d_]{2,63}))"
    r"(?![\w-])"
)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span("it") for match in _EMAIL.finditer(text))


# --- bank accounts and cards ---------------------------------------------------------------------------------

_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in (
        entry.split(":")
        for entry in (
            "15:NO 16:BE 18:DK,FI,FK,FO,GL,NL,SD 19:MK,SI 20:AT,BA,EE,KZ,LT,LU,MN,XK 21:CH,HR,LI,LV "
            "22:BG,BH,CR,DE,GB,GE,IE,ME,RS,VA 23:AE,GI,IL,IQ,OM,SO,TL 24:AD,CZ,ES,MD,PK,RO,SA,SE,SK,TN,VG "
            "25:LY,PT,ST 26:IS,TR 27:BI,DJ,FR,GR,IT,MC,MR,SM 28:AL,AZ,BY,CY,DO,GT,HN,HU,LB,NI,PL,SV 29:BR,EG,PS,QA,UA "
            "30:JO,KW,MU,YE 31:MT,SC 32:LC 33:RU"
        ).split()
    )
    for country in countries.split(",")
}
_IBAN_START = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z][0-9]{2}(?=[ -]?[A-Z0-9])")
_IBAN_REST = {
    length: re.compile(r"(?:[ -]?[A-Z0-9]){%d}(?!\w)" % (length - 4))  # noqa: UP031  the braces are the pattern's
    for length in set(_IBAN_LENGTHS.values())
}


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for start in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(start[0][:2])
        match = _IBAN_REST[length].match(text, start.end()) if length else None
        if match and _is_iban(text[start.start() : match.end()]):
            yield start.start(), match.end()


def _is_iban(written: str) -> bool:
    """Check the digits: letters count from A = 10, the first four signs go last, the remainder by 97 is 1."""
    code = re.sub(r"[ -]", "", written)
    return int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97 == 1


_CARD = re.compile(
    r"[2-6](?<![\w.][2-6])"
    r"(?:[0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?|[0-9]{3}([ -]?)[0-9]{6}\2[0-9]{4,5}|[0-9]{12})"
    r"(?!\w|[.,][0-9])"
)
_ISSUERS = (
    (re.compile("4"), (13, 16, 19)),
    (re.compile("3[47]"), (15,)),
    (re.compile("5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|35"), (16,)),
    (re.compile("6(?:011|2|4[4-9]|5)|50|5[6-8]|6[37]"), (16, 19)),
    (re.compile("3(?:0|[68])"), (14,)),
)


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if any(start.match(digits) and len(digits) in lengths for start, lengths in _ISSUERS) and _has_luhn(digits):
            yield match.span()


def _has_luhn(digits: str) -> bool:
    """Check the last digit (ISO/IEC 7812): from the right, every second one doubled, digits of all summed."""
    doubled = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    return sum(doubled[int(d)] if i % 2 else int(d) for i, d in enumerate(reversed(digits))) % 10 == 0


# --- the net -------------------------------------------------------------------------------------------------

_IPV4 = re.compile(r"[0-9](?<![\w.][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
_IPV6 = re.compile(r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{0,34}(?:[0-9A-Fa-f]|::)(?![\w:])")
_NO_ADDRESS = re.compile(r"(?:version|release|section|chapter|rfc|§|\bv|\bver|\bsec|\bno)[.:]? ?$", re.IGNORECASE)
# Python's own is_global follows the registries as they are at its release; this stays the same.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3 2001:db8::/32"
    ).split()
]


def _ips(text: str) -> Iterator[tuple[int, int]]:
    found = [*_IPV4.finditer(text), *(_IPV6.finditer(text) if ":" in text else ())]
    for match in sorted(found, key=re.Match.start):
        if _is_public(match[0]) and not _NO_ADDRESS.search(text, max(0, match.start() - 10), match.start()):
            yield match.span()


def _is_public(written: str) -> bool:
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


# --- phones --------------------------------------------------------------------------------------------------


def _whole(name: str, pattern: str) -> str:
    """Return a pattern that gives nothing back once it has matched: a lookahead is never tried again.

    `+` after a quantifier says the same, but before Python 3.11.5 it matched wrongly (CPython issue 106052).
    """
    return rf"(?=(?P<{name}>{pattern}))(?P={name})"


_COUNTRY = (
    r"(?:[2-9]|1(?=[ .(-]{0,2}[2-9]))[0-9]{0,14}"
    r"(?:[ .-]?\([0-9]{1,5}\)[ .-]?[0-9]{0,8})?(?:[ .-][0-9](?=[ .-]))?"
)
_INTERNATIONAL = re.compile(
    rf"(?:\+(?<![\w+]\+){_COUNTRY}{_whole('a', '(?:[ ./-]{1,2}[0-9]{2,12}){0,6}')}"
    rf"|0(?<![\w.,+-]0)0{_COUNTRY}{_whole('b', '(?:[ ./-]{1,2}[0-9]{2,12}){1,6}')})(?!\w)"
)
_AREA = "[2-9][0-9]{2}"
_AMERICAN = re.compile(
    rf"(?<![\w.,+$€£-])(?:1[ .-]?)?(?:\({_AREA}\)[ .-]?{_AREA}[ .-]|{_AREA}([ .-]){_AREA}\1)[0-9]{{4}}"
    r"(?![\w-]|\.[0-9])"
)
_NATIONAL = re.compile(
    r"(?:0(?<![\w.,+$€£-]0)[1-9][0-9]{0,4}[ /-]|\((?<!\w\()0[1-9][0-9]{0,4}\)[ /-]?)[0-9]{2,8}"
    + _whole("a", "(?:[ -][0-9]{2,8}){0,4}")
    + r"(?!\w|[.,-][0-9])|0(?<![\w.,+$€£-]0)[1-9](?:\.[0-9]{2}){4}(?!\w|[.,-][0-9])"
)
_LAST_GROUP = re.compile(r"[ ./-]{1,2}[0-9]{1,12}$")
_NAMED = re.compile(
    r"\b(?:tel|telephone|phone|mobile|cell|fax|whatsapp)\b[.:#]{0,2} {0,2}(?:(?:no|number|is)\b[.:]? {0,2})?"
    rf"(?P<it>[+(]?[0-9]{_whole('a', '(?:[ ./()-]{0,2}[0-9]){6,14}')})(?!\w)",
    re.IGNORECASE,
)
_DATE = re.compile(r"[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}([./-])[0-9]{1,2}\1[0-9]{1,2}")
_YEARS = re.compile(r"(?:19|20)[0-9]{2}[ /-]{1,2}(?:19|20)[0-9]{2}")


def _phones(text: str) -> Iterator[tuple[int, int]]:
    found = [
        *_fitted(text, _INTERNATIONAL, 8, 15),
        *_fitted(text, _AMERICAN, 10, 11),
        *_fitted(text, _NATIONAL, 10, 12),
        *(match.span("it") for match in _NAMED.finditer(text) if not _YEARS.fullmatch(match["it"])),
    ]
    return (span for span in sorted(found) if not _DATE.search(text, *span))


def _fitted(text: str, pattern: re.Pattern[str], least: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the places of matches with so many digits; what has more loses groups at its end: `020 7946 0018 25`."""
    for match in pattern.finditer(text):
        start, end = match.span()
        digits = len(_A_DIGIT.findall(match[0]))
        while digits > most:
            group = _LAST_GROUP.search(text, start, end)
            if not group:
                break
            end = group.start()
            digits -= len(_A_DIGIT.findall(group[0]))
        if least <= digits <= most:
            yield start, end


FINDERS: dict[Kind, Finder] = {"email": _emails, "iban": _ibans, "card": _cards, "ip": _ips, "phone": _phones}
"""in the order in which they look: what one has masked, the next does not see"""
PLACEHOLDERS: dict[Kind, str] = {kind: f"<{kind.upper()}>" for kind in FINDERS}
_ALL_PLACEHOLDERS = tuple(PLACEHOLDERS.values())
_LABELS: dict[Kind, str] = {"email": "e-mail", "iban": "IBAN", "card": "card", "ip": "IP address", "phone": "phone"}

STEPS: tuple[type[CleaningStep], ...] = (Pii,)
