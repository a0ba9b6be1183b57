"""The ATen calls that every call makes: why, as entries of the ledger, and as an error where they are not wanted."""

from __future__ import annotations

from rooftile.config import CompileOptions
from rooftile.errors import RequirementError
from rooftile.ir.core import Graph, Op
from rooftile.ir.extern import UPDATES
from rooftile.passes.ledger import Ledger
from rooftile.passes.packing import is_packed

# What no kernel does, by the beginning of the op's name.
_UNDONE = {
    "sort": "sorts",
    "argsort": "sorts",
    "topk": "sorts",
    "linalg_": "is linear algebra",
    "fft_": "is a Fourier transform",
    "_grouped_mm": "multiplies groups of rows that end where the data say",
    "grouped_mm": "multiplies groups of rows that end where the data say",
    "nonzero": "gives as many results as the data say",
    "rand": "draws random numbers",
    "bernoulli": "draws random numbers",
    "dropout": "draws random numbers",
    "native_dropout": "draws random numbers",
}


def note_externs(graph: Graph, ledger: Ledger) -> None:
    """Enter every ATen call with the reason why it stays one."""
    for op in _externs(graph):
        ledger.add(
            "extern",
            rule="import",
            values=[v.name for v in op.outputs],
            reason=f"{op.attrs['target']} {_why(op)}, so it runs as the ATen call it is",
            locs=[op.loc],
        )


def _why(op: Op) -> str:
    foreign = next((v.dtype for v in (*op.inputs, *op.outputs) if not v.dtype.in_kernels), None)
    return f"works on {foreign}, which no kernel does" if foreign else why(str(op.attrs["target"]))


def why(target: str) -> str:
    """Why a call of ``target`` on numbers that kernels know stays one."""
    if target in UPDATES:
        return "replaces elements of a tensor in a way that no kernel does, or of one that is wanted as it was, too"
    name = target.split(".")[1]
    undone = next((what for start, what in _UNDONE.items() if name.startswith(start)), None)
    return f"{undone}, which no kernel does" if undone else "has no row in the import table for this form"


def require_none(options: CompileOptions, graph: Graph) -> None:
    """Refuse ATen calls where ``options`` ask for none.

    Raises:
        RequirementError: with the first one and its line.
    """
    if "no-extern" not in options.require:
        return
    for op in _externs(graph):
        raise RequirementError(
            "no-extern",
            f"{op.attrs['target']} runs as an ATen call, since it {_why(op)}",
            where=", in ".join(t for t in (op.loc.source, op.loc.module) if t),
            fix="write it with other ops, or leave the requirement out",
        )


def _externs(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op.name == "extern" and not is_packed(op)]
