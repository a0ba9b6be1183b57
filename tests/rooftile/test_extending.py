"""What a program registers takes part in compiling, is told of, and is a part of keys; a wrong one is found by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.blame.bisect import bisect
from rooftile.blame.check import check_model
from rooftile.blame.subject import model_subjects
from rooftile.checking import check
from rooftile.config import CompileOptions
from rooftile.errors import OptionError
from rooftile.extending import registered
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.registered import fingerprint
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.rewrite import Make, Rewriter
from rooftile.passes.pipeline import pipeline
from rooftile.passes.rules import linear
from rooftile.passes.rules.steps import Step
from rooftile.report.explaining import explain_with
from rooftile.runtime.cache_key import cache_key, key_parts
from rooftile.target import CPU
from tests.runtime import kernels


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with registered():
        yield
    assert fingerprint() == {}


@dataclass(frozen=True)
class Swaps:
    """A wrong pass: operands of differences change places."""

    name: ClassVar[str] = "swaps"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        ops = [replace(op, inputs=op.inputs[::-1]) if op.attrs.get("fn") == "sub" else op for op in graph.ops]
        return replace(graph, ops=tuple(ops))


@dataclass(frozen=True)
class Idle:
    """A pass that finds nothing to do."""

    name: ClassVar[str] = "idle"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        return graph


def double_negative(op: Op, rw: Rewriter) -> Make | None:
    """Twice the negative is a product."""
    return Make("pointwise", (op.inputs[0], op.inputs[0]), {"fn": "add"})


class Model(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.25) * torch.exp(x)


X = torch.randn(6, 10)


def test_passes_stand_where_they_are_put() -> None:
    rooftile.register_pass(Idle(), after="canonicalize")
    rooftile.register_pass(replace_name("later"), after="canonicalize")
    rooftile.register_pass(replace_name("last"), after="later")
    names = [each.name for each in pipeline()]
    assert names[:4] == ["canonicalize", "idle", "later", "last"] and names[-1] == "lower"
    report = rooftile.explain(Model(), X)
    assert {"pass idle", "pass later", "pass last"} <= set(report.versions)


def replace_name(wanted: str) -> Idle:
    return type("Named", (Idle,), {"name": wanted})()  # type: ignore[no-any-return]


def test_what_cannot_be_is_refused() -> None:
    rooftile.register_pass(Idle(), after="fuse")
    for name, after in (("idle", "fuse"), ("mine", "fuze"), ("mine", "lower")):
        with pytest.raises(OptionError):
            rooftile.register_pass(replace_name(name), after=after)
    with pytest.raises(OptionError, match=r"pointwise\.ex"):
        rooftile.register_rule("pointwise.exq", double_negative)
    with pytest.raises(OptionError):
        rooftile.register_scalar("exp", torch.exp, triton="tl.exp({0})")
    with pytest.raises(OptionError):
        rooftile.register_scalar("mine", torch.exp, triton="tl.exp({1})")
    with pytest.raises(OptionError):
        rooftile.register_op(torch.ops.aten.add.Tensor)(lambda im, x, y: x)
    assert list(fingerprint()) == ["pass idle"]


def test_a_wrong_pass_is_blamed_and_isolated() -> None:
    rooftile.register_pass(Swaps(), after="canonicalize")
    assert [row.name for row in check_model(Model(), (X,)).faults] == ["swaps"]
    culprit = bisect(model_subjects(Model(), (X,))[0], CPU)
    assert culprit is not None and (culprit.stage, culprit.name) == ("pass", "swaps")


def test_a_registered_pass_is_left_out_by_its_name() -> None:
    rooftile.register_pass(Swaps(), after="canonicalize")
    for without, kept in (((), False), (("swaps",), True)):
        fast = rooftile.compile(Model(), options={"without": without})
        assert check(fast, Model(), (X,))[0].kept is kept


def test_models_are_compiled_again_with_what_is_registered() -> None:
    model = Model()
    fast = rooftile.compile(model)
    assert check(fast, model, (X,))[0].kept
    with registered():
        rooftile.register_rule("pointwise.exp", double_negative)
        assert not check(fast, model, (X,))[0].kept
    assert check(fast, model, (X,))[0].kept


def test_a_rule_is_in_the_ledger_with_its_line() -> None:
    rooftile.register_rule("pointwise.exp", double_negative)
    (row,) = (row for row in rooftile.explain(Model(), X).ledger if row.decision == "rewritten")
    assert row.rule == "double_negative" and "Twice the negative is a product" in row.reason
    assert row.sources[0].rpartition("/")[2].startswith("test_extending.py:")


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.RMSNorm(32), nn.Linear(32, 48, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))  # type: ignore[no-any-return]


def test_a_reduction_rule_is_in_derivations_and_the_ledger() -> None:
    def mine(body: Graph, reduction: Op) -> tuple[Graph, tuple[Step, ...]] | None:
        found = linear.apply(body, reduction)
        return None if found is None else (found[0], (Step("mine", f"%{reduction.output.name}", "a product"),))

    options = CompileOptions(without=("commute",))
    x = torch.randn(40, 32)
    before = explain_with(Normed(), (x,), {}, options)
    rooftile.register_reduction_rule("mine", mine)
    after = explain_with(Normed(), (x,), {}, options)
    assert after.totals.kernels < before.totals.kernels
    assert "mine" in {step.rule for row in after.derivations for step in row.steps}
    assert "mine" in {row.rule for row in after.ledger if row.decision == "rewritten"}
    fast = rooftile.compile(model := Normed(), options={"without": ["commute"]})
    assert check(fast, model, (x,))[0].kept


def test_a_scalar_function_is_fused_in_every_float_type() -> None:
    def cubed(x: Tensor) -> Tensor:
        return x * x * x

    rooftile.register_scalar("cubed", cubed, triton="{0} * {0} * {0}", nondecreasing=frozenset({0}), flops=2)

    def cube(op: Op, rw: Rewriter) -> Value | Make | None:
        """A function of our own."""
        return Make("pointwise", op.inputs, {"fn": "cubed"})

    rooftile.register_rule("pointwise.tanh", cube)

    def model(x: Tensor) -> Tensor:
        return torch.tanh(x).sum(-1)

    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(7, 33).to(dtype)
        torch._dynamo.reset()
        ours = rooftile.compile(model)(x)
        torch.testing.assert_close(ours, cubed(x.double()).sum(-1).to(dtype), rtol=2e-2, atol=2e-2)


def test_what_is_registered_is_a_part_of_the_cache_s_key() -> None:
    kernel = kernels.gather()
    before = cache_key(kernel, 90)
    rooftile.register_pass(Idle(), after="fuse")
    assert key_parts(kernel, 90)["registered"].keys() == {"pass idle"}
    assert cache_key(kernel, 90) != before
