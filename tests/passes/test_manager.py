"""Running a pipeline: stages, dumps, and whose fault a failure is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from rooftile.errors import InternalError, OptionError
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import BF16
from rooftile.ir.parser import parse_graph
from rooftile.passes.axes import Axes
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonicalize import Canonicalize
from rooftile.passes.manager import Manager, stage_diff, write_stages
from rooftile.target import CPU

TEXT = """\
graph main(%x: f32[4, 6]) {
    %a = pointwise.neg(%x) : f32[4, 6]
    %b = pointwise.neg(%a) : f32[4, 6]
    %c = pointwise.exp(%b) : f32[4, 6]  @ "mlp" model.py:5
    return %c
}
"""


@dataclass(frozen=True)
class Fails:
    """A pass with a fault."""

    name: ClassVar[str] = "fails"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        for op in graph.ops:
            with working_on(op):
                {}[op.name]
        return graph


@dataclass(frozen=True)
class Lies:
    """A pass that gives the last result a dtype that its op doesn't make."""

    name: ClassVar[str] = "lies"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        last = graph.ops[-1]
        value = Value(last.output.name, TensorType(BF16, last.output.shape))
        return replace(graph, ops=(*graph.ops[:-1], replace(last, outputs=(value,))), outputs=(value,))


def graph() -> Graph:
    return parse_graph(TEXT)


def test_stages_in_order_and_unchanged_ones_said() -> None:
    stages = Manager(verify=True).run(graph(), (Canonicalize(), Canonicalize(), Axes()), PassContext(CPU))
    assert [(s.name, s.changed) for s in stages] == [
        ("import", True),
        ("canonicalize", True),
        ("canonicalize", False),
        ("axes", True),
    ]
    assert stages[2].graph is stages[1].graph
    assert all(s.text is None for s in stages)


def test_stop_after() -> None:
    passes = (Canonicalize(), Axes())
    stages = Manager(stop_after="canonicalize").run(graph(), passes, PassContext(CPU))
    assert [s.name for s in stages] == ["import", "canonicalize"]
    assert [s.name for s in Manager(stop_after="import").run(graph(), passes, PassContext(CPU))] == ["import"]
    with pytest.raises(OptionError, match="did you mean 'canonicalize'"):
        Manager(stop_after="canonicalise").run(graph(), passes, PassContext(CPU))


def test_dump_has_every_stage_and_its_diff(tmp_path: Path) -> None:
    passes = (Canonicalize(), Canonicalize(), Axes())
    stages = Manager(record=True).run(graph(), passes, PassContext(CPU))
    files = write_stages(stages, tmp_path / "dump")
    assert sorted(path.name for path in files) == [
        "00-import.ir",
        "01-canonicalize.diff",
        "01-canonicalize.ir",
        "02-canonicalize.ir",
        "03-axes.diff",
        "03-axes.ir",
    ]
    assert (tmp_path / "dump" / "00-import.ir").read_text() == TEXT
    diff = (tmp_path / "dump" / "01-canonicalize.diff").read_text()
    assert "-    %a = pointwise.neg(%x) : f32[4, 6]\n" in diff
    assert stage_diff(stages[1], stages[2]) == ""


def test_a_failing_pass_is_named_with_the_op_and_its_source() -> None:
    with pytest.raises(InternalError) as caught:
        Manager().run(graph(), (Canonicalize(), Fails()), PassContext(CPU))
    error = caught.value
    assert (error.pass_name, error.passes_before) == ("fails", ("import", "canonicalize"))
    assert error.op == '%c = pointwise.exp(%x) : f32[4, 6]  @ "mlp" model.py:5'
    assert error.where == "model.py:5"
    assert isinstance(error.__cause__, KeyError)


def test_the_verifier_blames_the_pass_whose_graph_is_wrong() -> None:
    with pytest.raises(InternalError, match="bf16") as caught:
        Manager(verify=True).run(graph(), (Canonicalize(), Lies(), Axes()), PassContext(CPU))
    assert (caught.value.pass_name, caught.value.passes_before) == ("lies", ("import", "canonicalize"))
