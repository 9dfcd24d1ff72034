"""Machinery: what a file of a source holds: itself, unpacked, or the members of an archive, streamed one by one."""

import fnmatch
import functools
import io
import itertools
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError, MissingError
from pipeline.runtime.files import stamp_of
from pipeline.sources.card import LEFT_OUT, Source
from pipeline.sources.document import Document
from pipeline.sources.formats import check_head, encoding_mark, kind_of
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import (
    MAX_RATIO,
    MAX_UNPACKED_BYTES,
    RATIO_FROM_BYTES,
    READ_BYTES,
    Raw,
    Recoded,
    SourceFile,
    Stream,
    buffered,
    changed,
    head_of,
    is_utf8,
    unpacked,
)
from pipeline.sources.tar import members_of_tar

MAX_MEMBERS = 1_000_000
"""members of one archive"""

HIDDEN, LINK, DEVICE, NOT_READ = "hidden", "link", "device", "file not read"
NESTED = "packed inside an archive"
SPARSE = "sparse file"
"""reasons why a file or member is not read"""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file, or a member of an archive, that is open: text is UTF-8 by now."""

    name: str
    format: str
    stream: io.BufferedReader
    path: Path | None = None
    """where it lies, if it can be read in any order"""
    recoded: Recoded | None = None
    line: int = 0
    offset: int = 0
    """lines and bytes of the file before the range of lines that is read of it"""

    @property
    def replaced(self) -> int:
        """Characters replaced so far."""
        return self.recoded.replaced if self.recoded else 0


def opened_files(source: Source, file: SourceFile) -> Iterator[OpenedFile | Document]:
    """Open a file, or one by one the members that it holds; a member that is not read is a document with the reason.

    Raises DataError for what is cut, damaged, a decompression bomb or not what its name says, and IntegrityError when
    the file is no longer what was hashed: somebody wrote to it meanwhile.
    """
    if file.unread:
        yield Document("", file.name, file.unread)
    elif file.member:
        yield from _opened_in_zip(source.reading, file)
    else:
        kind = kind_of(file.name)
        with Raw(file) as raw:
            stream = unpacked(raw, kind.compression, file.name)
            if kind.archive == "tar":
                yield from _opened_in_tar(source, file, stream)
            else:
                path = None if kind.is_container else file.path
                opened = _opened(source.reading, file.name, file.format, stream, path)
                yield replace(opened, line=file.line, offset=file.start)
                _drain(stream)
            raw.finish()


def _opened(
    reading: ReadingOptions, name: str, format_: str, stream: io.BufferedReader, path: Path | None = None
) -> OpenedFile:
    """Check that a stream is what its name says, and bring text to UTF-8."""
    head = head_of(stream)
    check_head(head, format_, name, encoding=reading.encoding)
    if format_ in ("parquet", "arrow") or (is_utf8(reading.encoding) and reading.errors == "strict"):
        return OpenedFile(name, format_, stream, path)
    if reading.encoding.lower().replace("_", "-") in ("utf-16", "utf-32") and head and not encoding_mark(head):
        raise DataError(
            f"{name} has no byte order mark, so {reading.encoding} does not say the order of its bytes. "
            f"Name it in the card: encoding: {reading.encoding}-le or {reading.encoding}-be."
        )
    recoded = Recoded(stream, reading.encoding, reading.errors, name)
    return OpenedFile(name, format_, buffered(recoded), None, recoded)


def _drain(stream: io.BufferedReader) -> None:
    """Read what is left, so that a check at the end of packed data is made."""
    while stream.read(READ_BYTES):
        pass


def why_unread(name: str, format_: str) -> str:
    """Return why a file or member of this relative name is not read; nothing if it is."""
    if any((folder.startswith(".") and folder != ".") or folder == "__MACOSX" for folder in name.split("/")):
        return HIDDEN
    kind = kind_of(name, format_)
    return "" if kind.format or kind.archive else NOT_READ


def is_excluded(name: str, source: Source) -> bool:
    """Tell whether the card leaves out a file or member of this name."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in source.exclude)


def _why_unread_member(name: str, format_: str, where: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:|\\", name) or "\\.." in name:
        raise DataError(
            f"{where} has a member {name!r} that would lie outside of it. Nothing is ever unpacked here, but whoever "
            "made this archive meant harm or made a mistake: pack it again, or `exclude` the member in a card."
        )
    unread = why_unread(name, format_)
    return unread or (NESTED if kind_of(name).is_container else "")


# --- zip -----------------------------------------------------------------------------------------------------


def members_of_zip(file: SourceFile, source: Source) -> Iterator[SourceFile]:
    """List the members of a zip archive by name, without reading them; those that are not read say why.

    Raises DataError for an archive that is damaged, encrypted, a decompression bomb, or has unsafe names.
    """
    with Raw(file) as raw:
        check_head(head_of(buffered(raw)), "zip", file.name)
    archive = _zip(file.location, stamp := stamp_of(file.location))
    infos = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
    _check_zip(file, infos)
    for info in infos:
        yield SourceFile(
            name=f"{file.name}/{info.filename}",
            location=file.location,
            member=info.filename,
            format=kind_of(info.filename, source.reading.format).format,
            size=info.file_size,
            stamp=stamp,
            unread=_why_unread_in_zip(file, info, source),
        )


def _why_unread_in_zip(file: SourceFile, info: zipfile.ZipInfo, source: Source) -> str:
    if is_excluded(info.filename, source):
        return LEFT_OUT
    unread = _why_unread_member(info.filename, source.reading.format, file.name)
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return LINK
    if not unread and info.flag_bits & 1:
        raise DataError(f"{file.name}: {info.filename} is encrypted. Pack it again without a password.")
    return unread


def _check_zip(file: SourceFile, infos: list[zipfile.ZipInfo]) -> None:
    made = sum(info.file_size for info in infos)
    if made > MAX_UNPACKED_BYTES or (made > RATIO_FROM_BYTES and made > MAX_RATIO * file.size):
        raise DataError(
            f"{file.name} says that it unpacks to {made} bytes, more than {MAX_RATIO} times its size: "
            "that is a decompression bomb, not text. Take it out of the source, or unpack it yourself."
        )
    if len(infos) > MAX_MEMBERS:
        raise DataError(f"{file.name} has {len(infos)} members, more than {MAX_MEMBERS}. Pack it as several.")
    for one, two in itertools.pairwise(infos):
        if one.filename == two.filename:
            raise DataError(f"{file.name} has two members {one.filename!r}. Pack it again.")


@functools.lru_cache(maxsize=2)
def _zip(location: str, stamp: str) -> zipfile.ZipFile:
    """Open an archive once for all its members: the list of a million of them takes seconds to read."""
    try:
        return zipfile.ZipFile(location)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise DataError(f"{location} is not a whole zip archive: {error}. Get it again.") from error


def _opened_in_zip(reading: ReadingOptions, file: SourceFile) -> Iterator[OpenedFile]:
    stamp = file.stamp or stamp_of(file.location)
    if stamp != stamp_of(file.location):
        raise changed(file.location)
    archive = _zip(file.location, stamp)
    try:
        member = _ZipMember(archive, file.member, file.name)
    except KeyError as error:
        raise MissingError(f"{file.location} has no member {file.member!r}.") from error
    with member:
        stream = buffered(member, file.size)
        yield _opened(reading, file.name, file.format, stream)
        _drain(stream)
    if stamp != stamp_of(file.location):
        raise changed(file.location)


_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class _ZipMember(Stream):
    """A member of a zip archive; its checksum is checked at its end."""

    def __init__(self, archive: zipfile.ZipFile, member: str, name: str) -> None:
        self._name = name
        try:
            self._file = archive.open(member)
        except _ZIP_ERRORS as error:
            raise DataError(f"{name} cannot be read: {error}. Pack the archive again.") from error

    def more(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except _ZIP_ERRORS as error:
            raise DataError(f"{self._name} is damaged: {error}. Get the archive again.") from error

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


# --- tar -----------------------------------------------------------------------------------------------------


def _opened_in_tar(source: Source, file: SourceFile, stream: io.BufferedReader) -> Iterator[OpenedFile | Document]:
    check_head(head_of(stream), "tar", file.name)
    for number, (info, body) in enumerate(members_of_tar(stream, file.name), 1):
        if number > MAX_MEMBERS:
            raise DataError(f"{file.name} has more than {MAX_MEMBERS} members. Pack it as several.")
        if info.isdir():
            continue
        shown = f"{file.name}/{info.name}"
        unread = _why_unread_in_tar(file, info, source)
        if unread:
            yield Document("", shown, unread)
            continue
        member = buffered(body, body.size)
        yield _opened(source.reading, shown, kind_of(info.name, source.reading.format).format, member)


def _why_unread_in_tar(file: SourceFile, info: tarfile.TarInfo, source: Source) -> str:
    if is_excluded(info.name, source):
        return LEFT_OUT
    unread = _why_unread_member(info.name, source.reading.format, file.name)
    if info.issym() or info.islnk():
        return LINK
    if not info.isreg():
        return DEVICE
    return SPARSE if info.type == tarfile.GNUTYPE_SPARSE or info.pax_headers else unread
