"""What ATen has of one call under other names, each for one library: the same results from the same arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from rooftile.ir.core import Attr

Args: TypeAlias = tuple[Attr, ...]
Kwargs: TypeAlias = tuple[tuple[str, Attr], ...]
Bound: TypeAlias = tuple[Args, Kwargs] | None  # the arguments under another name; None where it doesn't take these
Bind: TypeAlias = Callable[[Args, Mapping[str, Attr]], Bound]

_SDPA = "aten.scaled_dot_product_attention.default"


def _same(args: Args, kwargs: Mapping[str, Attr]) -> Bound:
    return args, tuple(kwargs.items())


_SDPA_PARAMETERS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def _attention(args: Args, kwargs: Mapping[str, Attr]) -> dict[str, Attr]:
    return {"attn_mask": None, "is_causal": False, "scale": None, **dict(zip(_SDPA_PARAMETERS, args)), **kwargs}  # noqa: B905


def _cudnn(args: Args, kwargs: Mapping[str, Attr]) -> Bound:
    a = _attention(args, kwargs)
    if a["attn_mask"] is not None:  # it takes one that is added
        return None
    return (a["query"], a["key"], a["value"], None, False, 0.0, a["is_causal"], False), (("scale", a["scale"]),)


def _flash(args: Args, kwargs: Mapping[str, Attr]) -> Bound:
    a = _attention(args, kwargs)
    if a["attn_mask"] is not None:
        return None
    return (a["query"], a["key"], a["value"], 0.0, a["is_causal"], False), (("scale", a["scale"]),)


# By what a model calls: the same of one library in particular, and how its arguments are those.
_ALSO: Mapping[str, Mapping[str, Bind]] = {
    _SDPA: {
        "aten._scaled_dot_product_cudnn_attention.default": _cudnn,
        "aten._scaled_dot_product_flash_attention.default": _flash,
    }
}


def alternatives(target: str) -> dict[str, Bind]:
    """The names by which what ``target`` computes may be called, itself first, and how each is given its arguments."""
    return {target: _same, **_ALSO.get(target, {})}
