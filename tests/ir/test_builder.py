"""Names that a builder gives out."""

from __future__ import annotations

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import F32


def test_a_name_is_taken_once_though_it_is_taken_around_as_well() -> None:
    x = Value("x", TensorType(F32, (4,)))
    builder = GraphBuilder.beside(Graph("main", (x,), (), (x,)), {"x", "y"})
    assert [builder.fresh(name) for name in ("x", "y", "z")] == ["x_1", "y_1", "z"]
