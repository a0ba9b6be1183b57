"""Imports go one way: ir <- frontend, passes <- codegen <- runtime <- rooftile; the leaf modules import no layer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("ir", "frontend", "passes", "codegen", "runtime", "rooftile")
LEAVES = ("errors", "config", "target", "__version__")

# What a module may import of ours beside the leaves and its own folder. Frontend and passes meet only in the IR.
BELOW = {
    "ir": (),
    "frontend": ("ir",),
    "passes": ("ir",),
    "codegen": ("ir", "frontend", "passes"),
    "runtime": ("ir", "frontend", "passes", "codegen"),
    "rooftile": ("ir", "frontend", "passes", "codegen", "runtime"),
}
LEAF_IMPORTS = {"errors": (), "config": ("errors",), "target": ("errors",)}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Each import of ours in a module's text, at any depth: the line, and the part after ``rooftile.`` ("" if none)."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "rooftile":
                yield node.lineno, rest.partition(".")[0]


def allowed(folder: str, module: str) -> tuple[str, ...] | None:
    """The parts of ours that a module may import; None where any is right."""
    if folder != "rooftile":
        return (folder, *BELOW[folder], *LEAVES)
    return LEAF_IMPORTS.get(module)


def violations(folder: str, module: str, source: str) -> list[str]:
    parts = allowed(folder, module)
    if parts is None:
        return []
    return [f"line {line}: rooftile.{part}" for line, part in imported(source) if part not in parts]


def modules() -> list[Path]:
    # Path.rglob does not follow the links in rooftile/, so that each module is seen once.
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    assert violations(folder, path.stem, path.read_text()) == []


@pytest.mark.parametrize(
    ("folder", "module", "source", "found"),
    [
        ("ir", "core", "from rooftile.passes.fuse import Fuse", ["line 1: rooftile.passes"]),
        ("ir", "core", "def f():\n    import rooftile.codegen.kernel", ["line 2: rooftile.codegen"]),
        ("frontend", "capture", "from rooftile import passes", ["line 1: rooftile.passes"]),
        ("passes", "fuse", "import rooftile", ["line 1: rooftile."]),
        ("passes", "fuse", "from rooftile import errors\nfrom rooftile.ir.core import Op", []),
        ("runtime", "cache", "from rooftile.api import compile", ["line 1: rooftile.api"]),
        ("rooftile", "config", "from rooftile.target import H100", ["line 1: rooftile.target"]),
        ("rooftile", "api", "from rooftile.runtime.plan import Plan", []),
    ],
)
def test_the_check_itself(folder: str, module: str, source: str, found: list[str]) -> None:
    assert violations(folder, module, source) == found


def test_every_layer_was_read() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in modules()} == set(FOLDERS)


def test_importing_the_package_loads_no_torch() -> None:
    program = (
        "import sys, rooftile, rooftile.errors, rooftile.config, rooftile.target; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
