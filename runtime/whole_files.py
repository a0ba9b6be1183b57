"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def becoming(path: Path, partial: Path) -> Iterator[None]:
    """``partial``, which is written inside the ``with`` block, becomes ``path`` behind it; a full disk keeps none of
    it. Both lie in one folder.

    Raises:
        OSError: it could not be written, and ``path`` is as it was.
    """
    try:
        yield
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
