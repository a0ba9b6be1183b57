"""A pass and a rule of your own: registered, at work in a model, in the ledger, and checked.

python examples/custom_pass.py
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

import rooftile
from rooftile.blame.check import check_model
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.rewrite import Make, Rewriter
from rooftile.passes.editing import replaced


def product_with_root(op: Op, rw: Rewriter) -> Make | None:
    """A quotient by a square root is a product with rsqrt."""
    x, divisor = op.inputs
    spread = rw.made_by(divisor, "expand")  # one root for each row
    root = rw.made_by(spread.inputs[0], "pointwise") if spread is not None else None
    if spread is None or root is None or root.attrs["fn"] != "sqrt" or x.dtype.bytes < 4:
        return None  # in a narrow float the two forms round too differently
    inverse = rw.emit("pointwise", root.inputs, {"fn": "rsqrt"})
    return Make("pointwise", [x, rw.emit("expand", [inverse], spread.attrs)], {"fn": "mul"})


@dataclass(frozen=True)
class TanhBySigmoid:
    """``tanh(x)`` as ``2 * sigmoid(2 x) - 1``, in fp32 and wider: one exponential, and no call of a library."""

    name: ClassVar[str] = "tanh_by_sigmoid"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph without hyperbolic tangents; the same one where there are none."""
        for op in [op for op in graph.ops if op.attrs.get("fn") == "tanh" and op.output.dtype.bytes >= 4]:
            graph = replaced(graph, op, lambda builder, x=op.inputs[0]: by_sigmoid(builder, x))
        return graph


def by_sigmoid(b: GraphBuilder, x: Value) -> Value:
    """What stands in the place of ``tanh(x)``."""
    one, two = (b.constant(number, x.dtype) for number in (1.0, 2.0))
    return b.pointwise("sub", b.pointwise("mul", b.pointwise("sigmoid", b.pointwise("mul", x, two)), two), one)


class Normed(nn.Module):
    """A layer norm as a paper writes it, and a gate."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        return torch.tanh(centred / deviation) * x


def without_mean(op: Op, rw: Rewriter) -> Value | None:
    """A wrong rule, to see it found: what is subtracted is left out."""
    return op.inputs[0]


def main() -> None:
    model, x = Normed(), torch.randn(32, 96)
    rooftile.register_rule("pointwise.div", product_with_root)
    rooftile.register_pass(TanhBySigmoid(), after="canonicalize")

    # The ledger tells of each application, with its line; the versions name what is registered.
    report = rooftile.explain(model, x)
    (entry,) = (row for row in report.ledger if row.decision == "rewritten")
    print(f"{entry.rule}: {entry.reason} ({entry.sources[0].rpartition('/')[2]})")
    print(*(name for name in report.versions if name.startswith(("rule", "pass"))), sep=", ")

    # `rooftile check` measures it like any other part of the compiler.
    checked = check_model(model, (x,))
    (row,) = (row for row in checked.blame if row.name == "canonicalize/product_with_root")
    print(f"{row.name} adds {row.adds:.1e}; in float64 it changes {row.means:.0e}")
    assert checked.kept and not row.wrong
    assert "tanh_by_sigmoid" in [row.name for row in checked.blame]

    # A rule that is wrong is blamed by its name.
    rooftile.register_rule("pointwise.sub", without_mean)
    checked = check_model(model, (x,))
    print("wrong:", *(fault.name for fault in checked.faults))
    assert "canonicalize/without_mean" in [fault.name for fault in checked.faults]


if __name__ == "__main__":
    main()
