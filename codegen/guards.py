"""Guards: which comparisons a mask still needs once those that always hold are dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rooftile.codegen.space import Space
from rooftile.ir.core import is_index_value
from rooftile.ir.expr import Size, symbols, terms_of
from rooftile.ir.ranges import at_least


@dataclass(frozen=True)
class Condition:
    """``left < right`` if ``bound``, else ``left >= right``."""

    left: Size
    right: Size
    bound: bool


def needed(guard: tuple[tuple[Size, Size], ...], space: Space) -> tuple[Condition, ...]:
    """The comparisons that ``guard``, pairs meaning ``0 <= expr < extent``, takes over whole tiles.

    An axis runs to the end of its last tile, so its own ``a < extent`` is dropped only if the tile divides the extent.
    Nothing is known of an index that comes from data.
    """
    return tuple(dict.fromkeys(condition for pair in guard for condition in _needed_of_pair(*pair, space)))


def _needed_of_pair(position: Size, extent: Size, space: Space) -> Iterator[Condition]:
    covered = space.split(position)
    shift = terms_of(position).get((), 0)
    is_data, is_bound = (any(is_index_value(s.name) for s in symbols(e)) for e in (position, extent))
    if is_data or not at_least(covered, 0):
        yield Condition(position - shift, -shift, bound=False)
    if is_data or is_bound or not at_least(extent - covered, 1):
        yield Condition(position - shift, extent - shift, bound=True)
