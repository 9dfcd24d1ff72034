"""What a file is: its name says it, and its first bytes must agree."""

import bz2
import gzip
import lzma
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.sources.formats import FORMATS, HEAD_BYTES, Kind, check_head, encoding_mark, kind_of, recognize

TAR = tarfile.TarInfo("a.txt").tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", Kind("txt")),
        ("deep/NOTES.MD", Kind("txt")),
        ("a.v2.jsonl.gz", Kind("jsonl", "gzip")),
        ("a.tgz", Kind("", "gzip", "tar")),
        ("a.tar.zst", Kind("", "zstd", "tar")),
        ("a.tar", Kind("", "", "tar")),
        ("a.zip", Kind("", "", "zip")),
        ("a.zip.xz", Kind("", "xz")),
        ("folder.csv/", Kind("csv")),
        ("a.yml", Kind()),
        ("a.png", Kind()),
        ("noname", Kind()),
        (".txt", Kind()),
        ("txt", Kind()),
    ],
)
def test_the_suffixes_of_a_name_say_what_it_is(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


def test_a_format_that_is_known_overrules_the_suffix_but_not_the_container() -> None:
    assert kind_of("a.yml", "yaml_conversations") == Kind("yaml_conversations")
    assert kind_of("page.gz", "txt") == Kind("txt", "gzip")
    assert kind_of("a.tar", "txt").archive == "tar"


@given(st.text(max_size=20), st.sampled_from(sorted(FORMATS)))
def test_what_stands_before_the_last_two_suffixes_changes_nothing(start: str, suffix: str) -> None:
    assert kind_of(f"{start}.b{suffix}.gz") == kind_of(f"x.b{suffix}.gz")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (gzip.compress(b"x", mtime=0), "gzip"),
        (bz2.compress(b"x"), "bzip2"),
        (bz2.compress(b""), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x50\x2a\x4d\x18", "zstd"),
        (TAR, "tar"),
        (b"PAR1", "parquet"),
        (b"%PDF-1.7", "pdf"),
        (b"BZh is a word too", ""),
        (b"Once upon a time", ""),
        (b"", ""),
    ],
)
def test_first_bytes_are_recognized(head: bytes, name: str) -> None:
    assert recognize(head[:HEAD_BYTES])[0] == name


def test_a_byte_order_mark_of_two_or_four_bytes_is_told_apart() -> None:
    marks = {"UTF-16": ("utf-16-le", "utf-16-be"), "UTF-32": ("utf-32-le", "utf-32-be")}

    for mark, encodings in marks.items():
        assert {encoding_mark("\ufeffab".encode(encoding)) for encoding in encodings} == {mark}
    assert encoding_mark("\ufeffab".encode()) == ""


@pytest.mark.parametrize(
    ("head", "expected", "sentence"),
    [
        (b"text", "gzip", "is not gzip data: it does not start like it"),
        (b"", "parquet", "is not Parquet: it is empty"),
        (
            gzip.compress(b"x", mtime=0),
            "zip",
            "is not a zip archive: it looks like gzip data. .*rename it to end in .gz",
        ),
        (gzip.compress(b"x", mtime=0), "txt", "is named as text. It looks like gzip data: rename it to end in .gz"),
        ("ab".encode("utf-16"), "csv", r"is not UTF-8. It looks like UTF-16. .*\(encoding: utf-16\)"),
        (b"\x7fELF\0", "jsonl", "is named as text. It looks like a program: convert it to text"),
    ],
)
def test_first_bytes_that_are_not_what_was_promised_are_bad_data(head: bytes, expected: str, sentence: str) -> None:
    with pytest.raises(DataError, match=f"here {sentence}"):
        check_head(head, expected, "here")


def test_words_that_look_like_a_mark_are_text_and_old_tar_archives_have_none() -> None:
    check_head(b"PAR1 is how Parquet starts.", "txt", "here")
    check_head(b"GIF8 too", "jsonl", "here")
    check_head(b"a.txt" + bytes(95) + b"0000644", "tar", "here")
    check_head("ab".encode("utf-16"), "txt", "here", encoding="utf-16")
