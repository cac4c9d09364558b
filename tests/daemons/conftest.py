"""The laboratory in which the real daemons run: one for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ceph_lab import STEADY, TOOLS, CephCluster
from clusters import Cluster, eventually, make_key
from lab import AMPLE, Lab, lacking

from pytest_pveha.faults import ceph as faults

OF_CEPH = ("test_ceph_both.py", "test_ceph_network.py", "test_ceph.py", "test_ceph_faults.py")
"""Files that need a Ceph, which is large and takes long to begin: three workers of pytest-xdist's have one."""
OF_CLUSTERS = (
    "test_both.py", "test_qnetd.py", "test_corosync.py", "test_small_suites.py", "test_small_site.py",
    "test_small_quorum.py",
)  # fmt: skip
"""Files that need a cluster of corosync's."""
SHARED = {
    "test_ceph.py": "test_ceph_network.py",
    "test_small_site.py": "test_small_suites.py",
    "test_qnetd.py": "test_both.py",
    "test_corosync.py": "test_both.py",
}
"""File → another one that the same worker plays, with the same daemons."""

LONGEST = (
    *OF_CEPH, "test_small_quorum.py", "test_small_suites.py", "test_small_site.py", "test_dead_man.py", "test_both.py",
    "test_qnetd.py", "test_corosync.py", "test_guests.py", "test_canaries.py", "test_killed.py", "test_journal.py",
    "test_storage_servers.py",
)  # fmt: skip
"""Files that take longest, in that order."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile`` each file, and those that share their daemons together, is one worker's.

    The others begin with what takes longest.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(super()._split_scope(nodeid))
            return str(file.with_name(SHARED.get(file.name, file.name)))

    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: it would be waited for at the end."""
    here = Path(__file__).parent
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    ours = [item for item in items if item.path.parent == here]
    ours.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    items[:] = [*ours, *(item for item in items if item.path.parent != here)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run that came to no end is not known by its failures: ``--lf`` plays all of it then."""
    cache = getattr(session.config, "cache", None)
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if cache is not None and not ended and not hasattr(session.config, "workerinput"):
        cache.set("cache/lastfailed", {})


NETWORKS = ("mgmt", "ring0", "ring1", "public", "back")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A laboratory with its networks and the controller's machine; what killed runs left is cleared away first."""
    if reason := lacking():
        pytest.skip(reason)
    lab = Lab()
    try:
        for name in NETWORKS:
            lab.network(name)
        lab.machine("controller", {"mgmt": "10.77.0.250/24"}).start()
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def key(lab: Lab) -> Path:
    """The SSH key that all machines let in."""
    path = lab.folder / "id_ed25519"
    make_key(path)
    return path


@pytest.fixture(scope="session")
def trio_started(lab: Lab, key: Path, clusters_begun: list[Cluster | CephCluster]) -> Cluster:
    """A cluster of three nodes with two links, and BMCs where there is ipmi_sim, begun once."""
    trio = Cluster(lab, ("pve1", "pve2", "pve3"), 1, key=key, boards=not lacking("ipmi_sim"))
    with lab.inside("controller"):
        trio.start()
    clusters_begun.append(trio)
    return trio


def _awake(cluster: Cluster) -> None:
    if not all(machine.running for machine in cluster.machines.values()):
        cluster.mend()
    eventually(cluster.whole, what="the cluster is whole")


@pytest.fixture
def trio(lab: Lab, trio_started: Cluster) -> Iterator[Cluster]:
    """Three nodes, whole before and after; the test is on the controller's network."""
    with lab.inside("controller"):
        _awake(trio_started)
        yield trio_started
        trio_started.mend()


@pytest.fixture(scope="session")
def pair_started(lab: Lab, key: Path, clusters_begun: list[Cluster | CephCluster]) -> Cluster:
    """A cluster of two nodes with the vote of a quorum device, begun once."""
    witness = lab.machine("witness", {"mgmt": "10.77.0.50/24"})
    pair = Cluster(lab, ("two1", "two2"), 11, key=key, device=witness)
    with lab.inside("controller"):
        witness.start()
        pair.start()
    clusters_begun.append(pair)
    return pair


@pytest.fixture
def pair(lab: Lab, pair_started: Cluster) -> Iterator[Cluster]:
    """Two nodes and their quorum device, whole before and after; the test is on the controller's network."""
    with lab.inside("controller"):
        _awake(pair_started)
        yield pair_started
        pair_started.mend()


@pytest.fixture(scope="session")
def ceph_started(lab: Lab, key: Path, clusters_begun: list[Cluster | CephCluster]) -> CephCluster:
    """Three hosts with a mon and two OSDs each, begun once."""
    if reason := lacking(*TOOLS):
        pytest.skip(reason)
    ceph = CephCluster(lab, key)
    with lab.inside("controller"):
        ceph.start()
    clusters_begun.append(ceph)
    return ceph


@pytest.fixture
def real_ceph(lab: Lab, ceph_started: CephCluster) -> Iterator[CephCluster]:
    """A real Ceph, all active+clean before and after; the test is on the controller's network."""
    with lab.inside("controller"):
        if not all(machine.running for machine in ceph_started.machines.values()):
            ceph_started.mend()
        eventually(ceph_started.clean, within=AMPLE, what="Ceph is whole")
        yield ceph_started
        ceph_started.mend()


@pytest.fixture
def steady_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OSD that is up again is called healed after a shorter while."""
    monkeypatch.setattr(faults, "STEADY", STEADY)


@pytest.fixture(autouse=True, scope="module")
def nobody_idle(request: pytest.FixtureRequest, clusters_begun: list[Cluster | CephCluster]) -> None:
    """What a file's tests do not need is off: it takes memory and time from others."""
    for each in clusters_begun:
        if request.path.name not in (OF_CEPH if isinstance(each, CephCluster) else OF_CLUSTERS):
            for machine in each.machines.values():
                machine.cut_power()


@pytest.fixture(scope="session")
def clusters_begun() -> list[Cluster | CephCluster]:
    """The clusters that have begun."""
    return []
