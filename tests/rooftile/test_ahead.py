"""Programs made ahead of time: how they are called, what cannot be one, and files that are damaged or cannot be
written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.blame.check import check_model
from rooftile.checking import check
from rooftile.errors import InputError, OptionError, UnsupportedError

X = torch.randn(3, 8)


class Named(nn.Module):
    def forward(self, x: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor:
        return x * scale + shift


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "layer.pt2"
    rooftile.export(nn.Linear(8, 8), (X,)).save(path)
    return path


def test_keyword_arguments_come_in_any_order() -> None:
    scale, shift = torch.randn(8), torch.randn(3, 8)
    program = rooftile.export(Named(), (X,), kwargs={"scale": scale, "shift": shift})
    torch.testing.assert_close(program(X, shift=shift, scale=scale), X * scale + shift)
    with pytest.raises(InputError, match=r"structured as \(\*, scale=\*, shift=\*\), got \(\*, scale=\*\)"):
        program(X, scale=scale)


@pytest.mark.parametrize("inputs", [torch.randn(1, 8), {"x": X}, None])
def test_inputs_that_are_no_sequence_are_refused(inputs: Any) -> None:
    for call in (rooftile.export, partial(check, nn.Identity()), check_model):
        with pytest.raises(OptionError, match="the inputs are a"):
            call(nn.Linear(8, 8), inputs)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(OptionError, match="export got a function"):
        rooftile.export(lambda x: x, (X,))  # type: ignore[arg-type]


def test_a_branch_on_values_is_named_with_its_line() -> None:
    with pytest.raises(UnsupportedError, match="branches on values") as error:
        rooftile.export(Branching(), (X,))
    assert error.value.where.endswith("test_ahead.py:30")


def other_zip(content: bytes) -> bytes:
    return b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[: len(content) // 2], "holds a saved program"),
        (other_zip, "holds no program that can be read"),
        (lambda content: content.replace(b"nn_module_stack", b"nn_module_stakk", 1), "is damaged, in"),
    ],
)
def test_a_file_that_is_damaged_is_named(saved: Path, damage: Callable[[bytes], bytes], said: str) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(InputError, match=f"layer.pt2 .*{said}"):
        rooftile.load(saved)


def test_a_weight_that_is_damaged_is_seen(tmp_path: Path) -> None:
    layer, path = nn.Linear(8, 8), tmp_path / "layer.pt2"
    rooftile.export(layer, (X,)).save(path)
    content, weight = path.read_bytes(), layer.weight.detach().numpy().tobytes()
    at = content.index(weight) + 3
    path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
    with pytest.raises(InputError, match="is damaged, in"):
        rooftile.load(path)


def test_a_program_that_cannot_be_written_leaves_what_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(program: object, path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    program, before = rooftile.load(saved), saved.read_bytes()
    monkeypatch.setattr(torch.export, "save", full)
    with pytest.raises(OptionError, match="cannot be written"):
        program.save(saved)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
    with pytest.raises(OptionError, match=r"cannot be written: No such file or directory\n"):
        program.save(saved.parent / "no" / "such" / "folder.pt2")


@pytest.mark.parametrize("size", [0, 1])
def test_a_size_that_torch_captures_apart_is_refused_with_what_to_do(size: int) -> None:
    rows = torch.export.Dim("rows", max=64)
    program = rooftile.export(nn.Linear(8, 8), (X,), dynamic_shapes={"input": {0: rows}})
    with pytest.raises(InputError, match="captures sizes of 0 and 1 apart"):
        program(torch.randn(size, 8))


@pytest.mark.parametrize("size", [torch.export.Dim.DYNAMIC, 4 * torch.export.Dim("size", min=4, max=64)], ids=str)
def test_a_size_is_a_multiple_as_it_is_said_or_found_to_be(tmp_path: Path, size: Any) -> None:

    class Groups(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(-1, 4, 8).softmax(1)[: x.shape[0] // 8 + 1]

    program = rooftile.export(Groups(), (torch.randn(16, 8),), dynamic_shapes={"x": {0: size}})
    program.save(tmp_path / "groups.pt2")
    for each in (program, rooftile.load(tmp_path / "groups.pt2")):
        for rows in (16, 24, 40):
            x = torch.randn(rows, 8)
            torch.testing.assert_close(each(x), Groups()(x))
        with pytest.raises(InputError, match="has size 18 in dimension 0, which must be"):
            each(torch.randn(18, 8))
