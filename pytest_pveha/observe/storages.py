"""Conditions about storages that a server serves: seen inactive, active again, and no guest got an error from them."""

from __future__ import annotations

from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.served import Served
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

PATIENT = 60.0
"""Seconds a node may take to tell of its storages: it waits for each silent server in turn (pve-storage, 10 s each)."""


def noticed(storage: Served, nodes: Nodes) -> Condition:
    """A node's own status calls the storage inactive: an operator who looks sees it."""
    first = next(iter(nodes))

    def ask(observer: Observer) -> Answer:
        observer.look()
        found = observer.site.storages.found(first.name, observer.site.clock.deadline(PATIENT)).get(storage.name)
        if found is None:
            return cant_tell(f"{first.name} does not tell of storage {storage.name}")
        if found.active:
            return no(f"{first.name} calls {storage.name} active")
        return yes(f"{first.name} calls {storage.name} inactive")

    return Condition(f"{storage.name} is seen to be inactive", ask)


def active(storage: Served, nodes: Nodes) -> Condition:
    """Every node's own status calls the storage active."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        for node in nodes:
            found = observer.site.storages.found(node.name, observer.site.clock.deadline(PATIENT)).get(storage.name)
            if found is None:
                return cant_tell(f"{node.name} does not tell of storage {storage.name}")
            if not found.active:
                return no(f"{node.name} calls {storage.name} inactive")
        return yes(f"every node calls {storage.name} active")

    return Condition(f"{storage.name} is active on every node", ask)


def errors_read(guests: Guests) -> Condition:
    """How many requests to its disks have failed, as each VM's QEMU counts them, is on record."""

    def ask(observer: Observer) -> Answer:
        manager = observer.look().manager
        if manager is None:
            return cant_tell("nobody tells where the guests are")
        told = []
        for guest in guests:
            service = manager.services.get(guest.sid)
            if service is None or not guest.sid.startswith("vm:"):
                continue
            begin = observer.site.clock.now()
            failed = observer.site.cluster.failed_requests(guest.sid, service.node, observer.site.clock.deadline(READ))
            ended = observer.site.clock.now().mono
            what = {"what": f"failed_requests/{guest.sid}", "old": None, "new": str(failed)}
            observer.write("seen", {**what, "low": begin.mono, "high": ended, "source": "api, blockstat"})
            told.append(f"{guest.sid} {failed}")
        return yes(f"failed requests: {', '.join(told) or 'no VM is concerned'}")

    return Condition("what QEMU counts of failed requests is on record", ask)
