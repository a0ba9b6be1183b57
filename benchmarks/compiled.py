"""What became of what schedules ask for: read from the compiled kernels, since the compiler drops it silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rooftile.compilation import Compilation
from rooftile.ir.schedule import Schedule
from rooftile.runtime.binary import Binary
from rooftile.runtime.cache import KernelCache

_DESCRIPTOR_COPIES = ("ttng.async_tma_copy", "tt.descriptor_load", "tt.descriptor_store")
# These reduce very large arguments on a stack of so many bytes, which is no spilling.
_WITH_STACK = ("tl.sin(", "tl.cos(")
_STACK = 48
_ONE_REGISTER_PAIR = 8  # bytes that a kernel may put away: measured to cost less than the next smaller tiles


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel's use of the GPU, and which of its schedule's wishes it does not fulfil (none, if all is well)."""

    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    descriptors: bool
    warp_specialized: bool
    unmet: tuple[str, ...]


def compiled_kernels(compilations: Sequence[Compilation], cache: KernelCache) -> list[CompiledKernel]:
    """The kernels of these compilations for a GPU, in order; none for the CPU, where nothing is compiled.

    Raises:
        CompileError: Triton refuses a kernel.
    """
    return [
        compiled_kernel(launch.name, launch.kernel.source, Schedule.from_attrs(launch.op.attrs), binary)
        for c in compilations
        if c.target.kind != "cpu" and c.plan is not None
        for launch in c.plan.launches
        for binary in (cache.get_or_build(launch.kernel, c.target),)
    ]


def compiled_kernel(name: str, source: str, schedule: Schedule, binary: Binary) -> CompiledKernel:
    """What ``binary``, compiled from ``source``, makes of ``schedule``."""
    used = binary.resources
    descriptors = any(copy in binary.ttgir for copy in _DESCRIPTOR_COPIES)
    stack = _STACK if any(call in source for call in _WITH_STACK) else _ONE_REGISTER_PAIR
    wishes = {
        "spills": used.spill_bytes <= stack,
        "no descriptors": descriptors or not schedule.descriptors,
        "no warp specialisation": binary.warp_specialized or not schedule.specialize,
    }
    unmet = tuple(fault for fault, fine in wishes.items() if not fine)
    return CompiledKernel(
        name, used.registers, used.spill_bytes, used.shared_bytes, descriptors, binary.warp_specialized, unmet
    )
