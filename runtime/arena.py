"""Where buffers stand in memory: buffers that are never alive together share their place.

Most stand in one block, the arena. A result has memory of its own, which holds nothing until it is written: what is
needed only before then may stand there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

# Every buffer starts at a multiple of this many bytes: what torch's own allocator keeps to, and more than any access
# needs.
ALIGNMENT = 256


@dataclass(frozen=True)
class Life:
    """A buffer to be placed: its size in bytes, and the first and the last step that need it, both included."""

    bytes: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Whether some step needs both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Placement:
    """Places on one line of addresses, in bytes: the arena from 0 on, of size ``bytes``, and behind it one result after
    another. ``offsets`` says where each buffer starts, ``results`` where each result does."""

    offsets: tuple[int, ...]
    results: tuple[int, ...]
    bytes: int


def place(lives: Sequence[Life], results: Sequence[Life] = ()) -> Placement:
    """Place buffers, the largest first, each into the tightest gap among those that it meets: of a result's memory
    where there is one, else of the arena.

    This is "greedy by size" of Pisarchyk and Lee, *Efficient Memory Management for Deep Neural Net Inference*
    (2020), within a few percent of the lower bound on their networks.
    """
    arena, rooms = _Block([], []), [_Block([result], [0], result.bytes) for result in results]
    found: dict[int, tuple[_Block, int]] = {}
    for number in sorted(range(len(lives)), key=lambda n: (-lives[n].bytes, lives[n].first, n)):
        life = lives[number]
        gaps = [(gap, room) for room in rooms if (gap := room.gap(life)) is not None]
        gap, block = min(gaps, key=lambda each: each[0].size) if gaps else (arena.gap(life), arena)
        assert gap is not None  # the arena grows
        found[number] = block, block.take(life, gap)
    end = arena.end
    for room, result in zip(rooms, results, strict=True):
        room.start, end = end, end + aligned(result.bytes)
    offsets = tuple(block.start + offset for block, offset in map(found.__getitem__, range(len(lives))))
    return Placement(offsets, tuple(room.start for room in rooms), arena.end)


@dataclass(frozen=True)
class _Gap:
    start: int
    size: float


@dataclass
class _Block:
    """Buffers and their offsets in one block of memory, which without a ``capacity`` grows as it has to."""

    lives: list[Life]
    offsets: list[int]
    capacity: int | None = None
    start: int = 0

    @property
    def end(self) -> int:
        """The end of the last buffer."""
        ends = (offset + aligned(life.bytes) for life, offset in zip(self.lives, self.offsets, strict=True))
        return max(ends, default=0)

    def gap(self, life: Life) -> _Gap | None:
        """The smallest gap that takes a buffer, among those that it meets."""
        pairs = zip(self.lives, self.offsets, strict=True)
        taken = sorted((start, start + aligned(other.bytes)) for other, start in pairs if other.meets(life))
        fits = (gap for gap in _gaps(taken, self.capacity) if gap.size >= life.bytes)
        return min(fits, key=lambda gap: gap.size, default=None)

    def take(self, life: Life, gap: _Gap) -> int:
        """Place a buffer in a gap; its offset."""
        self.lives.append(life)
        self.offsets.append(gap.start)
        return gap.start


def aligned(size: int) -> int:
    """``size`` rounded up to a multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _gaps(taken: Sequence[tuple[int, int]], capacity: int | None) -> Iterator[_Gap]:
    """What the ``taken`` ranges, in order, leave free; without a capacity there is always room behind the last."""
    end = 0
    for start, stop in taken:
        yield _Gap(end, start - end)
        end = max(end, stop)
    yield _Gap(end, inf if capacity is None else capacity - end)
