"""A program with values that are computed from weights alone: once, and again when a weight has changed.

A weight is taken to be unchanged as long as it is the same tensor object, at the same address, of the same version.
torch counts a version up for every write in place that it knows of. It does not for writes through ``.data`` or from
outside torch: ``invalidate`` is for these. Tensors made in inference mode have no version, and what depends on one is
computed in every call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakSet, ref

import torch
from torch.utils.weak import WeakIdKeyDictionary

from rooftile.errors import InputError
from rooftile.runtime.program import Program

Main: TypeAlias = Callable[[Sequence[torch.Tensor], Any], list[torch.Tensor]]


@dataclass(frozen=True)
class Stamp:
    """A weight as it was when something was computed from it."""

    tensor: ref[torch.Tensor]
    address: int
    version: int

    @staticmethod
    def of(tensor: torch.Tensor) -> Stamp | None:
        """None for a tensor without a version."""
        return None if tensor.is_inference() else Stamp(ref(tensor), tensor.data_ptr(), tensor._version)

    def fits(self, tensor: torch.Tensor) -> bool:
        """Whether ``tensor`` is that weight, unchanged as far as torch can say."""
        return self.tensor() is tensor and self.address == tensor.data_ptr() and self.version == tensor._version


@dataclass(frozen=True)
class _Kept:
    """Results, and the weights that they were computed from; None if that must not be relied on."""

    results: Sequence[torch.Tensor]
    stamps: Sequence[Stamp] | None

    def fits(self, weights: Sequence[torch.Tensor]) -> bool:
        return self.stamps is not None and all(s.fits(w) for s, w in zip(self.stamps, weights, strict=True))


_READERS: Any = WeakIdKeyDictionary()  # for each weight, what keeps something that was computed from it


def invalidate_all_of(weights: Iterable[torch.Tensor]) -> None:
    """Compute whatever is kept of these weights anew, in every program."""
    for weight in weights:
        for packed in list(_READERS.get(weight, ())):
            packed.invalidate()


class Packed:
    """Calls ``main`` with the results of ``once`` behind the ``count`` tensors of a call, of which ``once`` takes those
    numbered ``sources``.

    Threads may call at once; a call on another stream waits for what it reads. Values that are computed again go where
    they were before, so that a recording of ``main`` finds them.
    """

    def __init__(self, once: Program, main: Main, sources: Sequence[int], count: int) -> None:
        self.once, self.main = once, main
        self._count = count
        self._sources = tuple(sources)
        self._kept: _Kept | None = None
        self._done: torch.cuda.Event | None = None
        self._lock = threading.Lock()

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None = None) -> list[torch.Tensor]:
        """As ``Program``'s.

        Raises:
            InputError: as there.
        """
        return self.main(self.completed(tensors), sizes)

    def completed(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """``tensors`` and behind them what is kept."""
        if len(tensors) != self._count:
            raise InputError(f"the plan takes {self._count} tensors, the call brings {len(tensors)}")
        weights = [tensors[number] for number in self._sources]
        kept = self._kept
        if kept is None or not kept.fits(weights):
            if self._is_captured():  # nothing is computed until somebody replays the recording
                return [*tensors, *self.once(weights, {})]
            kept = self._computed(weights)
        if self._done is not None:
            self._wait()
        return [*tensors, *kept.results]

    def invalidate(self) -> None:
        """Compute what is kept anew in the next call."""
        with self._lock:
            if self._kept is not None:
                self._kept = _Kept(self._kept.results, None)

    @property
    def kept_bytes(self) -> int:
        """The memory that is held between calls."""
        return sum(t.nbytes for t in self._kept.results) if self._kept is not None else 0

    def _computed(self, weights: Sequence[torch.Tensor]) -> _Kept:
        with self._lock:
            before = self._kept
            if before is not None and before.fits(weights):  # another thread was faster
                return before
            stamps = [Stamp.of(w) for w in weights]
            with torch.inference_mode(False), torch.no_grad():
                results = self._compute(weights, None if before is None else before.results)
            for weight in weights:
                _READERS.setdefault(weight, WeakSet()).add(self)
            known = [s for s in stamps if s is not None]
            self._kept = _Kept(results, known if len(known) == len(stamps) else None)
            if self.once.device.type == "cuda":
                with self.once.on_device():
                    self._done = torch.cuda.Event()
                    self._done.record()
            return self._kept

    def _compute(
        self, weights: Sequence[torch.Tensor], places: Sequence[torch.Tensor] | None
    ) -> Sequence[torch.Tensor]:
        binding = self.once.binding(weights, {})
        with self.once.on_device():
            return self.once.run(binding, weights, places)

    def _is_captured(self) -> bool:
        return self.once.device.type == "cuda" and torch.cuda.is_current_stream_capturing()

    def _wait(self) -> None:
        """Let the current stream wait until what is kept has been computed; whoever captures it has waited before."""
        done = self._done
        if done is None or self._is_captured():
            return
        if done.query():
            self._done = None
        else:
            with self.once.on_device():
                torch.cuda.current_stream().wait_event(done)
