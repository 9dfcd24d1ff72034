"""Raw text becomes documents: nothing is lost without being counted, and no document is in two splits."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.cleaning import ingest
from pipeline.corpus import CorpusOptions, resolve
from pipeline.errors import ConfigError, IntegrityError
from pipeline.readers.documents import documents_of
from pipeline.sources.card import Source
from pipeline.sources.listing import local_files, open_source, source_of_path
from pipeline.tables.arrow import read_batch

Row = dict[str, Any]


def documents(artifact: Artifact, split: str = "") -> list[Row]:
    """Return the rows of a split, or of all of them."""
    splits = [split] if split else ["train", "validation", "test"]
    return [row for name in splits for path in artifact.files(f"{name}-") for row in read_batch(path).to_pylist()]


def rejects(artifact: Artifact) -> list[Row]:
    return [row for path in artifact.files("rejects-") for row in read_batch(path).to_pylist()]


def texts(artifact: Artifact) -> set[str]:
    return {row["text"] for row in documents(artifact)}


def write_jsonl(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in rows), encoding="utf-8")
    return path


# --- what becomes of the text --------------------------------------------------------------------------------


def test_text_is_brought_to_nfc(bench: Any, tmp_path: Path) -> None:
    decomposed = [unicodedata.normalize("NFD", text) for text in ("Élan vital", "Ångström")]

    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", decomposed))

    assert texts(artifact) == {"Élan vital", "Ångström"}


def test_every_line_end_becomes_a_newline_and_nothing_else_does(bench: Any, tmp_path: Path) -> None:
    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", ["one\r\ntwo\rthree\nfour", "five\u2028six\x0bseven"]))

    assert texts(artifact) == {"one\ntwo\nthree\nfour", "five\u2028six\x0bseven"}


def test_a_byte_order_mark_is_dropped_at_the_start_of_a_file_alone(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfmarked")
    (folder / "b.txt").write_text("in\ufeffside", encoding="utf-8")

    artifact = bench.corpus(folder, "--documents", "file")

    assert texts(artifact) == {"marked", "in\ufeffside"}


def test_control_characters_and_hard_unicode_are_kept_as_they_are(bench: Any, tmp_path: Path) -> None:
    hard = ["nul\x00 and bell\x07", "emoji 👩‍👩‍👧 and 𝔘𝔫𝔦", "עברית عربي", "<|endoftext|>"]

    assert texts(bench.corpus(write_jsonl(tmp_path / "a.jsonl", hard))) == set(hard)


def test_the_id_of_a_document_is_the_start_of_the_hash_of_its_text(bench: Any, tmp_path: Path) -> None:
    import hashlib

    rows = documents(bench.corpus(write_jsonl(tmp_path / "a.jsonl", ["one", "two", "three"])))

    assert [row["id"] for row in rows] == [hashlib.sha256(row["text"].encode()).hexdigest()[:32] for row in rows]
    assert {row["source"] for row in rows} == {"a"}


# --- accounting ----------------------------------------------------------------------------------------------


def test_rows_in_are_rows_out_and_rejects_by_reason(bench: Any, tmp_path: Path) -> None:
    rows = ["one", "two", "one", "", "  \n ", "three", "one", "four"]

    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", rows))

    assert artifact.manifest.counts == {"read": 8, "documents": 4, "rejected": {"exact duplicate": 2, "empty": 2}}
    assert sum(artifact.facts["documents"].values()) == len(documents(artifact)) == 4
    assert [(row["place"], row["step"], row["reason"], row["same_as"]) for row in rejects(artifact)] == [
        ("a.jsonl:4", "read", "empty", ""),
        ("a.jsonl:5", "read", "empty", ""),
        ("a.jsonl:3", "exact_documents", "exact duplicate", "a a.jsonl:1"),
        ("a.jsonl:7", "exact_documents", "exact duplicate", "a a.jsonl:1"),
    ]


def test_the_accounting_table_leads_from_everything_found_to_everything_kept(bench: Any, tmp_path: Path) -> None:
    rows = ["one", "two\r\n2", "one", "", "cafe\u0301", "caf\u00e9", "four"]

    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", rows))

    table = json.loads(artifact.file("steps.json").read_text())
    assert [row["step"] for row in table] == ["read", "line_ends", "unicode", "exact_documents"]
    assert [(row["documents_in"], row["documents_out"], row["changed"]) for row in table] == [
        (7, 6, 0),
        (6, 6, 1),
        (6, 6, 1),
        (6, 4, 0),
    ]
    for before, after in itertools.pairwise(table):
        assert (after["documents_in"], after["bytes_in"]) == (before["documents_out"], before["bytes_out"])
    for row in table:
        assert row["documents_in"] == row["documents_out"] + sum(row["rejected"].values())
    assert table[0]["documents_in"] == artifact.manifest.counts["read"] == 7
    assert table[-1]["bytes_out"] == sum(len(text.encode()) for text in texts(artifact))
    assert table[2]["settings"] == {"form": "NFC"}


def test_texts_that_differ_only_before_they_are_normalised_are_duplicates(bench: Any, tmp_path: Path) -> None:
    rows = ["café\r\nau lait", unicodedata.normalize("NFD", "café\nau lait"), "tea", "milk"]

    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", rows))

    assert artifact.manifest.counts["rejected"] == {"exact duplicate": 1}


def test_the_first_of_equal_documents_in_the_order_of_the_files_is_kept(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("b.txt", "a.txt", "c.txt"):
        (folder / name).write_text("the same" if name != "c.txt" else "another")

    artifact = bench.corpus(folder, "--documents", "file")

    assert [row["place"] for row in rejects(artifact)] == ["b.txt"]


def test_bytes_and_characters_are_those_of_the_documents(bench: Any, tmp_path: Path) -> None:
    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", ["é", "ab", "日本語", "🦊"]))

    for split in ("train", "validation"):
        mine = [row["text"] for row in documents(artifact, split)]
        assert artifact.facts["characters"][split] == sum(map(len, mine))
        assert artifact.facts["bytes"][split] == sum(len(text.encode()) for text in mine)


def test_files_that_no_reader_reads_are_accounted_for(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    write_jsonl(folder / "a.jsonl", ["one", "two", "three"])
    (folder / "deep" / "picture.png").write_bytes(b"\x89PNG")
    (folder / "notes.docx").write_bytes(b"PK")

    artifact = bench.corpus(folder)

    assert artifact.manifest.counts == {"read": 5, "documents": 3, "rejected": {"file not read": 2}}
    assert {row["place"] for row in rejects(artifact)} == {"deep/picture.png", "notes.docx"}


def test_an_empty_file_among_others_is_counted_and_no_error(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "empty.txt").touch()
    write_jsonl(folder / "a.jsonl", ["one", "two", "three"])

    artifact = bench.corpus(folder)

    assert texts(artifact) == {"one", "two", "three"}
    assert artifact.manifest.counts["rejected"] == {"empty": 1}


def test_the_files_of_a_source_and_its_licence_are_listed(bench: Any, tmp_path: Path) -> None:
    artifact = bench.corpus(write_jsonl(tmp_path / "mine.jsonl", ["one", "two"]))

    [line] = artifact.file("sources.jsonl").read_text().splitlines()
    assert (json.loads(line)["name"], json.loads(line)["files"]) == ("mine", ["mine.jsonl"])
    assert [entry.source for entry in artifact.manifest.licenses] == ["mine"]


# --- splits --------------------------------------------------------------------------------------------------


def test_no_document_is_in_two_splits(bench: Any, tmp_path: Path) -> None:
    rows = [f"document {i % 150}" for i in range(400)]

    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", rows), "--validation-fraction", "0.3")

    train, validation = ({row["text"] for row in documents(artifact, name)} for name in ("train", "validation"))
    assert (len(train) + len(validation), train & validation) == (150, set())
    assert 25 <= len(validation) <= 65


def test_the_same_text_is_in_the_same_split_whatever_stands_beside_it(bench: Any, tmp_path: Path) -> None:
    shared = [f"document {i}" for i in range(100)]
    one = bench.corpus(write_jsonl(tmp_path / "one.jsonl", shared), "--validation-fraction", "0.2")
    two = bench.corpus(
        write_jsonl(tmp_path / "two.jsonl", [f"more {i}" for i in range(100)] + shared[::-1]),
        "--validation-fraction",
        "0.2",
    )

    held_out = {row["text"] for row in documents(one, "validation")}
    assert held_out == {row["text"] for row in documents(two, "validation")} & set(shared)
    assert held_out


# --- a new user's first try ----------------------------------------------------------------------------------


def test_one_small_text_file_is_cut_into_blocks_and_no_split_is_empty(bench: Any, text_file: Path) -> None:
    artifact = bench.corpus(text_file)

    assert artifact.facts["block_bytes"] < 4096
    assert all(artifact.facts["documents"][split] >= 1 for split in ("train", "validation"))
    assert sorted(" ".join(texts(artifact)).split()) == sorted(text_file.read_text().split())


def test_a_single_line_is_cut_at_spaces_and_keeps_every_word(bench: Any, tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(200)]
    (tmp_path / "line.txt").write_text(" ".join(words))

    artifact = bench.corpus(tmp_path / "line.txt")

    assert min(artifact.facts["documents"].values()) >= 1
    assert sorted(" ".join(texts(artifact)).split()) == sorted(words)


def test_a_folder_of_many_files_is_not_cut(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(120):
        (folder / f"{i:03d}.txt").write_text(f"File {i}.\n\nSecond paragraph of {i}.\n")

    artifact = bench.corpus(folder)

    assert artifact.facts["block_bytes"] is None
    assert sum(artifact.facts["documents"].values()) == 120


def test_a_row_that_the_card_leaves_out_is_counted(tmp_path: Path, bench: Any) -> None:
    rows = [{"text": f"Text {i}.", "kind": "odd" if i % 2 else "even"} for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sha256 = hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    card = tmp_path / "mine.md"
    source = f"  location: rows.jsonl\n  sha256: {sha256}\n  without: {{kind: odd}}\n"
    card.write_text(f"---\nlicense: cc0-1.0\nsource:\n{source}---\n")

    artifact = bench.make("pipeline.corpus", "--cards", str(card))

    assert artifact.manifest.counts == {"read": 10, "documents": 5, "rejected": {"left out by the card": 5}}


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path: Path, bench: Any, text_file: Path) -> None:
    folder = tmp_path / "texts [2024]"
    folder.mkdir()
    text_file.rename(folder / "a.txt")

    assert sum(bench.corpus(folder).facts["documents"].values()) > 1


def test_documents_of_ones_own_are_parted_by_a_separator(tmp_path: Path, bench: Any) -> None:
    (tmp_path / "a.txt").write_text("One.\n===\nTwo.\n===\nThree.")

    artifact = bench.corpus(tmp_path / "a.txt", "--documents", "separator", "--separator", "\n===\n")

    assert texts(artifact) == {"One.", "Two.", "Three."}


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Before.")
    [file] = open_source(source_of_path(tmp_path / "a.txt", Store(tmp_path / "store")), Store(tmp_path / "store"))
    (tmp_path / "a.txt").write_text("Behind our back.")

    with pytest.raises(IntegrityError, match="was changed while it was being read"):
        list(documents_of(Source(name="a", location="a.txt", sha256="x"), file, block_bytes=9))


def test_two_cards_of_one_name_are_refused(tmp_path: Path) -> None:
    cards = []
    for room in ("a", "b"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "mine.txt").write_text("Text.")
        card = tmp_path / room / "mine.md"
        card.write_text(f"---\nlicense: cc0-1.0\nsource:\n  location: mine.txt\n  sha256: '{'0' * 64}'\n---\n")
        cards.append(str(card))

    with pytest.raises(ConfigError, match="two sources are called 'mine'"):
        resolve(CorpusOptions(cards=tuple(cards)), Store(tmp_path / "store"))


def test_rows_are_never_cut_however_few_they_are(bench: Any, tmp_path: Path) -> None:
    rows = ["One.\n\nTwo.", "Three.\n\nFour."]

    assert texts(bench.corpus(write_jsonl(tmp_path / "a.jsonl", rows))) == set(rows)


ALONE: dict[str, bytes] = {
    "a.txt": b"One fish.\n\nTwo fish.\n\nRed fish.\n",
    "a.md": b"# Fish\n\nOne fish.\n\nTwo fish.\n",
    "a.jsonl": b'{"text": "One fish."}\n\n{"text": "Two fish."}\n',
    "a.json": b'[{"text": "One fish."}, {"text": "Two fish."}]',
    "a.csv": b'id,text\n1,"One fish,\nand more."\n2,Two fish.\n',
    "a.tsv": b'id\ttext\n1\tOne "fish.\n2\tTwo fish.\n',
}


def add_parquet(path: Path, rows: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": rows}), path)


@pytest.mark.parametrize("name", [*ALONE, "a.parquet", "A.TXT"])
def test_every_format_is_read_alone(bench: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        add_parquet(path, ["One fish.", "Two fish."])
    else:
        path.write_bytes(ALONE.get(name, ALONE["a.txt"]))

    together = "\n".join(texts(bench.corpus(path)))

    assert "One" in together and "Two" in together


def test_every_format_is_read_in_one_folder(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    for name in ALONE:
        suffix = name.rpartition(".")[2]
        (folder / "deep" / name).write_bytes(ALONE[name].replace(b"Two fish", f"Two {suffix}".encode()))
    add_parquet(folder / "a.parquet", ["One fish.", "Two parquet."])

    artifact = bench.corpus(folder, "--documents", "auto")

    together = "\n".join(texts(artifact))
    assert [s for s in ("txt", "md", "jsonl", "json", "csv", "tsv", "parquet") if f"Two {s}." not in together] == []
    counts = artifact.manifest.counts
    assert counts["read"] == counts["documents"] + sum(counts["rejected"].values())


def test_a_field_of_another_name_is_read_by_a_template(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "Fox", "body": "red"}\n{"title": "Hen", "body": "brown"}\n')

    artifact = bench.corpus(path, "--text", "{title}: {body}")

    assert texts(artifact) == {"Fox: red", "Hen: brown"}


# --- what cannot be used -------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, bytes | None, int, str]] = {
    "missing": ("nothing.txt", None, 66, "nothing.txt does not exist"),
    "empty file": ("a.txt", b"", 65, "hold 0 different document"),
    "one word": ("a.txt", b"word", 65, "hold 1 different document"),
    "binary": ("a.txt", bytes(range(128, 256)), 65, "a.txt: byte 0 (0x80) is not UTF-8"),
    "bad byte": ("a.txt", b"good text\nb\xe4d text", 65, "a.txt: byte 11 (0xe4) is not UTF-8"),
    "bad byte after a mark": ("a.txt", b"\xef\xbb\xbfgood \xff", 65, "a.txt: byte 8 (0xff) is not UTF-8"),
    "cut character": ("a.txt", b"good \xf0\x9f\xa6", 65, "a.txt: byte 5 (0xf0) is not UTF-8"),
    "surrogate": ("a.txt", b"ab\xed\xa0\x80", 65, "a.txt: byte 2 (0xed) is not UTF-8"),
    "utf-16": ("a.txt", "hello".encode("utf-16"), 65, "It looks like UTF-16"),
    "gzip": ("a.txt", b"\x1f\x8b\x08\x00abc", 65, "It looks like gzip"),
    "zip": ("a.txt", b"PK\x03\x04\xff", 65, "It looks like a zip"),
    "bad byte in a row": ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', 65, "a.jsonl:2: byte 24 (0xff)"),
    "no field": ("a.jsonl", b'{"title": "a", "body": "b"}\n', 65, "a.jsonl:1: there is no field 'text'"),
    "no field in csv": ("a.csv", b"title,body\na,b\n", 65, "a.csv:2: there is no field 'text'"),
    "no json": ("a.jsonl", b'{"text": "a"}\n{"text": \n', 65, "a.jsonl:2 is not a JSON object"),
    "no object": ("a.jsonl", b'{"text": "a"}\n"text"\n', 65, "a.jsonl:2 is not a JSON object but str"),
    "key twice": ("a.jsonl", b'{"text": "a", "text": "b"}\n', 65, "a.jsonl:1 is not a JSON object: a key stands twice"),
    "key twice in json": ("a.json", b'[{"text": "a", "text": "b"}]', 65, "a.json is not JSON: a key stands twice"),
    "nan": ("a.jsonl", b'{"text": "a", "n": NaN}\n', 65, "a.jsonl:1 is not a JSON object: NaN is not JSON"),
    "infinity in json": ("a.json", b'[{"text": "a", "n": -Infinity}]', 65, "-Infinity is not JSON"),
    "lone surrogate": ("a.jsonl", b'{"text": "a\\ud800b"}\n', 65, "a.jsonl:1 is not a JSON object"),
    "lone surrogate in json": ("a.json", b'[{"text": "a\\ud800b"}]', 65, "a.json is not JSON"),
    "json of numbers": ("a.json", b"[1, 2]", 65, "entry 1 is int, not an object"),
    "json of one text": ("a.json", b'"text"', 65, "must hold a list of objects"),
    "ragged csv": ("a.csv", b"id,text\n1,a\n2,b,c\n", 65, "a.csv:3 has 3 fields where 2 are expected (id, text)"),
    "column twice": ("a.csv", b"text,id,text\na,1,b\n", 65, "a.csv:1 names a column twice: text, id, text"),
    "open quote": ("a.csv", b'id,text\n1,"a\n', 65, "is not csv"),
    "no parquet": ("a.parquet", b"PAR1 nothing", 65, "a.parquet is not Parquet"),
    "no reader": ("a.png", b"\x89PNG", 65, "a.png is of a kind that cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_cannot_be_used_is_a_sentence_and_an_exit_code(bench: Any, tmp_path: Path, case: str) -> None:
    name, data, code, sentence = WRONG[case]
    if data is not None:
        (tmp_path / name).write_bytes(data)

    ended = bench("pipeline.corpus", "--source", str(tmp_path / name))

    assert sentence in ended.err
    assert (ended.code, ended.out) == (code, "")
    assert bench.store.folders() == []


def test_a_row_without_the_field_says_which_fields_it_has_and_how_to_use_them(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "a", "body": "b"}\n')

    ended = bench("pipeline.corpus", "--source", str(tmp_path / "a.jsonl"))

    assert "Known: body, title." in ended.err
    assert '--text "{title}"' in ended.err


@pytest.mark.parametrize("content", [[], ["picture.png"], [".hidden.txt"]])
def test_a_folder_with_nothing_to_read_says_what_could_be_read(bench: Any, tmp_path: Path, content: list[str]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in content:
        (folder / name).write_bytes(b"x")

    ended = bench("pipeline.corpus", "--source", str(folder))

    assert (ended.code, f"{folder} holds no file that can be read: .txt .md" in ended.err) == (66, True)


def test_no_source_at_all_says_how_to_name_one(bench: Any) -> None:
    ended = bench("pipeline.corpus")

    assert (ended.code, "--source FILE_OR_FOLDER" in ended.err) == (78, True)


# --- the same bytes ------------------------------------------------------------------------------------------


def test_one_command_twice_does_the_work_once(bench: Any, text_file: Path) -> None:
    first = bench("pipeline.corpus", "--source", str(text_file))
    second = bench("pipeline.corpus", "--source", str(text_file))

    assert first.out == second.out
    assert "is up to date" in second.err and "is up to date" not in first.err


def test_a_changed_file_is_another_corpus(bench: Any, text_file: Path) -> None:
    before = bench.corpus(text_file)
    text_file.write_text(text_file.read_text() + "\n\nThe end.\n")

    assert bench.corpus(text_file).id != before.id


def test_the_order_in_which_a_folder_was_filled_and_its_place_change_no_byte(bench: Any, tmp_path: Path) -> None:
    digests = []
    for place, order in (("one/texts", range(20)), ("two/texts", range(19, -1, -1))):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for i in order:
            (folder / f"{i}.txt").write_text(f"Document {i}.")
        digests.append(bench.corpus(folder, "--documents", "file").digest)

    assert digests[0] == digests[1]


def test_several_groups_of_files_and_workers_change_no_byte(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(12):
        write_jsonl(folder / f"{i:02d}.jsonl", [f"Document {j} of {i % 9}." for j in range(10)])
    whole = bench.corpus(folder, "--workers", "1")
    monkeypatch.setattr(ingest, "READ_BYTES", 700)
    files = [(whole.manifest, file) for file in local_files(str(folder))]
    assert len(list(ingest._grouped(files))) > 3  # type: ignore[arg-type]

    path = whole.path
    path.rename(tmp_path / "first")
    again = bench.corpus(folder, "--workers", "3")

    assert again.digest == whole.digest
    assert again.manifest.counts["rejected"] == {"exact duplicate": 30}


def test_parts_are_about_as_large_as_asked_for_and_hold_everything(bench: Any, tmp_path: Path) -> None:
    rows = [f"{i:04d}" * 25 for i in range(100)]

    artifact = bench.corpus(write_jsonl(tmp_path / "a.jsonl", rows), "--part-bytes", "1000")

    sizes = [len(read_batch(path)) for path in artifact.files("train-")]
    assert len(sizes) > 5 and set(sizes) <= {9, 10}
    assert artifact.files("train-")[0].name == f"train-00000-of-{len(sizes):05d}.arrow"
    assert texts(artifact) == set(rows)


# --- without the privileges of root --------------------------------------------------------------------------

PLAIN_USER = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (0, 1, 2, 3):  # chown, and whatever lets root pass over permissions
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
CAN_WRITE = "import os, sys; os.mkdir(sys.argv[1]); os.chmod(sys.argv[1], 0o555); os.mkdir(sys.argv[1] + '/inside')"


@pytest.fixture
def plain_user(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python ARGUMENTS` as one whom permissions bind; root gives up what lets it pass over them."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PLAIN_USER, *arguments]
        environment = {**os.environ, "CAIRN_STORE": str(tmp_path / "store")}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)

    refused = run("-c", CAN_WRITE, str(tmp_path / "shut"))
    if "prctl" in refused.stderr:
        pytest.skip("this root may not give up its capabilities")
    assert "PermissionError" in refused.stderr
    return run


def test_a_user_who_is_not_root_makes_verifies_and_repairs(
    plain_user: Callable[..., subprocess.CompletedProcess[str]], text_file: Path, tmp_path: Path
) -> None:
    corpus = plain_user("-m", "pipeline.corpus", "--source", str(text_file))
    assert corpus.returncode == 0, corpus.stderr
    reference = corpus.stdout.strip()
    tokenizer = plain_user("-m", "pipeline.tokenizer", "--corpus", reference, "--vocab-size", "300")
    assert tokenizer.returncode == 0, tokenizer.stderr
    assert plain_user("-m", "pipeline.artifacts", "verify").returncode == 0
    [damaged] = (tmp_path / "store").glob("corpus/*/payload/train-*")
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    damaged.chmod(0o444)

    refused = plain_user("-m", "pipeline.artifacts", "verify")
    repaired = plain_user("-m", "pipeline.artifacts", "repair", reference)

    assert (refused.returncode, damaged.name in refused.stderr) == (71, True)
    assert (repaired.returncode, repaired.stdout.strip()) == (0, reference), repaired.stderr
    assert plain_user("-m", "pipeline.artifacts", "verify").returncode == 0


def test_a_store_that_cannot_be_written_is_a_sentence_and_exit_74(
    plain_user: Callable[..., subprocess.CompletedProcess[str]], text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir(mode=0o555)

    ended = plain_user("-m", "pipeline.corpus", "--source", str(text_file))

    assert (ended.returncode, "Permission denied" in ended.stderr) == (74, True)


def test_a_file_that_may_not_be_read_is_named_with_exit_74(
    plain_user: Callable[..., subprocess.CompletedProcess[str]], text_file: Path
) -> None:
    text_file.chmod(0)

    ended = plain_user("-m", "pipeline.corpus", "--source", str(text_file))

    assert (ended.returncode, f"{text_file}: Permission denied" in ended.stderr) == (74, True)
