"""The first door: what Dynamo hands to a backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import fx
from torch._dynamo.exc import BackendCompilerFailed, TensorifyScalarRestartAnalysis
from torch._dynamo.symbolic_convert import TensorifyState
from torch._dynamo.utils import get_metrics_context
from torch._guards import TracingContext
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from rooftile.errors import RooftileError
from rooftile.frontend.capture import capture
from rooftile.frontend.captured import Captured, InputKind
from rooftile.frontend.provenance import model_path

# Each look at a model is one more compilation of the same code; Dynamo's own limit is meant for unstable inputs.
_LOOKS = 1_000_000


def capture_dynamo(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Captured:
    """Capture the graph that a Dynamo backend receives, in the fake mode of the compilation that is going on.

    Raises:
        UnsupportedError: see ``capture``.
        TensorifyScalarRestartAnalysis: Python floats had been made inputs (``dynamic=True`` does that). Dynamo starts
            over with them as constants: an epsilon that is known only at run time would cost more than it gives.
    """
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    _specialize_floats(placeholders)
    context = TracingContext.try_get()
    fake_mode = context.fake_mode if context else None
    fake_mode = fake_mode or FakeTensorMode(shape_env=ShapeEnv())
    fakes = [_fake(x, fake_mode, context) for x in example_inputs]
    names = [model_path(_source_name(node)) or node.name for node in placeholders]
    kinds = [_kind(node, x) for node, x in zip(placeholders, example_inputs, strict=True)]
    return capture(module, fakes, fake_mode, names, kinds)


def why_again() -> str:
    """Why Dynamo is compiling code that it has compiled before, in its words; "" where it is the first time, or the
    first with this backend."""
    try:
        found = get_metrics_context()._metrics.get("recompile_reason")
    except (AttributeError, RuntimeError):  # it is torch's own affair, and may change
        return ""
    words = str(found or "").split("  # ")[0]  # behind it stands where in the code that was decided
    if "BACKEND_MATCH" in words:
        return ""
    return words.partition(": ")[2] or words


@contextmanager
def looked_at_anew() -> Iterator[None]:
    """Inside the ``with`` block code is compiled again however often it has been, and our errors come as they are."""
    limits = {"recompile_limit": _LOOKS, "accumulated_recompile_limit": _LOOKS}
    with torch._dynamo.config.patch(limits):
        try:
            yield
        except BackendCompilerFailed as failure:
            raise_plainly(failure)


def raise_plainly(failure: BackendCompilerFailed) -> NoReturn:
    """Raise what a backend raised without Dynamo's wrapping, where it is an error of ours."""
    if isinstance(failure.inner_exception, RooftileError):
        raise failure.inner_exception from None
    raise failure


def _fake(value: Any, mode: FakeTensorMode, context: TracingContext | None) -> Any:
    """``value`` as a fake tensor of ``mode`` that has the symbolic sizes Dynamo gave it."""
    if not isinstance(value, torch.Tensor):
        return value
    if isinstance(value, torch._subclasses.FakeTensor) and value.fake_mode is mode:
        return value
    symbolic = context.tensor_to_context.get(value) if context else None
    if symbolic is None:
        return mode.from_tensor(value, static_shapes=True)
    return mode.from_tensor(value, symbolic_context=symbolic, source=symbolic.tensor_source, trace=False)


def _specialize_floats(placeholders: Sequence[fx.Node]) -> None:
    memos = [getattr(node.meta.get("example_value"), "item_memo", None) for node in placeholders]
    names = [m.node._expr.name for m in memos if isinstance(m, torch.SymFloat) and hasattr(m.node._expr, "name")]
    fresh = [name for name in names if not TensorifyState.should_specialize(name)]
    for name in fresh:
        TensorifyState.specialize(name)
    if fresh:
        raise TensorifyScalarRestartAnalysis


def _source_name(node: fx.Node) -> str:
    graph_argument = node.meta.get("grapharg")
    name = getattr(getattr(graph_argument, "source", None), "name", "")
    return str(name() if callable(name) else name)  # a method before torch 2.12, a property since


def _kind(node: fx.Node, value: Any) -> InputKind:
    if not isinstance(value, torch.Tensor):
        return "size"
    if isinstance(value, torch.nn.Parameter):
        return "parameter"
    return "buffer" if "_buffers" in _source_name(node) else "input"
