"""Weights that have been laid one behind the other: programs that want the same ones so share the memory.

A graph compiled for a prompt and one for a token, or for several sizes, read the same weights, and each lays them out
for itself: in the same place, with the same result. The memory lives as long as one of them keeps it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch.utils.weak import WeakIdKeyDictionary

from rooftile.runtime.frame import Fresh


@dataclass(frozen=True)
class _Stack:
    weights: tuple[ref[torch.Tensor], ...]
    place: ref[torch.Tensor]

    def holds(self, weights: Sequence[torch.Tensor]) -> bool:
        """Whether it was made for just these."""
        return len(self.weights) == len(weights) and all(w() is x for w, x in zip(self.weights, weights, strict=True))


_STACKS: Any = WeakIdKeyDictionary()  # those that begin with a weight
_LOCK = threading.Lock()


def place_of(weights: Sequence[torch.Tensor], fresh: Fresh, device: torch.device) -> torch.Tensor:
    """Where ``weights`` are to lie one behind the other as ``fresh`` says: where they do already, or new memory."""
    with _LOCK:
        known = [stack for stack in _STACKS.get(weights[0], ()) if stack.place() is not None]
        for stack in known:
            place: torch.Tensor | None = stack.place()
            if place is not None and stack.holds(weights) and _is(place, fresh, device):
                return place
        place = fresh.on(device)
        _STACKS[weights[0]] = [*known, _Stack(tuple(map(ref, weights)), ref(place))]
        return place


def _is(place: torch.Tensor, fresh: Fresh, device: torch.device) -> bool:
    alike = place.device == device and place.dtype is fresh.dtype
    return alike and tuple(place.shape) == fresh.shape and place.stride() == fresh.strides
