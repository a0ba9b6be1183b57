"""Who does the same work: for each contender the calls that it may make of a workload, of which the fastest counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.contenders import CONTENDERS
from benchmarks.workload import MaskMod, Workload

Call: TypeAlias = Callable[..., Tensor]
# The name of each alternative, and what makes its call; nothing is compiled before the call is made.
Alternatives: TypeAlias = Mapping[str, Callable[[], Call]]

# FlexAttention's own choice, and others that its autotuner knows: the side of the mask's blocks, and kernel options.
FLEX_OPTIONS: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "defaults": (128, {}),
    "descriptors": (128, {"USE_TMA": True}),
    "128x128, 8 warps": (128, {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8, "num_stages": 2}),
    "128x64, 4 warps": (128, {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3}),
    "64x64, 4 warps": (64, {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3}),
}


def _of_model(name: str) -> Callable[[Workload], Alternatives]:
    return lambda work: {"": partial(CONTENDERS[name], work.model)}


def _flex(work: Workload) -> Alternatives:
    if work.twin is None:
        return {}
    if work.inputs[0].device.type == "cpu":
        return {"not compiled": partial(_flex_call, work, 128, flex_attention, {})}
    compiled = torch.compile(flex_attention, dynamic=False)
    return {
        name: partial(_flex_call, work, block, compiled, options) for name, (block, options) in FLEX_OPTIONS.items()
    }


def _flex_call(work: Workload, block: int, attend: Callable[..., Tensor], options: Mapping[str, Any]) -> Call:
    assert work.twin is not None
    score, mask = work.twin.score, _block_mask(work, work.twin.mask, block)
    given = {"kernel_options": dict(options)} if options else {}
    return lambda q, k, v, *_: attend(q, k, v, score_mod=score, block_mask=mask, **given)


def _block_mask(work: Workload, mask: MaskMod | None, block: int) -> BlockMask | None:
    if mask is None:
        return None
    q = work.inputs[0]
    # A mask that reads what differs from row to row of the batch needs blocks for each of them.
    rows = q.shape[0] if any("b" in axes for axes in work.axes[3:]) else None
    length = q.shape[2]
    return create_block_mask(mask, rows, None, length, length, device=q.device, BLOCK_SIZE=block)


def _cudnn(work: Workload) -> Alternatives:
    if work.twin is None or work.twin.sdpa is None or work.inputs[0].device.type == "cpu":
        return {}
    return {"": partial(_cudnn_call, work.twin.sdpa)}


def _cudnn_call(arguments: Mapping[str, Any]) -> Call:
    def call(q: Tensor, k: Tensor, v: Tensor, *_: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return scaled_dot_product_attention(q, k, v, **arguments)

    return call


RIVALS: Mapping[str, Callable[[Workload], Alternatives]] = {
    "FlexAttention": _flex,
    "cuDNN": _cudnn,
    "torch.compile": lambda work: {} if work.twin else _of_model("torch.compile")(work),
    "rooftile": _of_model("rooftile"),
}
