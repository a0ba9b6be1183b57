"""The pages say what is so: their Python runs, their links lead somewhere, their tables are the code's.

A page's ``python`` blocks are run one after another, as one session. Blocks in other languages, and ``py`` ones, are
only shown.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import torch

from rooftile.config import OPTIONS
from rooftile.extending import registered
from rooftile.passes.ledger import Decision

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
WITH_PYTHON = [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What a page changes for its process, such as a row that it adds, is gone afterwards."""
    torch._dynamo.reset()
    with registered():
        yield


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    text = page.read_text()
    session = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", session)  # dataclasses look their module up
    for block in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], str(page), "exec"), vars(session))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(FENCED.sub("", page.read_text())) if not _leads_somewhere(page, link)]
    assert broken == []


def _leads_somewhere(page: Path, link: str) -> bool:
    if link.startswith("https://"):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in {_anchor(h) for h in re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)}


def _anchor(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_tables_are_the_code_s() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/make_tables.py"


def test_the_models_are_what_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_models.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/make_models.py"


def test_every_generated_part_has_a_maker() -> None:
    parts = {
        name for page in PAGES for name in re.findall(r"<!-- ((?:table|excerpt|models): [\w-]+) -->", page.read_text())
    }
    scripts = ("make_tables.py", "make_excerpts.py", "make_models.py")
    makers = "".join((ROOT / "docs" / name).read_text() for name in scripts)
    assert [name for name in sorted(parts) if f'"{name}"' not in makers] == []


def test_every_option_is_explained() -> None:
    page = (ROOT / "docs" / "debugging.md").read_text()
    assert [name for name in OPTIONS if f"| `{name}` |" not in page] == []


def test_every_decision_is_explained() -> None:
    page = (ROOT / "docs" / "reading-the-report.md").read_text()
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert [name for name in get_args(Decision) if f"`{name}`" not in rows] == []


def test_the_readme_s_pages_exist_and_all_are_named() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []
