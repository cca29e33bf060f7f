"""The JSON Schema of result.json, made from the types in tasks/lib/results/schema.py.

python tests/helpers/result_schema.py > docs/result.schema.json
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tasks.lib.results import schema  # noqa: E402

SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def result_schema() -> dict[str, Any]:
    """The whole schema, with a definition for each type."""
    definitions: dict[str, Any] = {}
    top = described(schema.Result, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"result.json, schema {schema.SCHEMA}",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def assert_valid(content: Any) -> None:
    """Raises jsonschema.ValidationError if it is not a result.json."""
    import jsonschema

    jsonschema.Draft202012Validator(result_schema()).validate(content)


def described(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """One type. Those of TypedDicts are put into `definitions`. Raises TypeError for another."""
    if kind in SIMPLE:
        return {"type": SIMPLE[kind]}
    if is_typeddict(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # so that a type can hold itself
            properties = {key: described(one, definitions) for key, one in get_type_hints(kind).items()}
            definitions[kind.__name__] = {
                "description": (kind.__doc__ or "").strip(),
                "type": "object",
                "properties": properties,
                "required": sorted(kind.__required_keys__),
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [described(one, definitions) for one in arguments]}
    if origin is list:
        return {"type": "array", "items": described(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": described(arguments[1], definitions)}
    raise TypeError(f"{kind} has no JSON Schema here")


def keys() -> set[str]:
    """Every key of every type."""
    definitions: dict[str, Any] = {}
    described(schema.Result, definitions)
    return {key for one in definitions.values() for key in one["properties"]}


if __name__ == "__main__":
    print(json.dumps(result_schema(), indent=2))
