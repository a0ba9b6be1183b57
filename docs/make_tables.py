"""Writes the tables of these pages from the code: ``python docs/make_tables.py``, or with ``--check`` only compares.

A table stands between ``<!-- table: name -->`` and ``<!-- /table: name -->``; ``TABLES`` says what each name holds.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from textwrap import fill

from marked import main

from rooftile.config import VARIABLES
from rooftile.ir.dtypes import DTYPES
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.optable import OpDef
from rooftile.ir.scalar import COMBINES, SCALARS, SCANS, Scalar
from rooftile.ir.tile_ops import TILE_OPS
from rooftile.passes.pipeline import PIPELINE
from rooftile.target import TARGETS


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def code(*names: object) -> str:
    """Names as inline code."""
    return ", ".join(f"`{name}`" for name in names)


def _ops(ops: Iterable[OpDef]) -> str:
    return table(("op", "meaning", "attributes"), [(code(op.name), op.doc, code(*op.attrs)) for op in ops])


def scalars() -> str:
    """The scalar functions, with their algebra in words."""
    columns = (
        *("function", "operands", "takes", "scales", "shifts", "shift to factor", "of products"),
        *("never decreases in", "not negative where", "price"),
    )
    rows = [
        (
            code(s.name),
            str(s.arity),
            s.operands,
            _sets(s.homogeneous) + (" (by c >= 0)" if s.positive_only else ""),
            _sets(s.shifted),
            "yes" if s.turns_shift_into_factor else "",
            "yes" if s.multiplicative else "",
            ", ".join(map(str, sorted(s.nondecreasing))),
            " or ".join(" and ".join(map(str, sorted(n))) or "always" for n in s.nonnegative),
            str(s.flops),
        )
        for s in SCALARS.values()
        if not _is_plain(s)
    ]
    plain = code(*(s.name for s in SCALARS.values() if _is_plain(s)))
    return f"{table(columns, rows)}\n\n{fill(f'Without any of these properties: {plain}.', 120)}"


def _is_plain(s: Scalar) -> bool:
    said = (s.homogeneous, s.shifted, s.nondecreasing, s.turns_shift_into_factor, s.multiplicative, s.nonnegative)
    return not any(said)


def _sets(sets: Iterable[frozenset[int]]) -> str:
    return "; ".join(" and ".join(map(str, sorted(s))) for s in sets)


def combines() -> str:
    """The reductions."""
    rows = [
        (code(c.name), code(c.scalar), str(c.identity), "the position" if c.position else "the value")
        for c in COMBINES.values()
    ]
    scans = f"The op `scan` has {code(*SCANS)}."
    return f"{table(('reduction', 'joins by', 'identity', 'gives'), rows)}\n\n{scans}"


def dtypes() -> str:
    """The element types."""
    rows = [
        (code(d.name), d.kind, str(d.bytes), code(str(d.torch).removeprefix("torch.")), "yes" if d.in_kernels else "no")
        for d in DTYPES.values()
    ]
    return table(("dtype", "kind", "bytes", "torch", "in kernels"), rows)


def passes() -> str:
    """The pipeline, each pass with its module's first sentence and the reason for its place."""
    reasons = dict(re.findall(r"^\s+(\w+)\(.*\),  # (.*)$", _source("rooftile.passes.pipeline"), re.MULTILINE))
    rows = [
        (code(each.name), _first_sentence(type(each).__module__), reasons[type(each).__name__]) for each in PIPELINE
    ]
    return table(("pass", "what it does", "why it stands there"), rows)


def _source(module: str) -> str:
    return inspect.getsource(import_module(module))


def _documentation(module: str) -> str:
    return import_module(module).__doc__ or ""


def _first_sentence(module: str) -> str:
    text = _documentation(module).split("\n\n")[0].replace("\n", " ")
    return text.partition("``: ")[2]


def variables() -> str:
    """The environment variables."""
    return table(
        ("variable", "takes", "default", "meaning"), [(code(v.name), v.type, v.default, v.doc) for v in VARIABLES]
    )


def targets() -> str:
    """The devices that kernels can be compiled for."""
    rows = [
        (
            code(t.name),
            f"{t.bandwidth / 1e9:g} GB/s",
            f"{t.matmul_rate('bf16') / 1e12:g} TFLOP/s",
            f"{t.matmul_rate('f32') / 1e12:g} TFLOP/s",
            str(t.sm_count),
            f"{t.shared_memory // 1024} KiB" if t.kind == "cuda" else "no limit",
        )
        for t in TARGETS.values()
    ]
    return table(("target", "memory", "bf16 matmul", "fp32 matmul", "processors", "shared memory"), rows)


def grammar() -> str:
    """The grammar of IR text, as it stands above the printer's and the parser's tables."""
    text = _documentation("rooftile.ir.text").partition("The grammar (")[2]
    lines = text.partition("::\n\n")[2].partition("\n\nComments")[0]
    return f"```text\n{inspect.cleandoc(lines)}\n```"


TABLES: dict[str, Callable[[], str]] = {
    "table: grammar": grammar,
    "table: graph-ops": lambda: _ops(GRAPH_OPS.values()),
    "table: tile-ops": lambda: _ops(TILE_OPS.values()),
    "table: scalars": scalars,
    "table: combines": combines,
    "table: dtypes": dtypes,
    "table: passes": passes,
    "table: variables": variables,
    "table: targets": targets,
}

if __name__ == "__main__":
    main(TABLES)
