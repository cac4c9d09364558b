"""From a real inventory to handles: which endpoint is which node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inventory_texts import REAL

from pytest_pveha.clock import LiveClock
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load

PIN = ":".join(["AB"] * 32)


def endpoints(tmp_path: Path, text: str) -> tuple[str, ...]:
    """The names of the endpoints that this inventory gives."""
    path = tmp_path / "site.yml"
    path.write_text(text.replace("token_secret: env:TOKEN", "token_secret: env:HOME"), encoding="utf-8")
    return connect(load(path), LiveClock()).cluster.endpoints


def pinned(text: str, *names: str) -> str:
    """The inventory with fingerprints for these endpoints in place of a CA file."""
    pins = "".join(f'      "{name}": "{PIN}"\n' for name in names)
    return text.replace("[192.0.2.11, 192.0.2.12]", json.dumps(names)).replace(
        "    ca_file: ca.pem\n", f"    fingerprints:\n{pins}"
    )


def test_endpoints_are_named_after_the_node_with_their_address(tmp_path: Path) -> None:
    """An endpoint at a node's own address is that node."""
    assert endpoints(tmp_path, pinned(REAL, "192.0.2.12", "192.0.2.11")) == ("pve2", "pve1")


def test_an_endpoint_at_an_address_of_nobody_keeps_its_own_name(tmp_path: Path) -> None:
    """A virtual address is no node: nothing that it says is taken for one node's view."""
    assert endpoints(tmp_path, pinned(REAL, "192.0.2.11", "192.0.2.99")) == ("pve1", "192.0.2.99:8006")


@pytest.mark.parametrize("port", [2211, 2212])
def test_an_address_that_nodes_share_names_none_of_them(tmp_path: Path, port: int) -> None:
    """Behind forwarded ports, three endpoints at one address are not all the first node."""
    text = REAL.replace("192.0.2.12\n", "192.0.2.11\n").replace(
        "192.0.2.11\n    ssh: {", f"192.0.2.11\n    ssh: {{port: {port}, ", 1
    )
    names = endpoints(tmp_path, pinned(text, "192.0.2.11:18006", "192.0.2.11:28006"))
    assert names == ("192.0.2.11:18006", "192.0.2.11:28006")
