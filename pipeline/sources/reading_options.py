"""Machinery: how the files of a source are read: the options that data cards and the command line share."""

import codecs
import re
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.sources.templates import check_template

Documents = Literal["auto", "file", "blocks", "paragraphs", "sections", "separator", "rows"]
Format = Literal["", "txt", "html", "json", "jsonl", "csv", "tsv", "parquet", "arrow", "yaml_conversations"]
Errors = Literal["strict", "replace"]
BadRows = Literal["error", "reject"]

_NO_TEXT_ENCODINGS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf_7", "undefined")


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How files become documents: said by a card for its source, and by these flags for --source."""

    text: str = "{text}"
    """a template over the fields of a row, for rows"""
    documents: Documents = "auto"
    """how text becomes documents; auto is file, but blocks where documents are few or too long"""
    separator: str = ""
    """the text between two documents, for documents separator"""
    split_at: str = ""
    """a regular expression for the start of the lines at which a document starts, for documents sections"""
    encoding: str = "utf-8"
    """of text and tables of text, by Python's name for it"""
    errors: Errors = "strict"
    """what a byte is that means nothing in the encoding: an error, or replaced and counted"""
    bad_rows: BadRows = "error"
    """what a row is that cannot be used: an error, or left out and counted"""
    max_document_bytes: int = 2**26
    """a longer line or row is left out; so much of a file is held in memory at most, a few times over"""
    format: Format = ""
    """of every file or member, where suffixes do not say it"""
    columns: tuple[str, ...] = ()
    """the names of the columns of a csv or tsv that has no header line"""

    def __post_init__(self) -> None:
        check_template(self.text, "text")
        for way, name, needed in (("separator", "separator", self.separator), ("sections", "split_at", self.split_at)):
            if (self.documents == way) != bool(needed):
                raise ConfigError(f"documents = {way} and {name} belong together.")
        if self.max_document_bytes < 1:
            raise ConfigError(f"max_document_bytes must be at least 1, got {self.max_document_bytes}.")
        self._check_encoding()
        try:
            re.compile(self.split_at)
        except re.error as error:
            raise ConfigError(f"split_at {self.split_at!r} is no regular expression: {error}.") from error

    def resolved(self) -> "ReadingOptions":
        """Return the same options with the one name of the encoding: utf8, UTF-8 and utf-8 are one."""
        return replace(self, encoding=codecs.lookup(self.encoding).name)

    def _check_encoding(self) -> None:
        try:
            found = codecs.lookup(self.encoding).name.replace("-", "_")
            b"a".decode(self.encoding, "replace")  # refuses what encodes no text, such as base64
        except (LookupError, UnicodeError, ValueError) as error:
            raise ConfigError(f"encoding {self.encoding!r} is no encoding that Python knows.") from error
        if found in _NO_TEXT_ENCODINGS:
            raise ConfigError(f"encoding {self.encoding!r} is no encoding for files of text.")
