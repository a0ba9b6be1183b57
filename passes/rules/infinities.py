"""Which corrections are right whatever infinities there are among the elements.

``S = sum_j F(x_j, r)`` is kept right by ``S' = C(r, r') * S`` as long as all of it is finite. Where an element or a
reference is not, eager's result can depend on which elements were infinite, and a state no longer tells: of
``sum_j (x_j - max x)^2`` an infinite state, times no growth of the maximum, would be NaN. Two kinds are right by
themselves: an exponential, or an extreme, of how far elements lie from their own extreme (an infinite extreme makes its
element's difference NaN, and other infinite ones do not change with it), and powers of how
far they lie from their own mean, which is no number where an element is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from rooftile.ir.scalar import Scalar
from rooftile.passes.regions.access import Access, Node, Read, function_of, number_of
from rooftile.passes.regions.sweeps import Sweeps
from rooftile.passes.rules.changes import behind_views, passes_on
from rooftile.passes.rules.correct import Correction

Name: TypeAlias = Read | float
Stems: TypeAlias = dict[tuple[Name, tuple[tuple[str, Name], ...]], int]

EXTREMES, MEANS = ("max", "min"), ("sum",)


def is_certain(sweeps: Sweeps, read: Read) -> bool:
    """Whether the state of ``read``, which is corrected, comes to what eager has where numbers are infinite, too."""
    access, correction = sweeps.access, sweeps.corrected[read]
    if correction.extreme is not None:
        return True
    bound, others = frozenset(access.nodes[read].bound), correction.references & sweeps.corrected.keys()
    if correction.moments:
        alone = not correction.parts and not others
        return alone and _is_power(_Differences(access, bound, MEANS), read, correction)
    differences = _Differences(access, bound, EXTREMES)
    if not all(is_certain(sweeps, other) for other in others):
        return False
    if correction.terms:
        return differences.are_from_own(access.nodes[read].operands[0])
    if not all(part.fn and not part.through for part in correction.parts):
        return False
    exponents = list(_exponents(sweeps, read, correction.references))
    return None not in exponents and all(differences.are_from_own(each) for each in exponents if each is not None)


def _is_power(differences: _Differences, read: Read, correction: Correction) -> bool:
    """Whether ``read`` sums products of nothing but how far elements lie from their mean."""
    access = differences.access
    without_any = max(correction.moments, key=lambda m: len(m.differences)).sum
    leaves = [leaf for operand in access.nodes[read].operands for leaf in _leaves(access, operand)]
    alike = {frozenset(differences.of(leaf)) for leaf in leaves}
    bare = not any(map(differences.of, access.nodes[without_any].operands))
    return bare and len(alike) == 1 and all(map(differences.are_from_own, leaves))


def _leaves(access: Access, read: Read) -> Iterator[Read]:
    """The factors of the product ``read``."""
    node = access.nodes[read]
    if passes_on(node) or (node.op is not None and node.op.attrs.get("fn") == "mul"):
        for operand in node.operands:
            yield from _leaves(access, operand)
    else:
        yield read


def _exponents(sweeps: Sweeps, read: Read, references: frozenset[Read]) -> Iterator[Read | None]:
    """What is raised to a power in the operand of the reduction ``read`` above ``references``; None for a choice above
    one, which may leave out the element that makes its exponent NaN."""
    seen: set[Read] = set()
    stack = list(sweeps.access.nodes[read].operands)
    while stack:
        each = stack.pop()
        if each in seen or each in references or references.isdisjoint(sweeps.depends[each]):
            continue
        seen.add(each)
        node = sweeps.access.nodes[each]
        row = function_of(node)
        if row is not None and row.turns_shift_into_factor:
            yield node.operands[0]
        elif row is not None and row.chooses:
            yield None
        else:
            stack.extend(node.operands)


@dataclass
class _Differences:
    """What reads are sums of, through reductions by ``through`` over the axes ``bound``: with how often each stands
    there, what is subtracted as a negative number, apart by the factors that it has."""

    access: Access
    bound: frozenset[str]
    through: tuple[str, ...]
    known: dict[Read, Stems] = field(default_factory=dict)

    def are_from_own(self, read: Read) -> bool:
        """Whether ``read`` is the difference of elements and what they are reduced to."""
        stems = self.of(read)
        return bool(stems) and not any(stems.values())

    def of(self, read: Read) -> Stems:
        """What ``read`` is a sum of; nothing where it is the same all along the axes, and stays so."""
        if read not in self.known:
            self.known[read] = self._compute(read, self.access.nodes[read])
        return self.known[read]

    def _compute(self, read: Read, node: Node) -> Stems:
        op, is_own = node.op, not self.bound.isdisjoint(node.bound)
        if op is None or not node.operands:
            return self._whole(read) if self._varies(read) else {}
        if passes_on(node) or (is_own and op.name == "reduce" and op.attrs["fn"] in self.through):
            return self.of(node.operands[0])
        below = [self.of(operand) for operand in node.operands]
        if not any(below):
            return self._whole(read) if self._varies(read) else {}
        row = function_of(node)
        found = self._of_function(read, node, row, below) if row is not None else None
        return self._whole(read) if found is None else found

    def _of_function(self, read: Read, node: Node, row: Scalar, below: list[Stems]) -> Stems | None:
        if row.terms:
            total: Stems = {}
            for sign, stems in zip(row.terms, below, strict=True):
                total |= {stem: total.get(stem, 0) + sign * n for stem, n in stems.items()}
            return total
        for position, (rest, fn) in row.factors.items():
            if below[rest] and not below[position]:
                return self._scaled(below[rest], (fn, self._name(node.operands[position])), node.operands[position])
        together = next((operands for operands in row.shifted if len(operands) > 1), None)
        return None if together is None or self.through == MEANS else self._chosen(read, node, below, together)

    def _scaled(self, stems: Stems, by: tuple[str, Name], factor: Read) -> Stems:
        """``stems`` with one factor more; what a mean divides by is none."""
        if self.through == MEANS and not self._is_loaded(factor):
            return stems
        return {(read, (*factors, by)): n for (read, factors), n in stems.items()}

    def _chosen(self, read: Read, node: Node, below: list[Stems], together: frozenset[int]) -> Stems | None:
        """One of the operands ``together``, where the others say which."""
        total: Stems = {}
        for number, operand in enumerate(node.operands):
            stems = below[number] if number in together else {}
            if not stems and self._varies(read if number in together else operand):
                stems = {(self._name(operand), ()): 1}
            if any(total.get(stem, n) != n for stem, n in stems.items()):
                return None
            total |= stems
        return total

    def _whole(self, read: Read) -> Stems:
        return {(self._name(read), ()): 1}

    def _name(self, read: Read) -> Name:
        """What ``read`` is, wherever it is read from."""
        read = behind_views(self.access, read)
        number = number_of(self.access.nodes[read])
        return read if number is None else number

    def _varies(self, read: Read) -> bool:
        return not self.bound.isdisjoint(self.access.free[read])

    def _is_loaded(self, read: Read) -> bool:
        """Whether data say what ``read`` is, and not the sizes of tensors."""
        node = self.access.nodes[read]
        return node.op is None or any(map(self._is_loaded, node.operands))
