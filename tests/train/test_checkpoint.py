"""A checkpoint comes back as it was, becomes visible all at once, and a damaged one is never used."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from train.checkpoint import Checkpoints, TrainerState, read_lines


def state(step: int) -> TrainerState:
    return TrainerState(step=step, samples=8 * step, tokens=100 * step, seconds=1.5, domains=({"threads": 1},))


def tensors(step: int) -> dict[str, Tensor]:
    return {"weight": torch.full((3, 2), float(step)), "half": torch.tensor([step], dtype=torch.bfloat16)}


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(state(step), tensors(step), {"weight.step": torch.tensor(float(step))})


def newest_step(checkpoints: Checkpoints) -> int | None:
    found = checkpoints.load_newest()
    return found[0].step if found else None


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, keep=2)


def test_a_checkpoint_comes_back_as_it_was(checkpoints: Checkpoints) -> None:
    save(checkpoints, 7)
    found = checkpoints.load_newest()
    assert found is not None
    assert found[0] == state(7)
    assert found[1].keys() == tensors(7).keys()
    assert all(torch.equal(found[1][k], v) and found[1][k].dtype == v.dtype for k, v in tensors(7).items())
    assert found[2]["weight.step"] == 7


def test_there_is_nothing_to_go_on_from_at_first(checkpoints: Checkpoints) -> None:
    assert checkpoints.load_newest() is None


def test_the_newest_is_found_by_its_step_and_the_oldest_go(checkpoints: Checkpoints) -> None:
    save(checkpoints, 9, 10, 100, 11)
    assert newest_step(checkpoints) == 100
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-00000011", "step-00000100"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_newest_gives_way_to_the_one_before(
    checkpoints: Checkpoints, name: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    save(checkpoints, 1, 2)
    path = checkpoints.folder / "step-00000002" / name
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:30] + bytes([content[30] ^ 4]) + content[31:])
    elif damage == "cut":
        path.write_bytes(content[:-1] if name != "trainer.json" else content[:-3])
    else:
        path.unlink()
    assert newest_step(checkpoints) == 1
    assert "step-00000002 is damaged" in capfd.readouterr().err


def test_when_all_are_damaged_the_run_begins_anew(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, 2)
    for path in checkpoints.folder.glob("*/trainer.json"):
        path.write_text("{}")
    assert checkpoints.load_newest() is None


@pytest.mark.parametrize("broken", ["os.rename", "safetensors.torch.save_file", "train.checkpoint.sync_tree"])
def test_a_checkpoint_cut_off_while_it_is_written_is_never_seen(
    checkpoints: Checkpoints, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 1, 2)

    def die(*_: object) -> None:
        raise InterruptedError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(broken, die)
        with pytest.raises(InterruptedError):
            save(checkpoints, 3)
    assert newest_step(checkpoints) == 2
    assert sorted(checkpoints.folder.glob("step-*")) == [checkpoints.folder / f"step-0000000{i}" for i in (1, 2)]
    save(checkpoints, 3)
    assert newest_step(checkpoints) == 3


def test_the_old_ones_go_only_when_the_new_one_is_there(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    remove = __import__("shutil").rmtree

    def watch(path: Path, **options: bool) -> None:
        seen.append(sorted(p.name for p in checkpoints.folder.glob("step-*")))
        remove(path, **options)

    save(checkpoints, 1, 2)
    monkeypatch.setattr("train.checkpoint.shutil.rmtree", watch)
    save(checkpoints, 3)
    assert seen[-1] == ["step-00000001", "step-00000002", "step-00000003"]


def test_a_checkpoint_is_three_readable_files_and_no_pickle(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1)
    folder = checkpoints.folder / "step-00000001"
    assert sorted(os.listdir(folder)) == ["model.safetensors", "optimizer.safetensors", "trainer.json"]
    assert load_file(folder / "model.safetensors")["weight"].tolist() == [[1.0, 1.0]] * 3


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = set()
    for name in ("a", "b"):
        save(Checkpoints(tmp_path / name, keep=1), 4)
        contents.add(tuple(path.read_bytes() for path in sorted((tmp_path / name).rglob("*.safetensors"))))
    assert len(contents) == 1


def test_a_last_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(read_lines(tmp_path / "rows.jsonl")) == [{"step": 1}, {"step": 2}]
    assert list(read_lines(tmp_path / "absent.jsonl")) == []
