"""From compilations to the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from typing import Any

import torch

from rooftile import __version__
from rooftile.compilation import Compilation
from rooftile.ir.core import Graph, Loc
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add
from rooftile.ir.registered import fingerprint
from rooftile.ir.schedule import Schedule
from rooftile.ir.steps import loop_steps
from rooftile.report.accounting import (
    Work,
    eager_bytes,
    extern_work,
    kernel_work,
    known,
    library_work,
    lines,
    op_names,
    sources,
)
from rooftile.report.data import (
    BreakRow,
    BufferRow,
    DerivationRow,
    KernelRow,
    LedgerRow,
    Loop,
    NoteRow,
    PassRow,
    Position,
    Quantity,
    Report,
    ResourcesRow,
    RuleStep,
    Totals,
)
from rooftile.report.position import estimate, position, target_row
from rooftile.report.remedies import remedy
from rooftile.report.skipped import without_skipped
from rooftile.runtime.plan import Buffer, Call, Launch, Plan, Step
from rooftile.target import Target


def report_of(compilations: Sequence[Compilation], uncompiled: int = 0, breaks: Sequence[BreakRow] = ()) -> Report:
    """The report on everything that was compiled for one model:

    one compilation for each graph but ``uncompiled`` of them.
    """
    parts = [_Part(c, "" if len(compilations) == 1 else f"{number}/") for number, c in enumerate(compilations)]
    seconds: dict[str, float] = {}
    for c in compilations:
        for name, spent in c.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
    return Report(
        device=_device_text(compilations),
        versions=versions(),
        kernels=tuple(row for part in parts for row in part.kernels()),
        packed=tuple(row for part in parts for row in part.packed()),
        buffers=tuple(row for part in parts for row in part.buffers()),
        ledger=tuple(row for part in parts for row in part.ledger()),
        derivations=tuple(row for part in parts for row in part.derivations()),
        totals=_totals(parts),
        notes=tuple(NoteRow(n.value, n.text, n.source) for c in compilations for n in c.context.notes),
        graphs=len(parts) + uncompiled,
        uncompiled=uncompiled,
        breaks=tuple(breaks),
        seconds={name: round(spent, 4) for name, spent in seconds.items()},
        passes=tuple(row for c in compilations for row in passes(c)),
        target=target_row(compilations[0].target) if compilations else None,
        compilations=tuple(compilations),
    )


def passes(compilation: Compilation) -> list[PassRow]:
    """What each pass did to the graph."""
    return [PassRow(s.name, round(s.seconds, 6), s.changed, op_count(s.graph)) for s in compilation.stages]


def op_count(graph: Graph) -> int:
    """How many ops a graph has, those of its regions in their place, kernels not counted."""
    return sum(op_count(op.regions[0]) if op.name == "region" else 1 for op in graph.ops)


def versions() -> dict[str, str]:
    """The versions that decide what a compilation gives."""
    found = {"rooftile": __version__, "torch": str(torch.__version__)}
    try:
        found["triton"] = metadata.version("triton")
    except metadata.PackageNotFoundError:
        found["triton"] = "none"
    return found | fingerprint()


def _device_text(compilations: Sequence[Compilation]) -> str:
    texts = dict.fromkeys(device_text(c.target, c.device) for c in compilations)
    return ", ".join(texts) or "no graph was compiled"


def device_text(target: Target, device: torch.device) -> str:
    """What kernels are for and what runs them."""
    if target.kind == "cpu":
        return "cpu, through the interpreter"
    if device.type == "cuda":
        return f"{target.name}: {torch.cuda.get_device_name(device)}"
    return f"{target.name}, not here"


class _Part:
    """The rows of one compilation. ``prefix`` tells its buffers from those of other graphs."""

    def __init__(self, compilation: Compilation, prefix: str) -> None:
        self.compilation = compilation
        self.prefix = prefix
        self.sizes = compilation.sizes
        self.steps: Sequence[Step] = compilation.plan.steps if compilation.plan else ()
        self.before = _values_before_regions(compilation)

    def shown(self, size: Size) -> Quantity:
        return known(size, self.sizes)

    @cached_property
    def works(self) -> list[Work]:
        """What each step moves and computes."""
        return [self.work(step) for step in self.steps]

    def work(self, step: Step) -> Work:
        if isinstance(step, Launch):
            body, schedule = step.op.regions[0], Schedule.from_attrs(step.op.attrs)
            return without_skipped(kernel_work(body), body, schedule, self.loops(step), self.sizes)
        return library_work(step.op) if self.compilation.is_library(step.op) else extern_work(step.op)

    def kernels(self) -> list[KernelRow]:
        plan, times = self.compilation.plan, dict(enumerate(self.compilation.step_us))
        pairs = zip(self.steps, self.works, strict=True)
        return [self.kernel(s, work, plan, times.get(n)) for n, (s, work) in enumerate(pairs)] if plan else []

    def packed(self) -> list[KernelRow]:
        plan = self.compilation.packing
        return [self.kernel(step, self.work(step), plan) for step in plan.steps] if plan else []

    def kernel(self, step: Step, work: Work, plan: Plan, time_us: float | None = None) -> KernelRow:
        extern = isinstance(step, Call)
        library = self.compilation.is_library(step.op)
        schedule = None if extern else Schedule.from_attrs(step.op.attrs)
        ops = (step.op,) if extern else step.op.regions[0].ops
        return KernelRow(
            name=step.name,
            kind="library" if library else "extern" if extern else "triton",
            launches=1,
            schedule={} if schedule is None else self.schedule(schedule),
            loops=self.loops(step) if isinstance(step, Launch) else (),
            reads=tuple(self.prefix + plan.buffers[n].name for n in dict.fromkeys(step.reads)),
            writes=tuple(self.prefix + plan.buffers[n].name for n in step.writes),
            bytes=self.shown(work.bytes),
            flops=None if extern and not library else self.shown(work.flops),
            floor_us=None if extern and not library else work.floor_us(self.compilation.target, self.sizes),
            time_us=time_us,
            ops=(step.name,) if extern else op_names(step.op.regions[0]),
            sources=sources(ops),
            notes=step.kernel.notes if isinstance(step, Launch) else (),
            lines=lines(ops),
            values=tuple(v.name for op in ops for v in op.outputs if self.before.get(v.name) == op.loc),
            roofline=self.position(step, work, schedule) if schedule is not None or library else None,
            resources=None if extern else self.resources(step),
        )

    def position(self, step: Step, work: Work, schedule: Schedule | None) -> Position | None:
        target = self.compilation.target
        expected = None
        if schedule is not None and len(step.op.regions) == 2:  # more kernels have no one schedule to be priced by
            expected = estimate(step.op.regions[0], schedule, target, self.done(step, work))
        return position(work, expected, target, self.sizes)

    def done(self, step: Step, work: Work) -> float:
        """The share of a region's arithmetic that is in steps which are run."""
        whole, run = self.shown(kernel_work(step.op.regions[0]).flops), self.shown(work.flops)
        return run / whole if isinstance(whole, int) and isinstance(run, int) and whole else 1.0

    def resources(self, step: Step) -> ResourcesRow | None:
        used = self.compilation.resources.get(step.op)
        return None if used is None else ResourcesRow(used.registers, used.spill_bytes, used.shared_bytes)

    def schedule(self, schedule: Schedule) -> dict[str, Any]:
        axes = [{"axis": a.name, "extent": self.shown(a.extent), "role": a.role, "tile": a.tile} for a in schedule.axes]
        return {
            "axes": axes,
            "grid": list(schedule.grid),
            "group": None if schedule.group is None else list(schedule.group),
            "num_warps": schedule.num_warps,
            "num_stages": schedule.num_stages,
            **schedule.options(),
        }

    def loops(self, step: Launch) -> tuple[Loop, ...]:
        visits = self.compilation.visits.get(-1 if step.visits is None else step.visits)
        return tuple(loop for kernel in step.op.regions[1:] for loop in self.loops_of(kernel, visits))

    def loops_of(self, kernel: Graph, visits: torch.Tensor | None) -> list[Loop]:
        if any(s.name not in self.sizes for s in kernel.size_symbols()):
            return [Loop(name, None, None, ()) for name, _, role, _ in kernel.attrs["axes"] if role == "loop"]
        counted = loop_steps(kernel, self.sizes, visits)
        return [Loop(each.axis, each.visited, each.total, each.phases) for each in counted]

    def buffers(self) -> list[BufferRow]:
        return [self.buffer(b) for b in self.compilation.plan.buffers] if self.compilation.plan else []

    def buffer(self, b: Buffer) -> BufferRow:
        shape = tuple(self.shown(s) for s in b.type.shape)
        return BufferRow(self.prefix + b.name, shape, b.type.dtype.name, self.shown(b.type.bytes), b.role)

    def ledger(self) -> list[LedgerRow]:
        return [
            LedgerRow(
                e.decision,
                e.rule,
                e.values,
                e.reason,
                None if e.bytes is None else self.shown(e.bytes),
                e.sources,
                remedy(e),
            )
            for e in self.compilation.context.ledger
        ]

    def derivations(self) -> list[DerivationRow]:
        return [
            DerivationRow(d.value, tuple(RuleStep(s.rule, s.before, s.after) for s in d.steps))
            for d in self.compilation.context.derivations
        ]

    def moved(self) -> Size:
        total: Size = 0
        for work in self.works:
            total = add(total, work.bytes)
        return total

    def computed(self) -> Size:
        total: Size = 0
        for work in self.works:
            total = add(total, work.flops)
        return total

    def peak(self) -> Quantity:
        plan = self.compilation.plan
        if self.compilation.peak_bytes is not None:
            return self.compilation.peak_bytes
        if plan is None or not all(s.name in self.sizes for s in plan.symbols):
            return None
        return plan.layout(self.sizes).peak_bytes

    def kept(self) -> Size:
        """The bytes of what is computed once."""
        plan: Plan | None = self.compilation.packing
        total: Size = 0
        for value in plan.graph.outputs if plan else ():
            total = add(total, value.type.bytes)
        return total


def _values_before_regions(compilation: Compilation) -> dict[str, Loc]:
    """Where in the model each value of the graph is from that the ledger speaks of. Inside a region, a value that was
    made there may have the name of another one outside."""
    stages = [s.graph for s in compilation.stages if all(op.name != "region" for op in s.graph.ops)]
    return {v.name: op.loc for op in stages[-1].ops for v in op.outputs} if stages else {}


def _totals(parts: Sequence[_Part]) -> Totals:
    peaks = [part.peak() for part in parts]
    return Totals(
        kernels=sum(len(part.steps) for part in parts),
        bytes=_sum([part.shown(part.moved()) for part in parts]),
        eager_bytes=_sum([part.shown(eager_bytes(part.compilation.imported)) for part in parts]),
        flops=_sum([part.shown(part.computed()) for part in parts]),
        kept_bytes=_sum([part.shown(part.kept()) for part in parts]),
        peak_bytes=max((p for p in peaks if isinstance(p, int)), default=None) if None not in peaks else None,
    )


def _sum(quantities: Sequence[Quantity]) -> Quantity:
    """The total; text where a part is text."""
    numbers = sum(q for q in quantities if isinstance(q, int))
    texts = [q for q in quantities if isinstance(q, str)]
    return numbers if not texts else " + ".join([*texts, *([str(numbers)] if numbers else [])])
