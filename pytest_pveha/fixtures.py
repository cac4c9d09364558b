"""The field's nouns as pytest fixtures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pytest_pveha.errors import PreflightRefused, SiteError, UnsafeTarget, UsageError
from pytest_pveha.handles import bonds, corosync
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.bonds import Card
from pytest_pveha.handles.ceph import Ceph, shell
from pytest_pveha.handles.ceph.daemon import OsdDaemon
from pytest_pveha.handles.cluster import Cluster, Manager
from pytest_pveha.handles.corosync import Ring
from pytest_pveha.handles.guest import Guest, Guests, Nodes, Stranded
from pytest_pveha.handles.ha_homes import stays
from pytest_pveha.handles.layout import Ways
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.replicas import Replicas
from pytest_pveha.handles.served import Served
from pytest_pveha.handles.served import served as served_storage
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import parse_duration
from pytest_pveha.inventory.rooms import third_room
from pytest_pveha.readiness import organisation
from pytest_pveha.readiness.ceph import failure_domain, networks
from pytest_pveha.readiness.check import Check
from pytest_pveha.scenario.breaking import Faults
from pytest_pveha.scenario.campaign import Campaign
from pytest_pveha.scenario.ceph import Outlook, osds_on, outlook
from pytest_pveha.scenario.homes import Homes, homes_of
from pytest_pveha.scenario.objectives import Objectives
from pytest_pveha.scenario.operator import Operator, Procedure, Step
from pytest_pveha.scenario.policies import Policy, policy_of
from pytest_pveha.scenario.replicated import replicas_of, replicas_on
from pytest_pveha.scenario.roles import cast_side
from pytest_pveha.scenario.run import TRIED, Run
from pytest_pveha.selection import title

if TYPE_CHECKING:
    from pytest_pveha.hooks import Hooks


def campaign_of(config: pytest.Config) -> Campaign:
    """The run in progress."""
    hooks: Hooks = config.pluginmanager.get_plugin("pveha-hooks")  # type: ignore[assignment]
    if hooks.campaign is None:
        raise UsageError("no run is open; these fixtures need --inventory FILE")
    return hooks.campaign


@pytest.fixture(scope="session")
def site(pytestconfig: pytest.Config) -> Site:
    """The whole site."""
    return campaign_of(pytestconfig).site


@pytest.fixture(scope="session")
def cluster(site: Site) -> Cluster:
    """The cluster by its API."""
    return site.cluster


@pytest.fixture(scope="session")
def nodes(site: Site) -> Nodes:
    """Every node of the inventory."""
    return site.nodes


@pytest.fixture(scope="session")
def guests(site: Site) -> Guests:
    """Every HA guest of the inventory."""
    return site.guests


@pytest.fixture
def node(site: Site, request: pytest.FixtureRequest) -> Node:
    """One node; a test each, as the scope says."""
    return site.nodes[request.param]


@pytest.fixture
def bmc(node: Node) -> Bmc:
    """The BMC of ``node``."""
    if node.bmc is None:
        raise UsageError(f"node {node.name} has no BMC in the inventory; add nodes.{node.name}.bmc")
    return node.bmc


@pytest.fixture
def guest(guests: Guests, request: pytest.FixtureRequest) -> Guest:
    """One HA guest; a test each, as the scope says."""
    return next(guest for guest in guests if guest.sid == request.param)


@pytest.fixture
def protected(guest: Guest, site: Site, objectives: Objectives) -> Guest:
    """``guest``, if it must be backed up. Not applicable where its tier need not be."""
    tiers = site.backups.block.tiers if site.backups is not None else ()
    if tiers and guest.tier not in tiers:
        pytest.skip(f"not applicable: guests of tier {guest.tier} need no backup (backup.tiers)")
    if objectives.restore_rto is None:
        pytest.skip("not proven: no time is promised for a restore; set objectives.restore_rto")
    return guest


@pytest.fixture
def protected_vm(protected: Guest) -> Guest:
    """``protected``, if it is a VM: no container is restored live."""
    if not protected.sid.startswith("vm:"):
        pytest.skip(f"not applicable: {protected.sid} is a container, and none is restored live")
    return protected


@pytest.fixture
def home(site: Site, guest: Guest) -> Node:
    """The node on which ``guest`` runs now."""
    services = site.cluster.manager(site.clock.deadline(10)).services
    if guest.sid not in services:
        pytest.skip(f"not proven: {guest.sid} is no HA service")
    return site.nodes[services[guest.sid].node]


@pytest.fixture
def elsewhere(site: Site, guest: Guest, home: Node) -> Node:
    """A node on which ``guest`` may run, and stay, by HA's rules, and does not. Skipped where there is none."""
    rules = site.cluster.ha_rules(site.clock.deadline(10))
    allowed = rules.candidates().get(guest.sid, frozenset(site.nodes.names)) - {home.name}
    if not allowed:
        pytest.skip(f"not proven: by its rules {guest.sid} may run on no other node than {home.name}")
    left_alone = stays(rules, site.nodes.names, guest.sid)
    found = [node for node in site.nodes if node.name in allowed & left_alone]
    if not found:
        best = ", ".join(sorted(left_alone))
        pytest.skip(f"not applicable: by its rules {guest.sid} belongs on {best}, and HA takes it back there at once")
    return min(found, key=lambda node: node.room == home.room)


@pytest.fixture(scope="session")
def ceph(site: Site) -> Ceph:
    """Hyper-converged Ceph; a test that uses it does not apply where the inventory has no ceph block."""
    return site.ceph


@pytest.fixture
def victim(site: Site, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Node:
    """The node that plays this test's role, bound now and on record."""
    (name,) = _cast(site, pytestconfig, request)
    return site.nodes[name]


@pytest.fixture
def bond_members(site: Site, victim: Node) -> tuple[Card, ...]:
    """Every card of every bond of ``victim``. Not applicable where it has none, and none was said."""
    found = bonds.cards(victim, site.clock.deadline(10))
    said = [name for name, over in site.layout.switches.items() if len(over) > 1]
    if not found and said:
        pytest.skip(
            f"not proven: by the inventory {said[0]} goes over {' and '.join(site.layout.switches[said[0]])}, and "
            f"{victim.name} has no bond of the kernel's"
        )
    if not found:
        pytest.skip(f"not applicable: {victim.name} has no bond of the kernel's")
    return found


@pytest.fixture
def resting(site: Site, victim: Node) -> Node:
    """A node that is taken out of service while ``victim`` fails: not the CRM master, and the least of HA's guests."""
    manager = site.cluster.manager(site.clock.deadline(10))
    here = [service.node for service in manager.services.values()]
    others = [node for node in site.nodes if node.name not in (victim.name, manager.master)]
    if not others:
        pytest.skip("not proven: there is no node beside the victim and the CRM master")
    return min(others, key=lambda node: here.count(node.name))


@pytest.fixture
def ceph_failure_domain(ceph: Ceph, pytestconfig: pytest.Config) -> Check:
    """Whether Ceph survives the loss of what the inventory says that it does."""
    return failure_domain(campaign_of(pytestconfig).declared)


@pytest.fixture
def ceph_networks(ceph: Ceph, pytestconfig: pytest.Config) -> Check:
    """Whether Ceph's networks and the guests' are apart, down to the switches where those are declared."""
    return networks(campaign_of(pytestconfig).declared)


@pytest.fixture
def osds(ceph: Ceph, victim: Node, run: Run) -> tuple[OsdDaemon, ...]:
    """The OSDs on ``victim`` that are up and in. Not applicable where there are none."""
    found = osds_on(run.observer, victim)
    if not found:
        pytest.skip(f"not applicable: no OSD that is up and in stands on {victim.name}")
    return found


@pytest.fixture
def osd(osds: tuple[OsdDaemon, ...]) -> OsdDaemon:
    """One OSD on ``victim``, up and in."""
    return osds[0]


@pytest.fixture
def osd_loss(osd: OsdDaemon, run: Run) -> Outlook:
    """What Ceph's maps foretell of the loss of ``osd``."""
    return outlook(run.observer, osds=(osd,))


@pytest.fixture
def host_loss(osds: tuple[OsdDaemon, ...], victim: Node, run: Run) -> Outlook:
    """What Ceph's maps foretell of the loss of ``victim`` with its OSDs and its mon."""
    return outlook(run.observer, victim)


@pytest.fixture
def both_lost(osds: tuple[OsdDaemon, ...], victim: Node, resting: Node, run: Run) -> Outlook:
    """What they foretell of ``victim`` being lost while ``resting`` is off and nothing is marked out.

    Skipped where data would not be served any more: that is a finding, and is not tried.
    """
    found = outlook(run.observer, victim, resting, noout=True)
    if found.told.serves is not True:
        pytest.skip(
            f"not proven: with {resting.name} off for work, the loss of {victim.name} would stop Ceph; that is "
            f"foretold, and not tried: {found.told.in_words}"
        )
    return found


@pytest.fixture
def spared(site: Site, guests: Guests, victim: Node) -> Guests:
    """The HA guests that run on other nodes than ``victim`` now."""
    services = site.cluster.manager(site.clock.deadline(10)).services
    return Guests(guest for guest in guests if guest.sid in services and services[guest.sid].node != victim.name)


@pytest.fixture
def minority(site: Site, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Nodes:
    """The nodes that are to be cut off, and leave quorum to the others; bound now and on record."""
    return Nodes(site.nodes[name] for name in _cast(site, pytestconfig, request))


@pytest.fixture
def room(site: Site, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Nodes:
    """All nodes of a room: the CRM master's, or the other one; bound now and on record."""
    return Nodes(site.nodes[name] for name in _cast(site, pytestconfig, request))


@pytest.fixture
def feed(request: pytest.FixtureRequest) -> str:
    """A power feed on which a part of the nodes hangs alone; a test each."""
    return str(request.param)


@pytest.fixture
def switch(request: pytest.FixtureRequest) -> str:
    """A switch over which a corosync link, or the quorum device, is reached alone; a test each."""
    return str(request.param)


@pytest.fixture
def dark(site: Site, feed: str) -> Nodes:
    """The nodes that hang on ``feed`` alone."""
    return Nodes(site.nodes[name] for name in site.layout.only_feed(feed))


def _cast(site: Site, config: pytest.Config, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The nodes that play the role of the test, put on record."""
    role: str = request.param
    manager = site.cluster.leading(site.clock.deadline(10))
    busy = Counter(service.node for service in manager.services.values())
    found = cast_side(role, site.nodes.names, manager.master, busy, site.layout.rooms)
    if found is None and site.layout.room_of(manager.master) == third_room(site.layout.rooms) != "":
        master = _led_elsewhere(site, request, manager.master)
        found = cast_side(role, site.nodes.names, master, busy, site.layout.rooms)
    if found is None:
        raise SiteError(f"no node of the inventory plays {role}; the CRM master is {manager.master or '(none)'}")
    marker = request.node.get_closest_marker("destructive")
    expected = parse_duration(marker.kwargs["expected"]) if marker and "expected" in marker.kwargs else 0.0
    campaign_of(config).begin(request.node.nodeid, title(request.node), expected, {role: ", ".join(found)})
    return found


def _led_elsewhere(site: Site, request: pytest.FixtureRequest, master: str) -> str:
    """The CRM master, once the tiebreaker is it no more. Skipped where it cannot be moved, or may not."""
    run: Run = request.getfixturevalue("run")
    try:
        run.hand_over(site.nodes[master])
    except (UnsafeTarget, PreflightRefused, SiteError) as error:
        pytest.skip(
            f"not proven: the CRM master is {master}, the tiebreaker, and so in neither of the two rooms, and it was "
            f"not moved: {error}. On {master} `systemctl stop pve-ha-crm`, and start once another is it, moves it"
        )
    return site.cluster.leading(site.clock.deadline(10)).master


@pytest.fixture
def residents(site: Site, guests: Guests, victim: Node) -> Guests:
    """The HA guests that run on ``victim`` now. Skipped where there are none: nothing would be proven."""
    services = site.cluster.manager(site.clock.deadline(10)).services
    found = Guests(guest for guest in guests if guest.sid in services and services[guest.sid].node == victim.name)
    if not found:
        pytest.skip(f"not proven: no HA guest of the inventory runs on {victim.name}")
    return found


@pytest.fixture
def unhurt(site: Site, guests: Guests, victim: Node) -> Guest:
    """An HA guest of the inventory that runs on another node than ``victim`` now. Skipped where there is none."""
    services = site.cluster.manager(site.clock.deadline(10)).services
    found = [guest for guest in guests if guest.sid in services and services[guest.sid].node != victim.name]
    if not found:
        pytest.skip(f"not proven: no HA guest of the inventory runs on another node than {victim.name}")
    return found[0]


@pytest.fixture
def at_home(site: Site, unhurt: Guest) -> Node:
    """The node on which ``unhurt`` runs now."""
    return site.nodes[site.cluster.manager(site.clock.deadline(10)).services[unhurt.sid].node]


@pytest.fixture
def second(site: Site, victim: Node) -> Node:
    """A node that is lost while ``victim`` is: neither it nor the CRM master, those with HA guests first."""
    manager = site.cluster.manager(site.clock.deadline(10))
    busy = {service.node for service in manager.services.values()}
    others = [node for node in site.nodes if node.name not in (victim.name, manager.master)]
    if not others:
        pytest.skip("not proven: there is no node beside the victim and the CRM master")
    return min(others, key=lambda node: node.name not in busy)


@pytest.fixture
def max_workers(site: Site, nodes: Nodes, victim: Node, residents: Guests) -> int:
    """How many guests a node starts at a time. Not applicable where nobody would have to wait for others."""
    workers = site.cluster.max_workers(site.clock.deadline(10))
    at_once = workers * (len(nodes) - 1)
    if len(residents) <= at_once:
        pytest.skip(
            f"not applicable: {victim.name}, the fullest node, runs {len(residents)} HA guests of the inventory, and "
            f"the others start {at_once} at once (max_workers {workers})"
        )
    return workers


@pytest.fixture
def stranded(site: Site, guests: Guests, minority: Nodes) -> Stranded:
    """The HA guests that run on ``minority`` now. Skipped where there are none: nothing would be proven.

    Where its nodes are idle nothing is promised that could be: they hold no lock, and are left alone (``idle``).
    """
    return _stranded(site, guests, minority)


@pytest.fixture
def roomers(site: Site, guests: Guests, room: Nodes) -> Stranded:
    """The HA guests that run in ``room`` now, with their nodes. Skipped where there are none."""
    return _stranded(site, guests, room)


@pytest.fixture
def copies(site: Site, roomers: Stranded, room: Nodes) -> Replicas:
    """Those of ``roomers`` that are replicated, as their jobs tell; maybe none."""
    return replicas_on(site, roomers, roomers.nodes(room))


@pytest.fixture
def darkened(site: Site, guests: Guests, dark: Nodes) -> Stranded:
    """The HA guests that run on the nodes of ``dark`` now, with their nodes. Skipped where there are none."""
    return _stranded(site, guests, dark)


def _stranded(site: Site, guests: Guests, minority: Nodes) -> Stranded:
    manager = site.cluster.manager(site.clock.deadline(10))
    homes = {sid: row.node for sid, row in manager.services.items() if row.node in minority}
    found = Stranded((guest for guest in guests if guest.sid in homes), homes, _guarding(manager, minority))
    if not homes:
        pytest.skip(f"not applicable: no HA guest runs on {', '.join(minority.names)}, so nobody promises its reset")
    if not found:
        pytest.skip(f"not proven: no HA guest of the inventory runs on {', '.join(minority.names)}")
    return found


def _guarding(manager: Manager, nodes: Nodes) -> list[str]:
    """Those of the nodes whose LRM is active: without quorum their watchdogs reset them."""
    return [name for name in nodes.names if name in manager.lrms and manager.lrms[name].guarded]


@pytest.fixture
def idle(site: Site, minority: Nodes) -> Nodes:
    """``minority``, whose nodes run no HA guest now. Not applicable where one does."""
    services = site.cluster.manager(site.clock.deadline(10)).services
    if busy := sorted({row.node for row in services.values() if row.node in minority}):
        pytest.skip(f"not applicable: HA guests run on {', '.join(busy)}")
    return minority


@pytest.fixture
def link(request: pytest.FixtureRequest) -> int:
    """One corosync link by its number; a test each."""
    return int(request.param)


@pytest.fixture
def served(site: Site, request: pytest.FixtureRequest) -> Served:
    """One shared storage of the inventory as the nodes have it now; a test each."""
    return served_storage(site, str(request.param), lambda: site.clock.deadline(10))


@pytest.fixture
def lying(guests: Guests, served: Served) -> Guests:
    """The HA guests that have a disk on ``served``. Skipped where there are none: nothing would be proven."""
    found = Guests(guest for guest in guests if guest.sid in served.guests)
    if not found:
        pytest.skip(f"not proven: no HA guest of the inventory lies on {served.name}")
    return found


@pytest.fixture
def replicas(site: Site, residents: Guests, victim: Node) -> Replicas:
    """The guests of ``victim`` that are replicated, as their jobs tell. Skipped where there are none."""
    return replicas_of(site, residents, victim)


@pytest.fixture
def halves(nodes: Nodes) -> tuple[Nodes, Nodes]:
    """Two halves of the nodes: the rooms, where there are two of one size, else the first and the last nodes."""
    rooms: dict[str, list[Node]] = {}
    for node in nodes:
        rooms.setdefault(node.room, []).append(node)
    sizes = [len(room) for room in rooms.values()]
    members = list(nodes)
    one = next(iter(rooms.values())) if len(rooms) == 2 and len(set(sizes)) == 1 else members[: len(members) // 2]
    return Nodes(one), nodes - one


@pytest.fixture
def tiebreaker(site: Site) -> Node:
    """The node that stands alone in a third room. Not applicable where there is none."""
    (name,) = site.layout.rooms[site.layout.arbiter_room]
    return site.nodes[name]


@pytest.fixture
def mons(site: Site, nodes: Nodes) -> Nodes:
    """The nodes that have a Ceph mon; none where the inventory has no Ceph."""
    if not site.has_ceph:
        return Nodes(())
    first = next(iter(nodes))
    known = shell.mons(first, site.clock.deadline(15)).names
    return Nodes(node for node in nodes if node.name in known)


@pytest.fixture
def too_many(site: Site, nodes: Nodes) -> Nodes:
    """So many nodes that without them nobody has quorum: the CRM master, and then others."""
    master = site.cluster.manager(site.clock.deadline(10)).master
    names = sorted(nodes.names, key=lambda name: name != master)
    return Nodes(nodes[name] for name in names[: len(names) // 2 + 1])


@pytest.fixture
def guarding(site: Site, nodes: Nodes) -> Nodes:
    """The nodes whose LRM is active now: without quorum their watchdogs reset them. Skipped where there are none."""
    found = Nodes(nodes[name] for name in _guarding(site.cluster.manager(site.clock.deadline(10)), nodes))
    if not found:
        pytest.skip("not proven: no node guards guests, so none would be reset")
    return found


@pytest.fixture
def ring(site: Site, pytestconfig: pytest.Config) -> Ring:
    """The times of corosync's membership, as they follow from the cluster's configuration."""
    device = campaign_of(pytestconfig).declared.model.quorum_device is not None
    return corosync.ring(site.cluster, site.clock.deadline(10), device=device)


@pytest.fixture
def blip(ring: Ring) -> str:
    """A cut this long must reset nobody. Not applicable where it would be over before the token is given up."""
    if ring.blip < ring.token:
        pytest.skip(f"not applicable: a cut of {ring.blip:.1f} s ends before the token is lost ({ring.token:.1f} s)")
    return f"{ring.blip:.1f} s"


@pytest.fixture
def blip_of_quorum(ring: Ring, blip: str) -> str:
    """A loss of quorum this long must reset nobody. Not applicable where it would be over before quorum is lost."""
    if ring.blip < ring.forms or not ring.harmless(TRIED):
        pytest.skip(
            f"not applicable: a cut of {blip} ends before quorum is lost ({ring.forms:.1f} s), or the trial of "
            f"{TRIED:g} s before it is too long (at most {ring.undone_by:.1f} s)"
        )
    return blip


@pytest.fixture
def ways(site: Site) -> Ways:
    """The ways between the rooms: ``between`` nodes, and ``to_device``, the quorum device's machine."""
    return Ways.of(site.layout)


@pytest.fixture
def objectives(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Objectives:
    """The site's promises in this scenario."""
    return Objectives(campaign_of(pytestconfig).declared, request.node.originalname.removeprefix("test_"))


@pytest.fixture
def policy(site: Site, residents: Guests, victim: Node, objectives: Objectives) -> Policy:
    """The live shutdown policy, and what it promises the guests of ``victim``."""
    return policy_of(site, residents, victim, objectives)


@pytest.fixture
def homes(site: Site) -> Homes:
    """Where HA's rules bring each guest back to."""
    return homes_of(site)


@pytest.fixture
def operator(pytestconfig: pytest.Config) -> Operator:
    """A person, who is asked for what no machine can do."""
    return Operator(campaign_of(pytestconfig).observer)


def _made(check: Check | str) -> Check:
    if isinstance(check, str):
        pytest.skip(f"not proven: {check}")
    return check


@pytest.fixture
def fence_network(pytestconfig: pytest.Config) -> Check:
    """Whether the BMCs' switches are their own. Skipped where the inventory's networks do not say it."""
    return _made(organisation.fence_network(campaign_of(pytestconfig).declared))


@pytest.fixture
def runbook(pytestconfig: pytest.Config) -> Check:
    """Whether the runbook is there and known. Skipped where the inventory has no organisation block."""
    return _made(organisation.runbook(campaign_of(pytestconfig).declared))


@pytest.fixture
def repetition(pytestconfig: pytest.Config) -> Check:
    """Whether all was proven again in time. Skipped where no earlier run has proven it, or nobody says how often."""
    campaign = campaign_of(pytestconfig)
    past = campaign.asked.history.proven
    last = None if past is None else (past.run, past.at, past.versions)
    return _made(
        organisation.repeated(campaign.declared, last, lambda: campaign.versions, repeats=campaign.asked.whole)
    )


@pytest.fixture
def procedure(pytestconfig: pytest.Config) -> Procedure:
    """The failover that people make by the runbook. Skipped where the inventory has no steps of it, or no runbook."""
    model = campaign_of(pytestconfig).declared.model
    steps = model.replication.steps if model.replication is not None else ()
    if not any(not step.back for step in steps) or model.organisation is None:
        pytest.skip("not proven: the inventory has no replication.steps, or no organisation.runbook that they are of")
    there, back = ([Step(one.name, one.text, one.within) for one in steps if one.back is way] for way in (False, True))
    return Procedure(model.organisation.runbook.name, tuple(there), tuple(back))


@pytest.fixture
def run(pytestconfig: pytest.Config) -> Run:
    """The scenario: watch, expect, claim. It heals and settles the site when the test is over."""
    campaign = campaign_of(pytestconfig)
    simulator = campaign.declared.model.simulator
    settle = campaign.declared.model.objectives.settle
    return campaign.run(settle, simulator.seed if simulator else 1)


@pytest.fixture
def faults(run: Run) -> Faults:
    """Ways to break things, each healed when its ``with`` ends."""
    return Faults(run)
