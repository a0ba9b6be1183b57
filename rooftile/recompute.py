"""Gradients by recomputation: the compiled forward is the inference graph; backward runs the captured with autograd.

Nothing is saved but the inputs, so that no intermediate (least of all attention's probabilities) is kept alive between
forward and backward. The price is one uncompiled forward per backward.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.utils.checkpoint import get_device_states, set_device_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rooftile.calling import CompiledFunction

_log = logging.getLogger("rooftile")


def run_with_gradients(
    function: CompiledFunction, sizes: Mapping[str, int], arguments: Sequence[Any]
) -> tuple[torch.Tensor, ...]:
    """The results of ``function``, connected to the arguments that require a gradient."""
    _say_once()
    results: tuple[torch.Tensor, ...] = _Recompute.apply(function, sizes, *arguments)  # type: ignore[no-untyped-call]
    return results


@cache
def _say_once() -> None:
    _log.info("gradients are wanted: backward runs the original forward again, uncompiled, and differentiates that")


def differentiable(module: fx.GraphModule) -> fx.GraphModule:
    """``module`` without ``copy``, which functionalising ``copy_`` leaves behind and autograd does not know."""
    copies = [node.name for node in module.graph.nodes if node.target is torch.ops.aten.copy.default]
    if not copies:
        return module
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.nodes:
        if node.target is torch.ops.aten.copy.default:
            node.target = _copied
    return fx.GraphModule(module, graph)


def _copied(x: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return source.to(x.device, x.dtype).expand(x.shape)


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: CompiledFunction, sizes: Mapping[str, int], *arguments: Any) -> Any:
        captured = function.captured
        written = {m.input for m in captured.mutations}
        ctx.function = function
        ctx.restore_random_state = _random_state(arguments) if captured.is_random else nullcontext
        ctx.is_tensor = [isinstance(a, torch.Tensor) for a in arguments]
        ctx.plain = [None if is_tensor else a for a, is_tensor in zip(arguments, ctx.is_tensor, strict=True)]
        # What is written to, and what was made in inference mode, which autograd keeps no tensor of.
        copied = [t and (n in written or arguments[n].is_inference()) for n, t in enumerate(ctx.is_tensor)]
        kept = [a.clone() if copy else a for a, copy in zip(arguments, copied, strict=True)]
        ctx.save_for_backward(*(a for a, is_tensor in zip(kept, ctx.is_tensor, strict=True) if is_tensor))
        ctx.set_materialize_grads(False)
        results = function.run(arguments, sizes)
        flows = captured.results_require_grad
        ctx.mark_non_differentiable(*(r for r, flow in zip(results, flows, strict=True) if not flow))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        saved = iter(ctx.saved_tensors)
        arguments = [next(saved) if t else a for t, a in zip(ctx.is_tensor, ctx.plain, strict=True)]
        double = torch.is_grad_enabled()  # backward of backward is wanted
        with torch.enable_grad(), ctx.restore_random_state():
            # A view per argument: one tensor passed twice gets its two gradients separately.
            fresh = [a.view_as(a) if isinstance(a, torch.Tensor) and a.requires_grad else a for a in arguments]
            results = ctx.function.differentiable(*fresh)
        sought = [number for number, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        reached = [(r, g) for r, g in zip(results, gradients, strict=True) if g is not None and r.requires_grad]
        found: list[torch.Tensor | None] = [None] * len(fresh)
        if reached:
            answers = torch.autograd.grad(
                [r for r, _ in reached],
                [fresh[number] for number in sought],
                [g for _, g in reached],
                allow_unused=True,
                create_graph=double,
            )
            for number, answer in zip(sought, answers, strict=True):
                found[number] = answer
        return (None, None, *found)


def _random_state(arguments: Sequence[Any]) -> Callable[[], AbstractContextManager[None]]:
    """A context that draws the random numbers again that are drawn from now on."""
    cpu = torch.get_rng_state()
    devices, states = get_device_states(*arguments)

    @contextmanager
    def again() -> Iterator[None]:
        with torch.random.fork_rng(devices):
            torch.set_rng_state(cpu)
            set_device_states(devices, states)
            yield

    return again
