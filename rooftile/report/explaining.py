"""``explain``: compile a model, or graphs on disk, anew, run them once, and report what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_map

from rooftile.backend import Backend
from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.driver import build_program, collecting
from rooftile.dump import imported_files
from rooftile.frontend.dynamo import looked_at_anew
from rooftile.ir.parser import parse_file
from rooftile.named_model import has_no_values
from rooftile.report.breaks import breaks_seen
from rooftile.report.collect import report_of
from rooftile.report.data import Report
from rooftile.reproduce import random_inputs
from rooftile.runtime.devices import default_device


def explain(model: Callable[..., Any], *inputs: Any, **kwargs: Any) -> Report:
    """What Rooftile makes of ``model`` on these inputs: kernels, decisions with their reasons, bytes, the roofline.

    The model is captured and compiled afresh and run once (on a GPU each kernel a few times more, to time it);
    nothing that was compiled before is touched. A model whose weights are on the meta device is explained by shapes,
    wherever the inputs are. Printing the report shows tables; ``to_dict()`` and ``save("report.json")`` give data.

    Raises:
        RooftileError: whatever compiling the model raises.
    """
    return explain_with(model, inputs, kwargs, CompileOptions())


def explain_with(
    model: Callable[..., Any], inputs: Sequence[Any], kwargs: Mapping[str, Any], options: CompileOptions
) -> Report:
    """``explain`` with the options of ``compile``."""
    if has_no_values(model):
        inputs, kwargs = tree_map(_on_meta, (tuple(inputs), dict(kwargs)))
    with breaks_seen() as breaks:
        compilations, graphs = compile_afresh(model, inputs, kwargs, options)
    return report_of(compilations, uncompiled=graphs - len(compilations), breaks=breaks)


def _on_meta(x: Any) -> Any:
    return x.to("meta") if isinstance(x, torch.Tensor) else x


def compile_afresh(
    model: Callable[..., Any], inputs: Sequence[Any], kwargs: Mapping[str, Any], options: CompileOptions
) -> tuple[list[Compilation], int]:
    """Compile and run once: the compilations, and how many graphs there are. Those of Dynamo that cannot be imported
    run uncompiled, and one in which torch runs calls itself is as many as it has pieces."""
    graphs = 0
    backend = Backend(options)

    def fresh(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        nonlocal graphs
        before = len(compilations)
        compiled = backend(module, example_inputs)
        if compiled == module.forward:  # a piece of it may have been compiled before another was refused
            del compilations[before:]
            graphs += 1
        graphs += len(compilations) - before
        return compiled

    whole = "no-breaks" in options.require
    with collecting(timed=True) as compilations, looked_at_anew():
        torch.compile(model, backend=fresh, dynamic=options.dynamic, fullgraph=whole)(*inputs, **kwargs)
    return compilations, graphs


def compile_files(path: Path, options: CompileOptions, *, meta: bool) -> list[Compilation]:
    """Compile the imported graphs of a dump's folder, or one file of IR, and run each once on random inputs; with
    ``meta``, on shapes alone.

    Raises:
        OptionError: there is no IR in the folder.
        ParseError: a file does not hold a graph.
    """
    files = imported_files(path)
    device = torch.device("meta") if meta else default_device()
    with collecting(timed=True) as compilations, torch.no_grad():
        for file in files:
            graph = parse_file(file)
            tensors, sizes = random_inputs(graph, device)
            build_program(graph, options, device)(tensors, sizes)
    return compilations
