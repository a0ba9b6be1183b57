"""Rule Correct: a running result stays right when another running result, which it was computed with, changes.

Where a reduction's operand is ``F(x, r)`` and ``r`` a function of reductions over the same axis, one sweep computes
both if ``F(x, r') = C(r, r') * F(x, r)`` and the
combine distributes over ``C``: the state so far is multiplied by ``C`` (or has it added), then the next tile goes in
with the new ``r``. With
``F = exp(x - r)`` this is the online softmax. What passes shifts and factors on is declared in the scalar table, no
function is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.regions.access import Access, Node, Read
from rooftile.passes.rules.linear import Step

Product: TypeAlias = tuple[int, tuple[Read, ...]]  # a sign and the reads that are multiplied


@dataclass(frozen=True)
class Correction:
    """How a state follows its references: with ``d = sum(sign * product(new) - sign * product(old))`` over ``terms``,
    it becomes ``state + d`` (``kind`` is ``"shift"``) or
    ``state * fn(d)`` (``"factor"``). ``references`` are the reductions that the terms depend on."""

    kind: Literal["shift", "factor"]
    fn: str
    terms: tuple[Product, ...]
    references: frozenset[Read]


@dataclass(frozen=True)
class _Fixed:
    """Doesn't change with any reference."""


@dataclass(frozen=True)
class _Shift:
    """``v(r') = v(r) + d``."""

    terms: tuple[Product, ...]


@dataclass(frozen=True)
class _Factor:
    """``v(r') = v(r) * fn(d)``, and ``fn(a + b) = fn(a) * fn(b)``; the factor is positive."""

    fn: str
    terms: tuple[Product, ...]


@dataclass(frozen=True)
class _Other:
    """Changes in a way that no rule describes; ``read`` is where that begins."""

    read: Read


_Change: TypeAlias = _Fixed | _Shift | _Factor | _Other
FIXED = _Fixed()


def corrections(access: Access, name: str) -> dict[Read, Correction]:
    """The reductions over axis ``name`` that depend on others over it, and can run in the same sweep as these by being
    corrected."""
    over = [r for r in access.reductions() if name in access.nodes[r].bound]
    depends = dependencies(access, over)
    found: dict[Read, Correction] = {}
    for read in over:
        references = frozenset().union(*(depends[o] for o in access.nodes[read].operands))
        if references:
            change = _combine(access, read, _Walk(access, name, depends))
            if isinstance(change, Correction):
                found[read] = change
    return found


def dependencies(access: Access, reductions: list[Read]) -> dict[Read, frozenset[Read]]:
    """Which of ``reductions`` each read is computed from."""
    chosen = set(reductions)
    depends: dict[Read, frozenset[Read]] = {}
    for read, node in access.nodes.items():
        needed = (*node.operands, *access.index_reads(read).values())
        mine = frozenset().union(*(depends[o] for o in needed))
        depends[read] = mine | {read} if read in chosen else mine
    return depends


def _combine(access: Access, read: Read, walk: _Walk) -> Correction | _Other:
    """The correction of a reduction's state from how its operands change."""
    node = access.nodes[read]
    assert node.op is not None
    references = frozenset().union(*(walk.depends[o] for o in node.operands))
    changes = [walk.change(o) for o in node.operands]
    if node.op.name == "contract":
        change = _product(read, changes)
        return (
            Correction("factor", change.fn, change.terms, references) if isinstance(change, _Factor) else _Other(read)
        )
    (change,) = changes
    combine = SCALARS[COMBINES[node.op.attrs["fn"]].scalar]
    if COMBINES[node.op.attrs["fn"]].position:
        return _Other(read)
    both = frozenset({0, 1})
    if isinstance(change, _Factor) and both in combine.homogeneous:
        return Correction("factor", change.fn, change.terms, references)
    if isinstance(change, _Shift) and both in combine.shifted:
        return Correction("shift", "", change.terms, references)
    return _Other(read)


def _product(read: Read, changes: list[_Change]) -> _Change:
    """How a product changes whose factors change as given."""
    factors = [c for c in changes if isinstance(c, _Factor)]
    if any(not isinstance(c, _Fixed | _Factor) for c in changes) or len({f.fn for f in factors}) > 1:
        return next((c for c in changes if isinstance(c, _Other)), _Other(read))
    return _Factor(factors[0].fn, sum((f.terms for f in factors), ())) if factors else FIXED


class _Walk:
    """How reads change when the reductions over one axis that they depend on do."""

    def __init__(self, access: Access, name: str, depends: Mapping[Read, frozenset[Read]]) -> None:
        self.access, self.name, self.depends = access, name, depends
        self.known: dict[Read, _Change] = {}

    def change(self, read: Read) -> _Change:
        """The change of ``read``; what doesn't vary along the axis is a reference itself."""
        if not self.depends[read]:
            return FIXED
        if self.name not in self.access.free[read]:
            return _Shift(((1, (read,)),))
        if read not in self.known:
            self.known[read] = self.through(read, self.access.nodes[read])
        return self.known[read]

    def through(self, read: Read, node: Node) -> _Change:
        op = node.op
        if op is None:
            return _Other(read)
        changes = [self.change(o) for o in node.operands]
        if op.name == "pointwise":
            return self.pointwise(read, node, op.attrs["fn"], changes)
        if op.name == "contract":
            return _product(read, changes)
        if op.name == "reduce":
            (change,) = changes
            whole = frozenset({0, 1}) in SCALARS[COMBINES[op.attrs["fn"]].scalar].homogeneous
            return change if isinstance(change, _Factor) and whole else _Other(read)
        if len(changes) == 1 and op.name != "pad":
            return changes[0] if op.name != "cast" or op.output.dtype.is_float else _Other(read)
        return _Other(read)

    def pointwise(self, read: Read, node: Node, fn: str, changes: list[_Change]) -> _Change:
        row = SCALARS[fn]
        other = next((c for c in changes if isinstance(c, _Other)), None)
        if other is not None:
            return other
        if row.turns_shift_into_factor and isinstance(changes[0], _Shift):
            return _Factor(fn, changes[0].terms)
        if row.terms and not any(isinstance(c, _Factor) for c in changes):
            return _Shift(_signed(row.terms, changes))
        if fn in ("mul",) or row.factors:
            scaled = self.scaled(read, node, row.factors, changes)
            if scaled is not None:
                return scaled
        return self.jointly(read, node, fn, changes)

    def scaled(
        self, read: Read, node: Node, factors: Mapping[int, tuple[int, str]], changes: list[_Change]
    ) -> _Change | None:
        """A product: factors multiply; a shift times what varies neither with the axis nor with a reference is a
        shift."""
        multiplies = all(fn == "mul" for _, fn in factors.values())
        if multiplies and not any(isinstance(c, _Shift) for c in changes):
            return _product(read, changes)
        for position, (rest, fn) in factors.items():
            change, factor = changes[rest], changes[position]
            if isinstance(change, _Factor) and isinstance(factor, _Fixed):
                return change
            steady = isinstance(factor, _Fixed) and self.name not in self.access.free[node.operands[position]]
            if isinstance(change, _Shift) and steady and fn == "mul":
                scale = node.operands[position]
                return _Shift(tuple((sign, (*reads, scale)) for sign, reads in change.terms))
        return None

    def jointly(self, read: Read, node: Node, fn: str, changes: list[_Change]) -> _Change:
        """Operands that all change alike, through a function that passes that on; one that is the change's fixed point
        may stand beside them."""
        row = SCALARS[fn]
        for wanted, kind in ((row.homogeneous, _Factor), (row.shifted, _Shift)):
            for together in wanted:
                inside = {changes[n] for n in together if not self.is_fixed_point(node.operands[n], kind)}
                outside = [changes[n] for n in range(len(changes)) if n not in together]
                if (
                    len(inside) == 1
                    and isinstance(next(iter(inside)), kind)
                    and all(isinstance(c, _Fixed) for c in outside)
                ):
                    return next(iter(inside))
        return _Other(read)

    def is_fixed_point(self, read: Read, kind: type[_Factor] | type[_Shift]) -> bool:
        """Whether ``read`` is a constant that the change leaves alone: zero under a factor, an infinity under a
        shift."""
        node = self.access.nodes[read]
        while (
            node.op is not None and len(node.operands) == 1 and node.op.name in ("expand", "reshape", "permute", "cast")
        ):
            node = self.access.nodes[node.operands[0]]
        if node.op is None or node.op.name != "constant":
            return False
        value = float(node.op.attrs["value"])
        return value == 0 if kind is _Factor else value in (float("inf"), float("-inf"))


def _signed(signs: tuple[int, ...], changes: list[_Change]) -> tuple[Product, ...]:
    return tuple(
        (sign * s, reads)
        for sign, change in zip(signs, changes, strict=True)
        if isinstance(change, _Shift)
        for s, reads in change.terms
    )


def step(access: Access, read: Read, correction: Correction) -> Step:
    """The application of the rule to one reduction, as formulas: its state before and after a reference changes."""
    name = f"%{read.value.name}"
    of = ", ".join(sorted(f"%{r.value.name}" for r in correction.references))
    change = " ".join(_difference(access, sign, reads) for sign, reads in correction.terms).removeprefix("+ ")
    after = f"{name} + ({change})" if correction.kind == "shift" else f"{name} * {correction.fn}({change})"
    return Step(
        "correct", f"{name} in a sweep after that of {of}", f"one sweep: when {of} changes, {name} becomes {after}"
    )


def _difference(access: Access, sign: int, reads: tuple[Read, ...]) -> str:
    names = [f"%{_behind_views(access, r).value.name}" for r in reads]
    new, old = (" * ".join(name + mark for name in names) for mark in ("'", ""))
    return f"+ {new} - {old}" if sign > 0 else f"+ {old} - {new}"


def _behind_views(access: Access, read: Read) -> Read:
    node = access.nodes[read]
    while node.op is not None and GRAPH_OPS[node.op.name].view and len(node.operands) == 1:
        read = node.operands[0]
        node = access.nodes[read]
    return read
