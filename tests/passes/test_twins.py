"""Identical layers: searched, derived and compiled once, with the same results as if each were looked at by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from benchmarks.zoo.architectures import ARCHITECTURES
from rooftile.codegen.together import emit_all
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.canonical import canonical_text
from rooftile.ir.core import Graph
from rooftile.ir.parser import parse_graph
from rooftile.ir.structure import Structures
from rooftile.passes.base import PassContext
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


def test_kernels_do_not_grow_with_layers() -> None:
    distinct = []
    for layers in (3, 6):
        graph = Manager().run(imported(layers), PIPELINE, PassContext(H100))[-1].graph
        kernels = emit_all(launches(graph), H100).values()
        distinct.append({cache_key(kernel, H100.arch) for kernel in kernels})
    assert distinct[0] == distinct[1]


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
