"""Choosing a region's axes: which reduced axes are the same axis, where an axis splits, and which axes merge into one.

Each function takes a region's space and returns a better one; the accesses are composed anew from it, so a choice is
one definition and index simplification does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import gcd

from rooftile.ir.core import Graph, unique_name
from rooftile.ir.division import floordiv, mod
from rooftile.ir.expr import FloorDiv, Mod, Size, atoms, axis, symbols
from rooftile.ir.polynomial import add, linear_in, mul, product
from rooftile.ir.ranges import equal
from rooftile.ir.schedule import Schedule
from rooftile.ir.substitution import substitute
from rooftile.passes.regions.access import Access, Read, Space, address
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.forms import Reason, Unschedulable
from rooftile.passes.regions.ragged import ragged_axes
from rooftile.passes.rules.correct import dependencies

MOST_PARTS = 4


@lru_cache(maxsize=32)
def region_access(body: Graph) -> tuple[Space, Access]:
    """The space in which a region is first looked at: reduced axes identified, axes split where concatenated halves
    meet, and where what is reduced is read at quotients of them.

    Raises:
        NoCommonSpace: the body's outputs have no common iteration space.
    """
    access = compose(body)
    ragged = ragged_axes(access)
    space, access = identify(body, Space(ragged=ragged), None if ragged else access)
    space, access = split_at_joints(body, space, access)
    return split_at_quotients(body, space, access)


def space_of(schedule: Schedule) -> Space:
    """The iteration space that a schedule describes."""
    parts, ragged = (tuple(a.name for a in schedule.axes if a.role == role) for role in ("parts", "ragged"))
    return Space(dict(schedule.defs), {a.name: a.extent for a in schedule.axes}, parts, ragged)


def identify(body: Graph, space: Space, access: Access | None = None) -> tuple[Space, Access]:
    """Make reduced axes the same axis where that makes two reads one: softmax's maximum, sum and result all run over
    one ``j``. ``access`` is the body composed over ``space``, if that is known."""
    access = access or compose(body, space)
    while found := _identifiable(access):
        same: dict[str, Size] = {name: axis(other, access.axes[other]) for name, other in found.items()}
        # An axis that was made the same as one of these before goes with it.
        defs = {name: substitute(size, same) for name, size in space.defs.items()}
        space = replace(space, defs=defs | same)
        access = compose(body, space)
    return space, access


def _identifiable(access: Access) -> dict[str, str]:
    """Reduced axes with the axes that they can be made the same as, all at once: none varies beside another, neither
    where it is reduced nor, if it was made the same as an axis of the result before, anywhere else."""
    order = {name: number for number, name in enumerate(access.bound_axes())}
    found: dict[str, str] = {}
    moved: set[str] = set()
    for name in order:
        varying = [read for read, free in access.free.items() if name in free]
        near = [*varying, *(r for r in access.reductions() if name in access.nodes[r].bound)]
        beside = {a for r in near for a in (*access.nodes[r].bound, *access.free[r])}
        if name in moved or not beside.isdisjoint(found):
            continue
        for other, extent in access.axes.items():
            later = other in order and order[other] >= order[name]
            if later or other in beside or other in found or not equal(extent, access.axes[name]):
                continue
            renaming = {name: axis(other, extent)}
            if any(_renamed(r, renaming) in access.nodes for r in varying):
                found[name] = other
                moved |= beside | {other}
                break
    return found


def _renamed(read: Read, renaming: Mapping[str, Size]) -> Read:
    index = tuple(substitute(e, renaming) for e in read.index)
    return Read(read.value, index, tuple((substitute(e, renaming), n) for e, n in read.guard))


def split_at_joints(body: Graph, space: Space, access: Access) -> tuple[Space, Access]:
    """Split an axis where concatenated pieces of equal size meet on it, and compute the pieces as ``parts``: the halves
    of RoPE."""
    joints: dict[str, set[int]] = {}
    for node in access.nodes.values():
        for case in node.cases if len(node.cases) > 1 else ():
            for expr, extent in case:
                _add_joint(expr, extent, access, joints)
    for name, places in joints.items():
        extent = access.axes[name]
        size = gcd(*places, extent) if isinstance(extent, int) else 0
        if not isinstance(extent, int) or name in access.bound_axes() or not 1 < extent // size <= MOST_PARTS:
            continue
        split, part, _ = split_axis(space, access, name, size, "p")
        split = replace(split, parts=(*space.parts, part))
        return split, compose(body, split)
    return space, access


def split_axis(space: Space, access: Access, name: str, size: int, letter: str) -> tuple[Space, str, str]:
    """``space`` with the axis ``name`` as two, of which the inner one has ``size`` positions; and the names of the
    outer and the inner one."""
    extent = int(str(access.axes[name]))
    outer, inner = unique_name(f"{name}{letter}", access.names), unique_name(f"{name}r", access.names)
    whole = add(mul(axis(outer, extent // size), size), axis(inner, size))
    defs = {n: substitute(e, {name: whole}) for n, e in space.defs.items()} | {name: whole}
    leaves = space.leaves | {outer: extent // size, inner: size}
    return replace(space, defs=defs, leaves=leaves), outer, inner


def split_at_quotients(body: Graph, space: Space, access: Access) -> tuple[Space, Access]:
    """Split an axis of the result where reductions that read one another are read at quotients of it: a row of all
    heads' values is two axes, the heads and their values."""
    for _ in range(MOST_PARTS):
        found = _quotient(access) if is_nested(access) else None
        if found is None:
            break
        space, _, _ = split_axis(space, access, *found, "q")
        access = compose(body, space)
    return space, access


def is_nested(access: Access) -> bool:
    """Whether a contraction is computed from reductions, or a reduction from contractions."""
    reductions = access.reductions()
    below = dependencies(access, reductions)
    dots = set(contractions(access))
    return any(
        inner in dots or outer in dots
        for outer in reductions
        for operand in access.nodes[outer].operands
        for inner in below[operand]
    )


def _quotient(access: Access) -> tuple[str, int] | None:
    """An axis of the result with the size at which a division in a reduction's index cuts it."""
    for name, extent, stride, den in divided_axes(access, access.reductions()):
        if stride > 0 and den % stride == 0:
            size = den // stride
            if 1 < size < extent and extent % size == 0:
                return name, size
    return None


def divided_axes(access: Access, reads: Iterable[Read]) -> Iterator[tuple[str, int, int, int]]:
    """The axes of the result in quotients ``(stride * axis + ..) // den`` by which ``reads`` are indexed, with their
    extents: ``(axis, extent, stride, den)``, all known sizes."""
    bound = access.bound_axes()
    divided = (a for read in reads for e in read.index for a in atoms(e) if isinstance(a, FloorDiv))
    for atom in divided:
        for symbol in symbols(atom.num):
            extent, stride = access.axes.get(symbol.name), linear_in(atom.num, symbol)[0]
            if symbol.name in bound or not isinstance(extent, int):
                continue
            if isinstance(stride, int) and isinstance(atom.den, int):
                yield symbol.name, extent, stride, atom.den


def _add_joint(expr: Size, extent: Size, access: Access, joints: dict[str, set[int]]) -> None:
    names = [s.name for s in symbols(expr) if s.name in access.axes]
    if len(names) != 1 or not isinstance(extent, int):
        return
    offset = add(expr, mul(axis(names[0], access.axes[names[0]]), -1))
    if isinstance(offset, int):
        joints.setdefault(names[0], set()).update(p for p in (-offset, extent - offset) if p > 0)


def merge(body: Graph, space: Space, access: Access, names: Sequence[str], merged: str) -> tuple[Space, Access, str]:
    """Make the axes ``names`` (outermost first) one axis: each becomes a quotient and remainder of it, which cancel
    where the strides allow.

    Returns the new space and accesses, and the name that the merged axis got.

    Raises:
        Unschedulable: a reduction runs over some of the axes only; over the merged one it would count each position of
            those once for every position of the others.
    """
    if (torn := _runs_over_some(access, names)) is not None:
        text = f"{', '.join(names)} are to be one axis, and %{torn.value.name} runs over some of them only"
        raise Unschedulable(Reason("roles", torn.value, text))
    merged = unique_name(merged, access.names.difference(names).union(space.defs))
    extents = [access.axes[n] for n in names]
    whole = axis(merged, product(extents))
    radices = [1 if extent == 0 else extent for extent in extents]  # an empty axis has no positions to tell apart
    values: dict[str, Size] = {}
    stride: Size = 1
    for position in range(len(names) - 1, -1, -1):
        quotient = floordiv(whole, stride)
        values[names[position]] = quotient if position == 0 else mod(quotient, radices[position])
        stride = mul(stride, radices[position])
    # A leaf may have the name of an axis that is defined over it: that definition stands, over the new leaf.
    defs = values | {n: substitute(e, values) for n, e in space.defs.items()}
    grown = replace(space, defs=defs, leaves=space.leaves | {merged: product(extents)})
    return grown, compose(body, grown), merged


def _runs_over_some(access: Access, names: Iterable[str]) -> Read | None:
    """A reduction that runs over some of the axes and not over all of them."""
    together = set(names)
    shared = ((read, together.intersection(access.nodes[read].bound)) for read in access.reductions())
    return next((read for read, some in shared if some and some != together), None)


def are_swept_apart(access: Access) -> bool:
    """Whether a reduction over several axes has one beside it that runs over some of them only."""
    several = {bound for r in access.reductions() if len(bound := access.nodes[r].bound) > 1}
    return any(_runs_over_some(access, bound) is not None for bound in several)


def merge_freely(body: Graph, space: Space, access: Access, names: Sequence[str]) -> tuple[Space, Access, list[str]]:
    """Merge neighbouring axes of ``names`` as long as that adds no division to any address; returns what is left of
    ``names``."""
    left = list(names)
    position = len(left) - 1
    while position > 0:
        outer, inner = left[position - 1], left[position]
        grown, candidate, name = merge(body, space, access, (outer, inner), inner)
        if divisions(candidate) <= divisions(access):
            space, access = grown, candidate
            left[position - 1 : position + 1] = [name]
        position -= 1
    return space, access, left


def divisions(access: Access) -> int:
    """How many quotients and remainders the addresses of the region's loads and stores hold: what a merge must not add
    to."""
    total = 0
    for read in (*access.loads(), *(r for _, r in access.roots)):
        total += sum(isinstance(a, (FloorDiv, Mod)) for a in atoms(address(read)))
        total += sum(isinstance(a, (FloorDiv, Mod)) for e, _ in read.guard for a in atoms(e))
    return total
