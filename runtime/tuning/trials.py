"""A region with one of its candidate schedules, compiled and ready to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.codegen.together import emit_all
from rooftile.config import Config
from rooftile.errors import UnsupportedError
from rooftile.ir.core import Graph, Op
from rooftile.ir.replacing import graph_of
from rooftile.ir.schedule import Schedule
from rooftile.passes.launches import joined_op, launches
from rooftile.passes.reschedule import Choice, chosen
from rooftile.passes.schedules.library import Library
from rooftile.passes.schedules.together import Together
from rooftile.runtime.binary import Binary
from rooftile.runtime.cache_key import cache_key
from rooftile.runtime.frame import Frame, Memory
from rooftile.runtime.loading import kernel_cache, load
from rooftile.runtime.plan import make_plan
from rooftile.runtime.tuning.faults import Faulted, remember
from rooftile.target import Target

Pick: TypeAlias = "Choice | Together"

_FREE: AbstractContextManager[object] = nullcontext()


@dataclass(frozen=True)
class Built:
    """A region op as a choice has it: the ops that it becomes, and the kernels of those that are regions.

    ``binary`` is that of the one kernel of a schedule; None on the CPU, which compiles nothing, and for a library.
    """

    schedule: Pick
    op: Op
    ops: tuple[Op, ...]
    kernels: Mapping[Op, Kernel]
    binary: Binary | None

    def key(self, target: Target) -> str:
        """Equal for candidates that turn out to be the same kernels."""
        keys = (cache_key(self.kernels[op], target.arch) if op in self.kernels else str(op.attrs) for op in self.ops)
        return "; ".join(keys)

    @property
    def spill_bytes(self) -> int:
        """Bytes of registers, per thread, that don't fit and lie in memory."""
        return 0 if self.binary is None else self.binary.resources.spill_bytes

    def why_not(self, first: Built) -> str | None:
        """Why the kernel is not worth running, given that of the first choice; None where it is."""
        if self.spill_bytes > first.spill_bytes:
            return f"spills {self.spill_bytes} bytes a thread"
        special = isinstance(self.schedule, Schedule) and self.schedule.specialize
        if special and self.binary is not None and not self.binary.warp_specialized:
            return "is not specialised, though it was to be"
        return None


def build(
    unit: Sequence[Op],
    schedule: Pick,
    precision: str,
    target: Target,
    config: Config,
    writing: AbstractContextManager[object] = _FREE,
) -> Built:
    """Lower, emit and compile a region, or those that share a launch; for threads of a pool, which may write kernels
    down while they hold ``writing``.

    Raises CompileError where Triton refuses the kernel or it does not fit on the target, InternalError where it cannot
    be written down.
    """
    op = one_op(unit)
    each = schedule.schedules if isinstance(schedule, Together) else (schedule,)
    with writing:
        ops = tuple(made for o, s in zip(unit, each, strict=True) for made in chosen(o, s, precision, target, ()))
        shared = launches(Graph("trial", op.inputs, ops, op.outputs))
        kernels = emit_all(shared, target)
    binary: Binary | None = None
    for kernel in kernels.values() if target.kind == "cuda" else ():
        binary = kernel_cache(config.cache_dir).get_or_build(kernel, target)
    alone = len(kernels) == 1 and not isinstance(schedule, Library)
    return Built(schedule, op, shared.graph.ops, kernels, binary if alone else None)


def one_op(unit: Sequence[Op]) -> Op:
    """The region, or those that share a launch as one."""
    return joined_op(unit) if len(unit) > 1 else unit[0]


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
        self._remember = partial(remember, config.cache_dir, built.key(target))
        op = built.op
        self._plan = make_plan(graph_of("trial", op, built.ops), built.kernels)
        program = load(self._plan, target, device, config)
        binding = program.binding(tensors, {s.name: sizes[s.name] for s in self._plan.symbols})
        same = shared is not None and len(shared._memory.results) == len(binding.fresh)
        self._memory: Memory = binding.memory(shared._memory.results if shared is not None and same else None)
        self._frame = Frame(binding)
        self._frame.enter(tensors, self._memory)

    def __call__(self) -> None:
        for act in self._frame.actions:
            act()

    def try_out(self) -> None:
        """Run it once, and wait for it.

        Raises:
            RooftileError: it cannot be launched, or ATen refuses the call.
            Faulted: it was launched, and the GPU faulted.
        """
        try:
            self()
        except (RuntimeError, NotImplementedError) as refused:
            if not isinstance(self.built.schedule, Library):
                raise
            raise UnsupportedError(str(refused)) from refused
        if self._device.type == "cuda":
            try:
                torch.cuda.synchronize(self._device)
            except RuntimeError as error:
                name = self.built.op.attrs["name"]
                text = f"kernel `{name}` faulted while it was tried with {self.built.schedule}: {error}"
                self._remember(text)
                raise Faulted(text, fix="start again: what was found so far is kept, and this one left out") from error

    def results(self) -> list[torch.Tensor]:
        """What running it once gives."""
        for result in self._memory.results:
            result.fill_(float("nan") if result.is_floating_point() else 0)
        self()
        return [self._frame.tensor(result.buffer).clone() for result in self._plan.results]
