"""The kernels of ``kernels/*.ir``, each with inputs and with what plain torch computes from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import Kernel
from rooftile.ir.core import Graph, Value
from rooftile.ir.parser import parse_graph
from rooftile.ir.substitution import evaluate
from rooftile.runtime.descriptors import launch_arguments
from rooftile.runtime.launch import CpuLauncher
from rooftile.target import CPU, Target

KERNELS = Path(__file__).parent / "kernels"

Tensors = Sequence[torch.Tensor]
Reference = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """Sizes of what is known at run time only, and the reference: inputs as they are to the outputs in float64."""

    reference: Reference
    sizes: Mapping[str, int] = field(default_factory=dict)
    tolerance: float = 1e-6
    integers: int = 2  # integer inputs lie below this


def _softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.mT).softmax(-1) @ v


def _causal(x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, ...]:
    seen = (2 * torch.arange(32)[None, :] <= torch.arange(len(x))[:, None]) & keep
    return x.masked_fill(~seen, -torch.inf), seen.any(1), seen


def _layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, [x.shape[-1]], weight, bias)


def _nested(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return x.sum((1, 2)), x[:, :32].sum((1, 2))


def _ranges(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    below = torch.stack([row[: (r // 4 * 4 + 4 + 15) // 16 * 16].sum() for r, row in enumerate(x)])
    return below, below + x[:, 32:].sum(1)


def _scatter(x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return torch.full((50, 16), torch.nan, dtype=x.dtype).index_copy(0, where.long(), x)


def _visits(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return sum((x[:, 16 * n : 16 * n + 16].sum(1) for n in order[:-1].tolist()), torch.zeros(30))


CASES: dict[str, Case] = {
    "add_broadcast": Case(lambda a, b, c: (a + b) * c, tolerance=4e-3),
    "argmax": Case(lambda x: (x.argmax(1), x.argmin(1), x.amax(1))),
    "attention": Case(_softmax_attention, {"s": 75}, tolerance=2e-3),
    "causal": Case(_causal, {"s": 48}),
    "concat": Case(lambda a, b: torch.cat([a, b], 1)),
    "copy": Case(lambda x: x, {"s": 300}),
    "cumsum": Case(lambda x: (x.cumsum(1), x.clamp(min=-torch.inf).cummax(1).values)),
    "double": Case(lambda a, b: (a @ b, (a @ b / 3).exp().sqrt()), tolerance=1e-13),
    "flat": Case(lambda x: torch.nn.functional.pad(x, (2, 2), value=7.0).flatten()),
    "gather": Case(lambda table, tokens: table[tokens], {"v": 50}, integers=50),
    "int8": Case(lambda a, b, scale: a @ b.mT * scale, tolerance=1e-3, integers=20),
    "layer_norm": Case(_layer_norm),
    "matmul": Case(lambda x, w, bias: torch.relu(x @ w.mT + bias), tolerance=4e-3),
    "matmul_batched": Case(lambda q, k: q @ k.repeat_interleave(4, 1).mT),
    "matmul_symbolic": Case(lambda a, b: a @ b, {"m": 130, "n": 40, "k": 77}, tolerance=1e-3),
    "nested_loops": Case(_nested),
    "ranges": Case(_ranges, {"n": 30}),
    "scatter": Case(_scatter, integers=50),
    "softmax": Case(lambda x: x.softmax(1), {"s": 10}, tolerance=4e-3),
    "strided": Case(lambda x: (x.diagonal(), x + x.diagonal()[:, None])),
    "transpose": Case(lambda x: x.permute(2, 0, 1)),
    "visits": Case(_visits, integers=4),
}
# Too large to run; only compiled.
COMPILED_ONLY = ("large",)


def kernel_graph(name: str) -> Graph:
    """The kernel in ``kernels/<name>.ir``."""
    path = KERNELS / f"{name}.ir"
    return parse_graph(path.read_text(), str(path))


def build(name: str, target: Target = CPU) -> Kernel:
    """The emitted kernel."""
    return emit(kernel_graph(name), target)


def _tensor(value: Value, case: Case, written: bool) -> torch.Tensor:
    shape = [evaluate(s, case.sizes) for s in value.shape]
    strides = [evaluate(s, case.sizes) for s in value.type.strides or ()]
    if written:
        fill = torch.nan if value.dtype.is_float else 99
        made = torch.full(shape, fill).to(value.dtype.torch)
    elif value.dtype.is_float:
        made = torch.randn(shape, dtype=torch.float64).to(value.dtype.torch)
    else:
        count = 2 if value.dtype.kind == "bool" else case.integers
        made = torch.randperm(max(count, count_of(shape)))[: count_of(shape)].reshape(shape).remainder(count)
        made = made.to(value.dtype.torch)
    return torch.empty_strided(shape, strides, dtype=made.dtype).copy_(made) if strides else made


def count_of(shape: Sequence[int]) -> int:
    """The number of elements of a shape."""
    return int(torch.Size(shape).numel())


def buffers_for(graph: Graph, case: Case) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Random inputs, and outputs filled with what must not stay."""
    first = len(graph.inputs) - graph.attrs["outputs"]
    tensors = [_tensor(v, case, n >= first) for n, v in enumerate(graph.inputs)]
    return tensors[:first], tensors[first:]


def run(kernel: Kernel, buffers: Tensors, sizes: Mapping[str, int]) -> None:
    """Run an emitted kernel on the CPU; the outputs among ``buffers`` are written."""
    CpuLauncher(kernel)(kernel.programs(sizes), launch_arguments(kernel, buffers, sizes))


def expected(case: Case, inputs: Tensors) -> tuple[torch.Tensor, ...]:
    """What torch computes in float64."""
    result = case.reference(*(x if x.dtype in (torch.bool, torch.int64, torch.int32) else x.double() for x in inputs))
    return result if isinstance(result, tuple) else (result,)


def assert_close(ours: torch.Tensor, exact: torch.Tensor, tolerance: float) -> None:
    """The relative error in the 2-norm is below ``tolerance``; NaN and infinities are where torch has them."""
    assert ours.shape == exact.shape
    a, b = ours.double(), exact.double()
    finite = b.isfinite()
    torch.testing.assert_close(a[~finite], b[~finite], rtol=0, atol=0, equal_nan=True)
    error = (a[finite] - b[finite]).norm() / b[finite].norm().clamp(min=1e-30)
    assert error <= tolerance, f"relative error {error:.2e}"
