"""Schedules for products that share a launch, with the same warps and stages: matrix products in tiles of as many
accumulators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from rooftile.ir.core import Graph
from rooftile.ir.dtypes import DType
from rooftile.ir.schedule import Schedule
from rooftile.passes.regions.access import Access
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import (
    SMALLEST_DOT,
    Groups,
    contractions,
    groups,
    has_dot,
    is_loaded,
    main_contraction,
    multiplied,
)
from rooftile.passes.regions.forms import is_matrix
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.blocks import LARGEST_TILE
from rooftile.passes.schedules.estimate import shared_bytes
from rooftile.passes.schedules.joined import joined_operands
from rooftile.passes.schedules.override import with_tiles
from rooftile.target import HOPPER, Target

LARGE = 128 * 128  # results of a program, at least, whose operands are read in blocks
ROWS, COLUMNS, STEP = 128, (256, 128), 64  # of large tiles
STAGES = 4
PIECE = 64  # columns of an epilogue: wider ones were seen to take more shared memory than there is


@dataclass(frozen=True)
class Products:
    """A region of contractions side by side and its schedule."""

    schedule: Schedule
    access: Access

    @staticmethod
    def of(body: Graph, schedule: Schedule) -> Products | None:
        """None for a region of another kind."""
        access = compose(body, space_of(schedule))
        if not is_matrix(access):
            return None
        found = Products(schedule, access)
        return found if found.is_matrix or not has_dot(access) else None

    @property
    def is_matrix(self) -> bool:
        """Whether results are tiled along one axis of either operand, and not rows of products."""
        return len(self.shape.m) == len(self.shape.n) == 1

    @property
    def multiplied(self) -> DType | None:
        """What dots multiply; None for rows of products. In one launch all programs have the registers of the one that
        takes most: products of bf16 beside some of fp32, which has no matrix units, were seen to spill (404 us on an
        H200, in launches of their own 76 and 80)."""
        return multiplied(self.access, main_contraction(self.access)) if has_dot(self.access) else None

    @property
    def shape(self) -> Groups:
        """The axes by where they occur."""
        return groups(self.access, main_contraction(self.access))

    @property
    def accumulators(self) -> int:
        """How many results of the tile's size a program holds."""
        main = main_contraction(self.access)
        return sum(self.access.free[r] == self.access.free[main] for r in contractions(self.access))

    def tiles(self) -> tuple[int, int]:
        """The tile's rows and columns."""
        (m,), (n,) = self.shape.m, self.shape.n
        return self.schedule.role(m).tile, self.schedule.role(n).tile

    def like(self, leader: Products) -> Products:
        """The same region with the tiles of ``leader``, wider where it has fewer accumulators, as far as it is wide.
        Rows of products keep their own, and take its warps. Where it reads blocks, two products that can be one are
        (both halves of rotated heads, queries, keys and values of 2048 tokens on an H200: Llama-8B's 141 us, apart 144;
        Llama-1B's 42.6 and 46.1)."""
        if not (self.is_matrix or leader.is_matrix):  # what is loaded ahead for dots is nothing to rows of products
            launch = {name: getattr(leader.schedule, name) for name in ("num_warps", "num_stages")}
            return replace(self, schedule=replace(self.schedule, **launch))
        if not (self.is_matrix and leader.is_matrix):
            return self.alone()
        (m,), (n,) = self.shape.m, self.shape.n
        rows, columns = leader.tiles()
        columns = columns * leader.accumulators // self.accumulators
        sizes = {m: _tile(self.access, m, rows), n: _tile(self.access, n, columns)}
        loops = {a.name: a.tile for a in leader.schedule.axes if a.role == "loop"}
        step = max(loops.values(), default=0)
        sizes |= {a.name: min(step, next_power(likely(a.extent))) for a in self.schedule.axes if a.role == "loop"}
        axes = tuple(replace(a, tile=sizes.get(a.name, a.tile)) for a in self.schedule.axes)
        options = {name: getattr(leader.schedule, name) for name in ("descriptors", "persistent", "phases")}
        schedule = replace(
            self.schedule,
            axes=axes,
            num_warps=leader.schedule.num_warps,
            num_stages=leader.schedule.num_stages,
            flatten=False,
            specialize=False,
            tail=1,
            joined=leader.schedule.descriptors and joined_operands(self.access) is not None,
            epilogue=max(1, sizes[n] // PIECE) if leader.schedule.persistent or leader.schedule.epilogue > 1 else 1,
            **options,
        )
        return Products(schedule, self.access)

    def narrower(self) -> Products:
        """The same in tiles of half the columns, which take half as long; rows of products, and the smallest tiles, as
        they are."""
        if not self.is_matrix:
            return self
        (n,) = self.shape.n
        columns, pieces = self.schedule.role(n).tile, max(1, self.schedule.epilogue // 2)
        schedule = with_tiles(self.schedule, **{n: max(SMALLEST_DOT, columns // 2)})
        return replace(self, schedule=replace(schedule, epilogue=pieces))

    def plain(self, target: Target) -> Products:
        """The same with a program for each tile: where each tile asks which product it is of, a persistent loop gains
        next to nothing. Large tiles of what is loaded as it stands are read in blocks, four steps at a time, with the
        epilogue in pieces (queries, keys and values of 2048 tokens on an H200, apart: Llama-8B's 145 us, by copies and
        in three steps 153, in a persistent loop 143; Llama-1B's, in tiles of two sizes, 46.5, 48.9 and 47.5)."""
        schedule = replace(self.schedule, descriptors=False, persistent=False, flatten=False, joined=False, tail=1)
        if target.arch == HOPPER and self._is_large():
            pieces = max(1, self.tiles()[1] // PIECE)
            deep = replace(schedule, descriptors=True, num_stages=STAGES, epilogue=pieces)
            schedule = deep if shared_bytes(deep, self.access) <= target.shared_memory else schedule
        return replace(self, schedule=schedule)

    def larger(self, target: Target) -> list[Products]:
        """The same, ``plain``, in large tiles of several widths, where alone it has to fill the device in small ones.
        None where that is no product of large matrices whose operands are loaded as they stand."""
        if target.arch != HOPPER or self._is_large() or not self._is_loaded():
            return []
        (m,), (n,) = self.shape.m, self.shape.n
        if min(likely(self.access.axes[m]), likely(self.access.axes[n]) * self.accumulators) < ROWS:
            return []
        steps = {a.name: STEP for a in self.schedule.axes if a.role == "loop"}
        tiled = [
            with_tiles(self.schedule, **{m: ROWS, n: columns // self.accumulators}, **steps) for columns in COLUMNS
        ]
        return [replace(self, schedule=replace(each, num_warps=8)).plain(target) for each in tiled]

    def _is_large(self) -> bool:
        return self._is_loaded() and prod(self.tiles()) * self.accumulators >= LARGE

    def _is_loaded(self) -> bool:
        if not self.is_matrix or not has_dot(self.access):
            return False
        operands = [o for r in contractions(self.access) for o in self.access.nodes[r].operands]
        return all(o.value.dtype.bytes == 2 and is_loaded(self.access, o) for o in operands)

    def alone(self) -> Products:
        """The same without what a shared launch can't do."""
        return replace(self, schedule=replace(self.schedule, flatten=False, specialize=False, tail=1))


def _tile(access: Access, name: str, most: int) -> int:
    return max(SMALLEST_DOT, min(most, LARGEST_TILE, next_power(likely(access.axes[name]))))
