"""Faults to be found: each is put into one place of the compiler, and a small block that every one of them breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rooftile import plans
from rooftile.codegen import expressions
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Op, Value
from rooftile.passes import canonicalize, reciprocals
from rooftile.passes.canonical.rewrite import Make, Rewriter
from rooftile.passes.lowering import sweeps
from rooftile.passes.rules import linear
from rooftile.runtime import plan as plan_module
from rooftile.runtime.arena import Life
from rooftile.runtime.plan import Plan


class Block(nn.Module):
    """Causal attention behind a norm, in bf16 where it is given that; each line takes part in one fault."""

    def forward(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        future = torch.ones(x.shape[0], x.shape[0], dtype=torch.bool, device=x.device).triu(1)
        scores = ((x @ x.T) / 3.0).masked_fill(future, -math.inf)
        y = scores.softmax(-1) @ v
        return (y - 0.3 * x) @ w


class Kept(nn.Module):
    """Scores that are wanted again when others have been written."""

    def forward(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        scores = x @ v.T
        y = (scores @ x).softmax(-1)
        return scores @ (y @ w)


# Tokens, their width, and the results'. With fewer results the CPU's plan is one kernel less, and some faults have no
# effect; a GPU's plan of the smallest has neither a masked loop nor a buffer to spare. Products of narrow tokens are
# taken in another order, in which no scores are wanted again.
SMALL, SMALLEST, LARGE, SQUARE = (24, 16, 2000), (24, 16, 300), (512, 64, 4096), (512, 512, 512)


def block_and_inputs(
    dtype: torch.dtype = torch.bfloat16, device: str = "cpu", sizes: tuple[int, int, int] = SMALL
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The block, and tokens whose scores differ by little, so that a mask matters."""
    generator = torch.Generator().manual_seed(3)
    tokens, width, results = sizes
    shapes = ((tokens, width), (tokens, width), (width, results))
    return Block(), tuple(torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)


@dataclass(frozen=True)
class Plant:
    """A fault: how it is put in place, and the names that ``check`` and ``bisect`` have to give it."""

    put: Callable[[pytest.MonkeyPatch], None]
    stage: str
    name: str
    rewrite: str = ""
    note: str = ""
    model: type[nn.Module] = Block
    sizes_on_gpu: tuple[int, int, int] = SMALLEST


def planted_sign(op: Op, rw: Rewriter) -> Make:
    """A difference as a sum."""
    return Make("pointwise", op.inputs, {"fn": "add"})


def planted_unmasked(op: Op, rw: Rewriter) -> Value | None:
    """A choice between scores and a mask's fill as the scores."""
    kept = [v for v in op.inputs[1:] if (made := rw.producer(v)) is None or made.name not in ("expand", "constant")]
    return kept[0] if len(kept) == 1 and kept[0].type == op.output.type else None


def _rule(key: str, rule: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setitem(canonicalize.RULES, key, (rule, *canonicalize.RULES.get(key, ())))  # type: ignore[arg-type]


def _scale(patch: pytest.MonkeyPatch) -> None:
    number = reciprocals._number
    patch.setattr(reciprocals, "_number", lambda op, made: (n := number(op, made)) and 2 * n)


def _commuted(patch: pytest.MonkeyPatch) -> None:
    """A factor that leaves a sum divides it instead."""
    original = linear._in_result

    def wrong(builder: GraphBuilder, *rest: Any) -> Value:
        return builder.pointwise("reciprocal", original(builder, *rest))

    patch.setattr(linear, "_in_result", wrong)


def _identity(patch: pytest.MonkeyPatch) -> None:
    """Products start from one."""
    original = sweeps.identity

    def wrong(kernel: Any, read: Any, block: Any) -> Value:
        start, axes = original(kernel, read, block), kernel.held(kernel.access.free[read])
        one = kernel.add(block, "constant", (), {"value": 1.0, "dtype": start.dtype, "axes": axes})
        return one if kernel.access.nodes[read].op.name == "contract" else start

    patch.setattr(sweeps, "identity", wrong)


def _steps(patch: pytest.MonkeyPatch) -> None:
    """The steps that a mask leaves are skipped as well."""
    original = sweeps.plan_phases

    def wrong(*arguments: Any, **named: Any) -> Any:
        phases, predicates = original(*arguments, **named)
        return [p if p is sweeps.EVERY_STEP else replace(p, ranges=((0, 0),)) for p in phases], predicates

    patch.setattr(sweeps, "plan_phases", wrong)


def _swapped(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(expressions.POINTWISE, "sub", expressions._both("{1} - {0}"))


def _planned(wrong: Callable[[Plan], Plan]) -> Callable[[pytest.MonkeyPatch], None]:
    """A whole program's plan is another than the one that was made."""
    original = plans.make_plan
    return lambda patch: patch.setattr(plans, "make_plan", lambda *given: wrong(original(*given)))


def _reordered(plan: Plan) -> Plan:
    """The last two kernels run the other way round."""
    return replace(plan, steps=(*plan.steps[:-2], plan.steps[-1], plan.steps[-2]))


def _crossed(plan: Plan) -> Plan:
    """A kernel is given its operands the other way round."""
    first, second, *others = plan.steps
    return replace(plan, steps=(first, replace(second, reads=second.reads[::-1]), *others))


def _memory(patch: pytest.MonkeyPatch) -> None:
    """Nobody is thought to read a buffer."""
    patch.setattr(plan_module, "Life", lambda bytes, first, last: Life(bytes, first, first))


PLANTS = {
    "sign": Plant(_rule("pointwise.sub", planted_sign), "pass", "canonicalize", "canonicalize/planted_sign"),
    "scale": Plant(_scale, "pass", "reciprocals", "reciprocals/division"),
    "mask": Plant(_rule("pointwise.where", planted_unmasked), "pass", "canonicalize", "canonicalize/planted_unmasked"),
    "factor": Plant(_commuted, "pass", "fuse", "fuse/commute"),
    "identity": Plant(_identity, "kernel", "contract", note="lower"),
    "steps": Plant(_steps, "kernel", "contract_max_sum", "skip", note="lower", sizes_on_gpu=LARGE),
    "operands": Plant(_swapped, "kernel", "contract_max_sum", note="code generation"),
    "order of steps": Plant(_planned(_reordered), "plan", "order", note="before it is written"),
    "operands of a step": Plant(_planned(_crossed), "plan", "operands", note="reads %v, where %mul_1 is wanted"),
    "memory": Plant(_memory, "plan", "memory", note="over %contract", model=Kept, sizes_on_gpu=SQUARE),
}
