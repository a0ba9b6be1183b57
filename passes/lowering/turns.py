"""In which order tiles are taken: along an axis on which sweeps grow longer, from the last one to the first.

Programs start in the order of their numbers, each where another one has ended. With the longest last, all others wait
for it: causal attention of 16 heads and 2048 positions, in tiles of 64 rows on 264 places, takes as long as 54 steps,
and 32 with the longest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rooftile.ir.expr import Size, Symbol, of, symbols
from rooftile.ir.schedule import SPREAD
from rooftile.ir.substitution import evaluate
from rooftile.passes.lowering.kernel import Kernel
from rooftile.passes.masks.phases import Phase
from rooftile.passes.masks.predicates import Predicates
from rooftile.passes.masks.ranges import Aligned, Bound, End, Greatest, Least, Where
from rooftile.passes.regions.sizes import likely

Positions = Mapping[str, tuple[int, int]]  # of axes, the first and the last one of a tile


def backwards(kernel: Kernel) -> tuple[str, ...]:
    """The axes of the grid along which the kernel's sweeps have more steps in the last tile than in the first."""
    found: list[str] = []
    for role in kernel.schedule.axes if kernel.phases else ():
        extent = likely(role.extent)
        last = (extent - 1) // role.tile * role.tile
        if role.role in SPREAD and last > 0:
            ends = ((0, role.tile - 1), (last, extent - 1))
            steps = [_steps(kernel, {role.name: each}) for each in ends]
            if steps[0] is not None and steps[1] is not None and steps[1] > steps[0]:
                found.append(role.name)
    return tuple(found)


def _steps(kernel: Kernel, at: Positions) -> int | None:
    """How many positions are swept in a tile; None where that depends on data."""
    try:
        return sum(_swept(phases, _Ends(predicates, at)) for phases, predicates in kernel.phases)
    except LookupError:
        return None


def _swept(phases: Sequence[Phase], ends: _Ends) -> int:
    ranges = [each for phase in phases if not phase.unless for each in phase.ranges or ()]
    return sum(max(0, ends.value(stop) - ends.value(first)) for first, stop in ranges)


class _Ends:
    """Values of bounds in one tile, the other axes being at their first positions; raises LookupError where data
    decides."""

    def __init__(self, predicates: Predicates, at: Positions) -> None:
        self._predicates, self._at = predicates, at

    def value(self, bound: Bound) -> int:
        """The bound as a number."""
        match bound:
            case int():
                return bound
            case End(size, highest):
                values = [evaluate(size, self._bindings(size, last)) for last in (False, True)]
                return max(values) if highest else min(values)
            case Greatest(parts):
                return max(map(self.value, parts))
            case Least(parts):
                return min(map(self.value, parts))
            case Aligned(part, tile, up):
                return (self.value(part) + (tile - 1 if up else 0)) // tile * tile
            case Where(condition, then):
                return self.value(then) if self.value(condition) >= 0 else 0

    def _bindings(self, size: Size, last: bool) -> dict[str, int]:
        return {symbol.name: self._number(symbol, last) for symbol in symbols(size)}

    def _number(self, symbol: Symbol, last: bool) -> int:
        if self._predicates.read_of(symbol) is not None:
            raise LookupError(symbol.name)
        if symbol.extent is None:
            return likely(of(symbol))
        return self._at.get(symbol.name, (0, 0))[last]
