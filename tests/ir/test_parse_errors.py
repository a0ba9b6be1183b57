"""Every way in which IR text can be wrong says where, and what would be right."""

from __future__ import annotations

import pytest

from rooftile.errors import ParseError
from rooftile.ir.parser import parse_graph

HEAD = "graph g(%x: f32[4], %n: i64[4]) {\n"

CASES = [
    ("%y = pointwize.add(%x, %x)", 6, "unknown graph-level op 'pointwize'", "did you mean 'pointwise'"),
    ("%y = pointwise.sigmod(%x)", 16, "unknown function of pointwise 'sigmod'", "did you mean 'sigmoid'"),
    ("%y = reduce.sum(%x, dim=[0])", 21, "unknown attribute of reduce 'dim'", "did you mean 'dims'"),
    ("%y = cast(%z) : f16[4]", 11, "unknown value 'z'", "allowed: x, n"),
    ("%y = cast(%x) : f17[4]", 17, "unknown dtype 'f17'", "did you mean 'f16'"),
    ("%y = cast(%x) : f16[t]", 21, "unknown size or axis 't'", ""),
    ("%y = cast(%x) : f16[5]", 17, "the result is f16[4], not f16[5]", ""),
    ("%y = cast(%x)", 6, "cast lacks ['dtype']", ""),
    ("%y = cast() : f16[4]", 6, "cast does not accept 0 operands", ""),
    ("%y = cast(%x[0]) : f16[4]", 6, "cast takes no index", ""),
    ("%y = pointwise.add(%x, %n)", 6, "add wants operands of one dtype", ""),
    ("%y = pointwise.add(%x %x)", 23, "expected ',' or ')'", ""),
    ("%y, %z = pointwise.neg(%x)", 10, "pointwise has 1 results, and 2 are named", ""),
    ("%x = pointwise.neg(%x)", 1, "%x is defined twice", ""),
    ("%y = reduce.sum(%x, dims=[f32 + 1])", 27, "expected a size", ""),
    ("%y = reduce.sum(%x, dims=[)", 27, "expected a size or another attribute", ""),
    ("%y = cast(%x) : f16[a=4, 1]", 26, "either all dimensions have names or none", ""),
    ("%y = contract[a](%x[a])", 16, "expected '='", ""),
    ("%y = pointwise.neg(%x) @ model.py", 24, "expected a location", ""),
    ("%y = pointwise.neg(%x) & 1", 24, "unexpected character '&'", ""),
    ("return %x } extra", 13, "expected the end of the text", ""),
    ("return %q }", 8, "unknown value 'q'", "allowed: x, n"),
    ("graph", 1, "unknown graph-level op 'graph'", ""),
]


@pytest.mark.parametrize(("line", "column", "what", "fix"), CASES, ids=[case[0] for case in CASES])
def test_message(line: str, column: int, what: str, fix: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(HEAD + line, "a.ir")
    error = caught.value
    assert what in str(error)
    assert fix in str(error)
    assert (error.line, error.column) == (2, column)
    assert f"a.ir:line 2, column {column}" in str(error)
    assert line in str(error)


def test_the_end_of_the_text() -> None:
    with pytest.raises(ParseError, match="found the end of the text"):
        parse_graph("graph g(")


def test_a_tile_op_is_not_a_graph_op() -> None:
    with pytest.raises(ParseError, match="unknown graph-level op 'load'"):
        parse_graph("graph g(%x: f32[4]) { %y = load(%x[0]) : f32[] }")


def test_a_tile_does_not_name_other_axes() -> None:
    text = """kernel k(%x: f32[4]) {
    axis t = 4 : grid(4)
    with grid=[t], group=none, num_warps=4, num_stages=2, outputs=0
    %a = load(%x[t]) : f32[t=4]
    %b = cast(%a) : f16[u=4]
}"""
    with pytest.raises(ParseError, match=r"the result is f16\[t=4\], not f16\[u=4\]") as caught:
        parse_graph(text)
    assert (caught.value.line, caught.value.column) == (5, 21)
