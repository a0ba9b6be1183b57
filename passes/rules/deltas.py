"""Where a sum's terms are multiplied by nothing but zeros and a few ones: ``sum_e [i_k = e] y_e = y_{i_k}``.

A term is followed down through what passes a factor on (products, casts, views, sums, a choice beside zero) to a
comparison of the summed position with an index from data. Spelled out, a scatter is such a comparison as well: the last
position that names ``e``, if any does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size, axis, symbol_names
from rooftile.ir.substitution import substitute
from rooftile.passes.numbers import number_in
from rooftile.passes.regions.view_index import VIEWED_AT

DEEPEST = 32  # ops between a sum and the comparison
Index = tuple[Size, ...]


@dataclass(frozen=True)
class Step:
    """On the way down, the ``operand`` of ``op`` that carries the factor, and what the axes are called that ``op``
    itself runs over, by dim or by name."""

    op: Op
    operand: int
    own: Mapping[Any, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delta:
    """``value``, at the end of ``steps``, is one where the summed axis is ``index`` at ``at``, and zero elsewhere.

    ``sizes`` has the axes of ``at``. What several positions along the axis ``once`` name counts once. A ``writer``,
    read at its index, is the last of these.
    """

    steps: tuple[Step, ...]
    value: Value
    index: Value
    at: Index
    sizes: Mapping[str, Size]
    once: str
    writer: tuple[Value, Index] | None = None


@dataclass(frozen=True)
class _Found:
    """A comparison: ``index`` at ``at``."""

    index: Value
    at: Index


def deltas(op: Op, summed: str, space: Mapping[str, Size], producers: Mapping[Value, Op]) -> Iterator[Delta]:
    """The factors of the sum ``op`` over ``summed``, one of the axes of its ``space``, that are such comparisons."""
    return _Search(summed, dict(space), producers).of_sum(op)


class _Search:
    def __init__(self, summed: str, sizes: dict[str, Size], producers: Mapping[Value, Op]) -> None:
        self._summed, self._sizes, self._producers = summed, sizes, producers
        self._position = axis(summed, sizes[summed])
        self._numbers = count()
        self._seen: set[tuple[Value, Index, str]] = set()

    def of_sum(self, op: Op) -> Iterator[Delta]:
        if op.name == "contract":
            for number, (x, entries) in enumerate(zip(op.inputs, op.attrs["maps"], strict=True)):
                yield from self._walk(x, tuple(entries), (Step(op, number),), "")
        else:
            index = tuple(axis(f"d{d}", size) for d, size in enumerate(op.inputs[0].shape))
            yield from self._walk(op.inputs[0], index, (Step(op, 0),), "")

    def _walk(self, value: Value, index: Index, steps: tuple[Step, ...], once: str) -> Iterator[Delta]:
        op = self._producers.get(value)
        if op is None or len(steps) > DEEPEST or not self._varies(index) or (value, index, once) in self._seen:
            return
        self._seen.add((value, index, once))
        if op.name in VIEWED_AT:
            yield from self._walk(op.inputs[0], VIEWED_AT[op.name](op, index), (*steps, Step(op, 0)), once)
        elif op.name == "cast" and (op.output.dtype.is_float or op.inputs[0].dtype.kind == "bool"):
            yield from self._walk(op.inputs[0], index, (*steps, Step(op, 0)), once)
        elif op.name == "pointwise":
            yield from self._pointwise(op, index, steps, once)
        elif op.name == "reduce" and op.attrs["fn"] in ("sum", "any"):
            yield from self._reduce(op, index, steps, once)
        elif op.name == "contract":
            yield from self._contract(op, index, steps, once)

    def _varies(self, index: Index) -> bool:
        return any(self._summed in symbol_names(entry) for entry in index)

    def _pointwise(self, op: Op, index: Index, steps: tuple[Step, ...], once: str) -> Iterator[Delta]:
        fn = op.attrs["fn"]
        if fn == "eq" and (found := self._compared(op, index)) is not None:
            yield self._delta(op, found, steps, once)
        elif fn == "ge" and not once:
            yield from self._written(op, index, steps)
        for number in self._carriers(op):
            yield from self._walk(op.inputs[number], index, (*steps, Step(op, number)), once)

    def _carriers(self, op: Op) -> tuple[int, ...]:
        """The operands that make the result zero where they are: of a choice the condition, which then chooses it."""
        if op.attrs["fn"] != "where":
            return _CARRIERS.get(op.attrs["fn"], ())
        if self._is_zero(op.inputs[2]):
            return 0, 1
        return (2,) if self._is_zero(op.inputs[1]) else ()

    def _is_zero(self, value: Value) -> bool:
        return number_in(value, self._producers.get) == 0

    def _delta(self, op: Op, found: _Found, steps: tuple[Step, ...], once: str) -> Delta:
        varies = any(once in symbol_names(entry) for entry in found.at)
        return Delta(steps, op.output, found.index, found.at, dict(self._sizes), once if varies else "")

    def _compared(self, op: Op, index: Index) -> _Found | None:
        """``op`` as a comparison of the summed position with an index."""
        if op.inputs[0].dtype.kind != "int":
            return None
        for position, other in (op.inputs, op.inputs[::-1]):
            if not self._is_position(position, index, self._position):
                continue
            found = self._behind_views(other, index)
            if found is not None and not self._varies(found.at):
                return found
        return None

    def _is_position(self, value: Value, index: Index, wanted: Size) -> bool:
        op = self._producers.get(value)
        while op is not None and (op.name in VIEWED_AT or (op.name == "cast" and op.inputs[0].dtype.kind == "int")):
            index = VIEWED_AT[op.name](op, index) if op.name in VIEWED_AT else index
            op = self._producers.get(op.inputs[0])
        return op is not None and op.name == "iota" and index == (wanted,)

    def _behind_views(self, value: Value, index: Index) -> _Found | None:
        """The value behind views that is read at axes, each of them once."""
        found = None
        while True:
            if self._are_axes(index):
                found = _Found(value, index)
            op = self._producers.get(value)
            if op is None or op.name not in VIEWED_AT:
                return found
            value, index = op.inputs[0], VIEWED_AT[op.name](op, index)

    def _are_axes(self, index: Index) -> bool:
        names = [name for entry in index for name in symbol_names(entry) if name in self._sizes]
        plain = {axis(name, size) for name, size in self._sizes.items()}
        return len(set(names)) == len(names) and all(entry == 0 or entry in plain for entry in index)

    def _written(self, op: Op, index: Index, steps: tuple[Step, ...]) -> Iterator[Delta]:
        """``last >= 0``, with ``last = max_k (k where index[k] = e, else -1)``: some ``k`` names ``e``."""
        last = self._producers.get(op.inputs[0])
        if (
            not self._is_zero(op.inputs[1])
            or last is None
            or last.attrs.get("fn") != "max"
            or len(last.attrs.get("dims", ())) != 1
        ):
            return
        inner, own = self._inside(last, index)
        choice = self._producers.get(last.inputs[0])
        if choice is None or choice.attrs.get("fn") != "where":
            return
        same, position, none = choice.inputs
        (name,) = own.values()
        nothing = number_in(none, self._producers.get)
        if nothing is None or nothing >= 0 or not self._is_position(position, inner, axis(name, self._sizes[name])):
            return
        compared = self._producers.get(same)
        found = self._compared(compared, inner) if compared is not None and compared.attrs.get("fn") == "eq" else None
        if found is not None and any(name in symbol_names(entry) for entry in found.at):
            writer = (op.inputs[0], index)
            yield Delta(steps, op.output, found.index, found.at, dict(self._sizes), name, writer)

    def _inside(self, op: Op, index: Index) -> tuple[Index, dict[int, str]]:
        """Where a reduction read at ``index`` reads its operand, and what the dims that it runs over are called."""
        outer, own = iter(index), dict[int, str]()
        inner: list[Size] = []
        for d, size in enumerate(op.inputs[0].shape):
            if d in op.attrs["dims"]:
                own[d] = f"s{next(self._numbers)}"
                self._sizes[own[d]] = size
                inner.append(axis(own[d], size))
            else:
                inner.append(next(outer))
        return tuple(inner), own

    def _reduce(self, op: Op, index: Index, steps: tuple[Step, ...], once: str) -> Iterator[Delta]:
        inner, own = self._inside(op, index)
        if op.attrs["fn"] == "any" and (once or len(own) != 1):
            return
        first = next(iter(own.values()), "") if op.attrs["fn"] == "any" else once
        yield from self._walk(op.inputs[0], inner, (*steps, Step(op, 0, dict(own))), first)

    def _contract(self, op: Op, index: Index, steps: tuple[Step, ...], once: str) -> Iterator[Delta]:
        values: dict[str, Size] = dict(zip(op.attrs["out"], index, strict=True))
        own = {name: f"s{next(self._numbers)}" for name, _ in op.attrs["axes"] if name not in values}
        for name, size in op.attrs["axes"]:
            if name in own:
                self._sizes[own[name]] = size
                values[name] = axis(own[name], size)
        for number, (x, entries) in enumerate(zip(op.inputs, op.attrs["maps"], strict=True)):
            inner = tuple(substitute(entry, values) for entry in entries)
            yield from self._walk(x, inner, (*steps, Step(op, number, dict(own))), once)


# The operands of which each makes the result zero where it is zero.
_CARRIERS: Mapping[str, tuple[int, ...]] = {"mul": (0, 1), "div": (0,), "neg": (0,), "and": (0, 1)}
