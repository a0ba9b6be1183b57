"""What every test shares: a cache folder of the run's own, the verifier between all passes, and the `gpu` marker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Test processes share the cores: threads of their own would be in each other's way. Read once, at torch's import.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

# No deadline: the first example of a test may compile a kernel. Derandomized: a failure in CI fails everywhere.
# `pytest --hypothesis-profile=explore` tries other examples each time.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No setting of the developer's shell reaches a test; one run's processes share a cache, two runs do not."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ROOFTILE_")]:
            patch.delenv(name)
        patch.setenv("ROOFTILE_CACHE_DIR", str(run / "rooftile-cache"))
        patch.setenv("ROOFTILE_VERIFY", "1")
        # Hypothesis also tries numbers that it finds in whatever modules are loaded by then, generated kernels among
        # them: with tests spread over processes, other ones in each run.
        if hypothesis.settings.default.derandomize:
            patch.setattr(providers, "_get_local_constants", Constants)
        yield run


@pytest.fixture(autouse=True)
def _search_path() -> Iterator[None]:
    """Folders of models that a test names are no place for the next test's modules."""
    before = sys.path[:]
    yield
    sys.path[:] = before


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write what the passes give into tests/ir/*/*.ir")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs an NVIDIA GPU: torch.cuda.is_available() is false")
        for item in on_gpu:
            item.add_marker(skip)
