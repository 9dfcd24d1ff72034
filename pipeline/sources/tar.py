"""Machinery: the members of a tar archive, read from a stream; what is cut or damaged is an error."""

import io
import re
import tarfile
from collections.abc import Iterator

from pipeline.errors import DataError
from pipeline.sources.streams import READ_BYTES, Stream

_MAX_HEADER_BYTES = 2**20
_BLOCK = 512
_PAX, _PAX_OF_ALL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"


def members_of_tar(stream: io.BufferedReader, where: str) -> Iterator[tuple[tarfile.TarInfo, "_Body"]]:
    """Yield each member's header and bytes.

    `tarfile` takes a damaged header, or the end of a cut archive, for the end; here both are errors.
    """
    changes: dict[str, str] = {}
    while (block := _exactly(stream, _BLOCK, where)).count(0) < _BLOCK:
        info = _header(block, where)
        if info.type in (_PAX, _PAX_OF_ALL, _LONG_NAME, _LONG_LINK):
            text = _extension(stream, info, where)
            if info.type == _LONG_NAME:
                changes["path"] = _shown(text.rstrip(b"\0"))
            elif info.type == _PAX:
                changes |= _pax_records(text, where)
            continue
        _apply(info, changes, where)
        changes = {}
        body = _Body(stream, info.size if info.isreg() else 0, where)
        yield info, body
        body.skip()
        _exactly(stream, -body.size % _BLOCK, where)
    while rest := stream.read(READ_BYTES):
        if rest.count(0) < len(rest):
            raise DataError(f"{where} goes on after its end; archives put together are read one by one.")


def _exactly(stream: io.BufferedReader, size: int, where: str) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise DataError(f"{where} ends in the middle of the archive: it was cut. Get it again.")
    return data


def _header(block: bytes, where: str) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise DataError(f"{where} is not a whole tar archive: {error}. Get it again.") from error
    info.pax_headers = {}
    return info


def _extension(stream: io.BufferedReader, info: tarfile.TarInfo, where: str) -> bytes:
    if not 0 <= info.size <= _MAX_HEADER_BYTES:
        raise DataError(f"{where} has a header of {info.size} bytes, which is no header. Take it out of the source.")
    return _exactly(stream, info.size + -info.size % _BLOCK, where)[: info.size]


def _pax_records(text: bytes, where: str) -> dict[str, str]:
    """Read `LENGTH KEY=VALUE\\n` records; kept are the path, the size, and whether the file is sparse."""
    records: dict[str, str] = {}
    while text:
        found = re.match(rb"(\d{1,7}) ([^=]+)=", text)
        length = int(found[1]) if found else 0
        if not found or not found.end() < length <= len(text):
            raise DataError(f"{where} has a damaged extended header. Get it again.")
        key = found[2].decode("utf-8", "replace")
        if key in ("path", "size") or key.startswith("GNU.sparse."):
            records[key] = _shown(text[found.end() : length - 1])
        text = text[length:]
    return records


def _apply(info: tarfile.TarInfo, changes: dict[str, str], where: str) -> None:
    info.name = changes.get("path", _shown(info.name.encode("utf-8", "surrogateescape"))).removeprefix("./")
    if any(key.startswith("GNU.sparse.") for key in changes):
        info.pax_headers = dict(changes)
    size = changes.get("size", str(info.size))
    if not size.isdecimal():
        raise DataError(f"{where}: {info.name} has the size {size}. Get it again.")
    info.size = int(size)


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


class _Body(Stream):
    """The bytes of one member, read from the archive's stream."""

    def __init__(self, stream: io.BufferedReader, size: int, where: str) -> None:
        self._stream, self.size, self._where = stream, size, where
        self._left = size

    def more(self, size: int) -> bytes:
        data = _exactly(self._stream, min(size, self._left), self._where)
        self._left -= len(data)
        return data

    def skip(self) -> None:
        """Pass over what was not read."""
        while self._left:
            self.more(READ_BYTES)
