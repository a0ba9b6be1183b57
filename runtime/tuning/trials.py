"""A region with one of its candidate schedules, compiled and ready to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import Kernel
from rooftile.config import Config
from rooftile.errors import InternalError
from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.lower import Lower
from rooftile.passes.schedules.override import rescheduled
from rooftile.runtime.binary import Binary
from rooftile.runtime.cache_key import cache_key
from rooftile.runtime.frame import Frame, Memory
from rooftile.runtime.loading import kernel_cache, load
from rooftile.runtime.plan import make_plan
from rooftile.target import Target


@dataclass(frozen=True)
class Built:
    """A region op with a schedule, and its kernel; ``binary`` is None on the CPU, which compiles nothing."""

    schedule: Schedule
    op: Op
    kernel: Kernel
    binary: Binary | None

    def key(self, target: Target) -> str:
        """Equal for candidates that turn out to be the same kernel."""
        return cache_key(self.kernel, target.arch)

    @property
    def spill_bytes(self) -> int:
        """Bytes of registers, per thread, that don't fit and lie in memory."""
        return 0 if self.binary is None else self.binary.resources.spill_bytes

    def why_not(self, first: Built) -> str | None:
        """Why the kernel is not worth running, given that of the first choice; None where it is."""
        if self.spill_bytes > first.spill_bytes:
            return f"spills {self.spill_bytes} bytes a thread"
        if self.schedule.specialize and self.binary is not None and not self.binary.warp_specialized:
            return "is not specialised, though it was to be"
        return None


def build(op: Op, schedule: Schedule, precision: str, target: Target, config: Config) -> Built:
    """Lower, emit and compile; for threads of a pool.

    Raises CompileError where Triton refuses the kernel or it does not fit on the target, InternalError where it cannot
    be written down.
    """
    lowered = Lower(precision).lower(rescheduled(op, schedule))
    kernel = emit(lowered.regions[1], target, lowered.regions[0])
    binary = kernel_cache(config.cache_dir).get_or_build(kernel, target) if target.kind == "cuda" else None
    return Built(schedule, lowered, kernel, binary)


class Faulted(InternalError):
    """A kernel ended in a fault of the GPU, after which nothing runs there in this process."""


class Trial:
    """A built candidate on a device, with inputs and memory; called, it runs the kernel once.

    Trials of one region may share the memory of their results.
    """

    def __init__(
        self,
        built: Built,
        tensors: Sequence[torch.Tensor],
        sizes: Mapping[str, int],
        target: Target,
        device: torch.device,
        config: Config,
        shared: Trial | None = None,
    ) -> None:
        self.built = built
        self._device = device
        op = built.op
        plan = make_plan(Graph("trial", op.inputs, (op,), op.outputs), {op: built.kernel})
        program = load(plan, target, device, config)
        binding = program.binding(tensors, {s.name: sizes[s.name] for s in plan.symbols})
        self._memory: Memory = binding.memory(None if shared is None else shared._memory.results)
        self._frame = Frame(binding)
        self._frame.enter(tensors, self._memory)

    def __call__(self) -> None:
        for act in self._frame.actions:
            act()

    def try_out(self) -> None:
        """Run it once, and wait for it.

        Raises:
            RooftileError: it cannot be launched.
            Faulted: it was launched, and the GPU faulted.
        """
        self()
        if self._device.type == "cuda":
            try:
                torch.cuda.synchronize(self._device)
            except RuntimeError as error:
                text = f"kernel `{self.built.kernel.name}` faulted while it was tried with {self.built.schedule}"
                raise Faulted(f"{text}: {error}") from error

    def results(self) -> list[torch.Tensor]:
        """What running it once gives."""
        for result in self._memory.results:
            result.fill_(float("nan") if result.is_floating_point() else 0)
        self()
        return [result.clone() for result in self._memory.results]
