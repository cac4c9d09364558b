"""The inventory's JSON Schema, for editors and other tools."""

from __future__ import annotations

from typing import Any, Final

from pytest_pveha.inventory.model import Inventory

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of an inventory file. What must agree between blocks only ``load`` checks."""
    schema = Inventory.model_json_schema(mode="validation")
    _tidy(schema)
    schema["$defs"]["Probe"] |= {"minProperties": 1, "maxProperties": 1}
    return {
        "$schema": DIALECT,
        "title": "pytest-pveha inventory",
        **{key: value for key, value in schema.items() if key != "title"},
        # a real site says itself what the simulator would supply
        "if": {"not": {"required": ["simulator"]}},
        "then": {
            "properties": {
                "cluster": {
                    "required": ["api"],
                    "properties": {
                        "api": {
                            "required": ["endpoints", "token_id", "token_secret"],
                            "properties": {"endpoints": {"minItems": 2}},
                        }
                    },
                },
                "nodes": {"additionalProperties": {"required": ["address", "ssh"]}},
                "guests": {"items": {"required": ["probes"], "properties": {"probes": {"minItems": 1}}}},
            }
        },
    }


def _tidy(part: Any) -> None:
    """No null alternatives and no defaults in seconds or bytes: a file says "5 min", and never null."""
    if isinstance(part, list):
        for one in part:
            _tidy(one)
    if not isinstance(part, dict):
        return
    choices = part.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        part["anyOf"] = rest
        if len(rest) == 1:
            del part["anyOf"]
            for key, value in rest[0].items():
                part.setdefault(key, value)
    if "default" in part and (
        part["default"] is None or (part.get("type") == "string" and not isinstance(part["default"], str))
    ):
        del part["default"]
    for key, value in list(part.items()):
        if key == "properties":
            for field in value.values():
                field.pop("title", None)
        _tidy(value)
