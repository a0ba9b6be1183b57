"""What is installed: the five folders as ``rooftile.*``, their templates, the entry points; nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = ("codegen", "frontend", "ir", "passes", "runtime")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy, since setuptools leaves its scratch files in the source tree."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in (*LAYERS, "rooftile"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    program = f"from setuptools.build_meta import build_wheel; build_wheel({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(target.glob("rooftile-*.whl")))


def sources(folder: str) -> set[str]:
    """What of a folder belongs into the wheel, by its name there."""
    prefix = PurePosixPath() if folder == "rooftile" else PurePosixPath("rooftile")
    found = [path for suffix in ("*.py", "*.jinja2", "*.css", "*.js") for path in (ROOT / folder).rglob(suffix)]
    return {str(prefix / path.relative_to(ROOT).as_posix()) for path in found}


@pytest.mark.parametrize("folder", [*LAYERS, "rooftile"])
def test_the_wheel_holds_every_source_and_template(wheel: zipfile.ZipFile, folder: str) -> None:
    assert sources(folder) - set(wheel.namelist()) == set()


def test_the_wheel_holds_one_top_level_name(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rooftile"}


def test_the_wheel_is_typed_licensed_and_found_by_torch(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "rooftile/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    entry_points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "[torch_dynamo_backends]\nrooftile = rooftile.backend:rooftile_backend" in entry_points
    assert "rooftile = rooftile.cli:main" in entry_points


def test_the_installed_package_imports_without_the_links(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = "import rooftile.ir.expr, rooftile.codegen.templates, rooftile; print(rooftile.ir.expr.__file__)"
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd="/", env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "rooftile" / "ir" / "expr.py"), done.stderr


@pytest.mark.parametrize("folder", LAYERS)
def test_the_links_are_relative(folder: str) -> None:
    assert os.readlink(ROOT / "rooftile" / folder) == f"../{folder}"


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}
    extras = PROJECT["project"]["optional-dependencies"]
    texts = [*PROJECT["project"]["dependencies"], *(text for extra in extras.values() for text in extra)]
    wanted = [Requirement(text) for text in texts]
    assert [str(r) for r in wanted if not r.specifier.contains(pins.get(r.name, "0"))] == []
