"""Switches: which applications of rewrites are carried out, and a record of all that came up.

A pass asks before each thing that it could leave undone: a rule of a table, a step of a derivation, a decision with a
price, a region's body as a whole. Usually the answer is yes. With one rewrite turned on alone, or only the first n
applications carried out, a wrong result can be traced to the one that makes it wrong, as LLVM's ``-opt-bisect-limit``
and debug counters do.

A rewrite is named ``pass/rule``, the whole of a pass ``pass``, and one place ``pass/rule@value``. A rule that several
passes rest on, such as ``correct``, also goes by its own name: it is off in all of them or in none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from rooftile.ir.core import Loc, Value

_T = TypeVar("_T")


@dataclass(frozen=True)
class Application:
    """One place where a rewrite came up: its name, the value it is about, the user's line, and whether it was done."""

    rewrite: str
    value: str
    source: str
    done: bool

    @property
    def place(self) -> str:
        """The name of this one place."""
        return f"{self.rewrite}@{self.value}"


@dataclass
class Switches:
    """Which rewrites are carried out: all but those in ``off``; where ``only`` is given, those alone.

    ``most`` says for a rewrite, or with ``""`` for all of a pipeline, how many applications are carried out at most:
    the first ones. ``asked`` grows with every application that comes up.
    """

    off: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    most: Mapping[str, int] = field(default_factory=dict)
    asked: list[Application] = field(default_factory=list)
    current: str = ""
    _counts: dict[str, int] = field(default_factory=dict)

    def ask(self, rule: str, value: str, loc: Loc) -> bool:
        """Whether the pass at work carries out ``rule`` at ``value``; recorded."""
        rewrite = f"{self.current}/{rule}" if rule else self.current
        done = self._is_on(rewrite, value) and self._counts_in(rewrite)
        self.asked.append(Application(rewrite, value, loc.source, done))
        return done

    def leaves_out(self, name: str) -> bool:
        """Whether the whole of pass ``name`` is left out."""
        return name in self.off or (self.only is not None and not any(_pass_of(each) == name for each in self.only))

    def unasked(self) -> list[str]:
        """The names in ``off`` for which nothing came up."""
        known = {n for a in self.asked for n in _names(a.rewrite, a.value)}
        return sorted(self.off - known)

    def _is_on(self, rewrite: str, value: str) -> bool:
        names = _names(rewrite, value)
        if not names.isdisjoint(self.off):
            return False
        if self.only is None or not names.isdisjoint(self.only):
            return True
        return "/" not in rewrite and any(each.startswith(f"{rewrite}/") for each in self.only)

    def _counts_in(self, rewrite: str) -> bool:
        done = True
        for name in ("", rewrite):
            if name in self.most:
                count = self._counts[name] = self._counts.get(name, 0) + 1
                done = done and count <= self.most[name]
        return done


def _names(rewrite: str, value: str) -> frozenset[str]:
    """All names that an application goes by."""
    whole, _, rule = rewrite.partition("/")
    names = frozenset({whole, rewrite, rule} if rule else {whole})
    return names | {f"{name}@{value}" for name in names}


def _pass_of(name: str) -> str:
    return name.partition("@")[0].partition("/")[0]


_ACTIVE: ContextVar[Switches | None] = ContextVar("switches", default=None)


@contextmanager
def switched(switches: Switches | None, name: str) -> Iterator[None]:
    """``switches`` answer inside the ``with`` block, for pass ``name``; with None everything is carried out."""
    token = _ACTIVE.set(switches)
    if switches is not None:
        switches.current = name
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def permitted(rule: str, about: Value, loc: Loc) -> bool:
    """Whether the pass at work is to carry out ``rule`` (``""``: what it is there for) at the value ``about``."""
    switches = _ACTIVE.get()
    return switches is None or switches.ask(rule, about.name, loc)


def asked_by(work: Callable[[], _T]) -> tuple[_T, tuple[Application, ...]]:
    """What ``work`` gives, and what it asked on the way."""
    switches = _ACTIVE.get()
    before = 0 if switches is None else len(switches.asked)
    result = work()
    return result, () if switches is None else tuple(switches.asked[before:])


def answered_alike(asked: Iterable[Application], value_of: Callable[[str], str], loc: Loc) -> bool:
    """Whether what has been ``asked`` is answered alike where other values stand in the places of those."""
    switches = _ACTIVE.get()
    if switches is None:
        return True
    answers = ((a.done, switches.ask(a.rewrite.partition("/")[2], value_of(a.value), loc)) for a in asked)
    return all(before == now for before, now in answers)
