"""The combination of indices through which alone a value depends on several dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from rooftile.ir.core import Value
from rooftile.ir.expr import Expr, Size, symbols
from rooftile.ir.polynomial import add, mul, product
from rooftile.ir.ranges import at_least
from rooftile.passes.combinations.sources import Source, coefficients, index_of

Direction = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Line:
    """``at`` counts the combinations from 0 to ``extent - 1``, over a value's indices; ``bound`` are the dimensions in
    it, ``free`` the others that the value varies along. ``lowest`` is the least combination, ``unit`` a dimension whose
    index is multiplied by ``sign`` alone, which is 1 or -1.
    """

    at: Size
    extent: Size
    bound: tuple[int, ...]
    free: tuple[int, ...]
    unit: int
    sign: int
    lowest: Size

    def index(self, t: Size, free: Iterable[tuple[int, Size]], rank: int) -> tuple[Size, ...]:
        """An index at which everything that the value varies with is what it is at position ``t``, with ``free``
        indices as given. It need not lie inside the value."""
        given = dict(free)
        given[self.unit] = mul(add(t, self.lowest), self.sign)
        return tuple(given.get(d, 0) for d in range(rank))


def line(value: Value, source: Source) -> Line | None:
    """The combination through which ``value`` depends on two or more of its dimensions; None where there is none, where
    not every position of it occurs, or none occurs twice."""
    directions = {e: _direction(e) for e in source.varies}
    wanted = sorted({d for d in directions.values() if d is not None and len(d) > 1})
    return next((found for d in wanted if (found := _along(value, source, d, directions)) is not None), None)


def _direction(e: Size) -> Direction | None:
    """The coefficients of ``e`` without what divides them all, the last one positive; None where it is not linear."""
    found = coefficients(e)
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda item: int(item[0][1:]))
    divisor = gcd(*found.values()) * (1 if ordered[-1][1] > 0 else -1)
    return tuple((name, c // divisor) for name, c in ordered)


def _along(value: Value, source: Source, direction: Direction, directions: dict[Size, Direction | None]) -> Line | None:
    names = {name for name, _ in direction}
    others = [e for e in source.varies if directions[e] != direction]
    varied = {s.name for e in others for s in symbols(e)}
    unit = next((name for name, c in direction if abs(c) == 1), None)
    if names & varied or unit is None:
        return None
    index = index_of(value)
    reach: Size = 0
    lowest: Size = 0
    combination: Size = 0
    for name, c in sorted(direction, key=lambda item: abs(item[1])):
        position = index[int(name[1:])]
        last = add(value.shape[int(name[1:])], -1)
        if not at_least(last, 0) or not at_least(reach, abs(c) - 1):
            return None
        reach = add(reach, mul(last, abs(c)))
        lowest = add(lowest, mul(last, min(c, 0)))
        combination = add(combination, mul(position, c))
    pairs = product([value.shape[int(name[1:])] for name, _ in direction])
    if at_least(add(reach, mul(pairs, -1)), -1):
        return None
    return Line(
        at=add(combination, mul(lowest, -1)),
        extent=add(reach, 1),
        bound=tuple(int(name[1:]) for name, _ in direction),
        free=tuple(d for d, e in enumerate(index) if isinstance(e, Expr) and f"x{d}" in varied),
        unit=int(unit[1:]),
        sign=dict(direction)[unit],
        lowest=lowest,
    )
