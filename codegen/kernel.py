"""A generated kernel as plain data: what code generation hands to the run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rooftile.ir.expr import Size
from rooftile.ir.substitution import evaluate


@dataclass(frozen=True)
class Blocks:
    """What a tensor descriptor describes: blocks of the shape ``tile`` of the strided tensor that starts at element
    ``base`` of the parameter ``buffer``. All is in elements, over the plan's symbols; the last stride is 1.

    With ``other``, a parameter laid out alike, the first dimension is two: from the one of both buffers that lies lower
    in memory to the other. How far apart they lie is known at a launch; its stride here is 0.
    """

    buffer: str
    base: Size
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    tile: tuple[int, ...]
    other: str | None = None


@dataclass(frozen=True)
class KernelParam:
    """One run-time argument of a kernel, in launch order.

    ``kind`` is ``"buffer"`` (a pointer to elements of ``dtype``), ``"size"`` (an integer, bound to the run-time size
    ``size`` when the plan runs) or ``"descriptor"`` (a tensor descriptor of ``blocks``). ``aligned`` says that the
    pointer's address (in bytes) or the integer is a multiple of 16, which Triton uses to vectorise; a launcher must not
    pass one that isn't. Integers are passed as 64-bit when ``dtype`` is ``"i64"``, else as ``"i32"``.
    """

    name: str
    kind: Literal["buffer", "size", "descriptor"]
    dtype: str
    aligned: bool = True
    blocks: Blocks | None = None
    symbol: str | None = None  # of a size: its name in the graph, where the text has another

    @property
    def size(self) -> str:
        """The name of the run-time size that the parameter is bound to."""
        return self.symbol or self.name


@dataclass(frozen=True)
class Kernel:
    """A Triton kernel: a whole Python file, and what is needed to launch it.

    ``source`` is the text of a file that runs on its own; the kernel is its ``@triton.jit`` function ``name``, whose
    parameters are ``params`` in order (there are no ``tl.constexpr`` parameters: sizes that are known are literals in
    the text). ``grid`` holds one to three sizes in programs, over the plan's symbols; a persistent kernel has a
    one-dimensional grid of tiles, or of the pieces that these may be cut into, for which at most ``most_programs``
    programs are to be launched. ``num_warps`` and ``num_stages`` go to Triton's compiler. One that ``waits`` for the
    kernels before it may be launched before they have ended. ``notes`` say how the schedule's options were carried
    out, such as which buffers are accessed through descriptors.
    """

    name: str
    source: str
    params: tuple[KernelParam, ...]
    grid: tuple[Size, ...]
    num_warps: int = 4
    num_stages: int = 2
    most_programs: int | None = None
    waits: bool = False
    notes: tuple[str, ...] = ()

    def programs(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The grid to launch for these sizes."""
        grid = tuple(evaluate(size, sizes) for size in self.grid)
        return grid if self.most_programs is None else (min(grid[0], self.most_programs), *grid[1:])
