"""Every setting in one place: the environment variables, and the options of ``compile`` that beat them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from rooftile.errors import ConfigError, OptionError, nearest

Autotune: TypeAlias = Literal["none", "quick", "full"]
Mode: TypeAlias = Literal["default", "reduce-overhead", "max-autotune"]
Requirement: TypeAlias = Literal["no-extern", "no-breaks"]

AUTOTUNE: tuple[Autotune, ...] = get_args(Autotune)
MODES: tuple[Mode, ...] = get_args(Mode)
REQUIREMENTS: tuple[Requirement, ...] = get_args(Requirement)


@dataclass(frozen=True)
class Config:
    """The settings of one process or one compilation; ``VARIABLES`` says what each field means and its default."""

    cache_dir: Path
    compile_workers: int
    dump: Path | None = None
    debug: int = 0
    stop_after: str | None = None
    autotune: Autotune = "none"
    verify: bool = False
    target: str | None = None
    lock: Path | None = None
    library: bool = True
    without: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read every variable of ``VARIABLES``; an empty value counts as unset.

        Raises ConfigError, naming the variable, its value and what is allowed. A variable that only looks like one of
        ours (``ROOFTILE_DUMPS``) is reported by a warning, since another version may know it.
        """
        settings: dict[str, Any] = {
            "cache_dir": _default_cache_dir(environ),
            "compile_workers": _usable_cores(),
        }
        for variable in VARIABLES:
            if text := environ.get(variable.name):
                settings[variable.field] = _read_variable(variable, text)
        _warn_of_unknown(environ)
        return cls(**settings)

    def with_options(self, options: CompileOptions) -> Config:
        """These settings, with what ``options`` says put over them: arguments beat the environment."""
        shared = ("dump", "target", "autotune", "stop_after", "verify", "lock", "library", "without")
        said: dict[str, Any] = {f: getattr(options, f) for f in shared if getattr(options, f) is not None}
        if options.mode == "max-autotune":
            said.setdefault("autotune", "full")
        return replace(self, **said)


@dataclass(frozen=True)
class CompileOptions:
    """The arguments of ``rooftile.compile``, checked. ``None`` leaves a setting to the environment.

    ``dynamic`` is torch's: True makes every size symbolic, False none, None those that were seen to change.
    """

    mode: Mode = "default"
    dynamic: bool | None = None
    require: tuple[Requirement, ...] = ()
    dump: Path | None = None
    target: str | None = None
    autotune: Autotune | None = None
    stop_after: str | None = None
    verify: bool | None = None
    lock: Path | None = None
    library: bool | None = None
    without: tuple[str, ...] | None = None

    @classmethod
    def from_user(
        cls, mode: str | None = None, dynamic: bool | None = None, options: Mapping[str, Any] | None = None
    ) -> CompileOptions:
        """Check what a user wrote. Raises OptionError with the nearest valid mode, option name or value."""
        checked: dict[str, Any] = {
            "mode": _read_option("mode", _one_of(MODES), "default" if mode is None else mode),
            "dynamic": _read_option("dynamic", _one_of((None, True, False)), dynamic),
        }
        if not isinstance(options, Mapping | None):
            raise OptionError(f"the options are a {type(options).__name__}", fix='a dict: {"verify": True}')
        for name, value in (options or {}).items():
            if name not in OPTIONS:
                raise OptionError(f"unknown option {name!r}", fix=nearest(str(name), OPTIONS))
            checked[name] = _read_option(f"option {name!r}", OPTIONS[name], value)
        return cls(**checked)


def inputs_in_order(inputs: Any) -> tuple[Any, ...]:
    """What a model is to be called with, as a tuple.

    Raises:
        OptionError: it is no list or tuple: of a tensor, each row would be an input.
    """
    if not isinstance(inputs, list | tuple):
        raise OptionError(f"the inputs are a {type(inputs).__name__}", fix="give them as a tuple: (x,)")
    return tuple(inputs)


def _warn_of_unknown(environ: Mapping[str, str]) -> None:
    known = [variable.name for variable in VARIABLES]
    for name in environ:
        if name.startswith("ROOFTILE_") and name not in known:
            warnings.warn(
                f"environment variable {name} means nothing to Rooftile: {nearest(name, known)}", stacklevel=3
            )


def _usable_cores() -> int:
    # A container may be given fewer cores than the machine has; only Linux tells.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _default_cache_dir(environ: Mapping[str, str]) -> Path:
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base) / "rooftile"
    try:
        from platformdirs import user_cache_path
    except ImportError:
        # Images that bring their own torch often lack platformdirs, and Linux's answer is simple.
        return Path.home() / ".cache" / "rooftile"
    return user_cache_path("rooftile", appauthor=False)


# A reader turns text of the environment, or an option's value, into a setting; its ValueError says what is allowed.
Reader: TypeAlias = Callable[[object], Any]


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise ValueError("allowed: a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # there is no such user, or nobody knows where they live
        raise ValueError(f"allowed: a path that can be found: {error}") from None


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("allowed: a name")
    return value


def _whole(low: int, high: int | None = None) -> Reader:
    allowed = f"allowed: a whole number, {low} or more" if high is None else f"allowed: {low} to {high}"

    def read(value: object) -> int:
        text = str(value).strip()
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            raise ValueError(allowed)
        return int(text)

    return read


def _one_of(allowed: tuple[Any, ...]) -> Reader:
    def read(value: object) -> Any:
        # Identity of type as well: 1 is not True, and a typed table of words holds no numbers.
        if not any(value == word and type(value) is type(word) for word in allowed):
            raise ValueError(nearest(str(value), map(str, allowed)))
        return value

    return read


def _switch(value: object) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    answer = words.get(str(value).strip().lower())
    if answer is None:
        raise ValueError(nearest(str(value), words))
    return answer


def _requirements(value: object) -> tuple[Requirement, ...]:
    if not isinstance(value, str | list | tuple | set | frozenset):
        raise ValueError(f"allowed: a list of {', '.join(REQUIREMENTS)}")
    words = [value] if isinstance(value, str) else sorted(value, key=str)
    return tuple(_one_of(REQUIREMENTS)(word) for word in words)


def _names(value: object) -> tuple[str, ...]:
    """Names in a list, or in text with commas between."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple | set | frozenset) or not all(isinstance(word, str) for word in words):
        raise ValueError("allowed: names of rewrites")
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


@dataclass(frozen=True)
class Variable:
    """One environment variable: the ``Config`` field it sets, and what documentation says of it."""

    name: str
    field: str
    type: str
    default: str
    doc: str
    read: Reader


VARIABLES = (
    Variable(
        "ROOFTILE_DUMP", "dump", "path", "none", "write the IR after every pass, diffs, kernels and a repro here", _path
    ),
    Variable(
        "ROOFTILE_DEBUG",
        "debug",
        "0..4",
        "0",
        "how much is logged: 1 passes, 2 decisions, 3 IR, 4 launches",
        _whole(0, 4),
    ),
    Variable(
        "ROOFTILE_CACHE_DIR", "cache_dir", "path", "the user's cache folder", "where compiled kernels are kept", _path
    ),
    Variable("ROOFTILE_STOP_AFTER", "stop_after", "pass name", "none", "stop the pipeline after this pass", _name),
    Variable(
        "ROOFTILE_AUTOTUNE",
        "autotune",
        "|".join(AUTOTUNE),
        "none",
        "how many schedules are timed while compiling on a GPU: none, 8 a kernel, or 24",
        _one_of(AUTOTUNE),
    ),
    Variable("ROOFTILE_LOCK", "lock", "path", "none", "a file of measured schedules; with it nothing is timed", _path),
    Variable(
        "ROOFTILE_LIBRARY",
        "library",
        "0|1",
        "1",
        "whether tuning also tries a library's matrix products and attention, and what was tuned may name them",
        _switch,
    ),
    Variable("ROOFTILE_VERIFY", "verify", "0|1", "0", "run the verifier between all passes", _switch),
    Variable(
        "ROOFTILE_COMPILE_WORKERS",
        "compile_workers",
        "number",
        "the usable cores",
        "how many kernels compile at once",
        _whole(1),
    ),
    Variable(
        "ROOFTILE_WITHOUT", "without", "names", "none", "rewrites to leave out, as `rooftile check` names them", _names
    ),
    Variable("ROOFTILE_TARGET", "target", "target name", "the device in use", "compile for this target instead", _name),
)

OPTIONS: dict[str, Reader] = {
    "require": _requirements,
    "dump": _path,
    "target": _name,
    "autotune": _one_of(AUTOTUNE),
    "stop_after": _name,
    "verify": _one_of((True, False)),
    "lock": _path,
    "library": _one_of((True, False)),
    "without": _names,
}


def _read_variable(variable: Variable, text: str) -> Any:
    try:
        return variable.read(text)
    except ValueError as error:
        raise ConfigError(
            f"environment variable {variable.name}={text!r} is not a {variable.type}", fix=str(error)
        ) from None


def _read_option(what: str, read: Reader, value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise OptionError(f"{what} cannot be {value!r}", fix=str(error)) from None
