"""How many steps the loops of a kernel take, counted from their bounds, and from what it is told of its mask."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

import torch

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, symbols
from rooftile.ir.substitution import evaluate
from rooftile.ir.tile_ops import loop_ranges, loop_starts
from rooftile.ir.visits import ENDS, placed_axis, visits_of

Run: TypeAlias = tuple[str, int, int]  # a phase, and half-open steps
AGAIN = "again"  # the phase of a loop that only programs run whose numbers are infinite
MOST_PROGRAMS = 2**16  # more are not counted one by one

_SCALARS: dict[str, Callable[..., int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "maximum": max,
    "minimum": min,
    "eq": operator.eq,
    "ge": operator.ge,
    "where": lambda condition, a, b: a if condition else b,
}


@dataclass(frozen=True)
class LoopSteps:
    """The loops that sweep ``axis`` together, over all programs: the steps that are run (None where the data decide),
    of how many, and the phases in which they are run."""

    axis: str
    visited: int | None
    total: int
    phases: tuple[str, ...]


def loop_steps(kernel: Graph, sizes: Mapping[str, int], visits: torch.Tensor | None = None) -> list[LoopSteps]:
    """The steps of each sweep of ``kernel``, those inside another behind it, for run-time sizes ``sizes``; ``visits``
    is what a sweep takes its steps from, where one does."""
    axes = {name: (evaluate(extent, sizes), role, tile) for name, extent, role, tile in kernel.attrs["axes"]}
    programs = prod(-(-extent // tile) for extent, role, tile in axes.values() if role == "grid")
    return list(_Counter(kernel, sizes, axes, visits).count(kernel, programs, programs))


@dataclass(frozen=True)
class Visits:
    """Which steps of a sweep over ``axis`` programs run, of ``steps`` with ``tile`` positions each.

    ``rows`` tells programs apart by the first position of their tiles along the grid axes that decide: for each, the
    runs of steps with the phase that they run in (in phase ``rest``, those that may be run). Where there are
    more than were asked for, ``rows`` are taken evenly from all ``count``.
    """

    axis: str
    tile: int
    steps: int
    count: int
    rows: tuple[tuple[Mapping[str, int], tuple[Run, ...]], ...]


def loop_visits(kernel: Graph, sizes: Mapping[str, int], most: int, visits: torch.Tensor | None = None) -> list[Visits]:
    """The visits of each outermost sweep of ``kernel`` whose ranges follow from positions, or from what it is told by
    ``visits``, with at most ``most`` rows; none for a sweep that runs all steps in one phase."""
    axes = {name: (evaluate(extent, sizes), role, tile) for name, extent, role, tile in kernel.attrs["axes"]}
    counter = _Counter(kernel, sizes, axes, visits)
    found = (counter.visits(loops, most) for loops in _sweeps(kernel) if any(op.attrs["ranges"] for op in loops))
    return [visits for visits in found if visits is not None]


def _sweeps(graph: Graph) -> Iterator[list[Op]]:
    """The loops of a graph, those together that take up one another's states over one axis; without those that only
    programs run whose numbers are infinite."""
    found: list[list[Op]] = []
    for op in graph.ops:
        if op.name != "loop" or op.attrs["phase"] == AGAIN:
            continue
        before = found[-1][-1] if found else None
        follows = before is not None and op.inputs and before.attrs["axis"] == op.attrs["axis"]
        if follows and before is not None and loop_starts(op) == before.outputs:
            found[-1].append(op)
        else:
            found.append([op])
    yield from found


@dataclass
class _Counter:
    kernel: Graph
    sizes: Mapping[str, int]
    axes: Mapping[str, tuple[int, str, int]]
    told: torch.Tensor | None

    def count(self, graph: Graph, visits: int | None, most: int) -> Iterator[LoopSteps]:
        """The sweeps in ``graph``, which is run ``visits`` times, of ``most``."""
        for loops in _sweeps(graph):
            axis = placed_axis(loops[0]) or str(loops[0].attrs["axis"])
            extent, _, tile = self.axes[axis]
            steps = -(-extent // tile)
            visited = None if visits is None else visits * steps
            if any(op.attrs["ranges"] for op in loops):
                visited = self._visited(loops) if graph is self.kernel else None
            yield LoopSteps(axis, visited, most * steps, tuple(str(op.attrs["phase"]) for op in loops))
            yield from self.count(loops[-1].regions[0], visited, most * steps)

    def visits(self, loops: Sequence[Op], most: int) -> Visits | None:
        """See ``loop_visits``; None where the data decide and have not been told."""
        placed, number = placed_axis(loops[0]), self.axes[str(loops[0].attrs["axis"])][2]
        axis = placed or str(loops[0].attrs["axis"])
        extent, _, tile = self.axes[axis]
        steps = -(-extent // tile)
        # What is left for rows with nothing else depends on data: it may be any of the other steps.
        ends = [(str(op.attrs["phase"]), *p) for op in loops if op.attrs["phase"] != "rest" for p in loop_ranges(op)]
        has_rest = any(op.attrs["phase"] == "rest" for op in loops)
        needed = self._needed([value for _, *pair in ends for value in pair])
        if needed is None or (placed and self.told is None):
            return None
        rows = []
        tiles = self._tiles()
        varying = sorted(self._varying(needed, tiles))
        count = prod(tiles[name] for name in varying)
        for place in range(count) if count <= most else [n * count // most for n in range(most)]:
            firsts = {}
            for name in reversed(varying):
                place, n = divmod(place, tiles[name])
                firsts[name] = n * self.axes[name][2]
            known = self._run(needed, firsts)
            runs = [(phase, known[first] // number, -(-known[stop] // number)) for phase, first, stop in ends]
            runs = self._told_runs(runs, needed, known, firsts) if placed else [run for run in runs if run[1] < run[2]]
            runs += [("rest", first, stop) for first, stop in _gaps(runs, steps)] if has_rest else []
            rows.append((firsts, tuple(runs)))
        return Visits(axis, tile, steps, count, tuple(rows))

    def _told_runs(
        self, runs: Iterable[Run], needed: Sequence[Op], known: Mapping[Value, int], firsts: Mapping[str, int]
    ) -> list[Run]:
        """Runs of places in the list of a program's steps, as runs of these steps."""
        assert self.told is not None
        load = next(op for op in needed if op.name == "load")
        listed = self.told[self._at(load, known, firsts)[:-1]].tolist()[ENDS:]
        return [(phase, *run) for phase, first, stop in runs for run in _consecutive(sorted(listed[first:stop]))]

    def _tiles(self) -> dict[str, int]:
        return {name: -(-extent // t) for name, (extent, role, t) in self.axes.items() if role == "grid"}

    def _varying(self, needed: Sequence[Op], tiles: Mapping[str, int]) -> set[str]:
        """The grid axes on which the ops depend."""
        varying = {str(op.attrs["axis"]) for op in needed if op.name == "first"}
        return varying | {s.name for op in needed for e in _exprs(op) for s in symbols(e)} & set(tiles)

    def _needed(self, values: Sequence[Value]) -> list[Op] | None:
        """The ops that ``values`` are computed by, in order; None where one of them is not known here."""
        needed = _needed(values, self.kernel.producers())
        reads = needed is not None and any(op.name == "load" for op in needed)
        return None if reads and self.told is None else needed

    def _visited(self, loops: Sequence[Op]) -> int | None:
        """The steps of loops over ranges, added up over all programs."""
        _, _, tile = self.axes[loops[0].attrs["axis"]]
        tiles = self._tiles()
        ends = [pair for op in loops if op.attrs["phase"] != "rest" for pair in loop_ranges(op)]
        needed = self._needed([value for pair in ends for value in pair])
        if needed is None:
            return None
        varying = self._varying(needed, tiles)
        if prod(tiles[name] for name in varying) > MOST_PROGRAMS:
            return None
        visited = 0
        for at in product(*(range(tiles[name]) for name in varying)):
            firsts = {name: n * self.axes[name][2] for name, n in zip(varying, at, strict=True)}
            known = self._run(needed, firsts)
            visited += sum(max(0, -(-(known[stop] - known[first]) // tile)) for first, stop in ends)
        return visited * prod(n for name, n in tiles.items() if name not in varying)

    def _run(self, ops: Sequence[Op], firsts: Mapping[str, int]) -> dict[Value, int]:
        known: dict[Value, int] = {}
        for op in ops:
            operands = [known[v] for v in op.inputs if v in known]
            at = self._at(op, known, firsts)
            match op.name:
                case "first":
                    known[op.output] = firsts[op.attrs["axis"]]
                case "index":
                    known[op.output] = at[0]
                case "load":
                    assert self.told is not None
                    known[op.output] = int(self.told[at])
                case "cast":
                    known[op.output] = operands[0]
                case _:
                    known[op.output] = int(_SCALARS[op.attrs["fn"]](*operands))
        return known

    def _at(self, op: Op, known: Mapping[Value, int], firsts: Mapping[str, int]) -> tuple[int, ...]:
        """The numbers of an op's index expressions."""
        operands = [known[v] for v in op.inputs if v in known]
        indices = {f"idx{n}": x for n, x in enumerate(operands, start=1)}
        return tuple(evaluate(e, {**self.sizes, **firsts, **indices}) for e in _exprs(op))


def _consecutive(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as half-open runs."""
    start = 0
    for place, step in enumerate(steps, start=1):
        if place == len(steps) or steps[place] != step + 1:
            yield steps[start], step + 1
            start = place


def _gaps(runs: Sequence[Run], steps: int) -> Iterator[tuple[int, int]]:
    """The runs of steps, of all ``steps``, that are in none of ``runs``."""
    at = 0
    for _, first, stop in sorted(runs, key=lambda run: run[1]):
        if first > at:
            yield at, first
        at = max(at, stop)
    if at < steps:
        yield at, steps


def _needed(values: Sequence[Value], producers: Mapping[Value, Op]) -> list[Op] | None:
    """The ops that ``values`` are computed by, in order; None where one is neither arithmetic on positions nor read of
    what is told of a mask."""
    told = {visits_of(op) for op in producers.values() if op.name == "loop"}
    found: dict[Value, Op] = {}
    stack = list(values)
    while stack:
        value = stack.pop()
        if value in found or value not in producers:
            continue
        op = producers[value]
        scalar = op.name == "pointwise" and op.attrs["fn"] in _SCALARS
        read = op.name in ("load", "cast") and op.output.type.rank == 0 and (op.name == "cast" or op.inputs[0] in told)
        if not (op.name in ("first", "index") or scalar or read):
            return None
        found[value] = op
        stack.extend(op.inputs)
    return [op for value, op in producers.items() if value in found]


def _exprs(op: Op) -> tuple[Size, ...]:
    """The index expressions of an op."""
    return op.attrs["index"] if op.name == "load" else (op.attrs["expr"],) if op.name == "index" else ()
