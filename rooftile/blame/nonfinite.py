"""Where the first NaN and the first infinity come from, in eager and in ours.

An op makes one if its result holds one and none of its operands does, numbers among them: a mask that is filled with
minus infinity only passes on what the model wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isinf, isnan
from typing import Any, Literal

import torch

from rooftile.blame.data import NonfiniteRow
from rooftile.blame.subject import op_text
from rooftile.blame.trial import Trial
from rooftile.ir.core import Loc, Op
from rooftile.ir.evaluator import Tensors, evaluate

What = Literal["NaN", "infinity"]
_HAS: dict[What, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[float], bool]]] = {
    "NaN": (torch.isnan, isnan),
    "infinity": (torch.isinf, isinf),
}


def nonfinite(trial: Trial) -> Iterator[NonfiniteRow]:
    """The first op of each kind in eager, then in ours."""
    name = trial.subject.name
    eager = _Firsts()
    trial.subject.watched(lambda op, loc, xs, ys: eager.watch(op, loc, xs, ys))
    for what, (op, loc) in eager.found.items():
        yield NonfiniteRow(name, "eager", what, op, loc.module, loc.source)
    ours = _in_kernels(trial)
    for what, (op, loc) in ours.found.items():
        yield NonfiniteRow(name, "ours", what, op, loc.module, loc.source, ours.kernels[what])


class _Firsts:
    """Remembers the first op that makes each."""

    def __init__(self) -> None:
        self.found: dict[What, tuple[str, Loc]] = {}
        self.kernels: dict[What, str] = {}

    def watch(self, op: str, loc: Loc, operands: Sequence[Any], results: Sequence[torch.Tensor], of: str = "") -> None:
        for what in _HAS:
            if what not in self.found and makes(what, operands, results):
                self.found[what] = (op, loc)
                self.kernels[what] = of


def makes(what: What, operands: Sequence[Any], results: Sequence[torch.Tensor]) -> bool:
    """Whether ``results`` hold one and no operand does."""
    return any(_has(what, y) for y in results) and bool(operands) and not any(_has(what, x) for x in operands)


def _has(what: What, x: Any) -> bool:
    of_tensor, of_number = _HAS[what]
    if isinstance(x, torch.Tensor):
        return bool((x.is_floating_point() or x.is_complex()) and of_tensor(x).any())
    return isinstance(x, float) and of_number(x)


def _in_kernels(trial: Trial) -> _Firsts:
    """Kernel by kernel as they run; the body of one that makes something is evaluated op by op to find where."""
    firsts = _Firsts()

    def run(op: Op, inputs: Tensors) -> Tensors:
        results = trial.kernel(op)(inputs)
        if any(makes(what, inputs, results) and what not in firsts.found for what in _HAS):
            expected = _look_inside(trial, op, inputs, firsts)
            if not any(_has(what, y) for what in _HAS for y in expected):  # the kernel computes it in another way
                firsts.watch("kernel", op.loc, inputs, results, str(op.attrs["name"]))
        return results

    def observe(op: Op, inputs: Tensors, results: Tensors) -> None:
        if op.name == "extern":
            firsts.watch(op_text(op), op.loc, inputs, results)

    with torch.no_grad():
        evaluate(
            trial.graph,
            trial.subject.tensors,
            trial.subject.sizes,
            instead={op: partial(run, op) for op in trial.regions},
            observer=observe,
        )
    return firsts


def _look_inside(trial: Trial, op: Op, inputs: Tensors, firsts: _Firsts) -> Tensors:
    """What the body of a region gives by the reference, whose ops are watched."""
    name = str(op.attrs["name"])
    return evaluate(
        op.regions[0],
        inputs,
        trial.subject.sizes,
        observer=lambda inner, xs, ys: firsts.watch(op_text(inner), inner.loc, xs, ys, name),
    )
