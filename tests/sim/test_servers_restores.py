"""Restores by the simulated REST API: what each call needs, changes and refuses; and the backup server's login."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import quote

import pytest

from pytest_pveha.sim.servers.api_routes import ApiError, Call, find
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.https_server import Reply, Request
from pytest_pveha.sim.servers.pbs_api import PbsServer
from tests.sim.servers_kit import PlayingGate, shell, small_site, told

USER = "pveha@pve!run"
RESTORE = {"vmid": "9000", "storage": "local-lvm", "unique": "1", "tags": "ours", "net0": "virtio,link_down=1"}


class Bench:
    """A small site whose guests are backed up, asked at pve1."""

    def __init__(self, **changes: Any) -> None:
        self.world = small_site(backup={"storage": "pbs1"}, **changes)
        self.gate = PlayingGate(self.world)
        self.archive = f"pbs1:backup/{self.world.pbs.snapshots[0].name}"

    def ask(self, method: str, path: str, **params: str) -> Any:
        """The call's answer; its refusal as the proxy would tell it."""
        route, parts = find(method, path, self.world.spec.version)
        if refusal := route.refused(self.world.spec.token_lacks, parts):
            raise refusal
        node = self.world.nodes[parts.get("node", "pve1")]
        return route.function(Call(Facts(self.world, node), USER, params), **parts)

    def restore(self) -> str:
        """A restore to 9000 on pve1 has begun; the task."""
        return str(self.ask("POST", "/nodes/pve1/qemu", archive=self.archive, **RESTORE))


@pytest.mark.parametrize(
    "lacking", ["VM.Allocate", "Datastore.AllocateSpace", "VM.Backup", "VM.Config.Options", "VM.Config.Network"]
)
def test_a_restore_needs_each_privilege(lacking: str) -> None:
    """Without one of them it is a 403 that names it, and nothing is made."""
    bench = Bench(token_lacks=[lacking])
    with pytest.raises(ApiError, match=rf"Permission check failed \(.*, {lacking}\)") as refused:
        bench.restore()
    assert refused.value.status == 403
    assert 9000 not in bench.world.guests


def test_what_is_made_is_changed_and_destroyed() -> None:
    """Its number is taken at once; locked nothing is done to it; a wrong digest changes nothing; then it goes."""
    bench = Bench()
    upid = bench.restore()
    assert bench.ask("GET", "/cluster/nextid") == "100"
    with pytest.raises(ApiError, match="Parameter verification failed"):
        bench.ask("GET", "/cluster/nextid", vmid="9000")
    with pytest.raises(ApiError, match="already exists on node 'pve1'"):
        bench.restore()
    with pytest.raises(ApiError, match=r"VM is locked \(create\)"):
        bench.ask("PUT", "/nodes/pve1/qemu/9000/config", onboot="0")
    bench.gate.play(90)
    assert bench.ask("GET", f"/nodes/pve1/tasks/{upid}/status")["exitstatus"] == "OK"
    config = bench.ask("GET", "/nodes/pve1/qemu/9000/config")
    with pytest.raises(ApiError, match="detected modified configuration"):
        bench.ask("PUT", "/nodes/pve1/qemu/9000/config", onboot="1", digest="0")
    bench.ask("PUT", "/nodes/pve1/qemu/9000/config", delete="serial0", digest=config["digest"])
    assert "serial0" not in bench.ask("GET", "/nodes/pve1/qemu/9000/config")
    with pytest.raises(ApiError, match="only root can set 'lock' config"):
        bench.ask("PUT", "/nodes/pve1/qemu/9000/config", delete="lock")
    bench.ask("DELETE", "/nodes/pve1/qemu/9000", purge="1")
    bench.gate.play(10)
    with pytest.raises(ApiError, match="does not exist"):
        bench.ask("GET", "/nodes/pve1/qemu/9000/config")


def test_a_stopped_task_leaves_a_lock_that_root_takes_away() -> None:
    """By the shell of its node: while the restore runs nobody gets at it, afterwards root does."""
    bench = Bench()
    upid = bench.restore()
    bench.gate.play(5)
    assert "got timeout" in shell(bench.gate, "qm unlock 9000").err
    bench.ask("DELETE", f"/nodes/pve1/tasks/{upid}")
    bench.gate.play(5)
    assert "lock: create" in told(bench.gate, "cat /etc/pve/nodes/pve1/qemu-server/9000.conf")
    listed = f"pvenode task list --source all --vmid 9000 --typefilter qmrestore --userfilter '{USER}'"
    assert upid in told(bench.gate, listed)
    assert told(bench.gate, f"{listed} --since 99999999999") == ""
    assert told(bench.gate, "qm unlock 9000 && qm destroy 9000 --purge 1 --destroy-unreferenced-disks 1") == ""
    assert 9000 not in bench.world.guests
    assert bench.world.restores.volumes == {}


def test_backups_are_listed_as_their_storage_has_them() -> None:
    """Volume id, time, size and verify state; of one guest where it is asked for; its configuration, too."""
    bench = Bench()
    rows = bench.ask("GET", "/nodes/pve1/storage/pbs1/content", content="backup", vmid="101")
    assert [row["volid"].startswith("pbs1:backup/vm/101/202") for row in rows] == [True] * 3
    assert rows[0]["verification"]["state"] == "ok"
    assert "name: svc1" in bench.ask("GET", "/nodes/pve1/vzdump/extractconfig", volume=bench.archive)
    assert {row["type"] for row in bench.ask("GET", "/storage", type="pbs")} == {"pbs"}
    bench.world.pbs.go()
    assert bench.ask("GET", "/nodes/pve1/storage/pbs1/status")["active"] == 0
    with pytest.raises(ApiError, match="error fetching datastores"):
        bench.ask("GET", "/nodes/pve1/storage/pbs1/content")


def asked(server: PbsServer, method: str, path: str, cookie: str = "", **params: str) -> Reply:
    """What the backup server answers to that."""
    with socket.socket() as sock:
        return server.answer(Request(method, f"/api2/json{path}", params, "", sock, cookie=cookie))


def test_the_backup_server_knows_tickets() -> None:
    """A login gives a ticket, which opens what a token does, for two hours; another one does not."""
    bench = Bench()
    server = PbsServer(bench.gate, None, "pveha@pbs!run", "a-secret-of-16-chars")  # type: ignore[arg-type]
    refused = asked(server, "POST", "/access/ticket", username="pveha@pbs", password="wrong")
    assert (refused.status, bench.gate.parked) == (401, [3.0])
    given = asked(server, "POST", "/access/ticket", username="pveha@pbs", password="a-secret-of-16-chars")
    ticket = given.body.split(b'"ticket":"')[1].split(b'"')[0].decode()
    cookie = f"PBSAuthCookie={quote(ticket)}"
    assert asked(server, "GET", "/admin/datastore", cookie).status == 200
    assert asked(server, "GET", "/admin/datastore/main/groups", cookie).status == 200
    assert asked(server, "GET", "/admin/datastore/main/namespace", cookie).body == b'{"data":[{"ns":""}]}'
    assert asked(server, "GET", "/nodes/localhost/tasks", cookie).status == 200
    assert asked(server, "GET", "/admin/none", cookie).status == 404
    assert asked(server, "GET", "/admin/datastore", "PBSAuthCookie=PBS:other").status == 401
    bench.gate.play(7300)
    assert asked(server, "GET", "/admin/datastore", cookie).status == 401
    server.port.close()
