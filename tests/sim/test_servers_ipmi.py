"""The simulated BMC, driven by the clients that other people wrote: ipmitool and pyghmi."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.sim.bmc_bench import PASSWORD, USER, Bench, bmc

needs_ipmitool = pytest.mark.skipif(shutil.which("ipmitool") is None, reason="ipmitool is not installed")
suites = pytest.mark.parametrize("suite", ["3", "17", ""], ids=["suite-3", "suite-17", "own-choice"])


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A BMC with four sessions and an administrator."""
    with bmc() as running:
        yield running


def ipmitool(
    bench: Bench, *words: str, suite: str = "3", user: str = USER, password: str = PASSWORD, privilege: str = ""
) -> subprocess.CompletedProcess[str]:
    argv = [
        "ipmitool",
        "-I",
        "lanplus",
        "-H",
        "127.0.0.1",
        "-p",
        str(bench.port),
        "-U",
        user,
        "-E",
        "-N",
        "1",
        "-R",
        "1",
    ]
    argv += ["-C", suite] if suite else []
    argv += ["-L", privilege] if privilege else []
    env = {"PATH": "/usr/bin:/bin:/usr/sbin", "IPMI_PASSWORD": password, "LC_ALL": "C"}
    return subprocess.run([*argv, *words], env=env, capture_output=True, text=True, timeout=60, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_ipmitool
@suites
def test_power_by_ipmitool(bench: Bench, suite: str) -> None:
    """Power status, off and on act and are told as ipmitool users know them, in every suite."""
    assert ipmitool(bench, "chassis", "power", "status", suite=suite).stdout == "Chassis Power is on\n"
    done = ipmitool(bench, "chassis", "power", "off", suite=suite)
    assert (done.stdout, done.stderr) == ("Chassis Power Control: Down/Off\n", "")
    assert said(ipmitool(bench, "chassis", "power", "status", suite=suite)) == "Chassis Power is off\n"
    assert said(ipmitool(bench, "chassis", "power", "on", suite=suite)) == "Chassis Power Control: Up/On\n"
    assert bench.machine.commands == ["off", "on"]


@needs_ipmitool
@pytest.mark.parametrize("command", ["cycle", "reset", "diag", "soft"])
def test_commands_for_a_running_machine(bench: Bench, command: str) -> None:
    """Cycle, reset, diag and soft reach a machine that is on; one that is off refuses them with 0xd5."""
    assert ipmitool(bench, "chassis", "power", command).returncode == 0
    assert bench.machine.commands == [command]
    bench.machine.on = False
    refused = ipmitool(bench, "chassis", "power", command)
    assert refused.returncode == 1
    assert "Command not supported in present state" in refused.stderr
    assert bench.machine.commands == [command]


@needs_ipmitool
def test_chassis_status_and_policy(bench: Bench) -> None:
    """Chassis status shows the power and the restore policy that was set last."""
    assert "Power Restore Policy : always-off" in said(ipmitool(bench, "chassis", "status"))
    said(ipmitool(bench, "chassis", "policy", "always-on"))
    status = said(ipmitool(bench, "chassis", "status"))
    assert "System Power         : on" in status
    assert "Power Restore Policy : always-on" in status


@needs_ipmitool
@suites
def test_who_it_is(bench: Bench, suite: str) -> None:
    """mc info, mc guid and lan print tell the machine's identity and the two cipher suites."""
    assert "IPMI Version              : 2.0" in said(ipmitool(bench, "mc", "info", suite=suite))
    assert "FFEEDDCCBBAA99887766554433221100" in said(ipmitool(bench, "mc", "guid", suite=suite))
    lan = said(ipmitool(bench, "lan", "print", "1", suite=suite))
    assert "MAC Address             : 52:54:00:12:34:56" in lan
    assert "IP Address              : 192.0.2.11" in lan
    assert "RMCP+ Cipher Suites     : 3,17" in lan
    assert "Cipher Suite Priv Max   : XXXaXXXXXXXXXXX" in lan


@needs_ipmitool
def test_logs_and_lists(bench: Bench) -> None:
    """The event log, its clock, the watchdog, users and cipher suites are told as ipmitool prints them."""
    assert "Watchdog2 #0x71 | Hard reset | Asserted" in said(ipmitool(bench, "sel", "list"))
    assert "Entries          : 2" in said(ipmitool(bench, "sel", "info"))
    assert "01/02/26 08:00:00" in said(ipmitool(bench, "sel", "time", "get"))
    assert "Watchdog Timer Is:      Stopped" in said(ipmitool(bench, "mc", "watchdog", "get"))
    assert "2   pveha " in said(ipmitool(bench, "user", "list", "1"))
    assert "sha256_128" in said(ipmitool(bench, "channel", "getciphers", "ipmi"))
    bench.machine.log.clear()
    assert "SEL has no entries" in ipmitool(bench, "sel", "list").stderr


@needs_ipmitool
@pytest.mark.parametrize(
    ("user", "password", "suite", "words"),
    [
        (USER, "wrong", "3", "HMAC is invalid"),
        (USER, "wrong", "17", "HMAC is invalid"),
        ("nobody", PASSWORD, "3", "unauthorized name"),
        (USER, PASSWORD, "8", "invalid authentication algorithm"),
        (USER, PASSWORD, "0", "invalid authentication algorithm"),
    ],
)
def test_refused_logins(bench: Bench, user: str, password: str, suite: str, words: str) -> None:
    """A wrong password, an unknown user and a suite that is not offered are refused, each with its own status."""
    done = ipmitool(bench, "-v", "chassis", "power", "off", user=user, password=password, suite=suite)
    assert done.returncode == 1
    assert words in done.stderr
    assert bench.machine.commands == []


@needs_ipmitool
def test_cipher_zero_when_planted() -> None:
    """With cipher zero offered, anybody switches the machine off without the password."""
    with bmc(cipher_zero=True) as bench:
        said(ipmitool(bench, "chassis", "power", "off", suite="0", password="anything"))
        assert bench.machine.commands == ["off"]
        assert said(ipmitool(bench, "lan", "print", "1")).partition("Priv Max   : ")[2][0] == "a"


@needs_ipmitool
def test_privileges() -> None:
    """An operator is refused an administrator's session and commands, and may still switch the power."""
    with bmc(privilege="OPERATOR") as bench:
        assert ipmitool(bench, "chassis", "power", "status").returncode == 1
        said(ipmitool(bench, "chassis", "power", "off", privilege="OPERATOR"))
        renamed = ipmitool(bench, "user", "set", "name", "3", "x", privilege="OPERATOR")
        assert "Insufficient privilege level" in renamed.stderr
        assert "Insufficient privilege level" in ipmitool(bench, "chassis", "power", "on", privilege="USER").stderr
        assert bench.machine.commands == ["off"]


@needs_ipmitool
def test_session_limit_and_idle_time() -> None:
    """A full BMC refuses a login until a session has been idle for more than 60 s of site time."""
    with bmc(max_sessions=1, cipher_zero=True) as full, Raw(full) as raw:
        raw.log_in_without_closing()
        assert full.server.sessions() == 1
        full.machine.time += 60
        assert "insufficient resources" in ipmitool(full, "chassis", "power", "status").stderr
        full.machine.time += 0.1
        said(ipmitool(full, "chassis", "power", "status"))


@needs_ipmitool
def test_sessions_are_closed() -> None:
    """Every ipmitool call gives its session back, so that a limit of one is enough for many."""
    with bmc(max_sessions=1) as single:
        for _ in range(3):
            said(ipmitool(single, "chassis", "power", "status"))
        assert single.server.sessions() == 0


def test_dropped_sessions_are_dead() -> None:
    """After drop_sessions neither a session nor a login under way is known any more, and a new one works."""
    with bmc(cipher_zero=True) as bench, Raw(bench) as raw:
        dropped = raw.log_in_without_closing()
        under_way = raw.open()
        bench.server.drop_sessions()
        assert bench.server.sessions() == 0
        raw.send(raw.rmcpp(0x00, raw.message(0x00, 0x01), dropped, 1))  # no answer
        raw.send(raw.rmcpp(0x12, bytes((2, 0, 0, 0)) + under_way + bytes(16) + bytes((0x14, 0, 0, 0))))
        assert raw.receive()[16:18] == b"\x02\x02"
        raw.log_in_without_closing()
        assert bench.server.sessions() == 1


def test_nothing_acts_when_the_requester_is_gone(bench: Bench) -> None:
    """A datagram whose requester is gone is dropped unanswered, and the next one is answered again."""
    with Raw(bench) as raw:
        bench.machine.silent_from = "now"
        raw.send(raw.plain(0x06, 0x38, 0x8E, 4))
        raw.send(ASF_PING)  # answered by the firmware alone, after the dropped one: so that one was dropped
        assert raw.receive()[3] == 6
        bench.machine.silent_from = ""
        raw.send(raw.plain(0x06, 0x38, 0x8E, 4))
        assert raw.receive()[3] == 7


def test_presence_ping(bench: Bench) -> None:
    """An ASF presence ping is answered by a pong that says IPMI is supported."""
    with Raw(bench) as raw:
        raw.send(ASF_PING)
        pong = raw.receive()
        assert pong[8] == 0x40
        assert pong[9] == 0x21
        assert pong[20] == 0x81


def test_outside_a_session_only_the_public_commands(bench: Bench) -> None:
    """Without a session capabilities and GUID are told; all else is refused for lack of privilege."""
    with Raw(bench) as raw:
        for netfn, command, data, code in (
            (0x06, 0x38, (0x8E, 4), 0x00),
            (0x06, 0x37, (), 0x00),
            (0x06, 0x54, (0x0E, 0x00, 0x80), 0x00),
            (0x00, 0x01, (), 0xD4),
            (0x00, 0x02, (0,), 0xD4),
            (0x06, 0xFE, (), 0xD4),
            (0x06, 0x38, (), 0xC7),
        ):
            raw.send(raw.plain(netfn, command, *data))
            assert raw.receive()[20] == code, (netfn, command)
    assert bench.machine.commands == []


def test_rubbish_is_dropped(bench: Bench) -> None:
    """Cut-off, bit-flipped and foreign datagrams get no answer and do not end the server."""
    with Raw(bench) as raw:
        good = raw.plain(0x06, 0x38, 0x8E, 4)
        opening = raw.open_request()
        for bad in (
            b"",
            b"GET / HTTP/1.1",
            *(good[:length] for length in range(4, len(good))),
            *(opening[:length] for length in range(4, len(opening))),
            good[:-1] + bytes((good[-1] ^ 1,)),
            b"\x06\x00\xff\x07\x06\xc0" + b"\x01" * 40,  # a session that never was
        ):
            raw.send(bad)
        raw.send(ASF_PING)
        assert raw.receive()[3] == 6


def test_a_wrong_rakp_3_is_refused(bench: Bench) -> None:
    """A console that cannot prove the password gets status 0x0f and no session."""
    with Raw(bench) as raw:
        session = raw.rakp1(raw.open(auth=1, integrity=1, confidentiality=1))
        raw.send(raw.rmcpp(0x14, bytes((3, 0, 0, 0)) + session + bytes(20)))
        assert raw.receive()[16:18] == b"\x03\x0f"
        raw.send(raw.rmcpp(0x14, bytes((4, 0, 0, 0)) + session + bytes(20)))
        assert raw.receive()[16:18] == b"\x04\x02"
    assert bench.server.sessions() == 0


PYGHMI = """
import json, sys
from pyghmi.ipmi.command import Command
asked = json.load(sys.stdin)
try:
    command = Command(bmc="127.0.0.1", port=asked["port"], userid=asked["user"], password=asked["password"])
    seen = [command.get_power()["powerstate"]]
    command.set_power("off")
    seen.append(command.get_power()["powerstate"])
    seen.append(command.ipmi_session.attemptedhash)
    command.ipmi_session.logout()
    print(json.dumps(seen))
except Exception as error:
    print(json.dumps(str(error)))
"""


def pyghmi(bench: Bench, user: str = USER, password: str = PASSWORD) -> object:
    asked = json.dumps({"port": bench.port, "user": user, "password": password})
    done = subprocess.run(
        [sys.executable, "-c", PYGHMI], input=asked, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_power_by_pyghmi(bench: Bench) -> None:
    """Stock pyghmi logs in with suite 17 and switches the power."""
    assert pyghmi(bench) == ["on", "off", 256]
    assert bench.machine.commands == ["off"]


def test_refused_pyghmi(bench: Bench) -> None:
    """Stock pyghmi is told about a wrong password and an unknown user."""
    assert pyghmi(bench, password="wrong") == "Incorrect password provided"
    assert pyghmi(bench, user="nobody") == "Unauthorized name in RAKP2"
    assert bench.machine.commands == []


def test_a_repeated_message_acts_once() -> None:
    """The same IPMI message under a new session sequence number is answered again and not carried out again."""
    with bmc(cipher_zero=True) as bench, Raw(bench) as raw:
        session = raw.log_in_without_closing()
        raised = raw.message(0x06, 0x3B, 4, sequence=1)
        cycle = raw.message(0x00, 0x02, 2, sequence=2)
        for number, message in enumerate((raised, cycle, cycle), start=1):
            raw.send(raw.rmcpp(0x00, message, session, number))
            assert raw.receive()[22] == 0
        assert bench.machine.commands == ["cycle"]


ASF_PING = b"\x06\x00\xff\x06\x00\x00\x11\xbe\x80\x21\x00\x00"


class Raw:
    """A console that says datagrams by hand, so that it can also say wrong ones."""

    def __init__(self, bench: Bench) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect(("127.0.0.1", bench.port))
        self._sock.settimeout(30)  # a backstop: nothing here waits for silence

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, datagram: bytes) -> None:
        self._sock.send(datagram)

    def receive(self) -> bytes:
        return self._sock.recv(4096)

    def message(self, netfn: int, command: int, *data: int, sequence: int = 0) -> bytes:
        head = bytes((0x20, netfn << 2))
        body = bytes((0x81, sequence << 2, command, *data))
        return head + bytes((-sum(head) & 0xFF,)) + body + bytes((-sum(body) & 0xFF,))

    def plain(self, netfn: int, command: int, *data: int) -> bytes:
        message = self.message(netfn, command, *data)
        return b"\x06\x00\xff\x07" + bytes(9) + bytes((len(message),)) + message

    def rmcpp(self, kind: int, payload: bytes, session: bytes = bytes(4), sequence: int = 0) -> bytes:
        numbers = session + sequence.to_bytes(4, "little") + len(payload).to_bytes(2, "little")
        return b"\x06\x00\xff\x07\x06" + bytes((kind,)) + numbers + payload

    def open_request(self, auth: int = 0, integrity: int = 0, confidentiality: int = 0) -> bytes:
        algorithms = b"".join(bytes((n, 0, 0, 8, a, 0, 0, 0)) for n, a in enumerate((auth, integrity, confidentiality)))
        return self.rmcpp(0x10, b"\x01\x00\x00\x00\xa0\xa1\xa2\xa3" + algorithms)

    def open(self, **algorithms: int) -> bytes:
        """The BMC's session id."""
        self.send(self.open_request(**algorithms))
        reply = self.receive()
        assert reply[17] == 0
        return reply[24:28]

    def rakp1(self, session: bytes) -> bytes:
        """The BMC's session id, after RAKP message 2."""
        name = USER.encode()
        self.send(self.rmcpp(0x12, b"\x02\x00\x00\x00" + session + bytes(16) + bytes((0x14, 0, 0, len(name))) + name))
        assert self.receive()[16:18] == b"\x02\x00"
        return session

    def log_in_without_closing(self) -> bytes:
        """The id of a session that is left open; by cipher zero, which needs no cryptography."""
        session = self.rakp1(self.open())
        self.send(self.rmcpp(0x14, bytes((3, 0, 0, 0)) + session))
        assert self.receive()[16:18] == b"\x03\x00"
        return session
