"""From a real inventory to handles: which endpoint is which node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from inventory_texts import REAL

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import UsageError
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load
from pytest_pveha.sim.servers.certs import Authority
from pytest_pveha.wire.ipmi import IpmiBmc
from pytest_pveha.wire.redfish import RedfishBmc

PIN = ":".join(["AB"] * 32)


def endpoints(tmp_path: Path, text: str) -> tuple[str, ...]:
    """The names of the endpoints that this inventory gives."""
    (tmp_path / "own.pem").write_bytes(Authority("prod1").pem)
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


@pytest.mark.parametrize("count", [1, 2])
def test_nodes_behind_one_address_come_in_their_order(tmp_path: Path, count: int) -> None:
    """Behind a forwarder, endpoints at one address are its nodes in turn; no port is made up for those left over."""
    shared = REAL.replace("192.0.2.12\n", "192.0.2.11\n").replace(
        "192.0.2.11\n    ssh: {", "192.0.2.11\n    ssh: {port: 2211, ", 1
    )
    given = ["192.0.2.11:18006", "192.0.2.11:28006" if count == 2 else "192.0.2.99"]
    text = shared.replace("[192.0.2.11, 192.0.2.12]", json.dumps(given)).replace("ca_file: ca.pem", "ca_file: own.pem")
    assert endpoints(tmp_path, text) == ("pve1", "pve2" if count == 2 else "192.0.2.99:8006")


def test_nodes_without_an_endpoint_are_asked_where_a_node_listens(tmp_path: Path) -> None:
    """With a CA file every node can be trusted: those that the inventory does not list are asked too, last."""
    text = REAL.replace("192.0.2.12]", "192.0.2.99]").replace("ca_file: ca.pem", "ca_file: own.pem")
    assert endpoints(tmp_path, text) == ("pve1", "192.0.2.99:8006", "pve2")


def made(tmp_path: Path, text: str) -> object:
    """The BMC handle of pve1 in this inventory."""
    (tmp_path / "own.pem").write_bytes(Authority("prod1").pem)
    path = tmp_path / "site.yml"
    text = text.replace("token_secret: env:TOKEN", "token_secret: env:HOME").replace(
        "ca_file: ca.pem", "ca_file: own.pem"
    )
    path.write_text(text, encoding="utf-8")
    return connect(load(path), LiveClock()).nodes["pve1"].bmc


REDFISH = REAL.replace("bmc: {", f'bmc: {{driver: redfish, system: "7", fingerprint: "{PIN}", ', 1)


def test_the_driver_chooses_the_client(tmp_path: Path) -> None:
    """A BMC is spoken to by the protocol that the inventory names, on that protocol's port, as the system it names."""
    assert isinstance(made(tmp_path, REAL), IpmiBmc)
    bmc = made(tmp_path, REDFISH)
    assert isinstance(bmc, RedfishBmc)
    assert (bmc.address.port, bmc.system, len(bmc.trust.fingerprints)) == (443, "7", 1)


def test_redfish_without_its_package_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sushy is not installed one message names the file, the key and the command."""
    monkeypatch.delitem(sys.modules, "pytest_pveha.wire.redfish", raising=False)
    monkeypatch.setitem(sys.modules, "sushy", None)
    with pytest.raises(
        UsageError, match=r"nodes.pve1.bmc.driver: redfish needs .*pip install 'pytest-pveha\[redfish\]'"
    ):
        made(tmp_path, REDFISH)
