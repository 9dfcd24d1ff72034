"""What is in a package is read as documents, and nothing of it is installed."""

import gzip
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import origins
from pipeline.bench.mixed_text import SHARES
from pipeline.bench.origins import ORIGINS, PYPI, Debian, Wheel, fetch, members_of
from pipeline.errors import UnavailableError

# --- what is in a file ---------------------------------------------------------------------------------------


def test_blocks_are_cut_at_blank_lines_and_lose_nothing() -> None:
    text = "\n\n".join(f"Paragraph {i} " + "word " * 40 for i in range(300))
    blocks = list(origins.blocks(text.encode()))
    assert len(blocks) > 5 and all(len(block) <= 17000 for block in blocks)
    assert "\n\n".join(blocks) == text


def test_markup_is_taken_out_of_a_page() -> None:
    page = b"<html><head><style>p {}</style></head><body><p>One &amp; two</p><!-- no --><p>three</p></body></html>"
    assert "".join(origins.page(page)) == "One & twothree"


def test_a_text_without_blank_lines_is_cut_at_lines_and_one_without_lines_not_at_all() -> None:
    lines = "\n".join(f"line {i} " + "word " * 10 for i in range(1000))

    found = list(origins.blocks(lines.replace("\n", "\r\n").encode()))

    assert len(found) > 3 and "\n".join(found) == lines
    assert list(origins.blocks(b"x" * 50_000)) == ["x" * 50_000]


def test_a_file_that_is_no_utf8_is_no_document() -> None:
    assert list(origins.whole("é".encode())) == ["é"]
    assert list(origins.whole(b"\xff\xfe")) == []


def test_every_reader_finds_the_text_in_its_format() -> None:
    entry = {"title": "Soup", "ingredients": ["water", "salt"], "steps": ["Boil.", "Eat."]}
    talk = {"messages": [[{"text": "Hi."}, {"text": "You?"}], [{"text": "Fine."}]]}
    wordnet = b"  1 licence\n001 n | a small fox\n002 n | a hen; a bird\n"

    assert list(origins.compressed(gzip.compress(b"one"))) == ["one"]
    assert list(origins.glosses(wordnet)) == ["A small fox.\nA hen; a bird."]
    assert list(origins.leads(json.dumps({"Fox": {"extract": "An animal."}}).encode())) == ["Fox\n\nAn animal."]
    assert list(origins.recipes(json.dumps({"1": entry}).encode())) == ["Soup\n\n* water\n* salt\n\nBoil.\nEat."]
    empty = {**entry, "ingredients": None, "steps": None}
    assert list(origins.recipes(json.dumps({"1": empty}).encode())) == ["Soup\n\n\n\n"]
    assert list(origins.dialogues(json.dumps({"1": talk}).encode())) == ["Hi.\nYou?\n\nFine."]


# --- packages ------------------------------------------------------------------------------------------------


def test_every_wheel_is_pinned_by_its_hash_and_every_kind_of_text_has_an_origin() -> None:
    assert all(len(wheel.sha256) == 64 and int(wheel.sha256, 16) for wheel in PYPI.values())
    assert {origin.group for origin in ORIGINS} == set(SHARES)
    assert {origin.package.name for origin in ORIGINS if isinstance(origin.package, Wheel)} == set(PYPI)
    assert PYPI["pandas"].label.startswith("pandas==") and Debian(name="perl-doc").label == "perl-doc"


def test_the_files_of_a_wheel_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("b.py", "two")
        wheel.writestr("a.py", "one")

    assert [(name, read()) for name, read in members_of(path)] == [("a.py", b"one"), ("b.py", b"two")]


def tar_of(files: dict[str, bytes], mode: Any = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_source_archive_in_a_package_is_looked_into() -> None:
    sources = tar_of({"linux-source-6.1/fs/a.c": b"int a;"}, "w:xz")
    package = tar_of({"./usr/src/linux-source-6.1.tar.xz": sources, "./usr/share/doc/README": b"read me"})

    found = {name: read() for name, read in origins._members_of_tar(io.BytesIO(package))}

    assert found == {"linux-source-6.1/fs/a.c": b"int a;", "./usr/share/doc/README": b"read me"}


def test_a_wheel_that_is_there_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins.subprocess, "run", lambda *a, **o: pytest.fail("pip was asked"))
    wheel = Wheel(name="a", version="1.0", sha256="0" * 64)
    (tmp_path / "a-1.0").mkdir()
    (tmp_path / "a-1.0" / "a-1.0-py3-none-any.whl").touch()

    assert fetch(wheel, tmp_path) == tmp_path / "a-1.0" / "a-1.0-py3-none-any.whl"


def answer(code: int, said: str = "") -> Any:
    return lambda command, **options: subprocess.CompletedProcess(command, code, "", said)


def test_a_wheel_is_asked_for_by_its_hash_and_one_that_cannot_be_had_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins.subprocess, "run", answer(1, "warning\nno such version"))

    with pytest.raises(UnavailableError, match=r"a==1\.0: no such version\n.*--text FILE\.jsonl"):
        fetch(Wheel(name="a", version="1.0", sha256="5" * 64), tmp_path)
    assert (tmp_path / "a.pin").read_text() == f"a==1.0 --hash=sha256:{'5' * 64}\n"


def test_a_package_of_debian_is_done_without_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = Debian(name="perl-doc")
    monkeypatch.setattr(origins.shutil, "which", lambda name: None)
    assert fetch(package, tmp_path) is None
    monkeypatch.setattr(origins.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(origins.subprocess, "run", answer(100))
    assert fetch(package, tmp_path) is None and "going on without it" in capsys.readouterr().err
    (tmp_path / "perl-doc_5.36_all.deb").touch()
    assert fetch(package, tmp_path) == tmp_path / "perl-doc_5.36_all.deb"
