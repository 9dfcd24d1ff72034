"""Shards are the encoded corpus, token for token, whatever made them."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import shards as shards_stage
from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, StoppedError
from pipeline.loading.windows import TokenStream
from pipeline.shards import ShardsConfig, end_documents, write_lists
from pipeline.tables.arrow import read_batch
from pipeline.tokenization import agreement, engines
from pipeline.tokenization.text_encoder import TextEncoder

SPLITS = ("train", "validation")


def encoded(chain: Any, split: str) -> list[list[int]]:
    """Encode the corpus anew, document by document."""
    encoder = TextEncoder.of(chain.tokenizer)
    texts = [row["text"] for path in chain.corpus.files(f"{split}-") for row in read_batch(path).to_pylist()]
    return [[*encoder.encode(text), encoder.end_of_text] for text in texts]


def documents(shards: Artifact, split: str) -> list[list[int]]:
    return [row["input_ids"] for path in shards.files(f"{split}-") for row in read_batch(path).to_pylist()]


@pytest.mark.parametrize("split", SPLITS)
def test_the_values_buffers_are_the_encoded_stream(shared_chain: Any, split: str) -> None:
    expected = [i for ids in encoded(shared_chain, split) for i in ids]

    buffers = [read_batch(path).column(0).values.to_numpy() for path in shared_chain.shards.files(f"{split}-")]

    assert np.concatenate(buffers).tolist() == expected
    stream = TokenStream.of(shared_chain.shards, split)
    assert stream.read(0, len(stream)).tolist() == expected


@pytest.mark.parametrize("split", SPLITS)
def test_every_document_ends_with_end_of_text_and_holds_no_other(shared_chain: Any, split: str) -> None:
    end = shared_chain.shards.facts["end_of_text"]

    rows = documents(shared_chain.shards, split)

    assert len(rows) == shared_chain.corpus.facts["documents"][split]
    assert all(ids[-1] == end and end not in ids[:-1] for ids in rows)


def test_the_facts_are_those_of_the_stream_and_of_the_text(shared_chain: Any) -> None:
    facts = shared_chain.shards.facts

    assert facts["documents"] == shared_chain.corpus.facts["documents"]
    assert facts["bytes"] == shared_chain.corpus.facts["bytes"]
    assert facts["tokens"] == {split: sum(map(len, encoded(shared_chain, split))) for split in SPLITS}
    assert facts["tokenizer_digest"] == shared_chain.tokenizer.digest
    assert (facts["dtype"], facts["vocab_size"]) == ("uint16", 320)


def test_no_file_has_more_tokens_than_asked_for_and_each_is_one_batch_of_whole_documents(shared_chain: Any) -> None:
    import pyarrow as pa

    paths = shared_chain.shards.files("train-")

    assert len(paths) > len(shared_chain.corpus.files("train-")) > 1
    assert all(len(read_batch(path).column(0).values) <= 1500 for path in paths)
    assert {pa.ipc.open_file(str(path)).num_record_batches for path in paths} == {1}
    assert [path.name for path in paths] == [f"train-{i:05d}-of-{len(paths):05d}.arrow" for i in range(len(paths))]


def test_a_document_longer_than_a_file_has_one_of_its_own(chain: Any) -> None:
    shards = chain.bench.make(
        "pipeline.shards",
        "--corpus",
        chain.corpus.reference,
        "--tokenizer",
        chain.tokenizer.reference,
        "--shard-tokens",
        "10",
        "--workers",
        "1",
    )

    assert {len(read_batch(path)) for path in shards.files("train-") + shards.files("validation-")} == {1}
    assert documents(shards, "train") == documents(chain.shards, "train")


@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_the_number_of_workers_changes_no_byte(chain: Any, workers: str) -> None:
    ended = chain.bench.artifacts("reproduce", chain.shards.reference, "--workers", workers)

    assert (ended.code, ended.out.split()[0]) == (0, "MATCH")


def test_a_cut_shard_is_refused_by_arrow_itself(chain: Any, tmp_path: Any) -> None:
    import pyarrow as pa

    whole = chain.shards.files("train-")[0]
    for cut in (1, 8, 100, 1000):
        (tmp_path / "cut.arrow").write_bytes(whole.read_bytes()[:-cut])
        with pytest.raises(pa.ArrowInvalid):
            read_batch(tmp_path / "cut.arrow")


def test_ids_above_65535_are_kept_whole(tmp_path: Path) -> None:
    values = np.array([1, 70_000, 7, 65_536, 7], dtype=np.uint32)

    write_lists(tmp_path / "wide.arrow", {"input_ids": (values, np.array([0, 3, 5]))})

    assert [row["input_ids"] for row in read_batch(tmp_path / "wide.arrow").to_pylist()] == [
        [1, 70_000, 7],
        [65_536, 7],
    ]
    assert str(read_batch(tmp_path / "wide.arrow").column(0).type) == "list<item: uint32>"


@given(lengths=st.lists(st.integers(0, 5), max_size=30))
def test_every_document_of_the_stream_is_followed_by_the_end_of_text(lengths: list[int]) -> None:
    values = np.arange(sum(lengths), dtype=np.uint16)

    stream = end_documents(values, np.array(lengths, dtype=np.int64), 999)

    documents = np.split(values, np.cumsum(lengths)[:-1]) if lengths else []
    assert stream.tolist() == [i for ids in documents for i in [*ids.tolist(), 999]]
    assert stream.dtype == np.uint16


@pytest.mark.parametrize("split", SPLITS)
def test_the_index_has_the_tokens_and_documents_of_each_file(shared_chain: Any, split: str) -> None:
    shards = shared_chain.shards

    found = [
        [path.name, len(read_batch(path).column(0).values), len(read_batch(path))] for path in shards.files(f"{split}-")
    ]

    assert shards.read_json("index.json")[split] == found
    assert set(shards.read_json("index.json")) == set(SPLITS)


# --- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"shard_tokens": 1}, "shard_tokens must be from 2 to"),
        ({"shard_tokens": 2**31}, "shard_tokens must be from 2 to"),
        ({"context_length": 8}, "context_length is for layout packed"),
        ({"layout": "packed"}, "context_length must be at least 1"),
        ({"layout": "packed", "context_length": 0}, "context_length must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ShardsConfig(**settings)


# --- engines -------------------------------------------------------------------------------------------------


PACKED = ("--layout", "packed", "--context-length", "64")


@pytest.fixture
def remake(chain: Any, make_bench: Callable[[Path], Any], tmp_path: Path) -> Callable[..., Any]:
    """Run the stage in a store that has no shards yet: remake("--encoder", "tiktoken")."""
    bare = make_bench(tmp_path / "bare")
    for artifact in (chain.corpus, chain.tokenizer):
        shutil.copytree(artifact.path, bare.store.root / artifact.kind / artifact.id)
    inputs = ("--corpus", chain.corpus.reference, "--tokenizer", chain.tokenizer.reference, "--shard-tokens", "1500")

    def remake(*arguments: str) -> Any:
        ended = bare("pipeline.shards", *inputs, *arguments, "--workers", "1")
        made = bare.store.find(ended.out.strip()) if ended.code == 0 else None
        return ended, made

    return remake


@pytest.mark.parametrize("encoder", ["tokenizers", "tiktoken", "gigatoken"])
def test_the_engine_changes_no_byte(chain: Any, packed: Artifact, remake: Callable[..., Any], encoder: str) -> None:
    _, stream = remake("--encoder", encoder)
    _, windows = remake("--encoder", encoder, *PACKED)

    assert (stream.digest, windows.digest) == (chain.shards.digest, packed.digest)
    assert json.loads((stream.record / "encoder.json").read_text()) == {"engines": [encoder], "refused": {}}


def test_an_engine_that_differs_in_one_part_only_writes_nothing(
    chain: Any, remake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(engines.ReferenceEncoder):
        name = "gigatoken"

        def encode_documents(self, documents: Any) -> tuple[Any, Any]:
            texts = documents if isinstance(documents, list) else documents.to_pylist()
            return super().encode_documents([text.replace("Story 17:", "Storm 17:") for text in texts])

    monkeypatch.setattr(engines, "_open_fast", lambda folder, name: Wrong(folder))
    monkeypatch.setattr(agreement, "_SAMPLE_DOCUMENTS", 1000)

    ended, made = remake()

    assert made.digest == chain.shards.digest
    assert "gigatoken is not used: its ids differ from those of tokenizers in 'Story 17:" in ended.err
    assert "everything is encoded with tokenizers instead" in ended.err
    about = json.loads((made.record / "encoder.json").read_text())
    assert about["engines"] == ["tokenizers"] and "Story 17:" in about["refused"]["gigatoken"]


def test_an_engine_that_cannot_do_the_tokenizer_leaves_it_to_the_next(
    chain: Any, remake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_fast = engines._open_fast

    def open_some(folder: Path, name: str) -> Any:
        if name == "gigatoken":
            raise engines.UnsuitableError("no such pattern")
        return open_fast(folder, name)

    monkeypatch.setattr(engines, "_open_fast", open_some)

    ended, made = remake()

    assert made.digest == chain.shards.digest
    assert "gigatoken is not used: no such pattern" in ended.err
    assert json.loads((made.record / "encoder.json").read_text()) == {
        "engines": ["tiktoken"],
        "refused": {"gigatoken": "no such pattern"},
    }


def test_a_machine_without_an_engine_takes_the_next_and_its_parts_count(
    chain: Any, remake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_stage, "engines_for", lambda asked: ("no_such_engine", "tiktoken", "tokenizers"))

    ended, made = remake()

    assert made.digest == chain.shards.digest
    assert "no_such_engine is not used: it is not installed on every machine" in ended.err


def test_an_engine_that_is_not_installed_is_named_with_the_command_that_installs_it(
    remake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)

    ended, _ = remake("--encoder", "gigatoken")

    assert ended.code == 69
    assert 'python -m pip install "cairn-lm[fast]"' in ended.err


def test_a_finished_part_is_not_encoded_again(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--corpus", chain.corpus.reference, "--tokenizer", chain.tokenizer.reference, "--shard-tokens", "999"]
    encode, done = shards_stage.encode_part, []

    def encode_some(part: Any, out: Path) -> dict[str, Any]:
        if len(done) == 2:
            raise StoppedError("stopped")
        done.append(part.text)
        return encode(part, out)

    monkeypatch.setattr(shards_stage, "encode_part", encode_some)
    stopped = chain.bench("pipeline.shards", *arguments, "--workers", "1")
    monkeypatch.setattr(shards_stage, "encode_part", lambda part, out: done.append(part.text) or encode(part, out))
    ended = chain.bench("pipeline.shards", *arguments, "--workers", "1")

    parts = [path for split in SPLITS for path in chain.corpus.files(f"{split}-")]
    assert (stopped.code, ended.code) == (75, 0)
    assert done == parts and len(parts) > 3


# --- packed --------------------------------------------------------------------------------------------------

WINDOW = 65


@pytest.fixture
def packed(chain: Any) -> Artifact:
    """Shards of the chain's corpus in windows of 64 + 1 ids, some documents longer."""
    inputs = ["--corpus", chain.corpus.reference, "--tokenizer", chain.tokenizer.reference, "--shard-tokens", "1500"]
    made: Artifact = chain.bench.make("pipeline.shards", *inputs, *PACKED, "--workers", "1")
    return made


def pieces_of(shards: Artifact, split: str) -> list[list[int]]:
    """Return what lies between the starts that the rows state, in order."""
    pieces = []
    for path in shards.files(f"{split}-"):
        for row in read_batch(path).to_pylist():
            starts = [*row["document_starts"], len(row["input_ids"])]
            pieces += [row["input_ids"][a:b] for a, b in pairwise(starts)]
    return pieces


@pytest.mark.parametrize("split", SPLITS)
def test_packed_windows_hold_every_document_once_and_whole_unless_it_is_longer(
    chain: Any, packed: Artifact, split: str
) -> None:
    pad = packed.facts["pad"]
    pieces = [piece for piece in pieces_of(packed, split) if piece[0] != pad]

    expected = []
    for ids in encoded(chain, split):
        expected += [ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW)]

    assert sorted(pieces) == sorted(expected)
    assert pad not in {i for piece in pieces for i in piece}


@pytest.mark.parametrize("split", SPLITS)
def test_the_facts_of_packed_shards_add_up(chain: Any, packed: Artifact, split: str) -> None:
    facts = {name: value[split] for name, value in packed.facts.items() if isinstance(value, dict)}
    ids = encoded(chain, split)
    rows = [row for path in packed.files(f"{split}-") for row in read_batch(path).to_pylist()]
    padding = sum(row["input_ids"].count(packed.facts["pad"]) for row in rows)

    assert (packed.facts["layout"], packed.facts["context_length"]) == ("packed", WINDOW - 1)
    assert {len(row["input_ids"]) for row in rows} == {WINDOW}
    assert all(row["document_starts"][0] == 0 for row in rows)
    assert facts["documents"] == len(ids) == sum(entry[2] for entry in packed.read_json("index.json")[split])
    assert facts["tokens"] == sum(map(len, ids)) == len(rows) * WINDOW - padding
    assert (facts["windows"], facts["padding"]) == (len(rows), padding)
    assert len(rows) * WINDOW == sum(entry[1] for entry in packed.read_json("index.json")[split])
    assert facts["cuts"] == sum((len(one) - 1) // WINDOW for one in ids)
    assert facts["cut_documents"] == sum(len(one) > WINDOW for one in ids)


def test_padding_is_the_last_piece_of_its_window(packed: Artifact) -> None:
    pad = packed.facts["pad"]
    padded = 0
    for path in packed.files("train-"):
        for row in read_batch(path).to_pylist():
            text = [i for i in row["input_ids"] if i != pad]
            assert row["input_ids"] == text + [pad] * (WINDOW - len(text))
            assert (len(text) == WINDOW) or row["document_starts"][-1] == len(text)
            padded += len(text) < WINDOW
    assert padded > 0


def test_packed_files_are_no_larger_than_asked_for_and_of_narrow_types(packed: Artifact) -> None:
    for path in packed.files("train-"):
        batch = read_batch(path)
        assert len(batch.column("input_ids").values) <= 1500
        assert [str(column.type) for column in batch.columns] == ["list<item: uint16>"] * 2


def test_a_window_longer_than_a_file_has_a_file_of_its_own(chain: Any) -> None:
    inputs = ["--corpus", chain.corpus.reference, "--tokenizer", chain.tokenizer.reference, "--workers", "1"]

    made = chain.bench.make(
        "pipeline.shards", *inputs, "--layout", "packed", "--context-length", "5000", "--shard-tokens", "100"
    )

    assert {len(read_batch(path)) for path in made.files("train-")} == {1}
    assert made.facts["cuts"]["train"] == 0


def test_the_number_of_workers_changes_no_byte_of_packed_shards(chain: Any, packed: Artifact) -> None:
    ended = chain.bench.artifacts("reproduce", packed.reference, "--workers", "2")

    assert (ended.code, ended.out.split()[0]) == (0, "MATCH")
