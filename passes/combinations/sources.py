"""What each value of a graph varies with: the expressions of its own index that its elements are functions of.

A value read from memory varies with each of its indices. What is computed from positions may vary with less: an element
of ``iota(i) - iota(j)``, and whatever is computed from that alone, is a function of ``x0 - x1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Expr, Size, Symbol, axis, from_terms, symbols
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.polynomial import add, mul
from rooftile.ir.substitution import substitute
from rooftile.passes.canonical.casts import holds_values
from rooftile.passes.regions.access import Read, Space
from rooftile.passes.regions.operands import ROWS, Walk


@dataclass(frozen=True)
class Source:
    """What the elements of a value are functions of.

    ``varies`` are expressions over the value's indices (``x0``, ``x1``, ...), less what is added to them. ``linear`` is
    the element itself, where it is a sum of multiples of indices.
    """

    varies: frozenset[Size]
    linear: Size | None = None


def index_of(value: Value) -> tuple[Size, ...]:
    """The index of an element of ``value``: ``x0``, ``x1``, ..., and 0 along dimensions of size 1."""
    return tuple(0 if size == 1 else axis(f"x{d}", size) for d, size in enumerate(value.shape))


def operand_indices(op: Op) -> tuple[tuple[Size, ...], ...]:
    """Where each operand of a pointwise op, a cast or a view is read for an element of its result."""
    node = ROWS[op.name](Walk(Space()), op, Read(op.output, index_of(op.output)))
    return tuple(read.index for read in node.operands)


def is_followed(op: Op) -> bool:
    """Whether an element of the result is computed from one element of each operand, wherever it lies."""
    return op.name in ("pointwise", "cast") or (GRAPH_OPS[op.name].view and op.name not in ("concat", "pad"))


def sources(graph: Graph) -> dict[Value, Source]:
    """What each value of ``graph`` varies with."""
    found = {value: _everything(value) for value in graph.inputs}
    for op in graph.ops:
        for value in op.outputs:
            found[value] = _of(op, found) if len(op.outputs) == 1 else _everything(value)
    return found


def _everything(value: Value) -> Source:
    return Source(frozenset(e for e in index_of(value) if isinstance(e, Expr)))


def _of(op: Op, known: Mapping[Value, Source]) -> Source:
    if op.name == "iota":
        return _exact(op.output, index_of(op.output)[0]) or _everything(op.output)
    if op.name in ("constant", "size"):
        number = op.attrs["value"]
        if isinstance(number, float):
            number = int(number) if number.is_integer() else None
        return Source(frozenset()) if number is None else _exact(op.output, number) or Source(frozenset())
    if op.name == "gather":
        return Source(_varies_of_gather(op, known))
    if not is_followed(op):
        return _everything(op.output)
    operands = [_at(known[v], index) for v, index in zip(op.inputs, operand_indices(op), strict=True)]
    linear = _linear(op, [source.linear for source in operands])
    exact = _exact(op.output, linear) if linear is not None else None
    return exact or Source(frozenset().union(*(source.varies for source in operands)))


def _at(source: Source, index: tuple[Size, ...]) -> Source:
    """``source`` of a value that is read at ``index``."""
    at = {f"x{d}": e for d, e in enumerate(index)}
    varies = (_without_constant(substitute(e, at)) for e in source.varies)
    linear = substitute(source.linear, at) if source.linear is not None else None
    return Source(frozenset(e for e in varies if isinstance(e, Expr)), linear)


def _varies_of_gather(op: Op, known: Mapping[Value, Source]) -> frozenset[Size]:
    own = {name: e for (name, _), e in zip(op.attrs["axes"], index_of(op.output), strict=True)}
    maps = [tuple(substitute(e, own) for e in access) for access in op.attrs["maps"]]
    found = {_without_constant(e) for e in maps[0] if not _reads_an_index(e)}
    found |= {s for e in maps[0] if _reads_an_index(e) for s in _axes_in(e)}
    for value, access in zip(op.inputs[1:], maps[1:], strict=True):
        found |= _at(known[value], access).varies
    return frozenset(e for e in found if isinstance(e, Expr))


def _reads_an_index(e: Size) -> bool:
    return any(s.name.startswith("idx") for s in symbols(e))


def _axes_in(e: Size) -> list[Size]:
    return [axis(s.name, s.extent) for s in symbols(e) if s.extent is not None]


def _without_constant(e: Size) -> Size:
    """``e`` less what is the same at every index."""
    if isinstance(e, int):
        return 0
    return add(e, mul(substitute(e, {s.name: 0 for s in symbols(e) if s.extent is not None}), -1))


_SUMS: dict[str, Callable[..., Size]] = {"add": add, "sub": lambda a, b: add(a, mul(b, -1))}
_MULTIPLES: dict[str, Callable[..., Size]] = {"mul": mul, "neg": lambda a: mul(a, -1)}


def _linear(op: Op, operands: list[Size | None]) -> Size | None:
    """The result as a sum of multiples of indices. Of floats only sums: a multiple may be the other zero."""
    table = _SUMS if op.output.dtype.is_float else _SUMS | _MULTIPLES
    known = [e for e in operands if e is not None]
    if len(known) < len(operands) or op.inputs[0].dtype.kind == "bool" or op.output.dtype.kind == "bool":
        return None
    if op.name != "pointwise":
        return known[0]
    return table[op.attrs["fn"]](*known) if op.attrs["fn"] in table else None


def coefficients(e: Size) -> dict[str, int] | None:
    """The number by which each index is multiplied in ``e``; None where ``e`` is no sum of multiples of indices."""
    found: dict[str, int] = {}
    for monomial, coefficient in e.terms if isinstance(e, Expr) else ():
        if not any(s.extent is not None for s in symbols(from_terms({monomial: 1}))):
            continue
        if len(monomial) != 1 or not isinstance(monomial[0], Symbol):
            return None
        found[monomial[0].name] = coefficient
    return found


def _exact(value: Value, e: Size) -> Source | None:
    """The source of a value that is ``e``; None where that is no linear expression, or not one that the type holds."""
    if coefficients(e) is None or not holds_values(value.dtype, e):
        return None
    rest = _without_constant(e)
    return Source(frozenset({rest}) if isinstance(rest, Expr) else frozenset(), e)
