"""Machinery: the bytes of a source's file as streams: hashed while they are read, unpacked, brought to UTF-8."""

import bz2
import codecs
import hashlib
import io
import lzma
import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import DataError, IntegrityError
from pipeline.runtime.files import stamp_of
from pipeline.sources.formats import HEAD_BYTES, check_head

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_BYTES = 2**20
_PACKED_BYTES = 2**16

MAX_RATIO = 200
"""bytes that a packed byte may stand for: text packed by any means stays far below, a decompression bomb does not"""
RATIO_FROM_BYTES = 2**26
"""unpacked bytes from which on the ratio is looked at: a small file of one letter is none"""
MAX_UNPACKED_BYTES = 2**42
_XZ_MEMORY_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file to read: on disk, or a member of a zip archive on disk."""

    name: str
    """as it is shown: relative to the source"""
    location: str
    """of the file on disk"""
    member: str = ""
    format: str = ""
    """nothing for a tar archive, whose members have formats of their own"""
    size: int
    sha256: str = ""
    """of the file on disk, when it is known; a member has `stamp` instead"""
    stamp: str = ""
    """size, times and inode of the archive when its hash was known"""
    unread: str = ""
    """why it is not read: it is listed to be accounted for"""
    start: int = 0
    stop: int = 0
    """the bytes of a chunk of a file; no stop: all of it"""
    line: int = 0
    """lines before the chunk"""

    @property
    def path(self) -> Path:
        return Path(self.location)


def changed(path: str | Path) -> IntegrityError:
    """Say that somebody wrote to a file meanwhile."""
    return IntegrityError(f"{path} was changed while it was being read. Run the same command again.")


class Stream(io.RawIOBase):
    """Bytes that are made when they are asked for; a subclass says how in `more`."""

    def more(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer)
        data = self.more(len(target))
        target[: len(data)] = data
        return len(data)


def buffered(stream: Stream, size: int = READ_BYTES) -> io.BufferedReader:
    """Return a stream that can be read by lines and looked into; a small `size` of all of it takes less memory."""
    made: io.BufferedReader = io.BufferedReader(stream, max(HEAD_BYTES, min(size + 1, READ_BYTES)))
    return made


def head_of(stream: io.BufferedReader) -> bytes:
    """Return the first bytes of a stream of which nothing has been read."""
    return stream.peek(HEAD_BYTES)[:HEAD_BYTES]


class Raw(Stream):
    """The bytes of a file on disk, hashed as they are read if its hash is known."""

    def __init__(self, file: SourceFile) -> None:
        self.location = file.location
        self.position = 0
        self._left = file.stop - file.start if file.stop else None
        self._stamp = file.stamp or stamp_of(file.location)
        self._expected = file.sha256
        self._hash = hashlib.sha256()
        self._file = open(file.location, "rb", buffering=0)
        self._file.seek(file.start)

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer)[: self._left]
        count = self._file.readinto(target) or 0
        self._left = None if self._left is None else self._left - count
        self.position += count
        if self._expected:
            self._hash.update(target[:count])
        return count

    def finish(self) -> None:
        """Read what is left; IntegrityError when the bytes are no longer those that were hashed."""
        buffer = bytearray(READ_BYTES)
        while self.readinto(buffer):
            pass
        if self._expected and self._hash.hexdigest() != self._expected:
            raise changed(self.location)
        if not self._expected and stamp_of(self.location) != self._stamp:
            raise changed(self.location)

    def close(self) -> None:
        self._file.close()
        super().close()


# --- unpacking -----------------------------------------------------------------------------------------------


class _Gzip:
    """zlib's decompressor with the methods that bz2's and lzma's have."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self._rest = b""

    def decompress(self, data: bytes, size: int) -> bytes:
        found = self._zlib.decompress(self._rest + data, size)
        self._rest = self._zlib.unconsumed_tail
        return found

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data


class _Decoder(Protocol):
    """What bz2's and lzma's decompressors can do."""

    def decompress(self, data: bytes, size: int, /) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES),
}


class Unpacked(Stream):
    """What gzip, bzip2 or xz data stand for, over all members; cut or damaged data and bombs are DataErrors."""

    def __init__(self, packed: io.BufferedReader, compression: str, name: str) -> None:
        self._packed, self._name, self._what = packed, name, compression
        self._new = _DECODERS[compression]
        self._decoder = self._new()
        self._read = self._made = 0

    def more(self, size: int) -> bytes:
        while True:
            given = self._given()
            if self._decoder.eof and not given:
                return b""
            if self._decoder.eof:
                self._decoder = self._new()
            found = self._decode(given, size)
            if found:
                self._made += len(found)
                check_expansion(self._made, self._read, self._name)
                return found
            if not given and self._decoder.needs_input and not self._decoder.eof:
                raise DataError(f"{self._name} ends in the middle of its {self._what} data: it was cut. Get it again.")

    def _given(self) -> bytes:
        """Return the next packed bytes, if the decoder wants any; padding between members is skipped."""
        if not self._decoder.eof:
            return self._take() if self._decoder.needs_input else b""
        data = self._decoder.unused_data.lstrip(b"\0")
        while not data and (more := self._take()):
            data = more.lstrip(b"\0")
        return data

    def _take(self) -> bytes:
        data = self._packed.read(_PACKED_BYTES)
        self._read += len(data)
        return data

    def _decode(self, given: bytes, size: int) -> bytes:
        try:
            found = self._decoder.decompress(given, size)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise DataError(
                f"{self._name} holds damaged {self._what} data, or something else after them: {error}. Get it again."
            ) from error
        return found


class UnpackedZstd(Stream):
    """What zstd data stand for, over all frames."""

    def __init__(self, packed: io.BufferedReader, raw: Raw, name: str) -> None:
        import pyarrow as pa

        self._raw, self._name, self._made = raw, name, 0
        self._stream = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")

    def more(self, size: int) -> bytes:
        try:
            found: bytes = self._stream.read(size)
        except OSError as error:
            if error.errno is not None:
                raise
            cut = "Truncated" in str(error)
            what = "ends in the middle of its zstd data: it was cut" if cut else f"holds damaged zstd data: {error}"
            raise DataError(f"{self._name} {what}. Get it again.") from error
        self._made += len(found)
        check_expansion(self._made, self._raw.position, self._name)
        return found


def check_expansion(made: int, packed: int, name: str) -> None:
    """Raise DataError when so few bytes stand for so many that only a decompression bomb does that."""
    if made > MAX_UNPACKED_BYTES or (made > RATIO_FROM_BYTES and made > MAX_RATIO * packed):
        raise DataError(
            f"{name} unpacks to more than {MAX_RATIO} times its size (or {MAX_UNPACKED_BYTES} bytes): "
            "that is a decompression bomb, not text. Take it out of the source, or unpack it yourself."
        )


def unpacked(raw: Raw, compression: str, name: str) -> io.BufferedReader:
    """Return the bytes of a file, unpacked if they are compressed."""
    packed = buffered(raw, os.path.getsize(raw.location))
    if not compression:
        return packed
    check_head(head_of(packed), compression, name)
    stream = UnpackedZstd(packed, raw, name) if compression == "zstd" else Unpacked(packed, compression, name)
    return buffered(stream)


# --- encodings -----------------------------------------------------------------------------------------------

_made = threading.local()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _made.count = getattr(_made, "count", 0) + 1
    return "\ufffd", error.end


codecs.register_error("cairn-replace", _replace)


class Recoded(Stream):
    """Text in a named encoding as UTF-8 without its byte order mark; `replaced` counts what was not in it."""

    def __init__(self, stream: io.BufferedReader, encoding: str, errors: str, name: str) -> None:
        self._stream, self._encoding, self._name = stream, encoding, name
        self._decoder = codecs.getincrementaldecoder(encoding)("cairn-replace" if errors == "replace" else "strict")
        self._position = self.replaced = 0
        self._ready = memoryview(b"")
        self._at_start, self._ended = True, False

    def more(self, size: int) -> bytes:
        while not self._ready and not self._ended:
            self._ready = memoryview(self._decode(self._stream.read(READ_BYTES)))
        found, self._ready = self._ready[:size], self._ready[size:]
        return bytes(found)

    def _decode(self, data: bytes) -> bytes:
        self._ended = not data
        held = len(self._decoder.getstate()[0])
        _made.count = 0
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            at = self._position - held + error.start
            raise DataError(
                f"{self._name}: byte {at} (0x{error.object[error.start]:02x}) is not {self._encoding}. "
                "Name another encoding in the card, ask for `errors: replace`, or take the file out of the source."
            ) from error
        self.replaced += _made.count
        self._position += len(data)
        if self._at_start and text:
            text, self._at_start = text.removeprefix("\ufeff"), False
        return text.encode("utf-8")


def is_utf8(encoding: str) -> bool:
    """Tell whether an encoding is UTF-8, which is read without recoding."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
