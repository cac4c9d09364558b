"""The site's replies beside those of a real control plane in the same state: names, types and words, field by field.

``recorded/pve-9.1.9.json`` holds replies of a PVE 9.1.9 control plane of three nodes, by state and path. Figures, uids,
digests and dates differ from site to site and are compared by kind; everything else must be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.sim.servers.api_routes import ApiError, Call, find
from pytest_pveha.sim.servers.facts import Facts
from tests.sim.ha_kit import Site, guest

RECORDED = json.loads((Path(__file__).parent / "recorded" / "pve-9.1.9.json").read_text(encoding="utf-8"))
STATES = [state for state in RECORDED if state != "version"]

FIGURES = {
    *("cpu", "uptime", "timestamp", "maxmem", "maxcpu", "mem", "disk", "maxdisk", "pid", "uid", "digest", "meta"),
    *("vmgenid", "smbios1", "ssl_fingerprint", "cpuinfo", "memory", "rootfs", "swap", "loadavg", "idle", "wait", "ksm"),
    *("current-kernel", "kversion", "pveversion", "level", "ostype", "unit-state", "kvm"),
}
"""What differs from site to site."""
FLICKERING = re.compile(r"pressure.*")
OTHER_HARDWARE = {"kvm", "family", "secureboot", "boot-info", "scsi0", "blockstat"}
"""What the recorded control plane's machine had, or had not, and a server with virtualisation has not, or has."""
_DATE = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}")


def plain(value: Any, key: str = "") -> Any:
    """The value without what differs from site to site: lists by their entries' names, dates and figures by kind."""
    if FLICKERING.fullmatch(key) or key in FIGURES:
        kept = isinstance(value, dict)
        return {name: "figure" for name in value if name not in OTHER_HARDWARE} if kept else "figure"
    if isinstance(value, dict):
        if key == "results":
            return "results"
        return {name: plain(inner, name) for name, inner in sorted(value.items()) if name not in OTHER_HARDWARE}
    if isinstance(value, list):
        return {_name(entry, number): plain(entry) for number, entry in enumerate(value)}
    return _DATE.sub("<date>", value) if isinstance(value, str) else value


def _name(entry: Any, number: int) -> str:
    names = ("id", "sid", "rule", "node", "name") if isinstance(entry, dict) else ()
    return next((str(entry[name]) for name in names if name in entry), str(number))


class Lab(Site):
    """The recorded control plane, simulated: n1 to n3, two HA guests and one without."""

    def __init__(self, seed: int) -> None:
        guests = (
            guest(101, "n1", max_restart=1, max_relocate=1, agent=False, disk_bytes=0),
            guest(102, "n2", ha=False, agent=False, disk_bytes=0),
            guest(103, "n3", agent=False, disk_bytes=0),
        )
        names = {101: "svc1", 102: "plain2", 103: "svc3"}
        named = [{**one, "name": names[one["vmid"]]} for one in guests]
        super().__init__(*named, seed=seed, prefix="n", cluster="orcl")
        self.world.pmxcfs.store.resources["vm:103"]["comment"] = "third service"
        self.play(120)

    def ask(self, path: str, at: str) -> tuple[int, str, Any]:  # type: ignore[override]
        """Status, reason and body of a GET, as the node's proxy would have it executed."""
        path, _, query = path.partition("?")
        route, parts = find("GET", path, self.world.spec.version)
        target = self.world.nodes[parts.get("node", at)]
        there = self.world.nodes[at].link_up and target.link_up and target.running
        if target.name != at and not there:
            return 595, "No route to host", ""
        params = dict(word.split("=") for word in query.split("&")) if query else {}
        fingerprints = dict.fromkeys(self.world.nodes, "AA:BB")
        try:
            data = route.function(Call(Facts(self.world, target), "root@pam!t", params, fingerprints), **parts)
        except ApiError as error:
            return error.status, error.message, {"data": None, "message": error.message + "\n"}
        return 200, "OK", {"data": data}


def with_master(name: str) -> Lab:
    """A lab whose master is that node."""
    return next(lab for lab in map(Lab, range(1, 40)) if lab.master == name)


def maintained_before(lab: Lab) -> Lab:
    """n3 was in maintenance once, and its guest is home again; the guest without HA has been stopped."""
    lab.status["node_request"] = {"n3": {}}
    lab.world.stop_guest(102)
    lab.play(20)
    return lab


def healthy() -> tuple[Lab, str]:
    return with_master("n1"), "n1"


def after_loss_25s() -> tuple[Lab, str]:
    lab = maintained_before(with_master("n1"))
    lab.cut("n3")
    lab.play(25)
    return lab, "n1"


def fencing() -> tuple[Lab, str]:
    lab = maintained_before(with_master("n3"))
    lab.cut("n1")
    lab.play(90)
    return lab, "n2"


def after_recovery() -> tuple[Lab, str]:
    lab, _ = fencing()
    lab.play(120)
    return lab, "n2"


def maintenance() -> tuple[Lab, str]:
    lab = with_master("n2")
    lab.command("migrate vm:101 n2")
    lab.play(60)
    lab.command("migrate vm:101 n1")
    lab.play(60)
    lab.command("enable-node-maintenance n3")
    lab.play(90)
    return lab, "n1"


def rule() -> tuple[Lab, str]:
    lab = with_master("n2")
    lab.status["node_request"] = {"n3": {}}
    pin = {"rule": "pin101", "type": "node-affinity", "resources": "vm:101", "nodes": "n1:1,n2:2", "order": 1}
    lab.world.pmxcfs.store.rules["pin101"] = pin
    lab.play(60)
    return lab, "n1"


def isolated() -> tuple[Lab, str]:
    lab = maintained_before(with_master("n1"))
    lab.world.cut_network("n3")
    # recorded 22 s after the cut, and less than 30 s after the master's last word: that depends on the round
    lab.play(18)
    return lab, "n3"


PREPARED: dict[str, Callable[[], tuple[Lab, str]]] = {
    "healthy": healthy,
    "after-loss-25s": after_loss_25s,
    "after-loss-90s-fencing": fencing,
    "after-recovery": after_recovery,
    "maintenance-n3": maintenance,
    "with-rule": rule,
    "isolated-n3-as-it-sees-itself": isolated,
}


def test_every_recorded_state_is_prepared() -> None:
    """No recording lies idle."""
    assert PREPARED.keys() == set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_replies_are_the_recorded_ones(state: str) -> None:
    """In that state each path answers as it did on the real control plane."""
    lab, at = PREPARED[state]()
    wrong = []
    for path, recorded in RECORDED[state].items():
        status, reason, body = lab.ask(path, at)
        here = {"status": status, "reason": reason, "body": plain(body)}
        there = {"status": recorded["status"], "reason": recorded["reason"], "body": plain(recorded["body"])}
        wrong += [f"{path}: {text}" for text in differences(there, here)]
    assert wrong == []


def differences(there: Any, here: Any, where: str = "") -> list[str]:
    """What the real control plane said and what the site says, where they are not the same."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = [f"{where} lacks {sorted(lost)}" for lost in [there.keys() - here.keys()] if lost]
        found += [f"{where} has {sorted(more)} too" for more in [here.keys() - there.keys()] if more]
        return found + [
            text
            for name in sorted(there.keys() & here.keys())
            for text in differences(there[name], here[name], f"{where}.{name}")
        ]
    return [] if there == here else [f"{where}: recorded {there!r}, the site says {here!r}"]
