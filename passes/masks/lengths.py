"""How far a masked sweep runs in one tile of rows, as a number: its ranges with the tile's place put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rooftile.ir.expr import Size, Symbol, of, symbols
from rooftile.ir.substitution import evaluate
from rooftile.passes.masks.phases import Phase
from rooftile.passes.masks.predicates import Predicates
from rooftile.passes.masks.ranges import Aligned, Bound, End, Greatest, Least, Where
from rooftile.passes.regions.sizes import likely

Positions = Mapping[str, tuple[int, int]]  # of axes, the first and the last one of a tile


def swept(phases: Sequence[Phase], predicates: Predicates, at: Positions) -> int | None:
    """How many positions the ``phases`` run over in the tile ``at``, those that states leave out not counted; None
    where that depends on data."""
    ends = _Ends(predicates, at)
    ranges = [each for phase in phases if not phase.unless for each in phase.ranges or ()]
    try:
        return sum(max(0, ends.value(stop) - ends.value(first)) for first, stop in ranges)
    except LookupError:
        return None


def together(sweeps: Iterable[int | None]) -> int | None:
    """The positions of several sweeps; None where those of one depend on data."""
    found = list(sweeps)
    return None if None in found else sum(n for n in found if n is not None)


class _Ends:
    """Values of bounds in one tile, other axes being at their first positions; raises LookupError where data decide."""

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
