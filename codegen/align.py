"""Tiles meet by the names of their axes: the text that puts one into the dimensions of another."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(text: str, axes: Sequence[str], target: Sequence[str]) -> str:
    """``text`` (an atom of dimensions ``axes``) with the dimensions ``target``, of size 1 where it lacks one."""
    if not axes:
        return text
    order = [a for a in target if a in axes]
    if order != list(axes):
        text = transposed(text, axes, order)
    if len(order) == len(target):
        return text
    return f"{text}[{', '.join(':' if a in axes else 'None' for a in target)}]"


def transposed(text: str, axes: Sequence[str], order: Sequence[str]) -> str:
    """``text`` with its dimensions reordered from ``axes`` to ``order``, which names the same axes."""
    if list(axes) == list(order):
        return text
    if len(axes) == 2:
        return f"tl.trans({text})"
    return f"tl.permute({text}, ({', '.join(str(list(axes).index(a)) for a in order)}))"
