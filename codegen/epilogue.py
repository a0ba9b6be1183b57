"""An epilogue in pieces: what follows the last loop is done on one part of the loop's results after another.

So a large accumulator needs neither registers nor shared memory for all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rooftile.codegen.space import Axis, Space
from rooftile.codegen.statements import Assign, Statement, Writer
from rooftile.codegen.tile import Tile
from rooftile.codegen.values import Values
from rooftile.ir.core import Graph, Op, Value

_WORD = re.compile(r"[A-Za-z_]\w*")
_ELEMENTWISE = frozenset({"load", "store", "pointwise", "cast", "index", "inside", "constant", "check"})


@dataclass(frozen=True)
class Epilogue:
    """The ops behind a kernel's last loop, done in ``count`` pieces along ``axis``; ``results`` are split into them."""

    axis: Axis
    count: int
    ops: tuple[Op, ...]
    results: tuple[Value, ...]


def epilogue_of(kernel: Graph, space: Space, count: int) -> Epilogue | None:
    """The epilogue in ``count`` pieces; None for one, or where it can't be split."""
    last = max((n for n, op in enumerate(kernel.ops) if op.name == "loop"), default=-1)
    if count == 1 or last < 0:
        return None
    ops = kernel.ops[last + 1 :]
    made = {v for op in ops for v in op.outputs}
    outside = {v for op in ops for v in op.inputs} - made - set(kernel.inputs)
    results = tuple(v for v in kernel.ops[last].outputs if v in outside and len(space.held(v.type)) == 2)
    if not results or any(op.name not in _ELEMENTWISE for op in ops):
        return None
    axis = space[space.held(results[0].type)[-1]]
    others = [v for v in outside if axis.name in (v.type.axes or ()) and v not in results]
    fits = all(space.held(v.type)[-1] == axis.name for v in results)
    even = axis.role == "grid" and axis.tile % count == 0 and axis.tile > count
    return Epilogue(axis, count, ops, results) if fits and even and not others else None


def pieces(epilogue: Epilogue, values: Values) -> Iterator[Values]:
    """The values that each piece sees: those before the epilogue, and its part of the results."""
    name, count = epilogue.axis.name, epilogue.count
    parts = {v: _split(values.tiles[v], _lengths(v, values), count, values.writer) for v in epilogue.results}
    for number in range(count):
        piece = Values(values.positions.piece(name, number, count), values.writer, values.names)
        piece.tiles |= values.tiles | {v: tiles[number] for v, tiles in parts.items()}
        yield piece


def without_repeated_loads(statements: Sequence[Statement]) -> list[Statement]:
    """``statements`` without blocks loaded once more into the variable that holds them: every piece of the heads' axis
    reads the same row of a table. Where pieces load something of their own as well, it needs the registers that what is
    held would take, and all is loaded again."""
    loads = [n for n, s in enumerate(statements) if isinstance(s, Assign) and ".load(" in s.text]
    again = _loaded_again(statements)
    once = {(s.target, s.text) for n in again if isinstance(s := statements[n], Assign)}
    apart = [n for n in loads if isinstance(s := statements[n], Assign) and (s.target, s.text) not in once]
    return [s for n, s in enumerate(statements) if n not in again] if not apart else list(statements)


def _loaded_again(statements: Sequence[Statement]) -> set[int]:
    """The statements that load what their variable holds already."""
    found: set[int] = set()
    holds: dict[str, str] = {}
    for number, statement in enumerate(statements):
        if isinstance(statement, Assign):
            target, text = statement.target, statement.text
            if ".load(" in text and holds.get(target) == text:
                found.add(number)
                continue
            names = set(target.split(", "))
            holds = {t: each for t, each in holds.items() if names.isdisjoint({t, *_WORD.findall(each)})}
            holds[target] = text
    return found


def _lengths(value: Value, values: Values) -> list[int]:
    return [values.space[a].tile for a in values.held(value)]


def _split(tile: Tile, lengths: Sequence[int], count: int, writer: Writer, name: str = "") -> list[Tile]:
    """A two-dimensional tile of ``lengths`` as ``count`` tiles, a power of two, side by side along its last axis."""
    if count == 1:
        return [tile]
    rows, half, name = lengths[0], lengths[1] // 2, name or tile.text
    names = [writer.names.fresh(f"{name}_{'part' if count == 2 else 'half'}") for _ in range(2)]
    apart = f"tl.permute(tl.reshape({tile.text}, [{rows}, 2, {half}]), (0, 2, 1))"
    writer.add(Assign(", ".join(names), f"tl.split({apart})"))
    halves = [Tile(text, tile.axes, tile.dtype, writer.depth) for text in names]
    return [piece for each in halves for piece in _split(each, (rows, half), count // 2, writer, name)]
