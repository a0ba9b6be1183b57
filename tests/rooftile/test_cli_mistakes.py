"""What is wrong with the user's code or files is one message that names the line or the file, and nothing is lost."""

from __future__ import annotations

import errno
import io
import os
import sys
import typing
from pathlib import Path

import pytest

from rooftile.dump import dump_folder
from rooftile.errors import OptionError
from rooftile.users_code import users_code
from tests.rooftile.test_cli import refused, run

MODEL = """\
import torch

layer = torch.nn.Linear(4, 4)


def raises(x):
    raise ValueError("mine")


def product(x, y):
    z = x + 1
    return z @ y


def makes():
    raise KeyError("in the factory")


def inputs():
    return 1 / 0


def listed():
    return [torch.randn(2, 4)]


def judge(ours):
    return True


def twice(x):
    return x * 2


def mixed(x):
    return x @ torch.ones(2, 2)
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    contents = {
        "mine.py": MODEL,
        "broken.py": "x = 1\ndef (\n",
        "missing.py": "import torch\nimport no_such_module_here\n",
        "package/__init__.py": "",
        "package/relative.py": "import torch\nfrom .layers import layer\n",
    }
    (tmp_path / "package").mkdir()
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes.ir").write_bytes(b"graph g\n \xff")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said", "line"),
    [
        (("explain", "broken.py:f"), "broken.py raised SyntaxError", "broken.py:2"),
        (("explain", "missing.py:f"), "No module named 'no_such_module_here'", "missing.py:2"),
        (("explain", "missing:f"), "No module named 'no_such_module_here'", "missing.py:2"),
        (("explain", "package/relative.py:f"), "fix: name it by its package, package.relative:object", "relative.py:2"),
        (("explain", "mine.py:makes"), "mine.py:makes() raised KeyError: 'in the factory'", "mine.py:16"),
        (("explain", "mine.py:layer", "-i", "inputs"), "inputs() raised ZeroDivisionError", "mine.py:20"),
        (("explain", "mine.py:raises", "-i", "f32[2]"), "mine.py:raises raised ValueError: mine", "mine.py:7"),
        (("check", "mine.py:raises", "-i", "f32[2]"), "mine.py:raises raised ValueError: mine", "mine.py:7"),
        (("tune", "mine.py:raises", "-i", "f32[2]"), "mine.py:raises raised ValueError: mine", "mine.py:7"),
        (("explain", "mine.py:product", "-i", "f32[2, 3]", "-i", "f32[4, 5]"), "[2, 3] X [4, 5]", "mine.py:12"),
        (("explain", "mine.py:mixed", "-i", "f16[2, 2]"), "expected m1 and m2 to have the same dtype", "mine.py:36"),
        (("check", "mine.py:mixed", "-i", "f16[2, 2]"), "expected m1 and m2 to have the same dtype", "mine.py:36"),
        (("explain", "mine.py:layer", "-i", "f32[2, 4]", "-i", "f32[2]"), "takes 2 positional arguments", ""),
        (("explain", "mine.py:layer", "-i", "f32[99999999999999]"), "an input of f32[99999999999999]", ""),
        (("explain", "mine.py:layer", "-i", "f32[2 4]"), "'f32[2 4]' is no input", ""),
        (("explain", "mine.py:layer", "-i", "f32[2,,4]"), "'f32[2,,4]' is no input", ""),
        (("explain", ":layer"), "names no model", ""),
        (("bisect", "mine.py:twice", "-i", "f32[2]", "--predicate", "mine.py:judge"), "too many positional", ""),
        (("explain", "bytes.ir"), "found the byte 0xff", "bytes.ir:line 2, column 2"),
        (("opt", "bytes.ir", "-p", "fuse"), "found the byte 0xff", "bytes.ir:line 2, column 2"),
        (("explain", "mine.py:twice", "-i", "f32[2]", "--html", "no/such.html"), "cannot be written", "no/such.html"),
        (("check", "mine.py:twice", "-i", "f32[2]", "--budget", "nan"), "the budget cannot be nan", ""),
        (("tune", "mine.py:twice", "-i", "f32[2]", "--seconds", "-1"), "seconds cannot be -1", ""),
    ],
)
def test_a_mistake_is_one_message_with_its_place(
    arguments: tuple[str, ...],
    said: str,
    line: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refused(monkeypatch, capsys, *arguments)
    assert said in message and line in message


def test_inputs_may_be_a_list(files: Path) -> None:
    assert "1 kernel" in run("explain", "mine.py:layer", "-i", "listed")


def test_a_file_with_the_name_of_a_module_leaves_that_to_others(files: Path) -> None:
    (files / "typing.py").write_text(MODEL)
    assert "1 kernel" in run("explain", "typing.py:twice", "-i", "f32[2]")
    assert sys.modules["typing"] is typing


def test_an_output_that_takes_no_more_is_one_message(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    for arguments in (("info",), ("cache",), ("explain", "mine.py:twice", "-i", "f32[2]", "--json")):
        assert "cannot be written: No space left" in refused(monkeypatch, capsys, *arguments)


def test_faults_of_ours_are_not_said_to_be_the_users() -> None:
    def fault() -> None:
        dump_folder(None)  # type: ignore[arg-type]

    with pytest.raises(AttributeError), users_code("model.py:f"):
        fault()


def test_a_dump_deletes_nothing_but_dumps(files: Path) -> None:
    kernel, page = files / "kernels" / "mine.py", files / "index.html"
    kernel.parent.mkdir()
    for own in (kernel, page):
        own.write_text("mine")
        with pytest.raises(OptionError, match=f"holds {own.name}, which no dump has left"):
            dump_folder(files)
        assert own.read_text() == "mine"
        own.unlink()


def test_a_dump_in_the_place_of_one_with_more_graphs_leaves_none_of_them(files: Path) -> None:
    out = files / "out"
    for folder in (out, out / "graph-2", out / "graph-mine"):
        folder.mkdir()
        (folder / "plan.txt").write_text("old")
    for folder in (out, out / "graph-2"):
        (folder / "00-import.ir").write_text("old")
    assert dump_folder(out) == out
    assert [file.relative_to(out) for file in out.rglob("*.*")] == [Path("graph-mine/plan.txt")]


def test_a_report_that_is_none_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("a", "{}"), ("b", "{")):
        (files / name).mkdir()
        (files / name / "report.json").write_text(text)
    assert "b/report.json is no report" in refused(monkeypatch, capsys, "diff", "a", "b")


@pytest.mark.parametrize("arguments", [("info",), ("cache",), ("explain", "mine.py:twice", "-i", "f32[2]")])
def test_a_bad_variable_is_one_message(
    arguments: tuple[str, ...], files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROOFTILE_DEBUG", "much")
    assert "ROOFTILE_DEBUG='much'" in refused(monkeypatch, capsys, *arguments)


def test_a_cache_that_cannot_be_deleted_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "cache" / "ab" / "cd.kernel.zip").mkdir(parents=True)
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(files / "cache"))
    assert "ab/cd.kernel.zip cannot be deleted" in refused(monkeypatch, capsys, "cache", "clear")
