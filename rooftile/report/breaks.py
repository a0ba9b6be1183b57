"""Where Dynamo left the graph and why, read from the record that it keeps of that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch._dynamo import utils

from rooftile.report.data import BreakRow
from rooftile.users_code import line_in

_HINT = re.compile(r"^\s*Hint: (.+?)(?=^\s*Hint: |^\s*$)", re.MULTILINE | re.DOTALL)
_EXPLANATION = re.compile(r"^\s*Explanation: (.+?)(?=^\s*Hint: |^\s*$)", re.MULTILINE | re.DOTALL)
# A function that is left to Python as a whole, as where it breaks inside a loop, has no entry in the record of breaks.
_IN_ANOTHER = "While handling this graph break, another graph break occurred"
# Where Dynamo's own words say too little, or advise what does not help here: the beginning of its text, what happened
# ("" for its words), and what to do.
_WORDS = (
    (
        "generic_jump",
        "a branch on the value of a tensor",
        "compute both ways and choose with torch.where, or decide outside of the model",
    ),
    (
        "Dynamic shape operator",
        "",
        "compute over all rows and weight those that count (torch.where), so that sizes do not depend on values",
    ),
)


@contextmanager
def breaks_seen() -> Iterator[list[BreakRow]]:
    """The breaks that happen inside the ``with`` block: the list is filled at its end."""
    record: list[Any] = getattr(utils, "graph_break_reasons", [])
    before, known = len(record), set(utils.counters["unimplemented"])
    found: list[BreakRow] = []
    try:
        yield found
    finally:
        found += dict.fromkeys(_row(each) for each in record[before:])
        texts = [text for text in utils.counters["unimplemented"] if text not in known and _IN_ANOTHER in text]
        found += dict.fromkeys(BreakRow(*_in_words(text), "") for text in texts)


def _row(seen: Any) -> BreakRow:
    reason, fix = _in_words(str(seen.reason))
    return BreakRow(reason, fix, line_in(seen.user_stack))


def _in_words(text: str) -> tuple[str, str]:
    """Dynamo's text as what happened and what to do about it."""
    explained = _EXPLANATION.search(text)
    hints = [" ".join(hint.split()) for hint in _HINT.findall(text)]
    reason = text.strip().splitlines()[0] + (f": {' '.join(explained[1].split())}" if explained else "")
    fix = next((hint for hint in hints if "report an issue" not in hint), "")
    for start, title, advice in _WORDS:
        if text.startswith(start):
            return title or reason, advice
    return reason, fix
