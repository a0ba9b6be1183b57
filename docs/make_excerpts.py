"""Writes what these pages show of compiling the demo's block for an H100: ``python docs/make_excerpts.py``.

An excerpt stands between ``<!-- excerpt: name -->`` and ``<!-- /excerpt: name -->``. It shows what was so when it was
written; only the tables are compared with the code (``make_tables.py``).
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from marked import main
from rich.console import Console

import rooftile
from rooftile.codegen.emit import emit
from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.dump import plan_text
from rooftile.ir.core import Graph, Op
from rooftile.ir.printer import print_graph
from rooftile.ir.schedule import Schedule
from rooftile.passes.manager import stage_diff
from rooftile.passes.regions.space import region_access
from rooftile.report.collect import report_of
from rooftile.report.explaining import compile_afresh
from rooftile.report.terminal import about_values
from rooftile.report.why import why
from rooftile.textbook import ON_GPU, Block

PACKAGE = str(Path(rooftile.__file__).parent) + "/"


@cache
def compilation() -> Compilation:
    """The demo's block at the sizes of a Llama-8B layer, compiled for an H100 but not run: nothing holds data."""
    with torch.device("meta"):
        block = Block(ON_GPU).to(ON_GPU.dtype).eval()
        x = torch.empty(ON_GPU.batch, ON_GPU.length, ON_GPU.width, dtype=ON_GPU.dtype)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        (found,), _ = compile_afresh(block, (x,), {}, CompileOptions(target="h100", dump=Path(folder)))
    return found


def fenced(text: str) -> str:
    """Text as a code block, the files of this package without their folder."""
    return f"```text\n{text.rstrip().replace(PACKAGE, '')}\n```"


def _stage(name: str) -> Graph:
    return next(s.graph for s in compilation().stages if s.name == name)


def _norm(stage: str) -> str:
    """The first norm's ops, and the contraction that reads it."""
    lines = print_graph(_stage(stage)).splitlines()
    ends = [n for n, line in enumerate(lines) if re.match(r"\s*%contract\b", line)]
    starts = [n for n, line in enumerate(lines) if '"attention_norm"' in line]
    return fenced("\n".join(line.strip() for line in lines[starts[0] : ends[0] + 1]))


def canonicalize() -> str:
    """The first changes of the pass."""
    before, after = compilation().stages[:2]
    hunks = re.split(r"(?m)^(?=@@)", stage_diff(before, after))
    return fenced("".join(hunks[1:3]).replace(PACKAGE, ""))


def _regions() -> list[Op]:
    return [op for op in _stage("lower").ops if op.name == "region"]


def _region(wanted: Callable[[Op], bool]) -> Op:
    return next(op for op in _regions() if wanted(op))


def _rotates(region: Op) -> bool:
    return any(op.name == "concat" for op in region.regions[0].ops)


def _attends(region: Op) -> bool:
    return any(op.attrs.get("fn") == "max" for op in region.regions[0].ops)


def _projects(region: Op) -> bool:
    return any(op.loc.module.endswith("attention.out") for op in region.regions[0].ops)


def accesses() -> str:
    """What the regions that rotate queries and keys, and the one that attends, read at which indices."""
    return fenced("\n\n".join(_accesses(op) for op in _regions() if _rotates(op) or _attends(op)))


def _accesses(region: Op) -> str:
    space, access = region_access(region.regions[0])
    lines = [f"region {region.attrs['name']}"]
    lines += [f"  axes   {', '.join(f'{name} = {extent}' for name, extent in access.axes.items())}"]
    lines += [f"  define {name} = {size}" for name, size in space.defs.items()]
    lines += [
        f"  sum    {', '.join(node.bound)} in %{read.value.name}" for read, node in access.nodes.items() if node.bound
    ]
    lines += [f"  read   %{r.value.name}[{', '.join(map(str, r.index))}]" for r in access.loads()]
    return "\n".join(dict.fromkeys(lines))


def _table(title: str) -> str:
    """A table as ``explain`` prints it."""
    tables = str(report_of([compilation()])).split("\n\n")
    return fenced("\n".join(next(t for t in tables if t.startswith(title)).splitlines()[1:]))


def about(value: str) -> str:
    """What ``explain --why`` says first of a value."""
    out = Console(file=io.StringIO(), width=120)
    with out.capture() as printed:
        out.print(about_values(why(report_of([compilation()]), value)))
    facts = printed.get().partition("\n\n")[0]
    return fenced("\n".join([f"$ rooftile explain dump --why {value}", *map(str.rstrip, facts.splitlines())]))


def schedules() -> str:
    """Every region with its schedule."""
    return fenced("\n".join(f"{op.attrs['name']:28} {Schedule.from_attrs(op.attrs)}" for op in _regions()))


def kernel_ir() -> str:
    """The kernel of the attention's output projection, as tile IR."""
    return fenced(print_graph(_region(_projects).regions[1]))


def _emitted(wanted: Callable[[Op], bool]) -> list[str]:
    """The lines of a kernel's function in Triton."""
    region = _region(wanted)
    source = emit(region.regions[1], compilation().target).source
    return source[source.rindex("@triton.jit") :].partition("\n\n\n")[0].splitlines()


def _triton(lines: Sequence[str]) -> str:
    """Triton source as a code block, which ``ruff format`` leaves as it was emitted."""
    return "\n".join(["<!-- fmt:off -->", "```py", *lines, "```", "<!-- fmt:on -->"])


def kernel() -> str:
    """The kernel of the attention's output projection, as Triton source."""
    return _triton(_emitted(_projects))


def sweep() -> str:
    """The attention kernel from its product of queries and keys on: the end of its loop, and what follows."""
    lines = _emitted(_attends)
    first = next(n for n, line in enumerate(lines) if line.strip().startswith("dot = "))
    return _triton(lines[first:])


def plan() -> str:
    """The plans of what runs once and of what runs in every call."""
    found = compilation()
    plans = [p for p in (found.packing, found.plan) if p is not None]
    return fenced("\n".join(plan_text(plan, found.sizes) for plan in plans))


EXCERPTS: dict[str, Callable[[], str]] = {
    "excerpt: import": lambda: _norm("import"),
    "excerpt: canonicalize": canonicalize,
    "excerpt: axes": lambda: _norm("axes"),
    "excerpt: accesses": accesses,
    "excerpt: ledger": lambda: _table("Decisions"),
    "excerpt: schedules": schedules,
    "excerpt: kernel-ir": kernel_ir,
    "excerpt: kernel": kernel,
    "excerpt: sweep": sweep,
    "excerpt: derivations": lambda: _table("Derivations"),
    "excerpt: plan": plan,
    "excerpt: why": lambda: about("mul_2"),
}

if __name__ == "__main__":
    main(EXCERPTS)
