"""How each op is written where an axis is cut into parts: one row per op.

A row gets the dimension of the result that the cut axis runs along, finds that of every operand, and writes the op with
one dimension more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rooftile.ir.core import Op, Value, unique_name
from rooftile.ir.expr import Size, axis, symbols
from rooftile.ir.polynomial import add, mul
from rooftile.ir.scalar import COMBINES
from rooftile.ir.substitution import substitute
from rooftile.passes.lowering.reductions import identity_value
from rooftile.passes.regions.dims import Dim, shared_dims
from rooftile.passes.splitting.copies import Copies, Copy, NotCut

Row = Callable[[Copies, Op, int | None], Copy]


def _leaf(copies: Copies, op: Op, dim: int | None) -> Copy:
    if dim is None:
        return copies.emit(op, (), op.attrs, False)
    return copies.parts_first(copies.emit(op, (), {**op.attrs, "size": copies.cut.padded}, False).value, dim)


def _segment(copies: Copies, op: Op, dim: int | None) -> Copy:
    source = copies.of(op.inputs[0], None)
    if dim is not None or source.parted:
        raise NotCut(op.output)
    return copies.emit(op, [source.value], op.attrs, False)


def _elementwise(copies: Copies, op: Op, dim: int | None) -> Copy:
    inputs, parted = copies.with_parts([copies.of(v, dim) for v in op.inputs])
    return copies.emit(op, inputs, op.attrs, parted)


def _expand(copies: Copies, op: Op, dim: int | None) -> Copy:
    (x,), shape, dims = op.inputs, copies.shape(op.attrs["shape"], dim), op.attrs["dims"]
    below = dims.index(dim) if dim in dims and x.shape[dims.index(dim)] != 1 else None
    source = copies.of(x, below)
    if dim is None and not source.parted:
        return copies.emit(op, [source.value], op.attrs, False)
    first = (0,) if source.parted else ()
    attrs = {"shape": (copies.cut.count, *shape), "dims": (*first, *(d + 1 for d in dims))}
    return copies.emit(op, [source.value], attrs, True)


def _reshape(copies: Copies, op: Op, dim: int | None) -> Copy:
    source = copies.of(op.inputs[0], _operand_dim(op, dim))
    shape = copies.shape(op.attrs["shape"], dim)
    parts = (copies.cut.count,) if source.parted else ()
    return copies.emit(op, [source.value], {"shape": (*parts, *shape)}, source.parted)


def _operand_dim(op: Op, dim: int | None) -> int | None:
    """The dimension of the one operand that is dimension ``dim`` of the result."""
    if dim is None:
        return None
    found = next((x.number for x, out in shared_dims(op) if out == Dim(op.output, dim)), None)
    if found is None:
        raise NotCut(op.output)
    return found


def _permute(copies: Copies, op: Op, dim: int | None) -> Copy:
    perm = op.attrs["perm"]
    source = copies.of(op.inputs[0], None if dim is None else perm[dim])
    if source.parted:
        perm = (0, *(p + 1 for p in perm))
    return copies.emit(op, [source.value], {"perm": perm}, source.parted)


def _slice(copies: Copies, op: Op, dim: int | None) -> Copy:
    starts, sizes, steps = (tuple(op.attrs[n]) for n in ("starts", "sizes", "steps"))
    if dim is not None and (starts[dim] != 0 or steps[dim] != 1 or sizes[dim] != op.inputs[0].shape[dim]):
        raise NotCut(op.output)
    source = copies.of(op.inputs[0], dim)
    sizes = copies.shape(sizes, dim)
    if source.parted:
        starts, sizes, steps = (0, *starts), (copies.cut.count, *sizes), (1, *steps)
    return copies.emit(op, [source.value], {"starts": starts, "sizes": sizes, "steps": steps}, source.parted)


def _concat(copies: Copies, op: Op, dim: int | None) -> Copy:
    along = op.attrs["dim"]
    if along == dim:
        raise NotCut(op.output)
    inputs, parted = copies.with_parts([copies.of(v, dim) for v in op.inputs])
    return copies.emit(op, inputs, {"dim": along + parted}, parted)


def _pad(copies: Copies, op: Op, dim: int | None) -> Copy:
    low, high = op.attrs["low"], op.attrs["high"]
    if dim is not None and (low[dim] != 0 or high[dim] != 0):
        raise NotCut(op.output)
    source = copies.of(op.inputs[0], dim)
    none = (0,) if source.parted else ()
    return copies.emit(op, [source.value], {**op.attrs, "low": (*none, *low), "high": (*none, *high)}, source.parted)


def _scan(copies: Copies, op: Op, dim: int | None) -> Copy:
    if op.attrs["dim"] == dim:
        raise NotCut(op.output)
    source = copies.of(op.inputs[0], dim)
    return copies.emit(op, [source.value], {**op.attrs, "dim": op.attrs["dim"] + source.parted}, source.parted)


def _reduce(copies: Copies, op: Op, dim: int | None) -> Copy:
    return reduced(copies, op, _operand_dim(op, dim))


def reduced(copies: Copies, op: Op, dim: int | None, *, swept: bool = False) -> Copy:
    """A reduction whose operand's dimension ``dim`` is the cut axis; ``swept`` where it is reduced."""
    source = copies.of(op.inputs[0], dim)
    value = source.value
    if swept and dim is not None:
        value = copies.only_inside(value, dim, identity_value(COMBINES[op.attrs["fn"]], value.dtype))
    dims = tuple(d + source.parted for d in op.attrs["dims"])
    return copies.emit(op, [value], {**op.attrs, "dims": dims}, source.parted)


def _contract(copies: Copies, op: Op, dim: int | None) -> Copy:
    return contracted(copies, op, None if dim is None else op.attrs["out"][dim])


def contracted(copies: Copies, op: Op, name: str | None, *, swept: bool = False) -> Copy:
    """A contraction whose axis ``name`` is cut; ``swept`` where it is summed: then it stays as it is accumulated."""
    sizes, maps = dict(op.attrs["axes"]), op.attrs["maps"]
    dims = [_plain_dim(op, m, name, sizes) for m in maps]
    operands = [copies.of(x, d) for x, d in zip(op.inputs, dims, strict=True)]
    if swept:  # what is loaded is 0 beyond the end as it is
        operands = [
            o if d is None or copies.is_loaded(x) else Copy(copies.only_inside(o.value, d, 0.0), True)
            for o, x, d in zip(operands, op.inputs, dims, strict=True)
        ]
    if not any(o.parted for o in operands):
        return copies.emit(op, [o.value for o in operands], op.attrs, False)
    parts = unique_name("p", sizes)
    cut: dict[str, Size] = {} if name is None else {name: axis(name, copies.cut.size)}
    first = axis(parts, copies.cut.count)
    attrs = {
        **op.attrs,
        "dtype": op.attrs["acc"] if swept else op.attrs["dtype"],
        "axes": ((parts, copies.cut.count), *((a, copies.cut.size if a == name else n) for a, n in sizes.items())),
        "maps": tuple(
            (*((first,) if o.parted else ()), *(substitute(e, cut) for e in m))
            for o, m in zip(operands, maps, strict=True)
        ),
        "out": (parts, *op.attrs["out"]),
    }
    return copies.emit(op, [o.value for o in operands], attrs, True)


def _plain_dim(op: Op, access: Sequence[Size], name: str | None, sizes: Mapping[str, Size]) -> int | None:
    """The dimension of an operand that axis ``name`` runs along; None where it runs along none."""
    dims = [d for d, e in enumerate(access) if name is not None and any(s.name == name for s in symbols(e))]
    if not dims:
        return None
    if len(dims) > 1 or access[dims[0]] != axis(str(name), sizes[str(name)]):
        raise NotCut(op.output)
    return dims[0]


def _unparted(copies: Copies, op: Op, dim: int | None) -> Copy:
    """An op on what is the same for all parts."""
    operands = [copies.of(x, None) for x in op.inputs]
    if dim is not None or any(o.parted for o in operands):
        raise NotCut(op.output)
    return copies.emit(op, [o.value for o in operands], op.attrs, False)


def _gather(copies: Copies, op: Op, dim: int | None) -> Copy:
    """Where an operand is read at a function of the cut axis, it stays whole, and is read at the part's positions."""
    axes, maps = op.attrs["axes"], op.attrs["maps"]
    name = None if dim is None else axes[dim][0]
    dims = [_gathered_dim(x, m, name, dict(axes)) for x, m in zip(op.inputs, maps, strict=True)]
    if not copies.cut.exact and (len(dims) > 1 or (name is not None and dims[0] is None)):
        raise NotCut(op.output)  # there might be nothing at indices computed beyond the end
    operands = [copies.of(x, d) for x, d in zip(op.inputs, dims, strict=True)]
    if name is None and not any(o.parted for o in operands):
        return copies.emit(op, [o.value for o in operands], op.attrs, False)
    parts = unique_name("p", dict(axes))
    first = axis(parts, copies.cut.count)
    new_maps = []
    for operand, d, access in zip(operands, dims, maps, strict=True):
        at = {} if name is None else {name: _position(copies, name, first if d is None else 0)}
        new_maps.append((*((first,) if operand.parted else ()), *(substitute(e, at) for e in access)))
    cut_axes = ((a, copies.cut.size if a == name else n) for a, n in axes)
    attrs = {"axes": ((parts, copies.cut.count), *cut_axes), "maps": tuple(new_maps)}
    return copies.emit(op, [o.value for o in operands], attrs, True)


def _gathered_dim(x: Value, access: Sequence[Size], name: str | None, sizes: Mapping[str, Size]) -> int | None:
    if name is None:
        return None
    dims = [d for d, e in enumerate(access) if any(s.name == name for s in symbols(e))]
    whole = axis(name, sizes[name])
    return dims[0] if len(dims) == 1 and access[dims[0]] == whole and x.shape[dims[0]] == sizes[name] else None


def _position(copies: Copies, name: str, part: Size) -> Size:
    """The position along the whole of axis ``name``, which counts from the start of ``part``."""
    return add(mul(part, copies.cut.size), axis(name, copies.cut.size))


ROWS: Mapping[str, Row] = {
    "constant": _leaf,
    "size": _leaf,
    "iota": _leaf,
    "segment": _segment,
    "pointwise": _elementwise,
    "cast": _elementwise,
    "expand": _expand,
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
    "scan": _scan,
    "reduce": _reduce,
    "contract": _contract,
    "gather": _gather,
    "scatter": _unparted,
    "arrange": _unparted,
}
