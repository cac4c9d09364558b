"""The SSH client, our handles and testinfra against OpenSSH's sshd, over links that are really cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import CLOCK, eventually, give_sshd, host_key, make_key, target
from lab import AMPLE, Lab, Machine, needs, tool

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import AuthRefused, SiteError, Unreachable
from pytest_pveha.handles.node import Node
from pytest_pveha.wire import ssh as ssh_module
from pytest_pveha.wire.facts import host_on
from pytest_pveha.wire.ssh import Ssh, quote

pytestmark = [pytest.mark.daemons, needs("sshd", "ssh-keygen")]

PATIENCE = 3.0
"""Seconds given to what gets no answer."""


class Bench:
    """A host with sshd, one behind it that only it reaches, and clients of both on the controller."""

    def __init__(self, lab: Lab, key: Path) -> None:
        self.lab = lab
        self.key = key
        lab.network("behind")
        self.host = lab.machine("host", {"mgmt": "10.77.0.61/24", "behind": "10.78.0.61/24"})
        self.far = lab.machine("far", {"behind": "10.78.0.62/24"})
        for machine in (self.host, self.far):
            give_sshd(machine, key)
            self.boot(machine)
        self.clients: list[Ssh] = []

    def boot(self, machine: Machine) -> None:
        """It runs, and its sshd with it."""
        machine.start()
        machine.daemon("/usr/sbin/sshd", "-D", "-e")
        eventually(lambda: "LISTEN" in machine.run("ss", "-Hltn", "sport = :22"), AMPLE)

    def ssh(self, **changes: Any) -> Ssh:
        """A client of the host."""
        self.clients.append(Ssh(target(self.host, "mgmt", **{"key": self.key, **changes}), CLOCK))
        return self.clients[-1]

    def count(self, name: str) -> int:
        """How often a command that leaves a line in that file there has run."""
        path = self.host.path(f"/root/{name}")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def mend(self) -> None:
        """All is as it was."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        self.lab.plug("host", "mgmt", connected=True)
        for left in self.host.path("/root").iterdir():
            left.unlink()


@pytest.fixture(scope="module")
def bench_started(lab: Lab, key: Path) -> Bench:
    return Bench(lab, key)


@pytest.fixture
def bench(lab: Lab, bench_started: Bench) -> Iterator[Bench]:
    """Both hosts answer; the test is on the controller's network."""
    with lab.inside("controller"):
        yield bench_started
        bench_started.mend()


def within(seconds: float = AMPLE) -> Any:
    """A deadline from now."""
    return CLOCK.deadline(seconds)


def test_only_the_expected_host_key_is_let_pass(bench: Bench, tmp_path: Path) -> None:
    """An unknown key and a changed one are refused, with the fingerprint that the host's own tool prints of it."""
    assert bench.ssh().run("true", deadline=within()).exit_status == 0
    printed = tool("ssh-keygen", "-lf", str(bench.host.path("/etc/ssh/ssh_host_ed25519_key.pub"))).split()[1]
    known = tmp_path / "known_hosts"
    known.write_text("")
    with pytest.raises(AuthRefused, match="unknown") as refused:
        bench.ssh(host_keys=(), known_hosts=known).run("true", deadline=within())
    assert printed in str(refused.value)
    make_key(tmp_path / "stranger")
    stranger = " ".join((tmp_path / "stranger.pub").read_text().split()[:2])
    with pytest.raises(AuthRefused, match="is another one") as refused:
        bench.ssh(host_keys=(stranger,)).run("true", deadline=within())
    assert printed in str(refused.value)


def test_known_hosts_as_openssh_wrote_it(bench: Bench, tmp_path: Path) -> None:
    """What ssh-keyscan prints, plain and hashed by ssh-keygen, lets the host pass."""
    known = tmp_path / "known_hosts"
    known.write_text(tool("ssh-keyscan", "-t", "ed25519", bench.host.addresses["mgmt"]))
    assert host_key(bench.host) in known.read_text()
    assert bench.ssh(host_keys=(), known_hosts=known).run("true", deadline=within()).exit_status == 0
    tool("ssh-keygen", "-q", "-H", "-f", str(known))
    assert bench.host.addresses["mgmt"] not in known.read_text()
    assert bench.ssh(host_keys=(), known_hosts=known).run("true", deadline=within()).exit_status == 0


def test_a_host_installed_anew_is_refused(bench: Bench) -> None:
    """After a reinstallation a client that knew the old key runs nothing there."""
    client = bench.ssh()
    client.run("true", deadline=within())
    bench.host.cut_power()
    give_sshd(bench.host, bench.key)
    bench.boot(bench.host)
    with pytest.raises(AuthRefused, match="is another one"):
        client.run(quote("touch", "/root/ran"), deadline=within(), acts=True)
    assert not bench.host.path("/root/ran").exists()


def test_a_stranger_is_not_let_in(bench: Bench, tmp_path: Path) -> None:
    """A key that sshd does not know, and a user that it does not, are AuthRefused."""
    make_key(tmp_path / "stranger")
    with pytest.raises(AuthRefused, match="refused us"):
        bench.ssh(key=tmp_path / "stranger").run("true", deadline=within())
    with pytest.raises(AuthRefused, match="refused us"):
        bench.ssh(user="nobody-here").run("true", deadline=within())


def test_through_a_jump_host(bench: Bench) -> None:
    """A host that only the jump host reaches answers; both keys are checked; a hung command there is bounded."""
    jump = target(bench.host, "mgmt", bench.key, name="jump")
    far = Ssh(target(bench.far, "behind", bench.key, jump=jump), CLOCK)
    bench.clients.append(far)
    assert far.run("hostname", deadline=within()).stdout == b"far\n"
    with pytest.raises(Unreachable, match="deadline"):
        far.run("sleep 600", deadline=within(1))
    assert far.run("hostname", deadline=within()).stdout == b"far\n"
    for changes in (
        {"host_keys": (host_key(bench.host),)},
        {"jump": target(bench.host, "mgmt", bench.key, host_keys=())},
    ):
        client = Ssh(target(bench.far, "behind", bench.key, **{"jump": jump, **changes}), CLOCK)
        with pytest.raises(AuthRefused, match="host key"):
            client.run("true", deadline=within())
        client.close()
    nobody = Ssh(target(bench.far, "behind", bench.key, jump=jump, host="10.78.0.61", port=23), CLOCK)
    with pytest.raises(Unreachable, match=r"the jump host jump .* cannot connect to it"):
        nobody.run("true", deadline=within())
    nobody.close()


def test_four_megabytes_on_stderr(bench: Bench) -> None:
    """Both streams come whole, however much is on either, with input going the other way."""
    done = bench.ssh().run("head -c 4000000 /dev/zero >&2; cat; exit 3", deadline=within(), input=b"x" * 3_000_000)
    assert (len(done.stderr), len(done.stdout), done.exit_status) == (4_000_000, 3_000_000, 3)


def test_a_hung_command_ends_at_its_deadline(bench: Bench) -> None:
    """It is left alone, the next one goes by a new connection, and it ran once."""
    client = bench.ssh()
    client.run("true", deadline=within())
    begin = CLOCK.now().mono
    with pytest.raises(Unreachable, match=r"did not answer within the deadline.*unknown whether it ran"):
        client.run("echo >>/root/hung; sleep 600", deadline=within(2), acts=True)
    assert 1.9 < (CLOCK.now().mono - begin) / SECOND < AMPLE / 2
    assert client.run("hostname", deadline=within()).stdout == b"host\n"
    assert bench.count("hung") == 1
    bench.host.run("pkill", "-x", "sleep", check=False)


def test_a_command_ended_by_a_signal(bench: Bench) -> None:
    """It has status -1 where the link stands: sshd names the signal and no status."""
    client = bench.ssh()
    assert client.run("kill -9 $$", deadline=within()).exit_status == -1
    assert client.run("hostname", deadline=within()).stdout == b"host\n"


@pytest.mark.parametrize("acts", [True, False], ids=["acts", "reads"])
def test_a_link_cut_in_mid_command(bench: Bench, acts: bool) -> None:
    """It is told that the command had gone out, whether it ran is not guessed, and it runs once, link or no link."""
    client = bench.ssh()
    client.run("true", deadline=within())
    failed: list[SiteError] = []

    def run() -> None:
        try:
            client.run("echo >>/root/cut; sleep 2; echo >>/root/went-on", deadline=within(6), acts=acts)
        except SiteError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: bench.count("cut") == 1, AMPLE)
    bench.lab.plug("host", "mgmt", connected=False)
    thread.join()
    assert "unknown whether it ran" in str(failed[0]) if acts else "its result is lost" in str(failed[0])
    with pytest.raises(Unreachable, match=r"was not sent|No route to host|unreachable"):
        client.run("echo >>/root/cut", deadline=within(1), acts=acts)
    bench.lab.plug("host", "mgmt", connected=True)
    eventually(lambda: bench.count("went-on") == 1, AMPLE)  # it had not been told of the cut
    assert client.run("hostname", deadline=within()).stdout == b"host\n"
    assert bench.count("cut") == 1


def test_a_host_without_power_in_mid_command(bench: Bench) -> None:
    """Nothing answers and nothing refuses: the deadline ends it, and its next life is reached anew."""
    client = bench.ssh()
    client.run("true", deadline=within())
    bench.host.cut_power()
    with pytest.raises(Unreachable, match="did not answer within the deadline"):
        client.run(quote("touch", "/root/ran"), deadline=within(PATIENCE), acts=True)
    bench.boot(bench.host)
    assert client.run("hostname", deadline=within()).stdout == b"host\n"
    assert not bench.host.path("/root/ran").exists()


def test_a_restarted_sshd_is_reached_anew(bench: Bench) -> None:
    """A connection that the other side closed meanwhile costs nothing: the next command is sent once, by a new one."""
    client = bench.ssh()
    client.run("true", deadline=within())
    bench.host.run("pkill", "-f", "sshd: root", check=False)
    eventually(lambda: not bench.host.run("pgrep", "-f", "sshd: root", check=False), AMPLE)
    client.run("echo >>/root/once", deadline=within(), acts=True)
    assert bench.count("once") == 1


def test_an_idle_connection_is_kept_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody asks anything packets go over the connection, often enough for a firewall to remember it."""
    monkeypatch.setattr(ssh_module, "KEEPALIVE_SECONDS", 1)
    client = bench.ssh()
    client.run("true", deadline=within())

    def sent() -> int:
        told = bench.host.run("ss", "-Hti", "state", "established", "sport = :22")
        return int(told.partition("segs_in:")[2].split()[0])

    before = sent()
    eventually(lambda: sent() >= before + 4, AMPLE, "the connection is used though idle")
    pids = bench.host.run("pgrep", "-f", "sshd: root")
    assert client.run("hostname", deadline=within()).stdout == b"host\n"
    assert bench.host.run("pgrep", "-f", "sshd: root") == pids  # by the same connection


def test_facts_over_our_connection(bench: Bench) -> None:
    """testinfra tells files, packages, processes and the system of that host, over the one connection there is."""
    client = bench.ssh()
    bench.host.path("/root/größe.cfg").write_text("migration: secure\n", "utf-8")
    host = host_on(client, CLOCK, per_command=AMPLE)
    assert host.file("/root/größe.cfg").content_string == "migration: secure\n"
    assert host.file("/etc/hostname").content_string == "host\n"
    assert host.package("openssh-server").is_installed
    assert not host.package("pve-ha-manager").is_installed
    assert host.system_info.distribution
    assert host.process.filter(user="root", comm="sshd")
    assert not host.process.filter(comm="corosync")  # which others run on this machine, and not there
    assert host.socket("tcp://0.0.0.0:22").is_listening
    assert host.run("echo %s", "a b").stdout == "a b\n"
    assert bench.host.run("pgrep", "-c", "-f", "sshd: root@notty").strip() == "1"
    hung = host_on(client, CLOCK, per_command=1)
    with pytest.raises(Unreachable, match="deadline"):
        hung.run("sleep 600")
    bench.host.run("pkill", "-x", "sleep", check=False)


def test_what_a_node_says_of_itself(bench: Bench) -> None:
    """Boot id, names, processes and clock of our handle are the host's own."""
    client = bench.ssh()
    node = Node("host", client, None, CLOCK, ())
    assert node.boot_id(within()) == bench.host.run("cat", "/proc/sys/kernel/random/boot_id").strip()
    assert node.host_name(within()) == "host"
    assert node.machine_id(within()) == bench.host.path("/etc/machine-id").read_text().strip()
    assert node.pids(within()) >= {1}
    assert node.processes(within()).ages == {}
    offset = node.clock_offset(within())
    assert abs(offset.offset) <= offset.error + 0.01
