"""Is a compiled model right? Its results beside eager's and beside the same model computed in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves, tree_map

from rooftile.accuracy import Accuracy, promised, truth
from rooftile.calling import CompiledFunction
from rooftile.config import inputs_in_order
from rooftile.frontend.dynamo import capture_dynamo
from rooftile.frontend.importer import import_captured


def check(
    compiled: Callable[..., Any],
    model: Callable[..., Any],
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
) -> list[Accuracy]:
    """Call ``compiled``, ``model`` and ``reference(model)`` on copies of the same inputs; one entry for each result
    tensor.

    Raises:
        OptionError: the inputs are no list or tuple.
    """
    runs = []
    for run in (compiled, model, reference(model)):
        given, named = _copies(inputs_in_order(inputs)), _copies(kwargs or {})
        with torch.no_grad():
            runs.append([x for x in tree_leaves(run(*given, **named)) if isinstance(x, torch.Tensor)])
    ours, eager, exact = runs
    return promised(ours, eager, exact)


def _copies(arguments: Any) -> Any:
    return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, arguments)


def reference(model: Callable[..., Any]) -> Callable[..., Any]:
    """``model`` with every float op of its imported graph done in float64; its float results are float64."""

    def backend(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        captured = capture_dynamo(module, example_inputs)
        imported = import_captured(captured)

        def exact(tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
            return [r.clone() for r in truth(imported.graph, [*tensors, *imported.constants], sizes)]

        return CompiledFunction(captured, exact, module.forward)

    compiled: Callable[..., Any] = torch.compile(model, backend=backend)
    return compiled
