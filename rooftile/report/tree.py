"""The model as its modules and lines, with the kernels that serve each."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from dataclasses import dataclass, field

from rooftile.report.data import KernelRow, Report


@dataclass
class Served:
    """A line of the model (``file:line``), and the kernels that compute something of it, in order."""

    source: str
    kernels: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The line as it stands in its file; empty where that is not here."""
        return line_of(self.source)


@dataclass
class ModuleNode:
    """A module by its name in the one around it, its lines, and the modules in it."""

    name: str
    lines: dict[str, Served] = field(default_factory=dict)
    children: dict[str, ModuleNode] = field(default_factory=dict)
    kernels: dict[str, None] = field(default_factory=dict)

    def child(self, name: str) -> ModuleNode:
        """The module of that name in this one."""
        return self.children.setdefault(name, ModuleNode(name))

    def sorted_lines(self) -> list[Served]:
        """The lines as they stand in their files."""
        return sorted(self.lines.values(), key=lambda served: _place(served.source))


def model_tree(report: Report) -> ModuleNode:
    """The whole model; ops without a module stand in the root."""
    root = ModuleNode("model")
    for kernel in report.kernels:
        _add(root, kernel)
    return root


def _add(root: ModuleNode, kernel: KernelRow) -> None:
    root.kernels[kernel.name] = None
    for line in kernel.lines:
        node = root
        for name in line.module.split(".") if line.module else ():
            node = node.child(name)
            node.kernels[kernel.name] = None
        if line.source:
            served = node.lines.setdefault(line.source, Served(line.source))
            if kernel.name not in served.kernels:
                served.kernels.append(kernel.name)


def outline(node: ModuleNode, depth: int = 0) -> Iterator[tuple[int, ModuleNode | Served]]:
    """Modules and lines from the top, with how deep they stand."""
    yield depth, node
    for served in node.sorted_lines():
        yield depth + 1, served
    for child in node.children.values():
        yield from outline(child, depth + 1)


def line_of(source: str) -> str:
    """The text of ``file:line``, without its indentation; empty where the file is not here."""
    file, number = _place(source)
    return linecache.getline(file, number).strip()


def _place(source: str) -> tuple[str, int]:
    file, _, number = source.rpartition(":")
    return file, int(number)
