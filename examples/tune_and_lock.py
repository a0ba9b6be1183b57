"""Time the schedules of a model's kernels, keep the best in a lock file, and compile with that: nothing is timed again.

On a GPU the times are the GPU's; without one they are those of the interpreter, and the point is how it is done.

    python examples/tune_and_lock.py
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

import rooftile
from rooftile.checking import check


class GatedLayer(nn.Module):
    """A norm and SwiGLU."""

    def __init__(self, width: int = 64, hidden: int = 160) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, x = GatedLayer().to(device).eval(), torch.randn(96, 64, device=device)
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "rooftile.lock"

        # `rooftile tune file.py:model --lock rooftile.lock` does the same. The file belongs beside the model's code.
        report = rooftile.tune(model, x, lock=lock, effort="quick", seconds=10)
        print(report)
        assert report.kernels and any(kernel.timed for kernel in report.kernels)

        # The lock is text: for each kernel and device the schedule, its time and what it was timed with.
        print("\n".join(lock.read_text().splitlines()[:12]))

        # With a lock nothing is timed, so that a program is the same on every machine of that kind. The ledger says
        # where a measurement chose another schedule than the model of the device.
        options = {"lock": lock}
        with torch.no_grad():
            fast = rooftile.compile(model, options=options)
            (accuracy,) = check(fast, model, (x,))
        assert accuracy.kept, accuracy

        # `rooftile tune --check` says in CI whether every kernel has an entry that fits; its exit code is 1 if not.
        from rooftile.config import CompileOptions
        from rooftile.report.explaining import compile_afresh
        from rooftile.tuning import check_lock

        with torch.no_grad():
            compilations, _ = compile_afresh(model, (x,), {}, CompileOptions())
        for row in check_lock(compilations, lock):
            print(f"{row.name}: {row.status}")
            assert row.status == "locked"


if __name__ == "__main__":
    main()
