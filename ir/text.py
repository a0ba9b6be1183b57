"""The text form of the IR: its grammar, and the tables that the printer and the parser share.

The form is exact: ``print_graph(parse_graph(print_graph(g))) == print_graph(g)``. A graph-level graph and a kernel::

    symbols s: 1..4096 % 16
    graph mlp(%x: bf16[b=4, t=s, c=512], %w: bf16[2048, 512]) {
        %h = contract[b=4, t=s, f=2048, c=512](%x[b, t, c], %w[f, c], out=[b, t, f], acc=f32) : bf16[b=4, t=s, f=2048]
        %r = pointwise.maximum(%h, %zero) : bf16[b=4, t=s, f=2048]  @ "model.mlp" model.py:12
        return %r
    }

    kernel scale(%x: f32[s], %y: f32[s]) {
        axis t = s : grid(128)
        with grid=[t], group=none, num_warps=4, num_stages=2, outputs=1
        %load = load(%x[t], guard=[t < s]) : f32[t=128]
        store(%y[t], %load, guard=[t < s])
    }

The grammar (``x*`` is any number of x, ``x,*`` any number with commas between, ``[x]`` an optional x, ``|`` or)::

    text     = ["symbols" fact,*] graph
    fact     = NAME ":" INT ".." [INT] ["%" INT]            lowest and highest value of a run-time size, a divisor
    graph    = ("graph" | "kernel" | "body") NAME "(" (VALUE ":" type),* ")" "{"
                   ("axis" NAME "=" size ":" NAME "(" INT ")")*     an axis of a kernel: extent, role, tile
                   ["with" (NAME "=" attr),*]                       other attributes of the graph
                   op*
                   ["return" VALUE,*]
               "}"
    op       = [VALUE,* "="] NAME ["." NAME] ["[" (NAME "=" size),* "]"]
               "(" (operand | NAME "=" attr),* ")" [":" type,*] ["@" [STRING] [file ":" INT]] graph*
    operand  = VALUE ["[" size,* "]"]
    type     = NAME "[" ([NAME "="] size),* "]" ["strides" "[" size,* "]"]
    attr     = size ["<" size] | STRING | FLOAT | NAME | "$" INT
             | "[" attr,* "]" | "{" (NAME ":" attr),* "}" | NAME "(" attr,* ")"
    size     = INT, NAME, "(" size ")", joined by "+", "-", "*", "//" and "%" as in Python
    VALUE    = "%" and letters, digits, "_", "."; or "%" STRING
    NAME     = an identifier, or anything between backticks

Comments run from ``#`` to the end of the line; otherwise the end of a line is a space like any other. A modulus has a
space behind its sign. What the signs mean:

- ``pointwise.exp`` is ``pointwise`` with ``fn="exp"``. In brackets after an operand stands its entry of ``maps``, or
  the ``index`` of a load or store. Brackets after the op's name (its ``axes``) bind the axes that those of the operands
  use; a region's ``axes`` bind the axes in its later attributes.
- In an attribute a name is a dtype, ``none``, ``true``, ``false``, ``inf``, ``nan``, or else a symbol: a run-time size,
  an axis, or ``idxN``, the value of an index operand. A symbol with one of those reserved names stands between
  backticks. In the attributes of ``NAME_ATTRS`` a name is a string.
- ``[a, b]`` is a tuple, ``{a: 1}`` is ``(("a", 1),)``, ``i < n`` is ``(i, n)`` (of a guard), ``$0`` is
  ``("operand", 0)`` and ``list(1, 2)`` is ``("list", 1, 2)``.
- Attributes that the result's type tells (``Level.from_result``) and those with their usual value (``USUAL``) are left
  out. A result's type may be left out where inference finds it.
- A ``body`` is a loop's and sees the values around it; ``graph`` and ``kernel`` see only their parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rooftile.ir.core import Graph, TensorType
from rooftile.ir.dtypes import DTYPES
from rooftile.ir.graph_ops import GRAPH_OPS, infer_graph_op
from rooftile.ir.optable import OpDef
from rooftile.ir.scalar import COMBINES, SCALARS, SCANS
from rooftile.ir.schedule import OPTIONS
from rooftile.ir.tile_ops import TILE_OPS, infer_tile_op

Types = tuple[TensorType, ...]
FromResult = Mapping[str, Mapping[str, Callable[[Types], Any]]]


def _dtype(types: Types) -> Any:
    return types[0].dtype


def _shape(types: Types) -> Any:
    return types[0].shape


def _tile(types: Types) -> Any:
    return tuple(zip(types[0].axes or (), types[0].shape, strict=False))


@dataclass(frozen=True)
class Level:
    """One of the two levels of the IR: its op table, its inference, and the attributes that its result types tell."""

    keyword: str
    ops: Mapping[str, OpDef]
    infer: Callable[..., Types]
    from_result: FromResult


GRAPH = Level(
    "graph",
    GRAPH_OPS,
    infer_graph_op,
    {
        "constant": {"dtype": _dtype},
        "iota": {"size": lambda types: types[0].shape[0], "dtype": _dtype},
        "segment": {"size": lambda types: types[0].shape[0]},
        "arrange": {"size": lambda types: types[0].shape[0]},
        "cast": {"dtype": _dtype},
        "contract": {"dtype": _dtype},
        "expand": {"shape": _shape},
        "reshape": {"shape": _shape},
        "slice": {"sizes": _shape},
        "extern": {"types": lambda types: tuple((t.dtype, t.shape) for t in types)},
    },
)
TILE = Level(
    "kernel",
    TILE_OPS,
    infer_tile_op,
    {
        "load": {"axes": _tile},
        "index": {"axes": _tile},
        "inside": {"axes": _tile},
        "constant": {"dtype": _dtype, "axes": _tile},
        "pointwise": {"axes": _tile},
        "cast": {"dtype": _dtype},
        "dot": {"acc": _dtype},
    },
)

KEYWORDS: dict[str, Level] = {"graph": GRAPH, "kernel": TILE, "body": TILE}
# A kernel's attributes, in the order in which they print; options are there only with an unusual value, and
# ``backwards``, the axes whose tiles are taken from the last to the first, only where there are any.
KERNEL_ATTRS = ("axes", "grid", "group", "num_warps", "num_stages", *OPTIONS, "backwards", "outputs")
# Attributes whose strings are names of axes and roles.
NAME_ATTRS = frozenset({"out", "axis", "grid", "group", "roles", "visits", "backwards"})
# The tables that hold the functions an op may have as its `fn`.
FUNCTIONS: dict[str, Mapping[str, Any]] = {"pointwise": SCALARS, "reduce": COMBINES, "scan": SCANS}
# First items of tuples that print as calls; see rooftile.ir.extern.
TAGS = frozenset({"list", "device", "torch", "complex"})

# Per op: attributes that most often hold one value.
USUAL: dict[str, dict[str, Any]] = {
    "load": {"guard": (), "fill": None},
    "store": {"guard": ()},
    "loop": {"ranges": 0, "phase": "all", "stages": None},
}

RESERVED = frozenset({*DTYPES, "none", "true", "false", "inf", "nan"})
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_PLAIN_VALUE = re.compile(r"[\w.]+")


def is_kernel(graph: Graph) -> bool:
    """Whether ``graph`` is a tile-level kernel (loop bodies, which carry no attributes, are not)."""
    return "grid" in graph.attrs


def quoted(text: str) -> str:
    """``text`` as a string literal on one line; JSON's."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def name_text(name: str) -> str:
    """A name where only a name can stand: itself, or between backticks."""
    return name if _IDENTIFIER.fullmatch(name) else f"`{name}`"


def symbol_text(name: str) -> str:
    """A symbol's name inside an expression, where reserved names need backticks."""
    return name if _IDENTIFIER.fullmatch(name) and name not in RESERVED else f"`{name}`"


def value_text(name: str) -> str:
    """A value's name with its ``%``."""
    return f"%{name}" if _PLAIN_VALUE.fullmatch(name) else f"%{quoted(name)}"
