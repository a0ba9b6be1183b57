"""What is left of a name without the numbers that stand alone in it: the same for identical layers."""

from __future__ import annotations

import re
from functools import lru_cache

_ENDS_IN_NUMBER = re.compile(r"_\d+$")


@lru_cache(maxsize=65536)
def stem(name: str) -> str:
    """``name`` as words joined by ``_``, without those that are numbers: ``layers.3.mlp_12`` gives ``layers_mlp``."""
    return "_".join(word for word in re.split(r"[^A-Za-z0-9]+", name) if word and not word.isdigit())


def without_number(name: str) -> str:
    """``name`` as it was before a number made it unique."""
    return _ENDS_IN_NUMBER.sub("", name)
