"""The loops of a kernel: which reductions and stores share one, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from rooftile.ir.blocks import rows_aligned
from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.expr import Symbol, axis, of
from rooftile.passes.lowering.bounds import Bounds
from rooftile.passes.lowering.compensation import compensated
from rooftile.passes.lowering.indices import checked_indices
from rooftile.passes.lowering.infinities import EVERY_STEP_AGAIN, is_needed, start, steps, uncertain
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.ragged import steps_with_rows
from rooftile.passes.lowering.states import identity, run_again, run_members, settle
from rooftile.passes.lowering.visits import Visiting, step_axis
from rooftile.passes.masks.phases import EVERY_STEP, Phase, plan_phases, skip_step
from rooftile.passes.masks.summary import Summary
from rooftile.passes.regions.access import Guard, Node, Read, address
from rooftile.passes.regions.placing import root_axes
from rooftile.passes.switches import permitted

NESTED_STAGES = 2


def place_store(kernel: Kernel, number: int, block: Block) -> None:
    """Store root ``number``, opening the loops over which it varies."""
    read = kernel.access.roots[number][1]
    missing = root_axes(kernel.access, read) & kernel.loops - block.loops
    if not missing:
        _store(kernel, number, block)
    else:
        name = min(missing, key=lambda a: (_is_swept_within(kernel, read, a, missing), kernel.order[a]))
        level = kernel.sweeps.level[read].get(name, 0)
        members, roots = _together(kernel, name, level, block) if len(missing) == 1 else ([], [])
        _sweep(kernel, name, level, block, members, sorted({number, *roots}))


def _is_swept_within(kernel: Kernel, read: Read, name: str, missing: frozenset[str]) -> bool:
    """Whether ``read`` is computed from a reduction over ``name`` for each position of another axis whose loop is
    missing: that loop is then around both the sweep and the store."""
    access = kernel.access
    return any(
        name in access.nodes[r].bound and not missing.isdisjoint(access.free[r] - {name})
        for r in kernel.sweeps.depends[read]
    )


def _store(kernel: Kernel, number: int, block: Block) -> None:
    kernel.stored.add(number)
    output, read = kernel.access.roots[number]
    value = kernel.cast(kernel.emit(read, block), kernel.outputs[output].dtype, block)
    place = kernel.access.stored_at(output, read)
    names = kernel.axes_in(read.index)
    ragged = [n for n in names if n in kernel.rows]
    guard = kernel.within((n for n in names if n not in ragged), block) + read.guard
    guard += checked_indices(kernel, place, block) if place is not read else ()
    exprs, operands = kernel.with_indices(
        [*place.index, *(e for e, _ in guard)], kernel.access.index_reads(place), block
    )
    index, conditions = exprs[: len(place.index)], exprs[len(place.index) :]
    inside: Guard = tuple((e, n) for e, (_, n) in zip(conditions, guard, strict=True))
    first = len(operands) + 1
    inside += tuple((axis(n, kernel.access.axes[n]), of(Symbol(f"idx{k}"))) for k, n in enumerate(ragged, first))
    ends = (kernel.rows[n].end for n in ragged)
    attrs = freeze_attrs({"index": tuple(index), "guard": inside})
    block.ops.append(Op("store", (kernel.outputs[output], value, *operands, *ends), (), attrs))


def sweep_for(kernel: Kernel, read: Read, node: Node, name: str, block: Block) -> None:
    """Open the loop that computes ``read``, together with every reduction that can share it."""
    level = kernel.sweeps.number[read][name]
    _sweep(kernel, name, level, block, *_together(kernel, name, level, block))


def _together(kernel: Kernel, name: str, level: int, block: Block) -> tuple[list[Read], list[int]]:
    """The reductions and the stores that can be in sweep ``level`` over axis ``name``, opened in ``block``."""
    members = _in_order(kernel, [r for r in kernel.access.reductions() if _shares(kernel, r, name, level, block)])
    roots = [
        n
        for n, (_, r) in enumerate(kernel.access.roots)
        if n not in kernel.stored and _stores_in(kernel, r, name, level, block)
    ]
    return members, roots


def _in_order(kernel: Kernel, members: list[Read]) -> list[Read]:
    """The members, those that have to do with one another together: one set's dots run while the next is computed."""
    related = nx.Graph()
    related.add_nodes_from(members)
    related.add_edges_from((m, r) for m in members for r in kernel.sweeps.depends[m] if r in related)
    groups = [[m for m in members if m in group] for group in nx.connected_components(related)]
    return [member for group in groups for member in _contractions_last(kernel, group)]


def _contractions_last(kernel: Kernel, members: list[Read]) -> list[Read]:
    """The members in an order in which what a dot reads is reduced before it goes, rounded, into the dot."""
    dots = {r for r in members if (op := kernel.access.nodes[r].op) is not None and op.name == "contract"}
    if any((kernel.sweeps.depends[r] - {r}) & dots for r in members):
        return members
    return [*(r for r in members if r not in dots), *(r for r in members if r in dots)]


def _shares(kernel: Kernel, read: Read, name: str, level: int, block: Block) -> bool:
    node = kernel.access.nodes[read]
    return (
        name in node.bound
        and read not in block.known
        and kernel.access.free[read] & kernel.loops <= block.loops
        and kernel.block_for(read, block) is block
        and kernel.sweeps.number[read][name] == level
    )


def _stores_in(kernel: Kernel, read: Read, name: str, level: int, block: Block) -> bool:
    nodes = kernel.access.nodes
    around = [r for r in kernel.sweeps.depends[read] if not block.loops.isdisjoint(nodes[r].bound)]
    return (
        root_axes(kernel.access, read) & kernel.loops == block.loops | {name}
        and kernel.sweeps.level[read].get(name, 0) == level
        and all(_is_done(r, block) for r in around)
    )


def _is_done(read: Read, block: Block) -> bool:
    """Whether the reduction ``read`` has ended before ``block``."""
    around: Block | None = block
    while around is not None and read not in around.known:
        around = around.parent
    return around is not None and read not in around.running


def _sweep(kernel: Kernel, name: str, level: int, block: Block, members: Sequence[Read], roots: Sequence[int]) -> None:
    """Loops over axis ``name`` that carry the members' states from one to the next; a single one where roots are
    stored."""
    state = [identity(kernel, m, block) for m in (*members, *compensated(kernel, members))]
    if roots or not members:
        state = _loop(kernel, name, block, members, roots, state)
    elif kernel.summary is not None and kernel.summary.axis == name:
        state = _visit(kernel, kernel.summary, block, members, state)
    else:
        tile, split = kernel.tiles[name], kernel.schedule.phases > 1
        phases, predicates = plan_phases(kernel.access, members, name, tile, split=split)
        bounds = Bounds(kernel, block, predicates)
        if phases != [EVERY_STEP] and not _permitted_to_skip(kernel, members[0]):
            phases = [EVERY_STEP]
        if phases != [EVERY_STEP]:
            kernel.skips.append(skip_step(kernel.access, members, name, phases))
            kernel.phases.append((phases, predicates))
        for phase in phases:
            ends = bounds.ranges(phase, members, state[: len(members)])
            ends = steps_with_rows(kernel, name, block) if phase == EVERY_STEP else ends
            state = _loop(kernel, name, block, members, (), state, phase, ends)
    _end(kernel, name, block, members, state[: len(members)])


def _end(kernel: Kernel, name: str, block: Block, members: Sequence[Read], state: Sequence[Value]) -> None:
    """Make the results of a sweep known in ``block``, behind further sweeps of the programs that need these."""
    levels = uncertain(kernel, members)
    if not levels:
        settle(kernel, members, state, block)
        return
    swept = block.within()
    swept.running.update(members)  # what is computed from these stays where they may still be wrong
    settle(kernel, members, state, swept)
    doubtful = [m for level in levels for m in level]
    block.known.update((m, swept.known[m]) for m in members if m not in doubtful)
    needed = is_needed(kernel, doubtful, swept)
    ends = steps(kernel, name, needed, swept)
    for level in levels:
        results = _loop(
            kernel, name, block, level, (), [start(kernel, m, needed, swept) for m in level], EVERY_STEP_AGAIN, ends
        )
        block.known.update((m, kernel.cast(v, m.value.dtype, block)) for m, v in zip(level, results, strict=True))


def _permitted_to_skip(kernel: Kernel, read: Read) -> bool:
    op = kernel.access.nodes[read].op
    return op is None or permitted("skip", read.value, op.loc)


def _visit(kernel: Kernel, summary: Summary, block: Block, members: Sequence[Read], state: list[Value]) -> list[Value]:
    """Loops over the steps that a summary of the mask tells."""
    visiting = Visiting(kernel, summary, block)
    kernel.skips.append(visiting.skip_step(members))
    bounds = Bounds(kernel, block, summary.predicates)
    for phase, numbers in visiting.phases():
        ends = bounds.unless_reached(numbers, phase, members, state[: len(members)])
        state = _loop(kernel, summary.axis, block, members, (), state, phase, ends, visiting)
    return state


def _loop(
    kernel: Kernel,
    name: str,
    block: Block,
    members: Sequence[Read],
    roots: Sequence[int],
    starts: Sequence[Value],
    phase: Phase = EVERY_STEP,
    ends: Sequence[Value] = (),
    visiting: Visiting | None = None,
) -> list[Value]:
    """A loop over the steps of axis ``name`` in ``phase``, which lie between ``ends`` or, where ``visiting`` places
    them, are numbered from one end to the other; the states behind it: those of the members, then what each compensated
    one lost."""
    full = block.full | {name} if phase.full else block.full
    body = Block(block, block.loops | {name}, settled={**block.settled, **phase.settled}, full=full)
    fresh = kernel.builder.fresh
    names = [m.value.name for m in members] + [f"{m.value.name}_lost" for m in compensated(kernel, members)]
    state = [Value(fresh(f"{n}_part"), s.type) for n, s in zip(names, starts, strict=True)]
    after = (run_again if phase is EVERY_STEP_AGAIN else run_members)(kernel, members, state, body)
    for number in roots:
        kernel.stored.add(number)
        place_store(kernel, number, body)
    ops = _early_first(kernel, body)
    if visiting is not None:
        starts, names = [*starts, visiting.step], [*names, "step"]
        state.append(Value(fresh("step_now"), visiting.step.type))
        placing, following = visiting.place(state[-1], body)
        ops, after = [*placing, *ops], [*after, following]
    region = Graph(name, tuple(state), tuple(ops), tuple(after))
    outputs = [Value(fresh(n), start.type) for n, start in zip(names, starts, strict=True)]
    over = name if visiting is None else step_axis(visiting.summary).name
    stages = _stages(kernel, block, members, ops) if visiting is None or phase.settled else visiting.stages(ops)
    attrs = freeze_attrs({"axis": over, "ranges": len(ends) // 2, "phase": phase.name, "stages": stages})
    block.ops.append(Op("loop", (*ends, *starts), tuple(outputs), attrs, (region,)))
    if visiting is not None:
        visiting.step = outputs.pop()
    return outputs


def _stages(kernel: Kernel, block: Block, members: Sequence[Read], ops: Sequence[Op]) -> int | None:
    """How many stages a loop of ``ops`` has, where these are not the kernel's.

    Triton loads ahead what dots read, and where a loop says how far. Products of one row are no dots, and where states
    are corrected each step waits for the one before: attention of one query took 62 us on an H100, and 55 in steps that
    are loaded two ahead.

    With three, Triton 3.6 on an H100 overwrites registers of products that are under way in a loop inside another
    where an operand is computed: with 16 steps of 64, rows 8 to 15 of every 16 were NaN; with two stages none.
    """
    loaded = {v for op in ops if op.name == "load" for v in op.outputs}
    dots = [op for op in ops if op.name == "dot"]
    corrected = any(m in kernel.sweeps.corrected for m in members)
    if corrected and not (dots or block.loops) and any(_sums_products(kernel, m) for m in members):
        return kernel.schedule.num_stages if kernel.schedule.num_stages > 1 else None
    computed = any(not loaded.issuperset(op.inputs[:2]) for op in dots)
    return NESTED_STAGES if block.loops and computed and kernel.schedule.num_stages > NESTED_STAGES else None


def _sums_products(kernel: Kernel, read: Read) -> bool:
    op = kernel.access.nodes[read].op
    return op is not None and op.name == "contract"


def _early_first(kernel: Kernel, body: Block) -> list[Op]:
    """The ops of a loop's body with those in front that need nothing that it computes.

    Loads come first: they are under way while it computes. What only dots read is left to the compiler, which loads it
    steps ahead (products of one row are no dots). Then come dots of what was loaded: those of the sums, for which no
    one waits, run during what follows. Whole tiles that wait in shared memory follow these dots, since they would take
    the registers that the dots have.
    """
    reads = {value: read for read, value in body.known.items() if kernel.access.nodes[read].op is None}
    loads = [op for op in body.ops if op.name == "load" and len(op.inputs) == 1]
    computed = {value for op in body.ops if op not in loads for value in op.outputs}
    all_dots = [op for op in body.ops if op.name == "dot"]
    dots = [op for op in all_dots if computed.isdisjoint(op.inputs)]
    for_dots = [op for op in loads if all_dots and reads[op.output] in kernel.dot_only]
    others = [op for op in loads if op not in for_dots]
    multiplied = {value for dot in dots for value in dot.inputs}
    waiting = [op for op in others if dots and _waits_in_shared_memory(kernel, reads[op.output])]
    waiting = [op for op in waiting if op.output not in multiplied]
    if not waiting:
        for_dots = [op for op in for_dots if op.output in multiplied]
    early = [*(op for op in others if op not in waiting), *for_dots, *dots, *waiting]
    return [*early, *(op for op in body.ops if op not in early)]


def _waits_in_shared_memory(kernel: Kernel, read: Read) -> bool:
    """Whether a descriptor carries the tile of ``read``, steps ahead."""
    axes = frozenset(name for name, _ in kernel.held(kernel.access.free[read]))
    return (
        kernel.schedule.descriptors
        and len(axes) > 1
        and rows_aligned(address(read), axes, read.value.dtype, max(kernel.tiles.values()))
    )
