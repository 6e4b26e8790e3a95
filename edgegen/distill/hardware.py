"""Where training runs: the device, its arithmetic, and which of several processes this is (`accelerate launch`).

Sums over several threads are split by their number, so it decides bits as the arithmetic does: at 1 and at 2 threads the same
run gives different weights, at 2 and 2 it gave equal ones in every trial, under load too. A run keeps the number it began with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from edgegen.errors import RecipeError
from edgegen.recipe import DistillConfig, MemoryFormat, TrainingArithmetic


class Arithmetic(str, enum.Enum):
    """What convolutions compute in. Weights, losses and everything that is stored stay float32."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


_LAYOUTS = {MemoryFormat.CONTIGUOUS: torch.contiguous_format, MemoryFormat.CHANNELS_LAST: torch.channels_last}


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The device of this process among `process_count`, and accelerate's handle of it."""

    accelerator: Any
    arithmetic: Arithmetic
    memory_format: MemoryFormat = MemoryFormat.CONTIGUOUS
    threads: int = dataclasses.field(default_factory=torch.get_num_threads)

    @property
    def device(self) -> torch.device:
        """Where this process keeps its tensors."""
        return self.accelerator.device

    @property
    def process_count(self) -> int:
        """How many processes train together."""
        return self.accelerator.num_processes

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.accelerator.is_main_process

    def numerics(self) -> dict[str, Any]:
        """Return, as plain values, what bits depend on beside the device: a resumed run goes on with the same."""
        return {"arithmetic": self.arithmetic.value, "memory_format": self.memory_format.value, "threads": self.threads}

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context in which convolutions use `arithmetic`."""
        dtype = {Arithmetic.BF16: torch.bfloat16, Arithmetic.F16: torch.float16}.get(self.arithmetic)
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def shard(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return this process's equal part of a batch (N, ...), on the device: the parts of all make the batch."""
        part = self.part(len(tensors[0]))
        return tuple(self._laid_out(tensor[part].to(self.device)) for tensor in tensors)

    def part(self, batch: int) -> slice:
        """Return which samples of a batch this process computes."""
        count = batch // self.process_count
        start = self.accelerator.process_index * count
        return slice(start, start + count)

    def arrange(self, tensors: Iterable[torch.Tensor]) -> None:
        """Lay out the values of 4-d tensors, in place, in the memory format of this hardware."""
        for tensor in tensors:
            tensor.data = self._laid_out(tensor.data)

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous(memory_format=_LAYOUTS[self.memory_format]) if tensor.ndim == 4 else tensor

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor, in place, by its mean over all processes, in one message."""
        pending = list(tensors)
        if self.process_count == 1 or not pending:
            return
        mean = self.accelerator.reduce(torch.cat([tensor.reshape(-1) for tensor in pending]), reduction="mean")
        for tensor, part in zip(pending, mean.split([tensor.numel() for tensor in pending]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, value: Any) -> Any:
        """Return what the first process calls this with; all must call it."""
        if self.process_count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Return when all processes are here."""
        self.accelerator.wait_for_everyone()


def open_hardware(arithmetic: Arithmetic | None = None, *, batch: int) -> Hardware:
    """Return the hardware that accelerate finds. `arithmetic` None: the fastest that the device computes natively.

    Raises RecipeError when `batch` cannot be dealt out equally to the processes.
    """
    from accelerate import Accelerator, PartialState

    # Without cpu=True, several processes on a machine without accelerator would each train alone and write the same files.
    on_cpu = not torch.accelerator.is_available()
    # PartialState, and not a first Accelerator, tells the device: an Accelerator fixes the precision of the process.
    chosen = arithmetic or fastest_arithmetic(str(PartialState(cpu=on_cpu).device).partition(":")[0])
    # float16 alone needs accelerate: for its gradient scaler. The autocast is ours, so that it can be switched off (networks.py).
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="fp16" if chosen is Arithmetic.F16 else "no")
    if batch % accelerator.num_processes:
        raise RecipeError(
            f"distill.batch is {batch} but {accelerator.num_processes} processes train",
            hint=f"set distill.batch to a multiple of {accelerator.num_processes}",
        )
    return Hardware(accelerator, chosen)


def device_type() -> str:
    """Return "cuda", "cpu" or another kind of device: where `open_hardware` will train."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found is not None else "cpu"


def asked_arithmetic(config: DistillConfig) -> Arithmetic | None:
    """Return what the recipe says, None for auto."""
    return None if config.arithmetic is TrainingArithmetic.AUTO else Arithmetic(config.arithmetic.value)


@contextlib.contextmanager
def pinned_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads inside; the number that was set before comes back after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fastest_arithmetic(device_type: str) -> Arithmetic:
    """Return what convolutions run fastest in on this "cuda", "cpu" or other device without emulation.

    Measured with AVX512_BF16 (one thread, 4 crops of 128x128): bf16 halves the teacher's pass and takes 30-38 % off the
    student's step; channels_last gained nothing there in either arithmetic.
    """
    if device_type == "cuda":
        return Arithmetic.BF16 if torch.cuda.is_bf16_supported(including_emulation=False) else Arithmetic.F16
    if device_type == "cpu":
        able = torch.cpu.get_capabilities()
        return Arithmetic.BF16 if able.get("avx512_bf16") or able.get("amx_bf16") else Arithmetic.F32
    return Arithmetic.F32
