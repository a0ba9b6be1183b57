"""Generated parts of pages: what stands between ``<!-- name -->`` and ``<!-- /name -->``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
# Names of generated parts hold a colon ("table: scalars"); other comments are left alone.
_PART = re.compile(r"(?P<begin><!-- (?P<name>\w+: [\w-]+) -->\n).*?(?P<end><!-- /(?P=name) -->)", re.DOTALL)


def rewritten(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """``page`` with every part whose name is in ``parts`` made anew."""

    def anew(match: re.Match[str]) -> str:
        make = parts.get(match["name"])
        return match[0] if make is None else f"{match['begin']}\n{make()}\n\n{match['end']}"

    return _PART.sub(anew, page)


def names(page: str) -> list[str]:
    """The names of a page's generated parts, in order."""
    return [match["name"] for match in _PART.finditer(page)]


def main(parts: Mapping[str, Callable[[], str]]) -> None:
    """Rewrite the pages beside this file, or with ``--check`` only say which differ and exit with 1."""
    check = sys.argv[1:] == ["--check"]
    stale = []
    for path in sorted(FOLDER.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = rewritten(old, parts)
        if new != old:
            stale.append(path)
            print(f"{path.name} {'is out of date' if check else 'rewritten'}")
            if not check:
                path.write_text(new, encoding="utf-8")
    raise SystemExit(check and bool(stale))
