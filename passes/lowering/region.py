"""A scheduled region's kernel: every output stored, every read computed where it is first wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rooftile.errors import InternalError
from rooftile.ir.core import Graph, Value
from rooftile.ir.schedule import Schedule
from rooftile.passes.lowering.contractions import contract
from rooftile.passes.lowering.kernel import Block, Kernel, Visits
from rooftile.passes.lowering.order import behind_loops
from rooftile.passes.lowering.ragged import grid_axes, kernel_axes, place_tiles
from rooftile.passes.lowering.reductions import reduce
from rooftile.passes.lowering.settled import remaining
from rooftile.passes.lowering.sweeps import place_store, sweep_for
from rooftile.passes.lowering.turns import backwards
from rooftile.passes.lowering.values import choose, index_value, load
from rooftile.passes.lowering.visits import step_axis
from rooftile.passes.regions.access import Node, Read
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.space import space_of
from rooftile.passes.rules.steps import Step


def lower_region(
    body: Graph, schedule: Schedule, name: str, precision: str, visits: Visits | None
) -> tuple[Graph, tuple[Step, ...]]:
    """The tile-level kernel that computes ``body`` by ``schedule``, and where its sweeps skip steps: where ``visits``
    says, if given."""
    access = compose(body, space_of(schedule))
    more = kernel_axes(schedule, access)
    kernel = Kernel(access, schedule, name, precision, _compute, visits, more)
    root = Block(None, frozenset())
    place_tiles(kernel, root)
    roots, level = kernel.access.roots, kernel.sweeps.level
    for number in sorted(range(len(roots)), key=lambda n: max(level[roots[n][1]].values(), default=0)):
        if number not in kernel.stored:
            place_store(kernel, number, root)
    kernel.builder.ops = behind_loops(root.ops)
    steps = () if kernel.summary is None else (step_axis(kernel.summary),)
    axes = tuple((a.name, a.extent, a.role, a.tile) for a in (*schedule.axes, *more, *steps) if a.role != "parts")
    attrs = {"outputs": len(kernel.outputs), "axes": axes, **grid_axes(schedule)}
    launch = {"num_warps": schedule.num_warps, "num_stages": schedule.num_stages} | schedule.options()
    if names := backwards(kernel):
        launch["backwards"] = names
    return kernel.builder.finish((), attrs | launch), tuple(kernel.skips)


def _compute(kernel: Kernel, read: Read, home: Block) -> None:
    """Make ``read`` known in ``home``: by a sweep where it reduces an axis that is a loop, else by one tile."""
    node = kernel.access.nodes[read]
    if read in home.settled:
        home.known[read] = kernel.number(home.settled[read], read.value.dtype, home)
        return
    swept = [a for a in node.bound if a in kernel.loops]
    if swept:
        sweep_for(kernel, read, node, swept[0], home)
    elif node.op is None:
        home.known[read] = load(kernel, read, home)
    else:
        home.known[read] = COMPUTE.get(node.op.name, _moved)(kernel, read, node, home)


def _moved(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    """A view is its operand: the index at which that is read says all."""
    return kernel.emit(node.operands[0], block)


def _constant(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    assert node.op is not None
    return kernel.number(node.op.attrs["value"], node.op.output.dtype, block)


def _pointwise(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    assert node.op is not None
    if (rest := remaining(kernel, node, block)) is not None:
        return kernel.emit(rest, block)
    return kernel.pointwise(node.op.attrs["fn"], [kernel.emit(o, block) for o in node.operands], block)


def _cast(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    assert node.op is not None
    return kernel.cast(kernel.emit(node.operands[0], block), node.op.output.dtype, block)


def _reduce(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    return reduce(kernel, node, block)


def _contract(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    assert node.op is not None
    return kernel.cast(contract(kernel, node, block, None), node.op.output.dtype, block)


def _segment(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    raise InternalError(f"%{read.value.name} is wanted for single positions, where no axis is ragged")


# Views have no row.
COMPUTE: Mapping[str, Callable[[Kernel, Read, Node, Block], Value]] = {
    "constant": _constant,
    "size": index_value,
    "iota": index_value,
    "segment": _segment,
    "pointwise": _pointwise,
    "cast": _cast,
    "concat": choose,
    "pad": choose,
    "reduce": _reduce,
    "scan": _reduce,
    "contract": _contract,
}
