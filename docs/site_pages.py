"""What mkdocs does to make a site of the repository: the README becomes its first page, the examples become one, and
links between the three lead to where they are there.

A link that leads nowhere fails the build, as `strict` in mkdocs.yml says.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# Where a link in the README, or from docs/ out of it, leads on the site.
_LINKS = (
    (re.compile(r"\]\((?:\.\./)?README\.md(#[^)]*)?\)"), r"](index.md\1)"),
    (re.compile(r"\]\((?:\.\./)?examples/(\w+)\.py\)"), r"](examples.md#\1)"),
    (re.compile(r"\]\((?:\.\./)?examples/?\)"), r"](examples.md)"),
    (re.compile(r"\]\(docs/([^)]*)\)"), r"](\1)"),
)


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the pages that are not in docs/."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    files.append(File.generated(config, "examples.md", content=_examples()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leads links to where their targets are on the site."""
    for pattern, target in _LINKS:
        markdown = pattern.sub(target, markdown)
    return markdown


def _examples() -> str:
    """A page of all examples, each under its name with what its docstring says."""
    parts = ["# Examples\n\nEach runs as it stands, and asserts what it shows.\n"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        said = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
        parts.append(f"## {path.stem}\n\n{said}\n\n```python\n{text}```\n")
    return "\n".join(parts)
