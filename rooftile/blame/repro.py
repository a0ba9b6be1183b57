"""A script that shows a fault by itself: the least graph that does, as text, and one pass or kernel run on it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from rooftile.blame.culprit import Culprit
from rooftile.blame.parts import Parts
from rooftile.blame.replay import GRAPH, INPUTS, kernel_keeps, on_random_inputs, pass_keeps, write_inputs
from rooftile.blame.shrink import shrunk
from rooftile.errors import OptionError
from rooftile.ir.core import Graph
from rooftile.ir.printer import print_graph
from rooftile.ir.replacing import graph_of

SCRIPT = "repro.py"
_MARKER = "from rooftile.blame.replay import"
_SCRIPT = '''"""{what}

This runs it on {graph}, with {inputs}. Exit code 1: it is wrong.
"""

from pathlib import Path

{marker} {function}

if __name__ == "__main__":
    raise SystemExit(not {function}(Path(__file__).parent, {arguments}))
'''


def refuse_others(folder: Path) -> None:
    """Nothing, where a repro in ``folder`` would take the place of none or of another one.

    Raises:
        OptionError: there are files of a repro's names in the folder, and no repro that they could be of.
        OSError: the folder cannot be read.
    """
    there = [name for name in (GRAPH, INPUTS, SCRIPT) if (folder / name).exists()]
    script = folder / SCRIPT
    if there and not (script.is_file() and _MARKER in script.read_text(encoding="utf-8", errors="replace")):
        raise OptionError(f"{folder} holds {there[0]}, which no bisection has left", fix="name another folder")


def write_repro(culprit: Culprit, folder: Path | None = None) -> Path:
    """Write the least graph that shows ``culprit`` and a script that runs it; returns the script.

    Raises:
        OptionError: there are files of such names in the folder, and no repro that they could be of.
        OSError: the folder cannot be written.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="rooftile-bisect-"))
    refuse_others(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INPUTS).unlink(missing_ok=True)
    graph, function, arguments = _WRITERS[culprit.stage](culprit, folder)
    (folder / GRAPH).write_text(print_graph(graph), encoding="utf-8")
    text = _SCRIPT.format(
        what=str(culprit).splitlines()[0] + ".",
        graph=GRAPH,
        marker=_MARKER,
        inputs=f"the tensors in {INPUTS}" if (folder / INPUTS).exists() else "random inputs",
        function=function,
        arguments=arguments,
    )
    script = folder / SCRIPT
    script.write_text(text, encoding="utf-8")
    return script


def _of_pass(culprit: Culprit, folder: Path) -> tuple[Graph, str, str]:
    """The graph before the pass, shrunk as far as random inputs still show the fault."""
    trial = culprit.trial
    device, target = trial.subject.device, trial.target

    def fails(graph: Graph) -> bool:
        return not pass_keeps(on_random_inputs(graph, device), culprit.name, target)

    before = trial.stages[culprit.number].graph
    if fails(before):
        before = shrunk(before, fails, culprit.at.value if culprit.at else "")
    else:
        write_inputs(trial.subject.tensors, trial.subject.sizes, folder)
    return before, "pass_is_right", f"{culprit.name!r}, {target.name!r}"


def _of_kernel(culprit: Culprit, folder: Path) -> tuple[Graph, str, str]:
    """The scheduled region alone, not lowered yet."""
    op, trial = culprit.op, culprit.trial
    assert op is not None
    region = replace(op, regions=op.regions[:1])
    graph = graph_of(culprit.name, region)
    if kernel_keeps(on_random_inputs(graph, trial.subject.device), trial.target):
        write_inputs(Parts(trial).seen()[op][0], trial.subject.sizes, folder)
    return graph, "kernel_is_right", repr(trial.target.name)


def _of_program(culprit: Culprit, folder: Path) -> tuple[Graph, str, str]:
    """The whole graph, with the call's tensors."""
    subject = culprit.trial.subject
    write_inputs(subject.tensors, subject.sizes, folder)
    return subject.graph, "program_is_right", repr(culprit.trial.target.name)


_WRITERS = {"pass": _of_pass, "kernel": _of_kernel, "plan": _of_program, "import": _of_program}
