"""Switches: every rewrite that comes up can be left undone, by its name, its place or its number."""

from __future__ import annotations

import torch

from rooftile.ir.core import Graph, Op
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.passes.base import PassContext
from rooftile.passes.manager import REQUIRED, Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.switches import Switches
from rooftile.target import CPU

SOFTMAX = """\
graph main(%x: bf16[12, 40], %w: bf16[40, 24]) {
    %half = constant(value=0.5) : bf16[]
    %halves = expand(%half, dims=[]) : bf16[12, 40]
    %t = pointwise.mul(%x, %halves) : bf16[12, 40]
    %three = constant(value=3.0) : bf16[]
    %threes = expand(%three, dims=[]) : bf16[12, 40]
    %u = pointwise.div(%t, %threes) : bf16[12, 40]
    %m = reduce.max(%u, dims=[1]) : bf16[12]
    %mm = expand(%m, dims=[0]) : bf16[12, 40]
    %d = pointwise.sub(%u, %mm) : bf16[12, 40]
    %e = pointwise.exp(%d) : bf16[12, 40]
    %s = reduce.sum(%e, dims=[1]) : bf16[12]
    %ss = expand(%s, dims=[0]) : bf16[12, 40]
    %p = pointwise.div(%e, %ss) : bf16[12, 40]
    %y = contract[i=12, n=24, k=40](%p[i, k], %w[k, n], out=[i, n], acc=f32) : bf16[12, 24]
    %z = pointwise.neg(%y) : bf16[12, 24]
    %zz = pointwise.neg(%z) : bf16[12, 24]
    return %zz
}
"""


def run(**given: object) -> tuple[Graph, Switches]:
    switches = Switches(**given)  # type: ignore[arg-type]
    stages = Manager(verify=True).run(parse_graph(SOFTMAX), PIPELINE, PassContext(CPU, switches=switches))
    return stages[-1].graph, switches


def ops(graph: Graph) -> list[Op]:
    return [op for region in graph.ops for op in region.regions[0].ops]


def functions(graph: Graph) -> list[str]:
    return [str(op.attrs["fn"]) for op in ops(graph) if op.name == "pointwise"]


def test_what_came_up_is_recorded_with_its_place() -> None:
    _, switches = run()
    names = {a.rewrite for a in switches.asked}
    assert {"fuse/fused", "fuse/commute", "dtypes", "dtypes/rounding", "reciprocals/division"} <= names
    assert all(a.done and a.value for a in switches.asked)
    assert "reciprocals/division@u" in {a.place for a in switches.asked}


def test_a_rewrite_is_left_out_by_its_name_its_pass_or_its_place() -> None:
    assert functions(run()[0]).count("div") == 1
    for name in ("reciprocals", "reciprocals/division", "division", "reciprocals/division@u", "division@u"):
        assert functions(run(off=frozenset({name}))[0]).count("div") == 2, name


def test_a_rewrite_is_turned_on_alone() -> None:
    graph, switches = run(only=frozenset({"dtypes", "reciprocals/division"}))
    assert "exp2" not in functions(graph) and functions(graph).count("div") == 1
    assert {a.rewrite for a in switches.asked if a.done} == {
        "dtypes",
        "dtypes/rounding",
        "reciprocals/division",
        "reciprocals",
    }


def test_the_first_applications_are_carried_out() -> None:
    total = len(run()[1].asked)
    for most in (0, 3, total):
        _, switches = run(most={"": most})
        assert [a.done for a in switches.asked[:most]] == [True] * most
        assert not any(a.done for a in switches.asked[most:])


def test_one_rewrite_s_applications_are_counted_by_themselves() -> None:
    _, switches = run(most={"dtypes/rounding": 1})
    done = [a.done for a in switches.asked if a.rewrite == "dtypes/rounding"]
    assert done[0] and len(done) > 1 and not any(done[1:])
    assert all(a.done for a in switches.asked if a.rewrite != "dtypes/rounding")


def test_every_choice_of_switches_gives_a_right_program() -> None:
    x, w = torch.randn(12, 40).bfloat16(), torch.randn(40, 24).bfloat16()
    (exact,) = evaluate(parse_graph(SOFTMAX), [x, w], promote=True)
    choices: list[dict[str, object]] = [{"most": {"": n}} for n in range(0, len(run()[1].asked), 3)]
    choices += [{"off": frozenset({each.name})} for each in PIPELINE if each.name not in REQUIRED]
    rules = ("correct", "skip", "commute", "fused", "again", "together", "joined", "shared")
    choices += [{"off": frozenset({rule})} for rule in rules]
    for choice in choices:
        graph, _ = run(**choice)
        for lowered in (False, True):
            (found,) = evaluate(graph, [x, w], lowered=lowered)
            assert (found.double() - exact).norm() / exact.norm() < 1e-2, choice


def test_a_name_for_which_nothing_came_up_is_known() -> None:
    assert run(off=frozenset({"reciprocals", "reciprocals/divisoin"}))[1].unasked() == [
        "reciprocals",
        "reciprocals/divisoin",
    ]
    assert run(off=frozenset({"division@u"}))[1].unasked() == []
