"""Runs passes one after another: times each, verifies and records what it gives, and says whose fault a failure is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from rooftile.errors import InternalError, OptionError, UserError, nearest
from rooftile.ir.core import Graph
from rooftile.ir.printer import print_graph, print_op
from rooftile.ir.verifier import verify
from rooftile.passes.base import Pass, PassContext, op_in_question
from rooftile.passes.switches import switched

IMPORT = "import"  # the name of the stage that is there before any pass
REQUIRED = frozenset({"axes", "fuse", "layout", "tile", "lower"})  # what no program comes about without

_LOG = logging.getLogger("rooftile.passes")


@dataclass(frozen=True)
class Stage:
    """What one pass did: how long it took, whether it changed the graph, the graph's text where that is recorded."""

    name: str
    seconds: float
    changed: bool
    graph: Graph
    text: str | None


@dataclass(frozen=True)
class Manager:
    """How to run a pipeline.

    ``verify`` checks every graph, ``record`` keeps every graph's text, ``stop_after`` names a pass (or ``"import"``).
    """

    verify: bool = False
    record: bool = False
    stop_after: str | None = None

    def run(self, graph: Graph, passes: Sequence[Pass], ctx: PassContext) -> list[Stage]:
        """The stages, that of the import first; the last one's ``graph`` is the result.

        Raises:
            OptionError: there is no pass named ``stop_after``.
            InternalError: a pass failed, or gave a graph that is not valid; it names the pass and those before it.
        """
        known = (IMPORT, *(each.name for each in passes))
        if self.stop_after is not None and self.stop_after not in known:
            raise OptionError(f"no pass is named {self.stop_after!r}", fix=nearest(self.stop_after, known))
        stages = [self._stage(IMPORT, 0.0, True, graph, [])]
        for each in passes:
            if self.stop_after == stages[-1].name:
                break
            before = [stage.name for stage in stages]
            start = perf_counter()
            graph = _run(each, stages[-1].graph, ctx, before)
            changed = graph is not stages[-1].graph
            stages.append(self._stage(each.name, perf_counter() - start, changed, graph, before))
        return stages

    def _stage(self, name: str, seconds: float, changed: bool, graph: Graph, before: Sequence[str]) -> Stage:
        _LOG.info("%s: %.1f ms, %s", name, seconds * 1e3, f"{len(graph.ops)} ops" if changed else "unchanged")
        if self.verify and changed:
            try:
                verify(graph)
            except InternalError as error:
                raise _located(error, name, before) from None
        return Stage(name, seconds, changed, graph, print_graph(graph) if self.record else None)


def _run(each: Pass, graph: Graph, ctx: PassContext, before: Sequence[str]) -> Graph:
    if ctx.switches is not None and ctx.switches.leaves_out(each.name) and each.name not in REQUIRED:
        return graph
    try:
        with switched(ctx.switches, each.name):
            return each.run(graph, ctx)
    except UserError:
        raise
    except InternalError as error:
        raise _located(error, each.name, before) from error.__cause__
    except Exception as error:
        op = op_in_question(error)
        text, where = (print_op(op), op.loc.source) if op is not None else ("", "")
        raise InternalError(
            f"{type(error).__name__}: {error}", pass_name=each.name, passes_before=before, op=text, where=where
        ) from error


def _located(error: InternalError, name: str, before: Sequence[str]) -> InternalError:
    """The same error with the pass named, unless something closer to the fault has named one."""
    if not error.pass_name:
        error.pass_name, error.passes_before = name, tuple(before)
    return error


def stage_diff(before: Stage, after: Stage) -> str:
    """What ``after`` changed, as a unified diff of recorded texts; empty where nothing."""
    old, new = (stage.text or "" for stage in (before, after))
    lines = unified_diff(old.splitlines(), new.splitlines(), before.name, after.name, lineterm="", n=2)
    return "".join(f"{line}\n" for line in lines)


def write_stages(stages: Sequence[Stage], folder: Path) -> list[Path]:
    """Write ``00-import.ir``, ``01-canonicalize.ir``, ..., and a ``.diff`` beside each that changed; returns the files.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{number:02}-{stage.name}.ir": stage.text or print_graph(stage.graph) for number, stage in enumerate(stages)
    }
    for number, (before, after) in enumerate(pairwise(stages), start=1):
        if after.changed:
            files[f"{number:02}-{after.name}.diff"] = stage_diff(before, after)
    return [_write(folder / name, text) for name, text in files.items()]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
