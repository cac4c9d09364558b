"""Our cuts of Ceph's networks on a real one: what is called down, and for how long nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from ceph_lab import POOL, SETTLES, TOOLS, CephCluster
from clusters import CLOCK, eventually
from lab import AMPLE, needs
from test_ceph_faults import left_alone, osd_map, undone

from pytest_pveha.faults import rules
from pytest_pveha.faults.ceph import CephNetworkCut
from pytest_pveha.observe import ceph_map

pytestmark = [pytest.mark.daemons, pytest.mark.usefixtures("steady_soon"), needs(*TOOLS)]

TAG = "pveha-lab-ceph-cut"


def cut(ceph: CephCluster, name: str, network: str) -> CephNetworkCut:
    kind = {"cluster": "back", "public": "public"}[network]
    addresses = tuple((each, (machine.addresses[kind],)) for each, machine in ceph.machines.items())
    return CephNetworkCut(TAG, name, network, addresses, tuple((osd, 1.0) for osd in ceph.osds_of(name)), mon=True)


WRITER = """echo $$ > /srv/writer
n=0
while :; do
  timeout 100 rados -p "$1" put "stall$((n % 24))" /etc/hostname && date +%s.%N >> /srv/written
  n=$((n + 1))
done
"""


def writes(ceph: CephCluster) -> int:
    """How many came through so far."""
    written = ceph.client.path("/srv/written")
    return len(written.read_text().splitlines()) if written.exists() else 0


@contextmanager
def writing(ceph: CephCluster) -> Iterator[dict[str, float]]:
    """Somebody writes one small object after the other; afterwards it is known for how long none came through."""
    told: dict[str, float] = {}
    written = ceph.client.path("/srv/written")
    written.unlink(missing_ok=True)
    ceph.client.daemon("sh", "-c", WRITER, "sh", POOL)
    eventually(lambda: writes(ceph) > 8, what="it writes")
    yield told
    times = [float(line) for line in written.read_text().splitlines()]
    told["stall"] = max(later - earlier for earlier, later in pairwise(times))
    writer = ceph.client.path("/srv/writer").read_text().strip()
    ceph.client.run("kill", "-KILL", "--", f"-{writer}", check=False)


@pytest.mark.parametrize("network", ["cluster", "public"])
def test_a_network_of_one_host(real_ceph: CephCluster, network: str) -> None:
    """Its OSDs are called down, nothing else is; nothing is written for a while, whatever health says."""
    fault = cut(real_ceph, "ceph3", network)
    health: list[str] = []
    with writing(real_ceph) as told:
        begin = CLOCK.now().mono
        fault.inject(real_ceph.observer)
        real_ceph.observer.broken_at = begin

        def bitten() -> bool:
            health.append(ceph_map.status(real_ceph.observer, ["ceph3"]).health)
            return fault.took_effect(real_ceph.observer).verdict == "yes"

        took = eventually(bitten, within=SETTLES, what="its OSDs are called down")
        so_far = writes(real_ceph)
        eventually(lambda: writes(real_ceph) > so_far + 2, within=SETTLES, what="it is written again")
        down = [osd for osd, one in osd_map(real_ceph).osds.items() if not one.up]
    print(f"{network}: bit after {took:.1f} s; nothing was written for {told['stall']:.1f} s; down {down}")
    print(f"health meanwhile: {dict.fromkeys(health)} in {len(health)} looks")
    assert set(down) <= {4, 5}
    assert told["stall"] > 5
    undone(real_ceph, fault)
    for name in real_ceph.machines:
        assert not rules.there(real_ceph.node(name), TAG, CLOCK.deadline(AMPLE))


def test_a_cut_network_that_nobody_heals(real_ceph: CephCluster) -> None:
    """The nodes take their rules back, and start what gave up meanwhile."""
    fault = cut(real_ceph, "ceph2", "cluster")
    fault.inject(real_ceph.observer)
    real_ceph.unit(real_ceph.machines["ceph2"], "stop", "ceph-osd@3")
    left_alone(real_ceph, fault)
