"""Which ops of a graph have to wait for which, also where some of them come to share a launch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rooftile.ir.core import Graph, Op
from rooftile.passes.packing import is_packed


class Dependences:
    """For each op, the ops that it waits for, directly or not: one bit each, so that all of a whole model's fit."""

    def __init__(self, graph: Graph) -> None:
        producers = graph.producers()
        self._bit = {op: 1 << number for number, op in enumerate(graph.ops)}
        self._before: dict[Op, int] = {}
        call: Op | None = None
        for op in graph.ops:
            needed = [producers[v] for v in op.inputs if v in producers]
            if op.name == "extern" and not is_packed(op):  # ATen calls stay in order, and may write to what they read
                needed += [call] if call is not None else []
                call = op
            mine = 0
            for other in needed:
                mine |= self._before[other] | self._bit[other]
            self._before[op] = mine

    def independent(self, ops: Sequence[Op]) -> list[Op]:
        """Those of ``ops``, from the first on, of which none has to wait for another."""
        found: list[Op] = []
        for op in ops:
            if not any(self._waits(op, other) or self._waits(other, op) for other in found):
                found.append(op)
        return found

    def ready(self, ops: Sequence[Op], done: Iterable[Op]) -> list[Op]:
        """Those of ``ops`` that have to wait for nothing but ``done``."""
        past = ~sum(self._bit[op] for op in done)
        return [op for op in ops if not self._before[op] & past]

    def join(self, ops: Sequence[Op]) -> None:
        """Let each of ``ops`` wait for whatever one of them waits for, and what waits for one wait for all."""
        all_of_them = sum(self._bit[op] for op in ops)
        before = 0
        for op in ops:
            before |= self._before[op]
        for op in ops:
            self._before[op] = before
        for op, mine in self._before.items():
            if mine & all_of_them:
                self._before[op] = mine | before | all_of_them

    def _waits(self, op: Op, other: Op) -> bool:
        return bool(self._before[op] & self._bit[other])
