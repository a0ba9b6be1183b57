"""Sums over joined axes in pieces, and products in their best order: the same values, whatever the shapes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import BF16, F32
from rooftile.ir.evaluator import evaluate
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.derive import Derivation, derive
from rooftile.passes.reassociate import Reassociate
from rooftile.passes.rules.orders import better_orders
from rooftile.passes.rules.pieces import apply_to_contraction
from rooftile.target import H100


def same(before: Graph, after: Graph, seed: int) -> None:
    """Both compute the same in float64."""
    verify(after)
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn([int(str(n)) for n in v.shape], generator=generator) for v in before.inputs]
    given_, found = (evaluate(graph, inputs, promote=True) for graph in (before, after))
    for a, b in zip(given_, found, strict=True):
        torch.testing.assert_close(a, b)


def through(b: GraphBuilder, x: Value, steps: list[str]) -> Value:
    """``x``, a matrix, behind functions of single elements and transposes; an even number of the latter."""
    for step in steps:
        if step == "twice":
            x = b.permute(b.pointwise("exp", b.permute(x, [1, 0])), [1, 0])
        else:
            x = b.pointwise("neg", x) if step == "neg" else b.pointwise("mul", x, b.constant(3.0, F32))
    return x


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
    st.lists(st.sampled_from(["twice", "neg", "scaled"]), max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_contraction_over_joined_values_is_the_sum_of_those_over_the_pieces(
    sizes: list[int], steps: list[str], both: bool, first: bool, seed: int
) -> None:
    b = GraphBuilder()
    pieces = [b.input(f"p{n}", TensorType(F32, (4, size))) for n, size in enumerate(sizes)]
    joined = through(b, b.concat(pieces, 1), steps)
    if both:
        others = [b.input(f"o{n}", TensorType(F32, (3, size))) for n, size in enumerate(sizes)]
        other = b.concat(others, 1)
    else:
        other = b.input("other", TensorType(F32, (3, sum(sizes))))
    out = b.einsum("ik,jk->ij", joined, other) if first else b.einsum("jk,ik->ij", other, joined)
    before = b.finish([out])
    applied = apply_to_contraction(before, before.ops[-1], before.producers())
    assert applied is not None
    after, parts = applied
    assert len(parts) == len(sizes) and all(part in after.ops for part in parts)
    same(before, after, seed)


def test_values_joined_along_an_axis_that_stays_are_left_whole() -> None:
    b = GraphBuilder()
    rows = b.concat([b.input("x", TensorType(F32, (2, 6))), b.input("y", TensorType(F32, (3, 6)))], 0)
    graph = b.finish([b.einsum("ik,jk->ij", rows, b.input("w", TensorType(F32, (4, 6))))])
    assert apply_to_contraction(graph, graph.ops[-1], graph.producers()) is None


@given(
    st.integers(1, 3), st.integers(20, 60), st.integers(2, 4), st.integers(1, 8), st.integers(8, 40), st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_heads_of_latents_are_the_same_in_the_other_order(
    queries: int, length: int, heads: int, size: int, latent: int, seed: int
) -> None:
    """Each head's part of a product behind a reshape, a transpose and a slice, joined with what all heads share."""
    b = GraphBuilder()
    q = b.input("q", TensorType(F32, (heads, queries, size + 2)))
    c, r = b.input("c", TensorType(F32, (length, latent))), b.input("r", TensorType(F32, (length, 2)))
    w = b.input("w", TensorType(F32, (heads * 2 * size, latent)))
    made = b.reshape(b.einsum("jl,nl->jn", c, w), [length, heads, 2 * size])
    made = b.permute(made, [1, 0, 2])
    k, v = (b.slice(made, 2, n * size, size) for n in (0, 1))
    keys = b.concat([k, b.expand(r, (heads, length, 2), (1, 2))], 2)
    scores = b.einsum("hid,hjd->hij", q, keys)
    before = b.finish([b.einsum("hij,hje->hie", b.pointwise("tanh", scores), v)])
    after = Reassociate().run(before, PassContext(H100))
    same(before, after, seed)
    made_again = any(op.name == "contract" and length * heads * 2 * size == op.output.type.numel for op in after.ops)
    work = [(size + 2) * queries + latent * size, (latent + 2) * queries + latent * size * queries / length]
    if work[0] > 6 * work[1] and queries == 1:
        assert not made_again


def test_many_queries_keep_the_order_in_which_keys_are_made_first() -> None:
    b = GraphBuilder()
    q, c = b.input("q", TensorType(BF16, (400, 16))), b.input("c", TensorType(BF16, (400, 64)))
    k = b.einsum("jl,dl->jd", c, b.input("w", TensorType(BF16, (16, 64))))
    graph = b.finish([b.einsum("id,jd->ij", q, k)])
    assert better_orders(graph, graph.ops[-1], graph.producers()) is None


def test_a_state_is_not_corrected_by_what_varies_along_another_sum() -> None:
    """``y_e = sum_l w_el sum_j c_jl p_j`` with ``p_j`` of ``sum_l c_jl q_l``: while ``l`` is swept, each ``p_j`` grows
    by an amount of its own, which no factor before the sum over ``j`` makes up for."""
    b = GraphBuilder()
    q, c = b.input("q", TensorType(F32, (48,))), b.input("c", TensorType(F32, (64, 48)))
    w = b.input("w", TensorType(F32, (16, 48)))
    p = b.einsum("jl,l->j", c, q)
    before = b.finish([b.einsum("el,l->e", w, b.einsum("jl,j->l", c, p))])
    found = derive(before)
    assert not isinstance(found, Derivation) or not any(step.rule == "correct" for step in found.steps)


def test_a_maximum_that_reads_the_first_product_as_well_keeps_it() -> None:
    """It is no product, so that no order of its own can do without the first, which is saved nothing of."""
    b = GraphBuilder()
    c, w, q = (b.input(n, TensorType(F32, s)) for n, s in (("c", (4096, 64)), ("w", (512, 64)), ("q", (2, 512))))
    keys = b.einsum("jl,dl->jd", c, w)
    scores = b.einsum("id,jd->ij", q, keys)
    graph = b.finish([scores, b.reduce("max", keys, [1])])
    after = Reassociate().run(graph, PassContext(H100))
    assert keys in [op.output for op in after.ops]
    same(graph, after, 0)
