"""Identical layers: searched, derived and compiled once, with the same results as if each were looked at by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch

from benchmarks.zoo.architectures import ARCHITECTURES
from rooftile.codegen import together
from rooftile.codegen.together import emit_all
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.canonical import canonical_text
from rooftile.ir.core import Graph, Op
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.structure import Structures
from rooftile.passes import beside, layout, lower, split, summarize, tile
from rooftile.passes.base import PassContext
from rooftile.passes.distinct import Distinct
from rooftile.passes.fuse import Fuse
from rooftile.passes.fusion import twins
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.switches import Switches
from rooftile.runtime.cache_key import cache_key
from rooftile.target import H100


@cache
def imported(layers: int) -> Graph:
    """A small Llama of so many layers."""
    model = ARCHITECTURES["llama"].built("small", torch.bfloat16, num_hidden_layers=layers, use_cache=False)
    with torch.no_grad():
        program = torch.export.export(model, (torch.ones(2, 8, dtype=torch.long),), strict=False)
    return import_captured(capture_exported(program)).graph


def fused(graph: Graph, switches: Switches | None = None) -> tuple[Graph, PassContext]:
    context = PassContext(H100, switches=switches)
    before = PIPELINE[: [each.name for each in PIPELINE].index(Fuse.name) + 1]
    return Manager(verify=True).run(graph, before, context)[-1].graph, context


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The regions that were judged, as they are."""
    found: list[Graph] = []
    judge: Callable[..., twins.Verdict] = twins.judge

    def noted(body: Graph, target: object) -> twins.Verdict:
        found.append(body)
        return judge(body, target)

    monkeypatch.setattr(twins, "judge", noted)
    return found


def test_further_layers_ask_next_to_nothing_new(judged: list[Graph]) -> None:
    counts = []
    for layers in (3, 6):
        judged.clear()
        fused(imported(layers))
        counts.append(len(judged))
    assert counts[1] - counts[0] <= 6 < counts[0] / 20, counts


def test_what_is_like_another_becomes_what_it_would_be_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    together, context = fused(imported(3))
    monkeypatch.setattr(twins.Twins, "judge", lambda self, body: twins.judge(body, H100))
    apart, alone = fused(imported(3))
    assert canonical_text(together) == canonical_text(apart)
    assert [(e.decision, e.rule, e.values, e.reason) for e in context.ledger] == [
        (e.decision, e.rule, e.values, e.reason) for e in alone.ledger
    ]
    steps = [[(d.value, s.rule) for d in c.derivations for s in d.steps] for c in (context, alone)]
    assert steps[0] == steps[1]
    for op, other in zip(together.ops, apart.ops, strict=True):  # each says which layer it is of
        assert [o.loc.module for o in op.regions[0].ops][-1] == [o.loc.module for o in other.regions[0].ops][-1]


def test_a_rule_that_is_off_at_one_layer_is_off_there_alone() -> None:
    switches = Switches()
    fused(imported(3), switches)
    places = [a.place for a in switches.asked if a.rewrite == "fuse/correct"]
    assert len(set(places)) >= 3
    _, context = fused(imported(3), Switches(off=frozenset({places[-1]})))
    corrected = [s for d in context.derivations for s in d.steps if s.rule == "correct"]
    _, whole = fused(imported(3))
    assert 0 < len(corrected) < len([s for d in whole.derivations for s in d.steps if s.rule == "correct"])


def lowered(layers: int) -> tuple[Graph, PassContext]:
    context = PassContext(H100)
    return Manager(verify=True).run(imported(layers), PIPELINE, context)[-1].graph, context


def test_kernels_do_not_grow_with_layers() -> None:
    distinct = []
    for layers in (3, 6):
        kernels = emit_all(launches(lowered(layers)[0]), H100).values()
        distinct.append({cache_key(kernel, H100.arch) for kernel in kernels})
    assert distinct[0] == distinct[1]


def test_further_layers_schedule_cut_lower_and_write_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[dict[str, int]] = []
    count_calls(monkeypatch, counts, split.Split, "split")
    count_calls(monkeypatch, counts, layout, "_moves")
    count_calls(monkeypatch, counts, tile, "schedule_region")
    count_calls(monkeypatch, counts, beside.Products, "of")
    count_calls(monkeypatch, counts, summarize, "_summary")
    count_calls(monkeypatch, counts, lower, "lower_region")
    count_calls(monkeypatch, counts, together, "draft")
    count_calls(monkeypatch, counts, together, "draft_together")
    for layers in (3, 6):
        counts.append({})
        emit_all(launches(lowered(layers)[0]), H100)
    assert counts[0] == counts[1] and len(counts[0]) == 8


def count_calls(monkeypatch: pytest.MonkeyPatch, counts: list[dict[str, int]], place: object, name: str) -> None:
    """Count the calls of ``place.name`` in the last of ``counts``."""
    function = getattr(place, name)

    def counted(*args: object, **kwargs: object) -> object:
        counts[-1][name] = counts[-1].get(name, 0) + 1
        return function(*args, **kwargs)

    monkeypatch.setattr(place, name, counted)


def test_kernels_of_what_is_alike_are_what_they_would_be_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, context = lowered(3)
    monkeypatch.setattr(Distinct, "of", lambda self, body, find, besides=(), shape=None: (find(), None))
    alone, other = lowered(3)
    assert canonical_text(graph) == canonical_text(alone)
    assert list(context.ledger) == list(other.ledger)
    texts = [{op.attrs["name"]: k.source for op, k in emit_all(launches(g), H100).items()} for g in (graph, alone)]
    apart = {op.attrs["name"]: emit_all(launches(replace(alone, ops=(op,))), H100)[op].source for op in regions(alone)}
    assert texts[0] == texts[1]
    assert all(texts[0][name] == text for name, text in apart.items() if name in texts[0])
    names = [v.name for v in graph.values()]
    assert len(set(names)) == len(names)


def regions(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op.name == "region" and "launch" not in op.attrs]


def test_kernels_say_which_layer_they_are_of() -> None:
    shared = launches(lowered(3)[0])
    layers = set()
    for op, kernel in emit_all(shared, H100).items():
        of = {m[1] for o in op.regions[0].ops if (m := re.search(r"layers\.(\d)", o.loc.module))}
        assert all(f"model.layers.{layer}." in kernel.source for layer in of)
        assert print_graph(op.regions[0]) in kernel.source
        layers |= of
    assert layers == {"0", "1", "2"}


def test_regions_that_are_cut_alike_have_states_of_their_own() -> None:
    text = CUT_TWICE
    context = PassContext(H100)
    stages = Manager(verify=True).run(parse_graph(text), PIPELINE, context)
    ops = [op for op in stages[-1].graph.ops if op.name == "region"]
    parts = [op for op in ops if str(op.attrs["name"]).endswith("parts")]
    assert len(parts) == 2 and len({v.name for op in parts for v in op.outputs}) == sum(len(op.outputs) for op in parts)
    cuts = context.ledger.of("split")
    assert [entry.values for entry in cuts] == [("m", "s"), ("n", "t")]
    assert [entry.sources for entry in cuts] == [("model.py:2",), ("model.py:4",)]
    assert [d.value for d in context.derivations if any(s.rule == "merge" for s in d.steps)] == ["p", "q"]


CUT_TWICE = """\
graph main(%x: f32[1, 4000000], %y: f32[1, 4000000]) {
    %m = reduce.max(%x, dims=[1]) : f32[1]  @ model.py:1
    %u = expand(%m, dims=[0]) : f32[1, 4000000]  @ model.py:2
    %d = pointwise.sub(%x, %u) : f32[1, 4000000]  @ model.py:2
    %e = pointwise.exp(%d) : f32[1, 4000000]  @ model.py:2
    %s = reduce.sum(%e, dims=[1]) : f32[1]  @ model.py:2
    %p = pointwise.log(%s) : f32[1]  @ model.py:2
    %n = reduce.max(%y, dims=[1]) : f32[1]  @ model.py:3
    %v = expand(%n, dims=[0]) : f32[1, 4000000]  @ model.py:4
    %f = pointwise.sub(%y, %v) : f32[1, 4000000]  @ model.py:4
    %g = pointwise.exp(%f) : f32[1, 4000000]  @ model.py:4
    %t = reduce.sum(%g, dims=[1]) : f32[1]  @ model.py:4
    %q = pointwise.log(%t) : f32[1]  @ model.py:4
    return %p, %q
}
"""

GRAPH = """\
graph main(%x: f32[4, 8], %y: f32[4, 8]) {
    %two = constant(value=2.0) : f32[]
    %twos = expand(%two, dims=[]) : f32[4, 8]
    %a = pointwise.mul(%x, %twos) : f32[4, 8]
    %b = pointwise.sub(%a, %y) : f32[4, 8]
    return %b
}
"""
OTHERS = {
    "another number": ("value=2.0", "value=3.0"),
    "minus zero": ("value=2.0", "value=-0.0"),
    "another function": ("pointwise.sub", "pointwise.add"),
    "operands exchanged": ("(%a, %y)", "(%y, %a)"),
    "another size": ("[4, 8]", "[8, 8]"),
}


def test_structures_tell_apart_what_computes_something_else() -> None:
    structures = Structures()
    first = structures.of(parse_graph(GRAPH))
    renamed = GRAPH.replace("%a", "%c").replace("%x", "%z").replace("main", "other")
    assert structures.of(parse_graph(renamed)) == first
    for old, new in OTHERS.values():
        assert structures.of(parse_graph(GRAPH.replace(old, new))) != first
    assert structures.of(parse_graph(GRAPH.replace("f32", "f64"))) != first


def test_structures_with_names_tell_apart_what_text_would_be_called_otherwise() -> None:
    structures = Structures(named=True)
    first = structures.of(parse_graph(GRAPH))
    assert structures.of(parse_graph(GRAPH.replace("%a", "%a_7"))) == first
    assert structures.of(parse_graph(GRAPH.replace("%a", "%c"))) != first
    assert structures.of(parse_graph(GRAPH.replace("%x: f32[4, 8]", "%x: f32[i=4, 8]".replace("8]", "j=8]")))) != first
