"""The passes in order, each with the reason why it stands where it does."""

from __future__ import annotations

from rooftile.passes.axes import Axes
from rooftile.passes.base import Pass
from rooftile.passes.base_two import BaseTwo
from rooftile.passes.beside import Beside
from rooftile.passes.canonicalize import Canonicalize
from rooftile.passes.chosen import Chosen
from rooftile.passes.differences import Differences
from rooftile.passes.dtypes import Dtypes
from rooftile.passes.extensions import with_inserted
from rooftile.passes.factors import Factors
from rooftile.passes.fuse import Fuse
from rooftile.passes.integers import Integers
from rooftile.passes.keys import Keys
from rooftile.passes.layout import Layout
from rooftile.passes.lower import Lower
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.needed import Needed
from rooftile.passes.ordered import Ordered
from rooftile.passes.pack import Pack
from rooftile.passes.reassociate import Reassociate
from rooftile.passes.reciprocals import Reciprocals
from rooftile.passes.reroll import Reroll
from rooftile.passes.sigmoids import Sigmoids
from rooftile.passes.split import Split
from rooftile.passes.substitution import Substitution
from rooftile.passes.summarize import Summarize
from rooftile.passes.tile import Tile


def pipeline(precision: str = EXACT_FP32) -> tuple[Pass, ...]:
    """What every model goes through, registered passes included; fp32 contractions have ``precision``:
    ``"tf32x3"``, ``"tf32"`` or ``"ieee"``."""
    ours: tuple[Pass, ...] = (
        Canonicalize(),  # first: whatever is folded here, no later pass has to see through
        Substitution(),  # behind canonicalize, which puts rows written one by one together; what it leaves is far less
        Needed(),  # behind canonicalize, which joins views, so that readers are seen; before whatever looks at sizes
        Reroll(),  # behind canonicalize, which shares what all terms do; before chosen, which looks at such sums
        Chosen(),  # behind canonicalize, which joins equal comparisons; before whatever looks at products
        Ordered(),  # behind chosen, which makes such products; before keys, which narrows what is sorted
        Keys(),  # behind canonicalize, whose forms tell how large integers are; before fuse, so that kernels cast them
        Reassociate(),  # before axes, which names the dimensions of what it makes
        Differences(),  # before fuse, which then finds the small values that are worth a buffer
        Axes(),  # before anything prints or cuts the graph, so that a dimension has one letter in every dump
        Fuse(),  # on whole-tensor ops, where what a region may be is decided by accesses and bytes alone
        Dtypes(),  # after fuse: between kernels a narrow float saves bytes, inside one it only costs accuracy
        Integers(),  # after fuse: what crosses kernels keeps the model's type
        Reciprocals(),  # after dtypes, which says what is computed in fp32 for narrow results
        Sigmoids(),  # after dtypes and reciprocals, like these on what is computed in fp32 for narrow results
        BaseTwo(),  # after reciprocals: numbers that values are multiplied by can take a factor
        Factors(),  # after base_two, which multiplies factors into one
        Split(),  # behind what rewrites arithmetic: parts compute just what the whole did
        Pack(),  # behind what makes new regions; only the plan treats them differently
        Layout(),  # after fuse: only what crosses kernels is in memory at all
        Tile(),  # once buffers have their strides, since the axis that is contiguous decides the roles
        Summarize(),  # behind tile, whose tiles it looks at masks by
        Beside(),  # behind the first choices of schedules, which say how many programs each region would have
        Lower(precision),  # last: it carries out what the others have decided
    )
    return with_inserted(ours)


PIPELINE = pipeline()
