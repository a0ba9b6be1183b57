"""Scales, softmaxes, and other ways from scores to weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.attention.variant import Table

scales, softmaxes, others = Table("scale"), Table("softmax"), Table("others")


@scales()
def scale_mul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.mT) * q.shape[-1] ** -0.5).softmax(-1) @ v


@scales()
def scale_div(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.mT) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@scales()
def scale_tensor(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.mT) / torch.sqrt(torch.tensor(q.shape[-1], dtype=q.dtype))).softmax(-1) @ v


@scales()
def scale_in_q(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v


@scales()
def scale_in_both(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scale = q.shape[-1] ** -0.25
    return ((q * scale) @ (k * scale).mT).softmax(-1) @ v


@scales()
def no_scale(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


@scales(scale="h 1 1: small")
def scale_per_head(q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    return ((q @ k.mT) * scale).softmax(-1) @ v


@scales(scale="h 1 1: positive", square=True)
def scale_after_mask(q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    future = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
    return ((q @ k.mT).masked_fill(future, -math.inf) * (0.2 * scale)).softmax(-1) @ v


@scales(temperature="h 1 1: positive")
def temperature(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    return ((q @ k.mT) / (4 * temperature)).softmax(-1) @ v


@scales()
def baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, h, i, d = q.shape
    empty = torch.zeros(b * h, i, k.shape[-2], dtype=q.dtype, device=q.device)
    scores = torch.baddbmm(empty, q.flatten(0, 1), k.flatten(0, 1).mT, beta=0, alpha=d**-0.5)
    return (scores.softmax(-1) @ v.flatten(0, 1)).view(b, h, i, -1)


def scaled(q: Tensor, k: Tensor) -> Tensor:
    """The scores that the softmaxes below take."""
    return q @ k.mT / math.sqrt(q.shape[-1])


@softmaxes()
def softmax_fp32(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.softmax(scaled(q, k), dim=-1, dtype=torch.float32).to(q.dtype) @ v


@softmaxes()
def softmax_float(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled(q.float(), k.float()).softmax(-1).type_as(v) @ v


@softmaxes()
def explicit_maximum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k)
    e = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
    return (e / e.sum(-1, keepdim=True)) @ v


@softmaxes()
def maximum_before_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k)
    return (scores - scores.amax(-1, keepdim=True)).softmax(-1) @ v


@softmaxes()
def no_maximum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    e = scaled(q, k).exp()
    return (e / e.sum(-1, keepdim=True)) @ v


@softmaxes()
def sum_and_epsilon(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    e = scaled(q, k).exp()
    return (e / (e.sum(-1, keepdim=True) + 1e-6)) @ v


@softmaxes()
def divided_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k)
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return (e @ v) / e.sum(-1, keepdim=True)


@softmaxes()
def log_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled(q, k).log_softmax(-1).exp() @ v


@softmaxes()
def log_sum_exp(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k)
    return (scores - scores.logsumexp(-1, keepdim=True)).exp() @ v


@softmaxes()
def base_two(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k) * math.log2(math.e)
    e = torch.exp2(scores - scores.amax(-1, keepdim=True))
    return (e / e.sum(-1, keepdim=True)) @ v


@softmaxes()
def keys_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = k @ q.mT / math.sqrt(q.shape[-1])
    return scores.softmax(-2).mT @ v


@softmaxes()
def row_sum_by_ones(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    e = scaled(q, k).exp()
    ones = torch.ones(k.shape[-2], 1, dtype=v.dtype, device=v.device)
    return (e @ v) / (e @ ones)


@softmaxes()
def softmin(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.softmin(scaled(q, k), dim=-1) @ v


@others(square=True, kernels=2)
def softmax_over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled(q, k).softmax(-2) @ v


@others(square=True, kernels=2)
def slot_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = scaled(q, k).softmax(-2) + 1e-6
    return (weights / weights.sum(-1, keepdim=True)) @ v


@others()
def sigmoid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sigmoid(scaled(q, k) - math.log(k.shape[-2])) @ v


@others()
def squared_relu(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (scaled(q, k).relu().square() / k.shape[-2]) @ v


@others(q_2="b h i d", k_2="b h j d", weight="h 1 1: small")
def differential(q: Tensor, k: Tensor, v: Tensor, q_2: Tensor, k_2: Tensor, weight: Tensor) -> Tensor:
    return (scaled(q, k).softmax(-1) - weight * scaled(q_2, k_2).softmax(-1)) @ v


@others(q="b 8 i d", k="b 8 j d", v="b h j e", weight="1: small", sizes={"h": 4})
def differential_in_one(q: Tensor, k: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    b, _, i, _ = q.shape
    weights = scaled(q, k).softmax(-1).view(b, v.shape[1], 2, i, k.shape[-2])
    return (weights[:, :, 0] - weight * weights[:, :, 1]) @ v


@others(w="d: small", sizes={"d": 16})
def additive(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    scores = torch.tanh(q[..., :, None, :] + k[..., None, :, :]) @ w
    return scores.softmax(-1) @ v


@others(w="d: small", sizes={"d": 16})
def additive_by_sum(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    scores = (torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3)) * w).sum(-1)
    return scores.softmax(-1) @ v


@others(kernels=2)
def distance(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    squares = q.square().sum(-1, keepdim=True) - 2 * q @ k.mT + k.square().sum(-1)[..., None, :]
    return (-0.1 * squares).softmax(-1) @ v


@others(kernels=2)
def linear_scores(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT) @ v


@others(kernels=3)
def linear_normalised(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, F.elu(k) + 1
    weights = q @ k.mT
    return (weights / (weights.sum(-1, keepdim=True) + 1e-6)) @ v


@others(kernels=4)
def linear_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, F.elu(k) + 1
    state = torch.einsum("bhjd,bhje->bhde", k, v)
    norm = 1 / torch.einsum("bhid,bhd->bhi", q, k.sum(2))
    return torch.einsum("bhid,bhde,bhi->bhie", q, state, norm)


@others(mix="h h: small")
def heads_mixed_before(q: Tensor, k: Tensor, v: Tensor, mix: Tensor) -> Tensor:
    scores = torch.einsum("bhij,hg->bgij", scaled(q, k), mix)
    return scores.softmax(-1) @ v


@others(mix="h h: small", bias="h: small", square=True)
def heads_mixed_by_a_layer(q: Tensor, k: Tensor, v: Tensor, mix: Tensor, bias: Tensor) -> Tensor:
    scores = F.linear(scaled(q, k).permute(0, 2, 3, 1), mix, bias).permute(0, 3, 1, 2)
    future = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1) @ v


@others(k="b g j d", v="b g j d", mix="h h: small")
def heads_mixed_in_groups(q: Tensor, k: Tensor, v: Tensor, mix: Tensor) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("hg,bgij->bhij", mix, scaled(q, k))
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v


@others(mix="h h: small", sizes={"h": 8})
def many_heads_mixed_before(q: Tensor, k: Tensor, v: Tensor, mix: Tensor) -> Tensor:
    return heads_mixed_before(q, k, v, mix)


@others()
def gated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (scaled(q, k).softmax(-1) @ v) * torch.sigmoid(q)


@others(mix="h h: small", kernels=2, cut=("cast_1", "roles"), stored=1)
def heads_mixed_after(q: Tensor, k: Tensor, v: Tensor, mix: Tensor) -> Tensor:
    return torch.einsum("bhij,hg->bgij", scaled(q, k).softmax(-1), mix) @ v


@others(mix="h h: small", mix_2="h h: small", kernels=3, cut=("sum", "correct"), stored=1)
def heads_mixed_twice(q: Tensor, k: Tensor, v: Tensor, mix: Tensor, mix_2: Tensor) -> Tensor:
    scores = torch.einsum("bhij,hg->bgij", scaled(q, k), mix)
    return torch.einsum("bhij,hg->bgij", scores.softmax(-1), mix_2) @ v


@others(kernels=2)
def weights_returned(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    weights = scaled(q, k).softmax(-1)
    return weights @ v, weights


@others(mask="b 1 i j: bool with an empty row", kernels=2, cut=("sum", "correct"))
def nan_to_num(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return scaled(q, k).masked_fill(~mask, -math.inf).softmax(-1).nan_to_num() @ v


@others(kernels=4, cut=("sort", "import"), stored=3)
def sparsemax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k)
    ordered = scores.sort(-1, descending=True).values
    rank = torch.arange(1, k.shape[-2] + 1, device=q.device)
    sums = ordered.cumsum(-1) - 1
    size = (rank * ordered > sums).sum(-1, keepdim=True)
    threshold = sums.gather(-1, size - 1) / size
    return (scores - threshold).clamp(min=0) @ v


@others(kernels=3, cut=("topk", "import"), stored=1)
def top_k(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = scaled(q, k)
    least = scores.topk(8, dim=-1).values[..., -1:]
    return scores.masked_fill(scores < least, -math.inf).softmax(-1) @ v
