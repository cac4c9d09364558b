"""The field's nouns as pytest fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_pveha.errors import SiteError, UsageError
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.cluster import Cluster
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import parse_duration
from pytest_pveha.scenario.campaign import Campaign
from pytest_pveha.scenario.homes import Homes, homes_of
from pytest_pveha.scenario.objectives import Objectives
from pytest_pveha.scenario.policies import Policy, policy_of
from pytest_pveha.scenario.roles import cast
from pytest_pveha.scenario.run import Faults, Run
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


@pytest.fixture(scope="session")
def ceph(site: Site) -> Ceph:
    """Hyper-converged Ceph; a test that uses it does not apply where the inventory has no ceph block."""
    return site.ceph


@pytest.fixture
def victim(site: Site, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Node:
    """The node that plays this test's role, bound now and on record."""
    campaign = campaign_of(pytestconfig)
    name = _cast(site, request.param)
    marker = request.node.get_closest_marker("destructive")
    expected = parse_duration(marker.kwargs["expected"]) if marker and "expected" in marker.kwargs else 0.0
    campaign.begin(request.node.nodeid, title(request.node), expected, {request.param: name})
    return site.nodes[name]


def _cast(site: Site, role: str) -> str:
    manager = site.cluster.manager(site.clock.deadline(10))
    busy = {service.node for service in manager.services.values()}
    found = cast(role, site.nodes.names, manager.master, busy)
    if found is None:
        raise SiteError(f"no node of the inventory plays {role}; the CRM master is {manager.master or '(none)'}")
    return found


@pytest.fixture
def residents(site: Site, guests: Guests, victim: Node) -> Guests:
    """The HA guests that run on ``victim`` now. Skipped where there are none: nothing would be proven."""
    services = site.cluster.manager(site.clock.deadline(10)).services
    found = Guests(guest for guest in guests if guest.sid in services and services[guest.sid].node == victim.name)
    if not found:
        pytest.skip(f"not proven: no HA guest of the inventory runs on {victim.name}")
    return found


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
