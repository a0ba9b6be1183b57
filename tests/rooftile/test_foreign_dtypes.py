"""Dtypes that kernels do not compute with (complex numbers first): their ops are ATen calls between the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.accuracy import promised, truth
from rooftile.checking import check
from rooftile.driver import build_program
from rooftile.errors import RequirementError
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import TensorType
from rooftile.ir.dtypes import C64, DTYPES, F32
from rooftile.ir.optable import InferenceError
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph

Function = Callable[..., Any]


class Rotary(nn.Module):
    """Attention with rotary positions as products of complex numbers, as Llama's first code has them."""

    def __init__(self, width: int = 32, heads: int = 2, length: int = 16) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        angles = torch.outer(torch.arange(length).float(), 100.0 ** -torch.linspace(0, 1, width // heads // 2))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def rotate(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turns[: x.shape[1], None]).flatten(-2).type_as(x)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, -1))
        q, k, v = (part.transpose(1, 2) for part in (self.rotate(q), self.rotate(k), v))
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)


@pytest.mark.parametrize("dynamic", [False, True])
def test_rotary_positions_by_a_table_of_complex_numbers_take_its_parts_by_a_call(dynamic: bool) -> None:
    torch._dynamo.reset()
    model = Rotary()
    fast = rooftile.compile(model, dynamic=dynamic, options={"require": ["no-breaks"]})
    for length in (12, 7):
        x = torch.randn(2, length, 32)
        torch.testing.assert_close(fast(x), model(x))
    report = rooftile.explain(model, x).to_dict()
    assert {kernel["kind"] for kernel in report["kernels"]} == {"triton", "extern"}
    externs = [entry for entry in report["ledger"] if entry["decision"] == "extern"]
    rotation = Rotary.rotate.__code__.co_firstlineno
    (once,) = externs  # for queries and keys
    assert "aten.view_as_real.default works on c64" in once["reason"]
    assert once["sources"][0].split("/")[-1] == f"test_foreign_dtypes.py:{rotation + 2}"


class Turned(Rotary):
    """The same with the table made in the graph, as Llama 4 does."""

    def rotate(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(x.shape[1]).float(), 100.0 ** -torch.linspace(0, 1, x.shape[-1] // 2))
        turns = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns[:, None, :]).flatten(-2).type_as(x)


@pytest.mark.parametrize("dynamic", [False, True])
def test_rotary_positions_by_complex_numbers_made_of_reals_are_all_fused(dynamic: bool) -> None:
    torch._dynamo.reset()
    model = Turned()
    fast = rooftile.compile(model, dynamic=dynamic, options={"require": ["no-breaks", "no-extern"]})
    for length in (12, 7):
        x = torch.randn(2, length, 32)
        assert all(v.kept for v in check(fast, model, (x,)))
        torch.testing.assert_close(fast(x), model(x))


def test_gradients_flow_through_complex_numbers() -> None:
    torch._dynamo.reset()
    model, x = Rotary(), torch.randn(1, 5, 32, requires_grad=True)
    (wanted,) = torch.autograd.grad(model(x).square().sum(), x)
    (got,) = torch.autograd.grad(rooftile.compile(model)(x).square().sum(), x)
    torch.testing.assert_close(got, wanted)


def test_a_complex_op_under_the_requirement_says_where() -> None:
    torch._dynamo.reset()
    with pytest.raises(RequirementError, match=r"aten\.\S+ runs as an ATen call") as caught:
        rooftile.compile(Rotary(), options={"require": ["no-extern"]})(torch.randn(1, 4, 32))
    assert "test_foreign_dtypes.py" in caught.value.where


FUSED: dict[str, Function] = {
    "sums": lambda x: torch.view_as_real(torch.complex(x, x + 1) + torch.polar(x.abs(), x) - 2.5),
    "a real from a complex number": lambda x: torch.view_as_real(x - torch.complex(x, x + 1)),
    "a complex number as factor": lambda x: torch.view_as_real(torch.complex(x, x + 1) * (0.5 - 2j)),
    "an exponential": lambda x: torch.exp(x * 1j).real,
    "a conjugate": lambda x: (torch.complex(x, x + 1).conj() * torch.complex(x, x)).imag,
    "a real factor and divisor": lambda x: torch.view_as_real(x * -torch.complex(x, x + 1) / (x.abs() + 1)),
    "moved": lambda x: torch.view_as_real(torch.complex(x, x + 1).T[1:, None].reshape(-1)[torch.arange(5)]),
}


@pytest.mark.parametrize("name", FUSED)
def test_what_is_made_of_reals_and_read_as_reals_is_fused(name: str) -> None:
    torch._dynamo.reset()
    fast = rooftile.compile(FUSED[name], options={"require": ["no-breaks", "no-extern"]})
    torch.testing.assert_close(fast(x), FUSED[name](x))


x, z = torch.linspace(-2, 2, 12).reshape(3, 4), torch.randn(3, 4, dtype=torch.complex64)

FUNCTIONS: dict[str, tuple[Function, Tensor]] = {
    "a complex number as an argument": (lambda x: (x * 1j).abs(), x),
    "a complex constant of the graph": (lambda x: (x * torch.tensor(1 + 2j)).imag, x),
    "a complex tensor made from nothing": (lambda x: torch.full((3, 1), 1j).real + x, x),
    "fft": (lambda x: torch.fft.ifft(torch.fft.fft(x) * 2).real, x),
    "complex in, real out": (lambda z: (z @ z.mH).abs().softmax(-1), z),
    "complex in and out": (lambda z: z * 2, z),
    "a part and the whole": (lambda x: (c := torch.complex(x, x + 1) * 2, torch.view_as_real(c) + 1, c.abs()), x),
    "a table that is moved": (lambda z: torch.complex(z.real, z.imag) * z[:, None].transpose(0, 1), z),
    "a divisor": (lambda x: torch.view_as_real(torch.complex(x, x + 1) / torch.complex(x + 3, x)), x),
    "the input itself": (lambda z: z, z),
    "a conjugate as result": (lambda z: z.conj(), z),
    "a conjugate as input": (lambda z: z * 2, z.conj()),
    "the negative of a view": (lambda z: (z.conj().imag * 2, z.real + 1), z),
    "a negative as input": (lambda x: x * 2, z.conj().imag),
    "a strided input": (lambda z: torch.view_as_real(z).sum(-1), z.t()),
    "unsigned integers": (lambda x: x.abs().to(torch.uint16).to(torch.int32) + 1, x),
    "the input's bits as result": (lambda x: x.view(torch.int32), x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_eager(name: str) -> None:
    torch._dynamo.reset()
    function, argument = FUNCTIONS[name]
    fast = rooftile.compile(function, options={"require": ["no-breaks"]})
    torch.testing.assert_close(fast(argument), function(argument))


def test_complex_graphs_are_text_and_keep_the_promise() -> None:
    b = GraphBuilder("turned")
    operand = b.input("z", TensorType(C64, (5,)))
    arguments = {"args": (("operand", 0), ("complex", 0.0, -2.5)), "kwargs": (), "types": ((C64, (5,)),)}
    graph = b.finish(b.multi("extern", [operand], {"target": "aten.mul.Tensor", **arguments}, name="turned"))
    text = print_graph(graph)
    assert "c64[5]" in text and "complex(0.0, -2.5)" in text
    assert print_graph(parse_graph(text)) == text
    value = torch.randn(5, dtype=torch.complex64)
    (ours,), (r,) = build_program(graph)([value], {}), truth(graph, [value])
    assert r.dtype is torch.complex128
    assert promised([ours], [value * -2.5j], [r])[0].kept
    assert not promised([ours + 0.1j], [ours], [r])[0].kept


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if not d.in_kernels], ids=str)
def test_only_an_extern_may_touch_them(dtype: Any) -> None:
    b = GraphBuilder()
    foreign = b.input("x", TensorType(dtype, (3,)))
    with pytest.raises(InferenceError, match=f"permute does not compute with {dtype}"):
        b.op("permute", (foreign,), {"perm": (0,)})
    with pytest.raises(InferenceError, match=f"cast does not compute with {dtype}"):
        b.op("cast", (b.input("y", TensorType(F32, (3,))),), {"dtype": dtype})
