"""Machinery: rows of a source become candidates for examples: a text with its label, or a prompt with its reply."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import DataError
from pipeline.readers.documents import rows_of
from pipeline.readers.text_rows import Row
from pipeline.runtime.hashing import canonical_json
from pipeline.runtime.settings import nearest
from pipeline.sources.card import LEFT_OUT, Pair, Source
from pipeline.sources.document import Document, normalize
from pipeline.sources.streams import SourceFile
from pipeline.sources.templates import fields_of, render

ExampleType = Literal["classification", "conversation"]

_PAIR = Pair(prompt="{prompt}", reply="{reply}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What a row gives: a text and its label, or a prompt and its reply."""

    source: str
    place: str
    texts: tuple[str, ...]
    """the text, or the prompt and the reply"""
    label: str = ""
    key: bytes
    """a SHA-256 that decides the split; all candidates of a row have the same"""


def candidates_of(
    source: Source, files: Iterable[SourceFile], example_type: ExampleType
) -> Iterator[Candidate | Document]:
    """Yield what the rows of a source give; what is left out is a document with the reason.

    A row that lacks what is asked for is left out, in every format alike.  Raises DataError, at the end, for a field
    that is asked for and that no row has.
    """
    rows = _Rows(source)
    candidates = rows.pairs if example_type == "conversation" else rows.labelled
    for file in files:
        for found in rows_of(source, file):
            if isinstance(found, Document):
                yield found
                continue
            place, row = found
            rows.seen.update(row)
            if source.leaves_out(row):
                yield Document(str(row), place, LEFT_OUT)
            else:
                yield from candidates(place, row)
    rows.check()


class _Rows:
    """What becomes of the rows of a source; remembers which fields they have, and which of those asked for not."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pairs = source.pairs or (_PAIR,)
        self._lacking: set[str] = set()
        self.seen: set[str] = set()

    def check(self) -> None:
        """Raise DataError when a field that is asked for is in no row."""
        if self.seen and (names := sorted(self._lacking - self.seen)):
            raise DataError(
                f"source {self._source.name}: no row has the field {names[0]!r}.{nearest(names[0], list(self.seen))} "
                "Set --text and --label, or --prompt and --reply (in a card: text, label, pairs)."
            )

    def labelled(self, place: str, row: Row) -> Iterator[Candidate | Document]:
        """Yield a row's text with its label."""
        text = self._render(self._source.reading.text, place, row)
        label = self._label(row)
        if not text:
            yield Document("", place, "no text")
        elif not label:
            yield Document(text, place, "no label")
        else:
            key = hashlib.sha256(text.encode("utf-8")).digest()
            yield Candidate(source=self._source.name, place=place, texts=(text,), label=label, key=key)

    def _label(self, row: Row) -> str:
        if self._source.label not in row:
            self._lacking.add(self._source.label)
        value = row.get(self._source.label)
        return "" if value is None else str(value).strip()

    def pairs(self, place: str, row: Row) -> Iterator[Candidate | Document]:
        """Yield a row's prompts with their replies; they share a key, so that they stay in one split."""
        pairs: list[tuple[str, str]] = []
        for pair in self._pairs:
            if any(str(row.get(name)) not in values for name, values in pair.where.items()):
                continue
            prompt, reply = (self._render(template, place, row) for template in (pair.prompt, pair.reply))
            if prompt and reply:
                pairs.append((prompt.strip(), reply.strip()))
            else:
                yield Document(prompt, place, "no reply" if prompt else "no prompt")
        # Of what is used alone: another field of the row must not move its pairs to another split.
        key = hashlib.sha256(canonical_json(pairs).encode("utf-8")).digest()
        yield from (Candidate(source=self._source.name, place=place, texts=texts, key=key) for texts in pairs)

    def _render(self, template: str, place: str, row: Row) -> str:
        """Fill a template; nothing when a field is lacking or empty, or all of it is blank."""
        if lacking := [name for name in fields_of(template) if name not in row]:
            self._lacking.update(lacking)
            return ""
        try:
            text = normalize(render(template, row) or "")
        except DataError as error:
            raise DataError(f"source {self._source.name}, {place}: {error} The template is {template!r}.") from error
        return "" if text.isspace() else text
