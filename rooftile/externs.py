"""The ATen calls that every call makes: why, as entries of the ledger, and as an error where they are not wanted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from rooftile.config import CompileOptions
from rooftile.errors import RequirementError
from rooftile.frontend.provenance import loc_of
from rooftile.frontend.refused_dtypes import refusal
from rooftile.ir.core import Graph, Op
from rooftile.ir.extern import UPDATES, given_by_themselves
from rooftile.passes.ledger import Ledger, Remark
from rooftile.passes.packing import is_packed

# What no kernel does, by the beginning of the op's name.
_UNDONE = {
    "sort": "sorts more than one short row of integers",
    "argsort": "sorts more than one short row of integers",
    "topk": "takes the largest of long rows",
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
# What functions of functions do that no kernel does.
_CHOICES = {
    "cond": "chooses what it calls by a value",
    "while_loop": "calls its function until a value says otherwise",
    "scan": "calls its function once for each step, with what the last one gave",
    "map_impl": "calls its function once for each of more rows than are written out",
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
    if foreign:
        return f"works on {foreign}, which no kernel does"
    target = str(op.attrs["target"])
    refused = refusal(target, *([v.dtype.torch for v in values] for values in (given_by_themselves(op), op.outputs)))
    return f"{refused}, and will raise" if refused else why(target)


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


def why_call(call: fx.Node) -> str:
    """Why torch runs a call of a function of functions."""
    name = str(call.target)
    return _CHOICES.get(name, "calls its functions in an order that no kernel does")


def notes_of(calls: Sequence[fx.Node]) -> list[Remark]:
    """The entries of the ledger for calls of functions of functions that torch runs."""
    told = "{} {}, so torch runs it, between what is compiled before and behind it; what it calls is compiled by itself"
    return [("extern", "import", told.format(call.target, why_call(call)), loc_of(call)) for call in calls]


def require_no_calls(options: CompileOptions, calls: Sequence[fx.Node]) -> None:
    """Refuse them where ``options`` ask for a graph without ATen calls.

    Raises:
        RequirementError: with the first one and its line.
    """
    if "no-extern" in options.require and calls:
        raise RequirementError(
            "no-extern",
            f"torch runs {calls[0].target}, since it {why_call(calls[0])}",
            where=loc_of(calls[0]).source,
            fix="write it with ops on tensors (torch.where), or leave the requirement out",
        )
