"""Matrix products at the sizes that transformer blocks have, with weights as ``nn.Linear`` keeps them and as ``x @ w``
reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.workload import Workload

SMALL = 64  # no size is larger on the CPU


class Linear(nn.Module):
    """``x[m, k]`` times the transpose of ``w[n, k]``."""

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return nn.functional.linear(x, w)


class Matmul(nn.Module):
    """``x[m, k]`` times ``w[k, n]``."""

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return x @ w


@dataclass(frozen=True)
class Product:
    """``m`` by ``n`` results, each summed over ``k``; ``weight`` names the dimensions of the second operand."""

    m: int
    n: int
    k: int
    weight: str

    @property
    def name(self) -> str:
        """Also that of its file of results."""
        return f"{self.m}x{self.n}x{self.k}-{self.weight}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.m} x {self.n} x {self.k}, " + ("x @ w.T" if self.weight == "nk" else "x @ w")

    def workload(self, device: str) -> Workload:
        """Random operands: bf16 at full size on a GPU, fp32 and small on the CPU."""
        torch.manual_seed(1)
        m, n, k = (min(size, SMALL) if device == "cpu" else size for size in (self.m, self.n, self.k))
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        shape = (n, k) if self.weight == "nk" else (k, n)
        x, w = torch.randn(m, k, device=device, dtype=dtype), torch.randn(shape, device=device, dtype=dtype)
        model = Linear() if self.weight == "nk" else Matmul()
        moved = sum(t.nbytes for t in (x, w)) + m * n * x.element_size()
        return Workload(model, (x, w), ("mk", self.weight), "mn", flops=2.0 * m * n * k, bytes=moved)


SIZES = ((4096, 4096, 4096), (8192, 4096, 14336), (4096, 6144, 4096), (8192, 8192, 512), (8192, 8192, 8192))
PRODUCTS: Mapping[str, Product] = {
    product.name: product for weight in ("kn", "nk") for product in (Product(*size, weight) for size in SIZES)
}
