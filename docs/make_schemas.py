"""Writes docs/schemas/: the JSON schemas of what `--json` prints, made from the dataclasses that it is printed from.

python docs/make_schemas.py            write them
python docs/make_schemas.py --check    exit with 1 if one of them is out of date
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

from rooftile.blame.data import BisectReport, CheckReport, Measured
from rooftile.comparing.data import DumpDiff
from rooftile.dump import DumpRow
from rooftile.installation import Installation
from rooftile.report import Report
from rooftile.report.why import WhyRow
from rooftile.runtime.cache_entries import CacheRow, CacheTotals, Why
from rooftile.tuning import CheckedKernel, TuningReport

FOLDER = Path(__file__).parent / "schemas"
SCHEMAS: dict[str, type] = {
    "report": Report,
    "why": WhyRow,
    "check": CheckReport,
    "bisect": BisectReport,
    "diff": DumpDiff,
    "dump": DumpRow,
    "info": Installation,
    "tune": TuningReport,
    "tune-check": CheckedKernel,
    "cache-ls": CacheRow,
    "cache-stats": CacheTotals,
    "cache-why": Why,
}
VERDICTS = {CheckReport: "kept", DumpDiff: "same"}  # a property that is printed beside the fields
NOT_DATA = {"compilations"}  # what a dataclass holds beside its data
SCALARS = {int: "integer", float: "number", str: "string", Path: "string", bool: "boolean", type(None): "null"}


def schema_of(root: type) -> dict[str, Any]:
    """The schema of a dataclass as ``to_dict`` gives it, the dataclasses in it as definitions."""
    definitions: dict[str, Any] = {}
    found = _object(root, definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": root.__name__}
    return {**head, **found, "$defs": definitions}


def _object(row: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Every key is always there. New ones may come, so that others are allowed."""
    names_known = vars(sys.modules[row.__module__]) | {"Compilation": object}
    hints = typing.get_type_hints(row, names_known, include_extras=True)
    names = [f.name for f in dataclasses.fields(row) if f.name not in NOT_DATA]
    properties = {name: _type(hints[name], definitions) for name in names}
    if row in VERDICTS:
        names.append(VERDICTS[row])
        properties[VERDICTS[row]] = {"type": "boolean"}
    text = " ".join(inspect.cleandoc(row.__doc__ or "").replace("``", "`").split())
    return {"description": text, "type": "object", "properties": properties, "required": names}


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint is Any:
        return {}
    if hint == Measured:
        return {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(each, definitions) for each in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    raise TypeError(f"no schema for {hint}")


def main() -> int:
    """Write the schemas, or compare them with what is there."""
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, root in SCHEMAS.items():
        path, text = FOLDER / f"{name}.schema.json", json.dumps(schema_of(root), indent=2) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    print(f"out of date: {', '.join(stale)}" if stale else "schemas are as the code has them")
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main())
