"""What a program has registered beside the compiler's own: each by its kind and name, with a digest of what it is."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["pass", "rule", "reduction rule", "op", "scalar"]


@dataclass(frozen=True)
class Registration:
    """One thing that was registered."""

    kind: Kind
    name: str
    digest: str


REGISTERED: list[Registration] = []


def fingerprint() -> dict[str, str]:
    """The digest of everything that is registered, by kind and name: a part of the key of what is compiled."""
    return {f"{each.kind} {each.name}": each.digest for each in REGISTERED}


def digest_of(things: Iterable[Any]) -> str:
    """A digest of functions and classes by their source, of anything else by its text."""
    return hashlib.sha256("\0".join(map(_text, things)).encode()).hexdigest()[:16]


def _text(thing: Any) -> str:
    if not callable(thing):
        return repr(thing)
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):  # built in, or typed in at a prompt
        return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}"
