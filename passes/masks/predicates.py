"""A boolean value of a region as a predicate over its axes: comparisons of index arithmetic, joined by and, or and not.

``i >= j`` is ``AtLeast(i - j)``, that is ``i - j >= 0``. An integer that is no index arithmetic (a length that is
loaded, say) stands in it as a symbol of its own; a boolean that is no comparison of integers is ``Unknown``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rooftile.ir.division import floordiv, mod
from rooftile.ir.expr import Size, Symbol, of, symbols
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least
from rooftile.passes.regions.access import Access, Node, Read, is_same

LOWEST = -(2**62)  # no integer that an index could be compared with lies below


@dataclass(frozen=True)
class AtLeast:
    """``size >= 0``."""

    size: Size


@dataclass(frozen=True)
class All:
    """Every part holds; of none, true."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Some:
    """A part holds; of none, false."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Unknown:
    """What the boolean ``read`` holds, or that a number compares with another as ``test`` says (``("le", -1e38)``), or
    the opposite."""

    read: Read
    negated: bool = False
    test: tuple[str, float] | None = None


Predicate: TypeAlias = AtLeast | All | Some | Unknown
TRUE, FALSE = All(()), Some(())


def all_of(*parts: Predicate) -> Predicate:
    """That every part holds, without parts that always do; false where one never does."""
    left = tuple(dict.fromkeys(p for p in parts if p != TRUE))
    return FALSE if FALSE in left else left[0] if len(left) == 1 else All(left)


def some_of(*parts: Predicate) -> Predicate:
    """That a part holds, without parts that never do; true where one always does."""
    left = tuple(dict.fromkeys(p for p in parts if p != FALSE))
    return TRUE if TRUE in left else left[0] if len(left) == 1 else Some(left)


def negation(predicate: Predicate) -> Predicate:
    """What holds where ``predicate`` doesn't."""
    match predicate:
        case AtLeast(size):
            return AtLeast(add(mul(size, -1), -1))
        case All(parts):
            return some_of(*(negation(p) for p in parts))
        case Some(parts):
            return all_of(*(negation(p) for p in parts))
        case Unknown():
            return replace(predicate, negated=not predicate.negated)


def is_known(predicate: Predicate) -> bool:
    """Whether the predicate is index arithmetic throughout."""
    if isinstance(predicate, (All, Some)):
        return all(is_known(p) for p in predicate.parts)
    return isinstance(predicate, AtLeast)


# What a comparison means, given `a - b`.
_COMPARISONS: dict[str, Callable[[Size], Predicate]] = {
    "ge": lambda d: AtLeast(d),
    "gt": lambda d: AtLeast(add(d, -1)),
    "le": lambda d: AtLeast(mul(d, -1)),
    "lt": lambda d: AtLeast(add(mul(d, -1), -1)),
    "eq": lambda d: All((AtLeast(d), AtLeast(mul(d, -1)))),
    "ne": lambda d: Some((AtLeast(add(d, -1)), AtLeast(add(mul(d, -1), -1)))),
}
_POLYNOMIAL: dict[str, Callable[..., Size]] = {
    "add": add,
    "sub": lambda a, b: add(a, mul(b, -1)),
    "mul": mul,
    "neg": lambda a: mul(a, -1),
}
_DIVISIONS: dict[str, Callable[[Size, Size], Size]] = {"floordiv": floordiv, "mod": mod}


@dataclass
class Predicates:
    """Translates the reads of a region; ``values`` are the integer reads that stand as symbols, by these's names."""

    access: Access
    values: dict[str, Read] = field(default_factory=dict)

    def of(self, read: Read) -> Predicate:
        """The predicate that the boolean ``read`` is."""
        node = self.access.nodes[read]
        if node.op is None or read.value.type.dtype.kind != "bool":
            return Unknown(read)
        if node.op.name == "pointwise":
            return self._scalar(str(node.op.attrs["fn"]), read, node)
        if node.op.name == "constant":
            return TRUE if node.op.attrs["value"] else FALSE
        if node.op.name == "cast" and node.operands[0].value.dtype.kind == "int":
            return _COMPARISONS["ne"](self.size(node.operands[0]))
        return self.of(node.operands[0]) if is_same(node) else Unknown(read)

    def that(self, read: Read, holds: bool) -> Predicate:
        """The predicate that the boolean ``read`` holds, or that it doesn't."""
        predicate = self.of(read)
        return predicate if holds else negation(predicate)

    def _scalar(self, fn: str, read: Read, node: Node) -> Predicate:
        kinds = {operand.value.dtype.kind for operand in node.operands}
        if fn in _COMPARISONS and kinds == {"int"}:
            left, right = (self.size(operand) for operand in node.operands)
            return _COMPARISONS[fn](add(left, mul(right, -1)))
        if kinds != {"bool"}:
            return Unknown(read)
        parts = tuple(self.of(operand) for operand in node.operands)
        match fn, parts:
            case "and", _:
                return all_of(*parts)
            case "or", _:
                return some_of(*parts)
            case "not", (part,):
                return negation(part)
            case (("xor" | "ne"), (a, b)):
                return some_of(all_of(a, negation(b)), all_of(negation(a), b))
            case "eq", (a, b):
                return some_of(all_of(a, b), all_of(negation(a), negation(b)))
            case "where", (condition, a, b):
                return some_of(all_of(condition, a), all_of(negation(condition), b))
        return Unknown(read)

    def size(self, read: Read) -> Size:
        """The integer ``read`` as index arithmetic."""
        node = self.access.nodes[read]
        op = node.op
        if op is not None:
            if op.name == "iota":
                return read.index[0]
            if op.name in ("constant", "size"):
                value: Size = op.attrs["value"]
                return value
            if is_same(node) or (op.name == "cast" and node.operands[0].value.dtype.kind == "int"):
                return self.size(node.operands[0])
            if op.name == "pointwise" and op.attrs["fn"] in _POLYNOMIAL:
                return _POLYNOMIAL[op.attrs["fn"]](*(self.size(operand) for operand in node.operands))
            if op.name == "pointwise" and op.attrs["fn"] in _DIVISIONS:
                num, den = (self.size(operand) for operand in node.operands)
                if at_least(den, 1):
                    return _DIVISIONS[op.attrs["fn"]](num, den)
        return self._symbol(read)

    def _symbol(self, read: Read) -> Size:
        name = next((n for n, known in self.values.items() if known == read), f"value{len(self.values)}")
        self.values[name] = read
        return of(Symbol(name, None, LOWEST))

    def read_of(self, symbol: Symbol) -> Read | None:
        """The integer read that ``symbol`` stands for; None for a size or an axis."""
        return self.values.get(symbol.name) or self.access.indirect.get(symbol.name)

    def axes_of(self, size: Size) -> frozenset[str]:
        """The axes that ``size`` varies along, through the values in it too."""
        found: frozenset[str] = frozenset()
        for symbol in symbols(size):
            read = self.read_of(symbol)
            if read is not None:
                found |= self.access.free[read]
            elif symbol.extent is not None:
                found |= {symbol.name}
        return found
