"""A whole site as a client reaches it: input over SSH, units that run while nobody is there, our own cable pulled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import whole_run

from pytest_pveha.embedded import Embedded, start
from pytest_pveha.errors import Unreachable
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.simclock import SiteClock, plug_controller, unplug_controller
from pytest_pveha.wire.ssh import CommandResult

STORE = "/var/lib/pveha/4312a98e"
PUT = (
    f"umask 077 && mkdir -p {STORE} && cat > {STORE}/.plan.new && sync {STORE}/.plan.new"
    f" && mv -f {STORE}/.plan.new {STORE}/plan && sync {STORE}"
)


class Remote:
    """A site in a process of its own, and our production clients to it."""

    def __init__(self, site: Embedded) -> None:
        self.embedded = site
        self.address = site.runtime / "baton"
        self.clock: SiteClock = site.clock()
        self.site: Site = connect(site.inventory, self.clock)

    def run(self, command: str, given: bytes | None = None, node: str = "pve1", within: float = 60.0) -> CommandResult:
        """What the command says on that node."""
        return self.site.nodes[node].ssh.run(command, deadline=self.clock.deadline(within), input=given)

    @property
    def now(self) -> float:
        """Site time."""
        return self.clock.now().mono / 1e9


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A fresh site, whose first node has no nft."""
    with whole_run.place() as here:
        monkeypatch.setenv("PVEHA_RUNTIME", str(here.folder / "run"))
        differing = [{"name": "pve1", "missing_tools": ["nft"]}]
        made = Remote(start(load(here.inventory(nodes=differing, missing_tools=["tcpdump"], links=2))))
        yield made
        made.site.close()
        made.clock.close()
        made.embedded.stop()


def test_input_reaches_a_file(remote: Remote) -> None:
    """What the client sends as standard input is stored, and read back; a command without input finds none."""
    content = b'{"undo": "\xc3\xa4"}\n' * 5000
    assert remote.run(PUT, content).exit_status == 0
    assert remote.run(f"cat {STORE}/plan").stdout == content
    assert remote.run("cat").stdout == b""
    assert remote.run(f"ls -1 {STORE}", node="pve2").exit_status == 2


def test_the_simulator_block_is_played(remote: Remote) -> None:
    """Links and missing tools are as the inventory says."""
    assert remote.run("command -v nft").exit_status == 1
    assert remote.run("command -v nft", node="pve2").exit_status == 0
    assert remote.run("cat /etc/pve/corosync.conf").stdout.count(b"ring1_addr") == 3


def test_a_filter_between_nodes_leaves_us_alone(remote: Remote) -> None:
    """Nodes that drop each other's packets part, and each goes on answering us."""
    peers = "{ 10.99.0.13, 10.99.1.13 }"
    rule = f"table inet x {{ chain i {{ type filter hook input priority -300; ip saddr {peers} drop; }} }}"
    for node in ("pve1", "pve2"):
        rules = [f"iptables -w -A INPUT -s {one} -j DROP" for one in ("10.99.0.13", "10.99.1.13")]
        command = "nft -f -" if node == "pve2" else " && ".join(rules)
        assert remote.run(command, rule.encode(), node).exit_status == 0
    remote.clock.sleep(10.0)
    assert remote.run("corosync-quorumtool -s", node="pve3").exit_status == 2
    assert remote.run("corosync-quorumtool -s", node="pve2").exit_status == 0


def test_a_dead_man_fires_without_us(remote: Remote) -> None:
    """With our cable out the node's timer goes on; plugged in again we see what it did, and when."""
    remote.run("mkdir -p /var/lib/pveha && cat > /var/lib/pveha/undo.sh", b"date +%s > /var/lib/pveha/fired\n")
    armed = int(remote.run("date +%s").stdout)
    line = "systemd-run --quiet --collect --unit=pveha-x --on-active=100 --timer-property=AccuracySec=100ms"
    assert remote.run(f"{line} /bin/sh /var/lib/pveha/undo.sh").exit_status == 0
    unplug_controller(remote.address, after=10.0, lasting=200.0)
    remote.clock.sleep(11.0)
    before = remote.now
    with pytest.raises(Unreachable):
        remote.run("hostname", within=30.0)
    assert remote.now - before == pytest.approx(30.0, abs=1.0)
    remote.clock.sleep(170.0)
    fired = int(remote.run("cat /var/lib/pveha/fired").stdout)
    assert 99 <= fired - armed <= 102


def test_the_cable_is_out_until_it_is_in(remote: Remote) -> None:
    """Every port is silent, API, SSH, BMC and guests alike, until somebody plugs in, from wherever he is."""
    unplug_controller(remote.address)
    for node in remote.site.nodes:
        with pytest.raises(Unreachable):
            node.ssh.run("hostname", deadline=remote.clock.deadline(5))
        with pytest.raises(Unreachable):
            node.bmc.power_state(remote.clock.deadline(5))
    with pytest.raises(Unreachable):
        remote.site.cluster.membership(remote.clock.deadline(5))
    plug_controller(remote.address)
    assert remote.run("hostname").stdout == b"pve1\n"


def test_a_stopped_sshd(remote: Remote) -> None:
    """Whoever is logged in stays so and can start it again; nobody else comes in meanwhile."""
    assert remote.run("systemctl stop sshd", node="pve2").exit_status == 0
    assert remote.run("systemctl is-active sshd", node="pve2").stdout == b"inactive\n"
    newcomer = connect(remote.embedded.inventory, remote.clock)
    with pytest.raises(Unreachable, match="refused"):
        newcomer.nodes["pve2"].ssh.run("hostname", deadline=remote.clock.deadline(10))
    newcomer.close()
    assert remote.run("systemctl start sshd", node="pve2").exit_status == 0
    assert remote.run("hostname", node="pve2").stdout == b"pve2\n"


def test_nobody_there_to_unplug(remote: Remote) -> None:
    """Without a site at that address whoever pulls the cable is told."""
    nowhere = remote.address.with_name("nowhere")
    with pytest.raises(Unreachable, match="does not answer"):
        unplug_controller(nowhere)
    with pytest.raises(Unreachable, match="does not answer"):
        plug_controller(nowhere)
