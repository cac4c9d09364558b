"""The world: everything a simulated site consists of, moved by its timeline alone.

No sockets, no threads, no wall time: the same spec plays the same history. Whoever calls it serialises the calls.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.defects import check_known
from pytest_pveha.sim.spec import BmcSpec, GroupSpec, RuleSpec, SiteSpec
from pytest_pveha.sim.timeline import Event, Timeline
from pytest_pveha.sim.world.bmcs import BmcLogin
from pytest_pveha.sim.world.bonds import Bonds
from pytest_pveha.sim.world.canaries import Canaries
from pytest_pveha.sim.world.ceph import Ceph
from pytest_pveha.sim.world.corosync import Corosync
from pytest_pveha.sim.world.crm import Crm
from pytest_pveha.sim.world.files import NodeFiles
from pytest_pveha.sim.world.guests import GuestActs
from pytest_pveha.sim.world.journal import UNIT_OF
from pytest_pveha.sim.world.lrm import Lrm
from pytest_pveha.sim.world.mishaps import Mishaps
from pytest_pveha.sim.world.model import (
    ClusterView,
    Facts,
    Guest,
    GuestProcess,
    JournalLine,
    Node,
    Refused,
    Task,
    UnitState,
)
from pytest_pveha.sim.world.network import Network
from pytest_pveha.sim.world.paths import Paths
from pytest_pveha.sim.world.pbs import Pbs
from pytest_pveha.sim.world.pmxcfs import MANAGER_LOCK, Lock, Pmxcfs, agent_lock
from pytest_pveha.sim.world.power import UNITS, Power
from pytest_pveha.sim.world.replication import Replication
from pytest_pveha.sim.world.requests import Requests
from pytest_pveha.sim.world.restores import Restores
from pytest_pveha.sim.world.rules import NODE, RESOURCE
from pytest_pveha.sim.world.shutdown import Shutdowns
from pytest_pveha.sim.world.storages import Storages
from pytest_pveha.sim.world.switches import Feeds, Switches
from pytest_pveha.sim.world.systemd import Exec, Systemd
from pytest_pveha.sim.world.watchdog import Watchdog

Truth = Callable[[str, dict[str, Any]], None]

_SLOW_BMC = 30.0
_SLOW_ANSWER = 60_000_000


class World:
    """A site that has been up for days, from now on.

    ``run`` runs the commands of units; without it they fail.
    """

    def __init__(self, spec: SiteSpec, timeline: Timeline, truth: Truth, run: Exec | None = None) -> None:
        self.spec = spec
        self.timeline = timeline
        self.truth = truth
        self.nodes: dict[str, Node] = {}
        self.guests: dict[int, Guest] = {}
        self._defects = check_known(spec.defects)
        self._rngs: dict[str, Random] = {}
        for one in spec.nodes:
            offset = self.rng(f"clock {one.name}").uniform(-0.008, 0.008)
            self.nodes[one.name] = Node(one.name, one.nodeid, one, offset, Watchdog(self, one.name))
        for guest in spec.guests:
            one_guest = Guest(guest.vmid, guest.name, guest.kind, guest, guest.node)
            one_guest.disk_node, one_guest.start_failures = guest.node, guest.start_failures
            self.guests[guest.vmid] = one_guest
        self.pmxcfs = Pmxcfs(self)
        self.files = {name: NodeFiles(self, name) for name in self.nodes}
        self.network = Network(self)
        self.systemd = Systemd(self, run)
        self.outlets: dict[str, bool] = {}
        """What the PDU says of each node's outlets, once they were switched."""
        self.pdu_login = ""
        """NAME:PASSWORD of the PDU's web interface, which nodes reach."""
        self.bmcs: dict[tuple[str, int], BmcLogin] = {}
        """Which BMC answers at which host and port; the servers say so once they have ports."""
        self.switches = Switches(self)
        self.bonds = Bonds(self)
        self.feeds = Feeds(self)
        self.paths = Paths(self)
        self.corosync = Corosync(self)
        self.storages = Storages(self)
        self.canaries = Canaries(self)
        self.replication = Replication(self)
        self.guest_acts = GuestActs(self)
        self.requests = Requests(self)
        self.shutdowns = Shutdowns(self)
        self.power = Power(self)
        self.ceph = Ceph(self, spec.ceph) if spec.ceph is not None else None
        self.pbs = Pbs(self)
        self.restores = Restores(self)
        self.mishaps = Mishaps(self)
        self._begin()
        self.paths.begin()
        if self.ceph is not None:
            self.ceph.begin()
        self.mishaps.begin()
        self.pbs.begin()

    # what others ask

    def utc(self, node: Node | None = None) -> float:
        """Epoch seconds now; with a node, as its own clock has it."""
        return self.utc_of(self.timeline.now, node)

    def utc_of(self, t_ns: int, node: Node | None = None) -> float:
        """Epoch seconds of that moment; with a node, as its own clock has it."""
        return self.spec.epoch_utc + t_ns / SECOND + (node.clock_offset if node else 0.0)

    def planted(self, defect: str) -> bool:
        """Whether that defect is planted."""
        return defect in self._defects

    def ssh_reachable(self, node: str) -> bool:
        """Whether SSH answers there."""
        return self.nodes[node].running and self.nodes[node].units["sshd"].active

    def api_reachable(self, node: str) -> bool:
        """Whether pveproxy answers there."""
        return self.nodes[node].api_up

    def bmc_reachable(self, node: str, peer: str = "") -> bool:
        """Whether that node's BMC answers, there or to another node: it has its own power."""
        if not self.switches.carries("bmc") or (peer and self.mishaps.bmc_lost(self.nodes[peer])):
            return False
        if node not in self.nodes or self.planted("bmc-unreachable") or not self.behind_bmc(node, peer).bmc_up:
            return False
        first, last = self._ends()
        return not (self.planted("bmc-unreachable-from-one-node") and (peer, node) == (first, last))

    def behind_bmc(self, node: str, peer: str = "") -> Node:
        """The machine that the BMC at that node's address really belongs to, as seen by us or from another node."""
        names = list(self.nodes)
        first, last = self._ends()
        exchanged = self.planted("bmc-address-taken") and peer == first and node == last
        if not (exchanged or self.planted("bmc-cables-swapped")):
            return self.nodes[node]
        return self.nodes[names[(names.index(node) + 1) % len(names)]]

    def bmc_spec(self, node: str) -> BmcSpec:
        """How that node's BMC behaves, with what is planted in it."""
        spec = self.nodes[node].spec.bmc
        if node == self._ends()[1] and self.planted("bmc-slow"):
            spec = replace(spec, answer_seconds=_SLOW_BMC)
        if node == self._ends()[1] and self.planted("bmc-user-may-not-switch"):
            spec = replace(spec, privilege="USER")
        return spec

    def bmc_refuses(self, node: str) -> bool:
        """Whether that node's BMC takes no power off from other nodes, whatever it granted them."""
        return node in self.nodes and self.planted("bmc-refuses-peers")

    def _ends(self) -> tuple[str, str]:
        """The first and the last node: what is planted in a part of the site is planted there."""
        return next(iter(self.nodes)), next(reversed(self.nodes))

    def guest_answering(self, vmid: int) -> bool:
        """Whether the guest's application answers, through the bridge of the node it runs on."""
        processes = self.guests[vmid].processes
        return self.switches.carries("guest") and any(
            process.answering
            and process.link_up
            and self.nodes[name].bridge_up
            and self.bonds.carries(self.nodes[name], "guest")
            for name, process in processes.items()
        )

    def guest_late(self, vmid: int) -> int:
        """How long the guest's application takes for an answer, in ns, where a defect makes it slow."""
        if not self.planted("answers-slower-after-recovery"):
            return 0
        recovered = any(process.recovered for process in self.guests[vmid].processes.values())
        return _SLOW_ANSWER if recovered else 0

    def quorate(self, node: Node) -> bool:
        """Whether that node's cluster file system may be written."""
        return node.cfs_joined and self.corosync.has_quorum(node)

    def view_members(self, node: Node) -> frozenset[int]:
        """The node ids that node calls online: in its ring, with a cluster file system that has joined."""
        if not node.cfs_joined:
            return frozenset({node.nodeid}) if node.corosync_up else frozenset()
        joined = {n.nodeid for n in self.nodes.values() if n.cfs_joined or node.syncing}
        return node.members & joined

    def members(self, node: Node) -> frozenset[str]:
        """The names of the nodes that node calls online."""
        ids = self.view_members(node)
        return frozenset(n.name for n in self.nodes.values() if n.nodeid in ids)

    def cluster_view(self, node: Node) -> ClusterView:
        """What corosync and pmxcfs on that node say right now."""
        content = self.pmxcfs.read(node)
        quorate, members = self.quorate(node), self.view_members(node)
        tasks = [task for one in self.nodes.values() for task in one.tasks]
        return ClusterView(
            node=node.name,
            quorate=quorate,
            members=members,
            ring_id=node.ring_id,
            syncing=node.syncing,
            manager_status={
                "lrm_status": deepcopy(content.lrm),
                "manager_status": deepcopy(content.manager),
                # PVE shows this one as text
                "quorum": {"node": node.name, "quorate": "1" if quorate else ""},
            },
            resources=tuple(deepcopy(content.resources[sid]) for sid in sorted(content.resources)),
            rules=deepcopy(content.rules),
            groups=deepcopy(content.groups),
            options=deepcopy(content.options),
            config_nodes=self.pmxcfs.places(node),
            reports=dict(content.reports),
            node_status={n.name: self._shown(n, members) for n in self.nodes.values()},
            tasks=tuple(sorted(tasks, key=lambda t: (-t.starttime, t.upid))),
            expected_votes=self.corosync.expected_votes,
            device_votes=self.corosync.device.counted(node),
            quorum=self.corosync.quorum,
        )

    def _shown(self, node: Node, members: frozenset[int]) -> str:
        if node.nodeid not in members:
            return "offline"
        return "online" if node.reporting or node.booted_at is None else "unknown"

    # what others do

    def chassis(self, node: str, command: str) -> None:
        """The node's BMC has accepted "on", "off", "cycle", "reset" or "soft"; the effect comes a little later."""
        self.power.chassis(node, command)

    def mains(self, node: str, on: bool) -> None:
        """Somebody switched the outlets of that node, at the PDU or by hand."""
        names = list(self.nodes)
        self.outlets[node] = on
        if self.planted("pdu-switches-wrong-outlet"):
            node = names[(names.index(node) + 1) % len(names)]
        self.power.mains(node, on)

    def shutdown(self, node: str, reboot: bool) -> None:
        """The node's system has been told to power off, or to reboot: the site's shutdown policy applies."""
        self.shutdowns.begin(self.nodes[node], reboot)

    def crm_command(self, node: str, command: str) -> None:
        """The command waits for the master's next round. Refused without quorum.

        Commands: ``migrate SID NODE``, ``relocate SID NODE``, ``stop SID SECONDS``, ``enable-node-maintenance NODE``,
        ``disable-node-maintenance NODE``, ``disarm-ha freeze|ignore``, ``arm-ha``.
        """
        self._may_write(node)
        self.pmxcfs.store.commands.append(command)

    def remove_rule(self, node: str, name: str) -> None:
        """There is no HA rule of that name any more. Refused without quorum."""
        self._may_write(node)
        self.pmxcfs.store.rules.pop(name, None)

    def add_rule(self, node: str, kind: str, name: str, given: Mapping[str, str | None]) -> None:
        """That HA rule is in force from the master's next round on. Refused without quorum."""
        self._may_write(node)
        rules = self.pmxcfs.store.rules
        order = 1 + max((rule["order"] for rule in rules.values()), default=0)
        said = {key: int(value) if key == "strict" else value for key, value in given.items() if value is not None}
        rules[name] = {"rule": name, "type": kind, "order": order, **said}

    def _may_write(self, node: str) -> None:
        if not self.quorate(self.nodes[node]):
            raise Refused("cluster not ready - no quorum?")

    def start_guest(self, vmid: int, user: str = "root@pam") -> str:
        """The guest is asked to start; the task's UPID. Refused carries PVE's words."""
        return self.requests.start(vmid, user)

    def stop_guest(self, vmid: int, user: str = "root@pam") -> str:
        """The guest is asked to stop; the task's UPID. Refused carries PVE's words."""
        return self.requests.stop(vmid, user)

    def migrate_guest(self, vmid: int, target: str, user: str = "root@pam") -> str:
        """The guest is asked to move; the task's UPID. Refused carries PVE's words."""
        return self.requests.migrate(vmid, target, user)

    def kill_guest(self, vmid: int, node: str) -> None:
        """The guest's process on that node was killed, as by ``kill -9``."""
        self.guest_acts.gone(self.guests[vmid], node, "killed")
        self.guests[vmid].taken_for_running = self.planted("guest-not-restarted-after-kill")

    def cut_bridge(self, node: str) -> None:
        """The guests' bridge of that node has lost its uplink: they run, and nobody reaches them. HA sees nothing."""
        self.nodes[node].bridge_up = False
        self.truth("bridge_cut", {"node": node})

    def restore_bridge(self, node: str) -> None:
        """The guests of that node can be reached again."""
        self.nodes[node].bridge_up = True
        self.truth("bridge_restored", {"node": node})

    def cut_network(self, node: str) -> None:
        """The node's corosync cable is out."""
        self.nodes[node].link_up = False
        self.truth("network_cut", {"node": node})
        self.corosync.disturbed()

    def restore_network(self, node: str) -> None:
        """The node's corosync cable is in again; the rings join two seconds later."""
        self.nodes[node].link_up = True
        self.truth("network_restored", {"node": node})
        self.timeline.after(2.0, self.corosync.merge, "corosync joins")

    # what the parts share

    def rng(self, purpose: str) -> Random:
        """The random source for that purpose, seeded by the spec."""
        if purpose not in self._rngs:
            self._rngs[purpose] = Random(f"{self.spec.seed}:{purpose}")
        return self._rngs[purpose]

    def uid(self) -> str:
        """A new uid in the HA manager's form: 22 characters of base64."""
        digest = hashlib.md5(self.rng("uid").randbytes(16), usedforsecurity=False).digest()
        return base64.b64encode(digest).decode()[:22]

    def on(self, node: Node, seconds: float, act: Callable[[], None], what: str) -> Event:
        """Enter an event that happens only if the node has not died meanwhile."""
        life = node.life

        def alive() -> None:
            if node.life == life:
                act()

        return self.timeline.after(seconds, alive, what)

    def log(self, node: Node, ident: str, text: str, pid: int | None = None) -> None:
        """The node's journal has one more line, by the unit's main process unless a pid is given."""
        unit = UNIT_OF.get(ident, ident)
        main = node.units.get(unit)
        number = pid if pid is not None else main.pid if main else 0
        node.journal.append(JournalLine(self.timeline.now, unit, number, text, ident, node.boot_id))

    def new_pid(self, node: Node) -> int:
        """A pid not used since the node's boot."""
        node.next_pid += self.rng(f"pid {node.name}").randint(1, 20)
        return node.next_pid

    def open_task(self, node: Node, kind: str, subject: str, user: str) -> Task:
        """A task runs on that node."""
        pid, start = self.new_pid(node), int(self.utc(node))
        pstart = (self.timeline.now - (node.booted_at or 0)) * 100 // SECOND
        upid = f"UPID:{node.name}:{pid:08X}:{pstart:08X}:{start:08X}:{kind}:{subject}:{user}:"
        task = Task(upid, node.name, pid, pstart, start, kind, subject, user)
        node.tasks.append(task)
        return task

    def close_task(self, task: Task, status: str) -> None:
        """The task has ended with that exit status."""
        task.endtime = int(self.utc(self.nodes[task.node]))
        task.exitstatus = status
        task.log.append("TASK OK" if status == "OK" else f"TASK ERROR: {status}")

    def guest_of(self, sid: str) -> Guest:
        """The guest the HA manager calls by that sid."""
        return self.guests[int(sid.partition(":")[2])]

    def may_expire(self, lock: str, seconds: float) -> bool:
        """Whether that lock may be free within so many seconds, so that trying is worth while."""
        expires = self.pmxcfs.expires(lock)
        return expires is None or expires <= self.timeline.now + seconds * SECOND

    def follow_quorum(self, node: Node, had: bool) -> None:
        """The node's cluster file system has taken note of the new ring; ``had`` says whether it had quorum."""
        if not node.cfs_joined:
            return
        has = self.quorate(node)
        if had and not has:
            node.frozen = self.pmxcfs.snapshot()
            self.log(node, "pmxcfs", "[status] notice: node lost quorum")
            self.mishaps.quorum_lost(node)
        if has and not had:
            node.frozen = None
            self.log(node, "pmxcfs", "[status] notice: node has quorum")
        pids = {n.nodeid: n.units["pve-cluster"].pid for n in self.nodes.values() if n.cfs_joined}
        listed = ", ".join(f"{one}/{pids[one]}" for one in sorted(node.members & pids.keys()))
        for part in ("dcdb", "status"):
            self.log(node, "pmxcfs", f"[{part}] notice: members: {listed}")
        for part in ("dcdb", "status"):
            self.log(node, "pmxcfs", f"[{part}] notice: all data is up to date")

    def disturb_ceph(self) -> None:
        """Some node died, booted, or hears others than before: Ceph looks who is there."""
        if self.ceph is not None:
            self.ceph.disturbed()

    def join_pmxcfs(self, node: Node) -> None:
        """The node's cluster file system is one with the others': the node is online to them."""
        node.cfs_joined = True
        self.truth("joined", {"node": node.name})
        for other in self.corosync.reachable(node):
            self.follow_quorum(other, had=other is not node and self.quorate(other))

    def membership_lost(self, group: list[Node]) -> None:
        """A ring has lost members. Only a planted defect acts on it."""
        self.mishaps.lost(group)
        if self.planted("recovers-before-death"):
            first = min(group, key=lambda node: node.nodeid)
            # after the rounds that the old membership held up
            self.on(first, 0.5, lambda: self._hurry_crm(group), "a manager waits for nothing")

    def _hurry_crm(self, group: list[Node]) -> None:
        crms = [node.crm for node in group if self.quorate(node) and node.crm]
        if crms:
            min(crms, key=lambda crm: crm.state != "master").hurry()

    def hurry_lrm(self, node: str) -> None:
        """That node's LRM looks within a few seconds. Only a planted defect asks for it."""
        if lrm := self.nodes[node].lrm:
            lrm.hurry()

    # the beginning

    def _begin(self) -> None:
        rng = self.rng("beginning")
        for node in self.nodes.values():
            self.power.new_boot(node, -rng.randint(2 * 86400, 9 * 86400) * SECOND)
            node.running = node.api_up = node.reporting = node.cfs_joined = True
            node.cfs_started = (node.booted_at or 0) + SECOND
            for name in UNITS:
                node.units[name] = UnitState(name, True, self.new_pid(node), (node.booted_at or 0) + 10 * SECOND)
        self.corosync.begin()
        master = rng.choice(sorted(self.nodes))
        self._begin_services(master)
        for node in self.nodes.values():
            self._begin_guests(node)
            self._begin_daemons(node, node.name == master, rng)
            self.guest_acts.report(node)
            self.power.statd(node, rng.uniform(0.1, 10.0))
        self.replication.begin()

    def _begin_services(self, master: str) -> None:
        store = self.pmxcfs.store
        services: Facts = {}
        for guest in self.guests.values():
            if guest.spec.ha:
                store.resources[guest.sid] = _configured(guest)
                if (state := guest.spec.state) != "ignored":
                    running = {"running": 1} if state == "started" else {}
                    state = "started" if state == "started" else "stopped"
                    services[guest.sid] = {"node": guest.config_node, **running, "state": state, "uid": self.uid()}
        for order, rule in enumerate(self.spec.rules, 1):
            store.rules[rule.name] = _rule(rule) | {"order": order}
        store.groups = {group.name: _group(group) for group in self.spec.groups}
        if self.spec.shutdown_policy != "conditional":
            store.options["ha"] = {"shutdown_policy": self.spec.shutdown_policy}
        if self.spec.crs != "basic":
            store.options["crs"] = {"ha": self.spec.crs}
        if self.planted("max-workers-one"):
            store.options["max_workers"] = 1
        store.manager = {
            "master_node": master,
            "node_status": dict.fromkeys(sorted(self.nodes), "online"),
            "service_status": services,
            "timestamp": self.spec.epoch_utc if services else self.spec.epoch_utc - 86400,
        }

    def _begin_guests(self, node: Node) -> None:
        for guest in self.guests.values():
            guest.wanted = guest.spec.state in ("started", "ignored")
            if guest.config_node == node.name and guest.wanted:
                started = (node.booted_at or 0) + 30 * SECOND
                process = GuestProcess(self.new_pid(node), started, answering=True, agent_up=guest.spec.agent)
                guest.processes[node.name] = process

    def _begin_daemons(self, node: Node, master: bool, rng: Random) -> None:
        node.watchdog.say_driver()
        locks = self.pmxcfs.store.locks
        services = self.pmxcfs.store.manager["service_status"]
        state = "wait_for_quorum" if not services else "master" if master else "slave"
        node.crm = Crm(self, node, node.units["pve-ha-crm"].pid, state)
        until = rng.uniform(0.0, 10.0)
        node.crm.schedule(until)
        if master and services:
            # its last round was ten seconds before its next one
            locks[MANAGER_LOCK] = Lock(MANAGER_LOCK, node.name, 0, round((until - 10.0) * SECOND))
        mine = [
            self.guest_of(sid)
            for sid, service in services.items()
            if service["node"] == node.name and service["state"] == "started"
        ]
        node.lrm = Lrm(self, node, node.units["pve-ha-lrm"].pid, "active" if mine else "wait_for_agent_lock")
        until = rng.uniform(0.0, 10.0 if mine else 5.0)
        node.lrm.schedule(until)
        for guest in mine:
            uid = services[guest.sid]["uid"]
            node.lrm.results[uid] = {"exit_code": 0, "sid": guest.sid, "state": "started"}
        if mine:
            name = agent_lock(node.name)
            locks[name] = Lock(name, node.name, 0, round((until - 10.0) * SECOND))
            node.watchdog.open(node.lrm.pid)
        node.lrm.write_status()


def _configured(guest: Guest) -> Facts:
    """The service's configuration: what is not said is not there."""
    spec = guest.spec
    entry: Facts = {"sid": guest.sid, "state": spec.state, "type": guest.kind}
    for key in ("max_restart", "max_relocate", "failback"):
        if (value := getattr(spec, key)) is not None:
            entry[key] = int(value)
    return entry | {"group": spec.group} if spec.group else entry


def _rule(rule: RuleSpec) -> Facts:
    entry: Facts = {"rule": rule.name, "resources": ",".join(rule.guests)}
    if rule.affinity != "node":
        return entry | {"type": RESOURCE, "affinity": rule.affinity}
    entry |= {"type": NODE, "nodes": ",".join(rule.nodes)}
    return entry | {"strict": 1} if rule.strict else entry


def _group(group: GroupSpec) -> Facts:
    entry: Facts = {"group": group.name, "type": "group", "nodes": ",".join(group.nodes)}
    return entry | {key: 1 for key in ("restricted", "nofailback") if getattr(group, key)}
