"""Rooftile compiles transformer blocks, written as ordinary PyTorch modules, to a few readable Triton kernels.

>>> fast = rooftile.compile(model)               # also as a decorator, and torch.compile(model, backend="rooftile")
>>> print(rooftile.explain(model, *inputs))      # kernels, what fused and why, bytes, the roofline
>>> rooftile.tune(model, *inputs)                # measure schedules; compile(model, options={"lock": "rooftile.lock"})
>>> program = rooftile.export(model, inputs)     # ahead of time; program.save(path), rooftile.load(path)

Names load when they are first used, so that ``import rooftile`` costs nothing and the layers below may import each
other in their own order.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rooftile.ahead import export as export
    from rooftile.ahead import load as load
    from rooftile.api import compile as compile
    from rooftile.errors import ConfigError as ConfigError
    from rooftile.errors import InputError as InputError
    from rooftile.errors import InternalError as InternalError
    from rooftile.errors import OptionError as OptionError
    from rooftile.errors import OutOfRangeError as OutOfRangeError
    from rooftile.errors import ParseError as ParseError
    from rooftile.errors import RequirementError as RequirementError
    from rooftile.errors import RooftileError as RooftileError
    from rooftile.errors import UnsupportedError as UnsupportedError
    from rooftile.errors import UserError as UserError
    from rooftile.extending import register_op as register_op
    from rooftile.extending import register_pass as register_pass
    from rooftile.extending import register_reduction_rule as register_reduction_rule
    from rooftile.extending import register_rule as register_rule
    from rooftile.extending import register_scalar as register_scalar
    from rooftile.report.explaining import explain as explain
    from rooftile.tuning import tune as tune

__version__ = "0.1.0"

# Public name -> the module that defines it. No module may have the name of a function here: importing it would put the
# module in the function's place.
_HOMES = {
    "compile": "rooftile.api",
    "export": "rooftile.ahead",
    "explain": "rooftile.report.explaining",
    "load": "rooftile.ahead",
    "register_op": "rooftile.extending",
    "register_pass": "rooftile.extending",
    "register_reduction_rule": "rooftile.extending",
    "register_rule": "rooftile.extending",
    "register_scalar": "rooftile.extending",
    "tune": "rooftile.tuning",
    "ConfigError": "rooftile.errors",
    "InputError": "rooftile.errors",
    "InternalError": "rooftile.errors",
    "OptionError": "rooftile.errors",
    "OutOfRangeError": "rooftile.errors",
    "ParseError": "rooftile.errors",
    "RequirementError": "rooftile.errors",
    "RooftileError": "rooftile.errors",
    "UnsupportedError": "rooftile.errors",
    "UserError": "rooftile.errors",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rooftile' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
