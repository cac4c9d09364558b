"""What must hold before anything is broken. The gate asks these whatever was selected; ``-m readiness`` shows them."""

from __future__ import annotations

from pytest_pveha.clock import SECOND
from pytest_pveha.handles import corosync
from pytest_pveha.handles.cluster import FRESH, Manager
from pytest_pveha.handles.ha_homes import strangers
from pytest_pveha.observe.answer import Answer, Condition, ask, cant_tell, no, not_there, yes
from pytest_pveha.observe.ha import quorum_whole
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.sampler import Probe, asked_once
from pytest_pveha.readiness import ceph
from pytest_pveha.readiness.check import Check, Finding
from pytest_pveha.readiness.silent import each_node_asked
from pytest_pveha.readiness.storage import DISKS, REPLICAS

CLOCK = 1.0
"""Seconds a node's clock may differ from ours: lock and status ages are judged by node clocks."""

MILLISECOND = 0.001
"""Seconds: what corosync rounds its times to."""

ANSWERS = 3.0
"""Seconds a guest is given to take a connection: one lost packet is sent again after one (RFC 6298)."""

_DAEMONS = ("watchdog-mux", "pve-ha-lrm", "pve-ha-crm", "corosync", "pvestatd", "pvedaemon", "pveproxy")
"""What HA hangs on; without pvestatd the API goes on telling what the node's guests and memory once were, and without
the last two nothing is told or done there, which is noticed late where the node is no endpoint of the inventory."""

_LOST_AT_BOOT = "running, and not enabled, so that it is missing after a reset"

_IDLE = {"ignored", "disabled"}
"""Of these HA keeps its hands off: a guest that the inventory declares would stay down with its node."""

_HEALTHY = {"started", "stopped", "ignored", "disabled"}
"""HA service states that are somebody's wish, not trouble."""


def _cluster_is_named(observer: Observer) -> Answer:
    view = observer.look()
    if view.membership is None:
        return view.unseen()
    there, named = set(view.membership.online), set(observer.site.nodes.names)
    if there != named:
        extra = ", ".join(sorted(there - named)) or "none"
        lacking = ", ".join(sorted(named - there)) or "none"
        return no(f"nodes only on the site: {extra}; only in the inventory: {lacking}")
    return yes(f"{view.membership.cluster}: {', '.join(sorted(there))}")


def _themselves(observer: Observer) -> Answer:
    """A node may be another machine by now: its address given away, a forwarder turned round, a disk cloned."""
    others: list[str] = []
    cloned: list[str] = []
    machines: dict[str, str] = {}
    for node in observer.site.nodes:
        calls_itself = node.host_name(observer.site.clock.deadline(READ))
        if calls_itself.lower() != node.name.lower():
            others.append(f"at the SSH address of {node.name} is a machine that calls itself {calls_itself[:60]}")
            continue
        machine = node.machine_id(observer.site.clock.deadline(READ))
        if machine in machines:
            cloned.append(f"{machines[machine]} and {node.name} have the same machine id")
        machines.setdefault(machine, node.name)
    if others:  # of the nodes that were meant nothing was seen
        return cant_tell("; ".join(others))
    return no("; ".join(cloned)) if cloned else yes("each calls itself by its name, and has a machine id of its own")


def _quorate(observer: Observer) -> Answer:
    return quorum_whole().ask(observer)


def _master(observer: Observer) -> Answer:
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    state = view.manager.nodes.get(view.manager.master)
    if state != "online":
        return no(f"the CRM master is {view.manager.master or '(none)'}, and HA calls it {state or 'nothing'}")
    if (silent := _silence(view.manager)) > FRESH:
        return no(f"the CRM master {view.manager.master} has written nothing for {silent:.0f} s by our clock")
    return yes(f"master {view.manager.master}")


def _silence(manager: Manager) -> float:
    """Seconds for which the master has written nothing: one that died with its cluster goes on being named."""
    return manager.asked.answered.utc / SECOND - manager.timestamp


def _lrms(observer: Observer) -> Answer:
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    silent = _silence(view.manager)
    bad = []
    busy = {row.node for row in view.manager.services.values() if row.state == "started"}
    for name in observer.site.nodes.names:
        lrm = view.manager.lrms.get(name)
        if lrm is None or not (lrm.guarded or lrm.state == "wait_for_agent_lock") or lrm.mode != "active":
            bad.append(f"{name} in mode {lrm.mode}, state {lrm.state}" if lrm else f"{name} unknown")
        elif silent > FRESH:
            continue  # nobody's stamp can be held against the master's
        elif not view.manager.fresh(name):
            age = view.manager.timestamp - lrm.timestamp
            bad.append(f"{name} silent for {age} s" if age > 0 else f"{name} stamps {-age} s ahead of the master")
        elif not lrm.guarded and name in busy:  # after a fence its lock is another's for two minutes
            bad.append(f"{name} has services and no lock, so no watchdog guards them ({lrm.state})")
    if not bad and silent > FRESH:
        return cant_tell(f"the LRMs' stamps are held against the CRM master's, and that is {silent:.0f} s old")
    return no(", ".join(bad)) if bad else yes("every LRM is active or idle, with a fresh stamp")


def _armed(observer: Observer) -> Answer:
    armed = observer.site.cluster.armed(observer.site.clock.deadline(READ))
    if armed is None:
        return cant_tell("HA does not say whether it is armed")
    return yes("HA fences and recovers") if armed else no("it is disarmed, so nothing is fenced or recovered")


def _services(observer: Observer) -> Answer:
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    bad = [f"{sid} {row.state}" for sid, row in sorted(view.manager.services.items()) if row.state not in _HEALTHY]
    missing = [sid for sid in observer.site.guests.sids if sid not in view.manager.services]
    alone = [
        sid for sid in observer.site.guests.sids if sid not in missing and view.manager.services[sid].state in _IDLE
    ]
    if bad or missing or alone:
        told = [f"{sid} is {view.manager.services[sid].state}, so HA does nothing for it" for sid in alone]
        return no(", ".join([*bad, *(f"{sid} is not managed by HA" for sid in missing), *told]))
    return yes(f"{len(view.manager.services)} services, none in trouble")


def _processes(observer: Observer) -> Answer:
    view = observer.look()
    if not view.whole:
        return view.unseen()
    where: dict[str, list[str]] = {}
    for node in observer.site.nodes:
        for sid in observer.processes(node).ages:
            where.setdefault(sid, []).append(node.name)
    twice = [f"{sid} on {' and '.join(nodes)}" for sid, nodes in sorted(where.items()) if len(nodes) > 1]
    lost = [sid for sid in observer.site.guests.sids if sid not in where]
    if twice or lost:
        return no("; ".join([*(f"runs twice: {row}" for row in twice), *(f"{sid} runs nowhere" for sid in lost)]))
    return yes(f"{len(where)} guests, each on one node")


def _daemons(observer: Observer) -> Answer:
    """They run, and come back with their node: one that is not enabled is missed after the first reset only."""
    if not observer.site.cluster.proxmox:
        return not_there()
    site, deadline = observer.site, observer.site.clock.deadline
    off = [f"{unit} on {node.name}" for node in site.nodes for unit in node.units.inactive(_DAEMONS, deadline(READ))]
    lost = [
        f"{unit} on {node.name}" for node in site.nodes for unit in node.units.lost_at_boot(_DAEMONS, deadline(READ))
    ]
    found = (("not active", off), (_LOST_AT_BOOT, [one for one in lost if one not in off]))
    said = [f"{what}: {', '.join(units)}" for what, units in found if units]
    return no("; ".join(said)) if said else yes(f"{', '.join(_DAEMONS)} run on every node, and will after a boot")


def _answering(observer: Observer) -> Answer:
    """Of a guest that does not answer before a fault nothing could be measured: it would go down for nothing."""
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    services = view.manager.services
    due = [guest for guest in observer.site.guests if guest.sid in services and services[guest.sid].state == "started"]
    probes = [Probe(f"{guest.sid} at {one.host} port {one.port}", guest.sid, one.host, one.port)
              for guest in due for one in guest.probes]  # fmt: skip
    answers = asked_once(observer.site.clock, probes, ANSWERS)
    bad = [f"{name}: {saw}" for name, (answer, saw) in sorted(answers.items()) if answer == "bad"]
    untold = [f"{name}: {saw}" for name, (answer, saw) in sorted(answers.items()) if answer == "unknown"]
    if bad:
        return no("; ".join(bad))
    return cant_tell("; ".join(untold)) if untold else yes(f"{len({probe.subject for probe in probes})} guests answer")


def _links(observer: Observer) -> Answer:
    """A link that is down is not noticed, until the other one is lost too."""
    site, deadline = observer.site, observer.site.clock.deadline
    named = {number: name for name, number in site.cluster.node_ids(deadline(READ)).items()}
    down = []
    for node in site.nodes:
        for link, peers in corosync.links(node, deadline(READ)).items():
            lost = [named.get(peer, f"node {peer}") for peer, up in sorted(peers.items()) if not up]
            if lost:
                down.append(f"link {link} of {node.name} to {', '.join(lost)}")
    return no(f"down: {'; '.join(down)}") if down else yes("every link of every node is up")


def _times(observer: Observer) -> Answer:
    """By these times every bound of a cut is set; and a node that waits for the token longer than the others is
    quorate for longer, so that its watchdog may bite after its guests were started elsewhere."""
    site, deadline = observer.site, observer.site.clock.deadline
    ring = corosync.ring(site.cluster, deadline(READ))
    wanted = (ring.token, ring.consensus)
    other = []
    for node in site.nodes:
        runs = corosync.times(node, deadline(READ))
        if any(abs(is_ - want) > MILLISECOND for is_, want in zip(runs, wanted, strict=True)):
            other.append(f"{node.name} runs with token {runs[0]:g} s, consensus {runs[1]:g} s")
    if other:
        return no(f"by the configuration it is {wanted[0]:g} s and {wanted[1]:g} s: {'; '.join(other)}")
    return yes(f"token {wanted[0]:g} s, consensus {wanted[1]:g} s on every node")


def _rules(observer: Observer) -> Answer:
    """Rules that contradict each other HA leaves aside, and a node that was taken out, or misspelt, is no place for its
    guests. Neither stops anything, or is told before a node fails."""
    site = observer.site
    rules = site.cluster.ha_rules(site.clock.deadline(READ))
    wrong = [f"HA does not follow rule {name}: {why}" for name, why in sorted(rules.broken.items())]
    for what, lost in strangers(rules, site.nodes.names):
        wrong.append(f"{what} names {', '.join(sorted(lost))}, which is not there")
    return no("; ".join(wrong)) if wrong else yes("each is followed, and names nodes that are there")


def _clocks(observer: Observer) -> Answer:
    wrong, unsure = [], []
    for node in observer.site.nodes:
        offset = node.clock_offset(observer.site.clock.deadline(READ))
        # what is left after the error of asking is a real difference
        if abs(offset.offset) - offset.error > CLOCK:
            wrong.append(f"{node.name} differs by {abs(offset.offset) - offset.error:.1f} s")
        elif offset.error > CLOCK:
            unsure.append(f"{node.name} took {2 * offset.error:.1f} s to say its time")
    if wrong or unsure:
        return no("; ".join(wrong)) if wrong else cant_tell("; ".join(unsure))
    return yes(f"within {CLOCK:g} s of ours")


__all__ = ["CHECKS", "Check", "Finding", "run_checks"]

CHECKS = (
    Check("nodes-named", "The inventory names exactly this cluster's nodes", "complete `nodes:`", _cluster_is_named),
    Check(
        "themselves",
        "Each node is the machine that the inventory means",
        "compare `nodes:` with `hostname` and /etc/machine-id there",
        _themselves,
    ),
    Check("quorate", "Every node calls the cluster quorate and whole", "repair membership: `pvecm status`", _quorate),
    Check("master", "There is a live CRM master", "`ha-manager status`; restart pve-ha-crm where it hangs", _master),
    Check("lrms", "Every LRM is alive", "`ha-manager status`; leave maintenance, restart pve-ha-lrm", _lrms),
    Check("armed", "HA is armed", "`ha-manager crm-command arm-ha`", _armed),
    Check(
        "services", "No HA service is in trouble", "`ha-manager status`; repair, then set it started again", _services
    ),
    Check(
        "one-process",
        "Each guest runs on exactly one node",
        "find a second process with `ps`, stop it; why one is not there: `ha-manager status`",
        _processes,
    ),
    Check(
        "daemons",
        "The HA and API daemons and the watchdog run",
        "`systemctl status` of what is named; `systemctl enable` what is not",
        _daemons,
    ),
    Check(
        "answering",
        "Every HA guest that should run answers",
        "`qm status VMID --verbose` (paused?); its network, the service in it, and `probes:`",
        _answering,
    ),
    Check("links", "Every corosync link is up", "`corosync-cfgtool -s`; its card, cable and switch", _links),
    Check(
        "times",
        "Every corosync runs with the cluster's token and consensus",
        "compare /etc/corosync/corosync.conf there with /etc/pve/corosync.conf; `corosync-cfgtool -R` loads it",
        _times,
    ),
    Check(
        "rules",
        "HA follows its rules, and they name nodes that there are",
        "`ha-manager rules config`; `ha-manager rules set` or `remove` what is stale",
        _rules,
    ),
    Check("clocks", "The nodes' clocks agree with ours", "`chronyc tracking` on the nodes and here", _clocks),
    DISKS,
    REPLICAS,
)


def run_checks(observer: Observer) -> list[Finding]:
    """Every check asked once, in order; those of Ceph where it is in scope. A silent node is waited for once."""
    checks = (*CHECKS, *(ceph.BLOCKERS if observer.site.has_ceph else ()))
    with each_node_asked(observer):
        return [Finding(check, ask(Condition(check.title, check.ask), observer)) for check in checks]
