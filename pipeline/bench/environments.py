"""Machinery: the peers' own virtual environments, from pinned lists: some break each other's dependencies, or ours."""

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.errors import UnavailableError
from pipeline.runtime.console import say

Run: TypeAlias = Callable[[Sequence[str]], str | None]
"""runs a command and returns why it failed, or None"""

_TORCH = "torch"
_DONE = "complete"


@dataclass(frozen=True)
class Environment:
    """A name and everything that is in it, with versions."""

    name: str
    pins: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name this list for this Python: an environment is made again when either changes."""
        what = "\n".join([self.name, platform.python_version(), platform.machine(), *self.pins])
        return hashlib.sha256(what.encode("utf-8")).hexdigest()[:12]


def _environment(name: str, pins: str) -> Environment:
    return Environment(name, tuple(pins.split()))


NANOGPT = _environment(
    "nanogpt",
    """
    anyio==4.16.0 certifi==2026.10.18 charset-normalizer==3.5.2 click==8.5.1 datasets==5.2.0 dill==0.4.1
    filelock==4.2.11 fsspec==2026.9.0 h11==0.16.0 hf-xet==1.8.0 httpcore2==2.16.2 httpx2==2.16.2
    huggingface_hub==2.4.0 idna==3.20 Jinja2==3.1.6 MarkupSafe==3.0.4 mpmath==1.3.0 multiprocess==0.70.19
    networkx==3.6.1 numpy==2.4.6 packaging==26.3 pandas==3.1.1 pyarrow==26.0.1 python-dateutil==4.0.0
    PyYAML==6.0.3 regex==2026.11.15 requests==2.34.2 sympy==1.14.0 tiktoken==0.14.0 tokenizers==0.23.3
    torch==2.13.0 tqdm==4.70.1 truststore==0.10.5 typing_extensions==4.16.0 tzdata==2026.6 urllib3==2.8.0
    xxhash==4.1.0
    """,
)
"""what nanoGPT prepares its data and draws its batches with; `datasets` and `tokenizers` are measured here too"""
DATATROVE = _environment(
    "datatrove",
    """
    anyio==4.16.0 click==8.5.1 datatrove==0.10.1 dill==0.4.1 filelock==4.2.11 fsspec==2026.9.0 h11==0.16.0
    hf-xet==1.8.0 httpcore2==2.16.2 httpx2==2.16.2 huggingface_hub==2.4.0 humanize==4.17.0 idna==3.20
    loguru==0.7.3 multiprocess==0.70.19 numpy==2.4.6 orjson==3.13.0 packaging==26.3 PyYAML==6.0.3
    tokenizers==0.23.3 tqdm==4.70.1 truststore==0.10.5 typing_extensions==4.16.0
    """,
)
LITDATA = _environment(
    "litdata",  # without its torchvision, which is built for another torch and not used for tokens
    """
    boto3==1.44.5 botocore==1.44.5 certifi==2026.10.18 charset-normalizer==3.5.2 filelock==4.2.11
    fsspec==2026.9.0 idna==3.20 Jinja2==3.1.6 jmespath==1.1.0 lightning-utilities==0.15.3 litdata==0.2.76
    MarkupSafe==3.0.4 mpmath==1.3.0 networkx==3.6.1 numpy==2.4.6 obstore==0.12.1 packaging==26.3
    pillow==13.0.0 python-dateutil==2.9.0.post0 requests==2.34.2 s3transfer==0.19.3 six==1.17.0 sympy==1.14.0
    tifffile==2026.3.3 torch==2.13.0 typing_extensions==4.16.0 urllib3==2.8.0
    """,
)
STREAMING = _environment(
    "streaming",  # without torchvision and the clients of clouds, none of which it uses for local tokens
    """
    boto3==1.44.5 botocore==1.44.5 brotli==1.2.1 catalogue==2.0.10 certifi==2026.10.18
    charset-normalizer==3.5.2 cramjam==2.14.0 filelock==4.2.11 fsspec==2026.9.0 hf-xet==1.8.0
    huggingface_hub==0.36.2 idna==3.20 Jinja2==3.1.6 jmespath==1.1.0 MarkupSafe==3.0.4
    mosaicml-streaming==0.13.0 mpmath==1.3.0 networkx==3.6.1 numpy==2.1.3 packaging==26.3 pillow==13.0.0
    python-dateutil==2.9.0.post0 python-snappy==0.7.3 PyYAML==6.0.3 regex==2026.11.15 requests==2.34.2
    s3transfer==0.19.3 safetensors==0.8.0 six==1.17.0 sympy==1.14.0 tokenizers==0.22.2 torch==2.13.0
    tqdm==4.70.1 transformers==4.57.6 typing_extensions==4.16.0 urllib3==2.8.0 xxhash==3.8.2 zstd==1.5.7.2
    """,
)
ENVIRONMENTS = (NANOGPT, DATATROVE, LITDATA, STREAMING)


def python_of(environment: Environment, folder: Path, run: Run | None = None) -> Path:
    """Return the Python of an environment below `folder`, which is made if it is not there whole."""
    home = folder / f"{environment.name}-{environment.key}"
    python = home / "bin" / "python"
    if (home / _DONE).exists():
        return python
    say(f"making the environment {environment.name} in {home}")
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    for command in _commands(environment, home, python):
        if (why := (run or _run)(command)) is not None:
            raise UnavailableError(
                f"the environment of {environment.name} could not be made.\n  {' '.join(command)}\n  {why}"
            )
    (home / _DONE).touch()
    return python


def _commands(environment: Environment, home: Path, python: Path) -> list[list[str]]:
    """Return what makes an environment: the list is whole, so nothing is resolved but what this machine's torch needs.

    Which torch that is (for processors, or for one CUDA or another), pip's own settings say, such as
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
    """
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = [pin for pin in environment.pins if pin.startswith(f"{_TORCH}==")]
    others = [pin for pin in environment.pins if pin not in torch]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "--no-deps", *others],
        *([[*pip, *torch]] if torch else []),
    ]


def _run(command: Sequence[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
