"""``rooftile info``."""

from __future__ import annotations

from rooftile.cli.arguments import AsJson
from rooftile.cli.printing import show, show_json


def info(as_json: AsJson = False) -> None:
    """Versions, the device, the cache, and the environment variables."""
    from rooftile.installation import installation
    from rooftile.report.text import Table, rich_table

    found = installation()
    if as_json:
        show_json(found.to_dict())
        return
    variables = tuple((v.name, v.takes, v.value, v.meaning) for v in found.variables)
    show(rich_table(Table("This installation", ("what", "is"), tuple(found.facts().items()))))
    show(rich_table(Table("Environment variables", ("name", "takes", "is now", "meaning"), variables)))
