"""The inventory's JSON Schema, for editors and other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import TypeAdapter

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.model import Inventory

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of an inventory file. What must agree between blocks only ``load`` checks."""
    schema = Inventory.model_json_schema(mode="validation")
    for model, properties in _blocks(schema):
        for name, field in model.model_fields.items():
            # a value with a schema of its own hides its field's description, and names lose their pattern
            properties[name]["description"] = field.description
            _name_keys(properties[name], field.annotation)
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
                    # or it says that it has no Proxmox
                    "anyOf": [
                        {"required": ["api"]},
                        {"required": ["proxmox"], "properties": {"proxmox": {"const": False}}},
                    ],
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


def _blocks(schema: dict[str, Any]) -> Iterator[tuple[type[Block], dict[str, Any]]]:
    """Each model with the properties that its schema lists."""
    yield Inventory, schema["properties"]
    for model in _subclasses():
        if model.__name__ in schema["$defs"]:
            yield model, schema["$defs"][model.__name__]["properties"]


def _subclasses() -> list[type[Block]]:
    """Every block but the whole."""
    return [model for model in Block.__subclasses__() if model is not Inventory]


def _name_keys(schema: dict[str, Any], annotation: Any) -> None:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Mapping:
        names, values = get_args(annotation)
        # pydantic lets keys through that miss the pattern: propertyNames refuses them
        for values_schema in schema.pop("patternProperties", {}).values():
            schema["additionalProperties"] = values_schema
        schema["propertyNames"] = TypeAdapter(names).json_schema()
        _name_keys(schema["additionalProperties"], values)


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
