"""The first lines of a kernel's file: what it is, how it is scheduled, and which lines of the user's it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rooftile.codegen.space import Space
from rooftile.ir.core import Graph
from rooftile.ir.schedule import option
from rooftile.target import Target


def header(name: str, target: Target, schedules: Sequence[str], body: Graph | None, notes: Sequence[str]) -> str:
    """The header's text; ``notes`` are what else is to be said of the ``schedules``, a line each."""
    lines = [f"{name}, for {target.name}.", "", *schedules, *notes]
    sources = sorted({op.loc.source for op in body.ops if op.loc.source} if body is not None else ())
    return "\n".join([*lines, *(["", "Computes:", *(f"    {s}" for s in sources)] if sources else [])])


def schedule_line(kernel: Graph, space: Space) -> str:
    """A kernel's axes with their roles and tiles, its warps and stages, and how else it is run."""
    return f"Schedule: {_axes(space)}; {_launch(kernel)}."


def _axes(space: Space) -> str:
    return ", ".join(
        f"{a.name} < {a.extent}: {a.role}" + ("" if a.role == "whole" else f"({a.tile})") for a in space.axes.values()
    )


def _launch(kernel: Graph) -> str:
    words = [f"{kernel.attrs['num_warps']} warps", f"{kernel.attrs['num_stages']} stages"]
    words += [word for word in ("persistent", "flatten", "joined") if option(kernel.attrs, word)]
    pieces = option(kernel.attrs, "epilogue")
    words += [f"epilogue in {pieces} pieces"] if pieces > 1 else []
    tail = option(kernel.attrs, "tail")
    return ", ".join([*words, *([f"last tiles in {tail} pieces"] if tail > 1 else [])])


def joined_note(joined: Sequence[tuple[str, ...]]) -> str:
    """Which buffers' products are multiplied as one."""
    texts = [f"of {' and '.join(pair)}" if len(set(pair)) > 1 else f"of two parts of {pair[0]}" for pair in joined]
    return f"Products joined: {'; '.join(texts) or 'none'}."


def carriers_note(carriers: Mapping[str, str | None]) -> str:
    """Which buffers are read and written through descriptors, and why the others are not; ``carriers`` by buffer."""
    through = [name for name, reason in carriers.items() if reason is None]
    others = [f"{name} ({reason})" for name, reason in carriers.items() if reason is not None]
    parts = (("through descriptors", through), ("through pointers", others))
    return "Memory " + "; ".join(f"{how}: {', '.join(names)}" for how, names in parts if names) + "."
