"""The notes of the pass `dtypes`, and constants beyond a dtype's range."""

from __future__ import annotations

from rooftile.ir.core import Graph
from rooftile.ir.parser import parse_graph
from rooftile.passes.base import Note, PassContext
from rooftile.passes.dtypes import Dtypes
from rooftile.target import CPU

TEXT = """\
graph main(%x: DTYPE[8, 4], %w: DTYPE[6, 4]) {
    %y = region(%x, %w, name="linear") : DTYPE[8, 6]
        graph linear(%x: DTYPE[8, 4], %w: DTYPE[6, 4]) {
            %h = contract[i=8, n=6, k=4](%x[i, k], %w[n, k], out=[i, n], acc=f32) : DTYPE[8, 6]
            %c = constant(value=VALUE) : DTYPE[]
            %cs = expand(%c, dims=[]) : DTYPE[8, 6]
            %a = pointwise.mul(%h, %cs) : DTYPE[8, 6]  @ "mlp" model.py:3
            %t = permute(%a, perm=[1, 0]) : DTYPE[6, 8]
            %u = permute(%t, perm=[1, 0]) : DTYPE[8, 6]
            %y = pointwise.tanh(%u) : DTYPE[8, 6]  @ "mlp" model.py:4
            return %y
        }
    return %y
}
"""


def run(dtype: str, value: str = "0.1") -> tuple[Graph, PassContext]:
    ctx = PassContext(CPU)
    graph = parse_graph(TEXT.replace("DTYPE", dtype).replace("VALUE", value))
    return Dtypes().run(graph, ctx).ops[0].regions[0], ctx


def test_each_rounding_left_out_is_noted_once_with_its_source() -> None:
    _, ctx = run("bf16")
    assert ctx.notes == [
        Note("h", "computed on before it is rounded to bf16", "model.py:3"),
        Note("u", "computed on before it is rounded to bf16", "model.py:4"),
    ]


def test_fp16_leaves_no_rounding_out() -> None:
    _, ctx = run("f16")
    assert ctx.notes == []


def test_fp32_is_left_alone() -> None:
    graph = parse_graph(TEXT.replace("DTYPE", "f32").replace("VALUE", "0.1"))
    assert Dtypes().run(graph, PassContext(CPU)) is graph


def test_a_number_keeps_its_bits_and_its_infinity() -> None:
    """0.1 multiplies as fp32 in eager too; 1e6 is infinite in fp16."""
    values = [
        op.attrs["value"]
        for dtype, value in (("bf16", "0.1"), ("f16", "1000000.0"))
        for op in run(dtype, value)[0].ops
        if op.name == "constant"
    ]
    assert values == [0.1, float("inf")]
