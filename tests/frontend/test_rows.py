"""Every row of the import table: the imported graph, evaluated, gives what eager gives, in the same dtype and shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.frontend.captures import distance, run

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def data(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def whole(*shape: int, low: int = -5, high: int = 9, dtype: torch.dtype = torch.int64, seed: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# Functions of one float tensor [3, 4, 6].
UNARY: dict[str, Callable[[Tensor], Any]] = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": lambda x: x.abs().log(),
    "log2": lambda x: x.abs().log2(),
    "log1p": lambda x: x.abs().log1p(),
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: x.abs().rsqrt(),
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "acos": lambda x: torch.acos(x.clamp(-0.9, 0.9)),
    "atan": torch.atan,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
    "square": torch.square,
    "add scalar": lambda x: x + 0.1,
    "add alpha": lambda x: torch.add(x, x.flip(0), alpha=0.3),
    "rsub": lambda x: 1.1 - x,
    "rsub alpha": lambda x: torch.rsub(x, 2, alpha=3),
    "mul scalar": lambda x: x * 0.1,
    "div scalar": lambda x: x / 3,
    "div by": lambda x: 3 / x,
    "div floor": lambda x: torch.div(x, 0.7, rounding_mode="floor"),
    "div trunc": lambda x: torch.div(x, 0.7, rounding_mode="trunc"),
    "floor_divide": lambda x: x // 2,
    "remainder": lambda x: x % 0.75,
    "fmod": lambda x: torch.fmod(x, 0.75),
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow -1": lambda x: x**-1,
    "pow 0.5": lambda x: x.abs() ** 0.5,
    "pow -0.5": lambda x: x.abs() ** -0.5,
    "pow 1.7": lambda x: x.abs() ** 1.7,
    "pow base": lambda x: 2.0**x,
    "pow tensor": lambda x: x.abs() ** x,
    "compare": lambda x: (x > 0.1, x >= 0, x < 0.3, x <= x.flip(0), x == x, x != 0),
    "isnan": lambda x: torch.isnan(x / (x > 0)),
    "isinf": lambda x: torch.isinf(1 / (x > 0).to(x.dtype)),
    "isfinite": lambda x: torch.isfinite(1 / (x > 0).to(x.dtype)),
    "logical": lambda x: (torch.logical_and(x, x > 0), torch.logical_or(x, x > 0), torch.logical_not(x)),
    "where": lambda x: (torch.where(x > 0, x, 0.0), torch.where(x > 0, 1.0, x), torch.where(x > 0, x, -x)),
    "masked_fill": lambda x: x.masked_fill(x > 0, float("-inf")),
    "masked_fill tensor": lambda x: x.masked_fill(x > 0, torch.tensor(2.5)),
    "clamp": lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0.1), x.clamp_min(0), x.clamp_max(0)),
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "selu": F.selu,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": lambda x: F.softplus(10 * x),
    "softplus beta": lambda x: F.softplus(x, beta=2.0),
    "logsigmoid": F.logsigmoid,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "tanhshrink": F.tanhshrink,
    "glu": lambda x: F.glu(x, -1),
    "lerp": lambda x: (torch.lerp(x, x.flip(0), 0.3), torch.lerp(x, x.flip(0), x)),
    "addcmul": lambda x: torch.addcmul(x, x, x.flip(0), value=0.3),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.flip(0).abs() + 1, value=0.3),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "to": lambda x: (x.float(), x.to(torch.int32), x.bool(), x.double(), x.half(), x.type_as(x.bfloat16())),
    "minimum": lambda x: (torch.maximum(x, x.flip(0)), torch.minimum(x, x.flip(0)), torch.max(x, -x)),
    "sum": lambda x: (x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.sum(-1, dtype=torch.float32)),
    "mean": lambda x: (x.mean(), x.mean(1), x.mean((0, -1), keepdim=True)),
    "prod": lambda x: (x.prod(), x.prod(1)),
    "max": lambda x: (x.max(), *x.max(1), *x.max(-1, keepdim=True), x.amax((0, 1)), x.argmax(1), x.argmax()),
    "min": lambda x: (x.min(), *x.min(1), x.amin((0, 1)), x.argmin(-1, keepdim=True)),
    "any": lambda x: ((x > 1).any(), (x > 1).any(1), (x > -2).all(), (x > -2).all(-1, keepdim=True)),
    "var": lambda x: (x.var(-1), x.var((0, 1), unbiased=False), x.std(1, keepdim=True), *torch.var_mean(x, -1)),
    "norm": lambda x: (x.norm(dim=-1), torch.linalg.vector_norm(x, 1, dim=1), torch.linalg.vector_norm(x)),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "cumsum": lambda x: (x.cumsum(1), x.cumprod(-1)),
    "softmax": lambda x: (F.softmax(x, -1), F.softmax(x, 0), F.softmax(x, 1, dtype=torch.float32), F.softmin(x, 1)),
    "log_softmax": lambda x: (F.log_softmax(x, -1), x.logsumexp(1), x.logsumexp((0, 1), keepdim=True)),
    "layer_norm": lambda x: (F.layer_norm(x, (6,)), F.layer_norm(x, (4, 6), x[0] + 1, x[1], 1e-3)),
    "rms_norm": lambda x: (F.rms_norm(x, (6,)), F.rms_norm(x, (6,), x[0, 0] + 1, 1e-5), F.rms_norm(x * 0.01, (6,))),
    "group_norm": lambda x: F.group_norm(x, 2, x[0, :, 0] + 1, x[1, :, 0]),
    "instance_norm": lambda x: F.instance_norm(x),
    "batch_norm": lambda x: F.batch_norm(x, x[0, :, 0], x[0, :, 1].abs() + 1, x[1, :, 0], x[1, :, 1]),
    "reshape": lambda x: (x.view(12, 6), x.reshape(-1), x.flatten(1), x[:1].squeeze(0), x.view(3, -1, 3)),
    "unflatten": lambda x: x.unflatten(2, (2, 3)),
    "transpose": lambda x: (x.transpose(0, -1), x.permute(2, 0, 1), x[0].t(), x.mT, x.movedim(0, 2), x.swapaxes(0, 1)),
    "expand": lambda x: (x[:, :1].expand(3, 4, 6), x.expand(2, 3, 4, 6), x[0].expand_as(x), x[0].broadcast_to(3, 4, 6)),
    "slice": lambda x: (x[1:, :, -3:], x[:, ::2], x[..., 1:6:2], x.narrow(1, 1, 2), x[0], x[:, -1], x.select(2, -2)),
    "split": lambda x: (*x.split(2, -1), *x.split([1, 3], 1), *x.chunk(4, -1), *x.unbind(1), *x.tensor_split(4, -1)),
    "cat": lambda x: (torch.cat([x, x[:1]]), torch.cat([x, x[..., :1].float()], -1), torch.cat([x, x.new_empty(0)])),
    "stack": lambda x: (torch.stack([x, -x]), torch.stack([x, -x], -1), torch.hstack([x, x])),
    "flip": lambda x: (x.flip(0), x.flip((1, 2))),
    "roll": lambda x: (x.roll(2, 1), x.roll((1, -2), (0, 2)), x.roll(5)),
    "repeat": lambda x: (x.repeat(2, 1, 3), x.repeat(2, 1, 1, 1), x.repeat_interleave(2, 1), x[0, 0].tile(2, 2)),
    "pad": lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 0, 1, 0), value=2.5), F.pad(x, (-1, 1, 0, -2))),
    "diagonal": lambda x: (x.diagonal(0, 1, 2), x[0].diagonal(1), x[0].diagonal(-1)),
    "unfold": lambda x: x.unfold(2, 3, 2),
    "as_strided": lambda x: x.contiguous().as_strided((3, 2, 2), (24, 6, 2), 1),
    "write a slice": lambda x: _written(x),
    "tril": lambda x: (x.tril(), x.triu(1), x.tril(-1), torch.triu(x, -1)),
    "full": lambda x: (torch.zeros_like(x), x.new_ones(2), torch.full_like(x, 2.5), torch.full((2,), 3)),
    "eye": lambda x: x[0, :, :4] + torch.eye(4, dtype=x.dtype),
    "matmul": lambda x: (x @ x.mT, x @ x[0, 0], x[0, 0] @ x[0].t(), x[0, 0] @ x[0, 1], x @ x[0].t(), x[0] @ x.mT),
    "bmm": lambda x: (torch.bmm(x, x.mT), torch.mm(x[0], x[1].t()), torch.mv(x[0], x[0, 0])),
    "outer": lambda x: (torch.outer(x[0, 0], x[0, 1]), torch.dot(x[0, 0], x[0, 1])),
    "unsqueeze": lambda x: (x.unsqueeze(1), x.unsqueeze(-1), x[None]),
    "addmm": lambda x: (torch.addmm(x[0, 0, :4], x[0], x[1].t(), beta=0.5, alpha=2), torch.baddbmm(x @ x.mT, x, x.mT)),
    "linear": lambda x: (F.linear(x, x[0]), F.linear(x, x[0], x[1, :, 0]), F.linear(x[0, 0], x[0])),
    "bilinear": lambda x: torch.einsum("bik,bjk,bl->bijl", x, x, x[:, 0]),
    "einsum": lambda x: (torch.einsum("bij,bkj->bik", x, x), torch.einsum("...ij->...i", x), torch.einsum("ijk->", x)),
    "einsum implicit": lambda x: (torch.einsum("bij,bkj", x, x), torch.einsum("...ij,...kj->...ik", x, x)),
    "einsum diagonal": lambda x: torch.einsum("bii->bi", x[..., :4]),
    "avg_pool1d": lambda x: (F.avg_pool1d(x, 2), F.avg_pool1d(x[0], 3, 2, 1), F.avg_pool1d(x, 4, 3, 2, True, False)),
    "avg_pool2d": lambda x: (
        F.avg_pool2d(x, 2),
        F.avg_pool2d(x[None], 3, 1, 1, count_include_pad=False),
        F.avg_pool2d(x, (2, 3), stride=(3, 2), padding=(1, 0), ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, True, False),
        F.avg_pool2d(x, 2, 3, 1, divisor_override=3),
    ),
    "avg_pool3d": lambda x: F.avg_pool3d(x.float()[None], (3, 2, 2), (1, 2, 1), (1, 0, 1), count_include_pad=False),
    "adaptive_avg_pool": lambda x: (
        F.adaptive_avg_pool1d(x, 2),
        F.adaptive_avg_pool2d(x, (2, 3)),
        F.adaptive_avg_pool2d(x[None], (None, 4)),
        F.adaptive_avg_pool3d(x[None], (1, 2, 6)),
    ),
    "prelu": lambda x: (F.prelu(x, x[0, :, 0]), F.prelu(x, x[0, 0, :1]), F.prelu(x[0, 0], x[0, 0, :1])),
    "conv1d": lambda x: (F.conv1d(x, x[:, :, :3], x[0, :3, 0]), F.conv1d(x, x[:2, :2, :2], None, 2, 1, 1, 2)),
    "conv1d depthwise": lambda x: F.conv1d(x, x[0, :, None, :3], padding=2, groups=4)[..., :6],
    "conv2d": lambda x: F.conv2d(x[None], x[:2, None, :2, :2].expand(2, 3, 2, 2), stride=2, padding=1, dilation=2),
    "conv_transpose1d": lambda x: (
        F.conv_transpose1d(x, x[0, :, :3, None].expand(4, 3, 5), x[0, :3, 0], stride=2, padding=1, output_padding=1),
        F.conv_transpose1d(x, x[0, :, None, :2], stride=3, groups=4),
        F.conv_transpose1d(x[0], x[0, :, :2, None] * x[0, 0, :4]),
    ),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x[None], x[:, :2, :2, None] * x[0, 0, :3], stride=2, padding=1),
    "patches": lambda x: F.conv2d(x[:, None], x[:2, None, :2, :2], x[0, 0, :2], stride=2),
    "cosine": lambda x: F.cosine_similarity(x, x.flip(0), dim=-1),
    "diff": lambda x: torch.diff(x),
    "nan_to_num": lambda x: torch.nan_to_num(1 / x.clamp_min(0)),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x[None, :, :, :3].reshape(1, 4, 3, 3), 2),
}  # fmt: skip


def _written(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.clone()
    y[:, 1:3] = 2.5
    y[0] += 1
    y[:, :, -1] = x[:, :, 0]
    z = torch.empty_like(x)
    z[..., :3] = x[..., 3:]
    z[..., 3:].copy_(x[..., :3])
    return y, z


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_float_op(name: str, dtype: torch.dtype) -> None:
    x = data(3, 4, 6, dtype=dtype)
    agrees(UNARY[name], x)


# These need to know sizes: where to cut, which of two is smaller, how many groups there are.
STATIC_ONLY = {
    "roll",
    "instance_norm",
    "pixel_shuffle",
    "as_strided",
    "diagonal",
    "group_norm",
    "pad",
    "adaptive_avg_pool",
}


@pytest.mark.parametrize("name", sorted(UNARY.keys() - STATIC_ONLY))
def test_float_op_of_symbolic_sizes(name: str) -> None:
    agrees(UNARY[name], data(3, 4, 6), dynamic=True)


def agrees(function: Callable[..., Any], *inputs: Any, dynamic: bool = False, externs: bool = False) -> None:
    """The import agrees with eager; its error against float64 is no more than eager's, up to a few ulps."""
    wanted = _flat(function(*inputs))
    results, truth, recorder = run(function, *inputs, dynamic=dynamic)
    assert bool(recorder.externs) == externs, recorder.externs
    for got, want, true in zip(_flat(results), wanted, _flat(truth), strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        if not want.is_floating_point():
            assert torch.equal(got, want)
            continue
        assert torch.equal(torch.isnan(got), torch.isnan(want))
        assert torch.equal(got.isinf(), want.isinf())
        assert torch.equal(got[got.isinf()], want[want.isinf()])
        ulp = torch.finfo(want.dtype).eps
        assert distance(got, true) <= 1.1 * distance(want, true) + ulp


def _flat(results: Any) -> list[Tensor]:
    return list(results) if isinstance(results, tuple) else [results]


# Functions of an integer tensor [4, 6] with values from -5 to 8.
INTEGER: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda n: (n + 2, n - 1, n * 3, -n, n.abs(), n // 3, n % 3, n**2, n.sign()),
    "to float": lambda n: (n / 2, n.float() * 0.5, n * 0.5, n.sqrt() if False else n.exp(), torch.sin(n)),
    "bits": lambda n: (n & 3, n | 8, n ^ 5, ~n, n << 1, n >> 1),
    "bits of each": lambda n: (
        (n[..., None] >> torch.arange(4)) & 1,
        n << n.abs(),
        1 << n.abs(),
        n.int() >> n.abs(),
        200 >> n.abs(),
    ),
    "of a number": lambda n: (7 % (n.abs() + 1), 6 & n, 6 | n, 6 ^ n, 9 // (n.abs() + 1), 3 - n, 2 / (n + 9)),
    "bool": lambda n: ((n > 0) & (n < 5), (n > 0) | (n < -2), (n > 0) ^ (n > 3), ~(n > 0), (n > 0) * (n > 2)),
    "signs of bools": lambda n: ((n > 0).sign(), (n > 0).sgn()),
    "bool sum": lambda n: ((n > 0).sum(), (n > 0).sum(1), (n > 0) + 1, (n > 0).float().mean(), (n > 0) + (n > 3)),
    "sum": lambda n: (n.sum(), n.sum(0), n.prod(1), n.max(), n.argmax(1), n.cumsum(1), n.int().cumsum(0)),
    "dtypes": lambda n: (n.to(torch.uint8), n.to(torch.int8), n.bool(), n.int() + n, n.to(torch.int16) * 2),
    "arange": lambda n: (torch.arange(7), torch.arange(2, 9, 3), torch.arange(0.0, 1.0, 0.1), torch.arange(5.0)),
    "arange of sizes": lambda n: (torch.arange(n.shape[1]), n + torch.arange(n.shape[1]) * 2),
    "causal": lambda n: torch.arange(n.shape[1]) <= torch.arange(n.shape[0])[:, None],
    "one_hot": lambda n: F.one_hot(n.abs(), 9),
    "meshgrid": lambda n: torch.stack(torch.meshgrid(n[0], n[:, 0], indexing="ij")),
    "meshgrid, x first": lambda n: torch.stack(torch.meshgrid(n[0], n[:, 0], torch.tensor(1), indexing="xy")),
    "masks": lambda n: torch.ones(4, 4, dtype=torch.bool).tril() & (torch.arange(4) > 1),
    "clamp": lambda n: (n.clamp(0, 3), n.clamp_min(1), torch.maximum(n, n.flip(0))),
    "where": lambda n: (torch.where(n > 0, n, 0), torch.where(n > 0, 1.5, 0.0), n.masked_fill(n > 0, -1)),
    "histc": lambda n: (
        torch.histc(n.float(), bins=5, min=0, max=4),
        torch.histc(n.double(), bins=3, min=-5, max=8),
        torch.histc(n.float() / 3, bins=7, min=-1, max=2),
    ),
    "floor": lambda n: (n.floor(), n.round(), torch.isnan(n), torch.isfinite(n)),
}


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", INTEGER)
def test_integer_op(name: str, dynamic: bool) -> None:
    agrees(INTEGER[name], whole(4, 6), dynamic=dynamic)


# Functions of a table [9, 6] and indices [3, 4] with values from -5 to 8.
INDEXING: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "embedding": lambda x, n: F.embedding(n.abs(), x),
    "embedding padding": lambda x, n: F.embedding(n.abs(), x, padding_idx=2),
    "index": lambda x, n: (x[n], x[n[0]], x[n[0], n[1] % 6], x[:, n[0] % 6], x[n[:, :1], n[:1] % 6]),
    "index apart": lambda x, n: x[:, :, None].expand(9, 6, 5)[n[0], :, n[1] % 5],
    "index by positions": lambda x, n: x[torch.arange(4)] + x[torch.arange(4) * 2],
    "gather": lambda x, n: (torch.gather(x, 0, n.abs()), torch.gather(x[:3], 1, n % 6)),
    "take_along": lambda x, n: torch.take_along_dim(x[:3], n % 6, 1),
    "index_select": lambda x, n: (x.index_select(0, n[0].abs()), x.index_select(1, n[0] % 6)),
}


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name: str, dynamic: bool) -> None:
    agrees(INDEXING[name], data(9, 6), whole(3, 4), dynamic=dynamic)


def test_few_rows_of_what_was_just_made_are_replaced() -> None:
    """Behind a roll, a window's last position takes the new key; an index may be a number, or count from the end."""

    def replaced(x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        window, last = x.roll(-1, 1), torch.tensor([-1])
        window[:, last] = x[:, :1]
        rows = x * 2
        rows[n[0]] = x[:4]
        column = torch.ops.aten.index_put(x + 1, [None, n[0, 0]], x[:, 5])
        return window, rows, column

    agrees(replaced, data(9, 6), torch.tensor([[2, -5, 7, -1]]))


def test_elements_in_steps_are_replaced() -> None:
    """Rotary positions whose pairs turn with time, height and width in turns are put together like this."""

    def replaced(x: Tensor) -> tuple[Tensor, ...]:
        turns = x + 1
        turns[..., 1:5:3] = x[:, :2]
        turns[..., 2:8:3] = 2 * x[:, :3].narrow(1, 0, 2)
        rows = x * 2
        rows[-4::2] = x[:2]
        return turns, rows

    agrees(replaced, data(9, 8))
    agrees(lambda x: torch.ops.aten.slice_scatter(x, x[:, :1] + 1, 1, 1, 8, 7), data(9, 8))


def test_scatter_of_few_elements() -> None:
    def scattered(x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        apart = torch.stack([n[:, 0] % 6, (n[:, 0] + 1) % 6], 1)
        return (
            x[:3].scatter(1, n % 6, 7.0),
            torch.zeros(3, 6).scatter(1, apart, x[4:7]),
            x[:, :4].scatter(0, n.abs()[:2], 1.5),
        )

    agrees(scattered, data(9, 6), whole(3, 4))


def test_promotion_of_mixed_operands() -> None:
    half, single, scalar, count = data(3, 4).half(), data(3, 4), torch.tensor(1.5), whole(3, 4)

    def mixed(h: Tensor, s: Tensor, z: Tensor, n: Tensor) -> Any:
        flags = n > 0
        return h + s, h * z, s + n, h * n, n * z, flags * h, flags + n, h > s, torch.where(flags, h, s), n / n.abs()

    agrees(mixed, half, single, scalar, count)


def test_numbers_computed_from_sizes() -> None:
    def scaled(x: Tensor) -> Tensor:
        n = x.shape[-1]
        return x / math.sqrt(n) + x * n + x * (n / 3) + torch.full_like(x, x.shape[0])

    agrees(scaled, data(3, 5), dynamic=True)


def attention_inputs(dtype: torch.dtype, kv_heads: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return (
        data(2, 4, 7, 8, dtype=dtype, seed=1),
        data(2, kv_heads, 9, 8, dtype=dtype, seed=2),
        data(2, kv_heads, 9, 5, dtype=dtype, seed=3),
    )


KEEP = torch.rand(7, 9, generator=torch.Generator().manual_seed(5)) > 0.4
KEEP[2] = False  # a query that may look at nothing

ATTENTION: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": F.scaled_dot_product_attention,
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "scale": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3),
    "bool mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, KEEP),
    "mask of heads": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, KEEP.expand(1, 4, 7, 9)),
    "added mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.where(KEEP, 0.5, -1e4).to(q.dtype)),
    "minus infinity": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, torch.where(KEEP, 0.0, float("-inf")).to(q.dtype)
    ),
    "three dimensions": lambda q, k, v: F.scaled_dot_product_attention(q[0], k[0], v[0]),
    "broadcast batch": lambda q, k, v: F.scaled_dot_product_attention(q, k[:1], v[:1]),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, dtype: torch.dtype) -> None:
    q, k, v = attention_inputs(dtype)
    agrees(ATTENTION[name], q, k, v)


@pytest.mark.parametrize("name", ["plain", "causal", "bool mask"])
def test_attention_of_symbolic_sizes(name: str) -> None:
    agrees(ATTENTION[name], *attention_inputs(torch.float32), dynamic=name != "bool mask")


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads(kv_heads: int) -> None:
    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    agrees(grouped, *attention_inputs(torch.float32, kv_heads))


def test_lower_forms_of_attention() -> None:
    def lower(q: Tensor, k: Tensor, v: Tensor) -> Any:
        aten = torch.ops.aten
        flash = aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, is_causal=True)[0]
        return flash, aten._scaled_dot_product_attention_math(q, k, v, None, 0.0, True)[0]

    agrees(lower, *attention_inputs(torch.float32))


def test_op_without_a_row_stays_an_aten_call() -> None:
    agrees(lambda x: (x + 1).sort(-1)[0] * 2, data(3, 4), externs=True)
    agrees(lambda x: torch.topk(x, 2)[1] + 1, data(3, 4), dynamic=True, externs=True)


def test_op_of_a_form_that_torch_does_not_take_apart_stays_an_aten_call() -> None:
    agrees(lambda n: torch.addcmul(n, n, n, value=0.5), whole(4, 6), externs=True)


@pytest.mark.parametrize("largest", [True, False])
def test_the_largest_of_a_row(largest: bool) -> None:
    agrees(lambda x: torch.topk(x, 3, largest=largest), data(5, 17))
    agrees(lambda x: torch.topk(x, 2, largest=largest), data(2, 3, 8, dtype=torch.bfloat16))
    agrees(lambda x: (*torch.topk(x, 2, 1, largest), *torch.topk(x, 2, 0, largest)), data(2, 5, 3))
    odd = torch.tensor([[1.0, float("nan"), -2.0, float("inf")], [float("-inf"), 0.0, 3.0, float("nan")]])
    agrees(lambda x: torch.topk(x, 4, largest=largest)[0], odd)


@pytest.mark.parametrize("descending", [True, False])
def test_the_order_of_integers(descending: bool) -> None:
    agrees(lambda n: n.sort(stable=True, descending=descending), whole(40))
    agrees(lambda n: n.argsort(stable=True, descending=descending), whole(23, dtype=torch.int32))
    agrees(lambda n: n.sort(descending=descending)[0], whole(64))


def test_more_than_few_elements_are_sorted_by_aten() -> None:
    agrees(lambda n: n.sort(stable=True), whole(1025), externs=True)
    agrees(lambda x: torch.topk(x, 2)[0], data(2, 257), externs=True)


def test_dropout_in_training_stays_an_aten_call() -> None:
    _, _, recorder = run(lambda x: F.dropout(x, 0.5, training=True) + 1, data(3, 4))
    assert recorder.externs == ["aten.dropout.default"]


def test_autocast_is_in_the_graph() -> None:
    def cast(x: Tensor, w: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.softmax(F.linear(x, w) @ w, -1)

    agrees(cast, data(3, 4), data(4, 4))


def test_constants_of_the_graph() -> None:
    agrees(lambda x: x * torch.tensor(2.5) + torch.tensor([1.0, 2.0, 3.0, 4.0]), data(3, 4))
