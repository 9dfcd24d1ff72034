"""Precision, threads, the determinism domain, and launches that are refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import train.launch as launching
from pipeline.errors import UsageError
from train.launch import Launch, launch, processor, processor_flags, resolve_precision


def test_one_process_is_the_main_one_and_its_domain_says_how_it_computes(started: Launch) -> None:
    assert (started.rank, started.world_size, started.is_main) == (0, 1, True)
    assert started.domain["threads"] == torch.get_num_threads() == 1
    assert started.domain["precision"] == "fp32" and started.domain["world_size"] == 1
    assert started.domain["torch"] == torch.__version__.partition("+")[0]
    assert json.loads(json.dumps(started.domain)) == started.domain


@pytest.mark.parametrize("flags, chosen", [({"avx2"}, "fp32"), ({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16")])
def test_auto_is_bf16_where_the_processor_computes_in_it(
    flags: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(launching, "processor_flags", lambda: flags)
    assert resolve_precision("auto") == chosen
    assert resolve_precision("fp32") == "fp32" and resolve_precision("bf16") == "bf16"


def test_what_auto_came_to_does_not_change_in_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(launching, "processor_flags", lambda: {"amx_bf16"})
    assert launching._frozen_precision("auto", tmp_path) == "bf16"
    monkeypatch.setattr(launching, "processor_flags", lambda: {"avx2"})
    assert launching._frozen_precision("auto", tmp_path) == "bf16"
    assert launching._frozen_precision("auto", None) == "fp32"


def test_a_launcher_that_would_start_one_process_of_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"accelerate launch --multi_gpu --num_processes N -m train\.classify"):
        launch(precision="fp32", threads=1, micro_batch_size=1, program="train.classify")


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="speaks of 2 processes and 1 found each other"):
        launch(precision="fp32", threads=1, micro_batch_size=1, program="train.pretrain")


def test_a_second_run_in_one_process_may_have_another_precision(started: Launch) -> None:
    again = launch(precision="bf16", threads=1, micro_batch_size=4, program="train.pretrain")
    assert (started.domain["precision"], again.domain["precision"]) == ("fp32", "bf16")
    assert again.accelerator.mixed_precision == "bf16"


def test_the_processor_is_named_with_what_moves_a_rounding() -> None:
    name = processor(has_gpu=False)
    assert torch.backends.cpu.get_cpu_capability() in name
    assert processor_flags() <= set(name.split())
