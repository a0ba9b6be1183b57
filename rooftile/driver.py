"""From an imported graph to a program: passes, kernels, plan, and what is written down on the way.

Read top to bottom, ``compile_graph`` is the compiler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TypeVar

import torch

from rooftile.bucketed import Bucketed, Choice
from rooftile.codegen.together import emit_all
from rooftile.compilation import Compilation, Runnable
from rooftile.config import CompileOptions, Config
from rooftile.dump import dump_folder, write_dump, write_repro
from rooftile.errors import InternalError, OptionError, nearest
from rooftile.externs import note_externs, require_none
from rooftile.first_call import Built
from rooftile.ir.core import Graph
from rooftile.ir.polynomial import mul
from rooftile.later import Later
from rooftile.logs import listen, log_compilation
from rooftile.measured import Measured
from rooftile.passes.base import PassContext
from rooftile.passes.launches import launches
from rooftile.passes.ledger import Remark
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.manager import REQUIRED, Manager
from rooftile.passes.pipeline import pipeline
from rooftile.passes.reschedule import Reschedule
from rooftile.passes.switches import Switches
from rooftile.plans import Plans
from rooftile.runtime.devices import default_device, default_target, target_of, with_index
from rooftile.runtime.plan import Plan
from rooftile.standins import Evaluated, Shaped
from rooftile.target import Target, target_named

_LOG = logging.getLogger("rooftile.driver")
_COLLECTED: ContextVar[tuple[list[Compilation], ...]] = ContextVar("collected", default=())
_TIMED: ContextVar[bool] = ContextVar("timed", default=False)
_T = TypeVar("_T")


def build_program(
    graph: Graph,
    options: CompileOptions | None = None,
    device: torch.device | None = None,
    sizes: Mapping[str, int] = MappingProxyType({}),
    notes: Sequence[Remark] = (),
    *,
    wait: bool = True,
) -> Built:
    """The program that computes an imported graph on ``device`` (the current GPU, or the CPU without one).

    On the meta device the graph is compiled like any other, and a call gives results without values. ``sizes`` are
    values of run-time sizes, as far as they are known, for which measured schedules are chosen; ``notes`` go into the
    ledger. Without ``wait`` it is the first call that waits for kernels for a GPU, and that is told of one that Triton
    refuses.

    Raises:
        RequirementError: something that ``options.require`` asks for does not hold.
        OptionError: ``options`` name a target or a pass that doesn't exist, or a folder that cannot be written.
        InternalError: a fault of ours; the graph and a script that shows it have been written where the error says.
    """
    options = options or CompileOptions()
    config = Config.from_env().with_options(options)
    listen(config.debug)
    device = with_index(device or default_device())
    target = target_named(config.target) if config.target else _target_of(device)
    _check_pass(config.stop_after)
    _check_without(config.without)
    with _leaving_repro(graph, target):
        compilation, program = compile_graph(graph, options, config, target, device, sizes, wait=wait)
    for decision, rule, reason, loc in notes:
        compilation.context.ledger.add(decision, rule=rule, values=(), reason=reason, locs=[loc])
    log_compilation(compilation)
    for collected in _COLLECTED.get():
        collected.append(compilation)
    timed = _TIMED.get() and device.type == "cuda"
    return Built(compilation, program, looked_at=bool(_COLLECTED.get()), timed=timed)


def compile_graph(
    graph: Graph,
    options: CompileOptions,
    config: Config,
    target: Target,
    device: torch.device,
    sizes: Mapping[str, int],
    *,
    wait: bool = True,
) -> tuple[Compilation, Runnable]:
    """Passes, kernels, plan, program, dump. Where the kernels cannot run here, something else stands in for them."""
    clock = _Clock()
    context = PassContext(target, options=options, switches=Switches(off=frozenset(config.without)))
    manager = Manager(config.verify, record=config.dump is not None, stop_after=config.stop_after)
    precision = fp32_precision(target)
    stages = clock("passes", lambda: manager.run(graph, pipeline(precision), context))
    measured = Measured(target, device, config, precision, sizes)
    better: Choice = {}
    lowered = stages[-1].graph
    if config.stop_after is None and (better := clock("tune", lambda: measured.better(lowered))):
        stages += manager.run(lowered, (Reschedule(better, precision),), context)[1:]
    compilation = Compilation(stages, context, device, seconds=clock.seconds)
    _say_unasked(context)
    note_externs(compilation.lowered, context.ledger)
    require_none(options, compilation.lowered)
    program: Runnable = Shaped(graph) if device.type == "meta" else Evaluated(graph)
    if _is_lowered(compilation.graph):
        shared = launches(compilation.graph)
        compilation.kernels = clock("emit", lambda: emit_all(shared, target, context.structures))
        plans = clock("plan", lambda: Plans.of(shared.graph, compilation.kernels))
        compilation.plan, compilation.packing = plans.every, plans.once
        _note_updates(compilation, plans.every)
        if target.kind == device.type:
            by_bucket = config.lock is not None and bool(lowered.size_symbols())
            program = Later(lambda: _built(clock, graph, plans, target, device, config, options))
            if wait or by_bucket or target.kind == "cpu":
                program = program.made()
            else:
                plans.begin(target, config)
            if by_bucket:
                program = bucketed(program, better, lowered, measured, options)
        elif device.type != "meta":
            _LOG.warning("kernels for %s do not run on %s: calls are computed by the reference", target.name, device)
    if config.dump is not None:
        _dump(compilation, config.dump)
    return compilation, program


def _built(
    clock: _Clock,
    graph: Graph,
    plans: Plans,
    target: Target,
    device: torch.device,
    config: Config,
    options: CompileOptions,
) -> Runnable:
    with _leaving_repro(graph, target):
        return clock("build", lambda: plans.loaded(target, device, config, options.mode))


@contextmanager
def _leaving_repro(graph: Graph, target: Target) -> Iterator[None]:
    """A fault of ours inside the ``with`` block leaves a script that shows it."""
    try:
        yield
    except InternalError as error:
        error.repro = error.repro or str(write_repro(graph, target))
        raise


def bucketed(
    program: Runnable, better: Choice, lowered: Graph, measured: Measured, options: CompileOptions
) -> Runnable:
    """``program``, which has the schedules of ``better``, and others where calls have sizes of another bucket."""

    def make(choice: Choice) -> Runnable:
        switches = Switches(off=frozenset(measured.config.without))
        context = PassContext(measured.target, options=options, switches=switches)
        graph = Manager().run(lowered, (Reschedule(choice, measured.precision),), context)[-1].graph
        shared = launches(graph)
        plans = Plans.of(shared.graph, emit_all(shared, measured.target))
        return plans.loaded(measured.target, measured.device, measured.config, options.mode)

    return Bucketed(program, better, lambda sizes: measured.better(lowered, sizes), make)


def _dump(compilation: Compilation, base: Path) -> None:
    try:
        compilation.dump = dump_folder(base)
        write_dump(compilation, compilation.dump)
    except OSError as error:
        fix = "name another folder, by ROOFTILE_DUMP or the option dump"
        raise OptionError(f"nothing can be dumped into {base}: {error.strerror}", fix=fix) from error


def fp32_precision(target: Target) -> str:
    """How fp32 contractions are to be multiplied: torch's own setting for matmuls. What is to be exact is the sum of
    three products on tensor cores, more exact than a sum in fp32 from 64 terms on and six times as fast."""
    if target.kind == "cpu":
        return EXACT_FP32
    try:
        exact = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # the newer setting has been used, and the two don't mix
        exact = torch.backends.cuda.matmul.fp32_precision != "tf32"
    return EXACT_FP32 if exact else "tf32"


@contextmanager
def collecting(*, timed: bool = False) -> Iterator[list[Compilation]]:
    """Every compilation that happens inside the ``with`` block, in order, in this thread.

    With ``timed``, the first call of a program on a GPU also measures each of its steps.
    """
    found: list[Compilation] = []
    tokens = _COLLECTED.set((*_COLLECTED.get(), found)), _TIMED.set(timed)
    try:
        yield found
    finally:
        _COLLECTED.reset(tokens[0])
        _TIMED.reset(tokens[1])


def _check_pass(name: str | None) -> None:
    names = ("import", *(each.name for each in pipeline()))
    if name is not None and name not in names:
        raise OptionError(f"stop_after={name!r}: there is no such pass", fix=nearest(name, names))


def _check_without(names: Sequence[str]) -> None:
    for name in names:
        if name in REQUIRED:
            raise OptionError(
                f"without={name!r}: no program comes about without this pass", fix=f"a rewrite in it: '{name}/rule'"
            )


def _say_unasked(context: PassContext) -> None:
    passes = {each.name for each in pipeline()}
    for name in context.switches.unasked() if context.switches is not None else ():
        if name not in passes:
            _LOG.warning("without=%r: nothing of that name was to be done", name)


def _target_of(device: torch.device) -> Target:
    return default_target() if device.type == "meta" else target_of(device)


def _is_lowered(graph: Graph) -> bool:
    """Whether every op is a kernel or an ATen call; not so where the pipeline was stopped early."""
    return all(op.name == "extern" or len(op.regions) == 2 for op in graph.ops)


def _note_updates(compilation: Compilation, plan: Plan) -> None:
    """What became of each write to an input. One that is made apart is read and written once more."""
    graph = compilation.graph
    makers = graph.producers()
    for output, number in graph.attrs.get("updates") or ():
        value, over = graph.outputs[output], graph.inputs[number]
        is_there = plan.results_that_are_arguments[output] == number
        how = "at once" if is_there else "apart and then copied"
        why = "" if is_there else ", since its old value is wanted at other places, or it is laid out otherwise"
        compilation.context.ledger.add(
            "in place" if is_there else "copied",
            rule="update",
            values=[value.name],
            reason=f"%{value.name} is written {how} over %{over.name}{why}",
            bytes=0 if is_there else mul(over.type.bytes, -2),
            locs=[makers[value].loc] if value in makers else [],
        )


class _Clock:
    """Runs parts of a compilation and remembers what each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, part: Callable[[], _T]) -> _T:
        start = perf_counter()
        result = part()
        self.seconds[name] = perf_counter() - start
        return result
