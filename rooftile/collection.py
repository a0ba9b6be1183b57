"""Compiling without the garbage collector, which would look through all of torch again and again.

A compilation makes many small objects that live until its end, and with them come collections of the oldest
generation. They took 25 to 35% of what compiling whole models took; what they would have freed is little (25 MB of 540
for 16 layers of Llama).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_guard = threading.Lock()
_inside = 0  # how many `with` blocks there are in all threads
_was_enabled = True


@contextmanager
def no_collections() -> Iterator[None]:
    """Inside the ``with`` block cyclic garbage stays; behind the last one of all threads collections go on, if they did
    before."""
    global _inside, _was_enabled
    with _guard:
        if _inside == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if _inside == 0 and _was_enabled:
                gc.enable()
