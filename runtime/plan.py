"""The plan of a program: its steps in order, the buffers that they read and write, and where each buffer lives.

A plan is plain data. Sizes in it may be symbolic; ``Plan.layout`` puts numbers in for one set of sizes, and so knows
the peak of memory before anything has run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from rooftile.codegen.kernel import Kernel
from rooftile.errors import InternalError
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.expr import Symbol, size_symbols
from rooftile.ir.strides import span, strides_of
from rooftile.ir.substitution import evaluate
from rooftile.passes.packing import input_kinds, is_packed, stacked
from rooftile.runtime.arena import Life, aligned, place
from rooftile.runtime.updates import InPlace, in_place

Role: TypeAlias = Literal["input", "weight", "intermediate", "output"]
Home: TypeAlias = Literal["argument", "arena", "fresh", "aten"]

_INDICES_FROM = {"gather": 1, "scatter": 2, "arrange": 1}  # the operand from which on there are indices
WEIGHTS = frozenset({"parameter", "buffer", "constant", "state", "packed"})


@dataclass(frozen=True)
class Buffer:
    """A tensor in memory.

    ``home`` says who makes it: the caller (``argument``), the plan in its ``arena`` or as a ``fresh`` tensor (a
    result), or ATen (what an extern call returns). It is needed from step ``first``, which writes it (-1: before all
    steps), to step ``last``. Values that are updated in place share one.
    """

    number: int
    name: str
    type: TensorType
    role: Role
    home: Home
    first: int
    last: int

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with its symbols bound."""
        return tuple(evaluate(s, sizes) for s in self.type.shape)

    def strides(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The strides in elements."""
        return strides_in(self.type, sizes)

    def bytes(self, sizes: Mapping[str, int]) -> int:
        """From the first element to the end of the last one; 0 for an empty tensor."""
        return span(self.shape(sizes), self.strides(sizes)) * self.type.dtype.bytes


@dataclass(frozen=True)
class Launch:
    """Run a kernel: its buffers are ``reads`` and then ``writes``, by number; its size arguments are bound by name."""

    op: Op
    kernel: Kernel
    reads: tuple[int, ...]
    writes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The region's name."""
        return str(self.op.attrs["name"])

    @property
    def visits(self) -> int | None:
        """The buffer that tells which steps of its sweep the kernel is to visit, where there is one."""
        return self.reads[-1] if "visits" in self.op.attrs else None

    @property
    def gathers(self) -> tuple[str, ...]:
        """Where in the model the region reads or writes at indices that are data."""
        ops = [op for op in self.op.regions[0].ops if len(op.inputs) > _INDICES_FROM.get(op.name, len(op.inputs))]
        return tuple(dict.fromkeys(op.loc.source or op.loc.module or "an unknown line" for op in ops))


@dataclass(frozen=True)
class Call:
    """Run an ``extern`` op through ATen; ``in_place``, so that it writes into the operand that it updates; ``into``
    memory of the plan's, where what it gives is kept from call to call and has to stay where it is."""

    op: Op
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    in_place: bool = False
    into: bool = False

    @property
    def name(self) -> str:
        """The ATen overload."""
        return str(self.op.attrs["target"])


Step: TypeAlias = Launch | Call


@dataclass(frozen=True)
class Result:
    """A result of the program: buffer number ``buffer`` itself, or a copy where somebody else holds that one.

    The caller's own tensor is a result where the plan has written over it what it is to become.
    """

    buffer: int
    copy: bool


@dataclass(frozen=True)
class Layout:
    """A plan's memory for one set of sizes, as one line of addresses in bytes: the arena, and behind it the ``fresh``
    results. ``offsets`` are those of the buffers in either, ``scratch`` those of the memory that steps work in.

    The peak counts what the plan allocates: arena, results, and what extern calls return; not the inputs, nor what
    ATen takes inside a call.
    """

    offsets: Mapping[int, int]
    scratch: Mapping[int, int]
    results: Mapping[int, int]
    arena_bytes: int
    peak_bytes: int

    def within(self, offset: int) -> tuple[int | None, int]:
        """The result in whose memory an address lies, None for the arena, and the address counted from its start."""
        behind = [(start, number) for number, start in self.results.items() if start <= offset]
        start, number = max(behind, default=(0, None))
        return number, offset - start


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs except the device: see the module's docstring."""

    name: str
    graph: Graph
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    results: tuple[Result, ...]

    @property
    def arguments(self) -> tuple[Buffer, ...]:
        """The buffers that the caller passes, in order."""
        return self.buffers[: len(self.graph.inputs)]

    @property
    def updated(self) -> tuple[int, ...]:
        """The arguments that the plan writes to."""
        return tuple(sorted({n for step in self.steps for n in step.writes if n < len(self.graph.inputs)}))

    @property
    def results_that_are_arguments(self) -> tuple[int | None, ...]:
        """For each result the argument that it is; None for a new tensor."""
        count = len(self.graph.inputs)
        return tuple(r.buffer if r.buffer < count and not r.copy else None for r in self.results)

    @property
    def launches(self) -> tuple[Launch, ...]:
        """The steps that run a kernel of ours."""
        return tuple(step for step in self.steps if isinstance(step, Launch))

    @property
    def stacks(self) -> dict[int, tuple[int, ...]]:
        """For each buffer into which weights are laid one behind the other, the arguments that these are, in order."""
        calls = [step for step in self.steps if isinstance(step, Call) and step.into]
        numbers = [dict(zip(step.op.inputs, step.reads, strict=True)) for step in calls]
        pairs = zip(calls, numbers, strict=True)
        return {step.writes[0]: tuple(number[v] for v in stacked(step.op)) for step, number in pairs}

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """Every run-time size that a run asks for, by name."""
        found = {s.name: s for s in self.graph.size_symbols()}
        for launch in self.launches:
            for size in launch.kernel.grid:
                found |= {s.name: s for s in size_symbols(size)}
        return tuple(found[name] for name in sorted(found))

    def layout(self, sizes: Mapping[str, int], scratch: Mapping[int, int] = MappingProxyType({})) -> Layout:
        """Place the buffers for these sizes, and the bytes of scratch memory that steps need, by the step's number."""
        inside = [b for b in self.buffers if b.home == "arena"]
        fresh = [b for b in self.buffers if b.home == "fresh"]
        lives, kept = ([Life(b.bytes(sizes), b.first, b.last) for b in some] for some in (inside, fresh))
        placement = place([*lives, *(Life(size, step, step) for step, size in scratch.items())], kept)
        results = sum(aligned(b.bytes(sizes)) for b in fresh)
        copies = sum(aligned(self.buffers[r.buffer].bytes(sizes)) for r in self.results if r.copy)
        outside = [b for b in self.buffers if b.home == "aten"]
        during = [sum(b.bytes(sizes) for b in outside if b.first <= n <= b.last) for n in range(len(self.steps) + 1)]
        held = [size + (copies if n == len(self.steps) else 0) for n, size in enumerate(during)]
        starts = dict(zip((b.number for b in fresh), placement.results, strict=True))
        offsets = dict(zip((b.number for b in inside), placement.offsets, strict=False))
        behind = dict(zip(scratch, placement.offsets[len(inside) :], strict=True))
        return Layout(offsets | starts, behind, starts, placement.bytes, placement.bytes + results + max(held))


def make_plan(graph: Graph, kernels: Mapping[Op, Kernel]) -> Plan:
    """The plan of a lowered graph, whose ops are ``region`` (a kernel for each) and ``extern``.

    Raises:
        InternalError: another op is left at the top level, or a kernel's buffers are not its region's.
    """
    update = in_place(graph)
    numbers = _numbers(graph, update)
    steps = tuple(_step(op, kernels, numbers) for op in update.ops)
    buffers = _buffers(graph, steps, numbers)
    results, handed_out = _results(graph, numbers, buffers)
    for number in handed_out:
        home: Home = "aten" if buffers[number].home == "aten" else "fresh"
        buffers[number] = replace(buffers[number], role="output", home=home)
    for result in results:
        buffers[result.buffer] = replace(buffers[result.buffer], last=len(steps))
    return Plan(graph.name, graph, tuple(buffers), steps, tuple(results))


def _numbers(graph: Graph, update: InPlace) -> dict[Value, int]:
    """The number of each value's buffer: arguments first, then in the order of the steps."""
    numbers = {value: number for number, value in enumerate(graph.inputs)}
    for op in update.ops:
        for value in op.outputs:
            home = update.home(value)
            numbers[value] = numbers[home] if home in numbers else len(set(numbers.values()))
    return numbers


def _step(op: Op, kernels: Mapping[Op, Kernel], numbers: Mapping[Value, int]) -> Step:
    reads, writes = (tuple(numbers[v] for v in values) for values in (op.inputs, op.outputs))
    if op.name == "extern":
        return Call(op, reads, writes, in_place=any(n in reads for n in writes), into=is_packed(op))
    if op.name != "region" or op not in kernels:
        raise InternalError(
            f"the plan got {op.name!r}, which is neither a kernel nor an ATen call", where=op.loc.source
        )
    kernel = kernels[op]
    wanted = sum(p.kind == "buffer" for p in kernel.params)
    if wanted != len(reads) + len(writes):
        has = f"{len(reads)} inputs and {len(writes)} outputs"
        raise InternalError(f"kernel {kernel.name} takes {wanted} buffers, its region has {has}", where=op.loc.source)
    return Launch(op, kernel, reads, writes)


def _buffers(graph: Graph, steps: Sequence[Step], numbers: Mapping[Value, int]) -> list[Buffer]:
    """All buffers, in order, with results still standing among the intermediates."""
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        last |= dict.fromkeys((*step.writes, *step.reads), number)
    kinds = input_kinds(graph)
    buffers: list[Buffer] = []
    for value, kind in zip(graph.inputs, kinds, strict=True):
        role: Role = "weight" if kind in WEIGHTS else "input"
        number = len(buffers)
        buffers.append(Buffer(number, value.name, value.type, role, "argument", -1, last.get(number, -1)))
    for first, step in enumerate(steps):
        home: Home = "arena" if isinstance(step, Launch) or step.into else "aten"
        for value in step.op.outputs:
            number = numbers[value]
            if number == len(buffers):
                buffers.append(Buffer(number, value.name, value.type, "intermediate", home, first, last[number]))
    return buffers


def _results(
    graph: Graph, numbers: Mapping[Value, int], buffers: Sequence[Buffer]
) -> tuple[list[Result], dict[int, None]]:
    """The results, and the buffers that the first mention of each hands out as they are; an argument stays the
    caller's, and is a result only where it has been written over."""
    over = dict(graph.attrs.get("updates") or ())
    results: list[Result] = []
    handed_out: dict[int, None] = {}
    for output, value in enumerate(graph.outputs):
        number = numbers[value]
        is_argument = buffers[number].home == "argument"
        copy = number != over.get(output) if is_argument else number in handed_out
        results.append(Result(number, copy))
        if not copy and not is_argument:
            handed_out[number] = None
    return results, handed_out


def strides_in(type: TensorType, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The strides in elements of a tensor of ``type``: the type's own, else row-major."""
    return tuple(evaluate(s, sizes) for s in type.strides or strides_of(type.shape))
