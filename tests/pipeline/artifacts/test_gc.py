"""`artifacts gc`: what nothing needs goes, byte for byte as announced; what anything needs stays."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.gc import Choice, collect, size_of, survey
from pipeline.artifacts.lease import Lease
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
from pipeline.errors import IntegrityError, UsageError
from pipeline.runtime.files import write_json
from pipeline.runtime.liveness import ProcessIdentity

KINDS = ("corpus", "tokenizer", "shards")


def request_for(number: int, inputs: dict[str, Artifact] | None = None, kind: str = "corpus") -> Request:
    names = {role: artifact.name for role, artifact in (inputs or {}).items()}
    recipe = Asked(stage="test.stage", stage_version=1, inputs=names, config={"n": number}, toolchain={})
    return Request(kind=kind, kind_version=1, recipe=recipe, determinism="bytes")


def make(store: Store, number: int, *inputs: Artifact, text: str = "", kind: str = "corpus") -> Artifact:
    with store.draft(request_for(number, {f"in{i}": a for i, a in enumerate(inputs)}, kind)) as draft:
        (draft.path / "a.txt").write_text(text or f"text {number} " * number)
    return draft.artifact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def gc(store: Store, **choice: Any) -> set[str]:
    """Collect, and return what went."""
    wanted = Choice(**{"grace_minutes": 0.0, **choice})
    return {victim.what for victim in collect(store, wanted, survey(store, wanted))}


def present(store: Store) -> set[str]:
    return {f"{path.parent.name}:{path.name}" for path in store.folders()}


# --- artifacts -----------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[str, str, list[int]]], set[int]]:
    """Return artifacts as (kind, text, inputs among the earlier ones), and which of them have a name."""
    nodes: list[tuple[str, str, list[int]]] = []
    for i in range(draw(st.integers(1, 9))):
        inputs = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        nodes.append((draw(st.sampled_from(KINDS)), draw(st.sampled_from("abcd")) * 7, inputs))
    return nodes, draw(st.sets(st.integers(0, len(nodes) - 1), min_size=1, max_size=3))


@given(graphs())
@settings(max_examples=30)
def test_no_live_artifact_is_ever_lost_and_the_bytes_freed_are_exact(
    graph: tuple[list[tuple[str, str, list[int]]], set[int]],
) -> None:
    nodes, named = graph
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        made: list[Artifact] = []
        for i, (kind, text, inputs) in enumerate(nodes):
            made.append(make(store, i, *(made[j] for j in inputs), text=text, kind=kind))
            made[-1].verify()  # writes a stamp
        for i in named:
            store.tag(f"name{i}", made[i])
        needed, waiting = set(), [made[i] for i in named]
        while waiting:  # follows Store.find_input itself, as a consumer does
            artifact = waiting.pop()
            needed.add(artifact.reference)
            inputs_of = artifact.manifest.recipe.inputs.values()
            waiting.extend(store.find_input(name.kind, name.id, name.digest) for name in inputs_of)
        before = size_of(store.root)
        plan = survey(store, Choice(grace_minutes=0.0))

        gone = collect(store, Choice(grace_minutes=0.0), plan)

        assert present(store) == needed
        assert before - size_of(store.root) == sum(victim.bytes for victim in gone) == plan.bytes
        for path in store.folders():
            store.open(path).verify(rehash=True)


def test_an_input_that_only_its_digest_finds_stays(store: Store, tmp_path: Path) -> None:
    first = make(store, 1, text="same")
    second = make(store, 2, text="same")
    user = make(store, 3, first, kind="shards")
    store.tag("mine", user)
    os.rename(first.path, tmp_path / "elsewhere")  # as if it had been made on another machine

    assert gc(store) == set()
    assert second.reference in present(store)


def test_keep_keeps_an_artifact_without_a_name_and_what_it_was_made_from(store: Store) -> None:
    below, other = make(store, 1), make(store, 2)
    above = make(store, 3, below, kind="shards")

    assert gc(store, keep=(above.short,)) == {other.reference}
    assert present(store) == {below.reference, above.reference}


def test_an_artifact_published_after_the_scan_stays_with_its_inputs(store: Store) -> None:
    store.tag("mine", make(store, 0))
    below, other = make(store, 1), make(store, 2)
    plan = survey(store, Choice(grace_minutes=0.0))
    young = make(store, 3, below, kind="shards")

    gone = collect(store, Choice(grace_minutes=0.0), plan)

    assert [victim.what for victim in gone] == [other.reference]
    assert {young.reference, below.reference} <= present(store)


def test_an_artifact_named_after_the_scan_stays(store: Store) -> None:
    store.tag("mine", make(store, 0))
    late = make(store, 1)
    plan = survey(store, Choice(grace_minutes=0.0))
    store.tag("late", late)

    assert collect(store, Choice(grace_minutes=0.0), plan) == ()


def test_what_a_draft_in_another_thread_reads_stays(store: Store) -> None:
    store.tag("mine", make(store, 0))
    below = make(store, 1)
    started, done = threading.Event(), threading.Event()

    def publish() -> None:
        with store.draft(request_for(2, {"corpus": below}, "shards")) as draft:
            started.set()
            done.wait(20)
            (draft.path / "a.txt").write_text((below.payload / "a.txt").read_text())

    thread = threading.Thread(target=publish)
    thread.start()
    started.wait(20)
    went = gc(store)
    done.set()
    thread.join()

    assert went == set()
    assert len(present(store)) == 3


def test_publishing_and_collecting_at_once_loses_nothing_that_has_a_name(store: Store) -> None:
    store.tag("name0", make(store, 0))
    stop = threading.Event()

    def collect_on() -> None:
        while not stop.is_set():
            gc(store)

    thread = threading.Thread(target=collect_on)
    thread.start()
    try:
        for i in range(1, 16):
            with store.draft(request_for(i)) as draft:
                (draft.path / "a.txt").write_text("x" * i)
                identity = draft.request.id
                write_json(store.root / "refs" / f"name{i}.json", {"kind": "corpus", "id": identity, "digest": ""})
    finally:
        stop.set()
        thread.join()

    assert len(present(store)) == 16


def test_what_was_published_a_moment_ago_stays_with_its_inputs_and_is_told(bench: Any) -> None:
    below, lost = make(bench.store, 1), make(bench.store, 2)
    bench.store.tag("mine", make(bench.store, 0))
    for artifact in (below, lost):
        os.utime(artifact.path / "manifest.json", (0, 0))
    make(bench.store, 3, below, kind="shards")

    ended = bench.artifacts("gc", "--delete")

    assert lost.short in ended.out and len(present(bench.store)) == 3
    assert ended.out.splitlines()[-1] == "2 artifacts stay for now, because they are young (--grace-minutes)"


def test_with_no_name_at_all_delete_is_refused_and_all_goes_on(bench: Any) -> None:
    artifact = make(bench.store, 1)

    refused, shown = (
        bench.artifacts("gc", "--grace-minutes", "0", "--delete"),
        bench.artifacts("gc", "--grace-minutes", "0"),
    )

    assert (refused.code, "--all" in refused.err, "tag REF NAME" in refused.err) == (2, True, True)
    assert (shown.code, artifact.short in shown.out) == (0, True)
    assert bench.artifacts("gc", "--grace-minutes", "0", "--delete", "--all").code == 0
    assert present(bench.store) == set()


def test_a_damaged_manifest_stops_the_collection_of_artifacts(store: Store) -> None:
    store.tag("mine", make(store, 0))
    make(store, 1)
    damaged = make(store, 2)
    (damaged.path / "manifest.json").write_text("{")

    with pytest.raises(IntegrityError, match=f"repair {damaged.short}"):
        gc(store)
    assert len(present(store)) == 3


# --- runs ----------------------------------------------------------------------------------------------------


def unfinished(store: Store, number: int, *inputs: Artifact) -> Path:
    """Make the folder of a run that was killed: a checkpoint and what it was asked."""
    request = request_for(number, {f"in{i}": a for i, a in enumerate(inputs)}, "model")
    folder = store.run_folder(request.id)
    (folder / "checkpoints" / "step-00000010").mkdir(parents=True)
    (folder / "checkpoints" / "step-00000010" / "weights").write_text("w" * 100)
    request.leave_in(folder)
    return folder


def test_an_unfinished_run_stays_and_so_do_its_inputs(store: Store) -> None:
    below, other = make(store, 1), make(store, 2)
    folder = unfinished(store, 3, below)

    assert gc(store) == {other.reference}
    assert folder.exists() and below.reference in present(store)


def test_runs_removes_a_dead_run_that_is_old_enough_and_frees_its_inputs(store: Store) -> None:
    store.tag("mine", make(store, 0))
    below = make(store, 1)
    folder = unfinished(store, 3, below)

    assert gc(store, runs=True) == set(), "it was written to a moment ago"
    assert gc(store, runs=True, days=0.0) == {below.reference, f"run {folder.name[:12]}"}
    assert not folder.exists()


def test_a_run_whose_artifact_is_published_goes(store: Store) -> None:
    artifact = make(store, 1)
    store.tag("mine", artifact)
    folder = store.run_folder(artifact.id)
    (folder / "checkpoints").mkdir(parents=True)

    assert gc(store) == {f"run {artifact.id[:12]}"}
    assert not folder.exists() and artifact.reference in present(store)


@pytest.mark.parametrize("how", ["lease", "holder"])
def test_a_live_run_is_never_touched(store: Store, how: str) -> None:
    artifact = make(store, 1)
    store.tag("mine", artifact)
    folder = store.run_folder(artifact.id)
    if how == "lease":
        Lease.acquire(folder)
    else:
        me = ProcessIdentity.current()
        (folder / "work" / "holders").mkdir(parents=True)
        (folder / "work" / "holders" / f"{me.boot_id}_{me.pid}_{me.started}").touch()

    assert gc(store, runs=True, days=0.0) == set()
    assert folder.exists()


def test_a_run_that_is_taken_up_after_the_scan_stays(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.tag("mine", make(store, 0))
    folder = unfinished(store, 3)
    choice = Choice(grace_minutes=0.0, runs=True, days=0.0)
    plan = survey(store, choice)
    Lease.acquire(folder)

    assert collect(store, choice, plan) == ()
    assert folder.exists() and "was taken up again" in capsys.readouterr().err


def test_a_stage_that_is_killed_leaves_word_of_what_it_reads(store: Store) -> None:
    below = make(store, 1)
    with store.draft(request_for(2, {"corpus": below}, "shards")) as draft:
        page = json.loads((draft.path.parent.parent / "request.json").read_text())
        (draft.path / "a.txt").write_text("x")

    assert page["recipe"]["inputs"]["corpus"]["digest"] == below.digest
    assert not (draft.artifact.path / "request.json").exists()


# --- the rest of a store -------------------------------------------------------------------------------------


def test_scratch_of_a_dead_process_goes_and_that_of_a_live_one_stays(store: Store) -> None:
    store.tag("mine", make(store, 0))
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    me = ProcessIdentity.current()
    folder = store.root / "tmp" / f"{me.boot_id}_{dead.stdout.strip()}_1_abcd"
    folder.mkdir()
    (folder / "big").write_text("x" * 1000)

    with store.scratch() as mine:
        folder.mkdir(exist_ok=True)  # which `scratch` has swept just now
        (folder / "big").write_text("x" * 1000)
        [victim] = collect(store, Choice(grace_minutes=0.0), survey(store, Choice(grace_minutes=0.0)))
        assert mine.exists()

    assert (victim.bytes, victim.what) == (1000, f"scratch of process {dead.stdout.strip()}")
    assert not folder.exists()


def test_scratch_of_another_machine_is_given_a_day_and_what_it_reads_stays(store: Store) -> None:
    store.tag("mine", make(store, 0))
    below = make(store, 1)
    folder = store.root / "tmp" / "another-boot_123_456_abcd"
    folder.mkdir()
    request_for(2, {"corpus": below}, "shards").leave_in(folder)

    assert gc(store) == set()
    long_ago = time.time() - 2 * 86_400
    os.utime(folder / "request.json", (long_ago, long_ago))
    os.utime(folder, (long_ago, long_ago))
    assert gc(store) == {below.reference, "scratch of process 123"}


def test_stamps_of_artifacts_that_are_gone_go(store: Store) -> None:
    kept, lost = make(store, 0), make(store, 1)
    store.tag("mine", kept)
    kept.verify(), lost.verify()
    os.rename(lost.path, store.root / "tmp" / "elsewhere")

    assert gc(store) == {"1 stamps"}
    assert [path.name for path in (store.root / "stamps").iterdir()] == [f"corpus-{kept.id}.json"]


def test_quarantine_goes_only_when_asked(store: Store) -> None:
    store.tag("mine", make(store, 0))
    moved = store.quarantine("corpus", make(store, 1).id)

    assert gc(store) == set() and moved.exists()
    assert len(gc(store, quarantine=True)) == 1 and not moved.exists()


def test_a_fetched_source_that_no_manifest_names_goes_only_when_asked(store: Store) -> None:
    wanted, unwanted = "a" * 64, "b" * 64
    request = Request(
        kind="corpus",
        kind_version=1,
        determinism="bytes",
        recipe=Asked(stage="t", stage_version=1, inputs={}, config={"wheel": {"sha256": wanted}}, toolchain={}),
    )
    with store.draft(request) as draft:
        (draft.path / "a").write_text("x")
    store.tag("mine", draft.artifact)
    (store.root / "sources").mkdir()
    for name in (f"{wanted}.whl", f"{unwanted}.whl", "hashes.sqlite"):
        (store.root / "sources" / name).write_text("w")

    assert gc(store) == gc(store, sources=True) == set(), "it was fetched a moment ago"
    assert gc(store, sources=True, days=0.0) == {f"source {unwanted[:12]}.whl"}
    assert sorted(path.name for path in (store.root / "sources").iterdir()) == [f"{wanted}.whl", "hashes.sqlite"]


def test_a_dry_run_touches_nothing_and_announces_what_delete_frees(bench: Any) -> None:
    bench.store.tag("mine", make(bench.store, 0))
    lost = make(bench.store, 1)
    before = sorted(bench.store.root.rglob("*"))

    shown = json.loads(bench.artifacts("gc", "--grace-minutes", "0", "--json").out)
    untouched = sorted(bench.store.root.rglob("*")) == before
    freed = json.loads(bench.artifacts("gc", "--grace-minutes", "0", "--delete", "--json").out)

    assert untouched and lost.reference not in present(bench.store)
    assert (shown["deleted"], freed["deleted"]) == (False, True)
    assert shown["bytes"] == freed["bytes"] == sum(row["bytes"] for row in shown["victims"]) > 0
    assert shown["victims"] == freed["victims"]


def test_the_table_says_what_goes_how_large_it_is_and_why(bench: Any) -> None:
    bench.store.tag("mine", make(bench.store, 0))
    lost = make(bench.store, 1)

    row, total = bench.artifacts("gc", "--grace-minutes", "0").out.splitlines()

    assert row.split()[:2] == [lost.short, f"{size_of(lost.path):,}"] and row.endswith("needs it")
    assert total == f"{size_of(lost.path):,} bytes in 1 places would be freed; nothing was touched, --delete removes it"


def test_a_process_killed_while_deleting_leaves_no_half_artifact(store: Store, tmp_path: Path) -> None:
    store.tag("mine", make(store, 0))
    lost = make(store, 1)
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.artifacts import gc, store as s\n"
        "s.remove_tree = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store = s.Store(Path(sys.argv[1])); choice = gc.Choice(grace_minutes=0.0)\n"
        "gc.collect(store, choice, gc.survey(store, choice))\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)

    assert done.returncode == -9
    assert not lost.path.exists() and len(present(store)) == 1
    time.sleep(0.05)
    [victim] = survey(store, Choice(grace_minutes=0.0)).victims
    assert victim.what.startswith("scratch of process")


def test_an_empty_store_has_nothing_to_remove(bench: Any) -> None:
    ended = bench.artifacts("gc", "--grace-minutes", "0", "--delete")

    assert (ended.code, ended.out.strip()) == (0, "0 bytes in 0 places freed")


def test_a_keep_that_is_not_there_is_an_error_that_removes_nothing(bench: Any) -> None:
    make(bench.store, 1)

    ended = bench.artifacts("gc", "--grace-minutes", "0", "--delete", "--keep", "corpus:zzz")

    assert (ended.code, len(present(bench.store))) == (66, 1)


def test_collect_alone_refuses_a_store_without_names(store: Store, request_of: Callable[..., Any]) -> None:
    make(store, 1)

    with pytest.raises(UsageError, match="all 1 artifacts would go"):
        gc(store)
