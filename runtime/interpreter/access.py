"""Loads, stores and atomics through pointers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rooftile.runtime.interpreter import elementwise
from rooftile.runtime.interpreter.descriptor import Descriptor
from rooftile.runtime.interpreter.dtypes import INT1, Array
from rooftile.runtime.interpreter.tensor import Operand, PointerType, Tensor, to_tensor
from rooftile.runtime.interpreter.tiles import cast


def _pointers(pointer: Any) -> tuple[PointerType, Any]:
    if not isinstance(pointer, Tensor) or not isinstance(pointer.dtype, PointerType):
        raise TypeError(f"a pointer is needed here, not {pointer!r}")
    return pointer.dtype, pointer.data


def _mask(mask: Operand | None, shape: tuple[int, ...]) -> Array | None:
    if mask is None:
        return None
    data = to_tensor(mask).to(INT1).data
    if shape == () and np.ndim(data):
        raise ValueError("a scalar pointer takes a scalar mask")
    return np.asarray(data)


def load(
    pointer: Tensor | Descriptor,
    mask: Operand | None = None,
    other: Operand | None = None,
    *,
    cache_modifier: str = "",
    eviction_policy: str = "",
    volatile: bool = False,
) -> Tensor:
    """``tl.load``: masked-out elements read as ``other``, as NaN where none is given (a GPU gives anything there)."""
    kind, index = _pointers(pointer)
    if other is not None and mask is None:
        raise ValueError("`other` needs a `mask`")
    filler = None if other is None else cast(other, kind.element_ty).data
    allowed = _mask(mask, np.shape(index))
    if allowed is not None and allowed.ndim:
        index, allowed = np.broadcast_arrays(index, allowed)
    data = kind.memory.load(index, allowed, filler)
    return Tensor(data, kind.element_ty)


def store(
    pointer: Tensor, value: Operand, mask: Operand | None = None, *, cache_modifier: str = "", eviction_policy: str = ""
) -> None:
    """``tl.store``: the value is cast to the buffer's type."""
    kind, index = _pointers(pointer)
    values = cast(value, kind.element_ty).data
    if np.ndim(index) < np.ndim(values):
        raise ValueError(f"a tile of shape {list(np.shape(values))} stored through one pointer")
    kind.memory.store(index, values, _mask(mask, np.shape(index)))


def _atomic(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An atomic read-modify-write. Elements of one tile that share an address are combined one after another."""

    def call(pointer: Tensor, val: Operand, mask: Operand | None = None, sem: str = "", scope: str = "") -> Tensor:
        kind, index = _pointers(pointer)
        where = np.asarray(index)
        values = np.broadcast_to(cast(val, kind.element_ty).data, where.shape)
        allowed = np.broadcast_to(True if mask is None else to_tensor(mask).data, where.shape)
        old = np.zeros(where.shape, dtype=kind.element_ty.held)
        for at in np.ndindex(where.shape):
            if allowed[at]:
                before = Tensor(kind.memory.load(where[at], None, None), kind.element_ty)
                old[at] = before.data
                after = combine(before, Tensor(values[at], kind.element_ty))
                kind.memory.store(where[at], after.to(kind.element_ty).data, None)
        return Tensor(old if where.shape else old[()], kind.element_ty)

    return call


def atomic_cas(pointer: Tensor, cmp: Operand, val: Operand, sem: str = "", scope: str = "") -> Tensor:
    """``tl.atomic_cas``."""
    return _atomic(lambda old, new: new if old == cmp else old)(pointer, val)


ATOMICS: dict[str, Callable[..., Tensor]] = {
    "atomic_add": _atomic(lambda old, new: old + new),
    "atomic_max": _atomic(lambda old, new: elementwise.maximum(old, new)),
    "atomic_min": _atomic(lambda old, new: elementwise.minimum(old, new)),
    "atomic_and": _atomic(lambda old, new: old & new),
    "atomic_or": _atomic(lambda old, new: old | new),
    "atomic_xor": _atomic(lambda old, new: old ^ new),
    "atomic_xchg": _atomic(lambda old, new: new),
    "atomic_cas": atomic_cas,
}


def functions() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language`` that touch memory, by name."""
    descriptors: dict[str, Callable[..., Any]] = {
        "make_tensor_descriptor": Descriptor,
        "load_tensor_descriptor": Descriptor.load,
        "store_tensor_descriptor": Descriptor.store,
    }
    return descriptors | ATOMICS | {"load": load, "store": store}
