"""Products that read the same values in one launch: the same results, one kernel, and reasons where not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from rooftile.codegen.together import emit_all
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph, freeze_attrs
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import Pass, PassContext
from rooftile.passes.beside import Beside
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.estimate import programs, seconds, seconds_in_turns
from rooftile.passes.schedules.override import with_tiles
from rooftile.plans import Plans
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.packed import Packed
from rooftile.runtime.plan import Plan
from rooftile.runtime.program import Program
from rooftile.target import H100, H200, Target
from tests.answers import assert_same_answer
from tests.experts import SortedExperts

CPU = torch.device("cpu")
FEW = replace(H100, sm_count=6)  # so that small results take several rounds of persistent programs


class Projections(nn.Module):
    """Queries and keys of several heads, rotated, and values; with a bias where asked for."""

    def __init__(self, width: int, heads: int, groups: int, head: int, bias: bool = False) -> None:
        super().__init__()
        self.head = head
        self.q = nn.Linear(width, heads * head, bias=bias)
        self.k = nn.Linear(width, groups * head, bias=bias)
        self.v = nn.Linear(width, groups * head, bias=bias)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v = (f(x).unflatten(-1, (-1, self.head)).transpose(0, 1) for f in (self.q, self.k, self.v))

        def rotated(t: torch.Tensor) -> torch.Tensor:
            low, high = t.chunk(2, dim=-1)
            return t * cos + torch.cat((-high, low), dim=-1) * sin

        return rotated(q), rotated(k), v


class Plain(nn.Module):
    """Three products of one input, each with its own activation, one of them twice as wide."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(width, wide), nn.Linear(width, wide), nn.Linear(width, 2 * wide)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.a(x).relu(), self.b(x).tanh(), self.c(x)


class Rows(nn.Module):
    """Products of the same rows, each with weights of its own."""

    def forward(self, x: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(x @ w.T for w in weights)


class Dependent(nn.Module):
    """The second product is scaled by the first one's result: it has to wait for that."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        return torch.softmax(a, -1) * self.b(x + a.sum(-1, keepdim=True))


class Ranked(nn.Module):
    """A row of integers in order, and where they stood."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.sort(x))


def imported(model: nn.Module, *shapes: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> Graph:
    inputs = tuple(torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)
    with torch.no_grad():
        return import_captured(capture_exported(torch.export.export(model.to("meta", dtype), inputs))).graph


def lowered(graph: Graph, target: object = FEW) -> tuple[Graph, PassContext]:
    context = PassContext(target)  # type: ignore[arg-type]
    return Manager(verify=True).run(graph, PIPELINE, context)[-1].graph, context


def evaluated(graph: Graph, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """What the kernels for a lowered graph compute, in the CPU's evaluator."""
    shared = launches(graph)
    plans = Plans.of(shared.graph, emit_all(shared, FEW))

    def program(plan: Plan) -> Program:
        return Program(plan, [CpuLauncher(step.kernel) for step in plan.launches], CPU)

    every = program(plans.every)
    if plans.once is None:
        return every(tensors, {})
    return Packed(program(plans.once), every, plans.sources, len(tensors))(tensors, {})


def random_inputs(graph: Graph) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [[int(str(s)) for s in v.shape] for v in graph.inputs]
    drawn = [torch.randn(s, generator=generator) / (s[-1] ** 0.5 if len(s) > 1 else 1) for s in shapes]
    return [x.to(v.dtype.torch) for x, v in zip(drawn, graph.inputs, strict=True)]


CASES = {
    "rotary": (lambda: Projections(128, 8, 2, 64), ((256, 128), (256, 64), (256, 64))),
    "rotary-bias": (lambda: Projections(72, 4, 2, 64, bias=True), ((200, 72), (200, 64), (200, 64))),
    "plain": (lambda: Plain(128, 256), ((300, 128),)),
    "few-rows": (lambda: Plain(256, 128), ((4, 256),)),
    "one-row": (lambda: Plain(256, 128), ((1, 256),)),
}


@pytest.mark.parametrize("case", CASES)
def test_one_launch_computes_what_each_would(case: str) -> None:
    model, shapes = CASES[case]
    graph = imported(model(), *shapes)
    result, context = lowered(graph)
    assert len([op for op in result.ops if "launch" in op.attrs]) == 3
    assert len(launches(result).graph.ops) == len(result.ops) - 2
    assert [e for e in context.ledger if e.rule == "launch" and "share a launch" in e.reason]
    assert print_graph(parse_graph(print_graph(result))) == print_graph(result)
    tensors = random_inputs(graph)
    assert_same_answer(graph, result, tensors, {})
    apart = replace(result, ops=tuple(replace(op, attrs=without_launch(op.attrs)) for op in result.ops))
    for ours, alone in zip(evaluated(result, tensors), evaluated(apart, tensors), strict=True):
        assert torch.equal(ours, alone)


def without_launch(attrs: object) -> object:
    return freeze_attrs({k: v for k, v in attrs.items() if k != "launch"})  # type: ignore[attr-defined]


def test_what_waits_for_another_has_its_own_launch() -> None:
    result, _ = lowered(imported(Dependent(256), (512, 256)))
    assert not [op for op in result.ops if "launch" in op.attrs]


class Routed(nn.Module):
    """Experts that all rows go through, and logits for others, in fp32."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, router: torch.Tensor) -> object:
        return nn.functional.silu(x @ gate.T) * (x @ up.T), x.float() @ router.float().T


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_products_of_fp32_share_no_launch_with_those_of_matrix_units(dtype: torch.dtype) -> None:
    """All programs would have their registers. Products of what was only widened are none of fp32."""
    shapes = {(2048, 2048): torch.bfloat16, (2816, 2048): torch.bfloat16, (64, 2048): dtype}
    x, gate, router = (torch.empty(shape, dtype=kind, device="meta") for shape, kind in shapes.items())
    exported = torch.export.export(Routed(), (x, gate, torch.empty_like(gate), router))
    result, _ = lowered(import_captured(capture_exported(exported)).graph, H200)
    together = [op for op in result.ops if "launch" in op.attrs]
    assert len(together) == (2 if dtype is torch.bfloat16 else 0)
    assert len(result.ops) == 2
    for kernel in emit_all(launches(result), H200).values():
        assert compile_kernel(kernel, H200.arch).resources.spill_bytes == 0


def test_where_schedules_differ_regions_run_by_themselves() -> None:
    result, _ = lowered(imported(Plain(128, 256), (300, 128)))
    op = next(op for op in result.ops if "launch" in op.attrs)
    other = replace(op, attrs=freeze_attrs({**op.attrs, "num_warps": 2}))
    changed = replace(result, ops=tuple(other if each is op else each for each in result.ops))
    assert len(launches(changed).graph.ops) == len(result.ops)


def test_a_launch_that_would_take_longer_is_said_and_left() -> None:
    """Each alone fills the device evenly: together they save a launch, which here costs nothing."""
    free = replace(H100, launch_seconds=0.0)
    graph = imported(Plain(4096, 4096), (132 * 128, 4096))
    _, context = lowered(graph, free)
    (entry,) = (e for e in context.ledger if e.rule == "launch")
    assert entry.decision == "cut" and "one for all takes" in entry.reason


COUNTERS = """\
graph main(%x: f32[4, 64], %first: i64[], %second: i64[], %third: i64[]) {
    with updates=[[1, 1], [2, 2], [3, 3]]
    %one = constant(value=1) : i64[]
    %a = expand(%first, dims=[]) : i64[4, 64]
    %b = expand(%second, dims=[]) : i64[4, 64]
    %c = pointwise.add(%a, %b) : i64[4, 64]
    %d = cast(%c) : f32[4, 64]
    %e = pointwise.add(%x, %d) : f32[4, 64]
    %sum = reduce.sum(%e, dims=[1]) : f32[4]
    %next = pointwise.add(%first, %one) : i64[]
    %other = pointwise.add(%second, %one) : i64[]
    %last = pointwise.add(%third, %second) : i64[]
    return %sum, %next, %other, %last
}
"""


def test_counters_are_counted_up_in_one_launch() -> None:
    """Each where it is, once all has read it; the third reads the second, which therefore is made apart."""
    graph = parse_graph(COUNTERS)
    result, context = lowered(graph)
    shared = launches(result)
    assert [len(kernels) for kernels in shared.inputs.values()] == [3]
    assert [e for e in context.ledger if e.rule == "launch" and "nothing waits for" in e.reason]
    given = [torch.ones(4, 64), torch.tensor(3), torch.tensor(5), torch.tensor(7)]
    total, *counters = evaluated(result, given)
    assert torch.equal(total, torch.full((4,), 64.0 * 9)) and [int(c) for c in counters] == [4, 6, 12]
    plan = Plans.of(shared.graph, emit_all(shared, FEW)).every
    assert plan.results_that_are_arguments == (None, 1, None, 3)


def test_brief_regions_that_can_run_at_the_same_time_share_a_launch() -> None:
    """What places rows by their experts, once it is known where each goes: the experts' numbers, and the rows'."""
    graph = imported(SortedExperts(64, 32, 8, 2, torch.bfloat16, "meta").eval(), (12, 64))
    result, context = lowered(graph, H100)
    shared = launches(result)
    (brief,) = (op for op in shared.inputs if "contract" not in str(op.attrs["name"]))
    assert len(shared.inputs[brief]) == 2
    assert [e for e in context.ledger if e.rule == "launch" and "hardly longer than a launch" in e.reason]
    assert compile_kernel(emit_all(shared, H100)[brief], H100.arch).resources.spill_bytes == 0
    tensors = random_inputs(graph)
    assert_same_answer(graph, result, tensors, {})
    apart = replace(result, ops=tuple(replace(op, attrs=without_launch(op.attrs)) for op in result.ops))
    for ours, alone in zip(evaluated(result, tensors), evaluated(apart, tensors), strict=True):
        assert torch.equal(ours, alone)


CACHED = """\
graph main(%cache: f32[8, 64], %row: f32[1, 64], %place: i64[1], %x: f32[8, 64]) {
    with updates=[[2, 0]]
    %old = reduce.sum(%cache, dims=[1]) : f32[8]
    %new = scatter[p=1, r=64](%cache[idx1, r], %row[p, r], %place[p]) : f32[8, 64]
    %far = reduce.sum(%x, dims=[1]) : f32[8]
    return %old, %far, %new
}
"""


def test_what_reads_a_cache_shares_no_launch_behind_its_update() -> None:
    graph = parse_graph(CACHED)
    result, _ = lowered(graph, H100)
    assert not [op for op in result.ops if "launch" in op.attrs]
    given = [torch.ones(8, 64), torch.full((1, 64), 3.0), torch.tensor([5]), torch.full((8, 64), 2.0)]
    old, far, new = evaluated(result, given)
    assert old.tolist() == [64.0] * 8 and far.tolist() == [128.0] * 8 and new[5].tolist() == [3.0] * 64


def test_what_all_layers_read_tears_no_group_apart() -> None:
    """Two layers of three products, of which two in each read one number as well."""

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.ModuleList(nn.Linear(512, 512) for _ in range(3)) for _ in range(2))

        def forward(self, x: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
            for a, b, c in (self.first, self.second):
                x = (a(x) * number).cumsum(-1) + (b(x) * number).cumsum(-1) * c(x).cumsum(-1)
            return x

    result, _ = lowered(imported(Layers(), (256, 512), (1,)))
    assert sorted(len(kernels) for kernels in launches(result).inputs.values()) == [3, 3]


@pytest.mark.parametrize("target", (H100, H200), ids=lambda t: t.name)
def test_few_rows_keys_and_values_are_left_whole_beside_the_queries(target: Target) -> None:
    """48 programs alone, which would be cut for more; beside the queries' 128 nothing waits for them, nor merges."""
    result, _ = lowered(imported(Projections(2048, 32, 8, 64), (16, 2048), (16, 64), (16, 64)), target)
    products = [op for op in result.ops if op.name == "region" and any(o.name == "contract" for o in op.regions[0].ops)]
    assert len(products) == 3 and [len(kernels) for kernels in launches(result).inputs.values()] == [3]


def test_what_fills_the_device_alone_is_not_cut_for_what_could_share_its_launch() -> None:
    result, context = lowered(imported(Plain(4096, 4096), (16, 4096)), H100)
    assert not context.ledger.of("split") and len(launches(result).inputs) == 1


def test_on_the_cpu_each_region_has_its_launch() -> None:
    graph = imported(Plain(128, 256), (300, 128))
    from rooftile.target import target_named

    result = Manager().run(graph, PIPELINE, PassContext(target_named("cpu")))[-1].graph
    assert not [op for op in result.ops if "launch" in op.attrs]
    assert Beside().run(result, PassContext(target_named("cpu"))) is result


LARGE = {
    "llama-1b": (lambda: Projections(2048, 32, 8, 64), ((2048, 2048), (2048, 64), (2048, 64))),
    "llama": (lambda: Projections(4096, 32, 8, 128), ((2048, 4096), (2048, 128), (2048, 128))),
    "llama-bias": (lambda: Projections(4096, 32, 8, 128, bias=True), ((4096, 4096), (4096, 128), (4096, 128))),
    "bert": (lambda: Plain(1024, 1024), ((4096, 1024),)),
    "two alike": (Rows, ((2048, 2048), *[(2048, 2048)] * 2)),
    "three alike": (Rows, ((2048, 2048), *[(2048, 2048)] * 3)),
    "small ones behind": (Rows, ((2048, 2048), (2048, 2048), (512, 2048), (512, 2048))),
    "decode": (lambda: Plain(4096, 4096), ((16, 4096),)),
    "decode-heads": (lambda: Projections(2048, 32, 8, 64), ((16, 2048), (16, 64), (16, 64))),
    "decode-one": (lambda: Plain(4096, 4096), ((1, 4096),)),
}


@pytest.mark.parametrize("case", LARGE)
def test_kernels_for_an_h100_fit(case: str) -> None:
    model, shapes = LARGE[case]
    result, _ = lowered(imported(model(), *shapes), H100)
    shared = launches(result)
    (op,) = shared.inputs
    binary = compile_kernel(emit_all(shared, H100)[op], H100.arch)
    assert binary.resources.spill_bytes == 0
    assert binary.shared_bytes <= H100.shared_memory
    assert binary.ttgir.count("scf.if") >= len(shared.inputs[op]) - 1
    copied = "ttg.async_copy_global_to_local"
    loads = {"decode-one": "tt.load", "decode": copied, "decode-heads": copied}
    assert loads.get(case, "ttng.async_tma_copy_global_to_local") in binary.ttgir


@pytest.mark.parametrize("target", (H100, H200), ids=lambda t: t.name)
def test_what_is_left_of_a_wave_runs_in_smaller_tiles(target: Target) -> None:
    """128 tiles of the first and 64 as large ones of the others would be 1.45 waves of 132, and take two."""
    result, _ = lowered(imported(Rows(), (2048, 2048), (2048, 2048), (512, 2048), (512, 2048)), target)
    (op,) = launches(result).inputs
    schedules = [Schedule.from_attrs(each.attrs) for each in result.ops if "launch" in each.attrs]
    assert len(schedules) == len(op.regions) - 1 == 3
    assert [programs(s) for s in schedules] == [128, 64, 64]


@pytest.mark.parametrize("target", (H100, H200), ids=lambda t: t.name)
def test_a_product_that_can_share_a_launch_is_not_cut_to_fill_the_device(target: Target) -> None:
    few, many = (512, 2048), (2048, 2048)
    for weights, cut in (((few,), 1), ((many, few, few), 0)):
        result, context = lowered(imported(Rows(), (1024, 2048), *weights), target)
        assert len([e for e in context.ledger if e.decision == "split"]) == cut
        assert len([op for op in result.ops if "launch" in op.attrs]) == (0 if cut else 3)


def test_a_shared_launch_may_have_larger_tiles_than_its_products_have_alone() -> None:
    """Of 1024 rows, none of them has large tiles for every multiprocessor, and all together have."""
    graph = imported(Projections(2048, 32, 8, 64), (1024, 2048), (1024, 64), (1024, 64))

    def rows(passes: Sequence[Pass]) -> set[int]:
        result = Manager().run(graph, passes, PassContext(H100))[-1].graph
        schedules = [Schedule.from_attrs(op.attrs) for op in result.ops if "roles" in op.attrs]
        return {a.tile for s in schedules for a in s.axes if a.name == "i"}

    assert rows([each for each in PIPELINE if each.name != "beside"]) == {64}
    assert rows(PIPELINE) == {128}


def test_a_launch_takes_as_long_as_its_busiest_multiprocessor() -> None:
    """Two products of six tiles each: one turn on twelve multiprocessors, two on eleven, two on six."""
    graph = imported(Plain(128, 512), (384, 128))
    ops = [op for op in lowered(graph, FEW)[0].ops if "roles" in op.attrs][:2]
    tiled = []
    for op in ops:
        schedule = Schedule.from_attrs(op.attrs)
        sizes = {a.name: {384: 128, 512: 256}[a.extent] for a in schedule.axes if a.role == "grid"}
        tiled.append((with_tiles(schedule, **sizes), compose(op.regions[0], space_of(schedule))))

    def turns(processors: int) -> float:
        target = replace(H100, sm_count=processors, launch_seconds=0.0)
        return seconds_in_turns(tiled, target) / (seconds(*tiled[0], target, beside=processors - 6) * processors / 6)

    assert [turns(n) for n in (12, 11, 6)] == pytest.approx([1, 2, 2])


def test_both_halves_of_heads_are_one_product_in_a_shared_launch() -> None:
    """Queries and keys are rotated, values are not."""
    model, shapes = LARGE["llama"]
    result, _ = lowered(imported(model(), *shapes), H100)
    shared = launches(result)
    (op,) = shared.inputs
    kernel = emit_all(shared, H100)[op]
    assert kernel.source.count("tl.dot(") == 3
    assert [f"{name}_contract: Products joined: of two parts of {name}_weight." in kernel.notes for name in "qkv"] == [
        True,
        True,
        False,
    ]


def test_the_pieces_of_an_epilogue_load_a_table_once() -> None:
    model, shapes = LARGE["llama"]
    passes = [each for each in PIPELINE if each.name != "beside"]
    graph = Manager().run(imported(model(), *shapes), passes, PassContext(H100))[-1].graph
    (source,) = (k.source for k in emit_all(launches(graph), H100).values() if "q_weight_ptr" in k.source)
    assert len(re.findall(r"piece \d of 2", source)) == 2
    assert len(re.findall(r"= cos_block\w*\.load\(", source)) == 2  # the two halves of a head


def test_a_shared_launch_checks_itself_with_rows_that_are_all_different() -> None:
    """As each of its kernels takes for granted: which of two elements for one row it stores is open."""
    ranked = import_captured(capture_exported(torch.export.export(Ranked(), (torch.arange(512),)))).graph
    shared = launches(lowered(ranked, H200)[0])
    (both,) = (op for op in shared.graph.ops if len(op.regions) > 2)
    assert "torch.randperm(512, device=device)[:512]" in emit_all(shared, H200)[both].source
