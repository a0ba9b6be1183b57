"""Sums whose terms are one expression at numbers in a row; ``test_chosen`` has loops over experts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.ir.evaluator import evaluate
from rooftile.report.explaining import compile_afresh
from tests.gates import operands

EXPERTS, TOKENS, CHOSEN = 7, 5, 2
Term = Callable[[int, Tensor, Tensor], Tensor]  # of a number, tokens and matrices


def by_passes(layer: Callable[..., Tensor], *inputs: Tensor) -> Compilation:
    torch._dynamo.reset()
    with torch.no_grad():
        (found,), _ = compile_afresh(layer, inputs, {}, CompileOptions(stop_after="chosen", dynamic=False))
    return found


def told(found: Compilation) -> tuple[str, str]:
    """What the pass said of the one sum that it came upon."""
    (entry,) = (entry for entry in found.context.ledger if entry.rule == "reroll")
    return entry.decision, entry.reason


def gated(term: Term, numbers: range = range(EXPERTS)) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """A sum of terms, each where its number was chosen."""

    def layer(x: Tensor, w: Tensor, chosen: Tensor, m: Tensor) -> Tensor:
        return sum(
            (term(n, x, m) * torch.where(chosen == n, w, 0).sum(-1, keepdim=True) for n in numbers), torch.zeros_like(x)
        )

    return layer


def given() -> tuple[Tensor, ...]:
    """Tokens, weights of the chosen, their numbers, and square matrices."""
    x, w, *_ = operands(TOKENS, EXPERTS, CHOSEN)
    return x, w, torch.randint(0, EXPERTS, (TOKENS, CHOSEN)), torch.randn(EXPERTS, 8, 8, dtype=torch.float64)


TERMS: dict[str, Term] = {
    "product": lambda n, x, m: x @ m[n],
    "transposed": lambda n, x, m: x @ m[n].T,
    "in other orders": lambda n, x, m: (m.permute(1, 0, 2)[:, n] @ x.T).T,
    "rows in a line": lambda n, x, m: x @ m.view(-1, 8)[8 * n : 8 * n + 8],
    "pieces": lambda n, x, m: torch.cat([(x @ m[n])[:, 4:], (x @ m[n])[:, :4].exp()], 1),
    "heads": lambda n, x, m: (x @ m[n]).view(TOKENS, 2, 4).softmax(1).reshape(TOKENS, 8),
    "two matrices": lambda n, x, m: torch.relu(x @ m[n]) @ m[n],
}


@pytest.mark.parametrize("name", list(TERMS))
def test_terms_at_numbers_in_a_row_are_one_sum(name: str) -> None:
    inputs = given()
    layer = gated(TERMS[name])
    found = by_passes(layer, *inputs)
    assert told(found)[0] == "rewritten"
    graph = found.stages[-1].graph
    (got,) = evaluate(graph, list(inputs_of(found, inputs)))
    torch.testing.assert_close(got, layer(*inputs))
    assert sum(op.name == "contract" for op in graph.ops) < EXPERTS


def inputs_of(found: Compilation, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    named = dict(zip(("x", "w", "chosen", "m"), inputs, strict=True))
    return [named[value.name] for value in found.stages[-1].graph.inputs]


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        (
            range(2, EXPERTS),
            "too few of them are known to be zero",
        ),  # the choices are compared with positions from 0 on
        (range(0, EXPERTS, 2), "the parts of %m do not lie one behind the other"),
    ],
    ids=["from another one on", "with gaps"],
)
def test_other_numbers_are_told_of(numbers: range, why: str) -> None:
    inputs = given()
    layer = gated(TERMS["product"], numbers)
    found = by_passes(layer, *inputs)
    decision, reason = told(found)
    assert decision == "cut" and why in reason
    (got,) = evaluate(found.stages[-1].graph, inputs_of(found, inputs))
    torch.testing.assert_close(got, layer(*inputs))


def test_terms_that_are_all_needed_stay_one_by_one() -> None:
    def layer(x: Tensor, m: Tensor) -> Tensor:
        return sum((torch.relu(x @ m[n]) for n in range(EXPERTS)), torch.zeros_like(x))

    x, _, _, m = given()
    decision, reason = told(by_passes(layer, x, m))
    assert decision == "cut" and "too few of them are known to be zero" in reason


class Experts(nn.Module):
    """Experts with matrices of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8, bias=False, dtype=torch.float64) for _ in range(EXPERTS))

    def forward(self, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        for n, expert in enumerate(self.experts):
            result = result + expert(x) * torch.where(chosen == n, w, 0).sum(-1, keepdim=True)
        return result


def test_matrices_of_their_own_are_told_of() -> None:
    x, w, chosen, _ = given()
    decision, reason = told(by_passes(Experts().eval(), x, w, chosen))
    assert decision == "cut"
    assert "are separate values; as parts of one tensor's first dimension" in reason


def test_a_partial_sum_that_is_wanted_is_no_part_of_a_longer_one() -> None:
    def layer(x: Tensor, w: Tensor, chosen: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        gates = [torch.where(chosen == n, w, 0).sum(-1, keepdim=True) for n in range(EXPERTS)]
        first = sum((x @ m[n] * gates[n] for n in range(4)), torch.zeros_like(x))
        return first, sum((x @ m[n] * gates[n] for n in range(4, EXPERTS)), first)

    inputs = given()
    found = by_passes(layer, *inputs)
    for got, want in zip(evaluate(found.stages[-1].graph, inputs_of(found, inputs)), layer(*inputs), strict=True):
        torch.testing.assert_close(got, want)


def test_sums_of_a_deep_network_are_looked_through() -> None:
    """Blocks that add two products to what comes in, one behind the other."""

    def layer(x: Tensor, m: Tensor) -> Tensor:
        for _ in range(400):
            x = x + torch.tanh(x @ m[0]) + torch.sigmoid(x @ m[1])
        return x

    x, _, _, m = given()
    found = by_passes(layer, x, m)
    assert not [entry for entry in found.context.ledger if entry.rule == "reroll"]
