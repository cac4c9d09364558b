"""Every way to a site asked once, read-only, then the readiness checks: the connected half of ``pveha check``."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from functools import partial

from pytest_pveha.cli.asked import Asked, asked
from pytest_pveha.cli.asking_backups import ask_backups
from pytest_pveha.cli.asking_rights import ask_rights
from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.bmc import Bmc, PowerReading
from pytest_pveha.handles.cluster import Membership
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import consent_refusal
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.identity import BMC, own_bmc
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.readiness.checks import CHECKS, run_checks
from pytest_pveha.readiness.silent import each_node_asked
from pytest_pveha.record.lease import Lease
from pytest_pveha.record.openings import open_runs
from pytest_pveha.scenario.visit import visited


def ask_site(inventory: Inventory) -> Generator[Asked, None, None]:
    """One answer for each way in, each rule and each readiness check.

    Raises:
        SiteBusy: the site is simulated, and a run is on it.
        UsageError: a file or secret that the inventory names cannot be used.
    """
    yield _left_unhealed(inventory)
    with visited(inventory) as site:
        observer = Observer(site, lambda kind, data: None)  # what it would write down is nobody's record
        views: list[Membership] = []
        told: dict[str, str] = {}  # so that nothing is said at length twice
        with each_node_asked(observer) as booted:
            for one in _ways_in(observer, views, booted):
                if one.verdict != "yes":
                    told[one.saw] = one.what
                yield one
            if views:
                yield from _names(inventory, views[0])
                yield from ask_rights(inventory, site)
                yield from _readiness(observer, told)
            else:
                told_of = f"The {len(CHECKS)} readiness checks"
                yield Asked("cant_tell", told_of, "not asked, for no API endpoint answered")
        yield from ask_backups(observer)


def _ways_in(observer: Observer, views: list[Membership], booted: Mapping[str, str | SiteError]) -> Iterator[Asked]:
    site = observer.site
    who = "API at" if site.cluster.proxmox else "Corosync of"
    for endpoint in site.cluster.endpoints:
        yield asked(f"{who} {endpoint}", partial(_member, site, endpoint, views))
    for node in site.nodes:
        yield asked(f"SSH to {node.name}", partial(_logged_in, booted[node.name]))
    powered = _power_states(observer)
    for node in site.nodes:
        if node.name in powered:
            yield asked(f"BMC of {node.name}", partial(_power, node, observer, powered[node.name]))


def _left_unhealed(inventory: Inventory) -> Asked:
    left = open_runs(inventory.name, os.environ).list()
    if not left:
        return Asked("yes", "Earlier runs", "nothing is left unhealed")
    if (holder := Lease(inventory.name).holder()) is not None:  # what it broke it heals itself
        return Asked(
            "no", "Earlier runs", f"one is on the site now (process {holder}: {left[0]}); ask when it has ended"
        )
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


def _logged_in(booted: str | SiteError) -> Answer:
    if isinstance(booted, SiteError):
        raise booted
    return yes(f"logged in, boot id {booted}")


def _power_states(observer: Observer) -> dict[str, PowerReading | SiteError]:
    """What each BMC says of its chassis, all asked at once."""
    clock, said = observer.site.clock, dict[str, PowerReading | SiteError]()

    def ask(name: str, bmc: Bmc) -> None:
        try:
            said[name] = bmc.power_state(clock.deadline(BMC))
        except SiteError as error:
            said[name] = error

    here = {node.name: node.bmc for node in observer.site.nodes if node.bmc is not None}
    for task in [clock.spawn(f"bmc-{name}", partial(ask, name, bmc)) for name, bmc in here.items()]:
        task.join()
    return said


def _power(node: Node, observer: Observer, reading: PowerReading | SiteError) -> Answer:
    """What the interlock asks of a BMC before it cuts any power."""
    if isinstance(reading, SiteError):
        raise reading
    if not reading.on:
        return no("chassis power is off; is it this node's BMC?")
    own = own_bmc(observer, node)
    return yes(f"chassis power is on; {own.saw}") if own.verdict == "yes" else own


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


def _readiness(observer: Observer, told: dict[str, str]) -> Iterator[Asked]:
    for finding in run_checks(observer):
        check, answer = finding.check, finding.answer
        saw = answer.saw
        if answer.verdict != "yes" and saw in told:
            saw = f"as said of “{told[saw]}”"
        elif answer.verdict != "yes":
            told[saw] = check.title
        advice = f". {check.advice}" if answer.verdict == "no" else ""
        yield Asked(answer.verdict, check.title, f"{saw}{advice}")
