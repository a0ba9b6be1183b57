"""In which order tiles are taken: along an axis on which sweeps grow longer, from the last one to the first.

Programs start in the order of their numbers, each where another one has ended. With the longest last, all others wait
for it: causal attention of 16 heads and 2048 positions, in tiles of 64 rows on 264 places, takes as long as 54 steps,
and 32 with the longest first.
"""

from __future__ import annotations

from rooftile.passes.lowering.kernel import Kernel
from rooftile.passes.masks.lengths import swept, together
from rooftile.passes.regions.sizes import likely


def backwards(kernel: Kernel) -> tuple[str, ...]:
    """The axes of the grid along which the kernel's sweeps have more steps in the last tile than in the first."""
    found: list[str] = []
    for role in kernel.schedule.axes if kernel.phases else ():
        extent = likely(role.extent)
        last = (extent - 1) // role.tile * role.tile
        if role.role == "grid" and last > 0:
            ends = ((0, role.tile - 1), (last, extent - 1))
            places = ({role.name: each} for each in ends)
            steps = [together(swept(*phases, at) for phases in kernel.phases) for at in places]
            if steps[0] is not None and steps[1] is not None and steps[1] > steps[0]:
                found.append(role.name)
    return tuple(found)
