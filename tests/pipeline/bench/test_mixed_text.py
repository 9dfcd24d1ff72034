"""The text of the figures keeps its shares, holds nothing twice and is the same for the same packages."""

import json
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.bench import mixed_text, origins
from pipeline.errors import MissingError
from pipeline.tables.splits import split_of


def test_the_mix_keeps_its_shares_holds_nothing_twice_and_begins_alike_at_any_size() -> None:
    documents = {group: documents_of(group, 400) for group in mixed_text.SHARES}
    small, large = (list(mixed_text._mix(documents, size)) for size in (20_000, 60_000))
    size = {group: sum(len(text) for g, text in large if g == group) for group in mixed_text.SHARES}
    assert {group: size[group] / 60_000 for group in size} == pytest.approx(mixed_text.SHARES, abs=0.01)
    assert len({text for _, text in large}) == len(large)
    for group in mixed_text.SHARES:
        mine = [text for g, text in small if g == group]
        assert mine[:-1] == [text for g, text in large if g == group][: len(mine) - 1]


def documents_of(group: str, count: int) -> dict[bytes, str]:
    texts = [f"{group} {i} " + "x" * 190 for i in range(count)]
    return {mixed_text.place_of(text): text for text in texts}


def test_a_small_mix_is_held_out_like_any_other_text() -> None:
    documents = {group: documents_of(group, 2000) for group in mixed_text.SHARES}
    chosen = [text for _, text in mixed_text._mix(documents, 60_000)]
    held_out = [t for t in chosen if split_of(sha256(t.encode()).digest(), {"validation": 0.05}) == "validation"]
    assert 0.01 < len(held_out) / len(chosen) < 0.12


def test_what_is_scarce_is_made_good_by_the_others() -> None:
    documents = {"prose": documents_of("prose", 400), "python": documents_of("python", 400), "c": {}}
    mixed = list(mixed_text._mix(documents, 40_000))
    assert {group for group, _ in mixed} == {"prose", "python"}
    assert sum(len(text) for _, text in mixed) > 39_000


def test_ones_own_text_is_cut_and_written_as_our_reader_gives_it(tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text("".join(json.dumps({"text": f"\nLine {i}\r\nend\n\n"}) + "\n" for i in range(100)))
    path = mixed_text.own_text(source, tmp_path / "kept", 0.0005)
    texts = list(mixed_text.texts_of(path))
    assert texts[:2] == ["Line 0\nend", "Line 1\nend"]
    assert 400 < sum(map(len, texts)) <= 500
    with pytest.raises(MissingError, match="no_such.jsonl"):
        mixed_text.own_text(tmp_path / "no_such.jsonl", tmp_path, 1)


def test_a_text_of_packages_is_built_once_from_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "packages" / "a-1.0" / "a-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("a/b.py", "x = 1  # this is Python\n" * 20)
        out.writestr("a/b.bin", b"\xff" * 900)
        out.writestr("a/c.md", "Some prose for people.\n" * 20)
        out.writestr("a/d.md", "Prose with a control token <|endoftext|>.\n" * 20)
    package = origins.Wheel(name="a", version="1.0", sha256="0" * 64)
    mine = tuple(
        origins.Origin(package=package, group=group, members=(members,), read=origins.whole)
        for group, members in (("python", "*.py"), ("prose", "*.md"))
    )
    monkeypatch.setattr(mixed_text, "ORIGINS", mine)
    path = mixed_text.mixed_text(tmp_path, 0.01)
    assert {text.split()[0] for text in mixed_text.texts_of(path)} == {"x", "Some"}
    assert "a-1.0-py3-none-any.whl" in json.loads(path.with_suffix(".json").read_text())["packages"]
    made = path.stat().st_mtime_ns
    time.sleep(0.01)
    assert mixed_text.mixed_text(tmp_path, 0.01) == path and path.stat().st_mtime_ns == made


def test_what_is_too_short_too_long_or_holds_a_control_token_is_no_document() -> None:
    fit = "x" * mixed_text._LEAST

    assert mixed_text._is_fit(fit) and mixed_text._is_fit("x" * mixed_text._MOST)
    for text in (fit[1:], "x" * (mixed_text._MOST + 1), fit + "<|end|>", fit + "\x00"):
        assert not mixed_text._is_fit(text)


def test_the_shipped_text_is_cut_at_paragraphs_and_made_once(tmp_path: Path) -> None:
    source = tmp_path / "stories.txt"
    source.write_text("One two.\n\nThree four.\n\nOne two.\n\n\n\nFive six seven.")

    path = mixed_text.shipped_text(source, tmp_path, 25e-6)
    source.unlink()

    assert list(mixed_text.texts_of(path)) == ["One two.", "Three four."], "nothing twice, and no more than 25 bytes"
    assert mixed_text.shipped_text(source, tmp_path, 25e-6) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["stories-2.5e-05.jsonl"]
