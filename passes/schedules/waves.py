"""Waves: how often each multiprocessor takes a tile until all are done, the last of which may be cut into pieces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# What a piece of a tile takes of the tile's time, by how many there are: it reads more for what it multiplies. In tiles
# of 128x256 on an H200, by hand, 4096x3584x18944 took 760 us in four waves, 688 with 52 tiles of the last one in halves
# (2048x5120x17408: 518 and 453); Mixtral's experts, 16 tiles of the last one of nine: 1681 us, in halves 1608, in
# quarters 1587.
PIECES: Mapping[int, float] = MappingProxyType({1: 1.0, 2: 0.62, 4: 0.5})
# Seconds that pass before pieces are multiplied as fast as tiles whose loads ran ahead in the tiles before. (The same:
# 2048x5120x1024 in 36.5 us with halves and in 40.0 without, 2048x2560x2048 in 37.3 with quarters and in 47.7 without.)
ANEW = 4e-6
LEAST_GAIN = 0.01  # the share of a kernel's time for which its text is made longer


def waves(tiles: int, programs: int, pieces: int = 1, tile_seconds: float = 0.0) -> float:
    """The waves of ``tiles`` by so many ``programs``, in tiles' times: where all ``pieces`` of the tiles of the last
    wave can run at once, it is shorter. A tile takes ``tile_seconds``."""
    whole, rest = divmod(tiles, programs)
    if pieces == 1 or not rest or rest * pieces > programs or not tile_seconds:
        return whole + (rest > 0)
    return whole + PIECES[pieces] + ANEW / tile_seconds


def best_pieces(tiles: int, programs: int, tile_seconds: float, most: int) -> int:
    """In how many pieces, at most ``most``, the last wave's tiles are done first."""
    taken = {pieces: waves(tiles, programs, pieces, tile_seconds) for pieces in PIECES if pieces <= max(most, 1)}
    best = min(taken, key=lambda pieces: taken[pieces])
    return best if taken[best] <= (1 - LEAST_GAIN) * taken[1] else 1


def expected_gain(tiles: int, programs: int, pieces: int, tile_seconds: float) -> float:
    """The share of the time that ``pieces`` save on average where only the data tell how many more tiles there are: in
    the last wave there is as often any number."""
    shorter = max(0.0, 1 - PIECES[pieces] - ANEW / tile_seconds)
    return shorter / pieces / (tiles / programs + 0.5)
