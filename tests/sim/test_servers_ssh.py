"""The nodes' SSH servers and the shell behind them."""

from __future__ import annotations

import base64
import io
import logging
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
import testinfra
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from testinfra.backend.paramiko import ParamikoBackend

from pytest_pveha.sim.servers.commands import COMMANDS
from pytest_pveha.sim.servers.ports import TcpPort
from pytest_pveha.sim.servers.shell import Result, Shell
from pytest_pveha.sim.servers.shell_syntax import SyntaxFailure, parse
from pytest_pveha.sim.servers.ssh import SshServers
from tests.sim.servers_kit import PlayingGate, small_site


def public_line(key: Ed25519PrivateKey) -> str:
    """The public key as in known_hosts."""
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def private_text(key: Ed25519PrivateKey) -> str:
    """The private key as in a file of OpenSSH's."""
    none = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, none).decode()


class Site:
    """SSH servers over one world, and a client."""

    def __init__(self) -> None:
        self.gate = PlayingGate(small_site())
        self.key = Ed25519PrivateKey.generate()
        names = list(self.gate.world.nodes)
        self.host_keys = {name: Ed25519PrivateKey.generate() for name in names}
        ports = {name: TcpPort() for name in names}
        self.servers = SshServers(self.gate, ports, self.host_keys, self.key.public_key())
        self.servers.start()
        self.clients: list[paramiko.SSHClient] = []

    def client(self, node: str, user: str = "root", key: Ed25519PrivateKey | None = None) -> paramiko.SSHClient:
        """A logged-in client."""
        client = paramiko.SSHClient()
        self.clients.append(client)
        kind, text = public_line(self.host_keys[node]).split()
        port = self.servers.ports[node].port
        host_key = paramiko.PKey.from_type_string(kind, base64.b64decode(text))
        client.get_host_keys().add(f"[127.0.0.1]:{port}", kind, host_key)
        private = private_text(key or self.key)
        client.connect(
            "127.0.0.1",
            port,
            user,
            pkey=paramiko.Ed25519Key.from_private_key(io.StringIO(private)),
            look_for_keys=False,
            allow_agent=False,
            timeout=20,
        )
        return client

    def run(self, command: str, node: str = "pve1") -> tuple[int, str, str]:
        """Exit status, output and errors of a command over SSH."""
        _, out, err = self.client(node).exec_command(command)
        return out.channel.recv_exit_status(), out.read().decode(), err.read().decode()

    def close(self) -> None:
        """Nothing is left open."""
        for client in self.clients:
            client.close()
        self.servers.close()


@pytest.fixture
def site() -> Iterator[Site]:
    """A healthy site."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    site = Site()
    yield site
    site.close()


@pytest.fixture
def gate() -> PlayingGate:
    """A healthy site without servers."""
    return PlayingGate(small_site())


def shell(gate: PlayingGate, line: str, node: str = "pve1") -> Result:
    """What the line says on that node."""
    return Shell(gate, node, COMMANDS, None).run(line)


# --- over SSH -----------------------------------------------------------------------------------------------------


def test_a_command_over_ssh(site: Site) -> None:
    """Output, errors and exit status come back apart."""
    assert site.run("hostname") == (0, "pve1\n", "")
    assert site.run("frobnicate") == (127, "", "bash: line 1: frobnicate: command not found\n")
    assert site.run("echo one; false", "pve2") == (1, "one\n", "")


@pytest.mark.parametrize("stranger", ["another user", "another key"])
def test_only_root_with_the_one_key(site: Site, stranger: str) -> None:
    """Another user or another key is refused."""
    user = "root" if stranger == "another key" else "admin"
    key = Ed25519PrivateKey.generate() if stranger == "another key" else None
    with pytest.raises(paramiko.AuthenticationException):
        site.client("pve1", user, key)


def test_there_is_no_interactive_shell(site: Site) -> None:
    """Whoever asks for a shell is told that there are only commands."""
    channel = site.client("pve1").invoke_shell()
    assert channel.recv_exit_status() == 1


def test_a_sleeping_command_takes_site_time(site: Site) -> None:
    """sleep 30 is over at once, thirty seconds of site time later, and others are served meanwhile."""
    meanwhile: list[tuple[int, str, str]] = []
    other = site.client("pve2")

    def ask() -> None:
        _, out, _ = other.exec_command("hostname")
        meanwhile.append((out.channel.recv_exit_status(), out.read().decode(), ""))

    before = float(site.run("date +%s.%N")[1])
    site.gate.meanwhile = lambda: threading.Thread(target=ask).start()
    assert site.run("sleep 30 && echo awake")[1] == "awake\n"
    assert float(site.run("date +%s.%N")[1]) - before == pytest.approx(30.0)


def test_a_node_that_dies_under_a_command_says_nothing(site: Site) -> None:
    """A command waiting on a node that dies has no end until the node boots, then its connection is reset."""

    def die() -> None:
        site.gate.kill("pve1")
        site.servers.ports["pve1"].silence()

    client = site.client("pve1")
    site.gate.meanwhile = die
    _, out, _ = client.exec_command("sleep 30")
    out.channel.settimeout(0.3)
    with pytest.raises(TimeoutError):
        out.channel.recv(1)
    site.servers.ports["pve1"].revive()
    assert out.channel.recv_exit_status() == -1
    transport = client.get_transport()
    assert transport is not None
    transport.join(5)
    assert not transport.is_active()


def test_a_command_of_somebody_gone_changes_nothing(site: Site) -> None:
    """A command whose requester hung up is not carried out."""
    client = site.client("pve2")
    site.gate.gone = True
    client.exec_command("qm stop 102")
    assert site.gate.turned_away.wait(5)
    site.gate.gone = False
    site.gate.play(10)
    assert "pve2" in site.gate.world.guests[102].processes


def test_testinfra_asks_what_the_shell_answers(site: Site) -> None:
    """testinfra's service, system_info, file and package facts are answered."""
    backend = ParamikoBackend("root@127.0.0.1")
    backend.client = site.client("pve1")
    host = testinfra.host.Host(backend)
    assert host.service("pve-ha-lrm").is_running
    assert host.service("pve-ha-lrm.service").is_enabled
    assert host.service("corosync").exists
    assert not host.service("frobnicator").is_running
    assert host.service("corosync").systemd_properties["SubState"] == "running"
    info = host.system_info
    assert (info.type, info.distribution, info.release, info.codename, info.arch) == (
        *("linux", "debian", "13", "trixie", "x86_64"),
    )
    assert host.file("/etc/hostname").content_string == "pve1\n"
    assert not host.file("/nonsense").exists
    assert host.file("/etc/pve").is_directory
    assert host.package("pve-manager").version == "9.1.9"
    assert not host.package("nonsense").is_installed


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh here")
def test_openssh_runs_a_command(site: Site, tmp_path: Path) -> None:
    """OpenSSH's client, checking the host key, runs a command."""
    key, known = tmp_path / "key", tmp_path / "known_hosts"
    key.touch(mode=0o600)
    key.write_text(private_text(site.key))
    port = site.servers.ports["pve2"].port
    known.write_text(f"[127.0.0.1]:{port} {public_line(site.host_keys['pve2'])}\n")
    options = [
        "-F",
        "none",
        "-i",
        str(key),
        "-p",
        str(port),
        "-o",
        f"UserKnownHostsFile={known}",
        "-o",
        "BatchMode=yes",
    ]
    done = subprocess.run(
        ["ssh", *options, "root@127.0.0.1", "hostname; sleep 5; false"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "pve2\n")


# --- the shell ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "out", "status"),
    [
        ("true && echo yes || echo no", "yes\n", 0),
        ("false && echo yes || echo no", "no\n", 0),
        ("echo 'a && b; c' | grep -q 'b;' && echo found", "found\n", 0),
        ("sh -c 'echo \"$x\"; false'; echo after", "$x\nafter\n", 0),
        ("sudo -n /bin/sh -c 'hostname'", "pve1\n", 0),
        ("sudo -u root hostname", "pve1\n", 0),
        ("LC_ALL=C hostname 2>/dev/null", "pve1\n", 0),
        ("cat /nonsense 2>&1 | grep -c such", "1\n", 0),
        ("nonsense 2>/dev/null", "", 127),
        ("/usr/sbin/nonsense >/dev/null 2>&1", "", 127),
        ("timeout 5 hostname", "pve1\n", 0),
        ("test -e /etc/hostname && test ! -e /nonsense && echo both", "both\n", 0),
        ("uname -s", "Linux\n", 0),
        ("", "", 0),
    ],
)
def test_lines(gate: PlayingGate, line: str, out: str, status: int) -> None:
    """The shell understands words, quotes, chains, pipes and redirections to nowhere."""
    result = shell(gate, line)
    assert (result.out, result.status) == (out, status)


@pytest.mark.parametrize(
    "line", ["echo 'open", "hostname &", "(true)", "echo $(hostname)", "echo `id`", "true &&", "true | ", "&& true"]
)
def test_what_it_does_not_understand(gate: PlayingGate, line: str) -> None:
    """What the shell cannot do is an error, never done otherwise."""
    with pytest.raises(SyntaxFailure):
        parse(line)
    assert shell(gate, line).status == 2


def test_boot_id_and_uptime_follow_the_boots(gate: PlayingGate) -> None:
    """After a boot there is another boot id, and the uptime has begun anew."""
    node = gate.world.nodes["pve3"]
    first = shell(gate, "cat /proc/sys/kernel/random/boot_id", "pve3").out
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n", first)
    gate.kill("pve3")
    gate.play(5)
    gate.world.chassis("pve3", "on")
    gate.until(lambda: node.running)
    assert shell(gate, "cat /proc/sys/kernel/random/boot_id", "pve3").out != first
    assert float(shell(gate, "cat /proc/uptime", "pve3").out.split()[0]) < 120


def test_quorum_tools(gate: PlayingGate) -> None:
    """pvecm and corosync's tools tell membership and quorum as recorded, and exit 2 without quorum."""
    text = shell(gate, "pvecm status").out
    assert "Node ID:          0x00000001\n" in text
    assert "0x00000001          1 10.99.0.11 (local)\n0x00000002          1 10.99.0.12\n" in text
    assert "Quorum:           2  \nFlags:            Quorate \n" in text
    status = shell(gate, "corosync-quorumtool -s")
    assert status.status == 0
    assert "         1          1 pve1 (local)\n         2          1 pve2\n" in status.out
    assert "\t\tnodeid:          2:\tconnected\n" in shell(gate, "corosync-cfgtool -s").out
    gate.world.cut_network("pve3")
    gate.play(30)
    alone = shell(gate, "corosync-quorumtool -s", "pve3")
    assert alone.status == 2
    assert "Quorum:           2 Activity blocked\nFlags:            \n" in alone.out
    assert "nodeid:          1:\tdisconnected" in shell(gate, "corosync-cfgtool -s", "pve3").out
    refused = shell(gate, "ha-manager migrate vm:103 pve1", "pve3")
    assert (refused.status, refused.err) == (255, "cluster not ready - no quorum?\n")


def test_ha_manager(gate: PlayingGate) -> None:
    """ha-manager status is the API's view as text, and its JSON below."""
    gate.play(30)
    text = shell(gate, "ha-manager status --verbose").out
    assert text.startswith("quorum OK\nmaster pve")
    assert (
        '\nservice vm:101 (pve1, started)\nservice vm:103 (pve3, started)\nfull cluster state:\n{\n   "lrm_status" : {'
        in text
    )
    assert shell(gate, "ha-manager migrate vm:101 pve2").status == 0
    gate.until(lambda: gate.world.guests[101].config_node == "pve2")


def test_guests_as_processes(gate: PlayingGate) -> None:
    """ps shows each running VM's kvm process with its age, qm what is configured here."""
    out = shell(gate, "ps -eww -o pid=,etimes=,args=", "pve2").out
    found = re.findall(r"^ *(\d+) +(\d+) /usr/bin/kvm -id (\d+) -name (\w+),debug-threads=on ", out, re.MULTILINE)
    assert [(vmid, name) for _, _, vmid, name in found] == [("102", "plain2")]
    assert " /usr/sbin/corosync -f\n" in out
    assert shell(gate, "qm list", "pve2").out.splitlines()[1].split()[:3] == ["102", "plain2", "running"]
    assert shell(gate, "qm stop 102", "pve2").status == 0
    gate.play(10)
    assert "kvm" not in shell(gate, "ps -eww -o pid=,etimes=,args=", "pve2").out
    assert shell(gate, "qm status 102", "pve2").out == "status: stopped\n"
    assert shell(gate, "qm start 101").out == "Requesting HA start for VM 101\n"
    assert shell(gate, "qm start 103").status == 2


def test_units(gate: PlayingGate) -> None:
    """systemctl tells states, exit codes and properties as systemd's does."""
    assert shell(gate, "systemctl is-active watchdog-mux") == Result(0, "active\n")
    assert shell(gate, "systemctl is-active nonsense") == Result(4, "inactive\n")
    assert shell(gate, "systemctl is-enabled pve-ha-crm.service") == Result(0, "enabled\n")
    shown = shell(gate, "systemctl show -p MainPID,SubState corosync").out
    assert re.fullmatch(r"MainPID=\d+\nSubState=running\n", shown)
    pid = gate.world.nodes["pve1"].units["corosync"].pid
    assert shell(gate, "systemctl show --property=MainPID --value corosync").out == f"{pid}\n"


def test_the_journal(gate: PlayingGate) -> None:
    """journalctl filters by unit, boot and time, and prints epoch, host, identifier and pid."""
    gate.play(10)
    node = gate.world.nodes["pve1"]
    gate.world.log(node, "pve-ha-crm", "before")
    gate.play(10)
    since = gate.world.utc(node) - 1
    gate.world.log(node, "pve-ha-crm", "after")
    gate.world.log(node, "pmxcfs", "[status] notice: other")
    line = f"journalctl -b -o short-unix -u pve-ha-crm -u pve-ha-lrm --since @{since:.6f} --no-pager"
    lines = shell(gate, line).out.splitlines()
    assert re.fullmatch(r"1767340820\.\d{6} pve1 pve-ha-crm\[\d+\]: after", lines[-1]) or "1767340819" in lines[-1]
    assert not any("before" in text or "other" in text for text in lines)
    assert " pmxcfs[" in shell(gate, "journalctl -u pve-cluster -n 1 -o short-precise --no-pager").out
    assert shell(gate, "journalctl -u nonsense").out == "-- No entries --\n"
    bare = shell(gate, "journalctl -u pve-ha-crm -n 1 -o short-unix --no-hostname").out
    assert re.match(r"\d+\.\d{6} pve-ha-crm\[", bare)


def test_which_commands_exist(gate: PlayingGate) -> None:
    """command -v finds what this shell knows and nothing else."""
    assert shell(gate, "command -v systemctl").out == "/usr/bin/systemctl\n"
    assert shell(gate, "command -v nonsense").status == 1
