"""``ROOFTILE_DEBUG``: what is logged to standard error, and how much of it."""

from __future__ import annotations

import logging

from rooftile.compilation import Compilation
from rooftile.ir.printer import print_graph

_ROOT = logging.getLogger("rooftile")
_DECISIONS = logging.getLogger("rooftile.decisions")
_IR = logging.getLogger("rooftile.ir")

# Level of ROOFTILE_DEBUG -> the loggers that it opens, each with the lowest level that they let through.
_OPENED = (
    (1, "rooftile.passes", logging.INFO),
    (1, "rooftile.driver", logging.INFO),
    (2, "rooftile.decisions", logging.INFO),
    (2, "rooftile.tuning", logging.INFO),
    (3, "rooftile.ir", logging.INFO),
    (4, "rooftile.launches", logging.DEBUG),
)


def listen(debug: int) -> None:
    """Log as much as ``debug`` (0 to 4) says, unless the user's program has set up logging for ``rooftile`` itself."""
    if not debug:
        return
    for level, name, lowest in _OPENED:
        if debug >= level:
            logging.getLogger(name).setLevel(lowest)
    if not _ROOT.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        _ROOT.addHandler(handler)


def log_compilation(compilation: Compilation) -> None:
    """Log what each part took, every decision, and the graph after every pass that changed it."""
    parts = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in compilation.seconds.items())
    logging.getLogger("rooftile.driver").info("compiled %s: %s", compilation.imported.name, parts)
    for entry in compilation.context.ledger.of("compiled again"):
        logging.getLogger("rooftile.driver").info("that was compiled before; again, since %s", entry.reason)
    for entry in compilation.context.ledger:
        _DECISIONS.info("%s (%s): %s %s", entry.decision, entry.rule, entry.reason, " ".join(entry.sources))
    if _IR.isEnabledFor(logging.INFO):
        for stage in compilation.stages:
            if stage.changed:
                _IR.info("after %s:\n%s", stage.name, stage.text or print_graph(stage.graph))
