"""Sums under gates that are zero but at chosen positions, as models spell them, over matrices of their own for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Tokens, weights of the chosen, their numbers, matrices and biases: [t, d], [t, k], [t, k], [e, d, 2f], [e, 2f], ...
Bias = Tensor | None
Layer = Callable[[Tensor, Tensor, Tensor, Tensor, Bias, Tensor, Bias], Tensor]


def _glu(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, -1)
    return F.silu(gate) * up


def _plus(x: Tensor, bias: Bias, *index: Any) -> Tensor:
    return x if bias is None else x + bias[index]


def _every(x: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    hidden = _glu(_plus(torch.bmm(x.expand(len(up), -1, -1), up), up_bias, slice(None), None))
    return _plus(torch.bmm(hidden, down), down_bias, slice(None), None)


def _positions(up: Tensor) -> Tensor:
    return torch.arange(len(up), device=up.device)


def scattered(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """Weights scattered into zeros; of those that go to one place the last one stays."""
    gate = torch.zeros(len(x), len(up), dtype=x.dtype, device=x.device).scatter(1, chosen, w)
    return (_every(x, up, up_bias, down, down_bias) * gate.T[..., None]).sum(0)


def one_hot(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """Ones at the chosen, weighted and summed; all in one product of three."""
    gate = (F.one_hot(chosen, len(up)).to(x.dtype) * w[..., None]).sum(1)
    hidden = _glu(_plus(torch.einsum("td,edf->tef", x, up), up_bias))
    return torch.einsum("tef,efd,te->td", hidden, down, gate)


def compared(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """Positions compared with the chosen; the gate stands before the second product, which sums over both."""
    gate = torch.einsum("tke,tk->te", (chosen[..., None] == _positions(up)).to(x.dtype), w)
    hidden = _glu(torch.einsum("td,edf->etf", x, up)) * gate.T[..., None]
    return torch.einsum("etf,efd->td", hidden, down)


def masked(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """What is not chosen is masked by zero, and the rest divided by its sum."""
    kept = torch.zeros(len(x), len(up), dtype=torch.bool, device=x.device).scatter(1, chosen, True)
    scores = x[:, :1].sigmoid() + up[:, 0, 0].sigmoid()
    gate = scores.masked_fill(~kept, 0.0)
    gate = gate / gate.sum(-1, keepdim=True)
    return torch.einsum("etd,te->td", _every(x, up, up_bias, down, down_bias), gate)


def any_of(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """Where any of the chosen is the position."""
    kept = (chosen[..., None] == _positions(up)).any(1)
    gate = torch.where(kept, x[:, :1].sigmoid() + up[:, 0, 0].sigmoid(), 0.0)
    return (_every(x, up, up_bias, down, down_bias) * gate.T[..., None]).sum(0)


def repeated(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """Tokens repeated for each expert, columns of gates and values in turns, as gpt_oss is written."""
    count, width = len(up), x.shape[1]
    gates = torch.zeros(len(x), count, dtype=x.dtype, device=x.device).scatter_(1, chosen, w)
    both = _plus(torch.bmm(x.repeat(count, 1).view(count, -1, width), up), up_bias, ..., None, slice(None))
    gate, value = both[..., ::2].clamp(max=7.0), both[..., 1::2].clamp(min=-7.0, max=7.0)
    hidden = (value + 1) * gate * torch.sigmoid(gate * 1.702)
    out = _plus(torch.bmm(hidden, down), down_bias, ..., None, slice(None))
    return (out.view(count, 1, -1, width) * gates.transpose(0, 1).view(count, 1, -1)[..., None]).sum(0).view(-1, width)


def looped(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """One matrix after another over all tokens, added where it was chosen."""
    result = torch.zeros_like(x)
    for number in range(len(up)):
        weight = torch.where(chosen == number, w, 0).sum(-1, keepdim=True)
        hidden = _glu(_plus(x @ up[number], up_bias, number))
        result = result + _plus(hidden @ down[number], down_bias, number) * weight
    return result


def looped_by_columns(
    x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias
) -> Tensor:
    """The same with the column of a gate that all share, in one sum."""
    gate = (F.one_hot(chosen, len(up)).to(x.dtype) * w[..., None]).sum(1)
    return sum(
        (_plus(_glu(_plus(x @ up[n], up_bias, n)) @ down[n], down_bias, n) * gate[:, n, None] for n in range(len(up))),
        torch.zeros_like(x),
    )


def picked(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """The matrices of the chosen, looked up."""
    hidden = _glu(_plus(torch.einsum("td,tkdf->tkf", x, up[chosen]), up_bias, chosen))
    return (_plus(torch.einsum("tkf,tkfd->tkd", hidden, down[chosen]), down_bias, chosen) * w[..., None]).sum(1)


def flattened(x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias) -> Tensor:
    """The same for one row of all choices, as transformers' ``batched_mm`` is written."""
    count = chosen.shape[1]
    numbers, rows = chosen.reshape(-1).clamp(0, len(up) - 1), x.repeat_interleave(count, 0)
    hidden = _glu(_plus(torch.bmm(rows.unsqueeze(1), up[numbers]).squeeze(1), up_bias, numbers))
    found = _plus(torch.bmm(hidden.unsqueeze(1), down[numbers]).squeeze(1), down_bias, numbers)
    return (found * w.reshape(-1)[:, None]).view(len(x), count, -1).sum(1)


def sorted_by_number(
    x: Tensor, w: Tensor, chosen: Tensor, up: Tensor, up_bias: Bias, down: Tensor, down_bias: Bias
) -> Tensor:
    """Rows sorted, and products of groups of them: what the others should come to (without biases, in bf16 alone)."""
    numbers, order = chosen.flatten().sort()
    counted = numbers.float() if x.device.type == "cpu" else numbers.int()
    ends = torch.histc(counted, bins=len(up), min=0, max=len(up) - 1).cumsum(0, dtype=torch.int32)
    hidden = _glu(torch._grouped_mm(x[order // chosen.shape[1]], up, ends))
    rows = torch._grouped_mm(hidden, down, ends) * w.flatten()[order, None]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=x.device)
    return rows[back].view(len(x), chosen.shape[1], -1).sum(1)


GATED: Mapping[str, Layer] = {f.__name__: f for f in (scattered, one_hot, compared, masked, any_of, repeated)}
LOOPED: Mapping[str, Layer] = {f.__name__: f for f in (looped, looped_by_columns)}
LOOKED_UP: Mapping[str, Layer] = {f.__name__: f for f in (picked, flattened)}


def operands(tokens: int, experts: int, chosen: int, width: int = 8, inner: int = 6) -> list[Tensor]:
    """All but the numbers of the chosen, which stand third, in float64."""
    torch.manual_seed(tokens + experts)
    shapes = ((tokens, width), (tokens, chosen), (experts, width, 2 * inner), (experts, 2 * inner))
    made = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    return [*made, *(torch.randn(s, dtype=torch.float64) for s in ((experts, inner, width), (experts, width)))]
