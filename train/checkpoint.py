"""Machinery: checkpoints without pickle: model.safetensors, optimizer.safetensors, trainer.json.

A checkpoint is made at an optimizer-step boundary, beside the others, and renamed when it is whole; trainer.json
holds the SHA-256 of its neighbours, so that a damaged one is seen and the one before it is used.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.runtime.console import say
from pipeline.runtime.files import aside_of, sync_folder, sync_tree, write_json
from pipeline.runtime.hashing import Page, sha256_of_file
from pipeline.runtime.settings import build

if TYPE_CHECKING:
    import torch

_TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """Where a run is: all that is not a tensor."""

    step: int
    """optimizer steps done"""
    samples: int
    """position in the endless order of samples"""
    tokens: int
    """target tokens seen"""
    seconds: float
    """spent in training, over all attempts"""
    domains: tuple[Page, ...]
    """the determinism domains the run has been in, in order"""


class Checkpoints:
    """The checkpoints of one run folder, `keep` of them."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder / "checkpoints"
        self.keep = keep

    def save(self, state: TrainerState, model: "dict[str, torch.Tensor]", optimizer: "dict[str, torch.Tensor]") -> Path:
        """Write a checkpoint, make it visible by one rename, and only then drop the oldest."""
        from safetensors.torch import save_file

        # A kill or a loss of power at any line below leaves a whole checkpoint to go on from, because the order is: the
        # tensors to disk, then the page with their hashes, then the rename (a name that begins with a dot is not
        # looked at before), then the folder that holds the name, and last the oldest one away. A rename without what
        # comes before it may reach the disk ahead of the bytes (Pillai et al. 2014).
        final = self.folder / f"step-{state.step:08d}"
        for left in self.folder.glob(".step-*"):  # by a kill
            shutil.rmtree(left)
        aside = aside_of(final)
        aside.mkdir(parents=True)
        for name, tensors in zip(_TENSOR_FILES, (model, optimizer), strict=True):
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, aside / name, {"format": "pt"})
        hashes = {name: sha256_of_file(aside / name) for name in _TENSOR_FILES}
        sync_tree(aside)
        write_json(aside / "trainer.json", {"state": asdict(state), "sha256": hashes}, indent=2)
        shutil.rmtree(final, ignore_errors=True)  # one of the same step that was found damaged: nothing to lose
        os.rename(aside, final)
        sync_folder(self.folder)
        for old in self._finished()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def load_newest(self) -> "tuple[TrainerState, dict[str, torch.Tensor], dict[str, torch.Tensor]] | None":
        """Return the newest checkpoint that is whole: its state, the model's and the optimizer's tensors."""
        from safetensors.torch import load_file

        for folder in reversed(self._finished()):
            state = _read_state(folder)
            if state is not None:
                model, optimizer = (load_file(folder / name) for name in _TENSOR_FILES)
                return state, model, optimizer
        return None

    def _finished(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def _read_state(folder: Path) -> TrainerState | None:
    """Read trainer.json; None, with a word to the person, when the checkpoint is not what it was."""
    try:
        page = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
        damaged = [name for name in _TENSOR_FILES if sha256_of_file(folder / name) != page["sha256"][name]]
        if not damaged:
            return build(TrainerState, page["state"], str(folder / "trainer.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        damaged = [repr(error)]
    say(f"the checkpoint {folder} is damaged ({damaged[0]}); using the one before it")
    return None


def read_lines(path: Path) -> Iterator[Page]:
    """Yield the objects of a JSON-lines file; a last line that a kill cut short is dropped."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return
