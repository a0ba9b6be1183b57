"""The canonical form: equal exactly where graphs compute the same in the same way."""

from __future__ import annotations

import pytest

from rooftile.ir.canonical import canonical_graph, canonical_text, fingerprint
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.verifier import verify
from tests.ir.kernels import LAYER, MATMUL, REGION, ROW_SOFTMAX, TEXTS

RENAMED = {
    "layer": (LAYER, [("layer", "other"), ("model.norm", "model.2"), (":12", ":99"), ("%wide", "%v"), ("c=8", "e=8")]),
    "axes of a contraction": (
        LAYER,
        [("f=8", "out=8"), ("%w[f, c]", "%w[out, c]"), ("out=[b, t, f]", "out=[b, t, out]")],
    ),
    "axes of a gather": (LAYER, [("gather[n=3", "gather[rows=3"), ("%ids[n]", "%ids[rows]")]),
    "kernel": (MATMUL, [("matmul", "linear"), ("%acc", "%total"), ("bias", "beta")]),
    "axes of a kernel": (
        MATMUL,
        [("axis p", "axis q"), ("axis=p", "axis=q"), (", p]", ", q]"), ("p < k", "q < k"), ("p=32", "q=32")],
    ),
    "body": (ROW_SOFTMAX, [("body c(%m", "body max(%m"), ("%part", "%p")]),
    "region": (
        REGION,
        [
            ('name="double"', 'name="twice"'),
            ("graph body", "graph b"),
            ("axes={t", "axes={u"),
            ("[t, grid", "[u, grid"),
            ("grid=[t], group=none,\n", "grid=[u], group=none,\n"),
        ],
    ),
}


@pytest.mark.parametrize("name", RENAMED)
def test_names_do_not_count(name: str) -> None:
    text, changes = RENAMED[name]
    changed = text
    for old, new in changes:
        assert old in changed
        changed = changed.replace(old, new)
    if name == "layer":  # the letter is that of a contraction and a gather too
        changed = (
            changed.replace("[b, t, c]", "[b, t, e]").replace("[f, c]", "[f, e]").replace("[idx1, c]", "[idx1, e]")
        )
    assert print_graph(parse_graph(changed)) != print_graph(parse_graph(text))
    assert fingerprint(parse_graph(changed)) == fingerprint(parse_graph(text))


CHANGED = {
    "a constant": (ROW_SOFTMAX, "value=0.0", "value=0.5"),
    "a size": (ROW_SOFTMAX, "50", "51"),
    "facts": (ROW_SOFTMAX, "n: 1..", "n: 1.. % 16"),
    "a tile": (ROW_SOFTMAX, "16", "32"),
    "a function": (ROW_SOFTMAX, "reduce.sum", "reduce.prod"),
    "a dtype": (LAYER, "%ids: i64", "%ids: i32"),
    "warps": (MATMUL, "num_warps=4", "num_warps=8"),
    "launch order": (MATMUL, "grid=[i, j]", "grid=[j, i]"),
    "operands": (LAYER, "pointwise.div(%wide, %again)", "pointwise.div(%again, %wide)"),
    "outputs": (LAYER, "return %half, %rows", "return %rows, %half"),
    "strides": (ROW_SOFTMAX, "%x: f32[n, 50]", "%x: f32[n, 50] strides [64, 1]"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_computed_counts(name: str) -> None:
    text, old, new = CHANGED[name]
    assert old in text
    assert fingerprint(parse_graph(text.replace(old, new))) != fingerprint(parse_graph(text))


@pytest.mark.parametrize("name", TEXTS)
def test_the_canonical_form_is_a_graph_of_its_own(name: str) -> None:
    graph = parse_graph(TEXTS[name])
    canonical = canonical_graph(graph)
    verify(canonical)
    assert print_graph(canonical) == canonical_text(graph) == canonical_text(canonical)
    assert "@" not in canonical_text(graph)
