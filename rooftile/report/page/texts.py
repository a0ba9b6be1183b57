"""Many texts that resemble one another, each different line kept once."""

from __future__ import annotations

from collections.abc import Iterable


class Texts:
    """A store of lines. ``add`` gives a text's number; the text is ``lines[n]`` for each ``n`` of ``documents``.

    IR after fifteen passes, and kernels that differ in their names, are mostly the same lines.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.documents: list[list[int]] = []
        self._number: dict[str, int] = {}

    def add(self, lines: Iterable[str]) -> int:
        """Keep a text, given by its lines, and return its number."""
        self.documents.append([self._line(line) for line in lines])
        return len(self.documents) - 1

    def _line(self, line: str) -> int:
        if line not in self._number:
            self._number[line] = len(self.lines)
            self.lines.append(line)
        return self._number[line]

    def to_dict(self) -> dict[str, object]:
        """As JSON's types; a document is given by the differences of its numbers, which compress better."""
        steps = [[n - before for before, n in zip([0, *d], d, strict=False)] for d in self.documents]
        return {"lines": self.lines, "documents": steps}
