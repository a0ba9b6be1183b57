"""Pass ``lower``: a scheduled region becomes a tile-level kernel.

Values are emitted where they are first wanted, in the outermost loop body that runs over all the axes they vary over,
so loop-invariant code never stands in a loop.
Reductions over a ``loop`` axis that don't depend on one another share a sweep; a reduction that needs another's result
takes the next one::

    region  row: grid(4), col: loop(256)          kernel
      %s = reduce.sum(%x) dims=(1)                  loop col { %s += sum(load x) }
      %y = div(%x, expand(%s))                      loop col { store y, load x / %s }
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rooftile.ir.builder import TileBuilder
from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.division import divides
from rooftile.ir.dtypes import B1, BF16, F8E4M3, F8E5M2, F16, F32, I64, DType
from rooftile.ir.expr import Size, Symbol, axis, of, size_symbols, symbols
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import COMBINES, Combine
from rooftile.ir.schedule import Schedule
from rooftile.ir.substitution import evaluate, substitute
from rooftile.passes.base import PassContext
from rooftile.passes.regions.access import Access, Guard, Node, Read, Space, address
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.sweeps import plan_sweeps
from rooftile.passes.rules.correct import Correction

DOT_TYPES = frozenset({F32, BF16, F16, F8E4M3, F8E5M2})
SMALLEST_DOT = 16  # the least extent of a tensor core operand


@dataclass(frozen=True)
class Lower:
    """Gives every region op its kernel as a second region. ``precision`` is that of fp32 dots: ``"ieee"``, ``"tf32"``
    or ``"tf32x3"``."""

    name: ClassVar[str] = "lower"
    precision: str = "ieee"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """Lower every scheduled region."""
        ops = tuple(self.lower(op) if op.name == "region" and "roles" in op.attrs else op for op in graph.ops)
        return replace(graph, ops=ops)

    def lower(self, op: Op) -> Op:
        """The region op with its kernel."""
        body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)
        kernel = lower_region(body, schedule, str(op.attrs["name"]), self.precision)
        return replace(op, regions=(body, kernel))


def space_of(schedule: Schedule) -> Space:
    """The iteration space that a schedule describes."""
    parts = tuple(a.name for a in schedule.axes if a.role == "parts")
    return Space(dict(schedule.defs), {a.name: a.extent for a in schedule.axes}, parts)


def lower_region(body: Graph, schedule: Schedule, name: str, precision: str = "ieee") -> Graph:
    """The tile-level kernel that computes ``body`` by ``schedule``."""
    return _Lowering(compose(body, space_of(schedule)), schedule, name, precision).kernel()


@dataclass
class _Block:
    """A list of ops that runs once per step of the loops in ``loops``; ``known`` holds what it (not its parents) has
    computed, ``running`` the reductions whose states so far stand in ``known``."""

    parent: _Block | None
    loops: frozenset[str]
    ops: list[Op] = field(default_factory=list)
    known: dict[Read, Value] = field(default_factory=dict)
    running: set[Read] = field(default_factory=set)


class _Lowering:
    def __init__(self, access: Access, schedule: Schedule, name: str, precision: str) -> None:
        self.access, self.schedule, self.precision = access, schedule, precision
        self.order = {a.name: n for n, a in enumerate(schedule.axes)}
        self.tiles = {a.name: a.tile for a in schedule.axes}
        self.loops = frozenset(a.name for a in schedule.axes if a.role == "loop")
        self.builder = TileBuilder(name)
        self.buffers = {v: self.builder.input(v.name, v.type) for v in access.body.inputs}
        self.outputs = [self.builder.input(v.name, v.type) for v in access.body.outputs]
        self.sweeps = plan_sweeps(access, self.loops)
        self.level = self.sweeps.level
        self.dot_only = _only_in_contractions(access)
        self.stored: set[int] = set()

    def kernel(self) -> Graph:
        root = _Block(None, frozenset())
        roots = self.access.roots
        for number in sorted(range(len(roots)), key=lambda n: max(self.level[roots[n][1]].values(), default=0)):
            if number not in self.stored:
                self.place_store(number, root)
        self.builder.ops = root.ops
        s = self.schedule
        axes = tuple((a.name, a.extent, a.role, a.tile) for a in s.axes if a.role != "parts")
        attrs = {"outputs": len(self.outputs), "axes": axes, "grid": s.grid, "group": s.group}
        launch = {"num_warps": s.num_warps, "num_stages": s.num_stages} | s.options()
        return self.builder.finish((), attrs | launch)

    # Where things go.

    def block_for(self, read: Read, block: _Block) -> _Block:
        """The outermost block around ``block`` whose loops run over every loop axis that ``read`` varies over, and
        which
        knows the states that it depends on."""
        needed, states = self.access.free[read] & self.loops, self.sweeps.depends[read]
        while block.parent is not None and needed <= block.parent.loops and not block.running & states:
            block = block.parent
        return block

    def place_store(self, number: int, block: _Block) -> None:
        """Store root ``number``, opening the loops over which it varies."""
        read = self.access.roots[number][1]
        missing = self.root_axes(read) & self.loops - block.loops
        if not missing:
            self.store(number, block)
        else:
            name = min(missing, key=self.order.__getitem__)
            self.sweep(name, self.level[read].get(name, 0), block, [], [number])

    def root_axes(self, read: Read) -> frozenset[str]:
        return self.access.free[read] | {s.name for e in read.index for s in symbols(e) if s.extent is not None}

    def emit(self, read: Read, block: _Block) -> Value:
        """The tile of ``read``, computed in the outermost block that can."""
        home = self.block_for(read, block)
        if read not in home.known:
            node = self.access.nodes[read]
            swept = [a for a in node.bound if a in self.loops]
            if swept:
                self.sweep_for(read, node, swept[0], home)
            else:
                home.known[read] = self.compute(read, node, home)
        return home.known[read]

    # Sweeps.

    def sweep_for(self, read: Read, node: Node, name: str, block: _Block) -> None:
        """Open the loop that computes ``read``, together with every reduction that can share it."""
        level = self.sweeps.number[read][name]
        members = [r for r in self.access.reductions() if self.shares(r, name, level, block)]
        roots = [
            n
            for n, (_, r) in enumerate(self.access.roots)
            if n not in self.stored and self.stores_in(r, name, level, block)
        ]
        self.sweep(name, level, block, members, roots)

    def shares(self, read: Read, name: str, level: int, block: _Block) -> bool:
        node = self.access.nodes[read]
        return (
            name in node.bound
            and read not in block.known
            and self.access.free[read] & self.loops <= block.loops
            and self.block_for(read, block) is block
            and self.sweeps.number[read][name] == level
        )

    def stores_in(self, read: Read, name: str, level: int, block: _Block) -> bool:
        return self.root_axes(read) & self.loops == block.loops | {name} and self.level[read].get(name, 0) == level

    def sweep(self, name: str, level: int, block: _Block, members: Sequence[Read], roots: Sequence[int]) -> None:
        """A loop over axis ``name`` that carries the members' states and stores the roots."""
        body = _Block(block, block.loops | {name})
        starts = [self.identity(m, block) for m in members]
        state = [
            Value(self.builder.fresh(f"{m.value.name}_part"), s.type) for m, s in zip(members, starts, strict=True)
        ]
        ends = self.run_members(members, state, body)
        for number in roots:
            self.stored.add(number)
            self.place_store(number, body)
        region = Graph(name, tuple(state), tuple(body.ops), tuple(ends))
        outputs = tuple(Value(self.builder.fresh(m.value.name), s.type) for m, s in zip(members, starts, strict=True))
        block.ops.append(Op("loop", tuple(starts), outputs, freeze_attrs({"axis": name, "ranges": 0}), (region,)))
        for member, value in zip(members, outputs, strict=True):
            block.known[member] = self.cast(value, member.value.dtype, block)

    def run_members(self, members: Sequence[Read], state: Sequence[Value], body: _Block) -> list[Value]:
        """Every member's state after one more tile; members that depend on others see these's new states."""
        before = _Block(body, body.loops, body.ops)
        changes: dict[Correction, Value] = {}
        ends: list[Value] = []
        for member, old in zip(members, state, strict=True):
            if member in self.sweeps.corrected:
                correction = replace(self.sweeps.corrected[member], references=frozenset())
                if correction not in changes:
                    changes[correction] = self.change(correction, body, before)
                fn = "mul" if correction.kind == "factor" else "add"
                old = self.pointwise(fn, [old, self.cast(changes[correction], old.dtype, body)], body)
            new = self.step(member, old, body)
            ends.append(new)
            if any(member in c.references for c in self.sweeps.corrected.values()):
                before.known[member] = self.cast(state[len(ends) - 1], member.value.dtype, body)
                body.known[member] = self.never_identity(self.cast(new, member.value.dtype, body), member, body)
                before.running.add(member)
                body.running.add(member)
        return ends

    def never_identity(self, state: Value, read: Read, block: _Block) -> Value:
        """``state``, or 0 where it is still an infinity that stands for no element: nothing computed with it counts
        yet."""
        op = self.access.nodes[read].op
        assert op is not None
        identity = identity_value(COMBINES[op.attrs["fn"]], state.dtype) if op.name == "reduce" else 0.0
        if identity not in (float("inf"), float("-inf")):
            return state
        none, zero = (self.number(x, state.dtype, block) for x in (identity, 0.0))
        return self.pointwise("where", [self.pointwise("eq", [state, none], block), zero, state], block)

    def change(self, correction: Correction, body: _Block, before: _Block) -> Value:
        """What corrected states are multiplied by, or have added, as the references go from what ``before`` knows to
        what
        ``body`` knows."""
        total: Value | None = None
        for sign, reads in correction.terms:
            new, old = (self.product(reads, block) for block in (body, before))
            difference = self.pointwise("sub", [new, old] if sign > 0 else [old, new], body)
            total = difference if total is None else self.pointwise("add", [total, difference], body)
        assert total is not None
        return self.pointwise(correction.fn, [total], body) if correction.kind == "factor" else total

    def product(self, reads: Sequence[Read], block: _Block) -> Value:
        total = self.emit(reads[0], block)
        for read in reads[1:]:
            total = self.pointwise("mul", [total, self.emit(read, block)], block)
        return total

    def number(self, value: float, dtype: DType, block: _Block) -> Value:
        return self.add(block, "constant", (), {"value": value, "dtype": dtype, "axes": ()})

    def identity(self, read: Read, block: _Block) -> Value:
        """The start of a reduction's state."""
        op, axes = self.access.nodes[read].op, self.held(self.access.free[read])
        assert op is not None
        if op.name == "contract":
            return self.add(block, "constant", (), {"value": 0.0, "dtype": op.attrs["acc"], "axes": axes})
        dtype = read.value.dtype
        value = identity_value(COMBINES[op.attrs["fn"]], dtype)
        return self.add(block, "constant", (), {"value": value, "dtype": dtype, "axes": axes})

    def step(self, read: Read, state: Value, body: _Block) -> Value:
        """The state after one more tile."""
        node = self.access.nodes[read]
        assert node.op is not None
        if node.op.name == "contract":
            return self.contract(node, body, state)
        part = self.reduce(node, body)
        return self.pointwise(COMBINES[node.op.attrs["fn"]].scalar, [state, part], body)

    # Single values.

    def compute(self, read: Read, node: Node, block: _Block) -> Value:
        op = node.op
        if op is None:
            return self.load(read, block)
        if op.name in ("reduce", "scan"):
            return self.reduce(node, block)
        if op.name == "contract":
            return self.cast(self.contract(node, block, None), op.output.dtype, block)
        if op.name in ("constant", "size", "iota"):
            return self.leaf(read, op, block)
        values = [self.emit(o, block) for o in node.operands]
        if op.name == "pointwise":
            return self.pointwise(op.attrs["fn"], values, block)
        if op.name == "cast":
            return self.cast(values[0], op.output.dtype, block)
        if op.name in ("concat", "pad"):
            return self.choose(op, node, values, block)
        return values[0]

    def leaf(self, read: Read, op: Op, block: _Block) -> Value:
        if op.name == "constant":
            return self.number(op.attrs["value"], op.output.dtype, block)
        expr = op.attrs["value"] if op.name == "size" else read.index[0]
        (index,), operands = self.with_indices(read, [expr], block)
        value = self.add(block, "index", operands, {"expr": index, "axes": self.held(self.access.free[read])})
        return self.cast(value, op.output.dtype, block)

    def load(self, read: Read, block: _Block) -> Value:
        guard = self.full_guard(read)
        exprs, operands = self.with_indices(read, [*read.index, *(e for e, _ in guard)], block)
        index, conditions = exprs[: len(read.index)], exprs[len(read.index) :]
        attrs = {
            "index": tuple(index),
            "axes": self.memory_order(read) if read in self.dot_only else self.held(self.access.free[read]),
            "guard": tuple((e, n) for e, (_, n) in zip(conditions, guard, strict=True)),
            "fill": 0.0 if guard else None,
        }
        return self.add(block, "load", (self.buffers[read.value], *operands), attrs, name=read.value.name)

    def full_guard(self, read: Read) -> Guard:
        """The read's own guard, and that every axis is within its extent."""
        names = {s.name for e in (*read.index, *(e for e, _ in read.guard)) for s in symbols(e) if s.name in self.order}
        own = tuple(
            (axis(n, self.access.axes[n]), self.access.axes[n]) for n in sorted(names, key=self.order.__getitem__)
        )
        return tuple((e, n) for e, n in own if not self.never_ragged(e)) + read.guard

    def never_ragged(self, expr: Size) -> bool:
        (symbol,) = symbols(expr)
        return divides(self.tiles[symbol.name], self.access.axes[symbol.name])

    def with_indices(self, read: Read, exprs: Sequence[Size], block: _Block) -> tuple[list[Size], tuple[Value, ...]]:
        """``exprs`` with the symbols of indirect reads renamed to ``idx1``, ``idx2``, ..., and the tiles that these
        stand for."""
        reads = self.access.index_reads(read)
        names: dict[str, Size] = {name: of(Symbol(f"idx{n}")) for n, name in enumerate(reads, start=1)}
        return [substitute(e, names) for e in exprs], tuple(self.emit(r, block) for r in reads.values())

    def choose(self, op: Op, node: Node, values: Sequence[Value], block: _Block) -> Value:
        """The operand whose case holds (concat), or the padding value where none does (pad)."""
        if op.name == "concat":
            result, pairs = values[-1], list(zip(node.cases, values, strict=True))[-2::-1]
        else:
            result = self.number(op.attrs["value"], op.output.dtype, block)
            pairs = list(zip(node.cases, values, strict=True))
        for case, value in pairs:
            result = value if not case else self.pointwise("where", [self.inside(case, block), value, result], block)
        return result

    def inside(self, case: Guard, block: _Block) -> Value:
        reads = {
            s.name: self.access.indirect[s.name] for e, _ in case for s in symbols(e) if s.name in self.access.indirect
        }
        names: dict[str, Size] = {name: of(Symbol(f"idx{n}")) for n, name in enumerate(reads, start=1)}
        free = {s.name for e, _ in case for s in symbols(e) if s.name in self.order}
        free |= {a for r in reads.values() for a in self.access.free[r]}
        guard = tuple((substitute(e, names), n) for e, n in case)
        operands = tuple(self.emit(r, block) for r in reads.values())
        return self.add(block, "inside", operands, {"guard": guard, "axes": self.held(frozenset(free))})

    def reduce(self, node: Node, block: _Block) -> Value:
        """The operand's tile combined over its bound axes."""
        assert node.op is not None
        row = COMBINES[node.op.attrs["fn"]]
        value = self.emit(node.operands[0], block)
        value = self.masked(value, node.bound, identity_value(row, value.dtype), block, self.counted(node, row))
        reduced = [name for name in node.bound if name in (value.type.axes or ())]
        for name in reduced:
            value = self.add(block, "reduce", (value,), {"fn": row.name, "axis": name})
        if row.position and not reduced:
            return self.number(0, I64, block)
        return self.repeat(value, node, block) if row.name == "sum" and node.op.name == "reduce" else value

    def counted(self, node: Node, row: Combine) -> Guard:
        """The positions that count besides those that the operand has: what lies before a scan's, each factor of a
        product of equal ones."""
        if node.cases:
            return node.cases[0]
        absent = self.absent(node) if row.name == "prod" else []
        return tuple((axis(n, self.access.axes[n]), self.access.axes[n]) for n in absent)

    def absent(self, node: Node) -> list[str]:
        """The bound axes along which no operand varies."""
        varying = frozenset().union(*(self.access.free[o] for o in node.operands))
        return [a for a in node.bound if a not in varying]

    def repeat(self, value: Value, node: Node, block: _Block) -> Value:
        """A sum counts an operand once per position of the axes along which it doesn't vary."""
        for name in self.absent(node):
            extent = self.access.axes[name]
            if name in self.loops:
                tile = self.tiles[name]
                inside = self.inside(((axis(name, extent), extent),), block)
                ones = (
                    self.add(block, "reduce", (self.cast(inside, value.dtype, block),), {"fn": "sum", "axis": name})
                    if tile > 1
                    else self.cast(inside, value.dtype, block)
                )
            else:
                ones = self.cast(self.add(block, "index", (), {"expr": extent, "axes": ()}), value.dtype, block)
            value = self.pointwise("mul", [value, ones], block)
        return value

    def masked(self, value: Value, names: Sequence[str], fill: float, block: _Block, counted: Guard = ()) -> Value:
        """``value`` with ``fill`` at positions beyond the end of the axes ``names``, and where ``counted`` fails."""
        pairs = [(axis(n, self.access.axes[n]), self.access.axes[n]) for n in names if n in (value.type.axes or ())]
        guard = tuple((e, n) for e, n in pairs if not self.never_ragged(e)) + counted
        if not guard:
            return value
        constant = self.number(fill, value.dtype, block)
        return self.pointwise("where", [self.inside(guard, block), value, constant], block)

    def contract(self, node: Node, block: _Block, state: Value | None) -> Value:
        """One tile's share of a contraction, added to ``state``: a dot where the operands have its form, else product
        and sum."""
        assert node.op is not None
        acc: DType = node.op.attrs["acc"]
        values = [self.operand(o, node.bound, block) for o in node.operands]
        held = [v.type.axes or () for v in values]
        inner = [a for a in node.bound if self.tiles.get(a, 1) > 1]
        if self.is_dot(values, held, inner):
            if (
                self.order[next(a for a in held[0] if a != inner[0])]
                > self.order[next(a for a in held[1] if a != inner[0])]
            ):
                values.reverse()
            operands = (*values, state) if state is not None else tuple(values)
            return self.add(block, "dot", operands, {"axis": inner[0], "acc": acc, "precision": self.precision})
        total = self.cast(values[0], acc, block)
        for value in values[1:]:
            total = self.pointwise("mul", [total, self.cast(value, acc, block)], block)
        total = self.repeat(total, node, block)
        for name in inner:
            if name in (total.type.axes or ()):
                total = self.add(block, "reduce", (total,), {"fn": "sum", "axis": name})
        return total if state is None else self.pointwise("add", [state, total], block)

    def operand(self, read: Read, bound: Sequence[str], block: _Block) -> Value:
        """A contraction's operand, zero beyond the end of the summed axes."""
        value = self.emit(read, block)
        return value if self.zero_outside(read) else self.masked(value, bound, 0.0, block)

    def zero_outside(self, read: Read) -> bool:
        """Whether a load with fill 0 is all that ``read`` is, up to views and casts."""
        node = self.access.nodes[read]
        while node.op is not None:
            if node.op.name in ("concat", "pad") or not (node.op.name == "cast" or GRAPH_OPS[node.op.name].view):
                return False
            node = self.access.nodes[node.operands[0]]
        return True

    def is_dot(self, values: Sequence[Value], held: Sequence[tuple[str, ...]], inner: Sequence[str]) -> bool:
        if len(values) != 2 or len(inner) != 1 or any(v.dtype not in DOT_TYPES for v in values):
            return False
        if values[0].dtype is not values[1].dtype:
            return False
        outer = [set(h) - set(inner) for h in held]
        shapes_fit = all(len(h) == 2 and inner[0] in h and len(o) == 1 for h, o in zip(held, outer, strict=True))
        big_enough = all(self.tiles[a] >= SMALLEST_DOT for h in held for a in h)
        return shapes_fit and outer[0] != outer[1] and big_enough

    def store(self, number: int, block: _Block) -> None:
        self.stored.add(number)
        output, read = self.access.roots[number]
        value = self.cast(self.emit(read, block), self.outputs[output].dtype, block)
        names = {s.name for e in read.index for s in symbols(e) if s.name in self.order}
        pairs = [(axis(n, self.access.axes[n]), self.access.axes[n]) for n in sorted(names, key=self.order.__getitem__)]
        guard = tuple((e, n) for e, n in pairs if not self.never_ragged(e)) + read.guard
        op = Op("store", (self.outputs[output], value), (), freeze_attrs({"index": read.index, "guard": guard}))
        block.ops.append(op)

    # Building blocks.

    def held(self, names: frozenset[str]) -> tuple[tuple[str, int], ...]:
        """The axes of ``names`` that a tile of them holds, in nesting order, with their tiles."""
        return tuple((n, self.tiles[n]) for n in sorted(names, key=self.order.__getitem__) if self.tiles[n] > 1)

    def memory_order(self, read: Read) -> tuple[tuple[str, int], ...]:
        """The axes that a load's tile holds, the one along which memory is contiguous last: what a dot's operand
        wants."""
        position = address(read)

        sizes = {s.name: likely(of(s)) for s in size_symbols(position)}
        start = {s.name: 0 for s in symbols(position)} | sizes

        def step(name: str) -> int:
            return evaluate(position, start | {name: 1}) - evaluate(position, start)

        return tuple(sorted(self.held(self.access.free[read]), key=lambda held: -abs(step(held[0]))))

    def pointwise(self, fn: str, values: Sequence[Value], block: _Block) -> Value:
        axes = self.held(frozenset(a for v in values for a in v.type.axes or ()))
        return self.add(block, "pointwise", values, {"fn": fn, "axes": axes})

    def cast(self, value: Value, dtype: DType, block: _Block) -> Value:
        return value if value.dtype is dtype else self.add(block, "cast", (value,), {"dtype": dtype})

    def add(
        self, block: _Block, op: str, inputs: Sequence[Value], attrs: dict[str, Any], name: str | None = None
    ) -> Value:
        before, self.builder.ops = self.builder.ops, block.ops
        try:
            return self.builder.op(op, inputs, attrs, name=name)
        finally:
            self.builder.ops = before


def identity_value(row: Combine, dtype: DType) -> float | int:
    """What an absent element counts as in a reduction over ``dtype``."""
    if isinstance(row.identity, float):
        return row.identity if dtype.is_float else int(row.identity)
    if dtype.is_float:
        return float("-inf") if row.identity == "lowest" else float("inf")
    if dtype is B1:
        return 0 if row.identity == "lowest" else 1
    bits = dtype.bytes * 8
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.signed else (0, 2**bits - 1)
    return low if row.identity == "lowest" else high


def _only_in_contractions(access: Access) -> set[Read]:
    """The loads that nothing but contractions reads, directly or through views."""
    users: dict[Read, list[tuple[Read, Node]]] = {}
    for read, node in access.nodes.items():
        for operand in (*node.operands, *access.index_reads(read).values()):
            users.setdefault(operand, []).append((read, node))

    def only(read: Read) -> bool:
        return bool(users.get(read)) and all(
            node.op is not None
            and (
                node.op.name == "contract" or (len(node.operands) == 1 and GRAPH_OPS[node.op.name].view and only(user))
            )
            for user, node in users[read]
        )

    stored = {read for _, read in access.roots}
    return {read for read in access.loads() if read not in stored and only(read)}
