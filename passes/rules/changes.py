"""How a value changes when the running results that it is computed from do.

A sweep over an axis goes on while its results change: a maximum rises, a sum grows. ``Walk`` says for every read what
that does to it: nothing (``Fixed``), a number is added (``Shift``), it is multiplied (``Factor``), it is a product of
things of which some are shifted (``Joint``), or nothing that a rule describes (``Other``). What passes shifts and
factors on is declared in the scalar table; no function is named here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rooftile.ir.scalar import COMBINES, SCALARS, Scalar
from rooftile.passes.regions.access import Access, Node, Read, is_same
from rooftile.passes.rules.signs import Signs

MOST_LEAVES = 4
_VIEWS = ("expand", "reshape", "permute", "slice", "gather", "concat")


@dataclass(frozen=True)
class Term:
    """``sign * product(reads) / product(divisors)``, of which some change with a reference."""

    sign: int
    reads: tuple[Read, ...]
    divisors: tuple[Read, ...] = ()


Terms: TypeAlias = tuple[Term, ...]


def reads_of(terms: Terms) -> tuple[Read, ...]:
    """Everything that stands in ``terms``."""
    return tuple(read for term in terms for read in (*term.reads, *term.divisors))


def behind_views(access: Access, read: Read) -> Read:
    """What ``read`` is the elements of, under other indices."""
    while is_same(node := access.nodes[read]):
        (read,) = node.operands
    return read


def passes_on(node: Node) -> bool:
    """Whether a node is its one operand, under other indices or in another dtype."""
    return is_same(node) or (node.op is not None and node.op.name == "cast")


@dataclass(frozen=True)
class Part:
    """A factor that a change brings: ``fn`` of what the sum of ``terms`` grew by.

    Without ``fn`` it is how many times the one read of the one term is what it was (the inverse, if that term is
    negative). ``through`` are the functions of it that it passed on the way, each with its second operand, if it has
    one.
    """

    fn: str
    terms: Terms
    through: tuple[tuple[str, Read | None], ...] = ()


@dataclass(frozen=True)
class Fixed:
    """Doesn't change with any reference."""


@dataclass(frozen=True)
class Shift:
    """What ``terms`` grow by is added."""

    terms: Terms


@dataclass(frozen=True)
class Factor:
    """Multiplied by every one of ``parts``, none of which is negative."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Leaf:
    """An operand somewhere below a product, by its position at each step down, to which what ``terms`` grow by is
    added."""

    path: tuple[int, ...]
    terms: Terms


@dataclass(frozen=True)
class Joint:
    """A product in which ``leaves`` are shifted, and which is multiplied by ``parts`` besides."""

    parts: tuple[Part, ...]
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class Other:
    """Changes in a way that no rule describes; ``read`` is where that begins."""

    read: Read


Change: TypeAlias = Fixed | Shift | Factor | Joint | Other
FIXED = Fixed()


class Walk:
    """How reads change when the reductions over axis ``name`` that ``depends`` says they depend on do."""

    def __init__(self, access: Access, name: str, depends: Mapping[Read, frozenset[Read]]) -> None:
        self.access, self.name, self.depends = access, name, depends
        self.signs = Signs(access, name, depends)
        self.known: dict[Read, Change] = {}

    def change(self, read: Read) -> Change:
        """The change of ``read``; what doesn't vary along the axis is a reference itself."""
        if not self.depends[read]:
            return FIXED
        if self.is_reference(read):
            return Shift((Term(1, (read,)),))
        if read not in self.known:
            self.known[read] = self.through(read, self.access.nodes[read])
        return self.known[read]

    def is_reference(self, read: Read) -> bool:
        """Whether ``read`` is the same all along the axis, and changes as the sweep goes on."""
        return bool(self.depends[read]) and self.name not in self.access.free[read]

    def is_steady(self, read: Read) -> bool:
        """Whether ``read`` is the same all along the axis, and stays so."""
        return not self.depends[read] and self.name not in self.access.free[read]

    def through(self, read: Read, node: Node) -> Change:
        """The change of what ``node`` computes from its operands'."""
        op = node.op
        if op is None:
            return Other(read)
        if op.name == "pointwise":
            return self.pointwise(read, node, op.attrs["fn"])
        changes = [self.change(o) for o in node.operands]
        if op.name in ("contract", "reduce") and self.varies(changes, node.bound):
            return Other(read)
        if op.name == "contract":
            return product(read, changes)
        if op.name == "reduce":
            homogeneous = frozenset({0, 1}) in SCALARS[COMBINES[op.attrs["fn"]].scalar].homogeneous
            return changes[0] if isinstance(changes[0], Factor) and homogeneous else Other(read)
        passed = op.name in _VIEWS or (op.name == "cast" and op.output.dtype.is_float)
        return _under(changes[0], 0) if len(changes) == 1 and passed else Other(read)

    def varies(self, changes: Iterable[Change], bound: Collection[str]) -> bool:
        """Whether some of ``changes`` are not the same along all of the axes ``bound``: no sum over these passes them
        on."""
        reads = {r for c in changes for terms in _terms_of(c) for r in reads_of(terms)}
        return any(not self.access.free[r].isdisjoint(bound) for r in reads)

    def pointwise(self, read: Read, node: Node, fn: str) -> Change:
        """The change of a scalar function's result."""
        row, changes = SCALARS[fn], [self.change(o) for o in node.operands]
        other = next((c for c in changes if isinstance(c, Other)), None)
        if other is not None:
            return other
        first = changes[0]
        if row.turns_shift_into_factor and isinstance(first, Shift):
            ordered = self.signs.are_ordered(reads_of(first.terms), node.operands[0])
            return Factor((Part(fn, first.terms),)) if ordered else Other(read)
        if row.terms and all(isinstance(c, Fixed | Shift) for c in changes):
            return Shift(_signed(row.terms, changes))
        if row.multiplicative and isinstance(first, Factor) and all(self.is_steady(o) for o in node.operands[1:]):
            return Factor(tuple(_passed(p, fn, node.operands[1:]) for p in first.parts))
        if row.factors:
            scaled = self.scaled(read, node, row, changes)
            if scaled is not None:
                return scaled
        return self.jointly(read, node, row, changes)

    def scaled(self, read: Read, node: Node, row: Scalar, changes: Sequence[Change]) -> Change | None:
        """A product or a quotient: factors multiply, and what is shifted stays a leaf of it."""
        for position, (rest, fn) in row.factors.items():
            factor, shifted = node.operands[position], changes[rest]
            if isinstance(shifted, Shift) and self.is_steady(factor):
                return Shift(tuple(_times(t, factor, fn) for t in shifted.terms))
        parts: list[Change] = []
        for position, operand in enumerate(node.operands):
            inverse = position in row.factors and row.factors[position][1] == "div"
            change = self.as_factor(operand, inverse) if self.is_reference(operand) else changes[position]
            if inverse and not isinstance(change, Fixed | Factor):
                return None
            inverted = inverse and isinstance(change, Factor) and not self.is_reference(operand)
            parts.append(_inverse(change) if inverted and isinstance(change, Factor) else change)
        return product(read, parts)

    def as_factor(self, reference: Read, inverse: bool) -> Change:
        """A reference as a factor: how many times it is what it was, where that can neither be negative nor be lost
        to rounding: a maximum of numbers that are not negative only grows."""
        if not self.signs.grows(reference):
            return Other(reference)
        return Factor((Part("", (Term(-1 if inverse else 1, (reference,)),)),))

    def jointly(self, read: Read, node: Node, row: Scalar, changes: Sequence[Change]) -> Change:
        """Operands that all change alike, through a function that passes that on; one that is the change's fixed point
        may stand beside them. A choice and a sum pass on what is added to their one operand, too."""
        for wanted, by_factor in ((row.homogeneous, True), (row.shifted, False)):
            for together in wanted:
                moving = [n for n in together if not self.is_fixed_point(node.operands[n], by_factor)]
                outside = [changes[n] for n in range(len(changes)) if n not in together]
                alike = {changes[n] for n in moving}
                if len(alike) != 1 or not all(isinstance(c, Fixed) for c in outside):
                    continue
                (change,) = alike
                if isinstance(change, Factor if by_factor else Shift):
                    return change
                if by_factor and len(moving) == 1 and (row.chooses or row.terms):
                    return _leaves_of(change, moving[0])
        return Other(read)

    def is_fixed_point(self, read: Read, by_factor: bool) -> bool:
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
        return value == 0 if by_factor else value in (float("inf"), float("-inf"))


def product(read: Read, changes: Sequence[Change]) -> Change:
    """The change of the product ``read`` whose factors, its operands in order, change as given."""
    parts: tuple[Part, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    for position, change in enumerate(changes):
        if isinstance(change, Other):
            return change
        parts += change.parts if isinstance(change, Factor | Joint) else ()
        below = _leaves_of(change, position)
        leaves += below.leaves if isinstance(below, Joint) else ()
    if len(leaves) > MOST_LEAVES:
        return Other(read)
    if leaves:
        return Joint(_gathered(parts), leaves)
    return Factor(_gathered(parts)) if parts else FIXED


def _terms_of(change: Change) -> Iterator[Terms]:
    """What all that ``change`` adds and multiplies by is computed from."""
    if isinstance(change, Shift):
        yield change.terms
    if isinstance(change, Factor | Joint):
        yield from (part.terms for part in change.parts)
    if isinstance(change, Joint):
        yield from (leaf.terms for leaf in change.leaves)


def _leaves_of(change: Change, position: int) -> Change:
    """The change of something linear in its operand at ``position``, which changes by ``change``."""
    return Joint((), (Leaf((position,), change.terms),)) if isinstance(change, Shift) else _under(change, position)


def _under(change: Change, position: int) -> Change:
    """The change as that of something that passes on its operand at ``position``."""
    if not isinstance(change, Joint):
        return change
    return Joint(change.parts, tuple(Leaf((position, *leaf.path), leaf.terms) for leaf in change.leaves))


def _gathered(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """``exp(a) * exp(b)`` as ``exp(a + b)``."""
    together: dict[str, Terms] = {}
    for part in parts:
        if part.fn and not part.through:
            together[part.fn] = together.get(part.fn, ()) + part.terms
    return (*(Part(fn, terms) for fn, terms in together.items()), *(p for p in parts if not p.fn or p.through))


def _inverse(change: Factor) -> Factor:
    return Factor(tuple(replace(p, terms=tuple(replace(t, sign=-t.sign) for t in p.terms)) for p in change.parts))


def _passed(part: Part, fn: str, operands: Sequence[Read]) -> Part:
    return replace(part, through=(*part.through, (fn, operands[0] if operands else None)))


def _times(term: Term, factor: Read, fn: str) -> Term:
    if fn == "div":
        return replace(term, divisors=(*term.divisors, factor))
    return replace(term, reads=(*term.reads, factor))


def _signed(signs: Sequence[int], changes: Sequence[Change]) -> Terms:
    return tuple(
        replace(term, sign=sign * term.sign)
        for sign, change in zip(signs, changes, strict=True)
        if isinstance(change, Shift)
        for term in change.terms
    )
