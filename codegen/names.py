"""Names in generated text: from the IR's, so that a kernel reads like its model, and the same for identical layers."""

from __future__ import annotations

import keyword

from rooftile.codegen.functions import FUNCTIONS
from rooftile.ir.core import unique_name
from rooftile.ir.stems import stem

LONGEST = 48
# What the statements that number the programs call their values.
GRID_NAMES = ("pid", "pair", "first", "rows", "inner", "piece")
_IMPORTED = ("tl", "triton", "libdevice", "gdc_wait")
# Names that the text uses for itself: a variable of that name would hide what a later line means.
RESERVED = frozenset({*_IMPORTED, *GRID_NAMES, *FUNCTIONS, *keyword.kwlist, "range", "float"})


def readable(name: str, default: str = "value") -> str:
    """``name`` as an identifier, without numbers that stand alone: ``layers.3.mlp_12`` gives ``layers_mlp``.

    Layer numbers and the numbers that make IR names unique must not reach the text: identical layers share one kernel.
    """
    text = stem(name)[:LONGEST].rstrip("_")
    return f"_{text}" if text[:1].isdigit() else text or default


class Names:
    """Hands out names that nothing else in the kernel has."""

    def __init__(self) -> None:
        self._taken = set(RESERVED)

    def fresh(self, wanted: str, ending: str = "") -> str:
        """``wanted`` with its ``ending``, and with a number between them where that name is taken."""
        with_ending = {name.removesuffix(ending) for name in self._taken if name.endswith(ending)}
        name = unique_name(wanted, with_ending) + ending
        self._taken.add(name)
        return name
