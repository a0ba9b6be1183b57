"""The forms that a region with contractions can take as one kernel, decided from where its axes occur.

``matrix``: contractions side by side with the same result axes, which are the grid; what is computed from them is an
epilogue. ``chain``: reductions that read one another; the grid is what all of them vary over, and one program runs over
the rest, sweeping the reduced axes and holding the others whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size, symbols
from rooftile.ir.polynomial import product
from rooftile.passes.regions.access import Access, Read, is_segment
from rooftile.passes.regions.contractions import contractions, main_contraction
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.sweeps import Sweeps, plan_sweeps
from rooftile.passes.rules.correct import dependencies

MOST_ACCUMULATORS = 4
MOST_WHOLE = 256  # the longest axis that a chain holds whole beside the swept one
FEW_ROWS = 32  # beside which it holds a longer one: a tile of both has no more elements
MOST_BESIDE_FEW = 512


@dataclass(frozen=True)
class Reason:
    """Why a region can't be one kernel: ``rule`` is what would be needed, ``value`` what blocks, ``reduction`` the op
    that can't be swept as it stands."""

    rule: str
    value: Value
    text: str
    reduction: Op | None = None


class Unschedulable(Exception):
    """No roles run a region on a target; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


def below(access: Access, read: Read) -> set[Read]:
    """Every read that ``read`` is computed from."""
    found: set[Read] = set()
    stack = list(access.nodes[read].operands)
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack.extend(access.nodes[current].operands)
            stack.extend(access.index_reads(current).values())
    return found


# The matrix form.


@lru_cache(maxsize=32)
def matrix_form(access: Access) -> Reason | None:
    """Why the region is not contractions side by side; None where it is."""
    for check in (_side_by_side, _one_grid, _no_recomputed_contraction):
        reason = check(access)
        if reason is not None:
            return reason
    return None


def _side_by_side(access: Access) -> Reason | None:
    dots = set(contractions(access))
    depends = dependencies(access, access.reductions())
    for outer in access.reductions():
        for operand in access.nodes[outer].operands:
            for inner in sorted(depends[operand], key=lambda r: r.value.name):
                if inner in dots or outer in dots:
                    axes = ", ".join(access.nodes[outer].bound)
                    text = (
                        f"%{outer.value.name} sums over {axes} what depends on %{inner.value.name}, itself a reduction"
                    )
                    return Reason("correct", inner.value, text, access.nodes[outer].op)
    return None


def _one_grid(access: Access) -> Reason | None:
    """The contractions have the same result axes; a reduction to fewer axes rides along where it runs over the same
    summed axis."""
    main = main_contraction(access)
    grid, swept = access.free[main], set(access.nodes[main].bound)
    dots = contractions(access)
    for read in access.reductions():
        rides = access.free[read] < grid and set(access.nodes[read].bound) <= swept
        if not rides and (read not in dots or access.free[read] != grid):
            axes, others = ", ".join(sorted(access.free[read])), ", ".join(sorted(grid))
            text = f"%{read.value.name} runs over ({axes}), %{main.value.name} over ({others})"
            return Reason("split", read.value, text)
    full = [read for read in dots if access.free[read] == grid]
    if len(full) > MOST_ACCUMULATORS:
        return Reason("split", main.value, f"{len(full)} contractions at once, {MOST_ACCUMULATORS} at most")
    return None


def _no_recomputed_contraction(access: Access) -> Reason | None:
    reason = recomputed(access)
    if reason is not None:
        return reason
    main = main_contraction(access)
    summed = {a for r in access.reductions() for a in access.nodes[r].bound}
    rest = set(access.axes) - access.free[main] - summed
    if prod(likely(access.axes[a]) for a in rest) > 1:
        text = f"%{main.value.name} would be computed again along {', '.join(sorted(rest))}"
        return Reason("recompute", main.value, text)
    return None


def recomputed(access: Access) -> Reason | None:
    """A contraction of which the region reads more tiles than its result has, if there is one."""
    wanted: dict[Value, Size] = {}
    for read in contractions(access):
        work = product([access.axes[a] for a in access.free[read]])
        wanted[read.value] = wanted.get(read.value, 0) + work
    for value, work in wanted.items():
        if likely(work) > likely(value.type.numel):
            text = f"%{value.name} has {value.type.numel} elements and would be computed for {work}"
            return Reason("recompute", value, text)
    at_data = [r for r in contractions(access) if access.index_reads(r)]
    again = next((r for r in at_data if any(o.value is r.value and o != r for o in contractions(access))), None)
    if again is not None:
        text = f"%{again.value.name} would be computed again where an index from data says"
        return Reason("recompute", again.value, text)
    return None


# The chain form.


@dataclass(frozen=True)
class Chain:
    """The roles of a chain's axes: ``grid``, of which ``row`` (if any) is tiled, ``loops`` and ``whole``; and the
    sweeps over the loops."""

    grid: tuple[str, ...]
    row: tuple[str, ...]
    loops: tuple[str, ...]
    whole: tuple[str, ...]
    sweeps: Sweeps


def is_matrix(access: Access) -> bool:
    """Whether the region is contractions side by side."""
    return bool(contractions(access)) and matrix_form(access) is None


def as_chain(access: Access) -> Chain | None:
    """The chain that a region with contractions is; None where it is in the matrix form, or in neither."""
    chain = chain_form(access) if contractions(access) and matrix_form(access) is not None else None
    return chain if isinstance(chain, Chain) else None


@lru_cache(maxsize=32)
def chain_form(access: Access) -> Chain | Reason:
    """The roles of the region as a chain of reductions, or why it can't be one kernel."""
    blocked = recomputed(access) or _ragged(access)
    if blocked is not None:
        return blocked
    dots = contractions(access)
    if len(dots) > MOST_ACCUMULATORS:
        text = f"{len(dots)} contractions in a chain, {MOST_ACCUMULATORS} at most"
        return Reason("roles", dots[-1].value, text)
    reductions = access.reductions()
    depends = dependencies(access, reductions)
    shaping = [r for r in reductions if not _rides_along(access, r, depends)]
    grid = tuple(a for a in access.axes if all(a in access.free[r] for r in shaping))
    stored = {s.name for _, read in access.roots for e in read.index for s in symbols(e)}
    bound = {a: r for r in reductions for a in access.nodes[r].bound}
    inner_ones = frozenset().union(*(depends[o] for r in reductions for o in access.nodes[r].operands))
    outermost = {a for r in reductions if r not in inner_ones for a in access.nodes[r].bound}
    loops: list[str] = []
    whole: list[str] = []
    inner = [a for a in access.axes if a not in grid]
    rows = _rows(access, grid)
    most = MOST_BESIDE_FEW if prod(likely(access.axes[a]) for a in rows) <= FEW_ROWS else MOST_WHOLE
    for name in sorted(inner, key=lambda a: a not in outermost):
        short = is_short(access.axes[name], most)
        if name in stored and short:
            whole.append(name)
        elif name in bound and (name in stored or name in outermost):
            loops.append(name)
        elif name in bound:
            (whole if short else loops).append(name)
        else:
            text = f"{name} ({access.axes[name]}) would have to be held whole, {most} at most"
            return Reason("roles", access.body.outputs[-1], text)
    again = next((r for r in reductions if _is_swept_again(access, r, loops)), None)
    if again is not None:
        text = f"%{again.value.name} would be reduced by a sweep again in every step of another one"
        return Reason("roles", again.value, text)
    return _swept(access, Chain(grid, rows, tuple(loops), tuple(whole), plan_sweeps(access, loops)))


def _ragged(access: Access) -> Reason | None:
    """A chain's rows are cut without regard to what they hold."""
    segment = next((r for r, node in access.nodes.items() if is_segment(node)), None)
    if segment is None or not access.segments:
        return None
    name = next(iter(access.segments))
    return Reason("roles", segment.value, f"tiles of {name} end where %{segment.value.name} changes, not in a chain")


def _is_swept_again(access: Access, read: Read, loops: Sequence[str]) -> bool:
    """Whether ``read`` is reduced by a sweep that is run for more than the elements of ``read``: within that of another
    reduction a contraction is computed once for each step, but not within a third one."""
    around = access.free[read] & set(loops)
    if not around or not set(loops) & set(access.nodes[read].bound):
        return False
    outer = [r for r in access.reductions() if around & set(access.nodes[r].bound)]
    return read not in contractions(access) or any(access.free[r] & set(loops) for r in outer)


def _rides_along(access: Access, read: Read, depends: Mapping[Read, frozenset[Read]]) -> bool:
    """Whether ``read`` reduces what it loads, along axes that contractions are summed over anyway: the grid may have
    axes along which it is computed again."""
    summed = {a for dot in contractions(access) for a in access.nodes[dot].bound}
    node = access.nodes[read]
    alone = not any(depends[o] for o in node.operands)
    return node.op is not None and node.op.name == "reduce" and alone and summed.issuperset(node.bound)


def is_short(extent: Size, most: int) -> bool:
    """Whether a chain that holds ``most`` positions whole can hold an axis of this extent."""
    return isinstance(extent, int) and next_power(extent) <= most


def _swept(access: Access, chain: Chain) -> Chain | Reason:
    """The chain, if what is recomputed in each sweep is no contraction."""
    dots = contractions(access)
    for name in chain.loops:
        if chain.sweeps.count(name) < 2:
            continue
        later = [r for r, n in chain.sweeps.number.items() if n.get(name, 0) > 0]
        late = next((r for r in later if r in access.nodes), later[0])  # an extreme that a position needs has no node
        first = next((r for r in dots if name in access.free[r]), None)
        op = access.nodes[late].op if late in access.nodes else None
        if first is not None or late in dots:
            what = first or late
            text = f"%{late.value.name} needs another sweep over {name}, in which %{what.value.name} is computed again"
            return Reason("correct", late.value, text, op)
    return chain


def _rows(access: Access, grid: tuple[str, ...]) -> tuple[str, ...]:
    """The grid axes that can share a tile: each varies in just one operand of every contraction, and all in the same
    one. Rows and columns of a product on the grid are no tile: programs that have one column each multiply vectors.
    """
    dots = contractions(access)
    sides: dict[tuple[tuple[bool, ...], ...], list[str]] = {}
    for name in grid:
        side = tuple(tuple(name in access.free[o] for o in access.nodes[d].operands) for d in dots)
        if all(sum(operands) == 1 for operands in side):
            sides.setdefault(side, []).append(name)
    return tuple(max(sides.values(), key=lambda names: prod(likely(access.axes[a]) for a in names), default=()))
