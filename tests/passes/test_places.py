"""Parts of tensors that differ in where they lie alone have one price; sums that no registers hold have two kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.ir.structure import Structures
from rooftile.passes.fusion import twins
from rooftile.passes.fusion.places import at_first_places
from rooftile.target import H200
from tests.regions import compiled, meta

# A chunk of what is computed element by element of %x, and a row of what is summed of it.
CHUNK = """
graph main(%x: f32[4, 512, 8], %g: f32[4, 8, 64]) {{
    %chunks = reshape(%x) : f32[4, 8, 64, 8]
    %e = pointwise.exp(%g) : f32[4, 8, 64]
    %r = expand(%e, dims=[0, 1, 2]) : f32[4, 8, 64, 8]
    %y = pointwise.mul(%chunks, %r) : f32[4, 8, 64, 8]
    %s = reduce.sum(%y, dims=[2]) : f32[4, 8, 8]
    %a = slice(%y, starts=[0, {0}, 0, 0], steps=[1, 1, 1, 1]) : f32[4, 1, 64, 8]
    %b = slice(%s, starts=[0, {1}, 0], steps=[1, 1, 1]) : f32[4, 1, 8]
    %b2 = expand(%b, dims=[0, 1, 3]) : f32[4, 1, 64, 8]
    %z = pointwise.add(%a, %b2) : f32[4, 1, 64, 8]
    return %z
}}
"""
# Parts of values that depend on positions along them, or are joined or summed there.
ELSEWHERE = {
    "positions": "%p = iota() : i32[512]\n%y = expand(%p, dims=[1]) : i32[4, 512]",
    "joined": "%y = concat(%x, %x, dim=1) : f32[4, 512]",
    "regrouped": "%t = permute(%x, perm=[1, 0]) : f32[256, 4]\n"
    "%t1 = slice(%t, starts=[1, 1], steps=[1, 1]) : f32[128, 2]\n%y = reshape(%t1) : f32[4, 64]",
}


@pytest.mark.parametrize(
    ("first", "second", "alike"), [((1, 1), (5, 5), True), ((0, 0), (7, 7), True), ((1, 2), (5, 5), False)]
)
def test_chunks_elsewhere_are_alike(first: tuple[int, int], second: tuple[int, int], *, alike: bool) -> None:
    structures = Structures()
    a, b = (structures.of(at_first_places(parse_graph(CHUNK.format(*starts)))) for starts in (first, second))
    assert (a == b) is alike


@pytest.mark.parametrize("name", list(ELSEWHERE))
def test_what_a_place_decides_is_told_apart(name: str) -> None:
    """Only the last slice could lie elsewhere, and it could not."""
    lines = ELSEWHERE[name]
    shape = lines.rsplit(": ", 1)[1]
    dtype, columns = shape.split("[")[0], int(shape.split(", ")[1].rstrip("]"))
    text = (
        "graph main(%x: f32[4, 256]) {{\n" + lines + "\n%z = slice(%y, starts=[0, {0}], steps=[1, 1]) : {1}[4, {2}]\n"
    )
    graphs = [parse_graph((text + "return %z\n}}").format(start, dtype, columns // 4)) for start in (1, 2)]
    last = [at_first_places(graph).ops[-1].attrs["starts"] for graph in graphs]
    assert last == [(0, 1), (0, 2)]


def scan(x: Tensor, w: Tensor, g: Tensor) -> Tensor:
    """A state that every chunk changes, by products that have to be stored."""
    state, rows = w, []
    for i in range(len(x)):
        rows.append((x[i] * g[i].exp()[:, None]) @ state)
        state = state * g[i, -1].exp() + x[i].T @ rows[-1]
    return torch.stack(rows)


def test_chunks_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    judge = twins.judge
    for chunks in (8, 16):
        judged = []
        monkeypatch.setattr(twins, "judge", lambda *given, found=judged: (found.append(given), judge(*given))[1])
        shapes = ((chunks, 64, 64), (64, 64), (chunks, 64))
        compiled(scan, [meta(*shape, dtype=torch.float32) for shape in shapes], "h200")
        counts.append(len(judged))
    # A further chunk is derived once for each of its kernels, and tried in what joins all.
    assert counts[1] - counts[0] <= 8 * 8, counts


def test_chunks_are_read_where_they_lie() -> None:
    """What is alike in price is not alike in what is read: with verdicts shared, results are those of each chunk."""
    x, w, g = torch.randn(5, 16, 16) / 4, torch.randn(16, 16), torch.randn(5, 16)
    found = compiled(scan, (x, w, g))
    named = {"x": x, "w": w, "g": g}
    (got,) = evaluate(found.graph, [named[value.name] for value in found.graph.inputs])
    torch.testing.assert_close(got, scan(x, w, g), rtol=1e-4, atol=1e-4)


GATED = """
graph main(%q: bf16[1, 16, 2048, {size}], %k: bf16[1, 16, 2048, {size}], %v: bf16[1, 16, 2048, {size}],
           %x: bf16[1, 2048, 2048], %w: bf16[{wide}, 2048]) {{
    %s = contract[b=1, h=16, i=2048, j=2048, k={size}](%q[b, h, i, k], %k[b, h, j, k],
        out=[b, h, i, j], acc=f32) : f32[1, 16, 2048, 2048]
    %m = reduce.max(%s, dims=[3]) : f32[1, 16, 2048]
    %m1 = expand(%m, dims=[0, 1, 2]) : f32[1, 16, 2048, 2048]
    %d = pointwise.sub(%s, %m1) : f32[1, 16, 2048, 2048]
    %e = pointwise.exp(%d) : f32[1, 16, 2048, 2048]
    %t = reduce.sum(%e, dims=[3]) : f32[1, 16, 2048]
    %t1 = expand(%t, dims=[0, 1, 2]) : f32[1, 16, 2048, {size}]
    %p = cast(%e) : bf16[1, 16, 2048, 2048]
    %o = contract[b=1, h=16, i=2048, j={size}, k=2048](%p[b, h, i, k], %v[b, h, k, j],
        out=[b, h, i, j], acc=f32) : f32[1, 16, 2048, {size}]
    %n = pointwise.div(%o, %t1) : f32[1, 16, 2048, {size}]
    %g = contract[b=1, i=2048, j={wide}, k=2048](%x[b, i, k], %w[j, k], out=[b, i, j], acc=f32) : f32[1, 2048, {wide}]
    %g1 = reshape(%g) : f32[1, 2048, 16, {size}]
    %g2 = permute(%g1, perm=[0, 2, 1, 3]) : f32[1, 16, 2048, {size}]
    %y = pointwise.mul(%n, %g2) : f32[1, 16, 2048, {size}]
    return %y
}}
"""


@pytest.mark.parametrize(("size", "held"), [(256, False), (64, True)])
def test_sums_that_no_registers_hold_have_kernels_of_their_own(size: int, *, held: bool) -> None:
    """Attention times a gate that is a product: with heads of 256, 64 rows of both are all registers of four warps."""
    refused = twins.judge(parse_graph(GATED.format(size=size, wide=16 * size)), H200).refused
    assert (refused is None) is held
    assert refused is None or "fit in no registers" in refused.text
