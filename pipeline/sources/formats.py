"""Machinery: which format a file is in: what its name says, and whether its first bytes agree."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from pipeline.errors import DataError

FORMATS = {
    ".txt": "txt",
    ".md": "txt",
    ".html": "html",
    ".htm": "html",
    ".jsonl": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".yml": "yaml_conversations",
    ".yaml": "yaml_conversations",
}
TEXTS = ("txt", "html")
"""formats that are text throughout; the others have rows"""

READABLE = tuple(suffix for suffix, name in FORMATS.items() if name != "yaml_conversations")
"""suffixes that are read without being asked for by name"""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_SHORT_ARCHIVES = {".tgz": "gzip", ".tbz2": "bzip2", ".txz": "xz", ".tzst": "zstd"}
_ARCHIVES = {".tar": "tar", ".zip": "zip"}

WHAT_CAN_BE_READ = f"{' '.join(READABLE)}, each also in {' '.join(COMPRESSIONS)}, .zip and .tar"

HEAD_BYTES = 512
"""bytes from the start of a file that tell what it is"""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a name says: `notes.jsonl.gz` is jsonl in gzip, `texts.tgz` a tar archive in gzip."""

    format: str = ""
    compression: str = ""
    archive: str = ""

    @property
    def is_container(self) -> bool:
        return bool(self.archive or self.compression)


def kind_of(name: str, format_: str = "") -> Kind:
    """Return what a file's name says it is; a `format_` that is known overrules the suffix of what is inside."""
    base = name.rstrip("/").rpartition("/")[2].lower()
    # Only the last two suffixes matter, so a million names are few questions.
    return _kind_of(base if base.startswith(".") else ".".join(["x", *base.rsplit(".", 2)[1:]]), format_)


@lru_cache(maxsize=1024)
def _kind_of(name: str, format_: str) -> Kind:
    path = PurePosixPath(name)
    if path.suffix in _SHORT_ARCHIVES:
        return Kind(compression=_SHORT_ARCHIVES[path.suffix], archive="tar")
    compression = COMPRESSIONS.get(path.suffix, "")
    inner = path.with_suffix("") if compression else path
    archive = _ARCHIVES.get(inner.suffix, "")
    if archive == "zip" and compression:
        return Kind(compression=compression)
    if archive:
        return Kind(compression=compression, archive=archive)
    suffix = inner.suffix
    readable = FORMATS[suffix] if suffix in READABLE else ""
    return Kind(format=format_ or readable, compression=compression)


# --- first bytes ---------------------------------------------------------------------------------------------

_MAGIC: dict[bytes, tuple[str, str]] = {
    b"\x1f\x8b": ("gzip", "gzip data"),
    b"\xfd7zXZ\x00": ("xz", "xz data"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd data"),
    b"PK\x03\x04": ("zip", "a zip archive"),
    b"PK\x05\x06": ("zip", "a zip archive"),
    b"PAR1": ("parquet", "Parquet"),
    b"ARROW1\x00\x00": ("arrow", "an Arrow file"),
    b"\xff\xff\xff\xff": ("arrow", "an Arrow stream"),
    b"7z\xbc\xaf\x27\x1c": ("7z", "a 7z archive"),
    b"Rar!\x1a\x07": ("rar", "a RAR archive"),
    b"%PDF-": ("pdf", "a PDF"),
    b"\x89PNG": ("png", "a picture"),
    b"\xff\xd8\xff": ("jpeg", "a picture"),
    b"GIF8": ("gif", "a picture"),
    b"\xd0\xcf\x11\xe0": ("office", "an old Office document"),
    b"SQLite format 3\x00": ("sqlite", "a SQLite data base"),
    b"\x7fELF": ("program", "a program"),
}
_NAMES = {"gzip": "gzip data", "bzip2": "bzip2 data", "xz": "xz data", "zstd": "zstd data", "tar": "a tar archive"}
_NAMES |= {"zip": "a zip archive", "parquet": "Parquet", "arrow": "Arrow"}
_SUFFIXES = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "zstd": ".zst", "zip": ".zip", "tar": ".tar"}
_SUFFIXES |= {"parquet": ".parquet", "arrow": ".arrow"}
_ADVICE = "Convert the file to UTF-8 text, name its encoding in a card (encoding: {}), or take it out of the source."


def recognize(head: bytes) -> tuple[str, str]:
    """Return (name, description) of what starts with these bytes; two empty texts when they say nothing."""
    for magic, found in _MAGIC.items():
        if head.startswith(magic):
            return found
    if head[257:262] == b"ustar":
        return "tar", "a tar archive"
    if len(head) > 4 and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90") and head.startswith(b"BZh"):
        return "bzip2", "bzip2 data"
    if len(head) > 3 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18":
        return "zstd", "zstd data"  # a frame that decoders skip
    return "", ""


def encoding_mark(head: bytes) -> str:
    """Return the encoding whose byte order mark these bytes start with: UTF-16, UTF-32 or none."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    return "UTF-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else ""


def check_head(head: bytes, expected: str, where: str, *, encoding: str = "utf-8") -> None:
    """Raise DataError when the first bytes of `where` are not those of the `expected` format or container."""
    found, what = recognize(head)
    if expected in _NAMES:
        if found != expected and (found or not head or expected != "tar"):  # the oldest tar archives have no mark
            _raise_other(expected, found, what, where, empty=not head)
        return
    is_utf8 = encoding.replace("_", "-").lower() in ("utf-8", "utf8", "utf-8-sig")
    if is_utf8 and (mark := encoding_mark(head)):
        raise DataError(f"{where} is not UTF-8. It looks like {mark}. {_ADVICE.format(mark.lower())}")
    if found and is_utf8 and (b"\0" in head or not head.isascii()):  # words too may start with PAR1
        rename = f"rename it to end in {_SUFFIXES[found]}" if found in _SUFFIXES else "convert it to text"
        raise DataError(f"{where} is named as text. It looks like {what}: {rename}, or take it out of the source.")


def _raise_other(expected: str, found: str, what: str, where: str, *, empty: bool) -> None:
    holds = "it is empty" if empty else f"it looks like {what}" if found else "it does not start like it"
    advice = f"rename it to end in {_SUFFIXES[found]}, or " if found in _SUFFIXES else ""
    raise DataError(f"{where} is not {_NAMES[expected]}: {holds}. Check where it came from, {advice}take it out.")
