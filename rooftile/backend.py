"""The Dynamo backend. ``torch.compile(model, backend="rooftile")`` finds it by its entry point."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

import torch
from torch import fx

from rooftile.calling import CompiledFunction
from rooftile.collection import no_collections
from rooftile.compilation import Runnable
from rooftile.config import CompileOptions
from rooftile.driver import build_program
from rooftile.errors import RequirementError, UnsupportedError
from rooftile.externs import notes_of, require_no_calls
from rooftile.first_call import Built
from rooftile.frontend.captured import Captured
from rooftile.frontend.cutting import calls_of
from rooftile.frontend.dynamo import capture_dynamo, why_again
from rooftile.frontend.importer import import_captured
from rooftile.in_pieces import in_pieces
from rooftile.ir.core import UNKNOWN
from rooftile.known import KnownGraph
from rooftile.runtime.compile_client import compile_client

_log = logging.getLogger("rooftile")
_MADE: dict[CompileOptions, WeakSet[CompiledFunction]] = {}
_MADE_GUARD = threading.Lock()


def rooftile_backend(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compile one of Dynamo's graphs. ``mode`` and ``options`` are those given to ``torch.compile``.

    Raises:
        OptionError: an unknown mode or option.
        RequirementError: something that ``options["require"]`` asks for does not hold.
    """
    return Backend(CompileOptions.from_user(mode, None, options))(module, example_inputs)


@dataclass(frozen=True)
class Backend:
    """The backend with its options checked. Dynamo takes backends with the same options for one, and calls what the
    first has compiled for all of them: ``made`` is what they have compiled together."""

    options: CompileOptions

    @property
    def made(self) -> WeakSet[CompiledFunction]:
        """What was compiled with these options."""
        return _MADE.setdefault(self.options, WeakSet())

    def __call__(self, module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        """Compile, or where the graph cannot be captured return it as it is and say so."""
        on_gpu = any(isinstance(x, torch.Tensor) and x.is_cuda for x in example_inputs)
        known = KnownGraph.of(module, example_inputs, self.options) if on_gpu else None
        if known is not None and not known.is_known():
            compile_client().start()  # it loads Triton while the graph is looked at
        try:
            with no_collections():
                captured = capture_dynamo(module, example_inputs)
                compiled = compile_captured(captured, self.options, module.forward, why_again(), wait=False)
            with _MADE_GUARD:
                self.made.add(compiled)
            if known is not None:
                known.remember()
            return compiled
        except UnsupportedError as error:
            if "no-extern" in self.options.require:
                raise RequirementError("no-extern", error.what, where=error.where, fix=error.fix) from error
            _log.warning("a graph runs uncompiled: %s", error)
            return module.forward

    def invalidate(self) -> None:
        """Compute what is kept of weights anew in the next calls of all that was compiled."""
        with _MADE_GUARD:
            made = list(self.made)
        for function in made:
            function.invalidate()


def compile_captured(
    captured: Captured,
    options: CompileOptions,
    original: Callable[..., Any] | None = None,
    again: str = "",
    *,
    wait: bool = True,
) -> CompiledFunction:
    """Import and compile a capture. ``original`` is for calls that need the uncompiled function; ``again`` says why the
    same code is compiled once more, ``wait`` whether kernels are waited for now or at the first call."""
    device, sizes = _device(captured), _shown_sizes(captured)
    calls = calls_of(captured)
    require_no_calls(options, calls)
    if calls:  # what lies between them is called with other tensors each time
        options = replace(options, mode="default")
    made: list[Built] = []

    def compile(part: Captured) -> Runnable:
        imported = import_captured(part)
        notes = () if made else (*([("compiled again", "guard", again, UNKNOWN)] if again else ()), *notes_of(calls))
        program = build_program(imported.graph, options, device, sizes, notes, wait=wait)
        made.append(program)
        return _Bound(program, imported.constants) if imported.constants else program

    def invalidate() -> None:
        for program in made:
            program.invalidate()

    program = in_pieces(captured, compile) if calls else compile(captured)
    return CompiledFunction(captured, program, original or captured.module.forward, invalidate)


def _device(captured: Captured) -> torch.device:
    """Where the program runs: the GPU that an input is on, else the CPU."""
    shown = [i.node.meta["val"] for i in captured.inputs if i.kind != "size"]
    devices = [x.device for x in shown] + [node.meta["val"].device for node in captured.results]
    return next((d for d in devices if d.type != "cpu"), torch.device("cpu"))


def _shown_sizes(captured: Captured) -> dict[str, int]:
    """The run-time sizes of the inputs that were captured with."""
    shown = [each.node.meta["val"] for each in captured.inputs]
    found: dict[str, int] = {}
    for source in captured.symbols:
        size = source.read(shown)
        if isinstance(size, torch.SymInt) and isinstance(size.node.hint, int):
            found[source.symbol.name] = source.of(size.node.hint)
    return found


@dataclass(frozen=True)
class _Bound:
    """A program whose last inputs are tensors that the graph holds itself."""

    program: Runnable
    constants: tuple[torch.Tensor, ...]

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        return self.program([*tensors, *self.constants], sizes)
