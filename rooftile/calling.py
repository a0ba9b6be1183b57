"""From a call's arguments to its outputs: a compiled program with the writes, views and gradients around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import fx
from torch.autograd import forward_ad

from rooftile.compilation import Runnable
from rooftile.frontend.captured import Captured, FromInput, FromResult, Output, Plain, ViewOf
from rooftile.frontend.sizes import bind_sizes, to_sizes
from rooftile.ir.expr import Size
from rooftile.ir.strides import is_contiguous
from rooftile.ir.substitution import evaluate
from rooftile.recompute import differentiable, run_with_gradients
from rooftile.runtime.arguments import laid_out
from rooftile.runtime.packed import invalidate_all_of


class CompiledFunction:
    """What runs in place of a captured graph. It takes the graph's arguments in order and returns a tuple.

    ``original`` is the uncompiled function; it serves calls whose written inputs overlap other inputs in memory, where
    the order of reads and writes matters, calls with tangents, which torch carries forward, and calls with a negative
    integer: all of a program's are taken for sizes. ``invalidate`` makes
    the program forget what it keeps of the weights. A call that records gradients makes all programs forget it: whoever
    makes it is about to change weights.
    """

    def __init__(
        self,
        captured: Captured,
        program: Runnable,
        original: Callable[..., Any],
        invalidate: Callable[[], None] = lambda: None,
    ) -> None:
        self.captured = captured
        self.invalidate = invalidate
        self.program = program
        self._original = original
        self._least = {s.input: s.symbol.lo for s in captured.symbols if s.dim is None}
        self._tensors = [number for number, i in enumerate(captured.inputs) if i.kind != "size"]
        self._layouts = _uncommon_layouts(captured)
        self._tracks_gradients = any(captured.results_require_grad)
        self._apart: tuple[list[int], Mapping[str, int]] | None = None  # where inputs last lay without an overlap

    @cached_property
    def differentiable(self) -> fx.GraphModule:
        """The captured graph as autograd can run it."""
        return differentiable(self.captured.module)

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        sizes = bind_sizes(self.captured.symbols, arguments)
        is_less = any(arguments[number] < least for number, least in self._least.items())
        overlaps = not is_less and self.captured.mutations and self._written_input_overlaps(arguments, sizes)
        if is_less or overlaps or _have_tangents(arguments):
            return tuple(self._original(*arguments))
        results: Sequence[torch.Tensor]
        if self._tracks_gradients and torch.is_grad_enabled():
            trained = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
            invalidate_all_of(trained)
            results = run_with_gradients(self, sizes, arguments)
            invalidate_all_of(trained)
        else:
            results = self.run(arguments, sizes)
        for mutation in self.captured.mutations:
            written, value = arguments[mutation.input], results[mutation.result]
            if value is not written:  # else the program has written there at once
                with nullcontext() if mutation.tracked else torch.no_grad():
                    written.copy_(value)
        return tuple(_output(o, arguments, results, sizes) for o in self.captured.outputs)

    def run(self, arguments: Sequence[Any], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        """The results, without recording for autograd. One that is to be written over an input may be that input, which
        then is written to already."""
        if torch.is_grad_enabled():  # entering the context takes as long as all the rest here
            with torch.no_grad():
                return self.run(arguments, sizes)
        results = list(self.program([arguments[number] for number in self._tensors], sizes))
        for number, strides in self._layouts.items():
            results[number] = laid_out(results[number], _values(strides, sizes))
        return results

    def _written_input_overlaps(self, arguments: Sequence[Any], sizes: Mapping[str, int]) -> bool:
        """Whether a written input lies in the memory of another one. Asked in every call, mostly of the same memory:
        addresses and sizes say which it is, since strides follow from these."""
        tensors = [arguments[number] for number in self._tensors]
        here = list(map(torch.Tensor.data_ptr, tensors)), sizes
        if here == self._apart:
            return False
        storages = [tensor.untyped_storage().data_ptr() for tensor in tensors]
        written = {m.input for m in self.captured.mutations}
        overlaps = any(
            storages.count(storage) > 1
            for number, storage in zip(self._tensors, storages, strict=True)
            if number in written and storage
        )
        self._apart = None if overlaps else here
        return overlaps


def _have_tangents(arguments: Sequence[Any]) -> bool:
    """Whether derivatives are wanted forwards (``torch.autograd.forward_ad``)."""
    if forward_ad._current_level < 0:
        return False
    return any(isinstance(a, torch.Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in arguments)


def _uncommon_layouts(captured: Captured) -> dict[int, tuple[Size, ...]]:
    """The results that the user expects in another layout than row-major."""
    wanted: dict[int, tuple[Size, ...]] = {}
    for output in captured.outputs:
        base = output.base if isinstance(output, ViewOf) else output
        if isinstance(base, FromResult):
            shape = to_sizes(captured.results[base.result].meta["val"].shape)
            if not is_contiguous(shape, base.strides):
                wanted[base.result] = base.strides
    return wanted


def _values(sizes: Sequence[Size], bindings: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(size, bindings) for size in sizes)


def _output(output: Output, arguments: Sequence[Any], results: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> Any:
    match output:
        case FromResult(number):
            return results[number]
        case FromInput(number):
            return arguments[number]
        case ViewOf(base, shape, strides, offset, tracked, detached):
            shown = _output(base, arguments, results, sizes)
            start = shown.storage_offset() + evaluate(offset, sizes)
            shown = shown.detach() if detached else shown
            with nullcontext() if tracked or not torch.is_grad_enabled() else torch.no_grad():
                return shown.as_strided(_values(shape, sizes), _values(strides, sizes), start)
        case Plain(value):
            return evaluate(value, sizes) if not isinstance(value, (bool, float, str, type(None))) else value
