"""Conditions about replicated guests: what they started from, and that their jobs go on the other way."""

from __future__ import annotations

from pytest_pveha.clock import SECOND
from pytest_pveha.handles import replication
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.replicas import Replicas
from pytest_pveha.observe import ha
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, each_of, no, yes
from pytest_pveha.observe.observer import READ, Observer


def on_replicas(replicas: Replicas, nodes: Nodes) -> Condition:
    """Each guest is started by HA on a node to which it was replicated, and its process was seen there."""

    def of(guest: Guest) -> Condition:
        targets = replicas.targets(guest.sid)
        return ha.started(Guests([guest]), on=Nodes(node for node in nodes if node.name in targets))

    return each_of(replicas, of, f"{len(replicas)} guests are started where a replica of each is")


def started_from(replicas: Replicas) -> Condition:
    """What each guest started from is on record: the newest snapshot that its job left on the node it runs on now."""

    def ask(observer: Observer) -> Answer:
        manager = observer.look().manager
        if manager is None:
            return cant_tell("nobody tells where the guests are")
        told = []
        for guest in replicas:
            where = manager.services[guest.sid].node if guest.sid in manager.services else ""
            if where not in observer.site.nodes or where == replicas.homes[guest.sid]:
                return no(f"{guest.sid} is not on another node yet")
            node = observer.site.nodes[where]
            vmid = int(guest.sid.partition(":")[2])
            there = replication.snapshots(node, observer.site.clock.deadline(READ))
            # one that was made since is of what the guest does now, and no word about what it started from
            found = replication.newest(replicas.before(there, observer.broken_at), vmid)
            if not found:
                return cant_tell(f"{where} has no snapshot of replication of {guest.sid} from before the fault")
            oldest = min(found.values(), key=lambda each: each.created)  # the guest is as old as its oldest disk
            replicas.note(observer.write, guest.sid, where, oldest)
            told.append(f"{guest.sid} on {where} from {oldest.epoch}")
        return yes("; ".join(told) or "no guest is replicated by the cluster's jobs")

    return Condition("what each guest started from is known", ask)


def turned_round(replicas: Replicas) -> Condition:
    """Each guest's job is the business of the node that runs it now, and its target is where the guest was."""

    def ask(observer: Observer) -> Answer:
        manager = observer.look().manager
        if manager is None:
            return cant_tell("nobody tells where the guests are")
        wrong = []
        for guest in replicas:
            where, home = manager.services[guest.sid].node, replicas.homes[guest.sid]
            vmid = int(guest.sid.partition(":")[2])
            jobs = observer.site.replication.on(where, observer.site.clock.deadline(READ)).values()
            if not any(job.vmid == vmid and job.target == home for job in jobs):
                wrong.append(f"{where} has no job that replicates {guest.sid} to {home}")
        return no("; ".join(wrong)) if wrong else yes("every job goes back to where its guest was")

    return Condition("the replication jobs turn round", ask)


def synced(replicas: Replicas) -> Condition:
    """Each guest's jobs have run well since this was first asked: what it wrote until then is on its replicas."""
    first: list[float] = []

    def ask(observer: Observer) -> Answer:
        first.append(observer.site.clock.now().utc / SECOND)
        manager = observer.look().manager
        if manager is None:
            return cant_tell("nobody tells where the guests are")
        late = []
        for guest in replicas:
            node = observer.site.nodes[manager.services[guest.sid].node]
            since = first[0] + node.clock_offset(observer.site.clock.deadline(READ)).offset
            vmid = int(guest.sid.partition(":")[2])
            jobs = observer.site.replication.on(node.name, observer.site.clock.deadline(READ)).values()
            mine = [job for job in jobs if job.vmid == vmid and not job.disabled]
            replicas.hear(guest.sid, node.name, mine)
            late += [f"{guest.sid} has no job on {node.name}"] * (not mine)
            late += [
                f"job {job.id} on {node.name} has {job.fail_count} failures and last ran well at {job.last_sync}"
                for job in mine
                if job.fail_count or job.last_sync <= since + 1  # whole seconds, cut off
            ]
        return no("; ".join(late)) if late else yes("every job has run well since")

    return Condition("every guest is replicated anew", ask)
