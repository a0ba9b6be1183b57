"""Rows that are each a combination of the rows before them are the solution of a triangular system."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rooftile
from rooftile.checking import check
from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.ir.parser import parse_graph
from rooftile.passes.rules.windows import window
from rooftile.passes.rules.zeros import zeros
from rooftile.report.explaining import compile_afresh
from tests.answers import assert_same_answer

ROWS = 12
Loop = Callable[[Tensor, Tensor], Tensor]  # of coefficients and right sides


def by_passes(loop: Loop, *inputs: Tensor, require: tuple[str, ...] = ()) -> Compilation:
    torch._dynamo.reset()
    options = CompileOptions(stop_after="axes", dynamic=False, require=require)
    with torch.no_grad():
        (found,), _ = compile_afresh(loop, inputs, {}, options)
    return found


def told(found: Compilation) -> list[tuple[str, str]]:
    return [(entry.decision, entry.reason) for entry in found.context.ledger if entry.rule == "substitution"]


def up_to_the_diagonal(c: Tensor, b: Tensor) -> Tensor:
    """The inverse of a triangular matrix but for its diagonal, as gated delta rules compute it: the coefficients
    are the right side too, and are written over."""
    a = -c.tril(-1)
    for i in range(1, a.shape[-1]):
        row, above = a[..., i, :i].clone(), a[..., :i, :i].clone()
        a[..., i, :i] = row + (row.unsqueeze(-1) * above).sum(-2)
    return a


def whole_rows(c: Tensor, b: Tensor) -> Tensor:
    x = b.clone()
    for i in range(1, b.shape[-2]):
        x[..., i, :] = (c[..., i, :i].unsqueeze(-1) * x[..., :i, :]).sum(-2) + b[..., i, :]
    return x


def rows_in_a_list(c: Tensor, b: Tensor) -> Tensor:
    rows = [b[..., 0, :]]
    for i in range(1, b.shape[-2]):
        rows.append(b[..., i, :] + (torch.stack(rows, -2) * c[..., i, :i, None]).sum(-2))
    return torch.stack(rows, -2)


SYSTEMS: dict[str, Loop] = {
    "up to the diagonal": up_to_the_diagonal,
    "whole rows": whole_rows,
    "rows in a list": rows_in_a_list,
}


@pytest.mark.parametrize("beside", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("name", list(SYSTEMS))
def test_rows_from_rows_before_are_solved(name: str, beside: tuple[int, ...]) -> None:
    c, b = torch.randn(*beside, ROWS, ROWS) / 4, torch.randn(*beside, ROWS, 5)
    found = by_passes(SYSTEMS[name], c, b)
    ((decision, reason),) = told(found)
    assert (decision, reason[:8]) == ("rewritten", f"{ROWS} rows ")
    graph = found.stages[-1].graph
    assert [op.attrs["target"] for op in graph.ops if op.name == "extern"] == ["aten.linalg_solve_triangular.default"]
    assert not any(op.name in ("reduce", "concat") for op in graph.ops)
    given = [{"c": c, "b": b}[value.name] for value in graph.inputs]
    assert_same_answer(found.stages[0].graph, graph, given)


def without_zeros(c: Tensor, b: Tensor) -> Tensor:
    """Behind the diagonal, rows before hold what the loop does not take."""
    a = c.clone()
    for i in range(1, a.shape[-1]):
        a[..., i, :i] = a[..., i, :i].clone() + (a[..., i, :i].clone().unsqueeze(-1) * a[..., :i, :i].clone()).sum(-2)
    return a


def of_right_sides(c: Tensor, b: Tensor) -> Tensor:
    """A combination of right sides, which no row before has a part in."""
    x = b.clone()
    for i in range(1, b.shape[-2]):
        x[..., i, :] = b[..., i, :] + (c[..., i, :i].unsqueeze(-1) * b[..., :i, :]).sum(-2)
    return x


def of_other_rows(c: Tensor, b: Tensor) -> Tensor:
    """Coefficients from a row of another number."""
    x = b.clone()
    for i in range(1, b.shape[-2]):
        x[..., i, :] = b[..., i, :] + (c[..., -i, :i].unsqueeze(-1) * x[..., :i, :]).sum(-2)
    return x


def of_columns(c: Tensor, b: Tensor) -> Tensor:
    """Coefficients from a column: another matrix."""
    x = b.clone()
    for i in range(1, b.shape[-2]):
        x[..., i, :] = b[..., i, :] + (c[..., :i, i].unsqueeze(-1) * x[..., :i, :]).sum(-2)
    return x


def of_squares(c: Tensor, b: Tensor) -> Tensor:
    """No combination."""
    x = b.clone()
    for i in range(1, b.shape[-2]):
        x[..., i, :] = b[..., i, :] + (c[..., i, :i].unsqueeze(-1) * x[..., :i, :].square()).sum(-2)
    return x


@pytest.mark.parametrize("loop", [without_zeros, of_right_sides, of_other_rows, of_columns, of_squares])
def test_other_rows_are_left(loop: Loop) -> None:
    c, b = torch.randn(2, ROWS, ROWS) / 4, torch.randn(2, ROWS, 5)
    found = by_passes(loop, c, b)
    assert told(found) == []
    graph = found.stages[-1].graph
    given = [{"c": c, "b": b}[value.name] for value in graph.inputs]
    assert_same_answer(found.stages[0].graph, graph, given)


def test_few_rows_are_left() -> None:
    assert told(by_passes(whole_rows, torch.randn(4, 4), torch.randn(4, 5))) == []


def test_half_precision_is_left() -> None:
    """ATen solves in fp32 and fp64 alone."""
    assert told(by_passes(whole_rows, torch.randn(ROWS, ROWS).half(), torch.randn(ROWS, 5).half())) == []


def test_without_calls_of_aten_rows_are_computed_one_by_one() -> None:
    found = by_passes(whole_rows, torch.randn(ROWS, ROWS), torch.randn(ROWS, 5), require=("no-extern",))
    ((decision, reason),) = told(found)
    assert decision == "cut"
    assert "no-extern" in reason


def test_a_compiled_loop_gives_the_same() -> None:
    c, b = torch.randn(2, ROWS, ROWS) / 4, torch.randn(2, ROWS, 5)

    def layer(c: Tensor, b: Tensor) -> Tensor:
        return torch.relu(up_to_the_diagonal(c.tanh(), b) @ b)

    with torch.no_grad():
        assert all(verdict.kept for verdict in check(rooftile.compile(layer), layer, (c, b), {}))


WINDOWS = """
graph main(%x: f32[3, 8, 6], %y: f32[3, 2, 6]) {
    %a = slice(%x, starts=[0, 5, 1], steps=[1, 1, 1]) : f32[3, 1, 4]
    %b = reshape(%a) : f32[3, 4]
    %c = expand(%b, dims=[0, 2]) : f32[3, 7, 4]
    %d = concat(%y, %x, dim=1) : f32[3, 10, 6]
    %e = slice(%d, starts=[1, 3, 2], steps=[1, 1, 1]) : f32[2, 4, 3]
    %f = slice(%d, starts=[0, 1, 0], steps=[1, 1, 1]) : f32[3, 3, 6]
    %g = slice(%x, starts=[0, 0, 0], steps=[1, 2, 1]) : f32[3, 4, 6]
    return %c, %e, %f, %g
}
"""


def test_windows() -> None:
    graph = parse_graph(WINDOWS)
    producers = graph.producers()
    c, e, f, g = (window(value, producers) for value in graph.outputs)
    assert all(at is not None for at in (c, e, f, g))
    assert (c.source.name, c.starts, c.sizes, c.dims) == ("x", (0, 5, 1), (3, 1, 4), (0, None, 2))
    assert (e.source.name, e.starts, e.sizes, e.dims) == ("x", (1, 1, 2), (2, 4, 3), (0, 1, 2))
    assert (f.source.name, f.starts) == ("d", (0, 1, 0))  # of two pieces
    assert g.source.name == "g"  # every second row


def test_zeros_by_position() -> None:
    found = by_passes(lambda x: -x.tril(-1).where(torch.ones(6, 6).bool().triu(-2), 0), torch.randn(2, 6, 6))
    graph = found.stages[-1].graph
    known = zeros(graph.outputs[0], graph.producers())
    kept = torch.ones(6, 6).tril(-1).triu(-2).bool()
    assert torch.equal(known, ~kept)
