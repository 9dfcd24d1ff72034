"""Machinery: provenance: where, when and with which versions something was made."""

import os
import platform
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from pipeline.runtime.hashing import JSON

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
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
