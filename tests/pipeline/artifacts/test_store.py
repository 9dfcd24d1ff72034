"""The store lists whole artifacts only, publishes once, and never overwrites."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import License
from pipeline.artifacts.store import Request, Store, union_of_licenses
from pipeline.errors import IntegrityError, MissingError, UsageError
from pipeline.runtime.liveness import ProcessIdentity, process_start


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store, request: Request, text: str) -> Artifact:
    with store.draft(request) as draft:
        (draft.path / "a.txt").write_text(text)
    return draft.artifact


# --- publishing ----------------------------------------------------------------------------------------------


def test_a_published_artifact_is_a_manifest_a_payload_a_record_and_a_card(
    store: Store, request_of: Callable[..., Request]
) -> None:
    artifact = write(store, request_of(), "hello")

    assert sorted(path.name for path in artifact.path.iterdir()) == ["README.md", "manifest.json", "payload", "record"]
    assert artifact.path == store.root / "corpus" / artifact.id
    assert (artifact.payload / "a.txt").read_text() == "hello"


def test_a_published_payload_is_read_only(store: Store, request_of: Callable[..., Request]) -> None:
    artifact = write(store, request_of(), "hello")

    assert stat.S_IMODE((artifact.payload / "a.txt").stat().st_mode) == 0o444
    assert stat.S_IMODE(artifact.payload.stat().st_mode) == 0o555


def test_facts_and_counts_are_in_the_manifest_and_only_facts_in_the_digest(
    store: Store, tmp_path: Path, request_of: Callable[..., Request]
) -> None:
    digests = {}
    for fact, count in [(1, 1), (1, 2), (2, 1)]:
        with Store(tmp_path / f"{fact}{count}").draft(request_of()) as draft:
            draft.fact(tokens=fact)
            draft.count(rows=count)
        assert (draft.artifact.facts, draft.artifact.manifest.counts) == ({"tokens": fact}, {"rows": count})
        digests[fact, count] = draft.artifact.digest

    assert digests[1, 1] == digests[1, 2] != digests[2, 1]


def test_what_is_in_record_and_card_is_not_in_the_digest(tmp_path: Path, request_of: Callable[..., Request]) -> None:
    digests = set()
    for when in ("today", "tomorrow"):
        with Store(tmp_path / when).draft(request_of()) as draft:
            (draft.path / "a.txt").write_text("same")
            (draft.record / "metrics.jsonl").write_text(when)
            draft.provenance = {"started": when}
        digests.add(draft.artifact.digest)

    assert len(digests) == 1


def test_a_draft_has_no_artifact_before_its_block_ends(store: Store, request_of: Callable[..., Request]) -> None:
    with store.draft(request_of()) as draft, pytest.raises(RuntimeError, match="not published"):
        _ = draft.artifact


def test_a_draft_is_not_listed_while_it_is_written(store: Store, request_of: Callable[..., Request]) -> None:
    with store.draft(request_of()) as draft:
        (draft.path / "a.txt").write_text("half")
        during = store.folders()

    assert during == []
    assert store.folders() == [draft.artifact.path]


def test_a_draft_whose_block_raises_leaves_nothing_behind(store: Store, request_of: Callable[..., Request]) -> None:
    with pytest.raises(ZeroDivisionError), store.draft(request_of()) as draft:
        (draft.path / "a.txt").write_text("half")
        _ = 1 / 0

    assert store.folders() == []
    assert list((store.root / "tmp").iterdir()) == []


def test_a_folder_without_its_manifest_is_not_listed(store: Store, request_of: Callable[..., Request]) -> None:
    artifact = write(store, request_of(), "hello")
    (artifact.path / "manifest.json").unlink()

    assert store.folders() == []
    assert store.get("corpus", artifact.id) is None


# --- races ---------------------------------------------------------------------------------------------------


def race(store: Store, first: tuple[Request, str, str], second: tuple[Request, str, str]) -> tuple[Artifact, Artifact]:
    """Let two drafts (request, text, domain) overlap; the first is published first."""
    with store.draft(second[0]) as late:
        (late.path / "a.txt").write_text(second[1])
        late.domain["device"] = second[2]
        with store.draft(first[0]) as early:
            (early.path / "a.txt").write_text(first[1])
            early.domain["device"] = first[2]
    return early.artifact, late.artifact


def test_a_race_between_equal_drafts_is_fine(store: Store, request_of: Callable[..., Request]) -> None:
    early, late = race(store, (request_of(), "same", ""), (request_of(), "same", ""))

    assert early == late
    assert store.folders() == [early.path]


def test_a_race_between_different_bytes_is_an_error_and_the_first_stays(
    store: Store, request_of: Callable[..., Request]
) -> None:
    with pytest.raises(IntegrityError, match="not reproducible"):
        race(store, (request_of(), "one", ""), (request_of(), "two", ""))

    assert [(path / "payload/a.txt").read_text() for path in store.folders()] == ["one"]


def test_different_bytes_are_an_error_in_one_domain(store: Store, request_of: Callable[..., Request]) -> None:
    request = request_of(kind="model", determinism="domain")

    with pytest.raises(IntegrityError, match="not reproducible"):
        race(store, (request, "one", "cpu"), (request, "two", "cpu"))


def test_from_another_domain_the_first_stays_without_an_error(store: Store, request_of: Callable[..., Request]) -> None:
    request = request_of(kind="model", determinism="domain")

    early, late = race(store, (request, "one", "cpu"), (request, "two", "cuda"))

    assert early == late
    assert (late.payload / "a.txt").read_text() == "one"


# --- kills ---------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
recipe = Asked(stage="test.stage", stage_version=1, inputs={}, config={}, toolchain={})
with Store(Path(sys.argv[1])).draft(Request(kind="corpus", kind_version=1, recipe=recipe, determinism="bytes")) as d:
    (d.path / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_writes_leaves_nothing_listed_and_its_folder_is_swept(
    store: Store, request_of: Callable[..., Request]
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], check=False)
    left = list((store.root / "tmp").iterdir())

    assert killed.returncode == -9
    assert (len(left), store.folders()) == (1, [])
    write(store, request_of(), "whole")
    assert list((store.root / "tmp").iterdir()) == []
    assert [(path / "payload/a.txt").read_text() for path in store.folders()] == ["whole"]


def test_the_folder_of_a_living_process_is_not_swept(store: Store, request_of: Callable[..., Request]) -> None:
    parent = ProcessIdentity(
        boot_id=ProcessIdentity.current().boot_id, pid=os.getppid(), started=process_start(os.getppid()) or ""
    )
    folder = store.root / "tmp" / f"{parent.boot_id}_{parent.pid}_{parent.started}_0123abcd"
    folder.mkdir(parents=True)

    write(store, request_of(), "hello")

    assert folder.exists()


@pytest.mark.parametrize("change", [{"boot_id": "another-boot"}, {"started": "1"}])
def test_the_folder_of_an_earlier_process_with_the_same_number_is_swept(
    store: Store, request_of: Callable[..., Request], change: dict[str, str]
) -> None:
    me = {**ProcessIdentity.current().as_json(), **change}
    folder = store.root / "tmp" / f"{me['boot_id']}_{me['pid']}_{me['started']}_0123abcd"
    (folder / "artifact" / "payload").mkdir(parents=True)
    (folder / "artifact" / "payload").chmod(0o555)
    for path in [folder, *folder.rglob("*")]:  # one of another boot may be another machine's: it is given a day
        os.utime(path, (0, 0))

    write(store, request_of(), "hello")

    assert not folder.exists()


# --- finding -------------------------------------------------------------------------------------------------


def test_an_artifact_is_found_by_its_whole_reference_a_prefix_a_name_and_a_path(
    store: Store, request_of: Callable[..., Request]
) -> None:
    artifact = write(store, request_of(), "hello")
    store.tag("stories", artifact)

    for reference in (artifact.reference, artifact.short, f"corpus:{artifact.id[:4]}", "stories", str(artifact.path)):
        assert store.find(reference) == artifact, reference


def test_a_name_is_the_newest_artifacts_it_was_given_to(store: Store, request_of: Callable[..., Request]) -> None:
    one, two = (write(store, request_of({"n": n}), "hello") for n in (1, 2))
    store.tag("stories", one)
    store.tag("stories", two)

    assert store.find("stories") == two
    assert store.refs() == {"stories": two.reference}


@pytest.mark.parametrize("name", ["", "a:b", "a/b", ".hidden"])
def test_a_name_that_could_be_something_else_is_refused(
    store: Store, request_of: Callable[..., Request], name: str
) -> None:
    artifact = write(store, request_of(), "hello")

    with pytest.raises(UsageError, match="cannot be a name"):
        store.tag(name, artifact)


def test_an_ambiguous_reference_lists_the_candidates(store: Store, request_of: Callable[..., Request]) -> None:
    made = [write(store, request_of({"n": n}), "hello") for n in range(40)]
    digit = next(d for d in "0123456789abcdef" if sum(a.id.startswith(d) for a in made) > 1)
    wanted = [artifact.short for artifact in made if artifact.id.startswith(digit)]

    with pytest.raises(MissingError, match="more than one") as caught:
        store.find(f"corpus:{digit}")

    assert all(name in str(caught.value) for name in wanted)
    assert caught.value.exit_code == 66


def test_a_missing_reference_lists_what_there_is_of_its_kind(store: Store, request_of: Callable[..., Request]) -> None:
    corpus = write(store, request_of(), "hello")
    shards = write(store, request_of(kind="shards"), "hello")
    store.tag("stories", corpus)

    with pytest.raises(MissingError, match="names no artifact") as caught:
        store.find("corpus:zzz")

    assert corpus.short in str(caught.value)
    assert "stories" in str(caught.value)
    assert shards.short not in str(caught.value)


@pytest.mark.parametrize("reference", ["latest", "corpus:", "corpus", ":", "corpus:zzz", "/no/such/folder", ""])
def test_nothing_is_guessed_though_there_is_only_one_artifact(
    store: Store, request_of: Callable[..., Request], reference: str
) -> None:
    write(store, request_of(), "hello")

    with pytest.raises(MissingError):
        store.find(reference)


def test_an_input_is_found_by_its_bytes_when_another_recipe_made_them(
    store: Store, request_of: Callable[..., Request]
) -> None:
    artifact = write(store, request_of({"n": 1}), "hello")

    assert store.find_input("corpus", "0" * 64, artifact.digest) == artifact
    with pytest.raises(MissingError, match="not in the store"):
        store.find_input("corpus", artifact.id, "0" * 64)


def test_a_quarantined_artifact_is_kept_but_no_longer_listed(store: Store, request_of: Callable[..., Request]) -> None:
    artifact = write(store, request_of(), "hello")

    moved = store.quarantine("corpus", artifact.id)

    assert (moved / "payload" / "a.txt").read_text() == "hello"
    assert store.folders() == []


def test_a_derived_artifact_carries_every_licence_of_its_inputs_once(
    store: Store, request_of: Callable[..., Request]
) -> None:
    one, two = (License(source=name, license="CC-BY-4.0", attribution=f"by {name}") for name in ("one", "two"))
    made = []
    for number, licenses in enumerate([(one, two), (two,)]):
        with store.draft(request_of({"n": number}), licenses=licenses) as draft:
            pass
        made.append(draft.artifact)

    assert union_of_licenses({"a": made[0], "b": made[1]}) == (one, two)
