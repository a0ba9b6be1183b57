"""Capturing and importing a function for a test: through Dynamo, as a backend does, and evaluated by the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rooftile.calling import CompiledFunction
from rooftile.frontend.captured import Captured
from rooftile.frontend.dynamo import capture_dynamo
from rooftile.frontend.importer import Imported, import_captured
from rooftile.ir.evaluator import evaluate


@dataclass
class Recorder:
    """A backend that imports every graph and runs it with the reference evaluator (in float64 where ``promote``)."""

    promote: bool = False
    captured: list[Captured] = field(default_factory=list)
    imported: list[Imported] = field(default_factory=list)

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        captured = capture_dynamo(module, inputs)
        imported = import_captured(captured)
        self.captured.append(captured)
        self.imported.append(imported)

        def program(tensors: list[Tensor], sizes: dict[str, int]) -> list[Tensor]:
            results = evaluate(imported.graph, [*tensors, *imported.constants], sizes, self.promote)
            return [r.clone() for r in results]

        return CompiledFunction(captured, program, module.forward)

    @property
    def externs(self) -> list[str]:
        """The ATen calls that stayed as they are."""
        ops = [op for i in self.imported for op in i.graph.ops]
        return [str(op.attrs["target"]) for op in ops if op.name == "extern"]


def run(function: Callable[..., Any], *inputs: Any, dynamic: bool = False) -> tuple[Any, Any, Recorder]:
    """(what the imported graph computes, the same in float64, how it was imported)."""
    torch._dynamo.reset()
    recorder = Recorder()
    compiled = torch.compile(function, backend=recorder, dynamic=dynamic, fullgraph=True)
    results = compiled(*inputs)
    recorder.promote = True
    return results, compiled(*inputs), recorder


def distance(y: Tensor, truth: Tensor) -> float:
    """Relative error in the 2-norm over the positions where ``truth`` is finite."""
    finite = torch.isfinite(truth)
    return float((y.double() - truth.double())[finite].norm() / truth.double()[finite].norm().clamp_min(1e-30))
