"""Each rule of the verifier, broken once; the message says where."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rooftile.ir.core import Graph, Loc, Op, TensorType, Value, freeze_attrs
from rooftile.ir.dtypes import BF16, F16, F32, I32
from rooftile.ir.expr import axis, symbol
from rooftile.ir.parser import parse_graph
from rooftile.ir.verifier import VerifyError, problems, verify
from tests.ir.kernels import EMBEDDING, LAYER, MATMUL, REGION, ROW_SOFTMAX


def edited(text: str, number: int, edit: Callable[[Op], Op]) -> Graph:
    """The graph of ``text`` with op ``number`` replaced."""
    graph = parse_graph(text)
    ops = list(graph.ops)
    ops[number] = edit(ops[number])
    return replace(graph, ops=tuple(ops))


def attr(**changes: Any) -> Callable[[Op], Op]:
    return lambda op: replace(op, attrs=freeze_attrs({**op.attrs, **changes}))


def typed(type: TensorType) -> Callable[[Op], Op]:
    return lambda op: replace(op, outputs=(Value(op.output.name, type),))


def named(name: str) -> Callable[[Op], Op]:
    return lambda op: replace(op, outputs=(Value(name, op.output.type),))


def in_region(number: int, edit: Callable[[Graph], Graph]) -> Callable[[Op], Op]:
    def run(op: Op) -> Op:
        regions = list(op.regions)
        regions[number] = edit(regions[number])
        return replace(op, regions=tuple(regions))

    return run


def kernel_with(**attrs: Any) -> Callable[[Op], Op]:
    return in_region(1, lambda k: replace(k, attrs=freeze_attrs({**k.attrs, **attrs})))


S, ANY = symbol("s", lo=2, hi=64, divisor=2), symbol("s", lo=1)
BROKEN = {
    "there is no graph-level op 'load'": edited(LAYER, 1, lambda op: replace(op, name="load")),
    "cast has no attribute 'to'": edited(LAYER, 0, attr(to=1)),
    "attribute 'dims' holds [2], a list": edited(LAYER, 2, attr(dims=[2])),
    "reduce dims (3,) out of range": edited(LAYER, 2, attr(dims=(3,))),
    "cast does not accept 0 operands": edited(LAYER, 0, lambda op: replace(op, inputs=())),
    "the result is typed f16[2, s, 8], and inference gives f32[2, s, 8]": edited(
        LAYER, 0, typed(TensorType(F16, (2, S, 8)))
    ),
    "%nowhere is read before it is defined": edited(
        LAYER, 0, lambda op: replace(op, inputs=(Value("nowhere", op.inputs[0].type),))
    ),
    "the name %x is taken": edited(LAYER, 0, named("x")),
    "%wide is defined a second time": replace(
        parse_graph(LAYER), ops=(parse_graph(LAYER).ops[0],) * 2, inputs=(), outputs=()
    ),
    "%wide of rank 3 has the axes ['b', 'b', 'c']": edited(
        LAYER, 0, typed(TensorType(F32, (2, S, 8), ("b", "b", "c")))
    ),
    "contract takes no regions": edited(LAYER, 7, lambda op: replace(op, regions=(parse_graph(REGION),))),
    "the axis q has no position here; these have: b, c, f, t": edited(
        LAYER, 7, attr(maps=((axis("b", 2), axis("t", S), axis("q", 8)), (axis("f", 8), axis("c", 8))))
    ),
    "the axis c runs to 4, and its op or kernel says 8": edited(
        LAYER, 7, attr(maps=((axis("b", 2), axis("t", S), axis("c", 4)), (axis("f", 8), axis("c", 8))))
    ),
    "idx2 stands for an index operand, and there are 1": edited(
        LAYER, 8, attr(maps=((symbol("idx2"), axis("c", 8)), (axis("n", 3),)))
    ),
    "the size s has other facts than where it occurred first": edited(
        LAYER, 0, typed(TensorType(F32, (2, symbol("s"), 8)))
    ),
    "the output %gone is not defined": replace(parse_graph(LAYER), outputs=(Value("gone", TensorType(F32, ())),)),
    "have a name twice": replace(
        parse_graph(LAYER), inputs=(*parse_graph(LAYER).inputs, Value("x", TensorType(F32, ())))
    ),
    "a region has a body": edited(REGION, 0, lambda op: replace(op, regions=())),
    "the body's inputs are 0, and the operands are 1": edited(
        REGION, 0, in_region(0, lambda body: replace(body, inputs=()))
    ),
    "%x of the body's inputs is f16[s, 5], and %x of the operands is f32[s, 5]": edited(
        REGION, 0, in_region(0, lambda body: replace(body, inputs=(Value("x", TensorType(F16, (ANY, 5))),)))
    ),
    "the kernel's buffers are 1": edited(REGION, 0, in_region(1, lambda k: replace(k, inputs=k.inputs[:1]))),
    "the kernel writes 2 buffers": edited(REGION, 0, kernel_with(outputs=2)),
    "a kernel has the attributes": edited(REGION, 0, kernel_with(extra=1)),
    "the tile 12 of t is no power of two": edited(REGION, 0, kernel_with(axes=(("t", ANY * 5, "grid", 12),))),
    "the axis t has the role 'thread'": edited(REGION, 0, kernel_with(axes=(("t", ANY * 5, "thread", 8),))),
    "grid is ['u'], and the axes of that role are ['t']": edited(REGION, 0, kernel_with(grid=("u",))),
    "what the body returns are 0": edited(ROW_SOFTMAX, 2, in_region(0, lambda body: replace(body, outputs=()))),
    "a loop has one body, not 2": edited(ROW_SOFTMAX, 2, lambda op: replace(op, regions=op.regions * 2)),
    "r is no loop axis of the kernel": edited(ROW_SOFTMAX, 2, attr(axis="r")),
    "a tile is placed at an i64 scalar": edited(
        ROW_SOFTMAX, 3, lambda op: Op("place", op.inputs, (), freeze_attrs({"axis": "c"}))
    ),
    "c already has a position here": edited(
        ROW_SOFTMAX,
        2,
        in_region(0, lambda b: replace(b, ops=(Op("place", (), (), freeze_attrs({"axis": "c"})), *b.ops))),
    ),
    "the axis c has no position here": edited(ROW_SOFTMAX, 4, lambda op: op.regions[0].ops[0]),
    "holds 8 of c, whose tile is 16": edited(
        ROW_SOFTMAX,
        4,
        in_region(
            0, lambda b: replace(b, ops=(attr(axes=(("c", 8),))(typed(TensorType(F32, (8,), ("c",)))(b.ops[0])),))
        ),
    ),
    "%sum varies along q, which has no position here": edited(
        MATMUL,
        0,
        lambda op: attr(axes=(("q", 4),))(replace(op, outputs=(Value("sum", TensorType(F32, (4,), ("q",))),))),
    ),
    "operand 0 of store, %where, must be a buffer": edited(
        EMBEDDING, 6, lambda op: replace(op, inputs=(op.inputs[1], op.inputs[1]))
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_rule_is_found(message: str) -> None:
    assert any(message in problem.what for problem in problems(BROKEN[message])), [
        problem.what for problem in problems(BROKEN[message])
    ]
    with pytest.raises(VerifyError):
        verify(BROKEN[message])


@pytest.mark.parametrize(
    ("number", "operand", "message"),
    [
        (-1, 0, "%table is none of the kernel's outputs"),
        (4, 1, "operand 0 of cast, %ids, must be a tile"),
    ],
)
def test_buffers_are_only_loaded_and_stored(number: int, operand: int, message: str) -> None:
    graph = parse_graph(EMBEDDING)
    ops = list(graph.ops)
    ops[number] = replace(ops[number], inputs=(graph.inputs[operand], *ops[number].inputs[1:]))
    with pytest.raises(VerifyError, match=message):
        verify(replace(graph, ops=tuple(ops)))


def test_a_kernel_returns_nothing() -> None:
    graph = parse_graph(REGION)
    kernel = graph.ops[0].regions[1]
    with pytest.raises(VerifyError, match="a kernel stores its results and returns nothing"):
        verify(replace(kernel, outputs=kernel.inputs))


def test_the_error_shows_the_op_its_neighbours_and_the_users_line(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text("first\n    y = self.norm(x)\n")

    def wrong(op: Op) -> Op:
        return replace(typed(TensorType(BF16, (2, S)))(op), loc=Loc("model.norm", str(model), 2))

    with pytest.raises(VerifyError) as caught:
        verify(edited(LAYER, 2, wrong))
    text = str(caught.value)
    assert text.startswith("in layer: the result is typed bf16[2, s], and inference gives f32[2, s]")
    assert f"at: {model}:2, in model.norm: y = self.norm(x)" in text
    lines = [line for line in text.splitlines() if "%" in line]
    assert [line[:5].strip() for line in lines] == ["", "", "-->", "", ""]
    assert "%sum = reduce.sum(%square, dims=[2])" in lines[2]
    assert caught.value.op.startswith("%sum = reduce.sum")


def test_the_error_crosses_processes() -> None:
    with pytest.raises(VerifyError) as caught:
        verify(edited(LAYER, 0, typed(TensorType(I32, ()))))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
