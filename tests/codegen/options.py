"""The kernels of ``kernels/*.ir`` under other options of their schedules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import Kernel
from rooftile.ir.core import Graph, freeze_attrs
from rooftile.target import CPU, Target
from tests.codegen.cases import kernel_graph

OPTIONS: dict[str, dict[str, Any]] = {
    "descriptors": {"descriptors": True},
    "specialize": {"descriptors": True, "specialize": True, "num_warps": 4},
    "persistent": {"persistent": True, "flatten": True},
    "epilogue": {"epilogue": 2},
    "together": {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 4},
    "joined": {"descriptors": True, "persistent": True, "joined": True},
    "tail": {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "tail": 2},
}


def with_options(name: str, **options: Any) -> Graph:
    """The kernel in ``kernels/<name>.ir`` with these options."""
    graph = kernel_graph(name)
    return replace(graph, attrs=freeze_attrs({**graph.attrs, **options}))


def build_with(name: str, options: str, target: Target = CPU) -> Kernel:
    """The emitted kernel with one of ``OPTIONS``."""
    return emit(with_options(name, **OPTIONS[options]), target)
