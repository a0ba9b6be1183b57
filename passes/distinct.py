"""What is found out about regions is found out once for all that are alike: of identical layers, the first alone is
composed, derived, scheduled and lowered."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rooftile.ir.core import Graph
from rooftile.ir.structure import Structures
from rooftile.passes.alike import Alike
from rooftile.passes.switches import Application, answered_alike, asked_by

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Known(Generic[_T]):
    """A region, what was found out about it, and what was asked on the way."""

    body: Graph
    result: _T
    asked: tuple[Application, ...]


class Distinct(Generic[_T]):
    """What has been found out about regions; ``structures`` say which are alike."""

    def __init__(self, structures: Structures) -> None:
        self._structures = structures
        self._known: dict[Hashable, _Known[_T]] = {}

    def of(
        self, body: Graph, find: Callable[[], _T], besides: Hashable = (), shape: Graph | None = None
    ) -> tuple[_T, Alike | None]:
        """What ``find`` tells of ``body``, which is all that it looks at but for ``besides``; or what it has told of a
        region that ``body`` is like, and with what in the places of its values. ``shape`` is what of ``body`` decides,
        op by op, if not everything does."""
        key = (self._structures.of(shape or body), besides)
        known = self._known.get(key)
        if known is not None:
            alike = Alike(known.body, body)
            if answered_alike(known.asked, alike.name, body.ops[-1].loc):
                return known.result, alike
        result, asked = asked_by(find)
        self._known.setdefault(key, _Known(body, result, asked))
        return result, None
