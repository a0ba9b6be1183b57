"""The lock file: schedules that were measured, for a person to read and to commit.

It is TOML, one ``[[kernel]]`` for each region, device and bucket of run-time sizes, in an order that depends on nothing
else. A region is known by the hash of what it computes, so that a renamed model, or a line that moves, changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from rooftile.errors import OptionError, nearest, writing
from rooftile.ir.canonical import fingerprint
from rooftile.ir.core import Graph
from rooftile.runtime.whole_files import becoming
from rooftile.target import Target

FORMAT = 1
_HEAD = f"""\
# Schedules of kernels, chosen by measurement: written by `rooftile tune`, read by `rooftile.compile` with the option
# `lock`. `rooftile tune --check` says which of them a model still uses.
format = {FORMAT}
"""
_LEFT_OUT: tuple[object, ...] = (None, {}, ())


@dataclass(frozen=True)
class Entry:
    """What was chosen for a region on a device.

    ``axes`` are the schedule's axes in order, each ``"name: role tile"``; ``grid`` and ``group`` name axes; ``options``
    are its other fields. Where a library's kernels were faster, ``library`` names the ATen calls instead; where the
    sweep was faster in parts, ``parts`` is their number. ``sizes`` is the bucket of run-time sizes that it was timed
    in: powers of two. Times are microseconds; ``made_with`` are the versions that they were taken with.
    """

    name: str
    region: str
    device: str
    axes: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    group: tuple[str, int] | None = None
    options: Mapping[str, int | bool] = field(default_factory=dict)
    library: tuple[str, ...] = ()
    parts: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    microseconds: float | None = None
    first_choice: float | None = None
    made_with: str = ""

    @property
    def place(self) -> tuple[str, str, tuple[tuple[str, int], ...]]:
        """What it is an entry for: no two in a file are for the same."""
        return self.device, self.region, tuple(sorted(self.sizes.items()))


def region_key(body: Graph, precision: str, beside: Sequence[Graph]) -> str:
    """What a region is known by: the same for regions that compute the same, with fp32 products of ``precision``, and
    that share a launch with the same (``beside``, in order and the region among them; none where it has its own)."""
    text = " beside ".join(map(fingerprint, (body, *beside)))
    return sha256(f"{precision} {text}".encode()).hexdigest()[:16]


def device_key(target: Target) -> str:
    """What a device is known by: cards of one kind have one, parts of a card another."""
    if target.kind == "cpu":
        return "cpu"
    return f"{target.name}, sm_{target.arch}, {target.sm_count} processors"


def read_lock(path: Path) -> list[Entry]:
    """The entries of a lock file.

    Raises:
        OptionError: there is no such file, or it is not a lock file of this format; the message has the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise OptionError(f"the lock file {path} cannot be read: {error.strerror}", fix=_FIX) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is no lock file: {error}", fix=_FIX) from error
    if found.get("format") != FORMAT:
        text = f"{path} is of format {found.get('format')!r}, this version reads {FORMAT}"
        raise OptionError(text, fix=_FIX)
    rows = found.get("kernel", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OptionError(f"{path}: 'kernel' is no list of tables, each of which begins with [[kernel]]", fix=_FIX)
    heads = [number for number, line in enumerate(text.splitlines(), start=1) if _ROW.match(line)]
    places = heads if len(heads) == len(rows) else [0] * len(rows)
    return [_entry(path, row, line) for row, line in zip(rows, places, strict=True)]


_FIX = "write it anew: rooftile tune MODEL --lock FILE"
_ROW = re.compile(r"\s*\[\[\s*kernel\s*\]\]")


def _entry(path: Path, row: Mapping[str, Any], line: int) -> Entry:
    """The entry of a table that begins in a line, or in line 0 where that is not known."""
    missing = [name for name in ("name", "region", "device") if name not in row]
    strange = [name for name in row if name not in FIELDS]
    wrong = [name for name, value in row.items() if name in FIELDS and not FIELDS[name].allows(value)]
    if missing:
        what, fix = f"has no {missing[0]!r}", _FIX
    elif strange:
        what, fix = f"has a field {strange[0]!r}, which means nothing", nearest(strange[0], FIELDS)
    elif wrong:
        what, fix = f"has {wrong[0]} = {row[wrong[0]]!r}", f"what it holds is {FIELDS[wrong[0]].what}"
    else:
        fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in row.items()}
        return Entry(**fields)
    where = f"{path}:{line}" if line else str(path)
    raise OptionError(f"the kernel {row.get('name')!r} of a lock file {what}", where=where, fix=fix)


@dataclass(frozen=True)
class Field:
    """What a field of an entry may hold: in words, and whether a value is such a one."""

    what: str
    allows: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


_TEXT = Field("text", lambda value: isinstance(value, str))
_TEXTS = Field("a list of texts", lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value))
_TIME = Field("a number of microseconds", lambda value: type(value) in (int, float) and 0 <= value < inf)
FIELDS: Mapping[str, Field] = {
    "name": _TEXT,
    "region": _TEXT,
    "device": _TEXT,
    "axes": _TEXTS,
    "grid": _TEXTS,
    "group": Field(
        "the name of an axis and a number of tiles",
        lambda value: isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and _is_count(value[1]),
    ),
    "options": Field(
        "a table of numbers and switches",
        lambda value: isinstance(value, dict) and all(type(x) is bool or _is_count(x) for x in value.values()),
    ),
    "library": _TEXTS,
    "parts": Field("a number of parts", _is_count),
    "sizes": Field("a table of sizes", lambda value: isinstance(value, dict) and all(map(_is_count, value.values()))),
    "microseconds": _TIME,
    "first_choice": _TIME,
    "made_with": _TEXT,
}


def update_lock(path: Path, entries: Iterable[Entry]) -> None:
    """Put entries into the file at ``path``, in the place of those for the same; made if there is none.

    Other processes that do so at the same time wait; a reader sees the file before or after, whenever this is killed.
    Of a link it is the file that is written.

    Raises:
        OptionError: what is there is no lock file, or the file cannot be written.
    """
    with writing(f"the lock file {path}"):
        file = path.resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(file.parent):
            kept = read_lock(path) if path.exists() else []
            _replace(file, lock_text([*kept, *entries]))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Other processes that want to write there wait; no file is left behind by it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with becoming(path, partial):
        partial.write_text(text, encoding="utf-8")


def lock_text(entries: Iterable[Entry]) -> str:
    """The file's text; of entries for the same, the last counts."""
    by_place = {entry.place: entry for entry in entries}
    ordered = sorted(by_place.values(), key=lambda e: (e.device, e.name, e.region, sorted(e.sizes.items())))
    return "\n".join([_HEAD, *map(_entry_text, ordered)])


def _entry_text(entry: Entry) -> str:
    fields = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    lines = [f"{name} = {_value(value)}\n" for name, value in fields.items() if value not in _LEFT_OUT]
    return "".join(["[[kernel]]\n", *lines])


def _value(value: Any) -> str:
    """As TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
