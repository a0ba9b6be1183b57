"""From compilations to the report."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rooftile import __version__
from rooftile.compilation import Compilation
from rooftile.ir.core import Graph
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add
from rooftile.ir.registered import fingerprint
from rooftile.report.accounting import (
    eager_bytes,
    known,
)
from rooftile.report.data import (
    BreakRow,
    BufferRow,
    DerivationRow,
    KernelRow,
    LedgerRow,
    NoteRow,
    PassRow,
    Quantity,
    Report,
    RuleStep,
    Totals,
)
from rooftile.report.kernels import KernelRows
from rooftile.report.position import target_row
from rooftile.report.remedies import remedy
from rooftile.runtime.cache_key import triton_version
from rooftile.runtime.plan import Buffer, Plan
from rooftile.target import Target


def report_of(compilations: Sequence[Compilation], uncompiled: int = 0, breaks: Sequence[BreakRow] = ()) -> Report:
    """The report on everything that was compiled for one model: one compilation for each graph but ``uncompiled`` of
    them."""
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
    found = {"rooftile": __version__, "torch": str(torch.__version__), "triton": triton_version()}
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
        self.rows = KernelRows(compilation, prefix)

    def shown(self, size: Size) -> Quantity:
        return known(size, self.sizes)

    def kernels(self) -> list[KernelRow]:
        return self.rows.of_calls() if self.compilation.plan else []

    def packed(self) -> list[KernelRow]:
        return self.rows.of_packing() if self.compilation.packing else []

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
        for work in self.rows.works:
            total = add(total, work.bytes)
        return total

    def computed(self) -> Size:
        total: Size = 0
        for work in self.rows.works:
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


def _totals(parts: Sequence[_Part]) -> Totals:
    peaks = [part.peak() for part in parts]
    return Totals(
        kernels=sum(len(part.rows.steps) for part in parts),
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
