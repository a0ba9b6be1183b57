"""Rule Part: which part of each operand an op needs for a part of its result, and the op that gives that part.

``(sum_k x[i, k] w[n, k])[i := s .. s + r]  =  sum_k x[s + i, k] w[n, k]``. A part is a span along each dimension. Where
an op mixes what lies along a dimension, it needs all of it, and gives all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from rooftile.ir.core import Op
from rooftile.ir.expr import Size, axis, symbol_names
from rooftile.ir.polynomial import add, mul, product
from rooftile.ir.ranges import at_least
from rooftile.ir.substitution import substitute
from rooftile.passes.regions.dims import boundaries, longer


class Span(NamedTuple):
    """``size`` positions from ``start`` on."""

    start: Size
    size: Size


Part: TypeAlias = tuple[Span | None, ...]  # of each dimension; None for one of which it is all


@dataclass(frozen=True)
class Needs:
    """What an op needs, ``inputs``, to give ``output``, which holds the part that was asked for; and the ``attrs`` with
    which it does."""

    output: Part
    inputs: tuple[Part, ...]
    attrs: Mapping[str, Any]


def needs(op: Op, part: Part) -> Needs:
    """What ``op``, which has one result, needs for ``part`` of it."""
    rule = _RULES.get(op.name)
    return rule(op, part) if rule is not None else _all(op, part)


def whole(rank: int) -> Part:
    """All of every dimension."""
    return (None,) * rank


def joined(a: Part, b: Part) -> Part:
    """A part that holds both; all of a dimension where that is no span known beforehand."""
    return tuple(_joined(x, y) for x, y in zip(a, b, strict=True))


def _joined(a: Span | None, b: Span | None) -> Span | None:
    if a == b or a is None or b is None:
        return a if a == b else None
    if not all(isinstance(n, int) for n in (*a, *b)):
        return None
    start = min(a.start, b.start)  # type: ignore[type-var]
    end = max(add(*a), add(*b))  # type: ignore[type-var]
    return Span(start, add(end, mul(start, -1)))


def _all(op: Op, _: Part) -> Needs:
    return Needs(whole(op.output.type.rank), tuple(whole(x.type.rank) for x in op.inputs), op.attrs)


def _elementwise(op: Op, part: Part) -> Needs:
    return Needs(part, (part,) * len(op.inputs), op.attrs)


def _permute(op: Op, part: Part) -> Needs:
    perm = op.attrs["perm"]
    return Needs(part, (tuple(part[perm.index(d)] for d in range(len(perm))),), op.attrs)


def _expand(op: Op, part: Part) -> Needs:
    (x,) = op.inputs
    inner = tuple(None if n == 1 else part[d] for n, d in zip(x.shape, op.attrs["dims"], strict=True))
    return Needs(part, (inner,), {**op.attrs, "shape": _sizes(op.output.shape, part)})


def _sizes(shape: Sequence[Size], part: Part) -> tuple[Size, ...]:
    return tuple(n if span is None else span.size for n, span in zip(shape, part, strict=True))


def _reshape(op: Op, part: Part) -> Needs:
    """Of dimensions that are split or merged, a part is one of the operand where it is of the outermost."""
    x, out = op.inputs[0].shape, op.output.shape
    before, after = boundaries(x), boundaries(out)
    shared = [size for size in before if size in after]
    inner, given = list(whole(len(x))), list(whole(len(out)))
    for start, end in pairwise(shared):
        own, theirs = longer(x)[before[start] : before[end]], longer(out)[after[start] : after[end]]
        span, moved = part[theirs[0]], None
        if span is not None and all(part[d] is None for d in theirs[1:]):
            moved = _scaled(span, product([out[d] for d in theirs[1:]]), product([x[d] for d in own[1:]]))
        if moved is not None:
            inner[own[0]], given[theirs[0]] = moved, span
    return Needs(tuple(given), (tuple(inner),), {"shape": _sizes(out, tuple(given))})


def _scaled(span: Span, factor: Size, divisor: Size) -> Span | None:
    """A span of runs of ``factor`` elements as one of runs of ``divisor``; None where it is none."""
    if factor == divisor:
        return span
    start, size = (mul(n, factor) for n in span)
    if divisor == 1:
        return Span(start, size)
    if not (isinstance(start, int) and isinstance(size, int) and isinstance(divisor, int)):
        return None
    return None if start % divisor or size % divisor else Span(start // divisor, size // divisor)


def _slice(op: Op, part: Part) -> Needs:
    inner: list[Span | None] = []
    starts: list[Size] = []
    sizes = _sizes(op.output.shape, part)
    for d, (start, step) in enumerate(zip(op.attrs["starts"], op.attrs["steps"], strict=True)):
        span = part[d]
        first = add(start, mul(step, span.start)) if span is not None else start
        forward = step > 0 or sizes[d] == 1
        inner.append(Span(first, add(mul(step, add(sizes[d], -1)), 1)) if forward else None)
        starts.append(0 if forward else first)
    return Needs(part, (tuple(inner),), {**op.attrs, "starts": tuple(starts), "sizes": sizes})


def _concat(op: Op, part: Part) -> Needs:
    return _elementwise(op, _without(part, (op.attrs["dim"],)))


def _scan(op: Op, part: Part) -> Needs:
    return _elementwise(op, _without(part, (op.attrs["dim"],)))


def _pad(op: Op, part: Part) -> Needs:
    sides = zip(op.attrs["low"], op.attrs["high"], strict=True)
    return _elementwise(op, _without(part, [d for d, side in enumerate(sides) if side != (0, 0)]))


def _without(part: Part, dims: Sequence[int]) -> Part:
    return tuple(None if d in dims else span for d, span in enumerate(part))


def _reduce(op: Op, part: Part) -> Needs:
    outer, dims = iter(part), op.attrs["dims"]
    inner = tuple(None if d in dims else next(outer) for d in range(op.inputs[0].type.rank))
    return Needs(part, (inner,), op.attrs)


def _arrange(op: Op, part: Part) -> Needs:
    given = _without(part, (0,))
    return Needs(given, (given, (None,)), op.attrs)


def _over_axes(op: Op, part: Part) -> Needs:
    """Of an op with maps, which reads each operand at indices over its axes."""
    names = op.attrs["out"] if op.name == "contract" else [name for name, _ in op.attrs["axes"]]
    spans = {name: span for name, span in zip(names, part, strict=True) if span is not None}
    axes = tuple((name, spans[name].size if name in spans else size) for name, size in op.attrs["axes"])
    sizes = dict(axes)
    moved = {name: add(axis(name, span.size), span.start) for name, span in spans.items()}
    inner: list[Part] = []
    maps: list[tuple[Size, ...]] = []
    for x, entries in zip(op.inputs, op.attrs["maps"], strict=True):
        read = [_read(entry, size, sizes, moved) for entry, size in zip(entries, x.shape, strict=True)]
        inner.append(tuple(span for span, _ in read))
        maps.append(tuple(entry for _, entry in read))
    return Needs(part, tuple(inner), {**op.attrs, "axes": axes, "maps": tuple(maps)})


def _read(entry: Size, size: Size, sizes: Mapping[str, Size], moved: Mapping[str, Size]) -> tuple[Span | None, Size]:
    """What of a dimension is read at an index whose axes have ``moved``, and the index in that part."""
    at = substitute(entry, moved)
    if not isinstance(entry, int) and symbol_names(entry).isdisjoint(moved):
        return None, at
    span = _span_of(at, sizes, size)
    return span, at if span is None else add(at, mul(span.start, -1))


def _span_of(entry: Size, sizes: Mapping[str, Size], size: Size) -> Span | None:
    """The positions of a dimension of ``size`` that ``entry`` runs over; None where that is not known, or all."""
    names = symbol_names(entry)
    if any(name.startswith("idx") and name not in sizes for name in names):
        return None
    first = substitute(entry, {name: 0 for name in names if name in sizes})
    last = substitute(entry, {name: add(sizes[name], -1) for name in names if name in sizes})
    inside = at_least(add(entry, mul(first, -1)), 0) and at_least(add(last, mul(entry, -1)), 0)
    return Span(first, add(add(last, mul(first, -1)), 1)) if inside and size != 1 else None


_RULES: Mapping[str, Callable[[Op, Part], Needs]] = {
    "pointwise": _elementwise,
    "cast": _elementwise,
    "positions": _elementwise,
    "permute": _permute,
    "expand": _expand,
    "reshape": _reshape,
    "slice": _slice,
    "concat": _concat,
    "scan": _scan,
    "pad": _pad,
    "reduce": _reduce,
    "arrange": _arrange,
    "contract": _over_axes,
    "gather": _over_axes,
}
