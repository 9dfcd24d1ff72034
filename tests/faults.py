"""Program: kill `pipeline.run tiny` again and again at random moments, and see that nothing is lost or half there.

python tests/faults.py --kills 20 --seed 0

Every kill is SIGKILL to the run and all that it started.  After each one the store must list whole artifacts only,
each the very one of an undisturbed run; at the end all of them must be there.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
OFTEN = [
    part for step in ("pretrain", "classifier", "assistant") for part in (f"--{step}.save-steps", "25")
]  # so that a killed step goes on instead of beginning anew; in no id
ONE_THREAD = [
    part
    for step in ("pretrain", "classifier", "assistant")
    for name in (step, f"{step}_scores")
    for part in (f"--{name}.threads", "1")
]  # which a killed step and the undisturbed run must have alike; for networks as small as these one is quickest

ROUND = 5


@dataclass(frozen=True)
class Kill:
    """What was killed when, and what the store then listed."""

    seconds: float
    step: str
    listed: int

    def __str__(self) -> str:
        return f"{self.seconds:7.1f} s  {self.step:<18} {self.listed:>3} artifacts, all whole"


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def start(store: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the recipe; what it says goes to `log`."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command("pipeline.run", "tiny", *OFTEN, *ONE_THREAD),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, "CAIRN_STORE": str(store)},
        )


def finish(store: Path, log: Path) -> None:
    """Run the recipe to its end."""
    code = start(store, log).wait()
    assert code == 0, f"exit {code}: {log.read_text()[-2000:]}"


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def kill_all(run: subprocess.Popen[bytes]) -> None:
    """Kill a run and everything it started."""
    with suppress(ProcessLookupError):
        run.send_signal(signal.SIGSTOP)  # it starts nothing more while its family is counted
    for process in (members := family(run.pid)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.wait()
    psutil.wait_procs(members, timeout=10)


def asked(store: Path, *arguments: str) -> list[dict[str, str]]:
    """Return what `pipeline.artifacts … --json` says; it must find nothing wrong."""
    done = subprocess.run(
        command("pipeline.artifacts", *arguments, "--json"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CAIRN_STORE": str(store)},
    )
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr}"
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def digests(store: Path) -> dict[str, str]:
    """Return the digest of every artifact that is listed, by reference."""
    return {row["reference"]: row["digest"] for row in asked(store, "list")}


def look(store: Path, expected: dict[str, str]) -> int:
    """Check that what is listed is whole and as expected; return how many there are."""
    listed = digests(store)
    strange = {reference for reference, digest in listed.items() if expected.get(reference) != digest}
    assert not strange, f"not those of an undisturbed run: {sorted(strange)}"
    verified = asked(store, "verify")
    assert all(row["ok"] for row in verified) and {row["reference"] for row in verified} == set(listed)
    return len(listed)


def step_in(log: Path) -> str:
    """Return the step that a run was at, from what it said."""
    steps = re.findall(r"^\[\d+/\d+\] (\w+):", log.read_text(errors="replace"), re.MULTILINE)
    return steps[-1] if steps else "(starting)"


def torment(root: Path, expected: dict[str, str], *, kills: int, seed: int) -> Iterator[Kill]:
    """Kill runs `kills` times in all, in rounds of at most ROUND; each round ends as an undisturbed run would.

    In a round every kill hits another step, a random time after its beginning; the next one finds what is left.
    """
    moments = random.Random(seed)
    for number in range(0, kills, ROUND):
        store, log = root / f"store-{number}", root / "log"
        store.mkdir(parents=True)
        for step in sorted(moments.sample(range(1, len(expected) + 1), min(ROUND, kills - number))):
            begun = time.monotonic()
            run = start(store, log)
            wait_for(step, run, log)
            time.sleep(moments.uniform(0.0, 4.0))
            kill_all(run)
            yield Kill(time.monotonic() - begun, step_in(log), look(store, expected))
        finish(store, log)
        look(store, expected)
        assert digests(store) == expected, "the end is not that of an undisturbed run"


def wait_for(step: int, run: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a run is at its step number `step`."""
    while not re.search(rf"^\[{step}/", log.read_text(errors="replace"), re.MULTILINE):
        assert run.poll() is None, log.read_text()
        time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often to kill (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        begun = time.monotonic()
        finish(Path(folder, "calm"), Path(folder, "log"))
        expected = digests(Path(folder, "calm"))
        print(f"undisturbed: {len(expected)} artifacts in {time.monotonic() - begun:.0f} s", flush=True)
        try:
            kills = torment(Path(folder, "wild"), expected, kills=options.kills, seed=options.seed)
            for number, kill in enumerate(kills, 1):
                print(f"kill {number:>3}  after {kill}", flush=True)
        except AssertionError as error:
            print(f"FAILED: {error}")
            return 1
    print("every digest is that of the undisturbed run")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
