"""What is computed from one value beside itself is computed once, and then put beside itself.

Rotary positions take their cosines of ``cat((angle, angle))``: both halves of a head read the same table.
"""

from __future__ import annotations

from dataclasses import replace

from rooftile.ir.core import Op, Value
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules
from rooftile.passes.canonical.uniform import filled
from rooftile.passes.numbers import number_in


def is_repetition(op: Op) -> bool:
    """Whether ``op`` puts one value beside itself."""
    return op.name == "concat" and len(op.inputs) > 1 and all(v is op.inputs[0] for v in op.inputs)


def _of_repetition(op: Op, rw: Rewriter) -> Make | None:
    """A function of repetitions, and of numbers, is a repetition of the function."""
    made = [rw.made_by(v, "concat") for v in op.inputs]
    repeated = [each for each in made if each is not None and is_repetition(each)]
    if not repeated:
        return None
    first = repeated[0]
    pieces: list[Value] = []
    for value, concat in zip(op.inputs, made, strict=True):
        number = number_in(value, rw.producer)
        if concat is not None and is_repetition(concat) and _alike(concat, first):
            pieces.append(concat.inputs[0])
        elif number is not None:
            pieces.append(rw.emit(*filled(number, replace(first.inputs[0].type, dtype=value.dtype), rw)))
        else:
            return None
    once = rw.emit(op.name, pieces, op.attrs)
    return Make("concat", [once] * len(first.inputs), first.attrs)


def _alike(a: Op, b: Op) -> bool:
    return a.attrs["dim"] == b.attrs["dim"] and len(a.inputs) == len(b.inputs)


REPEATED_RULES: Rules = {"pointwise": (_of_repetition,), "cast": (_of_repetition,)}
