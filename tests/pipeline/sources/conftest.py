"""Fixtures of this room: a wheel that is there without a network."""

import zipfile
from pathlib import Path

import pytest

from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources.card import Source

MEMBERS = {
    "cairn_words/data/one.txt": "One.\n",
    "cairn_words/data/two.txt": "Two.\n",
    "cairn_words/data/skip/three.txt": "Three.\n",
    "cairn_words/rows.jsonl": '{"text": "row"}\n',
    "cairn_words/__init__.py": "raise SystemExit('nothing of a source is ever imported')\n",
}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that `pip` looks into instead of the network."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "cairn_words-1.0-py3-none-any.whl"
    about = "cairn_words-1.0.dist-info"
    pages = {
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: cairn-words\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (MEMBERS | pages).items():
            archive.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return path


@pytest.fixture
def source(wheel: Path) -> Source:
    location = "pypi:cairn-words==1.0#cairn_words/rows.jsonl"
    return Source(name="words", location=location, sha256=sha256_of_file(wheel))
