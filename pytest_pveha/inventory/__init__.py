"""The inventory: one YAML file describes one site.

Importing this loads pydantic and ruamel.yaml (about 0.2 s): plug-in code imports it inside functions.
"""

from pytest_pveha.inventory.consent import consent_refusal, node_digest
from pytest_pveha.inventory.load import Site, load
from pytest_pveha.inventory.model import Inventory
from pytest_pveha.inventory.people import FAULT_KINDS
from pytest_pveha.inventory.schema import json_schema
from pytest_pveha.inventory.secrets import SecretRef
from pytest_pveha.inventory.simulated import simulator_spec
from pytest_pveha.inventory.values import parse_duration

__all__ = [
    "FAULT_KINDS",
    "Inventory",
    "SecretRef",
    "Site",
    "consent_refusal",
    "json_schema",
    "load",
    "node_digest",
    "parse_duration",
    "simulator_spec",
]
