"""Every way to a site asked once, read-only, then the readiness checks: the connected half of ``pveha check``."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from pytest_pveha.clock import Clock, LiveClock
from pytest_pveha.embedded import attach, start
from pytest_pveha.errors import AuthRefused, SiteError
from pytest_pveha.faults.power import BMC
from pytest_pveha.handles.cluster import Membership
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import consent_refusal
from pytest_pveha.inventory.hardware import Identity
from pytest_pveha.observe.answer import Answer, Verdict, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.readiness.checks import CHECKS, run_checks
from pytest_pveha.record.lease import Lease
from pytest_pveha.record.openings import open_runs


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's answer, as one line says it."""

    verdict: Verdict
    what: str
    saw: str

    def __str__(self) -> str:
        return f"{self.what}: {self.saw}"


def ask_site(inventory: Inventory) -> Generator[Asked, None, None]:
    """One answer for each way in, each rule and each readiness check.

    Raises:
        SiteBusy: the site is simulated, and a run is on it.
        UsageError: a file or secret that the inventory names cannot be used.
    """
    yield _left_unhealed(inventory)
    with _reached(inventory) as (site, clock):
        views: list[Membership] = []
        told: dict[str, str] = {}  # so that nothing is said at length twice
        for asked in _ways_in(inventory, site, clock, views):
            if asked.verdict != "yes":
                told[asked.saw] = asked.what
            yield asked
        if views:
            yield from _names(inventory, views[0])
            yield from _readiness(site, told)
        else:
            yield Asked("cant_tell", f"The {len(CHECKS)} readiness checks", "not asked, for no API endpoint answered")


def _ways_in(inventory: Inventory, site: Site, clock: Clock, views: list[Membership]) -> Iterator[Asked]:
    for endpoint in site.cluster.endpoints:
        yield _asked(f"API at {endpoint}", partial(_member, site, endpoint, views))
    for node in site.nodes:
        yield _asked(f"SSH to {node.name}", partial(_logged_in, node, clock))
    for node in site.nodes:
        if node.bmc is not None:
            block = inventory.model.nodes[node.name].bmc
            identity = block.identity if block is not None else None
            yield _asked(f"BMC of {node.name}", partial(_chassis, node, identity, clock))


@contextmanager
def _reached(inventory: Inventory) -> Iterator[tuple[Site, Clock]]:
    """The site's handles; a simulated one runs meanwhile."""
    if not inventory.simulated:
        live = LiveClock()
        site = connect(inventory, live)
        try:
            yield site, live
        finally:
            site.close()
        return
    lease = Lease(inventory.name)
    lease.take()
    try:
        found = attach(inventory)
        embedded = found or start(inventory)
        try:
            clock = embedded.clock()
            site = connect(embedded.inventory, clock)
            try:
                yield site, clock
            finally:
                site.close()
                clock.close()
        finally:
            if found is None:
                embedded.stop()
    finally:
        lease.give_back()


def _asked(what: str, ask: Callable[[], Answer]) -> Asked:
    try:
        answer = ask()
    except AuthRefused as error:  # they did answer: no
        answer = no(str(error))
    except SiteError as error:
        answer = cant_tell(str(error))
    return Asked(answer.verdict, what, answer.saw)


def _left_unhealed(inventory: Inventory) -> Asked:
    left = open_runs(inventory.name, os.environ).list()
    if not left:
        return Asked("yes", "Earlier runs", "nothing is left unhealed")
    return Asked(
        "no",
        "Earlier runs",
        f"{left[0]} left something that is not healed; type: pveha heal --inventory {inventory.path}",
    )


def _member(site: Site, endpoint: str, views: list[Membership]) -> Answer:
    view = site.cluster.membership(site.clock.deadline(READ), at=endpoint)
    views.append(view)
    members = ", ".join(sorted(name for name, online in view.online.items() if online))
    return yes(f"cluster {view.cluster}, {'quorate' if view.quorate else 'NOT quorate'}, online: {members}")


def _logged_in(node: Node, clock: Clock) -> Answer:
    return yes(f"logged in, boot id {node.boot_id(clock.deadline(READ))}")


def _chassis(node: Node, expected: Identity | None, clock: Clock) -> Answer:
    assert node.bmc is not None
    reading = node.bmc.power_state(clock.deadline(BMC))
    if expected is not None and (expected.mac or expected.guid):
        said = node.bmc.identity(clock.deadline(BMC))
        for key in ("mac", "guid"):
            wanted, found = getattr(expected, key), said.get(key)
            if wanted and found and not _same(key, wanted, found):
                return no(f"its {key} is {found}, the inventory says {wanted}: is it another machine's BMC?")
            if wanted and not found:
                return no(f"it does not tell its {key}; compare by hand, then use identity.confirmed_by")
    return yes("chassis power is on") if reading.on else no("chassis power is off; is it this node's BMC?")


def _same(key: str, wanted: str, found: str) -> bool:
    """A GUID may be written in either byte order (IPMI 2.0 §20.8 against SMBIOS)."""
    if wanted.lower() == found.lower():
        return True
    if key != "guid":
        return False
    return UUID(wanted).bytes_le == UUID(found).bytes or UUID(wanted).bytes[::-1] == UUID(found).bytes


def _names(inventory: Inventory, view: Membership) -> Iterator[Asked]:
    """Is it the right cluster, and does its owner consent?"""
    declared = inventory.model.cluster.name
    if view.cluster == declared:
        yield Asked("yes", "The API answers for the inventory's cluster", declared)
    else:
        yield Asked(
            "no",
            "The API answers for the inventory's cluster",
            f"it answers for {view.cluster}, the inventory is for {declared}. Wrong endpoints, or the wrong inventory",
        )
    if inventory.simulated:
        return
    given = inventory.model.consent
    if given is None or not given.destructive:
        yield Asked("yes", "Consent", "there is none, so nothing will be broken here; readiness tests need none")
        return
    refusal = consent_refusal(
        inventory,
        now=LiveClock().utc(),
        cluster_name=view.cluster,
        node_names=sorted(view.online),
        fault=None,
        target=None,
    )
    yield Asked("no", "Consent", refusal) if refusal else Asked("yes", "Consent", f"valid, ticket {given.ticket}")


def _readiness(site: Site, told: dict[str, str]) -> Iterator[Asked]:
    for finding in run_checks(Observer(site, lambda kind, data: None)):
        check, answer = finding.check, finding.answer
        saw = answer.saw
        if answer.verdict != "yes" and saw in told:
            saw = f"as said of “{told[saw]}”"
        elif answer.verdict != "yes":
            told[saw] = check.title
        advice = f". {check.advice}" if answer.verdict == "no" else ""
        yield Asked(answer.verdict, check.title, f"{saw}{advice}")
