"""The public functions and the backend: every way in, and one clear error for every mistake."""

from __future__ import annotations

import logging
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.backend import rooftile_backend
from rooftile.errors import InputError, OptionError, RequirementError


def norm_and_scale() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4)).eval(), torch.randn(3, 8)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def close(got: Tensor, want: Tensor) -> bool:
    return torch.allclose(got, want, atol=1e-5)


def test_a_module() -> None:
    module, x = norm_and_scale()
    fast = rooftile.compile(module)
    assert close(fast(x), module(x))
    assert list(fast.state_dict()) == [f"_orig_mod.{name}" for name in module.state_dict()]


def test_a_function_and_a_decorator() -> None:
    @rooftile.compile
    def plain(x: Tensor) -> Tensor:
        return x.softmax(-1)

    @rooftile.compile(dynamic=True)
    def with_options(x: Tensor) -> Tensor:
        return x.softmax(-1) * x.shape[0]

    x = torch.randn(3, 8)
    assert close(plain(x), x.softmax(-1)) and close(with_options(x), x.softmax(-1) * 3)
    assert plain.__name__ == "plain"


@pytest.mark.parametrize("given", [{}, {"mode": "reduce-overhead"}, {"options": {"require": ["no-extern"]}}])
def test_torch_compile_hands_over_mode_and_options(given: dict[str, Any]) -> None:
    module, x = norm_and_scale()
    assert close(torch.compile(module, backend=rooftile_backend, **given)(x), module(x))


def test_torch_finds_the_backend_by_name() -> None:
    points = metadata.entry_points(group="torch_dynamo_backends", name="rooftile")
    if not points:
        pytest.skip("rooftile is not installed here: there is no entry point to find")
    module, x = norm_and_scale()
    assert close(torch.compile(module, backend="rooftile")(x), module(x))


def test_gradients_of_a_compiled_module() -> None:
    module, x = norm_and_scale()
    rooftile.compile(module)(x).square().sum().backward()
    got = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    module(x).square().sum().backward()
    assert all(close(a, p.grad) for a, p in zip(got, module.parameters(), strict=True))


def test_new_sizes_reuse_a_dynamic_graph() -> None:
    module, _ = norm_and_scale()
    fast = rooftile.compile(module, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows in (2, 7, 130):
            x = torch.randn(rows, 8)
            assert close(fast(x), module(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "max-autotun"}, "max-autotune"),
        ({"options": {"requires": []}}, "require"),
        ({"options": {"require": ["no-break"]}}, "no-breaks"),
        ({"options": {"target": "h10"}}, "h100"),
    ],
)
def test_unknown_modes_and_options_name_the_nearest(arguments: dict[str, Any], message: str) -> None:
    module, x = norm_and_scale()
    with pytest.raises(OptionError, match=message):
        rooftile.compile(module, **arguments)(x)


def test_a_break_under_the_requirement_says_where() -> None:
    def breaks(x: Tensor) -> Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        return y + 1

    line = breaks.__code__.co_firstlineno + 2
    with pytest.raises(RequirementError, match="no-breaks") as caught:
        rooftile.compile(breaks, options={"require": ["no-breaks"]})(torch.randn(3))
    assert caught.value.where == f"{__file__}:{line}"
    assert close(rooftile.compile(breaks)(torch.ones(3)), torch.full((3,), 3.0))


def test_a_break_inside_pythons_library_is_at_the_line_that_calls_it() -> None:
    def averages(x: Tensor) -> Tensor:
        return x * statistics.mean([x.numel(), 2])

    with pytest.raises(RequirementError, match="no-breaks") as caught:
        rooftile.compile(averages, options={"require": ["no-breaks"]})(torch.randn(3))
    assert caught.value.where == f"{__file__}:{averages.__code__.co_firstlineno + 1}"


def test_an_extern_under_the_requirement_says_where() -> None:
    def sorts(x: Tensor) -> Tensor:
        return x.sort(-1).values * 2

    with pytest.raises(RequirementError, match=r"aten\.sort") as caught:
        rooftile.compile(sorts, options={"require": ["no-extern"]})(torch.randn(3, 4))
    assert caught.value.where.startswith(f"{__file__}:{sorts.__code__.co_firstlineno + 1}")
    x = torch.randn(3, 4)
    assert close(rooftile.compile(sorts)(x), sorts(x))


def test_a_graph_that_cannot_be_captured_runs_uncompiled_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def writes(x: Tensor) -> Tensor:
        x = x.clone()
        x.add_(1)
        return x

    def chooses(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, writes, torch.cos, (x,))

    x = torch.randn(3, 4)
    with caplog.at_level(logging.WARNING, logger="rooftile"):
        assert close(rooftile.compile(chooses)(x), chooses(x))
    assert "runs uncompiled" in caplog.text and "cond" in caplog.text
    torch._dynamo.reset()
    with pytest.raises(RequirementError, match="cond"):
        rooftile.compile(chooses, options={"require": ["no-extern"]})(x)


class TwoInputs(nn.Module):
    """Takes a keyword argument and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: Tensor, *, shift: Tensor) -> dict[str, Tensor]:
        y = self.linear(x) * self.scale
        return {"y": y, "shifted": y + shift}


def exported() -> tuple[nn.Module, Tensor, Tensor, Any]:
    torch.manual_seed(0)
    module, x, shift = TwoInputs().eval(), torch.randn(3, 8), torch.randn(4)
    rows = torch.export.Dim("rows", min=2, max=100)
    program = rooftile.export(module, (x,), kwargs={"shift": shift}, dynamic_shapes={"x": {0: rows}, "shift": {}})
    return module, x, shift, program


def test_export_keeps_structure_and_serves_other_sizes() -> None:
    module, _, shift, program = exported()
    for rows in (3, 17):
        x = torch.randn(rows, 8)
        got, want = program(x, shift=shift), module(x, shift=shift)
        assert got.keys() == want.keys() and all(close(got[name], want[name]) for name in want)
        assert not got["y"].requires_grad


def test_a_saved_program_is_loaded(tmp_path: Path) -> None:
    module, x, shift, program = exported()
    program.save(tmp_path / "block.pt2")
    loaded = rooftile.load(tmp_path / "block.pt2")
    assert close(loaded(x, shift=shift)["shifted"], module(x, shift=shift)["shifted"])


def test_wrong_inputs_of_a_program_are_refused() -> None:
    _, x, shift, program = exported()
    wrong: dict[str, tuple[Any, Any]] = {
        "structured as": ((x, x), {"shift": shift}),
        "has rank 1, which must be 2": ((x[0],), {"shift": shift}),
        "has size 7 in dimension 1, which must be 8": ((x[:, :7],), {"shift": shift}),
        "has size 1 in dimension 0": ((x[:1],), {"shift": shift}),
        "is torch.float64 on cpu; the program is for torch.float32": ((x.double(),), {"shift": shift}),
        "is a list, which must be a tensor|structured as": (([1.0],), {"shift": shift}),
        "on meta; the program is for torch.float32 on cpu": ((x.to("meta"),), {"shift": shift}),
    }
    for message, (args, kwargs) in wrong.items():
        with pytest.raises(InputError, match=message):
            program(*args, **kwargs)


def test_results_that_repeat_one_element_keep_their_strides() -> None:
    def grid(x: Tensor) -> tuple[Tensor, ...]:
        return torch.meshgrid(x, x + 1, indexing="ij")

    x = torch.randn(4)
    got, wanted = rooftile.compile(grid)(x), grid(x)
    assert all(close(a, b) for a, b in zip(got, wanted, strict=True))
    assert [a.stride() for a in got] == [b.stride() for b in wanted]


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(OptionError, match="compile got 3, which cannot be called"):
        rooftile.compile(3)  # type: ignore[type-var]


def test_a_file_that_holds_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no program")
    for name in ("absent.pt2", "text.pt2"):
        with pytest.raises(InputError, match=f"{name} is no file that holds a saved program"):
            rooftile.load(tmp_path / name)
