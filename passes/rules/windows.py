"""Where in another value a value lies: behind slices, dimensions of size one, repetitions and pieces side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size
from rooftile.passes.regions.dims import longer


@dataclass(frozen=True)
class Window:
    """The elements of ``source`` from ``starts`` on, ``sizes`` of them along each of its dimensions. ``dims`` are those
    that the value's own dimensions run along; None for one of size one, and for one along which it repeats."""

    source: Value
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    dims: tuple[int | None, ...]


def window(value: Value, producers: Mapping[Value, Op]) -> Window | None:
    """The window that ``value`` is, as far back as there is one; None where its sizes are not known."""
    sizes = fixed(value.shape)
    if sizes is None:
        return None
    found = Window(value, (0,) * len(sizes), sizes, tuple(d if n > 1 else None for d, n in enumerate(sizes)))
    while (op := producers.get(found.source)) is not None and op.name in _BEHIND:
        behind = _BEHIND[op.name](found, op)
        if behind is None:
            break
        found = behind
    return found


def fixed(shape: tuple[Size, ...]) -> tuple[int, ...] | None:
    """The sizes of ``shape``, if all are known when it is compiled."""
    sizes = tuple(n for n in shape if isinstance(n, int))
    return sizes if len(sizes) == len(shape) else None


def _slice(at: Window, op: Op) -> Window | None:
    starts = fixed(op.attrs["starts"])
    if starts is None or set(op.attrs["steps"]) - {1}:
        return None
    return Window(op.inputs[0], tuple(map(int.__add__, starts, at.starts)), at.sizes, at.dims)


def _reshape(at: Window, op: Op) -> Window | None:
    (x,) = op.inputs
    given, made = fixed(x.shape), fixed(op.output.shape)
    if given is None or made is None or [n for n in given if n != 1] != [n for n in made if n != 1]:
        return None
    of = dict(zip(longer(made), longer(given), strict=True))
    return _renamed(at, x, {d: at.starts[o] for o, d in of.items()}, {d: at.sizes[o] for o, d in of.items()}, of)


def _expand(at: Window, op: Op) -> Window | None:
    (x,) = op.inputs
    given = fixed(x.shape)
    if given is None:
        return None
    of = {o: d for d, o in enumerate(op.attrs["dims"]) if given[d] != 1}
    return _renamed(at, x, {d: at.starts[o] for o, d in of.items()}, {d: at.sizes[o] for o, d in of.items()}, of)


def _concat(at: Window, op: Op) -> Window | None:
    dim, before = op.attrs["dim"], 0
    for piece in op.inputs:
        size = piece.shape[dim]
        if not isinstance(size, int):
            return None
        start = at.starts[dim] - before
        if start >= 0 and start + at.sizes[dim] <= size:
            starts = (*at.starts[:dim], start, *at.starts[dim + 1 :])
            return Window(piece, starts, at.sizes, at.dims)
        before += size
    return None


_BEHIND: Mapping[str, Callable[[Window, Op], Window | None]] = {
    "slice": _slice,
    "reshape": _reshape,
    "expand": _expand,
    "concat": _concat,
}


def _renamed(
    at: Window, source: Value, starts: Mapping[int, int], sizes: Mapping[int, int], of: Mapping[int, int]
) -> Window:
    rank = range(len(source.shape))
    dims = tuple(None if d is None else of.get(d) for d in at.dims)
    return Window(source, tuple(starts.get(d, 0) for d in rank), tuple(sizes.get(d, 1) for d in rank), dims)
