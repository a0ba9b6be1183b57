"""Plans and programs: places in memory, the peak, what a call is checked for, and what results may share."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from rooftile.codegen.kernel import Kernel, KernelParam
from rooftile.errors import InputError, InternalError
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.division import ceildiv
from rooftile.ir.dtypes import F32
from rooftile.ir.expr import Size, symbol
from rooftile.ir.extern import encode
from rooftile.runtime import steps
from rooftile.runtime.arena import ALIGNMENT, Life, aligned, place
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.plan import Plan, make_plan
from rooftile.runtime.plan_faults import plan_faults
from rooftile.runtime.program import Program
from rooftile.runtime.tuning.clocks import WallClock

CPU = torch.device("cpu")
N = symbol("n", lo=2, hi=4096)


def add_kernel(numel: Size, stride: int = 1) -> Kernel:
    """``c = a + b`` over flat buffers of ``numel`` elements, those of ``a`` being ``stride`` apart."""
    source = f"""import triton
import triton.language as tl


@triton.jit
def add(a, b, c, n):
    i = tl.program_id(0) * 64 + tl.arange(0, 64)
    x = tl.load(a + i * {stride}, mask=i < n)
    y = tl.load(b + i, mask=i < n)
    tl.store(c + i, x + y, mask=i < n)
"""
    buffers = tuple(KernelParam(name, "buffer", "f32") for name in "abc")
    return Kernel("add", source, (*buffers, KernelParam("n", "size", "i32", aligned=False)), (ceildiv(numel, 64),))


class Chain:
    """A graph of regions, each adding two vectors of ``n`` elements, and of ATen calls."""

    def __init__(self, *inputs: str, strides: Sequence[int] | None = None) -> None:
        self.builder = GraphBuilder("chain")
        type = TensorType(F32, (N,), strides=tuple(strides) if strides else None)
        self.inputs = [self.builder.input(name, type) for name in inputs]
        self.kernels: dict[Op, Kernel] = {}

    def add(self, a: Value, b: Value) -> Value:
        body = GraphBuilder("add")
        x, y = body.input("a", a.type), body.input("b", b.type)
        graph = body.finish([body.pointwise("add", x, y)])
        (out,) = self.builder.region(graph, [a, b], {"name": "add"})
        stride = a.type.strides[0] if a.type.strides else 1
        self.kernels[self.builder.ops[-1]] = add_kernel(N, int(str(stride)))
        return out

    def call(self, target: str, x: Value) -> Value:
        operands, attrs = encode(target, [x], {}, [x.type])
        return self.builder.op("extern", operands, attrs)

    def plan(self, *outputs: Value, kinds: Sequence[str] = ()) -> Plan:
        graph = self.builder.finish(outputs, {"kinds": tuple(kinds)} if kinds else {})
        return make_plan(graph, self.kernels)


def program(plan: Plan) -> Program:
    return Program(plan, [CpuLauncher(launch.kernel) for launch in plan.launches], CPU)


def sums(count: int) -> Plan:
    """``x + y``, then that plus ``y`` again, ``count`` times in all."""
    chain = Chain("x", "y")
    value, y = chain.inputs
    for _ in range(count):
        value = chain.add(value, y)
    return chain.plan(value)


def test_a_program_computes() -> None:
    run = program(sums(5))
    for n in (2, 64, 129, 1000):
        x, y = torch.randn(n), torch.randn(n)
        (result,) = run([x, y], {"n": n})
        torch.testing.assert_close(result, x + 5 * y)


def test_intermediates_share_memory_when_they_are_not_alive_together() -> None:
    plan = sums(9)
    assert [b.home for b in plan.buffers] == ["argument"] * 2 + ["arena"] * 8 + ["fresh"]
    layout = plan.layout({"n": 1024})
    assert layout.results == {10: 4096}
    assert layout.arena_bytes == 4096  # every second one stands where the result will
    assert layout.peak_bytes == 2 * 4096
    assert set(layout.offsets.values()) == {0, 4096}
    assert layout.within(layout.offsets[2]) == (10, 0) and layout.within(layout.offsets[9]) == (None, 0)


def test_roles_follow_from_what_the_graph_says() -> None:
    chain = Chain("x", "w")
    hidden = chain.add(*chain.inputs)
    plan = chain.plan(chain.add(hidden, hidden), kinds=("input", "parameter"))
    assert [b.role for b in plan.buffers] == ["input", "weight", "intermediate", "output"]


def test_results_alias_neither_inputs_nor_one_another() -> None:
    chain = Chain("x", "y")
    x, y = chain.inputs
    total = chain.add(x, y)
    results = program(chain.plan(x, total, total, x))([torch.ones(8), torch.ones(8)], {"n": 8})
    assert [r.tolist() for r in results] == [[v] * 8 for v in (1, 2, 2, 1)]
    assert len({r.data_ptr() for r in results}) == 4


def test_results_outlive_the_next_call() -> None:
    run = program(sums(3))
    first = run([torch.ones(32), torch.ones(32)], {"n": 32})[0]
    run([torch.zeros(32), torch.zeros(32)], {"n": 32})
    assert first.tolist() == [4.0] * 32


def test_an_aten_call_stands_between_kernels() -> None:
    chain = Chain("x", "y")
    total = chain.add(*chain.inputs)
    turned = chain.call("aten.neg.default", total)
    plan = chain.plan(chain.add(turned, chain.inputs[1]), turned)
    x, y = torch.randn(100), torch.randn(100)
    after, between = program(plan)([x, y], {"n": 100})
    torch.testing.assert_close(between, -(x + y))
    torch.testing.assert_close(after, -x)
    assert plan.buffers[3].home == "aten" and plan.buffers[3].role == "output"


def test_every_step_is_timed_on_what_those_before_it_left() -> None:
    left = []

    class Watching(WallClock):
        def microseconds(self, calls: Sequence[Callable[[], None]], repeats: int) -> list[list[float]]:
            left.append(repeats)
            return super().microseconds(calls, repeats)

    found = program(sums(3)).time_steps([torch.randn(64), torch.randn(64)], {"n": 64}, Watching(), repeats=5)
    assert len(found) == 3 and min(found) > 0 and left == [5, 5, 5]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_plan_as_it_is_made_has_no_fault(count: int) -> None:
    assert plan_faults(sums(count), {"n": 1024}) == []


def test_the_faults_of_a_plan_are_told_by_kind_and_place() -> None:
    plan, sizes = sums(4), {"n": 1024}
    first, second, *others = plan.steps
    (early, *_) = plan_faults(replace(plan, steps=(second, first, *others)), sizes)
    assert (early.kind, early.step) == ("order", 0) and "before it is written" in early.text
    crossed = replace(plan, steps=(first, replace(second, reads=second.reads[::-1]), *others))
    assert [fault.kind for fault in plan_faults(crossed, sizes)] == ["operands", "operands"]
    short = [replace(b, last=b.first) for b in plan.buffers]
    (over, *_) = plan_faults(replace(plan, buffers=tuple(short)), sizes)
    assert (over.kind, over.step) == ("memory", 1) and "over %" in over.text
    (missing,) = plan_faults(replace(plan, steps=plan.steps[:-1]), sizes)
    assert (missing.name, missing.kind, missing.step) == ("the caller", "order", 3)


def test_the_peak_counts_what_aten_returns_while_it_is_needed() -> None:
    chain = Chain("x", "y")
    first = chain.call("aten.neg.default", chain.inputs[0])
    second = chain.call("aten.neg.default", chain.inputs[1])
    plan = chain.plan(chain.add(first, second))
    assert plan.layout({"n": 1024}).peak_bytes == 3 * 4096


def test_what_aten_returned_is_given_back_after_its_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain("x", "y")
    value = chain.inputs[0]
    for _ in range(3):
        value = chain.add(chain.call("aten.neg.default", value), chain.inputs[1])
    plan = chain.plan(value)
    returned: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    make = steps.call_extern

    def watched(*arguments: Any) -> tuple[torch.Tensor, ...]:
        alive.append(sum(ref() is not None for ref in returned))
        tensors = make(*arguments)
        returned.extend(weakref.ref(t) for t in tensors)
        return tensors

    monkeypatch.setattr(steps, "call_extern", watched)
    program(plan)([torch.ones(8), torch.ones(8)], {"n": 8})
    assert alive == [0, 0, 0]


def test_scratch_memory_lies_in_the_arena_while_its_step_runs() -> None:
    plan = sums(3)
    plain, with_scratch = plan.layout({"n": 1024}), plan.layout({"n": 1024}, {1: 1000})
    assert with_scratch.arena_bytes == plain.arena_bytes + 1024
    assert with_scratch.scratch[1] % ALIGNMENT == 0 and with_scratch.scratch[1] not in with_scratch.offsets.values()


def test_a_failed_call_leaves_the_program_usable() -> None:
    run = program(sums(2))
    with pytest.raises(InputError):
        run([torch.ones(8), torch.ones(9)], {"n": 8})
    assert run([torch.ones(8), torch.ones(8)], {"n": 8})[0].tolist() == [3.0] * 8


def test_a_call_keeps_no_tensor_alive() -> None:
    run = program(sums(2))
    x = torch.ones(8)
    (result,) = run([x, x], {"n": 8})
    watched = [weakref.ref(t) for t in (x, result)]
    del x, result
    assert [ref() for ref in watched] == [None, None]


def test_a_strided_input_is_read_where_it_lies() -> None:
    chain = Chain("x", "y", strides=[3])
    plan = chain.plan(chain.add(chain.inputs[0], replace_strides(chain)))
    x, y = torch.randn(50, 3)[:, 0], torch.randn(50)
    torch.testing.assert_close(program(plan)([x, y], {"n": 50})[0], x + y)


def replace_strides(chain: Chain) -> Value:
    """Make the chain's second input a dense one."""
    dense = Value("y", replace(chain.inputs[1].type, strides=None))
    chain.builder.inputs[1] = chain.inputs[1] = dense
    return dense


def test_a_misaligned_input_is_copied() -> None:
    x, y = torch.randn(101)[1:], torch.randn(100)
    assert x.data_ptr() % 16
    torch.testing.assert_close(program(sums(1))([x, y], {"n": 100})[0], x + y)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.ones(8, dtype=torch.float16), "input 'y' is torch.float16, the plan is for torch.float32"),
        (torch.ones(2, 4), r"input 'y' has 2 dimensions, \(2, 4\); the plan is for 1"),
        (torch.ones(7), "7 in dimension 0 instead of 8"),
        (torch.ones(16)[::2], r"input 'y' has the strides \(2,\), the plan is for \(1,\)"),
        (torch.ones(8, device="meta"), "input 'y' is on meta, the plan is for cpu"),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(wrong: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        program(sums(2))([torch.ones(8), wrong], {"n": 8})


def test_a_wrong_tensor_is_refused_at_every_call() -> None:
    run = program(sums(1))
    x = torch.ones(8)
    wrong = (torch.ones(8).double(), torch.ones(9), torch.ones(16)[::2], torch.ones(8, device="meta"))
    for tensor in wrong:
        assert run([x, x], {"n": 8})[0].tolist() == [2.0] * 8
        with pytest.raises(InputError, match="input 'y'"):
            run([x, tensor], {"n": 8})


def test_a_tensor_that_differs_in_what_does_not_matter_is_taken_at_every_call() -> None:
    run = program(sums(1))
    x = torch.ones(8)
    negated = torch.view_as_real(torch.ones(8, dtype=torch.complex64) * 1j)[:, 1].contiguous()._neg_view()
    for tensor, value in [(x, 2.0), (torch.nn.Parameter(x), 2.0), (negated, 0.0)] * 4:
        assert run([x, tensor], {"n": 8})[0].tolist() == [value] * 8


def test_strides_that_address_nothing_do_not_matter() -> None:
    one = torch.ones(1).as_strided((1,), (17,))
    chain = Chain("x", "y")
    chain.builder.inputs[:] = chain.inputs[:] = [Value(n, TensorType(F32, (1,))) for n in "xy"]
    assert program(chain.plan(chain.inputs[0]))([one, one])[0].item() == 1


def test_sizes_are_checked_against_their_facts() -> None:
    with pytest.raises(InputError, match="the size n is 1; the plan is for at least 2 and at most 4096"):
        program(sums(1))([torch.ones(1), torch.ones(1)], {"n": 1})
    with pytest.raises(InputError, match="no value for the size n"):
        program(sums(1))([torch.ones(8), torch.ones(8)], {})
    assert program(sums(1))([torch.ones(8), torch.ones(8)])[0].tolist() == [2.0] * 8  # read off the shapes


def test_the_number_of_tensors_is_checked() -> None:
    with pytest.raises(InputError, match="takes 2 tensors, the call brings 1"):
        program(sums(1))([torch.ones(8)], {"n": 8})


def test_an_unfused_op_is_a_fault() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (4,)))
    graph: Graph = b.finish([b.pointwise("neg", x)])
    with pytest.raises(InternalError, match="'pointwise', which is neither a kernel nor an ATen call"):
        make_plan(graph, {})


def test_placed_buffers_never_overlap_while_both_are_needed() -> None:
    draw = random.Random(0)
    for _ in range(50):
        starts = [draw.randrange(30) for _ in range(40)]
        lives = [Life(draw.randrange(5000), first, first + draw.randrange(6)) for first in starts]
        results = [Life(draw.randrange(9000), draw.randrange(30), 40) for _ in range(draw.randrange(4))]
        placement, alone = place(lives, results), place(lives)
        assert placement.bytes <= alone.bytes
        line = [*placement.offsets, *placement.results]
        ends = (aligned(start + r.bytes) for start, r in zip(placement.results, results, strict=True))
        borders = [0, placement.bytes, *ends]
        for i, a in enumerate([*lives, *results]):
            assert line[i] % ALIGNMENT == 0
            block = max(n for n, border in enumerate(borders) if border <= line[i]) if a.bytes else None
            assert block is None or line[i] + a.bytes <= borders[block + 1]
            for j, b in enumerate([*lives, *results][:i]):
                if a.meets(b) and a.bytes and b.bytes:
                    assert line[i] + a.bytes <= line[j] or line[j] + b.bytes <= line[i]


def test_an_intermediate_stands_in_a_result_only_until_that_is_written() -> None:
    lives = [Life(1000, 0, 2), Life(1000, 2, 3), Life(1000, 3, 5), Life(5000, 0, 1)]
    placement = place(lives, [Life(2000, 3, 9)])
    assert [start >= placement.results[0] for start in placement.offsets] == [True, False, False, False]
