"""What is known of signs, and of the way in which running results move: what never is negative, what only grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import SCALARS
from rooftile.passes.regions.access import Access, Read, is_extreme


class Signs:
    """Proofs about the reads of ``access``; ``depends`` are the reductions over axis ``name`` that each is computed
    from."""

    def __init__(self, access: Access, name: str, depends: Mapping[Read, frozenset[Read]]) -> None:
        self.access, self.name, self.depends = access, name, depends
        self.loads: dict[Read, frozenset[Read]] = {}

    def nonnegative(self, read: Read) -> bool:
        """Whether ``read`` is never negative."""
        node = self.access.nodes[read]
        op = node.op
        if op is None:
            return read.value.dtype.kind == "bool"
        if op.name == "constant":
            return float(op.attrs["value"]) >= 0
        if op.name == "pointwise":
            if op.attrs["fn"] == "mul" and node.operands[0] == node.operands[1]:
                return True
            sufficient = SCALARS[op.attrs["fn"]].nonnegative
            return any(all(self.nonnegative(node.operands[n]) for n in operands) for operands in sufficient)
        if op.name == "pad" and float(op.attrs["value"]) < 0:
            return False
        passed = op.name in ("cast", "concat", "pad", "contract", "reduce", "scan") or GRAPH_OPS[op.name].view
        return op.name in ("size", "iota") or (passed and all(self.nonnegative(o) for o in node.operands))

    def grows(self, read: Read) -> bool:
        """Whether ``read`` is never negative, and a maximum's growth is all that changes it."""
        node = self.access.nodes[read]
        op = node.op
        if not self.depends[read] or op is None:
            return self.nonnegative(read)
        if read in self.depends[read]:
            is_maximum = op.name == "reduce" and op.attrs["fn"] == "max"
            return is_maximum and self.nonnegative(node.operands[0])
        if op.name == "pointwise":
            moving = {n for n, o in enumerate(node.operands) if self.depends[o]}
            rises = moving <= SCALARS[op.attrs["fn"]].nondecreasing and self.nonnegative(read)
            return rises and all(self.grows(node.operands[n]) for n in moving)
        return (op.name == "cast" or GRAPH_OPS[op.name].view) and all(self.grows(o) for o in node.operands)

    def are_ordered(self, reads: Iterable[Read], exponent: Read) -> bool:
        """Whether every reduction that ``reads`` depend on moves one way as its sweep goes on (an extreme, or a sum of
        what is never negative), and is one of what ``exponent`` is computed from.

        An exponential beside another reference could overflow on the way to a small result, and have elements where
        the reference has none yet.
        """
        known = self._varying_loads(exponent)
        return all(
            self._is_ordered(r) and all(self._varying_loads(o) <= known for o in self.access.nodes[r].operands)
            for read in reads
            for r in self.depends[read]
        )

    def _is_ordered(self, reduction: Read) -> bool:
        node = self.access.nodes[reduction]
        return is_extreme(node) or all(self.nonnegative(o) for o in node.operands)

    def _varying_loads(self, read: Read) -> frozenset[Read]:
        """What ``read`` loads along the axis, references aside."""
        if self.name not in self.access.free[read]:
            return frozenset()
        if read not in self.loads:
            node = self.access.nodes[read]
            below = frozenset().union(*(self._varying_loads(o) for o in node.operands))
            self.loads[read] = below if node.op is not None else frozenset({read})
        return self.loads[read]
