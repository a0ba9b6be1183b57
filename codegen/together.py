"""Several kernels in one launch: tiles of the first, then of the second, and so on, each by a function of its own.

Programs that would be the last of one kernel run beside the first of the next, so that fewer multiprocessors wait at
the end. What the kernels read alike is passed once. Nothing but the number of the tile decides which function runs, so
that each keeps its own loop, with loads ahead, and its own epilogue.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from rooftile.codegen.draft import Draft
from rooftile.codegen.emit import Emission, buffer_name, draft, file_context, names_used
from rooftile.codegen.example import example
from rooftile.codegen.grid import launch_grid
from rooftile.codegen.header import schedule_line
from rooftile.codegen.kernel import Blocks, Kernel, KernelParam
from rooftile.codegen.names import Names, readable
from rooftile.codegen.statements import Assign, Branch, Call, Loop, Statement
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.schedule import option
from rooftile.ir.stems import stem
from rooftile.ir.structure import Structures
from rooftile.passes.launches import Launches
from rooftile.target import Target


@dataclass(frozen=True)
class Member:
    """One of the kernels: what is done once before its tiles, and the function that computes tile ``pid`` from
    ``params``."""

    name: str
    before: list[Statement]
    body: list[Statement]
    params: tuple[str, ...]
    tiles: int
    schedule: str
    notes: tuple[str, ...]

    def call(self, first: int) -> Call:
        """The call for the tile ``pid``, this kernel's own being numbered from ``first``."""
        number = "pid" if first == 0 else f"pid - {first}"
        return Call(f"{self.name}({', '.join((number, *self.params[1:]))})")


def draft_together(op: Op, inputs: Sequence[Sequence[int]], target: Target) -> Draft:
    """The kernel of a region whose kernels share a launch; kernel ``n`` reads those of the region's inputs that
    ``inputs[n]`` numbers, and the kernels' outputs are the region's, one kernel's after another's.

    All kernels have the same warps and stages, no run-time sizes, and are persistent or none is.
    """
    body, *kernels = op.regions
    names = Names()
    name = names.fresh(readable(str(op.attrs["name"]), "kernel"))
    shared = [buffer_name(v, names) for v in body.inputs]
    written = [buffer_name(v, names) for v in body.outputs]
    members: list[Member] = []
    descriptors: dict[Blocks, KernelParam] = {}
    rest = iter(written)
    for kernel, numbers in zip(kernels, inputs, strict=True):
        own = [shared[n] for n in numbers] + [next(rest) for _ in range(kernel.attrs["outputs"])]
        members.append(_member(kernel, target, names, dict(zip(kernel.inputs, own, strict=True)), descriptors))
    buffers = dict(zip((*body.inputs, *body.outputs), (*shared, *written), strict=True))
    statements = _statements(members, target, bool(option(kernels[0].attrs, "persistent")))
    most = target.sm_count if option(kernels[0].attrs, "persistent") else None
    passed = (KernelParam(text, "buffer", value.dtype.name) for value, text in buffers.items())
    params = (*passed, *descriptors.values())
    total, attrs = sum(m.tiles for m in members), kernels[0].attrs
    notes = (_note(members), *(f"{m.name}: {note}" for m in members for note in m.notes))
    plain = Kernel(
        name, "", params, (total,), attrs["num_warps"], attrs["num_stages"], most, target.launches_early, notes
    )
    schedules = [f"{m.name}: {m.schedule}" for m in members]
    context = file_context(statements, plain, members) | example(plain, buffers, len(body.outputs), body)
    return Draft.of(plain, schedules, target, body, context)


def emit_all(shared: Launches, target: Target, structures: Structures | None = None) -> dict[Op, Kernel]:
    """The Triton text of every launch's kernel; what is alike, as ``structures`` tell, is written once."""
    structures = structures or Structures(named=True)
    drafts: dict[Hashable, Draft] = {}
    kernels: dict[Op, Kernel] = {}
    for op in shared.graph.ops:
        if op.name != "region":
            continue
        called, inputs = str(op.attrs["name"]), shared.inputs.get(op)
        key = (stem(called), inputs, *map(structures.of, op.regions))
        if key not in drafts:
            body, kernel = op.regions[:2]
            drafts[key] = draft(kernel, target, body) if inputs is None else draft_together(op, inputs, target)
        name = called if inputs is None else drafts[key].kernel.name
        kernels[op] = drafts[key].named(name, op.regions[0])
    return kernels


def _member(
    kernel: Graph,
    target: Target,
    names: Names,
    buffers: dict[Value, str],
    descriptors: dict[Blocks, KernelParam],
) -> Member:
    emission = Emission(kernel, target, names, buffers, descriptors, "pid")
    statements = emission.statements()
    before: list[Statement] = []
    last = statements[-1]
    if option(kernel.attrs, "persistent") and isinstance(last, Loop) and last.variable == "pid":
        before, statements = statements[:-1], last.body
    given = [*buffers.values(), *(param.name for param in descriptors.values())]
    known = [*given, *(n for s in before if isinstance(s, Assign) for n in s.target.split(", "))]
    used = names_used(statements)
    params = ("pid", *(n for n in known if n in used))
    (tiles,) = launch_grid(kernel, emission.space)
    schedule = schedule_line(kernel, emission.space)
    return Member(emission.name, before, statements, params, int(str(tiles)), schedule, tuple(emission.notes))


def _statements(members: Sequence[Member], target: Target, persistent: bool) -> list[Statement]:
    ends = [0, *accumulate(m.tiles for m in members)]
    # One `if` behind another: in an `else`, Triton 3.6 gives loops memory of their own, beside that of the others.
    calls: list[Statement] = []
    for member, (first, end) in zip(members, pairwise(ends), strict=True):
        behind, before_end = f"pid >= {first}", f"pid < {end}"
        test = before_end if first == 0 else behind if end == ends[-1] else f"({behind}) and ({before_end})"
        calls.append(Branch(test, [member.call(first)]))
    before = [s for m in members for s in m.before]
    if not persistent:
        return [*before, Assign("pid", "tl.program_id(0)"), *calls]
    comment = "tile by tile"
    start, stop = "tl.program_id(0)", str(ends[-1])
    return [*before, Loop("pid", start, stop, target.sm_count, comment, ("flatten=False",), calls)]


def _note(members: Sequence[Member]) -> str:
    counts = ", ".join(f"{m.tiles} of {m.name}" for m in members)
    return f"One launch of {len(members)} kernels, tiles in this order: {counts}."
