"""An op of your own: a torch custom op that Rooftile fuses like any other, down to its Triton text.

python examples/custom_op.py
"""

import torch
from torch import Tensor, nn

import rooftile
from rooftile.checking import check
from rooftile.frontend.importing import Import
from rooftile.ir.core import Value


# To torch it is opaque: this is what runs in eager, and what stands in a graph as one call.
@torch.library.custom_op("examples::squareplus", mutates_args=())
def squareplus(x: Tensor, b: float) -> Tensor:
    """``(x + sqrt(x^2 + b)) / 2``, a smooth ReLU (Barron, 2021)."""
    wide = x.float()
    return ((wide + torch.sqrt(wide * wide + b)) / 2).to(x.dtype)


@squareplus.register_fake
def _(x: Tensor, b: float) -> Tensor:
    return torch.empty_like(x)


class FeedForward(nn.Module):
    """A feed-forward layer with that activation."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.ops.examples.squareplus(self.up(x), 4.0))


def main() -> None:
    torch.manual_seed(0)
    model, x = FeedForward().eval(), torch.randn(48, 64)

    before = rooftile.explain(model, x)
    (kept,) = (row for row in before.ledger if row.decision == "extern")
    print(f"before: {before.totals.kernels} launches; {kept.reason}")

    # A function of single elements, with what fusion may rely on (it never decreases), ...
    rooftile.register_scalar(
        "half_plus_root",
        lambda x, b: (x + torch.sqrt(x * x + b)) / 2,
        triton="({0} + tl.sqrt_rn({0} * {0} + {1})) * 0.5",
        arity=2,
        nondecreasing=frozenset({0, 1}),
        flops=8,
    )

    # ... and what a call of the op means with it. It could also be built from the functions that are there.
    @rooftile.register_op(torch.ops.examples.squareplus.default)
    def squareplus_in_ir(im: Import, x: Value, b: float) -> Value:
        wide = im.wide(x)
        return im.b.cast(im.b.pointwise("half_plus_root", wide, im.scalar(b, wide.dtype)), im.dtype)

    after = rooftile.explain(model, x)
    print(f"after: {after.totals.kernels} launches, {after.kernels[0].name}; moved {after.totals.bytes} bytes")
    assert not [row for row in after.ledger if row.decision == "extern"]
    assert after.totals.kernels < before.totals.kernels

    fast = rooftile.compile(model, options={"require": ["no-extern"]})
    (accuracy,) = check(fast, model, (x,))
    print(accuracy)
    assert accuracy.kept


if __name__ == "__main__":
    main()
