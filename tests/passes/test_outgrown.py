"""What would be far larger than all around it is not stored, even where storing it took less time."""

from __future__ import annotations

import pytest

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType
from rooftile.ir.dtypes import BF16
from rooftile.passes.base import PassContext
from rooftile.passes.fuse import Fuse
from rooftile.passes.fusion import search
from rooftile.passes.ledger import Entry
from rooftile.target import H100


def mixed(length: int, heads: int = 8) -> Graph:
    """Scores of which each head's are a mixture of all heads', each then the weight of a row of values."""
    b = GraphBuilder()
    q, k, v = (b.input(name, TensorType(BF16, (heads, length, 64))) for name in "qkv")
    mix = b.input("mix", TensorType(BF16, (heads, heads)))
    scores = b.einsum("hij,hg->gij", b.einsum("hid,hjd->hij", q, k), mix)
    e = b.pointwise("exp", b.pointwise("sub", scores, b.reduce("max", scores, [2], keepdim=True)))
    return b.finish([b.einsum("hij,hjd->hid", b.pointwise("div", e, b.reduce("sum", e, [2], keepdim=True)), v)])


def fused(graph: Graph) -> tuple[int, list[Entry]]:
    """How many regions there are, and what was fused for the memory's sake."""
    context = PassContext(H100)
    regions = Fuse().run(graph, context).ops
    return len(regions), [entry for entry in context.ledger.of("fused") if entry.rule == "memory"]


def test_what_grows_with_the_square_of_a_length_stays_on_chip() -> None:
    regions, entries = fused(mixed(4096, 16))
    assert regions == 1
    assert [entry.values[0] for entry in entries] == ["contract_1", "contract"]
    assert "more by the model" in entries[0].reason


def test_a_value_and_what_it_alone_is_computed_from_leave_together() -> None:
    """Storing either without the other would gain nothing."""
    context = PassContext(H100)
    assert len(Fuse().run(mixed(4096), context).ops) == 1
    assert any("%contract and %contract_1 stay on chip" in entry.reason for entry in context.ledger.of("fused"))


@pytest.mark.parametrize(("length", "heads"), [(1024, 16), (4096, 64)])
def test_it_is_stored_where_it_is_small_or_computing_it_again_takes_too_long(length: int, heads: int) -> None:
    regions, entries = fused(mixed(length, heads))
    assert regions == 3 and not entries


def test_without_the_rule_time_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "OUTGROWN", float("inf"))
    regions, entries = fused(mixed(4096, 16))
    assert regions == 3 and not entries
