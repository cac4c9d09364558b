"""What Ceph must be like: maps of a real one (16.2.15, three hosts of two OSDs), whole and with one thing wrong."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from inventory_texts import SIMULATED

from pytest_pveha.clock import SECOND, Clock, Instant, LiveClock
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.observe import ceph_map
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.readiness import ceph
from pytest_pveha.readiness.check import Check
from pytest_pveha.wire.pve_api import PveApi, Reply
from pytest_pveha.wire.ssh import CommandResult, Ssh


class Patient(LiveClock):
    """Real time, but what is slept through passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self._slept = 0

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.mono + self._slept, now.utc + self._slept)

    def sleep(self, seconds: float) -> None:
        self._slept += round(seconds * SECOND)


RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "ceph-16.2.15.json").read_text("utf-8"))
CLOCK = Patient()
CHECKS = {check.name: check for check in (*ceph.BLOCKERS, *ceph.FINDINGS)}

Told = dict[str, Any]
Change = Callable[[Told], object]


class Shell:
    """A node's shell: Ceph's own tool answers from these maps."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def run(self, command: str, **_: Any) -> CommandResult:
        now = CLOCK.now()
        words = re.sub(r".*ceph --connect-timeout \d+ (.*) -f json", r"\1", command)
        if words not in self._told:
            return CommandResult(1, b"", b"monclient: authenticate timed out", now, now)
        return CommandResult(0, json.dumps(self._told[words]).encode(), b"", now, now)


class Api:
    """PVE's API, as far as Ceph is asked by it."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def get(self, path: str, **_: Any) -> Reply:
        now = CLOCK.now()
        return Reply(self._told[path], "ceph1", now, now)


def whole(state: str = "whole") -> Told:
    """Everything that is asked, as it was recorded in that state."""
    told: Told = copy.deepcopy(RECORDED[state])
    told["/cluster/ceph/flags"] = [{"name": "noout", "value": 0}, {"name": "nodown", "value": 0}]
    told["/nodes/ceph1/ceph/mon"] = [{"name": f"ceph{n}", "host": f"ceph{n}"} for n in (1, 2, 3)]
    told["/nodes/ceph1/ceph/osd"] = {"root": {"name": "default", "type": "root", "children": []}}
    return told


def observer(told: Told) -> Observer:
    """A site of three nodes with that Ceph."""
    nodes = Nodes(Node(f"ceph{n}", cast("Ssh", Shell(told)), None, cast("Clock", CLOCK), ()) for n in (1, 2, 3))
    given: dict[str, Any] = dict.fromkeys(
        field.name for field in fields(Site) if field.default is MISSING and field.default_factory is MISSING
    )
    given |= {"name": "s", "simulated": True, "clock": CLOCK, "nodes": nodes, "ceph": Ceph(cast("PveApi", Api(told)))}
    site = Site(**given)
    looks = Observer(site, lambda kind, data: None)
    looks.look = lambda: View(None, None, "nobody serves an API here")  # type: ignore[method-assign]
    return looks


def answer(check: Check, *changes: Change, state: str = "whole") -> tuple[str, str]:
    """What the check says of that Ceph with these changes."""
    told = whole(state)
    for change in changes:
        change(told)
    found = check.ask(observer(told))
    return found.verdict, found.saw


# --- changes ---------------------------------------------------------------------------------------------------------


def gone(*what: str) -> Change:
    """That question has no answer."""
    return lambda told: [told.pop(one) for one in what]


def put(path: str, value: Any) -> Change:
    """``status/health/checks`` is that."""

    def change(told: Told) -> None:
        *way, last = path.split("/") if not path.startswith("/") else (path,)
        for key in way:
            told = told[key]
        told[last] = value

    return change


def complaint(name: str, status: str = "HEALTH_WARN") -> Change:
    """Health complains of that alone."""
    check = {name: {"severity": status, "summary": {"message": f"something of {name}", "count": 1}, "muted": False}}
    return put("status/health", {"status": status, "checks": check, "mutes": []})


def each(question: str, rows: str, **values: Any) -> Change:
    """Every row of that answer has these values."""
    return lambda told: [row.update(values) for row in told[question][rows]]


def used(part: float, *osds: int) -> Change:
    """These OSDs are so full."""

    def change(told: Told) -> None:
        for row in told["osd df"]["nodes"]:
            if row["id"] in osds:
                row["kb_used"] = round(part * row["kb"])

    return change


def grown(host: int, times: float) -> Change:
    """The OSDs of that host hold so many times as much as the others."""

    def change(told: Told) -> None:
        for row in told["osd tree"]["nodes"]:
            if row["type"] == "osd" and row["id"] // 2 == host:
                row["crush_weight"] *= times

    return change


def by(kind: str) -> Change:
    """The rule keeps those apart."""

    def change(told: Told) -> None:
        told["osd crush rule dump"][0]["steps"][1].update(op="choose_firstn", type=kind)

    return change


def a_fourth_host(told: Told) -> None:
    """There is another host with two OSDs, on which nothing lies yet."""
    tree, dump, room = told["osd tree"]["nodes"], told["osd dump"]["osds"], told["osd df"]["nodes"]
    tree[0]["children"].append(-9)
    tree.append({"id": -9, "name": "ceph4", "type": "host", "children": [6, 7]})
    for osd in (6, 7):
        tree.append({**next(row for row in tree if row["id"] == 0), "id": osd, "name": f"osd.{osd}"})
        dump.append({**dump[0], "osd": osd, "public_addr": "10.77.5.34:6805/1", "cluster_addr": "10.77.6.34:6805/1"})
        room.append({**room[0], "id": osd, "name": f"osd.{osd}", "kb_used": 1000})


def nothing(told: Told) -> None:
    """It is as it was recorded."""


# --- what is asked of it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "ceph-spare-place"])
def test_a_whole_ceph_is_fit(name: str) -> None:
    """Of each check there is a Ceph that passes it: a real one."""
    assert answer(CHECKS[name])[0] == "yes", answer(CHECKS[name])[1]


TWO_ON_ONE = (("a", "ceph1"), ("b", "ceph1"), ("c", "ceph2"))
MAPS = ("osd dump", "osd tree", "osd crush rule dump", "pg dump pgs_brief", "osd df", "df")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("ceph-whole", put("status/osdmap/num_up_osds", 5), "5 up and 6 in of 6 OSDs"),
        ("ceph-whole", put("status/osdmap/num_in_osds", 5), "6 up and 5 in of 6 OSDs"),
        ("ceph-whole", put("status/quorum_names", ["ceph1", "ceph2"]), "2 of 3 mons in quorum"),
        (
            "ceph-whole",
            put("status/pgmap/pgs_by_state", [{"state_name": "active+undersized+degraded", "count": 33}]),
            "33 active+undersized+degraded",
        ),
        *(("ceph-whole", complaint(name), f"{name}: something of {name}") for name in sorted(ceph.SERIOUS)),
        # whatever it is about, an error is one
        ("ceph-whole", complaint("RECENT_CRASH", "HEALTH_ERR"), "RECENT_CRASH: something of RECENT_CRASH"),
        ("ceph-flags", put("/cluster/ceph/flags", [{"name": "noout", "value": 1}]), "noout is set"),
        (
            "ceph-flags",
            put("/cluster/ceph/flags", [{"name": name, "value": True} for name in ("norecover", "nobackfill")]),
            "nobackfill, norecover is set",
        ),
        ("ceph-copies", each("osd dump", "pools", min_size=1), "vmdata: size 3, min_size 1"),
        ("ceph-copies", each("osd dump", "pools", size=1, min_size=1), "vmdata: size 1, min_size 1"),
        ("ceph-mons", put("/nodes/ceph1/ceph/mon", [{"name": "a", "host": "ceph1"}]), "1 mons: with one of them gone"),
        (
            "ceph-mons",
            put(
                "/nodes/ceph1/ceph/mon",
                [{"name": name, "host": f"ceph{at}"} for name, at in zip("abc", (1, 1, 2), strict=True)],
            ),
            "of 3 mons are 2 on ceph1",
        ),
        (
            "ceph-mutes",
            put("status/health/mutes", [{"code": "OSD_DOWN", "sticky": True, "summary": "", "count": 0}]),
            "OSD_DOWN: muted",
        ),
        ("ceph-room", used(0.86, 3), "the fullest OSD is at 86%"),
        ("ceph-spare-place", nothing, "rule replicated_rule finds 2 of 3 places, one in a host: it stays undersized"),
        ("ceph-one-osd", used(0.85, 0, 1), "would fill an OSD to"),
        ("ceph-even", grown(1, 1.5), "ceph2 holds 1.5 times as much as ceph1 (OSDs: ceph1 2, ceph2 2, ceph3 2)"),
    ],
)
def test_what_is_wrong_is_named(name: str, change: Change, words: str) -> None:
    """Each check says no to a Ceph with one thing wrong, and what it is."""
    verdict, saw = answer(CHECKS[name], change)
    assert verdict == "no", saw
    assert words in saw


# --- what is said of placement groups is older than the map -----------------------------------------------------------


def test_clean_is_believed_when_it_was_told_after_the_map_changed() -> None:
    """Before that nobody can tell: an OSD that has just come back has not peered yet, and all is called clean."""
    told = whole()
    looks = observer(told)
    found = [ceph_map.whole(looks, ceph_map.status(looks)).verdict]
    for change in (0, 0, 1, 0, 0):
        told["status"]["osdmap"]["epoch"] += change
        CLOCK.sleep(ceph_map.SETTLED * 0.6)
        found.append(ceph_map.whole(looks, ceph_map.status(looks)).verdict)
    assert found == ["cant_tell", "cant_tell", "yes", "cant_tell", "cant_tell", "yes"]


def test_clean_is_waited_for_until_it_can_be_believed() -> None:
    """So long, and no longer: a map that others change all the time never settles."""
    told = whole()
    looks = observer(told)
    begin = CLOCK.now().mono
    assert ceph_map.settled(looks)[1].verdict == "yes"
    assert ceph_map.SETTLED <= (CLOCK.now().mono - begin) / SECOND < ceph_map.SETTLED + 2

    def changed() -> View:
        told["status"]["osdmap"]["epoch"] += 1
        return View(None, None, "")

    looks.look = changed  # type: ignore[method-assign]
    changed()
    begin = CLOCK.now().mono
    assert ceph_map.settled(looks)[1].verdict == "cant_tell"
    assert ceph_map.PATIENCE <= (CLOCK.now().mono - begin) / SECOND < ceph_map.PATIENCE + 2


def test_the_manager_itself_has_to_call_them_clean() -> None:
    """What it told the mons last stands when it has died, and is older than what it knows."""
    told = whole()
    looks = observer(told)
    assert ceph_map.settled(looks)[1].verdict == "yes"
    told["pg dump pgs_brief"]["pg_stats"][3]["state"] = "peering"
    found = ceph_map.settled(looks)[1]
    assert (found.verdict, "is peering" in found.saw) == ("no", True)
    told.pop("pg dump pgs_brief")
    assert ceph_map.settled(looks)[1].verdict == "cant_tell"


@pytest.mark.parametrize("state", ["one down", "host down"])
def test_a_ceph_that_was_hurt_is_not_whole(state: str) -> None:
    """As a real one said of itself after an OSD, and after a host, were lost."""
    verdict, saw = answer(CHECKS["ceph-whole"], state=state)
    assert verdict == "no"
    assert re.search(r"undersized.*(PG_DEGRADED|OSD_DOWN): ", saw)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        # a crash of last week, a late scrub: told, and no reason to refuse
        ("ceph-whole", complaint("RECENT_CRASH")),
        ("ceph-whole", complaint("PG_NOT_DEEP_SCRUBBED")),
        ("ceph-whole", put("status/pgmap/pgs_by_state", [{"state_name": "active+clean+scrubbing+deep", "count": 33}])),
        ("ceph-flags", put("/cluster/ceph/flags", [{"name": "noscrub", "value": 1}])),
        ("ceph-spare-place", a_fourth_host),
        ("ceph-even", grown(1, 1.15)),
    ],
)
def test_what_does_no_harm_refuses_nothing(name: str, change: Change) -> None:
    """A check that said no to everything would be no check."""
    assert answer(CHECKS[name], change)[0] == "yes", answer(CHECKS[name], change)[1]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("ceph-whole", put("status/pgmap", {}), "does not tell of all placement groups"),
        ("ceph-whole", put("status/pgmap/num_pgs", 34), "does not tell of all placement groups"),
        ("ceph-copies", put("osd dump/pools", []), "Ceph tells of no pool"),
        ("ceph-mons", put("/nodes/ceph1/ceph/mon", []), "no mon is told of"),
        ("ceph-one-osd", each("osd dump", "osds", up=0), "no OSD is told of"),
        ("ceph-spare-place", by("osd"), "no rule's failure domain has OSDs"),
    ],
)
def test_what_is_not_told_is_not_taken_for_fine(name: str, change: Change, words: str) -> None:
    """An empty answer says nothing: it can't be told."""
    assert answer(CHECKS[name], change) == ("cant_tell", answer(CHECKS[name], change)[1])
    assert words in answer(CHECKS[name], change)[1]


@pytest.mark.parametrize(
    ("name", "change"), [("ceph-room", put("osd df/nodes", [])), ("ceph-even", put("osd tree/nodes", []))]
)
def test_maps_that_do_not_fit_together_say_nothing(name: str, change: Change) -> None:
    """OSDs of which one map knows and another does not: nothing is made of either."""
    with pytest.raises(SiteError, match=r"maps do not fit together: osd\.0 is not in `osd (df|tree)`"):
        answer(CHECKS[name], change)


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in ("ceph-flags", "ceph-mons")])
def test_without_mons_nothing_is_fine(name: str) -> None:
    """Where Ceph's own tool has no answer on any node, that is said, and no check says yes."""
    with pytest.raises(SiteError, match=r"no node could say how Ceph is: .*timed out|has no answer"):
        answer(CHECKS[name], gone("status", *MAPS))


# --- against the inventory -------------------------------------------------------------------------------------------


def declared(domain: str = "host", **networks: dict[str, Any]) -> Any:
    """An inventory that promises that failure domain, and declares these networks."""
    blocks = {
        kind: SimpleNamespace(cidr=block.get("cidr"), switch=tuple(block.get("switch", ())))
        for kind, block in networks.items()
    }
    return SimpleNamespace(model=SimpleNamespace(ceph=SimpleNamespace(failure_domain=domain), networks=blocks))


@pytest.mark.parametrize(
    ("domain", "change", "verdict", "words"),
    [
        ("host", nothing, "yes", "vmdata by host; device_health_metrics by host"),
        # all copies of a placement group on one host
        (
            "host",
            each("pg dump pgs_brief", "pg_stats", acting=[0, 1, 2]),
            "no",
            "pool vmdata (rule replicated_rule, by host): without host ceph1 32 placement groups would serve nothing",
        ),
        ("rack", nothing, "no", "no OSD stands in a rack"),
        ("host", put("osd dump/pools", []), "cant_tell", "Ceph tells of no pool"),
        ("host", each("osd dump", "pools", crush_rule=7), "cant_tell", "its rule 7 is not told of"),
    ],
)
def test_what_the_inventory_promises_to_lose(domain: str, change: Change, verdict: str, words: str) -> None:
    """The loss of one such domain must leave every placement group served: by where its copies are, not by its rule."""
    found = answer(ceph.failure_domain(declared(domain)), change)
    assert found[0] == verdict, found[1]
    assert words in found[1]


PUBLIC, CLUSTER = "10.77.5.0/24", "10.77.6.0/24"
APART = {
    "ceph_public": {"cidr": PUBLIC, "switch": ["sw1"]},
    "ceph_cluster": {"cidr": CLUSTER, "switch": ["sw2"]},
    "guest": {"switch": ["sw3"]},
}


@pytest.mark.parametrize(
    ("networks", "change", "verdict", "words"),
    [
        (APART, nothing, "yes", "public and cluster network have addresses of their own, and switches of their own"),
        ({}, nothing, "yes", "which switch ceph_cluster, ceph_public, guest uses is not declared"),
        (
            APART,
            each("osd dump", "osds", cluster_addr="10.77.5.31:6805/1", public_addr="10.77.5.31:6801/1"),
            "no",
            "osd.0, osd.1, osd.2, osd.3, osd.4, osd.5 talk to clients and to each other at one address",
        ),
        (
            {**APART, "ceph_cluster": {"cidr": "10.99.0.0/16", "switch": ["sw2"]}},
            nothing,
            "no",
            "osd.0 is at 10.77.6.31, and ceph_cluster is 10.99.0.0/16",
        ),
        (
            {**APART, "guest": {"switch": ["sw3", "sw1"]}},
            nothing,
            "no",
            "ceph_public and guest go through sw1",
        ),
        (APART, each("osd dump", "osds", cluster_addr=":/0"), "cant_tell", "no OSD tells its addresses"),
    ],
)
def test_networks_are_apart(networks: dict[str, Any], change: Change, verdict: str, words: str) -> None:
    """By the OSDs' addresses, by the networks that the inventory declares, and by their switches."""
    found = answer(ceph.networks(declared(**networks)), change)
    assert found[0] == verdict, found[1]
    assert words in found[1]


def test_an_inventory_without_ceph_promises_hosts(tmp_path: Path) -> None:
    """As the default of the block does."""
    path = tmp_path / "site.yml"
    path.write_text(SIMULATED)
    assert "one host leaves" in ceph.failure_domain(load(path)).title
