"""The cost model: what a region takes at the least on a target, from the bytes it must move and the arithmetic it must
do.

A roofline with the corrections that decide fusions: work inside a contraction's operand is done once for each tile that
reads it; an operand that is computed rather than loaded misses the asynchronous copy into shared memory, and one whose
rows are gathered is copied more slowly; where it has few rows, the other operand is waited for as well; a vector that a
matrix is multiplied by is computed for each of its rows, little of it beside their loads; programs of a chain that read
the same and share no tile of it read it again from the cache, and vectors of pairs of rows and steps are loaded one by
one; a reduction that another one reads is done again for every tile of the other's results; what varies over fewer axes
than what it is part of is computed again by threads; and a grid with few programs has only their share of the
bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import SCALARS
from rooftile.passes.regions.access import Access, Read, is_in_line, is_segment
from rooftile.passes.regions.contractions import (
    Groups,
    contractions,
    groups,
    has_dot,
    is_loaded,
    main_contraction,
    multiplied,
)
from rooftile.passes.regions.forms import Chain, as_chain, below, is_matrix
from rooftile.passes.regions.parts import obstacle, parts_for
from rooftile.passes.regions.ragged import segments
from rooftile.passes.regions.repeated import repeated
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import divided_axes
from rooftile.target import Target

TILE_REUSE = 128  # how many result columns (rows) share one computation of an operand's element
# A dot whose operand passes through registers, measured against one that is copied asynchronously.
COMPUTED_OPERAND = 1.25
# The same for one whose rows are gathered: 602 TFLOP/s in order and 517 gathered (8192 tokens to 8 of 64 experts, 2048
# wide, on an H100), 658 and 560 (4096 tokens to 2 of 8, 4096 wide).
GATHERED_OPERAND = 1.17
# The same for a computed one where few rows leave nothing to do in the meantime: 1.5 with a norm's factors, 6 with
# SwiGLU.
WAITED_FOR = 2.5
FEW_ROWS = 64
# How much arithmetic on a vector fits beside the loads of the matrix that it is multiplied by, as a share of their
# time. On 117 MB of weights, which take 39 us, a norm's factors took 1 us more, SwiGLU 24: each row has its own.
BESIDE_LOADS = 0.15
FROM_CACHE = 2  # how much faster than device memory the L2 cache is read, about
TILE_ON_CPU = 2**18  # elements that a program without contractions has at once there, each op taking one call
GATHERED = 32  # FLOPs in the time that an element takes whose address is computed for it alone


@dataclass(frozen=True)
class Cost:
    """What a region moves and computes: bytes of device memory, FLOPs of contractions, FLOPs of everything else, and
    the time these take."""

    bytes: int
    matmul_flops: int
    scalar_flops: int
    seconds: float


def cost(access: Access, target: Target, reread: int = 0) -> Cost:
    """The price of running the region as one kernel on ``target``, which reads ``reread`` bytes more than once.

    Run-time sizes count as their likely values.
    """
    extents = {a: likely(e) for a, e in access.axes.items()}
    dots, chain = contractions(access), as_chain(access)
    moved = _bytes(access, extents) + reread
    vectors = chain is None and _multiplies_vectors(access, target)
    factor = _recomputation(access, chain, extents, target, 1 if vectors else TILE_REUSE)
    sweeps = {} if chain is None else {a: chain.sweeps.total(a) for a in chain.loops}
    matmul, matmul_seconds = 0, 0.0
    for read in dots:
        flops = 2 * prod(extents[a] * sweeps.get(a, 1) for a in access.free[read])
        flops *= prod(extents[a] for a in access.nodes[read].bound)
        matmul += flops
        matmul_seconds += (
            flops / target.matmul_rate(multiplied(access, read).name) * _slowed(access, chain, read, target)
        )
    scalar = sum(
        _scalar_flops(access, r) * prod(extents[a] for a in access.free[r] | set(n.bound)) * factor.get(r, 1)
        for r, n in access.nodes.items()
    )
    if chain is not None and target.kind == "cuda":
        scalar += sum(GATHERED * _vectors_of_pairs(access, chain, read, extents) for read in dots)
    waits = chain is None and _waits_for_operands(access, extents, target)
    memory_seconds = moved / target.bandwidth * (WAITED_FOR if waits else 1)
    if chain is not None:
        memory_seconds = max(memory_seconds, _read_again(access, chain, extents) / (FROM_CACHE * target.bandwidth))
    scalar_seconds = scalar / target.scalar_flops
    if vectors:
        memory_seconds += max(0.0, scalar_seconds - BESIDE_LOADS * memory_seconds)
    seconds = max(memory_seconds, matmul_seconds + scalar_seconds) / _share(access, chain, extents, target)
    return Cost(moved, matmul, scalar, seconds + target.launch_seconds + _call_overhead(access, target))


def _slowed(access: Access, chain: Chain | None, read: Read, target: Target) -> float:
    """How much longer a contraction takes than one of operands that lie in order."""
    operands = access.nodes[read].operands
    if any(not is_loaded(access, o) and _is_computed_again(access, chain, o) for o in operands):
        return COMPUTED_OPERAND
    return GATHERED_OPERAND if target.kind == "cuda" and _is_gathered(access, operands) else 1.0


def _is_gathered(access: Access, operands: Sequence[Read]) -> bool:
    """Whether one of these is read at indices that are read themselves, and not the same for all of a tile."""
    stack = list(operands)
    while stack:
        read = stack.pop()
        if any(access.free[index] for index in access.index_reads(read).values()):
            return True
        stack.extend(access.nodes[read].operands)
    return False


def _waits_for_operands(access: Access, extents: dict[str, int], target: Target) -> bool:
    """Whether dots outside a chain have an operand of few rows that is computed, not copied while others are
    multiplied."""
    if target.kind == "cpu":
        return False
    for read in contractions(access):
        for operand in access.nodes[read].operands:
            outer = access.free[operand].difference(access.nodes[read].bound)
            rows = prod(-(-extents[a] // segments(access, a)) for a in outer)
            if 1 < rows <= FEW_ROWS and not is_loaded(access, operand):
                return True
    return False


def _vectors_of_pairs(access: Access, chain: Chain, contraction: Read, extents: dict[str, int]) -> int:
    """How many elements a chain loads of an operand that has a vector of its own for each row and step, such as one at
    a distance: no product of matrices, and 19 ms where the roofline of products said 0.4 (4 x 16 heads, 2048 rows)."""
    node, row = access.nodes[contraction], frozenset(chain.row)
    steps = frozenset(chain.loops).difference(node.bound)
    own = (access.free[o] for o in node.operands if is_loaded(access, o))
    return sum(prod(extents[a] for a in axes) for axes in own if axes & row and axes & steps)


def _multiplies_vectors(access: Access, target: Target) -> bool:
    """Whether the products of a region that is no chain are those of a matrix and a vector, which threads load and sum
    by themselves."""
    return bool(contractions(access)) and target.kind == "cuda" and not has_dot(access)


def _is_computed_again(access: Access, chain: Chain | None, operand: Read) -> bool:
    """Whether ``operand`` is computed in every step; in a chain, what is the same in all of them is computed once."""
    return chain is None or not access.free[operand].isdisjoint(chain.loops)


def floor_seconds(together: Sequence[Access], target: Target) -> float:
    """The roofline: the least time in which regions that share a launch can be run. What several of them read, they may
    read from the cache, so that bytes are those of one; a chain may leave steps out, so that its arithmetic is none."""
    costs = [(access, cost(access, target)) for access in together]
    products = [(a, c.matmul_flops) for a, c in costs if c.matmul_flops and as_chain(a) is None]
    computing = sum(flops / target.matmul_rate(multiplied(a, contractions(a)[0]).name) for a, flops in products)
    return max(computing, *(c.bytes / target.bandwidth for _, c in costs))


def _bytes(access: Access, extents: dict[str, int]) -> int:
    """Each element that the region reads or writes counts once."""
    read: dict[object, int] = {}
    for load in access.loads():
        touched = prod(extents[a] for a in access.free[load]) * segments_read(access, load)
        whole = likely(load.value.type.numel)
        read[load.value] = min(whole, read.get(load.value, 0) + touched)
    total = sum(n * v.dtype.bytes for v, n in read.items())  # type: ignore[attr-defined]
    stored = {number: root.value.type for number, root in access.roots}
    return int(total) + sum(likely(type.bytes) for type in stored.values())


def _read_again(access: Access, chain: Chain, extents: dict[str, int]) -> int:
    """The bytes that the programs of a chain read in its sweeps, where programs that differ in no rows of a tile read
    the same ones."""
    apart, total = frozenset(chain.grid).difference(chain.row), 0
    for load in access.loads():
        free = access.free[load]
        if free & frozenset(chain.loops):
            touched = min(likely(load.value.type.numel), prod(extents[a] for a in free))
            total += touched * load.value.dtype.bytes * prod(extents[a] for a in apart - free)
    return total


def segments_read(access: Access, load: Read) -> int:
    """Of how many segments the load reads what belongs to each: of all that can have rows."""
    if not any(is_segment(access.nodes[read]) for read in access.index_reads(load).values()):
        return 1
    return prod(segments(access, name) for name in access.segments)


def _recomputation(
    access: Access, chain: Chain | None, extents: dict[str, int], target: Target, reuse: int
) -> dict[Read, int]:
    """How often each read below a contraction's or a scan's operand is computed: once per tile (of ``reuse``) of the
    result's axes that the operand doesn't have, and once for all steps of a chain in which it is the same."""
    factor: dict[Read, int] = {}
    loops = frozenset(chain.loops if chain is not None else ())
    for read in access.reductions():
        for operand in access.nodes[read].operands:
            missing = access.free[read] - access.free[operand]
            absent = prod(extents[a] for a in (missing if access.free[operand] & loops else missing - loops))
            _mark(access, operand, max(1, absent // reuse), factor)
    if not contractions(access):
        for inner, times in _nested(access, extents, target):
            _mark(access, inner, times, factor)
    if chain is not None:  # each program computes what it needs before it sweeps
        apart = frozenset(chain.grid).difference(chain.row)
        for read in access.nodes:
            if access.free[read].isdisjoint(loops):
                factor[read] = factor.get(read, 1) * prod(extents[a] for a in apart - access.free[read])
    if not contractions(access) and target.kind == "cuda":
        for read, times in repeated(access, extents).items():
            factor[read] = max(times, factor.get(read, 1))
    if is_matrix(access):
        shape = groups(access, main_contraction(access))
        for read in access.nodes.keys() - factor.keys():
            factor[read] = _epilogue_recomputation(access.free[read], shape, extents)
    return factor


def _nested(access: Access, extents: dict[str, int], target: Target) -> Iterator[tuple[Read, int]]:
    """The reductions that another one reads, in a region without products, and how often each is computed: once for as
    many results of the other as find room in the tile that holds what both run over."""
    for outer in access.reductions():
        for inner in below(access, outer).intersection(access.reductions()) - {outer}:
            swept = prod(next_power(extents[a]) for a in {*access.nodes[outer].bound, *access.nodes[inner].bound})
            absent = prod(extents[a] for a in access.free[outer] - access.free[inner])
            yield inner, max(1, absent // max(1, target.max_tile_elements // 2 // swept))


def _epilogue_recomputation(free: frozenset[str], shape: Groups, extents: dict[str, int]) -> int:
    """How often what varies over ``free`` is computed behind a contraction: in every program, and for every element of
    a tile's rows (columns) where it varies over some of the axes that lie along these."""
    times = prod(extents[a] for a in (*shape.batch, *shape.outer) if a not in free)
    for side in (shape.m, shape.n):
        absent = prod(extents[a] for a in side if a not in free)
        times *= absent if free & set(side) else max(1, absent // TILE_REUSE)
    return times


def _mark(access: Access, read: Read, times: int, factor: dict[Read, int]) -> None:
    stack = [read]
    while stack:
        current = stack.pop()
        if factor.get(current, 0) < times:
            factor[current] = times
            stack.extend(access.nodes[current].operands)


def _scalar_flops(access: Access, read: Read) -> int:
    op = access.nodes[read].op
    if op is None or op.name in ("contract", "constant", "size"):
        return 0
    if op.name == "gather" and len(op.inputs) > 1:
        return 1 if _reads_rows(access, access.nodes[read].operands[0]) else GATHERED
    return SCALARS[op.attrs["fn"]].flops if op.name == "pointwise" else 1


def _reads_rows(access: Access, read: Read) -> bool:
    """Whether neighbours in what is gathered are neighbours in memory: their addresses are one and what follows."""
    while (op := access.nodes[read].op) is not None and len(access.nodes[read].operands) == 1:
        if not GRAPH_OPS[op.name].view and op.name != "gather":
            return False
        (read,) = access.nodes[read].operands
    at_data = frozenset().union(*(access.free[index] for index in access.index_reads(read).values()))
    return any(is_in_line(read, a) for a in access.free[read] - at_data)


def _share(access: Access, chain: Chain | None, extents: dict[str, int], target: Target) -> float:
    """The share of the device that the grid of a region with reductions can use: rows are what runs in parallel."""
    if target.kind == "cpu" or not access.reductions():
        return 1.0
    if contractions(access):
        count = _program_count(access, chain)
        return min(1.0, count * _parts(access, chain, count, target) / target.sm_count)
    bound = {a for n in access.nodes.values() for a in n.bound}
    common = [access.free[r] for r in access.reductions()]
    rows = prod(extents[a] for a in access.axes if a not in bound and all(a in f for f in common))
    return min(1.0, max(rows, 1) / target.sm_count)


def _program_count(access: Access, chain: Chain | None) -> int:
    """How many programs a chain's grid has, at 64 rows a tile; a matrix form always has enough."""
    if chain is None:
        return 2**30
    rows = max((likely(access.axes[a]) for a in chain.row), default=1)
    count = prod(likely(access.axes[a]) for a in chain.grid) // min(rows, FEW_ROWS)
    return max(1, count // _sharing(access, rows))


def _sharing(access: Access, rows: int) -> int:
    """How many of ``rows`` rows each that read the same are rows of one tile, such as the queries of grouped heads."""
    for _, extent, stride, size in divided_axes(access, access.loads()):
        if stride == 1 and 1 < size < extent and extent % size == 0 and rows * size <= FEW_ROWS:
            return size
    return 1


def _parts(access: Access, chain: Chain | None, count: int, target: Target) -> int:
    """Into how many parts a chain's one sweep, which ``count`` programs run, can be cut."""
    if chain is None or len(chain.loops) != 1 or obstacle(chain.sweeps, chain.loops[0]):
        return 1
    return parts_for(access.axes[chain.loops[0]], count, target)


def _call_overhead(access: Access, target: Target) -> float:
    if not target.op_seconds:
        return 0.0
    elements = max((likely(root.value.type.numel) for _, root in access.roots), default=1)
    return target.op_seconds * len(access.nodes) * max(1, elements // TILE_ON_CPU)
