"""Compile once for every sequence length: sizes are arguments of the kernels, not constants in them.

python examples/dynamic_lengths.py
"""

import torch
from torch import Tensor, nn

import rooftile
from rooftile.checking import check
from rooftile.driver import collecting


class CausalAttention(nn.Module):
    """Self-attention of ``x[batch, length, width]`` to what came before."""

    def __init__(self, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


def main() -> None:
    torch.manual_seed(0)
    model = CausalAttention().eval()
    fast = rooftile.compile(model, dynamic=True)

    with collecting() as compilations, torch.no_grad():
        for length in (7, 16, 40, 129):
            x = torch.randn(1, length, 32)
            assert torch.allclose(fast(x), model(x), atol=1e-5)
    assert len(compilations) == 1, "a new length does not compile anything"

    for length in (7, 40):
        (accuracy,) = check(fast, model, (torch.randn(1, length, 32),))
        print(f"length {length}: {accuracy}")
        assert accuracy.kept

    # The sizes that are known only at run time stand as symbols in the IR and in the kernels' arguments.
    (compilation,) = compilations
    symbols = [symbol.name for symbol in compilation.graph.size_symbols()]
    print(f"run-time sizes: {', '.join(symbols)}")
    assert symbols


if __name__ == "__main__":
    main()
