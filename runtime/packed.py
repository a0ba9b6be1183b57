"""A program with values that are computed from weights alone: once, and again when a weight has changed.

A weight is taken to be unchanged as long as it is the same tensor object, in the same storage, at the same address, of
the same version. The storage counts since memory that one weight gave back is likely to be handed out to the next, as
in ``module.half().float()``. torch counts a version up for every write in place that it knows of. It does not for those
of fused optimizers, whose steps are watched instead, nor for writes through ``.data`` or from outside torch:
``invalidate`` is for these. Tensors made in inference mode have no version, and what depends on one is computed in
every call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from operator import attrgetter, call, is_
from typing import Any, TypeAlias
from weakref import WeakSet, ref

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

from rooftile.errors import InputError
from rooftile.runtime.frame import ADDRESS
from rooftile.runtime.program import Program
from rooftile.runtime.stacks import place_of

MOST_SETS = 512  # of weights for which one program keeps what it computes: layers that share it
_VERSION = attrgetter("_version")

Main: TypeAlias = Callable[[Sequence[torch.Tensor], Any], list[torch.Tensor]]


@dataclass(frozen=True)
class Stamps:
    """Weights as they were when something was computed from them. Each call asks after all, which may be thousands."""

    tensors: tuple[ref[torch.Tensor], ...]
    storages: tuple[ref[torch.UntypedStorage], ...]
    addresses: Sequence[int]
    versions: Sequence[int] | None

    @staticmethod
    def of(tensors: Sequence[torch.Tensor]) -> Stamps:
        """Of tensors one of which has no version, such that they fit none."""
        versions = None if any(map(torch.Tensor.is_inference, tensors)) else list(map(_VERSION, tensors))
        storages = tuple(ref(tensor.untyped_storage()) for tensor in tensors)
        return Stamps(tuple(map(ref, tensors)), storages, list(map(ADDRESS, tensors)), versions)

    def fits(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether ``tensors`` are these weights, unchanged as far as torch can say."""
        return (
            self.versions is not None
            and all(map(is_, map(call, self.tensors), tensors))
            and None not in map(call, self.storages)
            and list(map(ADDRESS, tensors)) == self.addresses
            and list(map(_VERSION, tensors)) == self.versions
        )

    @property
    def are_gone(self) -> bool:
        """Whether one of the weights is no more."""
        return any(tensor() is None for tensor in self.tensors)


@dataclass(frozen=True)
class _Kept:
    """Results, and the weights that they were computed from, as they were then."""

    results: Sequence[torch.Tensor]
    stamps: Stamps

    def forgotten(self) -> _Kept:
        """The same, to be computed again."""
        return _Kept(self.results, replace(self.stamps, versions=None))


_READERS: Any = WeakIdKeyDictionary()  # for each weight, what keeps something that was computed from it
_READERS_GUARD = threading.Lock()


def invalidate_all_of(weights: Iterable[torch.Tensor]) -> None:
    """Compute whatever is kept of these weights anew, in every program."""
    if not _READERS:  # nothing is kept: of a model in training, every call asks
        return
    readers: dict[Packed, set[int]] = {}
    with _READERS_GUARD:
        for weight in weights:
            for packed in _READERS.get(weight, ()):
                readers.setdefault(packed, set()).add(id(weight))
    for packed, changed in readers.items():
        packed.invalidate(changed)


def _stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """An optimizer has written to its parameters; a fused one does so uncounted."""
    invalidate_all_of(weight for group in optimizer.param_groups for weight in group["params"])


register_optimizer_step_post_hook(torch.compiler.disable(_stepped))


class Packed:
    """Calls ``main`` with the results of ``once`` behind the ``count`` tensors of a call, of which ``once`` takes those
    numbered ``sources``.

    Layers that share a program come with weights of their own, for each of which results are kept. Threads may call at
    once; a call on another stream waits for what it reads. Values that are computed again go where they were before, so
    that a recording of ``main`` finds them.
    """

    def __init__(self, once: Program, main: Main, sources: Sequence[int], count: int) -> None:
        self.once, self.main = once, main
        self._count = count
        self._sources = tuple(sources)
        self._stacks = once.plan.stacks
        self._latest: _Kept | None = None
        self._sets: dict[tuple[int, ...], _Kept] = {}  # by the weights' identities
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
        kept = self._latest
        if kept is None or not kept.stamps.fits(weights):
            kept = self._known(weights)
        if kept is None:
            if self._is_captured():  # nothing is computed until somebody replays the recording
                return [*tensors, *self.once(weights, {})]
            kept = self._computed(weights)
        if self._done is not None:
            self._wait()
        return [*tensors, *kept.results]

    def invalidate(self, changed: Set[int] | None = None) -> None:
        """Compute what is kept anew in the next call; only what was computed from one of the weights ``changed``, given
        by their identities, if these are said."""
        with self._lock:
            self._latest = None
            for key, kept in self._sets.items():
                if changed is None or not changed.isdisjoint(key):
                    self._sets[key] = kept.forgotten()

    @property
    def kept_bytes(self) -> int:
        """The memory that is held between calls."""
        return sum(t.nbytes for kept in list(self._sets.values()) for t in kept.results)

    def _known(self, weights: Sequence[torch.Tensor]) -> _Kept | None:
        """What was computed from these weights, unchanged since, some calls ago."""
        with self._lock:
            kept = self._sets.get(tuple(map(id, weights)))
            if kept is None or not kept.stamps.fits(weights):
                return None
            self._latest = kept
            return kept

    def _computed(self, weights: Sequence[torch.Tensor]) -> _Kept:
        with self._lock:
            key = tuple(map(id, weights))
            before = self._sets.get(key)
            if before is not None and before.stamps.fits(weights):  # another thread was faster
                return before
            gone = [each for each, kept in self._sets.items() if kept.stamps.are_gone or each == key]
            free = [self._sets.pop(each) for each in gone]
            stamps = Stamps.of(weights)
            with torch.inference_mode(False), torch.no_grad():
                results = self._compute(weights, free[-1].results if free else None)
            with _READERS_GUARD:
                for weight in weights:
                    _READERS.setdefault(weight, WeakSet()).add(self)
            while len(self._sets) >= MOST_SETS:
                del self._sets[next(iter(self._sets))]
            kept = self._latest = self._sets[key] = _Kept(results, stamps)
            if self.once.device.type == "cuda":
                with self.once.on_device():
                    self._done = torch.cuda.Event()
                    self._done.record()
            return kept

    def _compute(
        self, weights: Sequence[torch.Tensor], places: Sequence[torch.Tensor] | None
    ) -> Sequence[torch.Tensor]:
        """The results for these weights: those of ``places`` that only this program has, and what it shares."""
        binding = self.once.binding(weights, {})
        found = []
        for number, fresh in enumerate(binding.fresh):
            sources = [weights[n] for n in self._stacks.get(fresh.number, ())]
            if sources:
                found.append(place_of(sources, fresh, self.once.device))
            else:
                found.append(fresh.on(self.once.device) if places is None else places[number])
        with self.once.on_device():
            return self.once.run(binding, weights, found)

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
