"""What a compilation leaves behind for its reader: IR after every pass, diffs, kernels, plan, report, and a script
that shows it again.

A dump folder holds::

    00-import.ir  01-canonicalize.ir ...     the graph after each pass, and a .diff beside each that changed it
    kernels/<name>.py                        every kernel, as a file that runs on its own
    plan.txt                                 buffers, places in memory, steps
    index.html                               all of it to be looked at in a browser
    report.json                              what `rooftile explain --json` prints
    repro.py                                 builds the program from 00-import.ir again and checks it on random inputs
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rooftile.compilation import Compilation
from rooftile.errors import OptionError
from rooftile.ir.core import Graph
from rooftile.ir.printer import print_graph
from rooftile.passes.manager import write_stages
from rooftile.report.collect import report_of
from rooftile.runtime.plan import Buffer, Call, Launch, Layout, Plan, Step
from rooftile.target import Target

IMPORT = "00-import.ir"
_PRODUCTS = (
    *("[0-9][0-9]-*.ir", "[0-9][0-9]-*.diff", "kernels/*.py"),
    *("plan.txt", "index.html", "report.json", "repro.py"),
)

_REPRO = '''"""Builds the program of {import_file} for {target} and checks it on random inputs against float64."""

from pathlib import Path

from rooftile.reproduce import reproduce

if __name__ == "__main__":
    results = reproduce(Path(__file__).parent / "{import_file}", target={target!r})
    raise SystemExit(not all(result.kept for result in results))
'''


@dataclass(frozen=True)
class DumpRow:
    """One dump, of one graph: its folder, and the files in it by their paths from there."""

    graph: str
    folder: str
    files: tuple[str, ...]


_written: set[Path] = set()  # the folders that this process has put a dump into


def dump_folder(base: Path) -> Path:
    """Where the next dump under ``base`` goes: ``base`` itself, then, for further graphs of this process,
    ``base/graph-2``, ...

    What an earlier process left in the folder is deleted, with its further graphs.

    Raises:
        OptionError: there are files of such names in the folder, and no dump that they could be of.
        OSError: they cannot be deleted.
    """
    base = base.absolute()
    folder, number = base, 1
    while folder in _written:
        number += 1
        folder = base / f"graph-{number}"
    if stale := _left_in(folder):
        if not (folder / IMPORT).exists():
            raise OptionError(f"{folder} holds {stale[0].name}, which no dump has left", fix="name another folder")
        further = [file for each in base.glob("graph-*") if (each / IMPORT).exists() for file in _left_in(each)]
        for file in (*further, *stale) if folder == base else stale:
            file.unlink()
    _written.add(folder)
    return folder


def _left_in(folder: Path) -> list[Path]:
    """The files that a dump may have left in a folder; the last is the one that says that it did."""
    files = [file for pattern in _PRODUCTS for file in folder.glob(pattern)]
    return sorted(files, key=lambda file: file.name == IMPORT)


def imported_files(path: Path) -> list[Path]:
    """The imported graphs of the dump in a folder, its further graphs included; or ``path`` itself, a file of IR.

    Raises:
        OptionError: there is no IR at ``path``.
    """
    files = [path] if path.is_file() else sorted([*path.glob(IMPORT), *path.glob(f"graph-*/{IMPORT}")])
    if not files:
        raise OptionError(f"no {IMPORT} in {str(path)!r}", fix="a folder that `rooftile dump` wrote, or a file of IR")
    return files


def forget_dumps(base: Path) -> None:
    """Let the next dump under ``base`` start from ``base`` again."""
    base = base.absolute()
    _written.difference_update([f for f in _written if f == base or base in f.parents])


def write_dump(compilation: Compilation, folder: Path) -> None:
    """Write all of it; sizes that no call has brought yet stand as symbols.

    Raises:
        OSError: the folder cannot be written.
    """
    write_stages(compilation.stages, folder)
    _write_repro_script(folder, compilation.target)
    write_report(compilation, folder)
    if compilation.plan is None:
        return
    kernels = folder / "kernels"
    kernels.mkdir(exist_ok=True)
    for op, kernel in compilation.kernels.items():
        (kernels / f"{op.attrs['name']}.py").write_text(kernel.source, encoding="utf-8")
    plans = [p for p in (compilation.packing, compilation.plan) if p is not None]
    text = "\n".join(plan_text(plan, compilation.sizes) for plan in plans)
    (folder / "plan.txt").write_text(text, encoding="utf-8")


def dump_row(compilation: Compilation) -> DumpRow:
    """What was dumped of a compilation."""
    assert compilation.dump is not None
    folder = compilation.dump
    files = sorted(str(file.relative_to(folder)) for pattern in _PRODUCTS for file in folder.glob(pattern))
    return DumpRow(compilation.imported.name, str(folder), tuple(files))


def write_report(compilation: Compilation, folder: Path) -> None:
    """Write the report as data and as a page: what a run has brought in sizes and times is in it.

    Raises:
        OSError: the folder cannot be written.
    """
    report = report_of([compilation])
    report.save(folder / "report.json")
    report.save(folder / "index.html")


def write_repro(graph: Graph, target: Target) -> Path:
    """Write a failing graph and its script into a new folder for temporary files, and return the script."""
    folder = Path(tempfile.mkdtemp(prefix="rooftile-"))
    (folder / IMPORT).write_text(print_graph(graph), encoding="utf-8")
    return _write_repro_script(folder, target)


def _write_repro_script(folder: Path, target: Target) -> Path:
    script = folder / "repro.py"
    script.write_text(_REPRO.format(import_file=IMPORT, target=target.name), encoding="utf-8")
    return script


def plan_text(plan: Plan, sizes: Mapping[str, int]) -> str:
    """A plan for reading: its buffers with their lives, then its steps; places in memory where all sizes are known."""
    return "\n".join([f"plan {plan.name}", "", *_buffer_lines(plan, sizes), "", *_step_lines(plan)]) + "\n"


def _buffer_lines(plan: Plan, sizes: Mapping[str, int]) -> Iterator[str]:
    layout = plan.layout(sizes) if all(s.name in sizes for s in plan.symbols) else None
    if layout is not None:
        yield f"arena {layout.arena_bytes} bytes, peak {layout.peak_bytes} bytes"
    for b in plan.buffers:
        life = "" if b.first < 0 else f", steps {b.first} to {b.last}"
        place = b.home if layout is None or b.home != "arena" else _place(plan, layout, b)
        yield f"  {b.name}: {_type_text(b)}, {b.role}, {place}{life}"


def _place(plan: Plan, layout: Layout, b: Buffer) -> str:
    result, offset = layout.within(layout.offsets[b.number])
    return f"arena at {offset}" if result is None else f"where {plan.buffers[result].name} will be, at {offset}"


def _type_text(b: Buffer) -> str:
    strides = "" if b.type.strides is None else f" strides {list(b.type.strides)}"
    return f"{b.type.dtype}{list(b.type.shape)}{strides}"


def _step_lines(plan: Plan) -> Iterator[str]:
    for number, step in enumerate(plan.steps):
        reads, writes = (", ".join(plan.buffers[n].name for n in numbers) for numbers in (step.reads, step.writes))
        yield f"{number:3} {_what(step)}({reads}) -> {writes}"


def _what(step: Step) -> str:
    if isinstance(step, Call):
        return f"call {step.name}"
    assert isinstance(step, Launch)
    grid = " x ".join(map(str, step.kernel.grid))
    return f"launch {step.name}[{grid}]"
