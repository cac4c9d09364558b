"""The same cases on simulated and real Ceph, by the same handles and faults: a difference between the two fails here.

What the real one says is recorded in ``recorded/ceph-16.2.15.json``; ``RECORD=1`` writes it anew. What differs from
cluster to cluster (addresses, epochs, where CRUSH put which placement group, how many objects there are) is left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ceph_lab import DOWN_OUT, PGS, POOL, SETTLES, TOOLS, CephCluster
from lab import AMPLE, needs
from worlds import world_site

from pytest_pveha.clock import SECOND, Clock, Deadline
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.ceph import CephNetworkCut, NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.fault import Fault
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.daemon import OsdDaemon
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import quote
from pytest_pveha.handles.site import Site
from pytest_pveha.observe import answer, ceph, ceph_map
from pytest_pveha.observe.ceph_witness import CephWitness
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.what_if import Prediction, without
from pytest_pveha.sim.servers.programs import run_program
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world.ceph.wires import CLUSTER
from pytest_pveha.sim.world.world import World
from tests.sim.servers_kit import PlayingGate

FILE = Path(__file__).parent / "recorded" / "ceph-16.2.15.json"
RECORDED: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
NAMES = ("ceph1", "ceph2", "ceph3")
TAG = "pveha-lab-ceph-both"
OBJECTS = 640
"""So many small ones lie in the pool: some in each placement group."""


class Bench:
    """A Ceph of three hosts with a mon and two OSDs each, simulated or real, by our handles and with our faults."""

    site: Site

    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen: dict[str, list[str]] = {}
        """What the witness has noted, in order."""
        self.observer = Observer(site, self._write)
        self._witness = CephWitness(self.observer)

    def _write(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "seen":
            self.seen.setdefault(data["what"], []).append(data["new"])

    def cut_power(self, name: str) -> None:
        """That host is dead."""
        raise NotImplementedError

    def back(self, name: str) -> str:
        """That host's address on the cluster network."""
        raise NotImplementedError

    @property
    def clock(self) -> Clock:
        return self.site.clock

    def soon(self) -> Deadline:
        """A deadline that is ample."""
        return self.clock.deadline(AMPLE)

    def look(self) -> None:
        """The witness has had its turn."""
        self._witness(View(None, None, "nobody serves an API here"))

    def until(self, true: Callable[[], bool], what: str, within: float = SETTLES) -> float:
        """It is true; the seconds until it was. The witness looks on."""

        def found() -> bool:
            try:
                return true()
            except SiteError:  # mons elect, say
                return False

        begin = asked = self.clock.now().mono
        while not found():
            late = self.clock.now().mono - begin >= within * SECOND
            assert not late, f"not within {within:g} s: {what}; {ceph_map.status(self.observer).in_words}"
            self.look()
            # half of the time is left to those who are asked
            self.clock.sleep(max(0.2, (self.clock.now().mono - asked) / SECOND))
            asked = self.clock.now().mono
        self.clock.sleep(2.1)  # its next turn
        self.look()
        return (self.clock.now().mono - begin) / SECOND

    def make(self, fault: Fault) -> None:
        """The fault was allowed, made, and seen to bite."""
        fault.preflight(self.observer)
        self.observer.broken_at = self.clock.now().mono
        fault.inject(self.observer)
        self.until(lambda: fault.took_effect(self.observer).verdict == "yes", f"{fault.kind} bites")

    def heal(self, fault: Fault) -> None:
        """It was undone, and seen to be."""

        def healed() -> bool:
            fault.heal(self.observer)
            return fault.healed(self.observer).verdict == "yes"

        self.until(healed, f"{fault.kind} is healed")

    def act(self, name: str, *words: str) -> None:
        """That command did its work there."""
        self.site.nodes[name].act(self.clock.deadline(SETTLES), *words)

    def run(self, name: str, *words: str) -> tuple[int, str, str]:
        """Status, output and complaint of that command there."""
        done = self.site.nodes[name].ssh.run(quote(*words), deadline=self.clock.deadline(SETTLES))
        return done.exit_status, done.stdout.decode(), done.stderr.decode()

    def are(self, states: set[str]) -> bool:
        """Whether the pool's placement groups are in these states: the manager says so, and has told the mons.

        Of what it counts for them the managers' own pool is left out: it may be empty.
        """
        told = ceph_map.status(self.observer).pgs.keys() - {"active+undersized"}
        return self.states() == states == told

    def states(self) -> set[str]:
        """In which states the pool's placement groups are, by the manager."""
        (pool,) = (one.id for one in shell.osd_map(self.site.nodes["ceph1"], self.soon()).pools.values() if
                   one.name == POOL)  # fmt: skip
        return {pg.state for pg in shell.pgs(self.site.nodes["ceph1"], self.soon()) if pg.pool == pool}

    def acting(self) -> set[int]:
        """The OSDs that serve placement groups, as the manager was told."""
        return {osd for pg in shell.pgs(self.site.nodes["ceph1"], self.soon()) for osd in pg.acting}

    def called_clean(self) -> bool:
        """Whether Ceph calls all of them active+clean, which may be older than its OSD map."""
        return ceph_map.status(self.observer).clean

    def clean(self) -> bool:
        """Whether all are active+clean, and that can be believed."""
        return answer.ask(ceph.clean(), self.observer).verdict == "yes"

    def without(self, *osds: int, noout: bool = False) -> Prediction:
        """What is foretold of the loss of these."""
        return without(ceph_map.read(self.observer), osds, noout=noout)

    def lost(self, osd: int) -> OsdLost:
        """The fault that takes that OSD of the first host."""
        return OsdLost("ceph1", osd, self.pid(osd))

    def pid(self, osd: int) -> int:
        """The process of that OSD of the first host."""
        return self.site.nodes["ceph1"].units.main_pid(f"ceph-osd@{osd}", self.soon())


class Real(Bench):
    """Machines of the laboratory."""

    def __init__(self, cluster: CephCluster) -> None:
        super().__init__(cluster.site)
        self._cluster = cluster

    def cut_power(self, name: str) -> None:
        self._cluster.machines[name].cut_power()

    def back(self, name: str) -> str:
        return self._cluster.machines[name].addresses["back"]


class Simulated(Bench):
    """The embedded site's world and commands."""

    def __init__(self) -> None:
        spec: dict[str, Any] = {
            "name": "ceph-lab",
            "cluster": "ceph-lab",
            "nodes": [{"name": name, "nodeid": n, "boot_seconds": 30.0} for n, name in enumerate(NAMES, 1)],
            "ceph": {
                "release": "pacific",
                "osds_per_node": 2,
                "mons": 3,
                "down_out_seconds": float(DOWN_OUT),
                "pools": [{"name": POOL, "pgs": PGS}],
                "fill": 0.01,
            },
        }
        self._world = World(SiteSpec.from_json(spec), Timeline(), lambda kind, data: None, run=run_program)
        self._gate = PlayingGate(self._world)
        super().__init__(world_site(self._gate, "ceph-lab"))
        self._gate.play(30)

    def cut_power(self, name: str) -> None:
        self._gate.kill(name)

    def back(self, name: str) -> str:
        assert self._world.ceph is not None
        return self._world.ceph.network.address(name, CLUSTER)


@pytest.fixture(scope="session")
def filled(ceph_started: CephCluster) -> CephCluster:
    """Each placement group of the real pool has objects."""
    words = ("-b", "4096", "-t", "8", "--no-cleanup", "--max-objects", str(OBJECTS), "--run-name", "both")
    ceph_started.client.run("rados", "-p", POOL, "bench", "60", "write", *words, within=SETTLES)
    return ceph_started


@pytest.fixture(params=["simulated", pytest.param("real", marks=[pytest.mark.daemons, needs(*TOOLS)])])
def bench(request: pytest.FixtureRequest, steady_soon: None) -> Bench:
    """A Ceph that is clean, and was looked at."""
    if request.param == "simulated":
        found: Bench = Simulated()
    else:
        request.getfixturevalue("filled")
        found = Real(request.getfixturevalue("real_ceph"))
    found.until(found.called_clean, "it is clean")
    return found


def same(bench: Bench, case: str, found: Any) -> None:
    """It is what was recorded of the real Ceph in that case."""
    found = json.loads(json.dumps(found))
    if isinstance(bench, Real) and os.environ.get("RECORD"):
        RECORDED[case] = found
        FILE.write_text(json.dumps(RECORDED, indent=1, sort_keys=True) + "\n", "utf-8")
    assert found == RECORDED[case]


# --- what is compared ------------------------------------------------------------------------------------------------

TRANSIENT = ("SLOW_OPS", "OSD_SLOW_PING_TIME_BACK", "OSD_SLOW_PING_TIME_FRONT")
"""Checks that a busy machine's OSDs raise whenever they are late."""


def plain(text: str) -> str:
    """The words without addresses and counts of objects and placement groups; ``undersized`` counts after a minute."""
    text = re.sub(r", \d+ pgs undersized", "", text)
    text = re.sub(r"\d+/\d+ objects (\w+) \([\d.]+%\)", r"N/N objects \1 (N%)", text)
    text = re.sub(r"\d+ (pgs?|PGs?|of|copies|placement groups?|undersized)\b", r"N \1", text)
    text = re.sub(r"\b[1-9]\d* (active|stale|peering|undersized)", r"N \1", text)
    text = re.sub(r"\d+\.[\da-f]+ is ", "PG is ", text)
    return re.sub(r"addr \[\S+\]|acting \[[\d,]*\]", "<where>", text)


def checks(told: dict[str, Any]) -> dict[str, Any]:
    """Health's word and its checks: severity, message, and the kinds of detail."""
    idle = {"PG is active+undersized, <where>"}
    found = {
        name: [
            check["severity"],
            plain(check["summary"]["message"]),
            check["muted"],
            sorted({plain(line["message"]) for line in check.get("detail", ())} - idle),
        ]
        for name, check in told["checks"].items()
        if name not in TRANSIENT
    }
    word = "HEALTH_WARN" if found else "HEALTH_OK"
    return {"status": word if set(told["checks"]) & set(TRANSIENT) else told["status"], "checks": found}


def status(told: dict[str, Any]) -> Any:
    """Of the states those of groups with objects: the managers' own pool may be empty."""
    states = {row["state_name"] for row in told["pgmap"]["pgs_by_state"]}
    osdmap, monmap = told["osdmap"], told["monmap"]
    return {
        "health": checks(told["health"]),
        "quorum": told["quorum_names"],
        "osds": [osdmap[key] for key in ("num_osds", "num_up_osds", "num_in_osds")],
        "mons": monmap["num_mons"],
        "release": monmap["min_mon_release_name"],
        "states": sorted(states - {"active+undersized"}),
        "told of": [told["pgmap"]["num_pgs"], sum(row["count"] for row in told["pgmap"]["pgs_by_state"])],
        "lacking": told["pgmap"].get("degraded_objects", 0) > 0,
        "manager": told["mgrmap"]["available"],
        "progress": type(told["progress_events"]).__name__,
    }


def osd_dump(told: dict[str, Any]) -> Any:
    osds = {each["osd"]: [each["up"], each["in"], each["weight"], each["state"]] for each in told["osds"]}
    keys = ("pool_name", "size", "min_size", "pg_num", "type", "crush_rule", "application_metadata")
    pools = sorted([each[key] for key in keys] for each in told["pools"] if each["pool_name"] == POOL)
    own = [each["pool_name"] for each in told["pools"] if each["pool_name"] != POOL]
    ratios = [told[key] for key in ("full_ratio", "backfillfull_ratio", "nearfull_ratio", "require_osd_release")]
    return {"flags": sorted(told["flags_set"]), "osds": osds, "pools": pools, "own": own, "ratios": ratios}


def osd_tree(told: dict[str, Any]) -> Any:
    rows = {row["id"]: row for row in told["nodes"]}
    below = {
        row["name"]: [[rows[child][key] for key in ("name", "status", "reweight", "exists")] for child in
                      sorted(row["children"])]
        for row in rows.values()
        if row["type"] == "host"
    }  # fmt: skip
    return {"hosts": below, "kinds": sorted({(row["type"], row["type_id"]) for row in rows.values()})}


def pgs(told: dict[str, Any]) -> Any:
    """Of the groups with objects."""
    rows = [row for row in told["pg_stats"] if row["state"] != "active+undersized"]
    kinds = {(row["state"], len(row["up"]), len(row["acting"])) for row in rows}
    return {"ready": told["pg_ready"], "kinds": sorted(kinds)}


def osd_df(told: dict[str, Any]) -> Any:
    return {row["id"]: [row["name"], row["status"], row["reweight"], row["kb"] > 0, row["pgs"] > 0]
            for row in told["nodes"]}  # fmt: skip


def df(told: dict[str, Any]) -> Any:
    return {"pools": sorted(row["name"] for row in told["pools"]), "osds": told["stats"]["num_osds"]}


def quorum_status(told: dict[str, Any]) -> Any:
    mons = [[row["name"], row["rank"]] for row in told["monmap"]["mons"]]
    return [told["quorum_names"], told["quorum_leader_name"], told["quorum"], mons]


def ok_to_stop(told: dict[str, Any]) -> Any:
    return {**{key: [] if key.startswith(("bad_", "ok_become")) else value for key, value in told.items()},
            "num_ok_pgs": told["num_ok_pgs"] > 0, "num_not_ok_pgs": told["num_not_ok_pgs"] > 0}  # fmt: skip


def itself(told: Any) -> Any:
    return told


ASKED: dict[str, Callable[[Any], Any]] = {
    "status": status,
    "health detail": checks,
    "osd dump": osd_dump,
    "osd tree": osd_tree,
    "osd crush rule dump": itself,
    "pg dump pgs_brief": pgs,
    "osd df": osd_df,
    "df": df,
    "quorum_status": quorum_status,
    "osd ok-to-stop 2 4": ok_to_stop,
}
"""What is asked of ``ceph``, by us or by who looks, and what of its answer is the same wherever it is asked."""


def answers(bench: Bench, name: str = "ceph1", only: tuple[str, ...] = tuple(ASKED)) -> dict[str, Any]:
    """Status, complaint and what was told, of each question."""
    found = {}
    for command in only:
        code, out, err = bench.run(name, *shell.words(*command.split(), "-f", "json", patience=30))
        found[command] = [code, plain(err), ASKED[command](json.loads(out))]
    return found


def said(text: str) -> str:
    """A condition's words without counts, and with the states in one order; the managers' own pool may be empty."""
    text = re.sub(r"\d+ (are|were|differ)\b", r"N \1", plain(text))
    states, semicolon, rest = text.partition(";")
    kept = sorted(set(states.split(", ")) - {"N active+undersized"})
    return ", ".join(kept) + semicolon + rest


def conditions(bench: Bench, told: Prediction) -> dict[str, list[str]]:
    """What our conditions say of it."""
    first = OsdDaemon(0, "ceph1")
    asked = (ceph.all_down([first]), ceph.marked_out(first), ceph.all_up([first, OsdDaemon(4, "ceph3")]),
             ceph.degraded(), ceph.rebuilding(), ceph.clean(), ceph.as_predicted(told),
             ceph.mons_in_quorum(NAMES))  # fmt: skip
    found = {}
    for condition in asked:
        got = answer.ask(condition, bench.observer)
        found[condition.name] = [got.verdict, said(got.saw)]
    return found


def foretold(told: Prediction) -> dict[str, Any]:
    """A prediction, without which and how many."""
    return {
        "serves": told.serves,
        "clean again": told.clean_again,
        "undersized": bool(told.undersized),
        "inactive": bool(told.inactive),
        "unreadable": bool(told.unreadable),
        "unsure": bool(told.unsure),
        "stays in": sorted(told.stays_in),
        "receivers": told.receivers,
        "no place": sorted(plain(line) for line in told.no_place),
    }


def kinds(told: Any, at: str = "") -> set[str]:
    """Each key of an answer with the kind of its value; what are names rather than keys is left out."""
    if isinstance(told, dict):
        return {at} | {one for key, inner in told.items() for one in kinds(inner, f"{at}.{key}")}
    if isinstance(told, list):
        return {f"{at}[]"} | {one for inner in told for one in kinds(inner, f"{at}[]")}
    number = isinstance(told, int | float) and not isinstance(told, bool)
    return {f"{at}: {'number' if number else type(told).__name__}"}


# --- the cases -------------------------------------------------------------------------------------------------------


def test_healthy(bench: Bench) -> None:
    """Whole, it says the same, no key is invented that the real one has not, and the same is foretold."""
    bench.until(bench.clean, "it is clean")
    found = answers(bench)
    same(bench, "healthy", found)
    told = bench.without(0)
    same(bench, "healthy, conditions", conditions(bench, told))
    same(bench, "foretold", {
        "an OSD": foretold(told),
        "a host": foretold(bench.without(4, 5)),
        "a host with noout": foretold(bench.without(4, 5, noout=True)),
        "two hosts": foretold(bench.without(2, 3, 4, 5)),
        "all": foretold(bench.without(*range(6))),
        "three OSDs": foretold(bench.without(0, 1, 2)),
    })  # fmt: skip
    assert shell.down_out_interval(bench.site.nodes["ceph2"], bench.soon()) == DOWN_OUT
    shapes = {}
    for command in ASKED:
        _, out, _ = bench.run("ceph1", *shell.words(*command.split(), "-f", "json", patience=30))
        shapes[command] = sorted(re.sub(r"\b(ssd|hdd)\b", "class", one) for one in kinds(json.loads(out)))
    if isinstance(bench, Real) and os.environ.get("RECORD"):
        same(bench, "keys", shapes)
    known = {command: set(keys) for command, keys in RECORDED["keys"].items()}
    invented = {
        command: [key for key in keys if key not in known[command] and not BESIDE.match(key)]
        for command, keys in shapes.items()
    }
    assert {command: keys for command, keys in invented.items() if keys} == {}


BESIDE = re.compile(
    r"\.mgrmap\.modules\[\]: str$|\.pgmap\.(read|write)_(bytes|op_per)_sec: number$|\.(range_)?blocklist\."
    r"|\.pg_(upmap|upmap_items|temp|upmap_primaries)\[\]|\.servicemap\.services\.|\.progress_events\."
    r"|\.pgmap\.(recovering_\w+|num_\w+_recovered): number$|\.(new_)?(removed|purged)_snaps\w*\[\]|\.crush_node_flags\."
)
"""Keys of what the recorded cluster had not just then: clients, modules of the manager, and traces of what was done to
it before."""

REFUSED = (
    "osd in 99", "osd out 99", "osd reweight 99 1", "osd find 99", "osd metadata 99", "osd safe-to-destroy 99 -f json",
    "osd ok-to-stop 99", "osd ok-to-stop 2 4", "config get mon nonsense", "osd pool get nope size",
    "health mute OSD_DOWN",
)  # fmt: skip
CHANGES = (
    "osd set noout", "osd set noout", "health", "osd unset noout", "osd unset noout", "osd in 0", "osd in osd.0 99",
    "osd reweight 0 0.85", "osd reweight 0 1", "osd set nodown -f json", "osd unset nodown -f json",
    "osd add-noout 0", "osd rm-noout 0", "osd pool get vmdata size",
)  # fmt: skip


def test_words(bench: Bench) -> None:
    """What it refuses, and what it changes, it says in the same words and with the same status."""
    found = []
    for command in (*REFUSED, *CHANGES):
        code, out, err = bench.run("ceph1", *shell.words(*command.split(), patience=30))
        told = json.loads(out) if out.startswith(("{", "\n{")) else out.strip()
        told = ok_to_stop(told) if "ok-to-stop" in command else told
        found.append([command, code, told, plain(err)])
    same(bench, "words", found)


def test_noout(bench: Bench) -> None:
    """Set, it is in the map and in health, and nobody sets it twice; unset, nothing of it is left."""
    fault = NooutSet("ceph1")
    bench.make(fault)
    with pytest.raises(PreflightRefused, match="noout is set already"):
        fault.preflight(bench.observer)
    same(bench, "noout", answers(bench, only=("status", "health detail", "osd dump")))
    bench.heal(fault)
    same(bench, "noout unset", answers(bench, only=("status", "health detail", "osd dump")))
    assert bench.seen["ceph/health"][-3:] == ["HEALTH_OK", "HEALTH_WARN OSDMAP_FLAGS", "HEALTH_OK"]


def test_an_osd_that_is_stopped(bench: Bench) -> None:
    """Kept in by noout it leaves groups degraded; without it is marked out, rebuilt on the other, and comes back."""
    told, flag, fault = bench.without(0), NooutSet("ceph1"), bench.lost(0)
    bench.make(flag)
    bench.make(fault)
    bench.until(lambda: bench.are({"active+clean", "active+undersized+degraded"}), "groups are degraded")
    same(bench, "OSD stopped", answers(bench))
    same(bench, "OSD stopped, conditions", conditions(bench, told))
    with pytest.raises(PreflightRefused, match="does not run; there is nothing to break"):
        fault.preflight(bench.observer)
    bench.heal(flag)
    bench.until(lambda: answer.ask(ceph.marked_out(OsdDaemon(0, "ceph1")), bench.observer).verdict == "yes", "out")
    bench.until(bench.clean, "it is clean on five", 2 * SETTLES)
    same(bench, "OSD marked out", answers(bench))
    same(bench, "OSD marked out, conditions", conditions(bench, told))
    assert 0 not in bench.acting()
    fault.heal(bench.observer)
    # it is in, nothing has peered with it, and as they say all is clean still, on the five others
    assert isinstance(bench, Real) or bench.called_clean()
    assert not bench.clean()
    bench.until(bench.clean, "it is clean on six", 2 * SETTLES)
    assert 0 in bench.acting()
    bench.heal(fault)
    same(bench, "OSD back", answers(bench, only=("status", "osd dump", "osd tree")))
    counts = bench.seen["ceph/osds"]
    assert counts[:3] == ["6 up 6 in of 6", "5 up 6 in of 6", "5 up 5 in of 6"]
    assert counts[-1] == "6 up 6 in of 6"  # in before it is up, or at once
    assert (bench.seen["ceph/lost"], bench.seen["ceph/full"]) == (["0"], ["no"])


def test_an_osd_that_is_killed(bench: Bench) -> None:
    """It is called down at once and its unit has it back by itself, which is seen by the epoch since which it is up."""
    flag = NooutSet("ceph1")  # on a busy machine it would be marked out meanwhile
    bench.make(flag)
    node = bench.site.nodes["ceph2"]
    before = shell.osd_map(node, bench.soon()).osds[0]
    fault = OsdKilled("ceph1", 0, bench.pid(0))
    fault.preflight(bench.observer)
    came = ceph.back(OsdDaemon(0, "ceph1", before.up_from))
    begin = bench.observer.broken_at = bench.clock.now().mono
    fault.inject(bench.observer)
    assert answer.ask(came, bench.observer).verdict == "no"  # whether Ceph has noticed or not
    bench.until(lambda: answer.ask(came, bench.observer).verdict == "yes", "it is back")
    assert (bench.clock.now().mono - begin) / SECOND > 10  # RestartSec
    assert fault.took_effect(bench.observer).verdict == "yes"
    bench.until(bench.called_clean, "it is clean")
    bench.heal(flag)
    assert bench.seen["ceph/osds"] == ["6 up 6 in of 6", "5 up 6 in of 6", "6 up 6 in of 6"]
    same(bench, "OSD killed", answers(bench, only=("status", "health detail", "osd dump")))


def test_a_host_that_is_lost(bench: Bench) -> None:
    """Its mon and OSDs are missed, the mon first; every group serves on with two copies."""
    told = bench.without(4, 5, noout=True)
    bench.make(NooutSet("ceph1"))
    bench.cut_power("ceph3")
    bench.until(lambda: bench.are({"active+undersized+degraded"}), "all groups are degraded")
    same(bench, "host lost", answers(bench))
    same(bench, "host lost, conditions", conditions(bench, told))
    order = [word for word in bench.seen["ceph/health"] if "DOWN" in word]
    assert "MON_DOWN" in order[0].split()
    assert "OSD_DOWN" not in order[0].split()
    assert bench.seen["ceph/osds"][-1] == "4 up 6 in of 6"


def test_a_cluster_network_that_is_cut(bench: Bench) -> None:
    """Health says nothing for many seconds; then the host's OSDs are called down, and its mon stays in quorum."""
    bench.make(NooutSet("ceph1"))
    addresses = tuple((name, (bench.back(name),)) for name in NAMES)
    cut = CephNetworkCut(TAG, "ceph3", "cluster", addresses, ((4, 1.0), (5, 1.0)), mon=True)
    begin = bench.observer.broken_at = bench.clock.now().mono
    cut.inject(bench.observer)
    bench.until(lambda: cut.took_effect(bench.observer).verdict == "yes", "its OSDs are called down")
    assert (bench.clock.now().mono - begin) / SECOND > 18
    bench.until(lambda: bench.are({"active+undersized+degraded"}), "all groups are degraded")
    same(bench, "cluster network cut", answers(bench))
    same(bench, "cluster network cut, conditions", conditions(bench, bench.without(4, 5, noout=True)))
    bench.heal(cut)
    bench.until(bench.called_clean, "it is clean again")
    assert set(bench.seen["ceph/mons"]) == {"ceph1 ceph2 ceph3"}


def questions(bench: Bench, error: str) -> None:
    """Each reading of ours ends in time with that error, and the conditions cannot tell."""
    node = bench.site.nodes["ceph1"]

    def asked(ask: Callable[[Node, Deadline], object]) -> None:
        begin = bench.clock.now().mono
        with pytest.raises(SiteError, match=error):
            ask(node, bench.clock.deadline(5))
        assert (bench.clock.now().mono - begin) / SECOND < 10

    asks = (shell.status, shell.osd_map, shell.places, shell.rules, shell.pgs, shell.rooms, shell.stored)
    with ThreadPoolExecutor(len(asks) if isinstance(bench, Real) else 1) as pool:  # each waits in vain for seconds
        list(pool.map(asked, asks))
    for condition in (ceph.clean(), ceph.degraded(), ceph.all_down([OsdDaemon(0, "ceph1")])):
        assert answer.ask(condition, bench.observer).verdict == "cant_tell"


def test_mons_without_a_quorum(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one answers as if nothing were, for seconds, and changes nothing; then nobody does, in these words."""
    for module in (ceph, ceph_map):
        monkeypatch.setattr(module, "ASK", 5.0)  # each node in turn is asked in vain
    for name in ("ceph2", "ceph3"):
        bench.act(name, "systemctl", "stop", f"ceph-mon@{name}")
    first = bench.run("ceph1", *shell.words("quorum_status", "-f", "json", patience=3))
    same(bench, "not yet noticed", [first[0], quorum_status(json.loads(first[1])), first[2]])
    same(bench, "a change that hangs", bench.run("ceph1", *shell.words("osd", "set", "noout", patience=2)))
    ask = shell.words("status", patience=2)
    bench.until(lambda: bench.run("ceph1", *ask)[0] == 1, "it is noticed", 40)
    same(bench, "no quorum", {
        "with patience": bench.run("ceph1", *ask),
        "as JSON": bench.run("ceph3", *shell.words("osd", "dump", "-f", "json", patience=2)),
        "a change": bench.run("ceph1", *shell.words("osd", "unset", "noout", patience=2)),
        "without": bench.run("ceph1", "timeout", "4", "ceph", "status"),
    })  # fmt: skip
    questions(bench, "is there a quorum of mons")
    bench.act("ceph1", "systemctl", "stop", "ceph-mon@ceph1")
    same(bench, "no mon", bench.run("ceph1", *ask))
    for name in NAMES:
        bench.act(name, "systemctl", "start", f"ceph-mon@{name}")
    bench.until(lambda: bench.run("ceph1", *ask)[0] == 0, "they answer again")
    bench.until(bench.called_clean, "it is clean")
    same(bench, "a quorum again", answers(bench, only=("quorum_status",)))


def test_no_manager(bench: Bench) -> None:
    """What only a manager knows is waited for in vain, with a connection; the mons tell the rest."""
    for name in NAMES[: 1 if isinstance(bench, Real) else 3]:
        bench.act(name, "systemctl", "stop", f"ceph-mgr@{name}")
    asked = ("pg dump pgs_brief", "osd df", "osd ok-to-stop 0")
    same(bench, "no manager", {one: bench.run("ceph1", *shell.words(*one.split(), patience=1)) for one in asked})
    with pytest.raises(SiteError, match="and a mgr"):
        shell.pgs(bench.site.nodes["ceph1"], bench.clock.deadline(5))
    bench.until(lambda: "MGR_DOWN" in ceph_map.status(bench.observer).checks, "it is complained of")
    same(bench, "no manager, told", answers(bench, only=("status", "health detail", "osd dump", "df")))
