"""Addresses as blocks: which steps the axes of an access take in memory, and whether bulk copies can take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rooftile.ir.division import divides
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Atom, Expr, FloorDiv, Mod, Size, of, symbols
from rooftile.ir.polynomial import linear_in
from rooftile.ir.ranges import at_least

ALIGNMENT = 16  # bytes: what the base and all strides but the last are multiples of


@dataclass(frozen=True)
class Step:
    """A dimension that an axis ``a`` moves through: with every ``over`` of its positions by ``stride`` elements, from
    the start again after ``size`` (None: never). That is ``a // over % size``."""

    stride: Size
    over: Size = 1
    size: Size | None = None


def steps_along(offset: Size, name: str, tile: int) -> tuple[tuple[Step, ...], Size] | None:
    """The dimensions that the axis ``name`` moves ``offset`` through, outermost first, and the rest of ``offset``.

    They are two where ``offset`` holds ``a // c`` and ``a % c``, such as a row that is a head and a position in it;
    then a tile must lie in one row of ``c``, or cover whole ones. None where nothing moves, or not in such steps.
    """
    axis = next((s for s in symbols(offset) if s.name == name), None)
    if axis is None or isinstance(offset, int):
        return None
    parts = {a for m, _ in offset.terms for a in m if isinstance(a, (FloorDiv, Mod)) and a.num == of(axis)}
    found: list[Step] = []
    ways: list[Atom] = [*sorted(parts, key=lambda a: isinstance(a, Mod))] or [axis]
    for atom in ways:
        stride, offset = linear_in(offset, atom) if isinstance(offset, Expr) else (None, offset)
        if stride is None or any(s.extent is not None for s in symbols(stride)):
            return None
        found.append(_step(atom, stride))
    rows = {atom.den for atom in parts}
    fits = all(divides(tile, row) or (isinstance(row, int) and tile % row == 0) for row in rows)
    return (tuple(found), offset) if axis not in symbols(offset) and len(rows) < 2 and fits else None


def _step(atom: Atom, stride: Size) -> Step:
    if isinstance(atom, Mod):
        return Step(stride, size=atom.den)
    return Step(stride, over=atom.den) if isinstance(atom, FloorDiv) else Step(stride)


def aligned_strides(strides: Sequence[Size], base: Size, dtype: DType) -> bool:
    """Whether one of ``strides`` is 1, and the others, which are positive, and ``base`` are aligned, in elements of
    ``dtype``."""
    multiple = ALIGNMENT // dtype.bytes
    rows = [stride for stride in strides if stride != 1]
    return (
        len(rows) + 1 == len(strides)
        and all(at_least(s, 1) and divides(multiple, s) for s in rows)
        and divides(multiple, base)
    )


def rows_aligned(offset: Size, axes: Iterable[str], dtype: DType, tile: int) -> bool:
    """Whether ``offset``, of elements of ``dtype``, takes constant aligned steps along all of ``axes``, one of which is
    contiguous, in tiles of ``tile`` or less."""
    strides: list[Size] = []
    for name in axes:
        found = steps_along(offset, name, tile)
        if found is None:
            return False
        strides += [step.stride for step in found[0]]
        offset = found[1]
    return aligned_strides(strides, offset, dtype)
