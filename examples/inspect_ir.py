"""Look inside a compilation: the IR after every pass, the kernels as files, passes run by hand on IR text, and a
schedule that is edited.

python examples/inspect_ir.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import rooftile
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.passes.opt import run_named
from rooftile.target import target_named


class NormedLinear(nn.Module):
    """RMSNorm, a linear layer and a ReLU: three ops in a paper, one kernel here."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(64)
        self.linear = nn.Linear(64, 96, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(self.norm(x)))


def main() -> None:
    torch.manual_seed(0)
    model = NormedLinear().eval()
    x = torch.randn(48, 64)

    # The report is data: kernels, buffers, the ledger of decisions, derivations, totals.
    report = rooftile.explain(model, x)
    (kernel,) = report.kernels
    print(f"one kernel, {kernel.name}: {kernel.bytes} bytes of traffic, op by op {report.totals.eager_bytes}")
    for derivation in report.derivations:
        for step in derivation.steps:
            print(f"  {step.rule}: {step.before}  ->  {step.after}")
    assert report.derivations, "the norm's factor leaves the contraction by the rule commute"

    with tempfile.TemporaryDirectory() as name:
        # The option `dump` (or ROOFTILE_DUMP=folder) writes everything that the compiler went through.
        folder = Path(name)
        with torch.no_grad():
            expected = rooftile.compile(model, options={"dump": folder})(x)
        print("dump:", *sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")))

        # IR text is exact: reading and printing it gives the same text.
        text = (folder / "00-import.ir").read_text()
        graph = parse_graph(text)
        assert print_graph(graph) == text

        # The reference evaluator runs any graph on tensors, op by op. Inputs have the names that the model gives them.
        named = {"x": x, "norm_weight": model.norm.weight, "linear_weight": model.linear.weight}
        with torch.no_grad():
            (result,) = evaluate(graph, [named[value.name] for value in graph.inputs])
        assert torch.allclose(result, expected, atol=1e-5)

        # Passes run by name on text, for any target. `rooftile opt FILE --passes ... --target ...` does the same.
        print(run_named(text, ["canonicalize", "axes", "fuse"], target_named("h100")))

        # A schedule is a part of the text, so it can be edited: here how many rows a program has. Lowered again, the
        # kernel is another one that computes the same; with `lowered`, the evaluator runs kernels, not their regions.
        (scheduled,) = folder.glob("*-tile.ir")
        axis, tile = re.search(r"roles=\[\[(\w+), grid, (\d+)\]", scheduled.read_text()).groups()
        edited = scheduled.read_text().replace(f"[{axis}, grid, {tile}]", f"[{axis}, grid, 16]")
        kernel = run_named(edited, ["lower"], target_named("cpu"))
        assert f"axis {axis} = 48 : grid(16)" in kernel
        with torch.no_grad():
            inputs = [named[value.name] for value in parse_graph(kernel).inputs]
            (result,) = evaluate(parse_graph(kernel), inputs, lowered=True)
        assert torch.allclose(result, expected, atol=1e-5)
        print(f"16 rows a program in place of {tile}: off by {(result - expected).abs().max():.0e}")

        # Each kernel is a file that runs on its own, checks itself on random inputs and, on a GPU, times itself.
        (file,) = (folder / "kernels").glob("*.py")
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
        print(f"{file.name}: {done.stdout.strip()}")
        assert "relative error" in done.stdout


if __name__ == "__main__":
    main()
