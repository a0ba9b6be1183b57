"""Sums whose terms are one expression at numbers in a row; ``test_chosen`` has loops over experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rooftile import driver
from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.ir.evaluator import evaluate
from rooftile.report.explaining import compile_afresh
from rooftile.target import CPU
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
    """Experts with weights of their own, which ``spelled`` adds up where they are chosen."""

    def __init__(self, spelled: Callable[..., Tensor], widths: Sequence[int] = (6,) * EXPERTS) -> None:
        super().__init__()
        made = {"dtype": torch.float64}
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, width, **made), nn.SiLU(), nn.Linear(width, 8, bias=False, **made))
            for width in widths
        )
        self.spelled = spelled

    def forward(self, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
        return self.spelled(self.experts, x, w, chosen)


def gate_of(n: int, w: Tensor, chosen: Tensor) -> Tensor:
    return ((chosen == n) * w).sum(-1)


def weighted(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for n, expert in enumerate(experts):
        result = result + expert(x) * gate_of(n, w, chosen)[:, None]
    return result


def masked(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for n, expert in enumerate(experts):
        hit = (chosen == n).any(-1, keepdim=True)
        result += torch.where(hit, expert(x) * gate_of(n, w, chosen)[:, None], 0)
    return result


def by_columns(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    gate = torch.zeros(len(x), len(experts), dtype=x.dtype).scatter(1, chosen, w)
    return sum((expert(x) * gate[:, n, None] for n, expert in enumerate(experts)), torch.zeros_like(x))


def stacked(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    gate = torch.zeros(len(x), len(experts), dtype=x.dtype).scatter(1, chosen, w)
    return torch.einsum("te,ted->td", gate, torch.stack([expert(x) for expert in experts], 1))


def stacked_last(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    gate = torch.zeros(len(x), len(experts), dtype=x.dtype).scatter(1, chosen, w)
    return (torch.stack([expert(x) for expert in experts], -1) * gate[:, None]).sum(-1)


def of_one_choice(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for n, expert in enumerate(experts):
        result = result + torch.where((chosen[:, 0] == n)[:, None], expert(x), 0.0) * w[:, :1]
    return result


@pytest.mark.parametrize("spelled", [weighted, masked, by_columns, stacked, stacked_last, of_one_choice])
def test_weights_of_their_own_are_laid_one_behind_the_other(spelled: Callable[..., Tensor]) -> None:
    model = Experts(spelled).eval()
    x, w, chosen, _ = given()
    chosen[:, 1] = (chosen[:, 0] + 1) % EXPERTS
    found = by_passes(model, x, w, chosen)
    assert told(found)[0] == "rewritten"
    assert [entry.rule for entry in found.context.ledger if entry.rule == "delta"]
    graph = found.stages[-1].graph
    assert sum(op.name == "contract" for op in graph.ops) == 2
    stacks = [op for op in graph.ops if op.name == "extern"]
    assert [op.output.shape for op in stacks] == [(EXPERTS, 6, 8), (EXPERTS, 6), (EXPERTS, 8, 6)]
    torch.testing.assert_close(result_of(found, model, x, w, chosen), model(x, w, chosen))


def result_of(found: Compilation, model: nn.Module, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    graph = found.stages[-1].graph
    named = {name.replace(".", "_"): value.detach() for name, value in model.named_parameters()}
    inputs = [
        next(
            (t for name, t in named.items() if value.name.endswith(name)),
            {"x": x, "w": w, "chosen": chosen}.get(value.name),
        )
        for value in graph.inputs
    ]
    (got,) = evaluate(graph, inputs)
    return got


def dense(compilation: Compilation) -> str:
    decision, reason = told(compilation)
    assert decision == "cut"
    assert not [op for op in compilation.stages[-1].graph.ops if op.name == "extern"]
    return reason


def test_weights_that_a_device_has_no_room_for_twice_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, chosen, _ = given()
    model = Experts(weighted).eval()
    bytes = sum(p.nbytes for p in model.parameters())
    for memory, fits in ((4 * bytes, True), (4 * bytes - 2, False)):
        monkeypatch.setattr(driver, "_target_of", lambda _, memory=memory: replace(CPU, memory_bytes=memory))
        found = by_passes(model, x, w, chosen)
        if fits:
            assert told(found)[0] == "rewritten"
        else:
            assert f"would take {bytes} bytes, and there is room for {bytes - 1}" in dense(found)


def test_weights_that_are_trained_stay_where_they_are() -> None:
    x, w, chosen, _ = given()
    torch._dynamo.reset()
    (found,), _ = compile_afresh(
        Experts(weighted), (x, w, chosen), {}, CompileOptions(stop_after="chosen", dynamic=False)
    )
    assert "are separate values; under torch.no_grad(), or" in dense(found)


def test_weights_of_several_types_are_told_of() -> None:
    x, w, chosen, _ = given()
    reason = dense(by_passes(Experts(weighted, (6, 6, 6, 5, 6, 6, 6)).eval(), x, w, chosen))
    assert "all 6 terms" in reason and "the numbers 0, 1, 2, 4, 5, 6 are not in a row" in reason


def test_values_that_are_no_weights_are_told_of() -> None:
    def layer(x: Tensor, w: Tensor, chosen: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
        terms = (x @ m * gate_of(n, w, chosen)[:, None] for n, m in enumerate((a, b, c, d, e)))
        return sum(terms, torch.zeros_like(x))

    x, w, chosen, m = given()
    assert "%a, %b and so on are separate values" in dense(by_passes(layer, x, w, chosen, *m[:5]))


def test_weights_stay_where_they_are_if_that_is_asked_for() -> None:
    x, w, chosen, _ = given()
    torch._dynamo.reset()
    options = CompileOptions(stop_after="chosen", dynamic=False, without=("reroll/stack",))
    with torch.no_grad():
        (found,), _ = compile_afresh(Experts(weighted).eval(), (x, w, chosen), {}, options)
    assert "their weights are separate values" in dense(found)


def test_what_is_read_of_all_is_not_left_out() -> None:
    """The products are wanted beside the sum of the chosen: each is computed as it is."""

    def both(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
        every = torch.stack([expert(x) for expert in experts], 1)
        gate = torch.zeros(len(x), len(experts), dtype=x.dtype).scatter(1, chosen, w)
        return torch.einsum("te,ted->td", gate, every) + every.exp().amax(1)

    x, w, chosen, _ = given()
    assert "too few of them are known to be zero" in dense(by_passes(Experts(both).eval(), x, w, chosen))


def test_two_sums_of_the_same_weights_share_what_is_laid_out() -> None:
    def twice(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
        return weighted(experts, weighted(experts, x, w, chosen), w, chosen)

    x, w, chosen, _ = given()
    model = Experts(twice).eval()
    found = by_passes(model, x, w, chosen)
    assert sum(op.name == "extern" for op in found.stages[-1].graph.ops) == 3
    torch.testing.assert_close(result_of(found, model, x, w, chosen), model(x, w, chosen))


def each_choice(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for k in range(CHOSEN):
        for n, expert in enumerate(experts):
            result = result + torch.where((chosen[:, k] == n)[:, None], expert(x), 0) * w[:, k, None]
    return result


def each_expert(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for n, expert in enumerate(experts):
        for k in range(CHOSEN):
            result = result + (chosen[:, k] == n).to(x.dtype)[:, None] * w[:, k, None] * expert(x)
    return result


@pytest.mark.parametrize("spelled", [each_choice, each_expert])
def test_loops_inside_one_another_have_an_axis_each(spelled: Callable[..., Tensor]) -> None:
    x, w, chosen, _ = given()
    model = Experts(spelled).eval()
    for numbers in (chosen, chosen[:, :1].expand(-1, CHOSEN).contiguous()):  # chosen twice counts twice
        found = by_passes(model, x, w, numbers)
        assert told(found)[0] == "rewritten"
        assert sum(op.name == "contract" for op in found.stages[-1].graph.ops) == 2
        torch.testing.assert_close(result_of(found, model, x, w, numbers), model(x, w, numbers))


def test_a_stack_of_products_that_are_read_twice_is_told_of() -> None:
    def twice(experts: nn.ModuleList, x: Tensor, w: Tensor, chosen: Tensor) -> Tensor:
        every = [expert(x) for expert in experts]
        gate = torch.zeros(len(x), 2 * len(experts), dtype=x.dtype).scatter(1, chosen, w)
        both = torch.stack([*(y * 2 for y in every), *(y * 3 for y in every)], 1)
        return torch.einsum("te,ted->td", gate, both)

    x, w, chosen, _ = given()
    model = Experts(twice).eval()
    found = by_passes(model, x, w, chosen)
    torch.testing.assert_close(result_of(found, model, x, w, chosen), model(x, w, chosen))


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
