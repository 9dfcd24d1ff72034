"""Machinery: what a program owes its surroundings: exit codes, signals, provenance, progress."""

import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pipeline.artifacts.identity import JSON
from pipeline.errors import CairnError, StoppedError, from_os_error

T = TypeVar("T")

_RECORDED_ENVIRONMENT = (
    "CAIRN_STORE",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "RANK",
    "RAYON_NUM_THREADS",
    "TMPDIR",
    "TOKENIZERS_PARALLELISM",
    "TZ",
    "WORLD_SIZE",
)
_RECORDED_PACKAGES = ("accelerate", "datasets", "numpy", "pyarrow", "safetensors", "tokenizers", "torch")


def say(message: str) -> None:
    """Tell the person something; the log is on stderr, stdout is for the result."""
    print(message, file=sys.stderr, flush=True)


def guarded(body: Callable[[], int], *, debug: bool) -> int:
    """Run a program and return its exit code; an error becomes a sentence, with `debug` a traceback."""
    try:
        return body()
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has seen enough
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        known = as_known(error)
        say(f"error: {known}")
        return known.exit_code


def as_known(error: BaseException) -> CairnError:
    """Return the error of ours that says what `error` is: its exit code, and a sentence."""
    if isinstance(error, CairnError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error)
    if isinstance(error, KeyboardInterrupt):
        return StoppedError("stopped. Run the same command again to go on.")
    return CairnError(f"{type(error).__name__}: {error}\nThis is a bug of ours; --debug shows where it happened.")


def _stop(signum: int, frame: FrameType | None) -> None:
    raise StoppedError(f"stopped by {signal.Signals(signum).name}. Run the same command again to go on.")


def prepare_process() -> None:
    """Make SIGTERM an orderly end, stay offline, share the processor, and end with a launcher."""
    signal.signal(signal.SIGTERM, _stop)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    # Threads that wait by spinning, as is the default, make training twenty times slower as soon as anything else wants
    # a processor; threads that sleep at once make it a quarter slower when nothing does. So: a short spin, then sleep.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if "ACCELERATE_MIXED_PRECISION" in os.environ:  # by `accelerate launch`, which passes no signal on
        die_with_parent(os.getppid())


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when `parent` dies, so that no orphan goes on writing (Linux only)."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we could ask
        os.kill(os.getpid(), signal.SIGTERM)


def keep_memory() -> None:
    """Ask the C library to keep freed memory: the system's fresh pages cost more than much of what is done in them."""
    if sys.platform != "linux":
        return
    import ctypes

    m_mmap_threshold, m_trim_threshold = -3, -1
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library may lack it
    if mallopt is not None:
        mallopt(m_mmap_threshold, 2**30) or mallopt(m_mmap_threshold, 2**25)  # which is the most that older ones take
        mallopt(m_trim_threshold, 2**31 - 1)


def is_main_process() -> bool:
    """Tell whether this is rank 0 of a multi-process launch, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def version_of(package: str, parts: int | None = None) -> str:
    """Return an installed distribution's version, cut to its first `parts` numbers; "absent" when there is none."""
    from importlib import metadata

    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
    return version if parts is None else ".".join(version.split("+")[0].split(".")[:parts])


def provenance(started: float) -> JSON:
    """Describe where and when a stage ran: for people, covered by no digest; `started` is from `time.time()`."""
    environment = {name: os.environ[name] for name in _RECORDED_ENVIRONMENT if name in os.environ}
    return {
        **installation(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "command": sys.argv,
        "environment": environment,
    }


@cache
def installation() -> dict[str, JSON]:
    """Describe this machine and what is installed; as that takes a while, whoever asks early has it in time."""
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in _RECORDED_PACKAGES},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def progress(items: Iterable[T], *, total: int | None, label: str, unit: str = "it") -> Iterator[T]:
    """Yield `items` behind a progress bar; on anything but a terminal, print a line every ten seconds."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, delay=2.0, leave=False)
        return
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > 10:
            last = time.monotonic()
            say(f"{label}: {done}{f' of {total}' if total else ''} {unit}")
