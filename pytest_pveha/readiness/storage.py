"""What HA guests need of storages: that the nodes that may run them have their disks, as fresh as was promised.

Both checks of CHECKS are blockers. A guest whose disk is on one node alone ends in state ``error`` when that node is
broken, which HA does not repair; and a failover to an old replica throws away what was written since. A test that did
either would do harm that it could not undo. A single server is a finding: it costs nothing that is not there again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_pveha.clock import SECOND
from pytest_pveha.handles import storages
from pytest_pveha.handles.replication import Job, Status
from pytest_pveha.handles.storages import Defined, Found
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.storages import PATIENT
from pytest_pveha.readiness.check import Check

SHOWN = 4
"""How many troubles an answer names."""


def _disks(observer: Observer) -> Answer:
    """Every disk and medium of an HA guest is on a storage that every node has, or replicated; and it has no device of
    its node."""
    site, deadline = observer.site, observer.site.clock.deadline
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    defined: dict[str, Defined] | None = None
    jobs: dict[str, Job] | None = None
    wrong: list[str] = []
    untold: list[str] = []
    shared: list[_Shared] = []
    may = site.cluster.ha_rules(deadline(READ)).candidates()
    for guest in site.guests:
        service = view.manager.services.get(guest.sid)
        if service is None:
            continue
        found = site.cluster.hardware(guest.sid, service.node, deadline(READ))
        wrong += [f"{guest.sid} has a device of {service.node} ({device})" for device in found.devices]
        for drive in found.drives:
            if drive.shared:
                continue
            if not drive.storage:
                wrong.append(f"{guest.sid} {drive.key} is {drive.volume}, on {service.node} alone")
                continue
            defined = site.storages.defined(deadline(READ)) if defined is None else defined
            storage = defined.get(drive.storage)
            if storage is None:
                untold.append(f"storage {drive.storage} of {guest.sid} is not shown (Datastore.Audit)")
            elif storage.replicable and not drive.medium:
                jobs = site.replication.jobs(deadline(READ)) if jobs is None else jobs
                wrong += _unreplicated(guest.sid, drive.key, drive.replicated, jobs)
            elif not storage.shared:
                what = "holds an image on" if drive.medium else "is on"
                wrong.append(f"{guest.sid} {drive.key} {what} {storage.name}, which every node has for itself")
            else:
                nodes = may.get(guest.sid, frozenset(site.nodes.names))
                shared.append(_Shared(f"{guest.sid} {drive.key} is on", drive.volume, storage, nodes))
    wrong += _not_everywhere(observer, shared)
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return no("; ".join(wrong[:SHOWN]) + more)
    if untold:
        return cant_tell("; ".join(sorted(set(untold))))
    return yes(f"the disks of {len(site.guests)} HA guests are where every node that may run them has them")


@dataclass(frozen=True, slots=True)
class _Shared:
    """A disk or medium on a storage that is the same for several nodes, and where HA may need it."""

    what: str
    volume: str
    storage: Defined
    nodes: frozenset[str]


def _not_everywhere(observer: Observer, disks: list[_Shared]) -> Iterator[str]:
    """What lies on a shared storage, and cannot be had on a node where HA may start its guest.

    HA starts a guest wherever its rules let it; it does not ask for storages (pve-ha-manager 5.2, Manager.pm).
    """
    site, deadline = observer.site, observer.site.clock.deadline
    found: dict[str, Mapping[str, Found]] = {}
    there: dict[tuple[str, str], frozenset[str]] = {}
    for disk in disks:
        name = disk.storage.name
        if disk.storage.disabled:
            yield f"{disk.what} {name}, which is switched off"
            continue
        for node in sorted(disk.nodes & frozenset(site.nodes.names)):
            if not disk.storage.on(node):
                yield f"{disk.what} {name}, which {node} is not given, where HA may start it"
                continue
            if node not in found:
                found[node] = site.storages.found(node, deadline(PATIENT))
            if (state := found[node].get(name)) is None or not state.active:
                yield f"{disk.what} {name}, which is not active on {node}, where HA may start it"
            elif disk.storage.shared_by_word:
                if (node, name) not in there:
                    there[node, name] = storages.volumes(site.nodes[node], disk.storage, deadline(PATIENT))
                if disk.volume not in there[node, name]:
                    yield f"{disk.what} {name}, which is called shared, and {node} has no {disk.volume} there"


def _unreplicated(sid: str, key: str, replicated: bool, jobs: dict[str, Job]) -> Iterator[str]:
    mine = [job for job in jobs.values() if f"{job.vmid}" == sid.partition(":")[2] and not job.removing]
    if not mine:
        yield f"{sid} {key} is on a local storage, and no job replicates {sid}"
    elif not replicated:
        yield f"{sid} {key} is left out of its replication (replicate=0)"


def _replicas(observer: Observer) -> Answer:
    """Every replicated guest's copies are as fresh as was promised, and lie wherever HA may start it."""
    site, deadline = observer.site, observer.site.clock.deadline
    if site.replica_age is None:
        return yes("the inventory has no replication block")
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    configured = site.replication.jobs(deadline(READ))
    wanted = site.replicated or frozenset(
        sid for sid in site.guests.sids if any(sid.endswith(f":{job.vmid}") for job in configured.values())
    )
    if not wanted:
        return no("no guest has a replication job, and the inventory says that some are replicated")
    may = site.cluster.ha_rules(deadline(READ)).candidates()
    wrong: list[str] = []
    for sid in sorted(wanted):
        service = view.manager.services.get(sid)
        if service is None:
            return cant_tell(f"{sid} is no HA service, so where it runs is not known")
        node = site.nodes[service.node]
        now = site.clock.now().utc / SECOND + node.clock_offset(deadline(READ)).offset
        mine = [job for job in site.replication.on(node.name, deadline(READ)).values() if sid.endswith(f":{job.vmid}")]
        wrong += _troubles(sid, mine, now, site.replica_age)
        allowed = may.get(sid, frozenset(site.nodes.names))
        if bare := sorted(allowed - {node.name, *(job.target for job in mine)}):
            wrong.append(f"HA may start {sid} on {', '.join(bare)}, where no replica of it is")
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return no("; ".join(wrong[:SHOWN]) + more)
    return yes(f"{len(wanted)} guests have replicas no older than {site.replica_age:g} s wherever HA may start them")


def _troubles(sid: str, jobs: list[Status], now: float, oldest: float) -> Iterator[str]:
    if not jobs:
        yield f"{sid} has no replication job on its node"
    for job in jobs:
        if job.disabled:
            yield f"job {job.id} is switched off"
        elif not job.last_sync:
            yield f"job {job.id} has never run well"
        elif job.fail_count:
            yield f"job {job.id} has failed {job.fail_count} times: {job.error[:100] or 'it does not say why'}"
        elif now - job.last_sync > oldest:
            yield f"job {job.id} ran well {now - job.last_sync:.0f} s ago, and {oldest:g} s are promised"


def _redundant(observer: Observer) -> Answer:
    """Every storage that one server serves is declared to be redundant behind that address."""
    alone = sorted(name for name, redundant in observer.site.served.items() if not redundant)
    if alone:
        return no(
            f"{', '.join(alone)}: a single server, as far as anybody declared; when it fails every guest on it stands "
            f"still, and HA cannot help"
        )
    return yes(f"{', '.join(sorted(observer.site.served))}: declared redundant")


DISKS = Check(
    "disks",
    "HA guests can start on every node that may run them",
    "move the disk to a shared storage or replicate it, eject the medium, map the device",
    _disks,
)
REPLICAS = Check(
    "replicas",
    "Replicas are fresh, and wherever HA may start their guests",
    "`pvesr status` on the guest's node; `ha-manager rules config`",
    _replicas,
)
REDUNDANT = Check(
    "redundant-server",
    "No shared storage hangs on a single server",
    "make it redundant, then `storages.NAME.redundant: true` in the inventory",
    _redundant,
)
