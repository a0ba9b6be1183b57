"""Whether data fit a JSON schema, for as much of the language as ours use; what is not among that is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"
_KNOWN = {
    "$defs", "$ref", "$schema", "additionalProperties", "anyOf", "description", "enum", "items", "properties",
    "required", "title", "type",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "object": (dict,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def misfits(data: Any, name: str) -> list[str]:
    """Where ``data`` differ from ``docs/schemas/<name>.schema.json``; empty where they fit."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return list(_misfits(data, schema, schema, "$"))


def _misfits(data: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> Iterator[str]:
    assert schema.keys() <= _KNOWN, f"{at}: this does not know {schema.keys() - _KNOWN}"
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema and all(list(_misfits(data, each, root, at)) for each in schema["anyOf"]):
        yield f"{at}: {data!r} fits none of {schema['anyOf']}"
    if "enum" in schema and data not in schema["enum"]:
        yield f"{at}: {data!r} is none of {schema['enum']}"
    if "type" in schema and not _is(data, schema["type"]):
        yield f"{at}: {data!r} is no {schema['type']}"
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield from _misfits(item, schema.get("items", {}), root, f"{at}[{number}]")
    elif isinstance(data, dict):
        yield from (f"{at}: no {name!r}" for name in schema.get("required", ()) if name not in data)
        known = schema.get("properties", {})
        for name, value in data.items():
            inside = known.get(name, schema.get("additionalProperties", {}))
            yield from _misfits(value, inside, root, f"{at}.{name}")


def _is(data: Any, name: str) -> bool:
    return isinstance(data, _TYPES[name]) and (name == "boolean") == isinstance(data, bool)
