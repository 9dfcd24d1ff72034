"""Shards are the encoded corpus, token for token, whatever made them."""

from typing import Any

import numpy as np
import pytest

from pipeline.arrow import read_batch, read_rows
from pipeline.artifacts.artifact import Artifact
from pipeline.encoding import TextEncoder
from pipeline.sampling import TokenStream
from pipeline.shards import token_dtype

SPLITS = ("train", "validation")


def encoded(chain: Any, split: str) -> list[list[int]]:
    """Encode the corpus anew, document by document."""
    encoder = TextEncoder.of(chain.tokenizer)
    texts = [row["text"] for path in chain.corpus.files(f"{split}-") for row in read_rows(path)]
    return [[*encoder.encode(text), encoder.end_of_text] for text in texts]


def documents(shards: Artifact, split: str) -> list[list[int]]:
    return [row["input_ids"] for path in shards.files(f"{split}-") for row in read_rows(path)]


@pytest.mark.parametrize("split", SPLITS)
def test_the_values_buffers_are_the_encoded_stream(shared_chain: Any, split: str) -> None:
    expected = [i for ids in encoded(shared_chain, split) for i in ids]

    buffers = [read_batch(path).column(0).values.to_numpy() for path in shared_chain.shards.files(f"{split}-")]

    assert np.concatenate(buffers).tolist() == expected
    stream = TokenStream(shared_chain.shards.files(f"{split}-"))
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
    )

    assert {len(read_batch(path)) for path in shards.files()} == {1}
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


def test_ids_are_as_narrow_as_the_vocabulary_allows() -> None:
    assert [token_dtype(size) for size in (262, 65_535, 65_536, 65_537, 200_000)] == ["uint16"] * 3 + ["uint32"] * 2


def test_ids_above_65535_are_kept_whole(tmp_path: Any) -> None:
    from pipeline.shards import _Part, _write_shard

    part = _Part(split="train", index=0, text=tmp_path, tokenizer=tmp_path, folder=tmp_path, shard_tokens=10)

    path = _write_shard(part, 0, [[1, 70_000], [65_536]], 100_000)

    assert [row["input_ids"] for row in read_rows(path)] == [[1, 70_000], [65_536]]
    assert str(read_batch(path).column(0).type) == "list<item: uint32>"
