"""The text form: exact round trips, names that need quoting, what may be left out, and how long it takes."""

from __future__ import annotations

import math
from time import process_time

import pytest

from rooftile.ir.builder import GraphBuilder, TileBuilder
from rooftile.ir.canonical import fingerprint
from rooftile.ir.core import Graph, Loc, Op, TensorType, Value, freeze_attrs
from rooftile.ir.division import floordiv, mod
from rooftile.ir.dtypes import B1, F32, I64
from rooftile.ir.expr import axis, symbol
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph, print_op
from rooftile.ir.verifier import verify
from tests.ir.kernels import COPY, TEXTS


@pytest.mark.parametrize("name", TEXTS)
def test_round_trip(name: str) -> None:
    graph = parse_graph(TEXTS[name])
    verify(graph)
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text
    assert fingerprint(parse_graph(text)) == fingerprint(graph)


@pytest.mark.parametrize("name", ["copy", "row_softmax", "matmul", "one_program"])
def test_the_printer_writes_what_the_grammar_shows(name: str) -> None:
    assert print_graph(parse_graph(TEXTS[name])) == TEXTS[name].lstrip()


def through_text(graph: Graph) -> Graph:
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    return again


VALUES = [
    None,
    True,
    False,
    0,
    -7,
    0.1,
    -1e-05,
    1e300,
    math.inf,
    -math.inf,
    "text",
    'a "quoted"\nline \\ \u2028 é',
    "",
    "none",
    F32,
    (),
    (1,),
    (1, (2, (3.0, None))),
    (("dim", 1), ("keepdim", True)),
    ("operand", 3),
    (("operand", 0), ("operand", 1)),
    ("list", 1, 2),
    (("list", 1), ("list", 2)),
    ("device", "cuda:0"),
    (("a b", 1),),
    (("x", "y"),),
    symbol("s", lo=1),
    symbol("s", lo=1) * 4 - 3,
    floordiv(symbol("s", lo=1) + 3, 4) * mod(symbol("s", lo=1), 3),
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_attributes(value: object) -> None:
    x = Value("x", TensorType(F32, ()))
    attrs = {"target": "t", "args": (value,), "kwargs": value, "types": ((F32, ()),)}
    op = Op("extern", (x,), (Value("y", x.type),), freeze_attrs(attrs))
    (again,) = through_text(Graph("g", (x,), (op,), op.outputs)).ops
    assert dict(again.attrs) == attrs
    assert [type(v) for v in again.attrs.values()] == [type(v) for v in attrs.values()]


def test_nan_is_an_attribute() -> None:
    b = GraphBuilder()
    graph = b.finish([b.constant(math.nan)])
    assert math.isnan(through_text(graph).ops[0].attrs["value"])


LOCS = [
    Loc(),
    Loc("model.layers.0", "/home/user/model.py", 12),
    Loc("model", "", 0),
    Loc("", "model.py", 3),
    Loc("", "", 5),
    Loc('odd "module" @ # x', "a file: here.py", 9),
    Loc("new\nline", "tab\there.py", 1),
]


@pytest.mark.parametrize("loc", LOCS, ids=repr)
def test_locations(loc: Loc) -> None:
    b = GraphBuilder()
    with b.at(loc):
        c = b.constant(1.0)
    assert through_text(b.finish([c])).ops[0].loc == loc


def test_names_that_are_reserved_or_odd() -> None:
    b = GraphBuilder("a graph")
    x = b.input("w.0/weight", TensorType(F32, (3, 4), ("b1", "two words")))
    y = b.einsum("ij,ij->j", x, x)
    # Axes called like dtypes, as letters with numbers may be.
    i, f = axis("i8", 3), axis("none", 4)
    z = b.contract((("i8", 3), ("none", 4)), [x], [(i, f)], ("none",))
    size = b.size(symbol("f32") + symbol("s 0"))
    graph = b.finish([y, z, size])
    verify(graph)
    again = through_text(graph)
    assert again.inputs[0].name == "w.0/weight"
    assert again.inputs[0].type.axes == ("b1", "two words")
    assert again.ops[1].attrs["maps"] == ((i, f),)
    assert again.ops[1].attrs["out"] == ("none",)


def test_values_of_one_name_are_told_apart() -> None:
    outer = TileBuilder("k")
    x = outer.input("x", TensorType(F32, (8,)))
    zero = outer.op("constant", (), {"value": 0.0, "dtype": F32, "axes": ()}, name="v")
    inner = TileBuilder("body")
    carried = inner.input("v", zero.type)
    both = inner.op("pointwise", [carried, zero], {"fn": "add", "axes": ()}, name="v")
    loop = {"axis": "t", "ranges": 0, "phase": "all", "stages": None}
    (end,) = outer.multi("loop", [zero], loop, regions=(inner.finish([both]),))
    outer.multi("store", [x, end], {"index": (0,), "guard": ()})
    attrs = {"axes": (("t", 4, "loop", 2),), "grid": (), "group": None, "num_warps": 4, "num_stages": 2, "outputs": 1}
    graph = outer.finish([], attrs)
    again = through_text(graph)
    (_, loop, _) = again.ops
    (add,) = loop.regions[0].ops
    assert add.inputs == (loop.regions[0].inputs[0], again.ops[0].output)


def test_result_types_may_be_left_out() -> None:
    graph = parse_graph("graph g(%x: f32[4, 3]) { %y = reduce.max(%x, dims=[1]) %z = pointwise.lt(%y, %y) return %z }")
    assert graph.outputs[0].type == TensorType(B1, (4,))


def test_comments_and_line_ends_are_spaces() -> None:
    graph = parse_graph("# first\ngraph g(%x: i64[\n2]) { # a comment\n return\n %x }")
    assert graph.outputs[0].type == TensorType(I64, (2,))


def test_sizes_are_simplified_when_read() -> None:
    shape = "f32[(s // 4) * 4 + 0 * s, (7 + 1) // 8]"
    text = f"symbols s: 4.. % 4 graph g(%x: f32[s]) {{ %y = reshape(%x) : {shape} return %y }}"
    assert parse_graph(text).outputs[0].shape == (symbol("s", lo=4, divisor=4), 1)


def test_one_op() -> None:
    op = parse_graph(COPY).ops[0]
    assert print_op(op).startswith("%load = load(%x[t]")


def test_four_thousand_ops_are_quick() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (symbol("s"), 64)))
    for _ in range(1000):
        with b.at(Loc("model.layers", "/home/user/model.py", 4)):
            y = b.pointwise("mul", b.cast(x, F32), b.constant(0.5))
            x = b.pointwise("add", b.reshape(b.reshape(y, (symbol("s") * 64,)), (symbol("s"), 64)), x)
    graph = b.finish([x])
    assert len(graph.ops) > 4000
    start = process_time()
    text = print_graph(graph)
    parse_graph(text)
    fingerprint(graph)
    verify(graph)
    # Near linear: about a second here; one quadratic step would take minutes.
    assert process_time() - start < 20
