"""Machinery: text templates over a row's fields, `{title}: {extract|first_sentence}`."""

import re
from collections.abc import Callable, Mapping, Sequence

from pipeline.errors import ConfigError, DataError
from pipeline.runtime.settings import nearest

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_ ]*)((?:\|[a-z0-9_]+)*)\}")
# A sentence ends at . ! or ? before a space and a capital or a digit; an initial or an abbreviation ends none.
_SENTENCE_END = re.compile(r"[.!?][\"”)]?(?= [“\"(]?[A-Z0-9])")
_NO_END = re.compile(
    r"(?:(?:^|[ .(\"“'-])[A-Z]|\b(?:St|Sgt|Dr|Mr|Mrs|Ms|Jr|Sr|Mt|Gen|Col|Lt|No|Op|vs|ca?|e\.g|i\.e|etc|lit|fl|r|b|d|"
    r"Ph\.D|U\.S|Inc|Co|Ltd|Bros|Prof|Rev))\.$"
)


def _first_sentences(text: str, count: int) -> str:
    """Keep the first sentences of the first paragraph: ("He is A. Milne. He wrote.", 1) gives "He is A. Milne."."""
    line = " ".join(text.strip().split("\n")[0].split())
    ends = [m.end() for m in _SENTENCE_END.finditer(line) if not _NO_END.search(line[: m.end()])]
    return line[: ends[count - 1]] if len(ends) >= count else line


def _lines(value: object) -> list[str]:
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else str(value).splitlines()
    return [" ".join(str(item).split()) for item in items if str(item).strip()]


def _at_most(count: int) -> Callable[[object], list[str]]:
    """Keep a list that is short enough, else nothing: half an answer is none."""
    return lambda value: lines if len(lines := _lines(value)) <= count else []


FILTERS: dict[str, Callable[[object], str | list[str]]] = {
    "strip": lambda value: str(value).strip(),
    "first_sentence": lambda value: _first_sentences(str(value), 1),
    "first_sentences_2": lambda value: _first_sentences(str(value), 2),
    "lower_first": lambda value: str(value)[:1].lower() + str(value)[1:],
    "upper_first": lambda value: str(value)[:1].upper() + str(value)[1:],
    "numbered_lines": lambda value: "\n".join(f"{i}. {line}" for i, line in enumerate(_lines(value), 1)),
    "dash_lines": lambda value: "\n".join(f"- {line}" for line in _lines(value)),
    "join_comma": lambda value: ", ".join(_lines(value)),
    "first": lambda value: (_lines(value) or [""])[0],
    **{f"at_most_{count}": _at_most(count) for count in range(1, 33)},
}


def check_template(template: str, where: str) -> None:
    """Raise ConfigError when `template` uses a filter that does not exist, or has a brace that is no field's."""
    if rest := re.search(r"[{}]", _FIELD.sub("", template)):
        raise ConfigError(f"{where}: the template {template!r} has a {rest[0]!r} that belongs to no {{field}}.")
    for match in _FIELD.finditer(template):
        for name in match[2].split("|")[1:]:
            if name not in FILTERS:
                raise ConfigError(
                    f"{where}: the template {template!r} uses the filter {name!r}.{nearest(name, list(FILTERS))}"
                )


def fields_of(template: str) -> list[str]:
    """Return the fields that `template` uses, in order."""
    return [match[1] for match in _FIELD.finditer(template)]


def render(template: str, row: Mapping[str, object]) -> str | None:
    """Fill `template` from `row`; None when a field is empty, or is after its filters.

    Raises DataError when the row does not have the field at all.
    """
    text = []
    end = 0
    for match in _FIELD.finditer(template):
        value = _filled(match, row)
        if not value:
            return None
        text += [template[end : match.start()], value]
        end = match.end()
    return "".join([*text, template[end:]])


def _filled(match: re.Match[str], row: Mapping[str, object]) -> str:
    if match[1] not in row:
        raise DataError(f"there is no field {match[1]!r}.{nearest(match[1], list(row))}")
    value = row[match[1]]
    if isinstance(value, bytes):
        raise DataError(f"the field {match[1]!r} holds bytes, not text.")
    for name in match[2].split("|")[1:]:
        value = FILTERS[name](value) if value else value
    return ", ".join(_lines(value)) if isinstance(value, list) else "" if value is None else str(value)
