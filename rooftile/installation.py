"""What is installed here: versions, the device, the cache, and the settings in use."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rooftile.config import VARIABLES, Config
from rooftile.ir.registered import fingerprint
from rooftile.report.collect import versions
from rooftile.runtime.cache import KernelCache
from rooftile.runtime.devices import default_target


@dataclass(frozen=True)
class Setting:
    """An environment variable: what it takes, its value now or the one that stands for it, and what it means."""

    name: str
    takes: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Installation:
    """Versions (of ``triton``: ``none`` where there is none), the device that kernels are compiled for, the folder of
    the cache and how many kernels are in it; what else is ``registered``, by kind and name, with its digest; and the
    environment's ``variables``."""

    rooftile: str
    torch: str
    triton: str
    python: str
    target: str
    cache: str
    registered: Mapping[str, str]
    variables: tuple[Setting, ...]

    def facts(self) -> dict[str, str]:
        """All but the variables, by name."""
        named = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        return named | dict(self.registered)

    def to_dict(self) -> dict[str, Any]:
        """As JSON's types. docs/schemas/info.schema.json has the schema."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def installation() -> Installation:
    """What is here now.

    Raises:
        ConfigError: an environment variable has a value that is not allowed.
        OptionError: the environment names a target that does not exist.
    """
    settings, made = Config.from_env(), versions()
    target = default_target(settings.target)
    kernels = KernelCache(settings.cache_dir)
    where = "through the interpreter" if target.kind == "cpu" else f"sm_{target.arch}, {target.sm_count} processors"
    return Installation(
        rooftile=made["rooftile"],
        torch=made["torch"],
        triton=made["triton"],
        python=platform.python_version(),
        target=f"{target.name} ({where})",
        cache=f"{kernels.path} ({len(kernels.entries())} kernels)",
        registered=fingerprint(),
        variables=tuple(Setting(v.name, v.type, _text(getattr(settings, v.field)), v.doc) for v in VARIABLES),
    )


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
