"""The JSON Schema and the reference page say what the models say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inventory_texts import REAL, SIMULATED
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from pytest_pveha.inventory import FAULT_KINDS, Inventory, document, json_schema
from pytest_pveha.inventory.findings import inner_type

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "inventory.md").read_text(encoding="utf-8")


def plain(text: str) -> Any:
    """The data of an inventory's text, as JSON has it."""
    return json.loads(json.dumps(document.parse(Path("site.yml"), text.encode()).data))


def complaints(text: str) -> list[str]:
    """Where the schema finds something wrong."""
    found = Draft202012Validator(json_schema()).iter_errors(plain(text))
    return sorted(error.json_path for error in found)


def models(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every block with its place: ``nodes.<name>.bmc``, ``guests[]``."""
    yield path, model
    for name, field in model.model_fields.items():
        inner, suffix = inner_type(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from models(inner, f"{path}.{name}{suffix}".removeprefix("."))


def test_schema_is_a_schema() -> None:
    """It names its dialect and is valid in it."""
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", ["sim-3node.yml", "example-prod.yml"])
def test_shipped_inventories_fit_the_schema(name: str) -> None:
    """What ships is right for editors too."""
    assert complaints((ROOT / "inventories" / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (REAL.replace("name: small", "nam: small"), ["$.site", "$.site"]),
        (REAL.replace("rto: 5 min", "rto: 300"), ["$.objectives.tiers.gold.rto"]),
        (REAL.replace("rto: 5 min", "rto: 5 m"), ["$.objectives.tiers.gold.rto"]),
        (REAL.replace("env:TOKEN", "hunter2"), ["$.cluster.api.token_secret"]),
        (REAL.replace("id: vm:101", "id: 101"), ["$.guests[0].id"]),
        (REAL.replace("port: 443}}", "port: 443}, agent: true}"), ["$.guests[0].probes[0]"]),
        (REAL.replace("    address: 192.0.2.11\n", ""), ["$.nodes.pve1"]),
        (REAL.replace("[192.0.2.11, 192.0.2.12]", "[192.0.2.11]"), ["$.cluster.api.endpoints"]),
        (SIMULATED.replace("{seed: 1}", "{seed: one}"), ["$.simulator.seed"]),
        (SIMULATED.replace("pve2: {}", "pve_2: {}"), ["$.nodes"]),
        (REAL + "networks: {lan: {interface: eno1}}\n", ["$.networks"]),
        (REAL + "cepth: {}\n", ["$"]),
    ],
)
def test_schema_rejects(text: str, where: list[str]) -> None:
    """The schema finds what is wrong in one block, where it is."""
    assert complaints(text) == where


def test_schema_accepts_the_small_inventories() -> None:
    """A simulated site may leave out what a real one may not."""
    assert complaints(REAL) == []
    assert complaints(SIMULATED) == []


def test_schema_has_every_field_with_its_description() -> None:
    """Editors show for each key what the model says about it, and refuse other keys."""
    definitions = json_schema()["$defs"]
    for path, model in models(Inventory):
        schema = definitions[model.__name__] if path else json_schema()
        assert schema["additionalProperties"] is False, path
        assert set(schema["properties"]) == set(model.model_fields), path
        for name, field in model.model_fields.items():
            assert field.description, f"{path}.{name}"
            assert schema["properties"][name]["description"] == field.description, f"{path}.{name}"
        required = {name for name, field in model.model_fields.items() if field.is_required()}
        assert set(schema.get("required", [])) == required, path


def test_schema_knows_no_null_and_no_bare_seconds() -> None:
    """No key takes null, and no default is a number where a file writes a unit."""
    text = json.dumps(json_schema())
    assert '"null"' not in text
    for definition in json_schema()["$defs"].values():
        for field in definition.get("properties", {}).values():
            assert not (field.get("type") == "string" and isinstance(field.get("default"), int | float))


def sections() -> dict[str, str]:
    """The page's sections by their place in the file."""
    parts = re.split(r"^## `(.+)`$", PAGE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_page_documents_every_key() -> None:
    """Each key of each block stands in its section's table, and none that does not exist."""
    assert set(sections()) == {path or "top level" for path, _ in models(Inventory)}
    for path, model in models(Inventory):
        keys = re.findall(r"^\| `(\w+)` \|", sections()[path or "top level"], flags=re.M)
        assert keys == list(model.model_fields), path


def test_page_says_what_is_required() -> None:
    """The column `default` says "required" for exactly those keys that the model requires."""
    for path, model in models(Inventory):
        rows = re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", sections()[path or "top level"], flags=re.M)
        said = {name for name, default in rows if default.startswith("required")}
        assert said == {name for name, field in model.model_fields.items() if field.is_required()}, path


def test_page_explains_every_kind_of_fault() -> None:
    """Each kind that consent can grant is explained."""
    for kind, meaning in FAULT_KINDS.items():
        assert f"| `{kind}` | {meaning} |" in PAGE
