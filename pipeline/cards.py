"""Machinery: data cards: a Hugging Face dataset card whose front matter is the definition of a source."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.artifacts.identity import JSON
from pipeline.artifacts.manifest import License
from pipeline.errors import ConfigError, MissingError
from pipeline.settings import build, nearest
from pipeline.templates import check_template

FOLDER = Path(__file__).parent.parent / "data_cards"

LEFT_OUT = "left out by the card"
"""the reason of such a reject"""

Documents = Literal["auto", "file", "blocks", "separator", "rows"]
Format = Literal["", "txt", "json", "jsonl", "csv", "tsv", "parquet", "yaml_conversations"]


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
    """a path or glob (relative to the cards that ship), or pypi:NAME==VERSION#MEMBER"""
    sha256: str
    """of the file, of the wheel, or of the list of files below a folder"""
    member_sha256: str = ""
    license: str = "unknown"
    attribution: str = ""
    format: Format = ""
    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """globs of members that are left out"""
    without: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """rows whose field has one of these values are left out"""
    documents: Documents = "auto"
    separator: str = ""
    text: str = "{text}"
    label: str = "label"
    pairs: tuple[Pair, ...] = ()
    split: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for template in [self.text, *(t for pair in self.pairs for t in (pair.prompt, pair.reply))]:
            check_template(template, f"source {self.name}")
        if sum(self.split.values()) >= 1 or any(not 0 < share < 1 for share in self.split.values()):
            raise ConfigError(
                f"source {self.name}: the split {self.split} must be fractions that leave some for train."
            )
        if unknown := set(self.split) - {"validation", "test"}:
            raise ConfigError(f"source {self.name}: a split is validation or test, not {sorted(unknown)[0]!r}.")
        if (self.documents == "separator") != bool(self.separator):
            raise ConfigError(f"source {self.name}: documents = separator and the separator itself belong together.")

    def leaves_out(self, row: Mapping[str, Any]) -> bool:
        """Tell whether the card leaves this row out."""
        return any(str(row.get(name)) in values for name, values in self.without.items())

    @property
    def as_license(self) -> License:
        return License(source=self.name, license=self.license, attribution=self.attribution)


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
    source = build(Source, {"name": path.stem, "license": str(license_), **table}, f"{path}: source")
    return replace(source, location=_portable(source.location, path.parent))


def front_matter(path: Path) -> dict[str, JSON]:
    """Return the YAML between the two `---` lines at the top of a card."""
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


def _with_lists(table: JSON, key: str) -> JSON:
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
    if location.startswith("pypi:"):
        return location
    path = (folder / Path(location).expanduser()).absolute()
    return path.relative_to(FOLDER).as_posix() if path.is_relative_to(FOLDER) else str(path)
