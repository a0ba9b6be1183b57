"""Pass ``summarize``: a mask that is data is looked at once, tile by tile, before the sweep that it masks.

A mask that is made of positions gives a sweep its bounds. One that is read (document numbers, a tensor that the caller
made) is summarised by small kernels of their own: for each tile of rows, the steps in which it hides nothing, those in
which it may leave something, and the others. They are the region's last operand, beside those of its body, and
``visits`` names the axis whose steps its kernel takes from there::

                                               %visits = region(%document, ...)
    %out = region(%q, %k, %v, %document)   ->  %out = region(%q, %k, %v, %document, %visits, visits=j)

Like any other graph, what computes a summary goes through the passes that make kernels. Layers that have their mask in
common share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.canonical import canonical_text
from rooftile.ir.core import Graph, Op, Value, freeze_attrs, unique_name
from rooftile.ir.schedule import Schedule
from rooftile.ir.structure import Structures, attrs_key
from rooftile.passes.axes import Axes
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonicalize import Canonicalize
from rooftile.passes.distinct import Distinct
from rooftile.passes.dtypes import Dtypes
from rooftile.passes.fuse import Fuse
from rooftile.passes.integers import Integers
from rooftile.passes.masks.elements import Elements, count
from rooftile.passes.masks.summary import Summary, summary
from rooftile.passes.masks.verdicts import visits
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import region_access, space_of
from rooftile.passes.regions.sweeps import plan_sweeps
from rooftile.passes.schedules.chain import with_masks_told
from rooftile.passes.switches import permitted, switched
from rooftile.passes.tile import Tile

# Summaries by their graph and what it reads; None for one that does not pay.
Known = dict[tuple[str, tuple[Value, ...]], Value | None]


@dataclass
class Around:
    """What is there around a region: the names that are taken, summaries, and what was told of regions."""

    taken: set[str]
    told: Distinct[Summary | None]
    known: Known = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, structures: Structures) -> Around:
        """What is there in a graph of regions, of which ``structures`` say which are alike."""
        regions = (str(op.attrs["name"]) for op in graph.ops if op.name == "region")
        return Around({*(v.name for v in graph.values()), *regions}, Distinct(structures))

    def named(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name = unique_name(wanted, self.taken)
        self.taken.add(name)
        return name


@dataclass(frozen=True)
class Summarize:
    """Summarises the masks of scheduled regions where that may pay: where it takes at most ``share`` of the region's
    time. How many steps it saves, only the data know.

    A mask that is nothing but numbers added to scores is looked at with ``added`` only: most are a bias, which hides
    nothing, and what a summary costs its sweep (registers that larger tiles want) is then lost.
    """

    name: ClassVar[str] = "summarize"
    share: float = 1 / 8
    added: bool = False

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with the regions of summaries before those that they are for."""
        around = Around.of(graph, ctx.structures)
        ops: list[Op] = []
        for op in graph.ops:
            with working_on(op):
                ops += self.summarized(op, around, ctx)
        return replace(graph, ops=tuple(ops)) if any(around.known.values()) else graph

    def summarized(self, op: Op, around: Around, ctx: PassContext) -> tuple[Op, ...]:
        """``op`` behind the regions that summarise its mask; itself alone where there is nothing to gain."""
        found = self.told(op, around) if op.name == "region" and "roles" in op.attrs else None
        if found is None:
            return (op,)
        elements = Elements(GraphBuilder("visits"), found.access, found.predicates, found.cuts)
        graph = visits(found, elements)
        outer = dict(zip(op.regions[0].inputs, op.inputs, strict=True))
        read = {copy: outer[value] for value, copy in elements.copied.items() if value in outer}
        inputs = tuple(read[value] for value in graph.inputs)
        key = canonical_text(graph), inputs
        made: tuple[Op, ...] = ()
        if key not in around.known:
            made, told = _compiled(graph, inputs, around, ctx)
            pays = self.pays(op, found, made, ctx)
            around.known[key], made = (told, made) if pays else (None, ())
        operand = around.known[key]
        if operand is None:
            return (op,)
        masks = {mask.read for mask in found.masks}
        schedule = with_masks_told(Schedule.from_attrs(op.attrs), found.access, masks, ctx.target)
        attrs = freeze_attrs({**op.attrs, **schedule.attrs(), "visits": found.axis})
        return (*made, replace(op, inputs=(*op.inputs, operand), attrs=attrs))

    def told(self, op: Op, around: Around) -> Summary | None:
        """What can be told of the mask of a scheduled region's one sweep, where that may be of use."""
        body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)

        def find() -> Summary | None:
            found = _summary(body, schedule) if "visits" not in op.attrs else None
            if found is None or likely(count(found.cuts[found.axis])) < 2:
                return None
            return found if self.added or _has_conditions(found) else None

        found, alike = around.told.of(body, find, (attrs_key(schedule.attrs()), "visits" in op.attrs))
        return found if found is None or alike is None else find()

    def pays(self, op: Op, found: Summary, made: Sequence[Op], ctx: PassContext) -> bool:
        """Whether the kernels ``made`` take a small part of the time of ``op``; the ledger has the answer."""
        prices = [cost(region_access(each.regions[0])[1], ctx.target) for each in made]
        seconds, whole = sum(p.seconds for p in prices), cost(region_access(op.regions[0])[1], ctx.target).seconds
        pays = seconds <= self.share * whole and permitted("skip", op.outputs[-1], op.loc)
        names = ", ".join(f"%{mask.read.value.name}" for mask in found.found.masks.values())
        text = f"{names} is data: telling which steps over {found.axis} it leaves takes {seconds * 1e6:.1f} us"
        text += f" in {len(made)} kernels, and all steps {whole * 1e6:.1f} us"
        ctx.ledger.add(
            "summarized" if pays else "cut",
            rule="skip",
            values=[v.name for v in op.outputs],
            reason=text,
            bytes=-sum(p.bytes for p in prices) if pays else None,
            locs=[op.loc],
        )
        return pays


def _summary(body: Graph, schedule: Schedule) -> Summary | None:
    loops = [a.name for a in schedule.axes if a.role == "loop"]
    if len(loops) != 1:
        return None
    sweeps = plan_sweeps(compose(body, space_of(schedule)), loops)
    return summary(sweeps, loops[0], schedule) if sweeps.count(loops[0]) == 1 else None


def _has_conditions(found: Summary) -> bool:
    """Whether something other than numbers that are added masks the sweep."""
    return any(not mask.read.value.dtype.is_float for mask in found.found.masks.values())


def _compiled(graph: Graph, inputs: Sequence[Value], around: Around, ctx: PassContext) -> tuple[tuple[Op, ...], Value]:
    """The regions that compute ``graph`` on ``inputs``, with names that nothing around has, and its result."""
    context = PassContext(ctx.target)
    with switched(None, Summarize.name):
        for each in (Canonicalize(), Axes(), Fuse(), Dtypes(), Integers(), Tile()):
            graph = each.run(graph, context)
    outer = dict(zip(graph.inputs, inputs, strict=True))
    ops: list[Op] = []
    for op in graph.ops:
        for value in op.outputs:
            outer[value] = Value(around.named(value.name), value.type)
        called = "visits" if op is graph.ops[-1] else f"mask_{op.attrs['name']}"
        attrs = freeze_attrs({**op.attrs, "name": around.named(called)})
        operands, results = (tuple(outer[v] for v in values) for values in (op.inputs, op.outputs))
        ops.append(replace(op, inputs=operands, outputs=results, attrs=attrs))
    return tuple(ops), outer[graph.outputs[-1]]
