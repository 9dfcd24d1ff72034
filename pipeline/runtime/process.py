"""Machinery: signals, threads and memory of this process, and its end with its parent's."""

import gc
import os
import signal
import sys
from types import FrameType

from pipeline.errors import StoppedError


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
    # Importing torch makes a million objects that stay; looking through them for garbage is a sixth of its time.
    gc.set_threshold(50_000)
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
