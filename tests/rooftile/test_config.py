"""The environment and the options: what is read, what is refused, and what beats what."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from rooftile.config import OPTIONS, VARIABLES, CompileOptions, Config
from rooftile.errors import ConfigError, OptionError


def test_an_empty_environment_gives_the_defaults() -> None:
    config = Config.from_env({"ROOFTILE_DUMP": "", "HOME": "/home/nobody"})
    assert (config.dump, config.debug, config.stop_after, config.target) == (None, 0, None, None)
    assert (config.autotune, config.verify) == ("none", False)
    assert config.compile_workers >= 1
    assert config.cache_dir.name == "rooftile"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("ROOFTILE_DUMP", "out/dumps", "dump", Path("out/dumps")),
        ("ROOFTILE_DUMP", "~/dumps", "dump", Path.home() / "dumps"),
        ("ROOFTILE_DEBUG", "4", "debug", 4),
        ("ROOFTILE_CACHE_DIR", "/var/kernels", "cache_dir", Path("/var/kernels")),
        ("ROOFTILE_STOP_AFTER", "fuse", "stop_after", "fuse"),
        ("ROOFTILE_AUTOTUNE", "quick", "autotune", "quick"),
        ("ROOFTILE_VERIFY", "1", "verify", True),
        ("ROOFTILE_VERIFY", "False", "verify", False),
        ("ROOFTILE_COMPILE_WORKERS", "7", "compile_workers", 7),
        ("ROOFTILE_TARGET", "h100", "target", "h100"),
    ],
)
def test_each_variable_sets_its_field(name: str, text: str, field: str, value: object) -> None:
    assert getattr(Config.from_env({name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("ROOFTILE_DEBUG", "5", "allowed: 0 to 4"),
        ("ROOFTILE_DEBUG", "-1", "allowed: 0 to 4"),
        ("ROOFTILE_AUTOTUNE", "ful", "did you mean 'full'? allowed: none, quick, full"),
        ("ROOFTILE_VERIFY", "maybe", "allowed: 1, true, yes, on, 0, false, no, off"),
        ("ROOFTILE_COMPILE_WORKERS", "0", "allowed: a whole number, 1 or more"),
        ("ROOFTILE_COMPILE_WORKERS", "two", "allowed: a whole number, 1 or more"),
        ("ROOFTILE_CACHE_DIR", "~no-such-user/cache", "allowed: a path that can be found"),
    ],
)
def test_a_bad_value_is_refused_by_name_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config.from_env({name: text})
    assert f"{name}={text!r}" in str(raised.value)
    assert allowed in str(raised.value)


def test_a_misspelt_variable_is_reported() -> None:
    with pytest.warns(UserWarning, match="ROOFTILE_DUMPS means nothing to Rooftile: did you mean 'ROOFTILE_DUMP'"):
        Config.from_env({"ROOFTILE_DUMPS": "out"})


def test_the_table_names_each_field_once() -> None:
    assert sorted(v.field for v in VARIABLES) == sorted(f.name for f in dataclasses.fields(Config))
    assert len({v.name for v in VARIABLES}) == len(VARIABLES)


def test_the_cache_folder_without_platformdirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert Config.from_env({"XDG_CACHE_HOME": "/var/cache/me"}).cache_dir == Path("/var/cache/me/rooftile")
    assert Config.from_env({}).cache_dir == Path.home() / ".cache" / "rooftile"


def test_options_default_to_the_environment() -> None:
    config = Config.from_env({"ROOFTILE_DUMP": "env", "ROOFTILE_VERIFY": "1"})
    assert config.with_options(CompileOptions.from_user()) == config


def test_options_beat_the_environment() -> None:
    config = Config.from_env({"ROOFTILE_DUMP": "env", "ROOFTILE_VERIFY": "1", "ROOFTILE_AUTOTUNE": "full"})
    options = CompileOptions.from_user(options={"dump": "arg", "verify": False, "autotune": "none", "target": "h100"})
    changed = config.with_options(options)
    assert (changed.dump, changed.verify, changed.autotune, changed.target) == (Path("arg"), False, "none", "h100")
    assert changed.cache_dir == config.cache_dir


@pytest.mark.parametrize(("said", "autotune"), [({}, "full"), ({"autotune": "quick"}, "quick")])
def test_max_autotune_times_schedules_unless_told_otherwise(said: dict[str, str], autotune: str) -> None:
    options = CompileOptions.from_user("max-autotune", options=said)
    assert Config.from_env({}).with_options(options).autotune == autotune


def test_requirements_are_a_word_or_a_list() -> None:
    assert CompileOptions.from_user(options={"require": "no-extern"}).require == ("no-extern",)
    both = CompileOptions.from_user(options={"require": ["no-extern", "no-breaks"]})
    assert both.require == ("no-breaks", "no-extern")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "max-autotun"}, "mode cannot be 'max-autotun'\n  fix: did you mean 'max-autotune'?"),
        ({"dynamic": 1}, "dynamic cannot be 1\n  fix: allowed: None, True, False"),
        ({"options": {"requires": []}}, "unknown option 'requires'\n  fix: did you mean 'require'?"),
        ({"options": {"require": "extern"}}, "option 'require' cannot be 'extern'\n  fix: did you mean 'no-extern'?"),
        ({"options": {"require": 3}}, "option 'require' cannot be 3\n  fix: allowed: a list of no-extern, no-breaks"),
        ({"options": {"verify": "yes"}}, "option 'verify' cannot be 'yes'\n  fix: allowed: True, False"),
        ({"options": {"dump": 3}}, "option 'dump' cannot be 3\n  fix: allowed: a path"),
        ({"options": {"autotune": "fast"}}, "option 'autotune' cannot be 'fast'\n  fix: allowed: none, quick, full"),
        ({"options": {"lock": "a\0b"}}, "option 'lock' cannot be 'a\\x00b'\n  fix: allowed: a path"),
        ({"options": ["verify"]}, "the options are a list\n  fix: a dict"),
        ({"options": {"target": ""}}, "option 'target' cannot be ''\n  fix: allowed: a name"),
    ],
)
def test_unknown_names_and_values_are_refused_with_the_nearest(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as raised:
        CompileOptions.from_user(**arguments)
    assert str(raised.value).startswith(said)


def test_every_option_is_a_field() -> None:
    assert set(OPTIONS) <= {field.name for field in dataclasses.fields(CompileOptions)}
