"""A compiled kernel as plain data: all that a launch needs, and what the compiler said about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rooftile.runtime.resources import Resources, has_warp_specialization, resources_of


@dataclass(frozen=True)
class DescriptorLayout:
    """What a compiled kernel wants of a descriptor: how rows are swizzled in shared memory, as the driver numbers it,
    and the box that one copy moves, a part of the kernel's block."""

    swizzle: int
    box: tuple[int, ...]


@dataclass(frozen=True)
class Binary:
    """A kernel compiled for one architecture.

    ``symbol`` is the kernel's name in ``cubin``; ``parameters`` are the types of the launch arguments in order: "ptr",
    "i32", "i64" or "descriptor", and ``descriptors`` the layouts of the last in order. A program runs ``num_warps``
    warps (with warp specialisation more than were asked for), takes ``shared_bytes`` of dynamic shared memory, and
    needs ``scratch_bytes`` of global memory at a multiple of ``scratch_align`` (where tensor descriptors made in the
    kernel lie). One that ``waits`` for the kernels before it may be launched before they have ended. ``ttgir`` is
    Triton's IR for reading.
    """

    symbol: str
    arch: int
    parameters: tuple[str, ...]
    num_warps: int
    shared_bytes: int
    scratch_bytes: int
    scratch_align: int
    cubin: bytes
    ttgir: str
    descriptors: tuple[DescriptorLayout, ...] = ()
    waits: bool = False

    @cached_property
    def resources(self) -> Resources:
        """Registers, spills and shared memory."""
        return resources_of(self.cubin, self.shared_bytes)

    @property
    def warp_specialized(self) -> bool:
        """Whether a loop asked to be split among warps was."""
        return has_warp_specialization(self.ttgir)
