"""Machinery: data cards: a Hugging Face dataset card whose front matter is the definition of a source."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pipeline.artifacts.manifest import License
from pipeline.errors import ConfigError, MissingError
from pipeline.runtime.hashing import Page
from pipeline.runtime.settings import Flat, build, nearest
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.templates import check_template
from pipeline.tables.splits import SPLITS

FOLDER = Path(__file__).parent.parent.parent / "data_cards"

LEFT_OUT = "left out by the card"
"""the reason of such a reject"""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A prompt and its reply as templates over a row; `where` limits it to rows with these values."""

    prompt: str
    reply: str
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where text comes from and how it becomes documents, labelled rows or pairs; all of it is in the id."""

    name: str
    location: str
    """a path or glob (relative to the cards that ship), pypi:NAME==VERSION#MEMBER, hf:OWNER/NAME@COMMIT, or a URL"""
    sha256: str = ""
    """of the file, of the wheel, or of the list of files below a folder; a commit of hf: needs none"""
    member_sha256: str = ""
    """of the file inside the wheel"""
    license: str = "unknown"
    attribution: str = ""
    reading: Annotated[ReadingOptions, Flat] = field(default_factory=ReadingOptions)
    exclude: tuple[str, ...] = ()
    """globs of files and members that are left out"""
    without: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """rows whose field has one of these values are left out"""
    label: str = "label"
    """the field that is the label"""
    pairs: tuple[Pair, ...] = ()
    split: dict[str, float] = field(default_factory=dict)
    """the share of documents that goes to validation and test"""

    def __post_init__(self) -> None:
        for template in [template for pair in self.pairs for template in (pair.prompt, pair.reply)]:
            check_template(template, f"source {self.name}")
        if sum(self.split.values()) >= 1 or any(not 0 < share < 1 for share in self.split.values()):
            raise ConfigError(
                f"source {self.name}: the split {self.split} must be fractions that leave some for train."
            )
        if unknown := set(self.split) - set(SPLITS[1:]):
            raise ConfigError(f"source {self.name}: a split is validation or test, not {sorted(unknown)[0]!r}.")
        if not self.sha256 and not self.location.startswith("hf:"):
            raise ConfigError(f"source {self.name}: sha256 is missing; sha256sum prints that of a file.")

    def leaves_out(self, row: Mapping[str, object]) -> bool:
        """Tell whether the card leaves this row out."""
        return any(str(row.get(name)) in values for name, values in self.without.items())

    @property
    def as_license(self) -> License:
        return License(source=self.name, license=self.license, attribution=self.attribution)


def readers_of(sources: Iterable[Source]) -> tuple[str, ...]:
    """Return the libraries, for a toolchain, that decide which rows there are: `datasets`, for data sets of the hub."""
    return ("datasets",) if any(source.location.startswith("hf:") for source in sources) else ()


def is_remote(location: str) -> bool:
    """Tell whether a location has to be fetched: it is no path."""
    return location.startswith(("pypi:", "hf:")) or bool(_URL.match(location))


def card_names() -> list[str]:
    """Return the names of the cards that ship with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")


def load_card(name: str) -> Source:
    """Read the source that the card `name` (shipped, or a path ending in .md) defines.

    Raises MissingError when there is no such card and ConfigError when its front matter is not a source.
    """
    path = Path(name).expanduser() if name.endswith(".md") else FOLDER / f"{name}.md"
    if not path.exists():
        raise MissingError(f"There is no data card {name!r}.{nearest(name, card_names())} A path must end in .md.")
    front = front_matter(path)
    table = front.get("source")
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: the front matter has no table `source`; data_cards/README.md says what goes in it.")
    table = {**table, "pairs": [_with_lists(pair, "where") for pair in table.get("pairs") or []]}
    table = _with_lists(table, "without")
    license_ = front.get("license", "unknown")
    try:
        source = build(Source, {"name": path.stem, "license": str(license_), **table}, "source")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return replace(source, location=_portable(source.location, path.parent), reading=source.reading.resolved())


def front_matter(path: Path) -> Page:
    """Return the YAML between the two `---` lines at the top of a card."""
    import yaml

    try:
        parts = path.read_text(encoding="utf-8").split("---\n", 2)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    if len(parts) != 3 or parts[0].strip():
        raise ConfigError(f"{path} has no front matter: a card starts with YAML between two lines of ---.")
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: the front matter is not YAML: {error}") from error
    return front if isinstance(front, dict) else {}


def _with_lists(table: Any, key: str) -> Any:
    """Let `where: {topic: X}` stand for `where: {topic: [X]}`."""
    if not isinstance(table, dict):
        return table
    found = table.get(key) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"{key} must be a table of fields and their values, got {found!r}.")
    chosen = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    return {**table, key: chosen}


def _portable(location: str, folder: Path) -> str:
    """Keep a path relative when it is below the shipped cards, so that the id is the same on every machine."""
    if is_remote(location):
        return location
    path = plain_path(folder / Path(location).expanduser())
    return path.relative_to(FOLDER).as_posix() if path.is_relative_to(FOLDER) else str(path)


def plain_path(path: Path) -> Path:
    """Return the one way to write where a file is: absolute, and without `..` where that is the same place."""
    path = path.expanduser().absolute()
    short = Path(os.path.normpath(path))
    return short if short.exists() and path.exists() and short.samefile(path) else path


def check_names(sources: tuple[Source, ...]) -> None:
    """Raise ConfigError when two sources have one name: what is said of one would be said of both."""
    twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
    if twice:
        raise ConfigError(f"two sources are called {twice[0]!r}; rename one of the cards.")
