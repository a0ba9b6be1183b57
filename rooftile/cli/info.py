"""``rooftile info``."""

from __future__ import annotations

import platform

from rooftile.cli.arguments import AsJson
from rooftile.cli.printing import show, show_json
from rooftile.config import VARIABLES, Config


def info(as_json: AsJson = False) -> None:
    """Versions, the device, the cache, and the environment variables."""
    facts = _facts()
    if as_json:
        show_json(facts)
        return
    from rooftile.report.text import Table, rich_table

    settings = Config.from_env()
    about = tuple((name, str(value)) for name, value in facts.items())
    variables = tuple((v.name, v.type, str(getattr(settings, v.field)), v.doc) for v in VARIABLES)
    show(rich_table(Table("This installation", ("what", "is"), about)))
    show(rich_table(Table("Environment variables", ("name", "takes", "is now", "meaning"), variables)))


def _facts() -> dict[str, str]:
    from rooftile.report.collect import versions
    from rooftile.runtime.cache import KernelCache
    from rooftile.runtime.devices import default_target

    target = default_target()
    kernels = KernelCache(Config.from_env().cache_dir)
    where = "through the interpreter" if target.kind == "cpu" else f"sm_{target.arch}, {target.sm_count} processors"
    return {
        **versions(),
        "python": platform.python_version(),
        "target": f"{target.name} ({where})",
        "cache": f"{kernels.path} ({len(kernels.entries())} kernels)",
    }
