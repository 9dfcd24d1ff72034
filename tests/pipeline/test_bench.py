"""The figures: rows and ratios, alternating runs, environments by their pins, texts, and that a difference is seen."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.bench import mixed_text, origins
from pipeline.bench.cleaning_steps import step_rows
from pipeline.bench.environments import ENVIRONMENTS, Environment, python_of
from pipeline.bench.figures import HEADER, Bound, Measured, Row, alternate, median, show, table
from pipeline.bench.machine import hashing, reading, writing
from pipeline.bench.programs import disk_of, memory_of, run_peer, run_program
from pipeline.bench.text_to_shards import compare_ids, document_hashes, ranks_of
from pipeline.bench.training import same_start
from pipeline.errors import CairnError, IntegrityError, MissingError, UnavailableError
from pipeline.tokenization.engines import pattern_of

# --- rows ----------------------------------------------------------------------------------------------------


def test_a_row_shows_its_ratio_and_whether_the_bound_is_kept() -> None:
    fast = Row(name="a", ours=40.0, unit="MB/s", peer="b", peer_value=7.0, bound=Bound("ratio", ">=", 5), machine="m")
    slow = Row(name="a", ours=20.0, unit="MB/s", peer="b", peer_value=7.0, bound=Bound("ratio", ">=", 5))
    assert fast.cells() == ["a", "40", "b", "7", "MB/s", "5.71x", ">= 5x; m"]
    assert (fast.met, slow.met) == (True, False)
    assert slow.cells()[-1] == ">= 5x MISSED"


def test_a_bound_on_our_own_value_needs_no_peer() -> None:
    bound = Bound("ours", "<=", 1.0)
    assert Row(name="a", ours=0.9, unit="s", bound=bound).met is True
    assert Row(name="a", ours=1.1, unit="s", bound=bound).met is False
    assert Row(name="a", ours=1.1, unit="s", bound=bound).cells() == ["a", "1.1", "", "", "s", "", "<= 1 MISSED"]


def test_without_the_peer_there_is_no_ratio_and_no_verdict() -> None:
    row = Row(name="a", ours=3.0, unit="s", peer="b", bound=Bound("ratio", ">=", 5))
    assert (row.ratio, row.met) == (None, None)
    assert row.as_json()["peer value"] is None


def test_the_table_has_the_columns_of_the_issue_and_lines_of_one_length() -> None:
    lines = table([Row(name="text to shards", ours=1234.5, unit="MB/s"), Row(name="b", ours=0.00123, unit="s")])
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(HEADER)
    assert len({len(line) for line in lines}) == 1
    assert "1,234" in lines[2] and "0.00123" in lines[3]


@pytest.mark.parametrize(("value", "shown"), [(None, ""), (12345.6, "12,346"), (99.96, "100"), (3.14159, "3.14")])
def test_numbers_are_shown_with_three_figures(value: float | None, shown: str) -> None:
    assert show(value) == shown


# --- alternating runs ----------------------------------------------------------------------------------------


def test_runs_alternate_and_the_median_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []

    def contestant(name: str, values: list[float]) -> Callable[[], Measured]:
        def run() -> Measured:
            calls.append(name)
            return Measured(value=values[calls.count(name) - 1])

        return run

    runs = alternate({"ours": contestant("ours", [1, 9, 2]), "peer": contestant("peer", [4, 4, 5])}, 3)
    assert calls == ["ours", "peer"] * 3
    assert (median(runs["ours"]), median(runs["peer"]), median(runs.get("nobody"))) == (2, 4, None)
    assert "ours, run 3 of 3: 2" in capsys.readouterr().err


def test_a_peer_that_is_not_to_be_had_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    def absent() -> Measured:
        raise UnavailableError("no network")

    runs = alternate({"peer": absent, "ours": lambda: Measured(value=1.0)}, 2)
    assert list(runs) == ["ours"] and len(runs["ours"]) == 2
    assert capsys.readouterr().err.count("peer is left out: no network") == 1


# --- environments --------------------------------------------------------------------------------------------


def maker(commands: list[list[str]], why: str | None = None) -> Callable[[Sequence[str]], str | None]:
    """Return what stands for venv and pip: it notes the commands, and makes the folder."""

    def run(command: Sequence[str]) -> str | None:
        commands.append(list(command))
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
        return why if "pip" in command else None

    return run


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path: Path) -> None:
    commands: list[list[str]] = []
    first = python_of(Environment("a", ("numpy==2.4.6", "torch==2.13.0")), tmp_path, maker(commands))
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]
    assert commands[1][-2:] == ["--no-deps", "numpy==2.4.6"] and commands[2][-1] == "torch==2.13.0"
    assert python_of(Environment("a", ("numpy==2.4.6", "torch==2.13.0")), tmp_path, maker(commands)) == first
    assert len(commands) == 3
    assert python_of(Environment("a", ("numpy==2.4.5",)), tmp_path, maker(commands)) != first
    assert len(commands) == 5


def test_an_environment_that_pip_could_not_fill_is_not_used_later(tmp_path: Path) -> None:
    half = Environment("a", ("numpy==0.0.1",))
    with pytest.raises(UnavailableError, match=r"numpy==0.0.1\n  no such version"):
        python_of(half, tmp_path, maker([], "no such version"))
    commands: list[list[str]] = []
    python_of(half, tmp_path, maker(commands))
    assert len(commands) == 2


def test_every_peer_is_pinned_to_one_version_and_has_none_twice() -> None:
    for environment in ENVIRONMENTS:
        names = [pin.split("==")[0].lower() for pin in environment.pins]
        assert all(pin.count("==") == 1 for pin in environment.pins)
        assert len(set(names)) == len(names)
    assert len({environment.key for environment in ENVIRONMENTS}) == len(ENVIRONMENTS)


# --- programs ------------------------------------------------------------------------------------------------


def test_a_program_is_timed_and_its_memory_is_seen_with_that_of_its_children(tmp_path: Path) -> None:
    child = "import time; data = b'x' * 80_000_000; time.sleep(1.0)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('done')"
    ended = run_program([sys.executable, "-c", code], folder=tmp_path)
    assert ended.last_line == "done"
    assert ended.seconds > 1.0
    assert ended.cpu_seconds > 0
    assert 80e6 < ended.peak_bytes < 500e6


def test_the_most_that_a_folder_took_is_seen(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    code = "import os, time; open('room/a', 'wb').write(b'x' * 5000); time.sleep(0.7); os.remove('room/a')"
    ended = run_program([sys.executable, "-c", code], folder=tmp_path, watched=room)
    assert (ended.peak_disk, disk_of(room)) == (5000, 0)


def test_a_program_that_fails_is_quoted_and_a_peer_that_fails_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CairnError, match=r"ended with 3:\n  it hurts"):
        run_program(
            [sys.executable, "-c", "import sys; print('it hurts', file=sys.stderr); sys.exit(3)"], folder=tmp_path
        )
    with pytest.raises(UnavailableError, match="No such file|can't open file"):
        run_peer("no_such_script", Path(sys.executable), {}, folder=tmp_path / "peer")


def test_the_memory_of_a_process_that_has_ended_is_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory_of(process.pid) == 0


def test_what_the_machine_can_do_is_measured_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(2**21))
    assert reading(path) > 0 and hashing([path]) > 0
    assert writing(tmp_path, 2**20) > 0
    assert list(tmp_path.iterdir()) == [path]


# --- texts ---------------------------------------------------------------------------------------------------


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
    from hashlib import sha256

    from pipeline.tables.splits import split_of

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
    import zipfile

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


def test_blocks_are_cut_at_blank_lines_and_lose_nothing() -> None:
    text = "\n\n".join(f"Paragraph {i} " + "word " * 40 for i in range(300))
    blocks = list(origins.blocks(text.encode()))
    assert len(blocks) > 5 and all(len(block) <= 17000 for block in blocks)
    assert "\n\n".join(blocks) == text


def test_markup_is_taken_out_of_a_page() -> None:
    page = b"<html><head><style>p {}</style></head><body><p>One &amp; two</p><!-- no --><p>three</p></body></html>"
    assert "".join(origins.page(page)) == "One & twothree"


# --- are they the same ids? ----------------------------------------------------------------------------------


def test_every_document_is_held_against_tokenizers_and_one_other_id_is_found(
    shared_chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = shared_chain
    count = sum(chain.corpus.facts["documents"].values())
    assert compare_ids(chain.corpus, chain.shards, chain.tokenizer) == count
    assert document_hashes(chain.shards).total() == count
    from pipeline.bench import text_to_shards

    honest = text_to_shards._documents

    def altered(shards: Any, split: str) -> Any:
        for number, ids in enumerate(honest(shards, split)):
            yield [*ids[:-2], ids[-2] ^ 1, ids[-1]] if number == 5 else ids

    monkeypatch.setattr(text_to_shards, "_documents", altered)
    with pytest.raises(IntegrityError, match="document 5 of corpus:"):
        compare_ids(chain.corpus, chain.shards, chain.tokenizer)


def test_documents_that_the_shards_lack_or_have_in_excess_are_found(
    shared_chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.bench import text_to_shards

    chain, honest = shared_chain, text_to_shards._documents
    monkeypatch.setattr(text_to_shards, "_documents", lambda shards, split: iter([*honest(shards, split), [1, 2]]))
    with pytest.raises(IntegrityError, match="more documents"):
        compare_ids(chain.corpus, chain.shards, chain.tokenizer)
    monkeypatch.setattr(text_to_shards, "_documents", lambda shards, split: iter([*honest(shards, split)][:-1]))
    with pytest.raises(IntegrityError, match="other ids"):
        compare_ids(chain.corpus, chain.shards, chain.tokenizer)


def test_tiktoken_built_from_our_tokenizer_gives_the_same_ids(shared_chain: Any) -> None:
    import base64

    import tiktoken
    from tokenizers import Tokenizer

    path = shared_chain.tokenizer.file("tokenizer.json")
    page = json.loads(path.read_text(encoding="utf-8"))
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in ranks_of(page))}
    theirs = tiktoken.Encoding("t", pat_str=pattern_of(page), mergeable_ranks=ranks, special_tokens={})
    text = "The fox's café had 1234 stars…\n\n  and they'll sit near\tthe barn."
    assert theirs.encode_ordinary(text) == Tokenizer.from_file(str(path)).encode(text).ids


def test_the_first_merge_that_differs_ends_the_count() -> None:
    assert same_start([["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]]) == 2
    assert same_start([["a", "b"], ["c", "d"], ["e", "f"]], [["a", "b"], ["d", "c"], ["e", "f"]]) == 1
    assert same_start([["a", "b"]], [["a", "b"], ["c", "d"]]) == 1


# --- cleaning ------------------------------------------------------------------------------------------------


def test_a_cleaning_step_has_a_row_with_its_speed_and_one_that_is_there_twice_has_one() -> None:
    def entry(step: str, bytes_in: int, documents_in: int, documents_out: int) -> dict[str, Any]:
        page = {"step": step, "bytes_in": bytes_in, "bytes_out": bytes_in}
        return {**page, "documents_in": documents_in, "documents_out": documents_out}

    entries = [entry("exact", 6_000_000, 10, 8), entry("pii", 5_000_000, 8, 8), entry("exact", 4_000_000, 8, 7)]
    rows = step_rows(entries, {"exact": 2.0})
    assert [row.cells()[:2] for row in rows] == [["step exact", "5"], ["step pii", "no time"]]
    assert rows[0].limit == "3 of 10 documents rejected"


# --- the program ---------------------------------------------------------------------------------------------


def test_verify_needs_no_peer_and_no_network_and_leaves_only_what_is_kept(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    arguments = ("--only", "verify", "--megabytes", "2", "--repeats", "1", "--folder", str(kept))
    ended = program("-m", "pipeline.bench", *arguments, "--json", str(tmp_path / "figures.json"))
    assert ended.code == 0, ended.err
    assert "| first verification of 2 MB" in ended.out and "hashlib.file_digest" in ended.out
    page = json.loads((tmp_path / "figures.json").read_text())
    assert page["rows"][0]["unit"] == "s" and page["rows"][0]["ratio"] > 0 and page["processors"] > 0
    assert list(kept.iterdir()) == []


def test_a_bench_that_does_not_exist_is_a_usage_error(program: Callable[..., Any]) -> None:
    ended = program("-m", "pipeline.bench", "--only", "nonsense")
    assert ended.code == 2 and "nonsense" in ended.err


def test_a_bench_that_fails_does_not_take_the_others_with_it(program: Callable[..., Any], tmp_path: Path) -> None:
    arguments = ("--only", "verify", "tokenizer", "--megabytes", "2", "--repeats", "1", "--folder", str(tmp_path / "k"))
    ended = program("-m", "pipeline.bench", *arguments, "--text", str(tmp_path / "no_such.jsonl"))
    assert ended.code == MissingError.exit_code
    assert "first verification of 2 MB" in ended.out and "no_such.jsonl" in ended.err


def test_an_artifact_to_verify_is_published_whole(tmp_path: Path) -> None:
    from pipeline.bench.verification import _artifact_of

    made = _artifact_of(100_000, Store(tmp_path / "store"))
    assert made.verify(rehash=True) == 100_000
