"""The nodes' REST API over real HTTPS."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.sim.servers.certs import Authority
from pytest_pveha.sim.servers.https_api import ApiServer
from tests.sim.servers_kit import PlayingGate, small_site, told

TOKEN, SECRET = "root@pam!pveha", "0f1e2d3c"


@pytest.fixture(scope="module")
def authority() -> Authority:
    """The site's certificate authority."""
    return Authority("orcl")


class Site:
    """Three API servers over one world, and a client."""

    def __init__(self, authority: Authority, folder: Path, **changes: Any) -> None:
        self.gate = PlayingGate(small_site(**changes))
        self.trust = ssl.create_default_context(cadata=authority.pem.decode())
        self.trust.verify_flags |= ssl.VERIFY_X509_STRICT
        self.servers: dict[str, ApiServer] = {}
        certificates = {name: authority.issue(name) for name in self.gate.world.nodes}
        fingerprints = {name: certificate.fingerprint for name, certificate in certificates.items()}
        for name, certificate in certificates.items():
            tls = certificate.server_context(folder)
            server = ApiServer(name, self.gate, tls, TOKEN, SECRET, fingerprints=fingerprints)
            server.start()
            self.servers[name] = server
        self.open: list[http.client.HTTPSConnection] = []

    def connection(self, node: str) -> http.client.HTTPSConnection:
        """A connection to that node's API."""
        port = self.servers[node].port.port
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=self.trust)
        self.open.append(connection)
        return connection

    def ask(
        self, path: str, *, at: str = "pve1", method: str = "GET", secret: str = SECRET, body: str | None = None
    ) -> tuple[int, str, Any]:
        """Status, reason and decoded body."""
        connection = self.connection(at)
        headers = {"Authorization": f"PVEAPIToken={TOKEN}={secret}"} if secret else {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, f"/api2/json{path}", body, headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        return reply.status, reply.reason, json.loads(text) if text else text

    def data(self, path: str, at: str = "pve1") -> Any:
        """The ``data`` of a good answer."""
        status, reason, document = self.ask(path, at=at)
        assert (status, reason) == (200, "OK")
        return document["data"]

    def close(self) -> None:
        """Nothing is left open."""
        for connection in self.open:
            connection.close()
        for server in self.servers.values():
            server.close()


@pytest.fixture
def site(authority: Authority, tmp_path: Path) -> Iterator[Site]:
    """A healthy site."""
    site = Site(authority, tmp_path)
    yield site
    site.close()


KEYS = {
    "/version": {"release", "repoid", "version"},
    "/cluster/config/nodes": {"name", "node", "nodeid", "quorum_votes", "ring0_addr"},
    "/cluster/ha/resources": {"digest", "sid", "state", "type"},
    "/cluster/ha/status/manager_status": {"lrm_status", "manager_status", "quorum"},
    "/nodes/pve1/version": {"release", "repoid", "version"},
    "/nodes/pve1/services/pve-ha-lrm/state": {"active-state", "desc", "name", "service", "state", "unit-state"},
    "/nodes/pve2/services": {"active-state", "desc", "name", "service", "state", "unit-state"},
    "/nodes": {
        *("cpu", "disk", "id", "level", "maxcpu", "maxdisk", "maxmem", "mem"),
        *("node", "ssl_fingerprint", "status", "type", "uptime"),
    },
    "/cluster/resources?type=node": {
        *("cgroup-mode", "cpu", "disk", "hastate", "id", "level", "maxcpu", "maxdisk"),
        *("maxmem", "mem", "node", "status", "type", "uptime"),
    },
    "/cluster/resources?type=vm": {
        *("cpu", "disk", "diskread", "diskwrite", "id", "maxcpu", "maxdisk", "maxmem", "mem", "memhost", "name"),
        *("netin", "netout", "node", "status", "template", "type", "uptime", "vmid"),
    },
}
"""Path → the keys recorded on a healthy cluster, of the object or of every entry; HA guests carry hastate too."""


@pytest.mark.parametrize("path", KEYS)
def test_shapes_are_the_recorded_ones(site: Site, path: str) -> None:
    """A healthy site's replies have exactly the keys recorded on a real control plane."""
    data = site.data(path)
    for entry in data if isinstance(data, list) else [data]:
        assert set(entry) - {"hastate"} == KEYS[path] - {"hastate"}


def test_ha_status_of_a_healthy_site(site: Site) -> None:
    """Quorum, master, fencing, one LRM a node and one service an HA guest, in PVE's words."""
    site.gate.play(30)
    entries = site.data("/cluster/ha/status/current", at="pve2")
    assert [entry["type"] for entry in entries] == ["quorum", "master", "fencing", *["lrm"] * 3, *["service"] * 2]
    assert entries[0] == {"id": "quorum", "node": "pve2", "quorate": 1, "status": "OK", "type": "quorum"}
    assert entries[2]["status"] == "armed (CRM watchdog active)"
    assert entries[3]["status"].startswith("pve1 (active, watchdog active, Fri Jan  2 08:")
    assert entries[4]["status"].startswith("pve2 (idle, watchdog standby, ")
    assert entries[6]["status"] == "vm:101 (pve1, started)"
    assert set(entries[6]) == {
        *("crm_state", "failback", "id", "max_relocate", "max_restart", "node", "request_state", "sid", "state"),
        *("status", "type"),
    }


def test_groups_are_gone(site: Site) -> None:
    """PVE 9 refuses to list HA groups, in reason phrase and body."""
    message = "cannot index groups: ha groups have been migrated to rules"
    assert site.ask("/cluster/ha/groups") == (500, message, {"data": None, "message": message + "\n"})


def test_what_does_not_exist(site: Site) -> None:
    """Unknown paths, nodes and guests are refused in PVE's words."""
    assert site.ask("/cluster/nonsense")[:2] == (501, "Method 'GET /cluster/nonsense' not implemented")
    status, reason, _ = site.ask("/nodes/pve9/status")
    assert status == 500
    assert reason.startswith("hostname lookup 'pve9' failed")
    status, reason, _ = site.ask("/nodes/pve1/qemu/103/config")
    assert (status, reason) == (500, "Configuration file 'nodes/pve1/qemu-server/103.conf' does not exist")


@pytest.mark.parametrize(("secret", "reason"), [("wrong", "invalid token value!"), ("", "No ticket")])
def test_a_stranger_waits_three_seconds(site: Site, secret: str, reason: str) -> None:
    """A request without a good token is refused with 401, three seconds of site time later."""
    status, said, document = site.ask("/version", secret=secret)
    assert (status, said, document["message"]) == (401, reason, reason + "\n")
    assert site.gate.parked == [3.0]


def test_a_connection_is_kept(site: Site) -> None:
    """Several requests go over one connection."""
    connection = site.connection("pve1")
    for _ in range(3):
        connection.request("GET", "/api2/json/version", headers={"Authorization": f"PVEAPIToken={TOKEN}={SECRET}"})
        reply = connection.getresponse()
        assert reply.getheader("Content-Type") == "application/json;charset=UTF-8"
        assert json.loads(reply.read())["data"]["version"] == "9.1.9"
        sock = connection.sock
    assert connection.sock is sock


def test_a_client_stuck_in_the_handshake_blocks_nobody(site: Site) -> None:
    """Others are served while a client never begins its TLS handshake."""
    with socket.create_connection(site.servers["pve1"].port.address):
        assert site.data("/version")["release"] == "9.1"


def test_a_dead_node_through_the_proxy(site: Site) -> None:
    """A live node says 595 No route to host for a dead one, with no body, after about three seconds."""
    site.gate.kill("pve3")
    for path in ("/nodes/pve3/status", "/nodes/pve3/qemu/103/status/current"):
        assert site.ask(path) == (595, "No route to host", "")
    assert all(1.9 <= waited <= 3.1 for waited in site.gate.parked)
    assert site.ask("/nodes/pve3/qemu/103/status/start", method="POST", body="")[0] == 595


def test_a_node_whose_api_is_not_up_yet(site: Site) -> None:
    """For a booting node whose proxy daemon does not listen yet the others say Connection refused at once."""
    node = site.gate.kill("pve3")
    site.gate.play(5)
    site.gate.world.chassis("pve3", "on")
    site.gate.until(lambda: node.running and not node.api_up)
    assert site.ask("/nodes/pve3/status") == (595, "Connection refused", "")
    assert site.gate.parked == []


def test_the_loss_of_a_node_as_the_others_tell_it(site: Site) -> None:
    """Offline, old LRM timestamp, fence, starting and started follow as recorded; the dead node's guest runs on."""
    gate, world = site.gate, site.gate.world
    manager = world.pmxcfs.store.manager
    victim = "pve3" if manager["master_node"] != "pve3" else "pve1"
    other = "pve2"
    vmid = {"pve1": 101, "pve3": 103}[victim]
    sid = f"vm:{vmid}"
    gate.kill(victim)
    gate.play(35)

    def entry(path: str, key: str, value: str) -> dict[str, Any]:
        found = [each for each in site.data(path, at=other) if each.get(key) == value]
        assert len(found) == 1
        return dict(found[0])

    assert entry("/nodes", "node", victim)["status"] == "offline"
    assert "uptime" not in entry("/nodes", "node", victim)
    assert (
        "(old timestamp - dead?, watchdog standby, "
        in entry("/cluster/ha/status/current", "id", f"lrm:{victim}")["status"]
    )
    guest = entry("/cluster/resources?type=vm", "vmid", vmid)  # type: ignore[arg-type]
    assert (guest["status"], guest["node"], guest["hastate"]) == ("running", victim, "started")
    seen = []
    for _ in range(200):
        state = entry("/cluster/ha/status/current", "sid", sid)
        told = f"{state['state']}@{state['node']}"
        if told not in seen:
            seen.append(told)
        if state["state"] == "started" and state["node"] != victim:
            break
        gate.play(1)
    new = state["node"]
    assert seen[:2] == [f"started@{victim}", f"fence@{victim}"]
    assert seen[-2:] == [f"starting@{new}", f"started@{new}"]


def test_without_quorum(site: Site) -> None:
    """A node alone says so, keeps old service states, and refuses writes in PVE's words."""
    site.gate.world.cut_network("pve2")
    site.gate.until(lambda: not site.gate.world.cluster_view(site.gate.world.nodes["pve2"]).quorate, 30)
    site.gate.play(40)
    entries = site.data("/cluster/ha/status/current", at="pve2")
    assert entries[0]["status"] == "No quorum on node 'pve2'!"
    assert entries[0]["quorate"] == 0
    assert site.data("/cluster/ha/status/manager_status", at="pve2")["quorum"] == {"node": "pve2", "quorate": ""}
    status, reason, _ = site.ask("/nodes/pve2/qemu/102/status/stop", at="pve2", method="POST", body="")
    assert (status, reason) == (500, "cluster not ready - no quorum?")
    assert [node["online"] for node in site.data("/cluster/status", at="pve2")[1:]] == [0, 1, 0]


def test_a_filter_between_nodes_stops_the_proxy(site: Site) -> None:
    """A node whose packets another drops is not reached through it: 595 after the proxy's own patience."""
    rule = "ip saddr 10.99.0.13 tcp sport 8006 drop"
    chain = f"chain i {{ type filter hook input priority -300; {rule}; }}"
    told(site.gate, "nft -f -", "pve2", given=f"table inet x {{ {chain} }}")
    status, reason, body = site.ask("/nodes/pve3/status", at="pve2")
    assert (status, reason, body) == (595, "Connection timed out", "")
    assert site.gate.parked == [30.0]
    assert site.ask("/nodes/pve3/status", at="pve1")[0] == 200
    assert site.ask("/nodes/pve3/status", at="pve3")[0] == 200


def test_a_write_that_needs_a_lock_tries_for_ten_seconds(site: Site) -> None:
    """Without quorum the cluster-wide lock is not to be had: 500 in PVE's words, ten seconds later."""
    site.gate.world.cut_network("pve2")
    site.gate.until(lambda: not site.gate.world.cluster_view(site.gate.world.nodes["pve2"]).quorate, 30)
    for method, path, body, lock in (
        ("PUT", "/cluster/options", "max_workers=2", "file-datacenter_cfg"),
        ("POST", "/cluster/ha/resources/vm:101/migrate", "node=pve3", "file-ha_crm_commands"),
    ):
        site.gate.parked.clear()
        status, reason, _ = site.ask(path, at="pve2", method=method, body=body)
        assert (status, reason) == (500, f"cfs-lock '{lock}' error: no quorum!")
        assert site.gate.parked == [10.0]


def test_a_node_whose_proxy_hangs(site: Site) -> None:
    """Another node waits thirty seconds for its first byte and says 596; the node itself says nothing."""
    told(site.gate, "systemctl kill -s STOP pveproxy", "pve3")
    assert site.ask("/nodes/pve3/status") == (596, "Connection timed out", "")
    assert site.gate.parked == [30.0]


def test_a_token_without_a_privilege(authority: Authority, tmp_path: Path) -> None:
    """403 names path and privilege, in reason phrase and body, before anything is proxied."""
    site = Site(authority, tmp_path, token_lacks=["Sys.PowerMgmt"])
    site.gate.kill("pve3")
    text = "Permission check failed (/nodes/pve3, Sys.PowerMgmt)"
    status, reason, document = site.ask("/nodes/pve3/status", method="POST", body="command=reboot")
    assert (status, reason, document["message"]) == (403, text, text + "\n")
    site.close()


def test_what_the_token_may(authority: Authority, tmp_path: Path) -> None:
    """Of the path that was asked for, or of the first ones; what the token lacks is not among it."""
    site = Site(authority, tmp_path, token_lacks=["Sys.PowerMgmt"])
    _, _, document = site.ask("/access/permissions?path=/nodes/pve3")
    (held,) = document["data"].values()
    assert list(document["data"]) == ["/nodes/pve3"]
    assert (held["Sys.Audit"], "Sys.PowerMgmt" in held, "VM.GuestAgent.Audit" in held) == (1, False, True)
    assert {"/", "/vms"} < site.ask("/access/permissions")[2]["data"].keys()
    site.close()


def test_older_versions_say_it_in_the_reason_phrase_alone(authority: Authority, tmp_path: Path) -> None:
    """Before 8.4 the body of a refusal has no message."""
    site = Site(authority, tmp_path, version="8.3.5")
    status, reason, document = site.ask("/cluster/ha/rules")
    assert (status, reason) == (501, "Method 'GET /cluster/ha/rules' not implemented")
    assert document == {"data": None}
    site.close()


def test_reads_may_hang_while_the_membership_changes(site: Site) -> None:
    """Right after a fault every second read of cluster data waits, five seconds at most, and is answered then."""
    site.gate.kill("pve3")
    site.gate.until(lambda: site.gate.world.cluster_view(site.gate.world.nodes["pve1"]).syncing, 15)
    site.data("/cluster/ha/status/current")
    assert 0 < sum(site.gate.parked) <= 5.0
    site.gate.parked.clear()
    site.data("/version")
    assert site.gate.parked == []


def test_starting_and_stopping(site: Site) -> None:
    """A plain guest's task says how it ended; an HA guest's ends at once, having written the request."""
    status, _, document = site.ask("/nodes/pve2/qemu/102/status/stop", at="pve2", method="POST", body="")
    upid = document["data"]
    assert status == 200
    assert ":qmstop:102:root@pam!pveha:" in upid
    site.gate.play(10)
    assert site.data(f"/nodes/pve2/tasks/{upid}/status")["exitstatus"] == "OK"
    assert site.data(f"/nodes/pve2/tasks/{upid}/log")[-1]["t"] == "TASK OK"
    assert site.data("/nodes/pve2/qemu/102/status/current")["status"] == "stopped"
    _, _, document = site.ask("/nodes/pve1/qemu/101/status/stop", method="POST", body="")
    assert ":hastop:101:" in document["data"]
    assert site.data("/cluster/tasks")[0]["type"] == "hastop"
    status, _, _ = site.ask("/nodes/pve1/tasks/UPID:nonsense/status")
    assert status == 400


def test_migrating_an_ha_guest(site: Site) -> None:
    """The request is queued and answered at once; the guest is elsewhere some time later."""
    status, _, document = site.ask("/cluster/ha/resources/vm:101/migrate", method="POST", body="node=pve2")
    assert (status, document["data"]) == (200, {"requested-node": "pve2", "sid": "vm:101"})
    site.gate.until(lambda: site.gate.world.guests[101].config_node == "pve2")
    assert site.ask("/cluster/ha/resources/vm:101/migrate", method="POST", body="")[0] == 400


def test_a_node_that_dies_while_answering_says_nothing(site: Site) -> None:
    """A request waiting at a node that dies is never answered, and its connection is not even closed."""

    def die() -> None:
        site.gate.kill("pve1")
        site.servers["pve1"].port.silence()

    site.gate.meanwhile = die
    connection = site.connection("pve1")
    connection.timeout = 0.3
    connection.request("GET", "/api2/json/version")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    threads = [thread for thread in threading.enumerate() if thread.name == "api-pve1-client"]
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    sock = connection.sock
    site.servers["pve1"].port.revive()
    # asked of the kernel: TLS would call it an end of file
    with pytest.raises(ConnectionResetError):
        os.read(sock.fileno(), 1)


def test_a_requester_that_is_gone_changes_nothing(site: Site) -> None:
    """A write of somebody who hung up is not carried out, and the connection is closed without an answer."""
    site.gate.gone = True
    with pytest.raises(http.client.RemoteDisconnected):
        site.ask("/nodes/pve2/qemu/102/status/stop", at="pve2", method="POST", body="")
    site.gate.play(10)
    assert "pve2" in site.gate.world.guests[102].processes


def test_the_journal(site: Site) -> None:
    """The journal's lines come between two cursors."""
    site.gate.play(5.5)
    site.gate.world.log(site.gate.world.nodes["pve1"], "pve-ha-crm", "hello")
    lines = site.data("/nodes/pve1/journal?lastentries=1")
    assert lines[0] == lines[-1]
    assert lines[1].startswith("Jan 02 08:00:05 pve1 pve-ha-crm[")
    assert lines[1].endswith("]: hello")
    status, reason, document = site.ask("/nodes/pve1/journal?lastentries=many")
    assert (status, reason) == (400, "Parameter verification failed.")
    assert document["errors"] == {"lastentries": "type check ('integer') failed - got 'many'"}
