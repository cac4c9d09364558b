"""What our API token may: in ``pveha check`` as a whole, before a test finds by itself that it lacks something."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pytest_pveha.cli.asked import Asked, asked
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.ourselves import lacking, needs
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ

_OF_AGENTS = frozenset({"VM.GuestAgent.Unrestricted", "VM.Monitor"})
"""Either will do: the first since PVE 9, the second before."""


def ask_rights(inventory: Inventory, site: Site) -> Iterator[Asked]:
    """What every test needs, what those need that tell a node to go down, and what canaries need: a line each."""
    if not site.cluster.proxmox:
        return
    yield asked("Our API token may look, and put back", lambda: _needed(site, _always(site)))
    consent = inventory.model.consent
    if inventory.simulated or (consent is not None and "maintenance" in consent.faults):
        told_off = frozenset((f"/nodes/{name}", "Sys.PowerMgmt") for name in site.nodes.names)
        yield asked(
            "Our API token may have nodes go down in good order", partial(_needed, site, told_off), blocks=False
        )
    canaries = [guest.id for guest in inventory.model.guests if guest.canary]
    if canaries:
        yield asked("Our API token may count the canaries' writes", partial(_counting, site, canaries), blocks=False)


def _always(site: Site) -> frozenset[tuple[str, str]]:
    """What the interlock wants of a fault that reaches every node."""
    guests = site.cluster.guests(site.clock.deadline(READ))
    return needs(guests, Reach(frozenset(site.nodes.names)))


def _needed(site: Site, needed: frozenset[tuple[str, str]]) -> Answer:
    paths = sorted({path for path, _ in needed})
    held = {path: site.cluster.privileges(path, site.clock.deadline(READ)) for path in paths}
    if found := lacking(held, needed):
        return no(found)
    return yes(", ".join(sorted({privilege for _, privilege in needed})))


def _counting(site: Site, canaries: list[str]) -> Answer:
    paths = {f"/vms/{sid.partition(':')[2]}" for sid in canaries}
    held = {path: site.cluster.privileges(path, site.clock.deadline(READ)) for path in sorted(paths)}
    shut = frozenset((path, "VM.GuestAgent.Unrestricted") for path in paths if not _OF_AGENTS & held[path].keys())
    if shut:
        return no(f"{lacking(held, shut)} (VM.Monitor before PVE 9)")
    return yes("by their agents")
