"""Pretraining on a mixture, on packed windows and with a document mask, from the command line to the evaluation."""

import contextlib
import importlib
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.open import open_model
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
from pipeline.errors import ConfigError
from pipeline.loading.mixture import Mixture
from pipeline.loading.packed_windows import PackedWindows
from pipeline.tables.arrow import write_batch
from train.data import WindowData
from train.objectives import logits_of
from train.pretrain import PretrainConfig

LENGTH = 16
SMALL = ["--model.context-length", str(LENGTH), "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "16"]
SMALL += ["--global-batch-tokens", str(10 * LENGTH), "--precision", "fp32", "--threads", "1", "--max-steps", "3"]


@pytest.fixture
def store(tiny: Any, tmp_path: Path) -> Store:
    """A store with tiny's tokenizer and shards."""
    for kind in ("tokenizer", "shards"):
        shutil.copytree(tiny.store.root / kind, tmp_path / "store" / kind)
    return Store(tmp_path / "store")


@pytest.fixture
def program(store: Store) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run a stage in this process and in that store: program("train.pretrain", …) -> code, stdout, stderr."""
    environment, handler, threads = dict(os.environ), signal.getsignal(signal.SIGTERM), torch.get_num_threads()

    def run(module: str, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = importlib.import_module(module).main([*arguments, "--store", str(store.root)])
        return code, out.getvalue(), err.getvalue()

    yield run
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def make(program: Any, store: Store) -> Callable[..., Artifact]:
    """Run a stage that must succeed, and open what it published."""

    def run(module: str, *arguments: str) -> Artifact:
        code, out, err = program(module, *arguments)
        assert code == 0, err
        return store.find(out.strip())

    return run


def publish(store: Store, tokenizer: Artifact, seed: int, layout: str = "stream", **facts: Any) -> Artifact:
    """Publish shards of random documents: a stream, or windows that two documents and some padding share."""
    end, pad = tokenizer.facts["vocab_size"] - 6, tokenizer.facts["vocab_size"] - 5
    recipe = Asked(
        stage="test.shards", stage_version=1, inputs={"tokenizer": tokenizer.name}, config={"n": seed}, toolchain={}
    )
    rng = np.random.default_rng(seed)
    index: dict[str, Any] = {}
    with store.draft(Request(kind="shards", kind_version=1, recipe=recipe, determinism="bytes")) as draft:
        for split, documents in (("train", 80), ("validation", 10)):
            lengths = rng.integers(3, 8, size=(documents // 2, 2))
            rows = [[*rng.integers(0, end, size=n).tolist(), end] for n in lengths.ravel()]
            starts = [[0, len(one), len(one) + len(two)] for one, two in zip(rows[::2], rows[1::2], strict=True)]
            if layout == "packed":
                pairs = zip(rows[::2], rows[1::2], strict=True)
                rows = [[*one, *two, *[pad] * (LENGTH + 1 - len(one) - len(two))] for one, two in pairs]
            columns = {"input_ids": pa.array(rows, type=pa.list_(pa.uint16()))}
            if layout == "packed":
                columns["document_starts"] = pa.array(starts, type=pa.list_(pa.uint16()))
            write_batch(draft.path / f"{split}-00000-of-00001.arrow", pa.record_batch(columns))
            index[split] = [[f"{split}-00000-of-00001.arrow", sum(map(len, rows)), documents]]
        (draft.path / "index.json").write_text(json.dumps(index))
        draft.fact(documents={"train": 80, "validation": 10}, tokens={split: index[split][0][1] for split in index})
        draft.fact(**{"layout": layout, "end_of_text": end, "tokenizer_digest": tokenizer.digest, **facts})
        if layout == "packed":
            draft.fact(context_length=LENGTH, pad=pad)
    return draft.artifact


def orders(model: Artifact) -> list[list[int]]:
    return [json.loads(line)["samples"] for line in (model.record / "order.jsonl").read_text().splitlines()]


def test_a_mixture_trains_on_the_shares_asked_for_and_is_scored_on_all_of_it(
    tiny: Any, store: Store, make: Callable[..., Artifact]
) -> None:
    first, second = tiny["shards"], publish(store, tiny["tokenizer"], 1)
    references = [first.reference, second.reference]

    model = make(
        "train.pretrain", "--shards", *references, "--weights", "0.7", "0.3", *SMALL, "--log-samples", "--seed", "5"
    )
    scores = make("train.evaluate", model.reference)

    sizes = WindowData.training([first, second], LENGTH).sizes
    assert orders(model) == Mixture(sizes, (7, 3), 5).at(0, 30).reshape(3, 10).tolist()
    assert [sum(sample < sizes[0] for sample in step) for step in orders(model)] == [7, 7, 7]
    inputs = model.manifest.recipe.inputs
    assert {name: inputs[name].id for name in ("shards", "shards.2")} == {"shards": first.id, "shards.2": second.id}
    assert inputs["tokenizer"].id == tiny["tokenizer"].id
    assert set(scores.manifest.recipe.inputs) == {"model", "shards", "shards.2"}
    page = scores.read_json("metrics.json")
    assert page["scores"]["loss"] == pytest.approx(model.facts["validation"]["loss"], rel=1e-5)
    tokens = {one.short: one.facts["tokens"]["validation"] - 1 for one in (first, second)}
    mean = sum(page["by_shards"][name]["loss"] * n for name, n in tokens.items()) / sum(tokens.values())
    assert page["scores"]["loss"] == pytest.approx(mean, rel=1e-5), "every token counts alike"


def test_without_weights_several_shard_sets_are_one(tiny: Any, store: Store, make: Callable[..., Artifact]) -> None:
    one, two = publish(store, tiny["tokenizer"], 1), publish(store, tiny["tokenizer"], 2)
    samples = len(WindowData.training([one, two], LENGTH))
    size = [*SMALL[:-2], "--epochs", "1"]

    model = make("train.pretrain", "--shards", one.reference, two.reference, *size, "--log-samples")

    seen = [sample for step in orders(model) for sample in step]
    assert sorted(seen[:samples]) == list(range(samples))


@pytest.mark.parametrize("layout", ["stream", "packed"])
def test_a_model_trained_with_a_document_mask_is_scored_with_it(
    tiny: Any, store: Store, make: Callable[..., Artifact], layout: str
) -> None:
    shards = publish(store, tiny["tokenizer"], 3, layout)
    one, other = (
        make("train.pretrain", "--shards", shards.reference, *SMALL, *flag) for flag in (["--document-mask"], [])
    )

    scores = make("train.evaluate", one.reference)

    assert one.facts["document_mask"] is True and "document_mask" not in other.facts
    assert one.facts["validation"] != other.facts["validation"]
    assert scores.facts["scores"]["loss"] == pytest.approx(one.facts["validation"]["loss"], rel=1e-5)
    if layout == "packed":
        assert one.facts["tokens"] == targets_of_first(shards, 30)


def targets_of_first(shards: Artifact, count: int) -> int:
    """Count the tokens that are no padding and not the first of their row, in the first samples of the order."""
    from pipeline.loading.order import Order

    windows = PackedWindows(shards, "train")
    rows = windows.gather(Order(len(windows), 0).at(0, count))
    return int((rows[:, 1:] >= 0).sum())


@torch.inference_mode()
def test_a_document_in_a_window_has_the_logits_it_has_alone_after_its_end_of_text(tiny: Any, store: Store) -> None:
    shards = publish(store, tiny["tokenizer"], 4)
    module, _ = open_model(tiny["pretrain"])
    batch = WindowData.training([shards], LENGTH, document_mask=True).batch(np.arange(4))

    together = logits_of(module, batch)

    for row, documents, logits in zip(batch["input_ids"], batch["document_ids"], together, strict=True):
        for document in documents.unique():
            here = documents == document
            torch.testing.assert_close(module(row[here][None])[0], logits[here], rtol=1e-3, atol=1e-3)


def test_shards_of_two_tokenizers_are_refused_with_both_names(tiny: Any, store: Store, program: Any) -> None:
    one = publish(store, tiny["tokenizer"], 1)
    other = publish(store, tiny["tokenizer"], 2, tokenizer_digest="f" * 64)

    code, _, err = program("train.pretrain", "--shards", one.reference, other.reference, *SMALL)

    assert (code, f"{one.short} and {other.short} were made with different tokenizers" in err) == (78, True)


def test_as_many_weights_as_shard_sets_are_wanted(tiny: Any, store: Store, program: Any) -> None:
    flags = ("--shards", tiny["shards"].reference, "--weights", "0.5", "0.5")

    code, _, err = program("train.pretrain", *flags, *SMALL)

    assert (code, "pretrain.weights has 2 values for 1 shard set" in err) == (78, True)
    with pytest.raises(ConfigError, match="weights must be positive numbers"):
        PretrainConfig(weights=(0.5, -0.5))
