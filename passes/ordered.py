"""Pass ``ordered``: rows that are each multiplied with a matrix at a number from data are put in the order of these.

Equal numbers then lie together, tiles of rows meet one matrix, and each matrix is read once or twice instead of once
for every row. What follows the product, row by row, is computed in that order, too, and so are products before it that
read matrices at the same numbers; what comes out is put back where it belongs. Before and after, for rows ``t, k``::

    %m_i = gather[t, k, d, n](%m[idx1, d, n], %index[t, k])
    %y = contract[t, k, n, d](%x[t, d], %m_i[t, k, d, n], out=[t, k, n])

    %number, %order = extern(%index, target="aten.sort.default", ...) : i64[r], i64[r]
    %m_s = gather[r, d, n](%m[idx1, d, n], %segment[r])
    %sorted = contract[r, n, d](%x[%order // K, d], %m_s[r, d, n], out=[r, n])
    %y = arrange(%sorted, %order)

That takes a few small kernels more, and is done where the model says that the bytes saved are worth them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from rooftile.ir.builder import IDX
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, axis, symbol_names
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.regions.contractions import SMALLEST_DOT
from rooftile.passes.regions.sizes import likely
from rooftile.passes.rules.sorted_rows import NumberedRows, in_order, needs_call
from rooftile.passes.switches import permitted

# Kernels that order rows: their numbers, a sort of two, the ends, and the sum over what is put back.
LAUNCHES = 5


@dataclass(frozen=True)
class Ordered:
    """Sorts rows by the matrices that they are multiplied with."""

    name: ClassVar[str] = "ordered"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with such rows in order; the same one where there are none, or too few."""
        producers = graph.producers()
        for output in [op.output for op in reversed(graph.ops) if op.name == "contract"]:
            op = producers.get(output)
            rows = numbered_rows(op, producers) if op is not None else None
            if op is None or rows is None:
                continue
            saved = _bytes_saved(op, rows)
            if saved <= LAUNCHES * ctx.target.launch_seconds * ctx.target.bandwidth:
                _leave(ctx, op, rows, "too few to sort")
                continue
            if needs_call(rows.count) and ctx.options is not None and "no-extern" in ctx.options.require:
                _leave(ctx, op, rows, "more than ours can sort, and ATen's sort is ruled out by no-extern")
                continue
            if not permitted("", output, op.loc):
                continue
            with working_on(op):
                graph = rewrite(in_order(graph, op, rows), RULES)
            producers = graph.producers()
            reason = f"rows of %{output.name} lie in the order of %{rows.numbers.name}: one matrix for a tile of them"
            ctx.ledger.add("rewritten", rule="order", values=[output.name], reason=reason, bytes=saved, locs=[op.loc])
        return graph


def _leave(ctx: PassContext, op: Op, rows: NumberedRows, why: str) -> None:
    reason = f"{likely(rows.count)} rows of %{op.output.name} read their matrices one by one: {why}"
    ctx.ledger.add("cut", rule="order", values=[op.output.name], reason=reason, locs=[op.loc])


def numbered_rows(op: Op, producers: Mapping[Value, Op]) -> NumberedRows | None:
    """The axes of a contraction along which an operand is a matrix at a number from data; None where there are none."""
    sizes = dict(op.attrs["axes"])
    for x, entries in zip(op.inputs, op.attrs["maps"], strict=True):
        made = producers.get(x)
        if made is None or made.name != "gather" or len(made.inputs) != 2:
            continue
        own = dict(made.attrs["axes"])
        of_axis = {axis(name, size): e for (name, size), e in zip(own.items(), entries, strict=True)}
        first, at = made.attrs["maps"]
        names = _plain([of_axis.get(entry, entry) for entry in at], sizes)
        numbers, maker = made.inputs[1], producers.get(made.inputs[1])
        if (
            names is None
            or sum(entry == IDX[1] for entry in first) != 1
            or (maker is not None and maker.name == "segment")
        ):
            continue
        if not set(names) <= set(op.attrs["out"]) or len(own) - len(names) < 2:
            continue
        if prod(likely(sizes[name]) for name in op.attrs["out"] if name not in _along(entries)) >= SMALLEST_DOT:
            continue  # each matrix meets a tile of rows as it is
        matrices = made.inputs[0].shape[first.index(IDX[1])]
        rows = tuple((name, sizes[name]) for name in op.attrs["out"] if name in names)
        if isinstance(matrices, int) and matrices > 1 and rows:
            return NumberedRows(x, numbers, tuple(names), rows, matrices)
    return None


def _along(entries: Sequence[Size]) -> frozenset[str]:
    """The axes that an operand varies along."""
    return frozenset().union(*(symbol_names(entry) for entry in entries))


def _plain(entries: Sequence[object], sizes: Mapping[str, object]) -> list[str] | None:
    """The axes that map entries are, each alone and but once; None where one is anything else."""
    plain = {axis(name, size): name for name, size in sizes.items()}  # type: ignore[arg-type]
    names = [plain.get(entry) for entry in entries]  # type: ignore[call-overload]
    return None if None in names or len(set(names)) < len(names) else names


def _bytes_saved(op: Op, rows: NumberedRows) -> int:
    """Matrices that are read once for all rows that lie together, instead of for each; as many as chance makes
    different."""
    count, matrices = likely(rows.count), rows.matrices
    different = matrices * (1 - (1 - 1 / matrices) ** count)
    along = _along(op.attrs["maps"][op.inputs.index(rows.operand)]).difference(name for name, _ in rows.axes)
    each = prod(likely(dict(op.attrs["axes"])[name]) for name in along)
    return int((count - different) * each * rows.operand.dtype.bytes)
