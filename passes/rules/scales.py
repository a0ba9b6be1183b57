"""Which factors leave a sum as it is where numbers are infinite, too.

``sum_j x_j * r = r * sum_j x_j`` holds for numbers. Where ``r`` is infinite, the products are infinities of either sign
or ``0 * inf``, and their sum is NaN where that of ``x`` is a number. So ``r`` must never be infinite (a divisor never
0); or it is a divisor that is 0 only where all that it divides is: a sum or a maximum of these very elements, none of
which is negative, as in a softmax. What only overflows, such as the sum of large numbers, is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isinf, isnan

import torch

from rooftile.ir.core import Value
from rooftile.ir.scalar import Scalar
from rooftile.passes.regions.access import Access, Node, Read, function_of, number_of
from rooftile.passes.rules.changes import behind_views, passes_on
from rooftile.passes.rules.signs import Signs
from rooftile.passes.rules.terms import Applied, Factor, Term, Varying

_MOVING = ("permute", "slice", "gather")  # which have elements in other places along the axes of what they show
_ORDINARY = (-1e30, -1.0, -1e-30, 1e-30, 1.0, 1e30)


class Scales:
    """What is known of the values of ``access`` as factors."""

    def __init__(self, access: Access) -> None:
        self.access, self.signs = access, Signs(access, "", dict.fromkeys(access.nodes, frozenset()))
        self._reads = {read.value: read for read in access.nodes}
        self._reduced: dict[Read, bool] = {}
        self._least: dict[Read, float] = {}
        self._infinite: dict[Read, bool] = {}

    def leaves(self, term: Term, factor: Factor) -> bool:
        """Whether ``factor`` may be taken out of a sum of ``term`` whatever infinities there are among the elements.
        What is not reduced here, such as a scale that is loaded, counts as a number."""
        read = self._read(factor.whole)
        if read is None:
            return False
        if not self._is_reduced(read):
            return True
        if factor.fn != "div":
            return not self.may_be_infinite(read)
        return self.least(read) > 0 or self._is_total_of(read, term)

    def _is_reduced(self, read: Read) -> bool:
        if read not in self._reduced:
            node = self.access.nodes[read]
            self._reduced[read] = bool(node.bound) or any(map(self._is_reduced, node.operands))
        return self._reduced[read]

    def _is_total_of(self, read: Read, term: Term) -> bool:
        """Whether ``read`` is 0 only where all elements of a factor of ``term`` are, which it sums or has the largest
        of."""
        node = self.access.nodes[self._size(read)]
        if node.op is None or node.op.name != "reduce" or node.op.attrs["fn"] not in ("sum", "max"):
            return False
        summed = self._size(node.operands[0]).value
        own = any(summed in self._factors(each) for each in term.varying)
        return own and self.signs.nonnegative(node.operands[0])

    def _factors(self, product: Varying) -> Iterator[Value]:
        """What makes ``product`` zero where it is."""
        if isinstance(product, Applied):
            for each in product.of if product.op.name not in _MOVING else ():
                yield from self._factors(each)
        elif product in self._reads:
            read = self._size(self._reads[product])
            yield read.value
            row = function_of(self.access.nodes[read])
            operands = self.access.nodes[read].operands if row is not None and len(row.factors) == row.arity else ()
            for operand in operands:
                yield from self._factors(operand.value)

    def _size(self, read: Read) -> Read:
        """What is zero where ``read`` is: under roots and squares, without numbers that it is multiplied by."""
        inner: Read | None = read
        while inner is not None:
            read, inner = inner, self._inside(self.access.nodes[inner])
        return read

    def _inside(self, node: Node) -> Read | None:
        """The operand that is zero where the result of ``node`` is, if there is one."""
        if node.op is None or node.op.name in _MOVING:
            return None
        row = function_of(node)
        if row is None:
            return node.operands[0] if passes_on(node) else None
        if row.arity == 1:
            return node.operands[0] if row.multiplicative and _at(row, [[0.0]]) == [0.0] else None
        for position, (rest, fn) in row.factors.items():
            factor, other = node.operands[position], node.operands[rest]
            if self._is_number(factor) or (fn == "mul" and factor == other):
                return other
        return None

    def _is_number(self, read: Read) -> bool:
        number = number_of(self.access.nodes[behind_views(self.access, read)])
        return number is not None and 0 < abs(number) < inf

    def _read(self, varying: Varying) -> Read | None:
        """One of the places where a value is read."""
        while isinstance(varying, Applied):
            if len(varying.of) != 1:
                return None
            (varying,) = varying.of
        return self._reads.get(varying)

    def least(self, read: Read) -> float:
        """A number that ``read`` is never below."""
        if read not in self._least:
            found = self._bound(self.access.nodes[read])
            self._least[read] = max(found, 0.0) if self.signs.nonnegative(read) else found
        return self._least[read]

    def _bound(self, node: Node) -> float:
        if passes_on(node):
            return self.least(node.operands[0])
        if (number := number_of(node)) is not None:
            return number
        row = function_of(node)
        if row is None or len(row.nondecreasing) < row.arity:
            return -inf
        (found,) = _at(row, [[self.least(operand)] for operand in node.operands])
        return -inf if isnan(found) else found

    def may_be_infinite(self, read: Read) -> bool:
        """Whether ``read`` may be an infinity."""
        if read not in self._infinite:
            self._infinite[read] = self._is_unbounded(self.access.nodes[read])
        return self._infinite[read]

    def _is_unbounded(self, node: Node) -> bool:
        if (number := number_of(node)) is not None:
            return isinf(number)
        row = function_of(node)
        if row is None:
            return not passes_on(node) or self.may_be_infinite(node.operands[0])
        infinite = any(map(self.may_be_infinite, node.operands))
        if row.arity == 1:
            places = (-inf, inf) if infinite else ()
            zero = (0.0,) if self.least(node.operands[0]) <= 0 else ()
            return any(map(isinf, _at(row, [[*_ORDINARY, *places, *zero]])))
        divisors = [node.operands[n] for n, (_, fn) in row.factors.items() if fn == "div"]
        known = row.factors or row.terms or row.chooses or len(row.nondecreasing) == row.arity
        return not known or infinite or any(self.least(divisor) <= 0 for divisor in divisors)


def _at(row: Scalar, places: list[list[float]]) -> list[float]:
    """The values of a function at some places, given for each operand."""
    found: list[float] = row.reference(*(torch.tensor(numbers, dtype=torch.float32) for numbers in places)).tolist()
    return found
