"""The second door: a program made by ``torch.export``."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind as ExportKind
from torch.export.graph_signature import InputSpec
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from rooftile.frontend.capture import capture
from rooftile.frontend.captured import Captured, InputKind

_KINDS: dict[ExportKind, InputKind] = {
    ExportKind.PARAMETER: "parameter",
    ExportKind.BUFFER: "buffer",
    ExportKind.CONSTANT_TENSOR: "buffer",
    ExportKind.USER_INPUT: "input",
}


def capture_exported(program: ExportedProgram) -> Captured:
    """Capture an exported program for inference.

    Parameters, buffers and constants are bound (``CapturedInput.value``). Inputs come in the order of the program's
    graph: what is bound first, then the user's inputs, flattened.

    Raises:
        UnsupportedError: see ``capture``.
    """
    module = program.graph_module
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    fakes = [node.meta["val"] for node in placeholders]
    modes = [fake.fake_mode for fake in fakes if isinstance(fake, torch._subclasses.FakeTensor)]
    specs = program.graph_signature.input_specs
    with torch.no_grad():
        return capture(
            module,
            fakes,
            modes[0] if modes else FakeTensorMode(shape_env=ShapeEnv()),
            names=[spec.target or node.name for spec, node in zip(specs, placeholders, strict=True)],
            kinds=[_KINDS[spec.kind] for spec in specs],
            values=[_bound_value(program, spec) for spec in specs],
        )


def _bound_value(program: ExportedProgram, spec: InputSpec) -> torch.Tensor | None:
    target: Any = spec.target
    if spec.kind is ExportKind.USER_INPUT or target is None:
        return None
    found = program.state_dict.get(target, program.constants.get(target))
    return found if isinstance(found, torch.Tensor) else None
