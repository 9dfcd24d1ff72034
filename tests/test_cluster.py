"""The same corpus, byte for byte, from a pool, a Ray cluster whose workers are killed, a job array, and after kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.runtime.provenance import version_of

ROOT = Path(__file__).parent.parent
STEPS = ("line_ends", "unicode", "length:min_words=3", "exact_paragraphs", "near_duplicates")
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
cluster.add_node(**small)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some files with repeated and nearly repeated stories."""
    folder = tmp_path_factory.mktemp("text")
    draw = random.Random(5)
    words = [f"w{i}" for i in range(3000)]
    stories = [draw.choices(words, k=draw.randrange(40, 200)) for _ in range(600)]
    for number in range(12):
        rows = []
        for _ in range(100):
            story = list(draw.choice(stories))
            if draw.random() < 0.5:
                story[draw.randrange(len(story))] = "changed"
            rows.append(json.dumps({"text": " ".join(story[:30]) + "\n\n" + " ".join(story[30:])}))
        (folder / f"{number:02d}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def command(text: Path, store: Path, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "pipeline.corpus", "--source", str(text), "--part-bytes", "30000"]
    return [*program, "--clean", *STEPS, "--store", str(store), "--json", *arguments]


def make(text: Path, store: Path, *arguments: str, **environment: str) -> Artifact:
    done = subprocess.run(
        command(text, store, *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return Store(store).find(json.loads(done.stdout)["reference"])


@pytest.fixture(scope="module")
def undisturbed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The corpus as one process makes it; every step found something to do."""
    artifact = make(text, tmp_path_factory.mktemp("alone") / "store", "--workers", "1")
    table = {row["step"]: row for row in json.loads(artifact.file("steps.json").read_text())}
    assert table["exact_paragraphs"]["changed"] or table["exact_paragraphs"]["rejected"]
    assert table["near_duplicates"]["rejected"]
    return artifact


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes on this machine."""
    if version_of("ray") == "absent":
        pytest.skip("ray is not installed")
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    ) as process:
        assert process.stdin and process.stdout
        address = next(line for line in process.stdout if ":" in line and "/" not in line).strip()
        yield address
        process.stdin.close()


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_makes_the_same_bytes_also_when_workers_are_killed(
    text: Path, undisturbed: Artifact, cluster: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run = subprocess.Popen(
        command(text, store, "--engine", "ray"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": cluster},
    )
    killed: set[int] = set()
    while run.poll() is None:
        found = psutil.process_iter(["pid", "cmdline"])
        busy = [p for p in found if "ray::_make_output" in "".join(p.info["cmdline"] or [])]
        if len(killed) < 3 and busy and busy[0].pid not in killed:
            killed.add(busy[0].pid)
            busy[0].send_signal(signal.SIGKILL)
        time.sleep(0.02)
    out, err = run.communicate()

    assert run.returncode == 0, err
    assert killed, "the run was over before a worker could be killed"
    assert Store(store).find(json.loads(out)["reference"]).digest == undisturbed.digest


def test_a_job_array_of_five_makes_the_same_bytes(text: Path, undisturbed: Artifact, tmp_path: Path) -> None:
    store = tmp_path / "store"
    array = ("--workers", "1", "--num-tasks", "5", "--task-index")
    others = [
        subprocess.Popen(command(text, store, *array, str(i)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in (4, 3, 2, 1)
    ]

    artifact = make(text, store, *array, "0")

    for process in others:
        process.communicate(timeout=100)
    assert [process.returncode for process in others] == [0, 0, 0, 0]
    assert artifact.digest == undisturbed.digest
    assert not (store / "runs" / artifact.id).exists()


def test_a_lone_task_of_a_job_array_does_the_work_of_the_missing_ones(
    text: Path, undisturbed: Artifact, tmp_path: Path
) -> None:
    array = ("--num-tasks", "3", "--task-index", "0", "--patience-seconds", "0", "--workers", "2")

    assert make(text, tmp_path / "store", *array).digest == undisturbed.digest


@pytest.mark.slow
def test_a_corpus_killed_ten_times_ends_in_the_same_bytes_and_redoes_no_finished_part(
    text: Path, undisturbed: Artifact, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    draw = random.Random(1)
    finished: dict[Path, int] = {}
    kills = 0
    while kills < 10:
        process = subprocess.Popen(
            command(text, store, "--workers", "2"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        before = len(finished)
        deadline = time.monotonic() + 60
        while len(_finished(store)) <= before + draw.randrange(3) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        now = _finished(store)
        assert {path: now[path] for path in finished} == finished, "a finished part was made again"
        finished = now

    artifact = make(text, store, "--workers", "2")

    assert kills == 10
    assert artifact.digest == undisturbed.digest
    assert not list(store.glob("runs/*"))


def _finished(store: Path) -> dict[Path, int]:
    """Return the finished parts and when their results were written."""
    found = {}
    for path in store.glob("runs/*/work/*/[0-9]*/result.json"):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # published meanwhile
            continue
    return found


@pytest.mark.parametrize("workers", ["2", "3"])
def test_the_number_of_workers_changes_no_byte(text: Path, undisturbed: Artifact, tmp_path: Path, workers: str) -> None:
    assert make(text, tmp_path / "store", "--workers", workers).digest == undisturbed.digest


def test_without_a_cluster_at_the_address_a_run_ends_with_69(text: Path, tmp_path: Path) -> None:
    if version_of("ray") == "absent":
        pytest.skip("ray is not installed")
    done = subprocess.run(
        command(text, tmp_path / "store", "--engine", "ray"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
    )

    assert done.returncode == 69
    assert "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_reproduce_matches_on_every_engine(
    text: Path, undisturbed: Artifact, cluster: str, program: Callable[..., object]
) -> None:
    """`artifacts reproduce` takes the Execution fields that matter to a person: workers and engine."""
    store = undisturbed.path.parent.parent
    for arguments in (("--workers", "3"), ("--engine", "ray")):
        done = program(
            "-m", "pipeline.artifacts", "reproduce", undisturbed.reference, *arguments, store=store, RAY_ADDRESS=cluster
        )
        assert done.code == 0 and done.out.startswith("MATCH"), done  # type: ignore[attr-defined]
