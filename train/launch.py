"""Machinery: set up processes, device and precision (the Accelerator); refuse a launch with too few processes.

On a machine without GPU `accelerate launch --cpu --num_processes 2` runs one process without a word, and
`--multi_gpu` runs two that know nothing of each other unless the program asks for the CPU.
"""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import ConfigError, UnavailableError, UsageError
from pipeline.executors.executor import default_workers
from pipeline.runtime.files import write_json
from pipeline.runtime.hashing import JSON
from pipeline.runtime.process import is_main_process, keep_memory
from pipeline.runtime.provenance import version_of

if TYPE_CHECKING:
    from accelerate import Accelerator

Precision = Literal["auto", "fp32", "bf16"]

_ISA_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


@dataclass(frozen=True)
class Launch:
    """A prepared Accelerator and the determinism domain it computes in."""

    accelerator: "Accelerator"
    domain: dict[str, JSON]

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def world_size(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)


def launch(
    *, precision: Precision, threads: int | None, micro_batch_size: int, program: str, run_folder: Path | None = None
) -> Launch:
    """Set up processes, device, threads and precision; `program` is what the right command launches.

    What "auto" came to is kept in `run_folder` from its first use on, so that a resumed run does not change it.

    Raises UsageError for a launch that would not do what it says.
    """
    import torch

    _refuse_silent_single_process(program)
    has_gpu = torch.accelerator.is_available()
    count = threads or max(1, default_workers() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    torch.set_num_threads(count)
    if not has_gpu:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        keep_memory()  # fresh pages for every large tensor cost a fifth of a training step
    chosen = _frozen_precision(precision, run_folder)
    accelerator = _accelerator(chosen, has_gpu=has_gpu)
    domain = {
        "device": str(accelerator.device.type),
        "processor": processor(has_gpu=has_gpu),
        "torch": version_of("torch").partition("+")[0],
        "threads": count,
        "world_size": accelerator.num_processes,
        "micro_batch_size": micro_batch_size,
        "precision": chosen,
    }
    return Launch(accelerator=accelerator, domain=domain)


def _accelerator(precision: Literal["fp32", "bf16"], *, has_gpu: bool) -> "Accelerator":
    """Let the processes of the launch find each other; raise UsageError when not all of them do."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    # The precision is process-wide state in accelerate: of a second run in one process it must be forgotten first.
    if AcceleratorState._shared_state.get("_mixed_precision") is not None:
        AcceleratorState._reset_state(reset_partial_state=PartialState().num_processes == 1)
        GradientState._reset_state()
    accelerator = Accelerator(cpu=not has_gpu, mixed_precision="bf16" if precision == "bf16" else "no")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:
        raise UsageError(f"the launcher speaks of {world} processes and {accelerator.num_processes} found each other.")
    return accelerator


def _refuse_silent_single_process(program: str) -> None:
    if os.environ.get("MASTER_PORT") and not {"WORLD_SIZE", "RANK"} & set(os.environ):
        raise UsageError(
            "`accelerate launch --cpu --num_processes N` runs a single process unless MPI starts the others. "
            f"Use `accelerate launch --multi_gpu --num_processes N -m {program} …`: without a GPU it runs N processes "
            "on the processor."
        )


def _frozen_precision(precision: Precision, run_folder: Path | None) -> Literal["fp32", "bf16"]:
    path = run_folder / "choices.json" if run_folder else None
    if path is not None and path.exists():
        precision = json.loads(path.read_text(encoding="utf-8"))["precision"]
    chosen = resolve_precision(precision)
    if path is not None and is_main_process() and not path.exists():
        write_json(path, {"precision": chosen})
    return chosen


def resolve_precision(precision: Precision) -> Literal["fp32", "bf16"]:
    """Return bf16 where the hardware computes in it, when the choice is left to us.

    Raises UnavailableError when bf16 is asked for and the GPU has none.
    """
    import torch

    if precision == "fp32":
        return "fp32"
    if torch.accelerator.is_available():
        has_bf16 = not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
        if precision == "bf16" and not has_bf16:
            raise UnavailableError("this GPU does not compute in bf16; use --precision fp32.")
    else:
        has_bf16 = bool({"avx512_bf16", "amx_bf16"} & processor_flags())
    return "bf16" if precision == "bf16" or has_bf16 else "fp32"


def processor_flags() -> set[str]:
    """Return the instruction sets of this processor that can move a rounding."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return set(flags) & set(_ISA_FLAGS)


def processor(*, has_gpu: bool) -> str:
    """Name what computes, as far as it can move a rounding."""
    import torch

    if has_gpu and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    capability = torch.backends.cpu.get_cpu_capability()
    return " ".join([platform.machine(), capability, *sorted(processor_flags())])


def check_world(global_batch_size: int, world_size: int) -> None:
    """Raise ConfigError when a global batch has fewer samples than there are processes."""
    if global_batch_size < world_size:
        raise ConfigError(
            f"a global batch of {global_batch_size} sample(s) cannot be shared by {world_size} processes."
        )
