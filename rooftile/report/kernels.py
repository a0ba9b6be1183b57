"""The rows of kernels: what each launch moves and computes, how it is scheduled, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from rooftile.compilation import Compilation
from rooftile.ir.core import Graph, Loc, Op
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add
from rooftile.ir.schedule import Schedule
from rooftile.ir.steps import loop_steps
from rooftile.passes.regions.sizes import known_sizes
from rooftile.report.accounting import Work, extern_work, kernel_work, known, library_work, lines, op_names, sources
from rooftile.report.data import KernelRow, Loop, MemberRow, Position, ResourcesRow
from rooftile.report.position import estimate, position
from rooftile.report.skipped import without_skipped
from rooftile.runtime.plan import Call, Launch, Plan, Step


@dataclass(frozen=True)
class Member:
    """A region that runs in a launch, alone or beside others, with its schedule and its work."""

    op: Op
    schedule: Schedule
    loops: tuple[Loop, ...]
    work: Work


@dataclass
class KernelRows:
    """The rows of one compilation. ``prefix`` tells its buffers from those of other graphs."""

    compilation: Compilation
    prefix: str

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.compilation.sizes

    @property
    def steps(self) -> Sequence[Step]:
        """What a call runs."""
        return self.compilation.plan.steps if self.compilation.plan else ()

    @cached_property
    def works(self) -> list[Work]:
        """What each step moves and computes."""
        return [self.work(step, self.members(step)) for step in self.steps]

    @cached_property
    def before(self) -> dict[str, Loc]:
        """Where in the model each value of the graph is from that the ledger speaks of. Inside a region, a value that
        was made there may have the name of another one outside."""
        stages = self.compilation.flat
        return {v.name: op.loc for op in stages[-1].graph.ops for v in op.outputs} if stages else {}

    def of_calls(self) -> list[KernelRow]:
        """The rows of what every call runs."""
        times = dict(enumerate(self.compilation.step_us))
        assert self.compilation.plan is not None
        return [self.kernel(step, self.compilation.plan, times.get(n)) for n, step in enumerate(self.steps)]

    def of_packing(self) -> list[KernelRow]:
        """The rows of what is computed from weights alone."""
        plan = self.compilation.packing
        return [self.kernel(step, plan) for step in plan.steps] if plan else []

    def members(self, step: Step) -> list[Member]:
        """The regions that a step runs: those of a shared launch, in their order there, else its own."""
        if isinstance(step, Call):
            return []
        made = set(step.op.outputs)
        ops = [step.op]
        if len(step.op.regions) > 2:
            ops = [op for op in self.compilation.graph.ops if made.issuperset(op.outputs)]
            ops.sort(key=lambda op: int(op.attrs["launch"][1]))
        told = self.compilation.visits.get(-1 if step.visits is None else step.visits)
        return [self.member(op, told) for op in ops]

    def member(self, op: Op, told: torch.Tensor | None) -> Member:
        body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)
        loops = tuple(self.loops_of(op.regions[1], told))
        return Member(op, schedule, loops, without_skipped(kernel_work(body), body, schedule, loops, self.sizes))

    def work(self, step: Step, members: Sequence[Member]) -> Work:
        """The work of a step; what several kernels of one launch read is moved once."""
        if isinstance(step, Call):
            return self.work_of_call(step.op)
        first, *others = (member.work for member in members)
        for each in others:
            matmul = add(first.matmul_flops, each.matmul_flops)
            first = replace(first, matmul_flops=matmul, scalar_flops=add(first.scalar_flops, each.scalar_flops))
        return replace(first, bytes=kernel_work(step.op.regions[0]).bytes) if others else first

    def work_of_call(self, op: Op) -> Work:
        """The work of an ATen call."""
        if not self.compilation.is_library(op):
            return extern_work(op)
        instead = next((o for o in self.compilation.lowered.ops if set(op.outputs) & set(o.outputs)), None)
        return library_work(op, extern_work(op) if instead is None else self.member(instead, None).work)

    def kernel(self, step: Step, plan: Plan, time_us: float | None = None) -> KernelRow:
        """The row of one step of ``plan``."""
        extern, library = isinstance(step, Call), self.compilation.is_library(step.op)
        members = self.members(step)
        work = self.work(step, members)
        ops = tuple(op for each in members for op in each.op.regions[0].ops) if members else (step.op,)
        counted = not extern or library
        return KernelRow(
            name=step.name,
            kind="library" if library else "extern" if extern else "triton",
            launches=1,
            schedule=self.schedule([each.schedule for each in members]),
            loops=tuple(loop for each in members for loop in each.loops),
            reads=tuple(self.prefix + plan.buffers[n].name for n in dict.fromkeys(step.reads)),
            writes=tuple(self.prefix + plan.buffers[n].name for n in step.writes),
            bytes=known(work.bytes, self.sizes),
            flops=known(work.flops, self.sizes) if counted else None,
            floor_us=work.floor_us(self.compilation.target, self.sizes) if counted else None,
            time_us=time_us,
            ops=tuple(n for each in members for n in op_names(each.op.regions[0])) if members else (step.name,),
            sources=sources(ops),
            notes=step.kernel.notes if isinstance(step, Launch) else (),
            lines=lines(ops),
            values=tuple(v.name for op in ops for v in op.outputs if self.before.get(v.name) == op.loc),
            roofline=self.position(members, work) if counted else None,
            resources=None if extern else self.resources(step),
            members=tuple(map(self.member_row, members)) if len(members) > 1 else (),
        )

    def member_row(self, member: Member) -> MemberRow:
        return MemberRow(
            name=str(member.op.attrs["name"]),
            schedule=self.schedule([member.schedule]),
            loops=member.loops,
            flops=known(member.work.flops, self.sizes),
            estimate_us=self.estimate(member),
            ops=op_names(member.op.regions[0]),
            lines=lines(member.op.regions[0].ops),
        )

    def position(self, members: Sequence[Member], work: Work) -> Position | None:
        """Where a step stands; kernels of one launch are expected to take what they take apart, but for launches."""
        target = self.compilation.target
        expected = None
        if members:
            launch_us = target.launch_seconds * 1e6
            expected = launch_us + sum(self.estimate(each) - launch_us for each in members)
        return position(work, expected, target, self.sizes)

    def estimate(self, member: Member) -> float:
        """What a region is expected to take in a launch of its own, with the sizes of the call that is told of."""
        with known_sizes(self.sizes):
            return estimate(member.op.regions[0], member.schedule, self.compilation.target, self.done(member))

    def done(self, member: Member) -> float:
        """The share of a region's arithmetic that is in steps which are run."""
        sizes: tuple[Size, Size] = (kernel_work(member.op.regions[0]).flops, member.work.flops)
        whole, run = (known(size, self.sizes) for size in sizes)
        return run / whole if isinstance(whole, int) and isinstance(run, int) and whole else 1.0

    def resources(self, step: Step) -> ResourcesRow | None:
        used = self.compilation.resources.get(step.op)
        return None if used is None else ResourcesRow(used.registers, used.spill_bytes, used.shared_bytes)

    def schedule(self, schedules: Sequence[Schedule]) -> dict[str, Any]:
        """A schedule as data; of several in one launch, what they have in common."""
        if not schedules:
            return {}
        first = schedules[0]
        options = {"num_warps": first.num_warps, "num_stages": first.num_stages, **first.options()}
        if len(schedules) > 1:
            others = [
                each.options() | {"num_warps": each.num_warps, "num_stages": each.num_stages} for each in schedules
            ]
            return {key: value for key, value in options.items() if all(each.get(key) == value for each in others)}
        axes = [
            {"axis": a.name, "extent": known(a.extent, self.sizes), "role": a.role, "tile": a.tile} for a in first.axes
        ]
        group = None if first.group is None else list(first.group)
        return {"axes": axes, "grid": list(first.grid), "group": group, **options}

    def loops_of(self, kernel: Graph, told: torch.Tensor | None) -> list[Loop]:
        if any(s.name not in self.sizes for s in kernel.size_symbols()):
            return [Loop(name, None, None, ()) for name, _, role, _ in kernel.attrs["axes"] if role == "loop"]
        counted = loop_steps(kernel, self.sizes, told)
        return [Loop(each.axis, each.visited, each.total, each.phases) for each in counted]
