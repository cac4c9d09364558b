"""The IPMI client against BMCs. Cases that take ``target`` hold for any BMC; those that take ``bench`` need ours."""

from __future__ import annotations

import logging
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_pveha.clock import SECOND, Instant, LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, Unreachable
from pytest_pveha.wire import ipmi
from pytest_pveha.wire.ipmi import IpmiBmc
from tests.sim.bmc_bench import PASSWORD, USER, Bench, bmc

needs_ipmitool = pytest.mark.skipif(shutil.which("ipmitool") is None, reason="ipmitool is not installed")
needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")

AMPLE = 60.0
"""Seconds no call here comes near; a failing one ends all the same."""


@dataclass(frozen=True)
class Target:
    """A BMC that the cases may switch: where it is, and how to log in."""

    address: str
    port: int
    user: str
    password: str
    cipher: int | None = None


@pytest.fixture
def bench() -> Iterator[Bench]:
    """The simulated BMC."""
    with bmc() as running:
        yield running


@pytest.fixture(params=["simulated", "simulated-suite-3", "simulated-suite-17"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Every BMC these cases run against."""
    cipher = {"simulated-suite-3": 3, "simulated-suite-17": 17}.get(request.param)
    with bmc() as running:
        yield Target("127.0.0.1", running.port, USER, PASSWORD, cipher)


@contextmanager
def client(port: int, password: str = PASSWORD, **more: object) -> Iterator[IpmiBmc]:
    opened = IpmiBmc("127.0.0.1", port, more.pop("user", USER), lambda: password, LiveClock(), **more)  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def to(target: Target, **other: str) -> Iterator[IpmiBmc]:
    user, password = other.get("user", target.user), other.get("password", target.password)
    opened = IpmiBmc(target.address, target.port, user, lambda: password, LiveClock(), cipher=target.cipher)
    try:
        yield opened
    finally:
        opened.close()


def wait_for(true: Callable[[], bool]) -> None:
    """Return when it is true; a BMC hears of a closed session a moment later."""
    clock = LiveClock()
    deadline = clock.deadline(AMPLE)
    while not true():
        assert not deadline.expired()
        clock.sleep(0.005)


def pid_of(bmc: IpmiBmc) -> int:
    assert bmc._idle is not None
    return bmc._idle.pid


def children() -> set[int]:
    """The helper processes of this process, and the one that forks them."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"ipmi_child" in entry.joinpath("cmdline").read_bytes():
                stat = entry.joinpath("stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    ours = {pid for pid, parent in parents.items() if parent == os.getpid()}
    return ours | {pid for pid, parent in parents.items() if parent in ours}


# any BMC


def test_power_off_and_on(target: Target) -> None:
    """Power goes off and on by command, and both kinds of reading say so, each between its two moments."""
    clock = LiveClock()
    with to(target) as bmc:
        for command, on in (("on", True), ("off", False), ("on", True)):
            before = clock.now()
            bmc.set_power(command, clock.deadline(AMPLE))  # type: ignore[arg-type]
            first, second = bmc.power_state(clock.deadline(AMPLE)), bmc.fresh_power_state(clock.deadline(AMPLE))
            assert (first.on, second.on) == (on, on)
            assert (first.via, second.via) == ("IPMI session", "new IPMI session")
            assert before <= first.asked_at <= first.answered_at <= second.asked_at <= second.answered_at <= clock.now()


def test_identity(target: Target) -> None:
    """The BMC tells its GUID and the address of its LAN channel."""
    with to(target) as bmc:
        told = bmc.identity(LiveClock().deadline(AMPLE))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", told["guid"])
    assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", told["mac"])
    assert {"ip", "firmware", "manufacturer", "product"} <= set(told)


@pytest.mark.parametrize("wrong", [{"password": "not-the-password"}, {"user": "nobody"}], ids=["password", "user"])
def test_refused_credentials(target: Target, wrong: dict[str, str]) -> None:
    """A wrong password or user is AuthRefused for reading and for switching, and the message names where to look."""
    with to(target, **wrong) as bmc:
        for call in (bmc.power_state, bmc.fresh_power_state, bmc.identity):
            with pytest.raises(AuthRefused, match=rf"BMC {target.address}:{target.port} refused user .*check user"):
                call(LiveClock().deadline(AMPLE))
        with pytest.raises(AuthRefused) as refused:
            bmc.set_power("off", LiveClock().deadline(AMPLE))
    assert "not-the-password" not in str(refused.value)
    assert "may have been carried out" not in str(refused.value)


def test_many_readings_need_one_session(target: Target) -> None:
    """Ten fresh readings and ten others leave no sessions behind that a limit of four would notice."""
    with to(target) as bmc:
        for _ in range(10):
            assert bmc.fresh_power_state(LiveClock().deadline(AMPLE)).on
            assert bmc.power_state(LiveClock().deadline(AMPLE)).on


# our BMC: what it did, and how it fails


@pytest.mark.parametrize("command", ["off", "on", "cycle", "reset", "soft"])
def test_every_command_arrives_once(bench: Bench, command: ipmi.PowerCommand) -> None:
    """Each power command is carried out once, also when the machine is in the wanted state already."""
    with client(bench.port) as bmc:
        bmc.set_power(command, LiveClock().deadline(AMPLE))
    assert bench.machine.commands == [command]


def test_command_in_the_wrong_state(bench: Bench) -> None:
    """A cycle of a machine that is off is a ProtocolError with completion code 0xd5, and the session goes on."""
    bench.machine.on = False
    with client(bench.port) as bmc:
        with pytest.raises(ProtocolError, match="not supported in the present state") as refused:
            bmc.set_power("cycle", LiveClock().deadline(AMPLE))
        helper = pid_of(bmc)
        assert not bmc.power_state(LiveClock().deadline(AMPLE)).on
        assert pid_of(bmc) == helper
    assert refused.value.status == 0xD5


@pytest.mark.parametrize("taken", [True, False], ids=["nobody-reads", "nobody-listens"])
def test_dead_port(taken: bool) -> None:
    """A port where nobody answers is Unreachable when the deadline comes, for every verb, and nothing was sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        if not taken:
            sock.close()
        clock = LiveClock()
        with client(port) as bmc:
            for call in (bmc.power_state, bmc.fresh_power_state, bmc.identity, lambda d: bmc.set_power("off", d)):
                deadline = clock.deadline(0.3)
                with pytest.raises(Unreachable, match=f"BMC 127.0.0.1:{port} gave no answer") as silent:
                    call(deadline)
                assert deadline.expired()
                assert clock.now().mono - deadline.mono < 5 * SECOND
                assert "may have been carried out" not in str(silent.value)


def test_hung_in_mid_session(bench: Bench) -> None:
    """A BMC that falls silent in a session is Unreachable at the deadline, and is asked anew once it is back."""
    clock = LiveClock()
    with client(bench.port) as bmc:
        assert bmc.power_state(clock.deadline(AMPLE)).on
        bench.machine.silent_from = "now"
        for call in (bmc.power_state, bmc.fresh_power_state, lambda d: bmc.set_power("off", d)):
            with pytest.raises(Unreachable, match="gave no answer before the deadline") as silent:
                call(clock.deadline(0.2))
            assert "may have been carried out" not in str(silent.value)
        assert bench.machine.commands == []
        bench.machine.silent_from = ""
        assert bmc.power_state(clock.deadline(AMPLE)).on


def test_hung_at_the_command(bench: Bench) -> None:
    """A command whose answer never comes is not sent again, and the error says that it may have been carried out."""
    clock = LiveClock()
    bench.machine.silent_from = "cycle"
    with client(bench.port) as bmc:
        with pytest.raises(Unreachable, match="may have been carried out"):
            bmc.set_power("cycle", clock.deadline(3))  # long enough for pyghmi to send a read again, several times
        assert bench.machine.commands == ["cycle"]
        assert bench.machine.dropped == 1
        bench.machine.silent_from = ""
        assert bmc.power_state(clock.deadline(AMPLE)).on
    assert bench.machine.commands == ["cycle"]


def test_helper_ends_at_the_command(bench: Bench) -> None:
    """A helper killed from outside while a command is under way is no reason to send it again."""
    with client(bench.port) as bmc:
        bmc.power_state(LiveClock().deadline(AMPLE))
        helper = pid_of(bmc)
        bench.machine.silent_from = "reset"
        bench.machine.when_silent = lambda: os.kill(helper, signal.SIGKILL)
        with pytest.raises(ProtocolError, match=r"ended by itself.*may have been carried out"):
            bmc.set_power("reset", LiveClock().deadline(AMPLE))
    assert bench.machine.commands == ["reset"]


def test_helper_ends_between_calls(bench: Bench) -> None:
    """A helper killed from outside between two calls is replaced unseen, for reading and for switching."""
    with client(bench.port) as bmc:
        for _ in range(2):
            bmc.power_state(LiveClock().deadline(AMPLE))
            os.kill(pid_of(bmc), signal.SIGKILL)
            bmc.set_power("off", LiveClock().deadline(AMPLE))
            os.kill(pid_of(bmc), signal.SIGKILL)
    assert bench.machine.commands == ["off", "off"]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 0.05])
def test_abort_before_the_helper_is_up(bench: Bench, seconds: float) -> None:
    """An abort that comes before, while and after the helper starts is Unreachable each time and breaks nothing."""
    clock = LiveClock()
    bench.machine.silent_from = "now"
    with client(bench.port) as bmc:
        for _ in range(5):
            with pytest.raises(Unreachable):
                bmc.fresh_power_state(clock.deadline(seconds))
        bench.machine.silent_from = ""
        assert bmc.power_state(clock.deadline(AMPLE)).on


def test_session_limit() -> None:
    """A BMC without a free session is a ProtocolError that says so, and one is enough for a client alone."""
    clock = LiveClock()
    with bmc(max_sessions=1) as single, client(single.port) as first, client(single.port) as second:
        assert first.power_state(clock.deadline(AMPLE)).on
        with pytest.raises(ProtocolError, match="no free session"):
            second.power_state(clock.deadline(AMPLE))
        first.close()
        wait_for(lambda: single.server.sessions() == 0)
        assert second.power_state(clock.deadline(AMPLE)).on


def test_privilege() -> None:
    """An operator cannot log in as administrator; a mere user may look and not switch; both are AuthRefused."""
    clock = LiveClock()
    with bmc(privilege="OPERATOR") as bench:
        with client(bench.port) as bmc_, pytest.raises(AuthRefused, match="privilege"):
            bmc_.power_state(clock.deadline(AMPLE))
        with client(bench.port, privilege="USER") as bmc_:
            assert bmc_.power_state(clock.deadline(AMPLE)).on
            with pytest.raises(AuthRefused, match="0xd4"):
                bmc_.set_power("off", clock.deadline(AMPLE))
        with client(bench.port, privilege="OPERATOR") as bmc_:
            bmc_.set_power("off", clock.deadline(AMPLE))
    assert bench.machine.commands == ["off"]


def test_idle_session_is_renewed(bench: Bench) -> None:
    """A session idle for longer than a BMC keeps it is not used again, as the BMC would not answer on it."""

    class Ahead(LiveClock):
        ahead = 0

        def now(self) -> Instant:
            real = super().now()
            return Instant(real.mono + self.ahead * SECOND, real.utc + self.ahead * SECOND)

    clock = Ahead()
    bmc = IpmiBmc("127.0.0.1", bench.port, USER, lambda: PASSWORD, clock)
    try:
        bmc.power_state(clock.deadline(AMPLE))
        first = pid_of(bmc)
        clock.ahead += 20
        bmc.power_state(clock.deadline(AMPLE))
        assert pid_of(bmc) == first
        clock.ahead += 61
        bench.machine.time += 81
        bmc.set_power("off", LiveClock().deadline(AMPLE))
        assert pid_of(bmc) != first
    finally:
        bmc.close()
    assert bench.machine.commands == ["off"]


def test_threads_do_not_wait_for_each_other(bench: Bench) -> None:
    """Readings from several threads at once are all answered, and one session is kept."""
    clock = LiveClock()
    seen: list[bool] = []
    with client(bench.port) as bmc:
        tasks = [
            clock.spawn(f"reader-{n}", lambda: seen.append(bmc.power_state(clock.deadline(AMPLE)).on)) for n in range(3)
        ]
        for task in tasks:
            task.join()
        assert seen == [True, True, True]
        wait_for(lambda: bench.server.sessions() == 1)


def test_name_that_does_not_resolve() -> None:
    """An address that cannot be looked up is Unreachable at once."""
    bmc = IpmiBmc("no-such-bmc.invalid", 623, USER, lambda: PASSWORD, LiveClock())
    try:
        with pytest.raises(Unreachable, match="address cannot be used"):
            bmc.power_state(LiveClock().deadline(AMPLE))
    finally:
        bmc.close()


# the helper process


@needs_proc
def test_password_is_nowhere(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is in no argument vector, environment of a helper, log, output or message."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("BMC_PASSWORD", PASSWORD)  # as an inventory's env: reference has it
    secret = PASSWORD.encode()
    with client(bench.port) as bmc, client(bench.port, password=PASSWORD, user="nobody") as refused:
        bmc.power_state(LiveClock().deadline(AMPLE))
        with pytest.raises(AuthRefused) as error:
            refused.power_state(LiveClock().deadline(AMPLE))
        helpers = children()
        assert pid_of(bmc) in helpers
        for helper in helpers:
            for file in ("cmdline", "environ"):
                assert secret not in Path(f"/proc/{helper}/{file}").read_bytes()
        assert PASSWORD not in repr(vars(bmc)) + repr(bmc)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert PASSWORD not in str(error.value) + caplog.text
    assert capfd.readouterr() == ("", "")


@needs_proc
def test_close_leaves_nothing(bench: Bench) -> None:
    """After the last close there is no helper and no session, and closing again does no harm."""
    with client(bench.port) as one, client(bench.port) as two:
        one.power_state(LiveClock().deadline(AMPLE))
        two.power_state(LiveClock().deadline(AMPLE))
        one.close()
        one.close()
        assert children()
    assert children() == set()
    wait_for(lambda: bench.server.sessions() == 0)


def test_helper_outlives_an_interrupt(bench: Bench) -> None:
    """Ctrl-C, which the terminal sends to helpers too, does not cost the session."""
    with client(bench.port) as bmc:
        bmc.power_state(LiveClock().deadline(AMPLE))
        helper = pid_of(bmc)
        os.kill(helper, signal.SIGINT)
        bmc.power_state(LiveClock().deadline(AMPLE))
        assert pid_of(bmc) == helper


def test_interrupt_in_mid_answer(bench: Bench) -> None:
    """A call broken off by an exception from a signal kills its helper: the pipe is out of step."""
    main = threading.get_ident()
    bench.machine.silent_from = "reset"
    bench.machine.when_silent = lambda: signal.pthread_kill(main, signal.SIGINT)
    with client(bench.port) as bmc:
        with pytest.raises(KeyboardInterrupt):
            bmc.set_power("reset", LiveClock().deadline(AMPLE))
        bench.machine.silent_from = ""
        assert bmc.power_state(LiveClock().deadline(AMPLE)).on


@pytest.mark.parametrize("silent", ["", "now"], ids=["idle", "busy"])
def test_helpers_end_with_their_parent(bench: Bench, silent: str) -> None:
    """A parent killed by SIGKILL takes its helpers along, idle ones, those in mid-call, and the one that forks them."""
    program = """
import sys
from pytest_pveha.clock import LiveClock
from pytest_pveha.wire import ipmi
bmc = ipmi.IpmiBmc("127.0.0.1", int(sys.argv[1]), "pveha", sys.stdin.readline().rstrip("\\n").__str__, LiveClock())
started, idle = ipmi._Child(ipmi._nursery), ipmi._Child(ipmi._nursery)
print(started.pid, idle.pid, ipmi._nursery._process.pid, flush=True)
ipmi._start = lambda: started
bmc.power_state(LiveClock().deadline(600))
print("read", flush=True)
sys.stdin.read()
"""
    bench.machine.silent_from = silent
    argv = [sys.executable, "-c", program, str(bench.port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(PASSWORD + "\n")
        parent.stdin.flush()
        helpers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        if silent:
            wait_for(lambda: bench.machine.dropped > 0)
        else:
            assert parent.stdout.readline() == "read\n"
        parent.kill()
    for helper in helpers:
        assert select.select([helper], [], [], AMPLE)[0]
        os.close(helper)


# ipmitool instead of pyghmi


@needs_ipmitool
def test_ipmitool_takes_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no helper can serve, ipmitool does, for every verb and with the same errors."""

    def broken() -> ipmi._Child:
        raise ipmi._Refused("start", "broken by the test")

    monkeypatch.setattr(ipmi, "_start", broken)
    clock = LiveClock()
    with client(bench.port) as bmc:
        assert bmc.power_state(clock.deadline(AMPLE)).via == "ipmitool"
        bmc.set_power("off", clock.deadline(AMPLE))
        assert not bmc.fresh_power_state(clock.deadline(AMPLE)).on
        assert bmc.identity(clock.deadline(AMPLE))["mac"] == "52:54:00:12:34:56"
        with pytest.raises(ProtocolError, match="0xd5"):
            bmc.set_power("cycle", clock.deadline(AMPLE))
        bmc.set_power("on", clock.deadline(AMPLE))
    with client(bench.port, password="wrong") as bmc, pytest.raises(AuthRefused):
        bmc.set_power("off", clock.deadline(AMPLE))
    with client(bench.port, privilege="USER") as bmc, pytest.raises(AuthRefused):
        bmc.set_power("off", clock.deadline(AMPLE))
    assert bench.machine.commands == ["off", "on"]


@needs_ipmitool
def test_ipmitool_for_other_suites() -> None:
    """A suite that pyghmi does not know is left to ipmitool from the start."""
    with bmc(cipher_zero=True) as bench, client(bench.port, cipher=0) as bmc_:
        assert bmc_.power_state(LiveClock().deadline(AMPLE)).via == "ipmitool"
    with bmc() as bench, client(bench.port, cipher=8) as bmc_, pytest.raises(ProtocolError, match="no cipher suite"):
        bmc_.power_state(LiveClock().deadline(AMPLE))


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        # ipmitool 1.8.19 against OpenIPMI's ipmi_sim 2.0.33: suite 17, 12 and 8, in this order
        ("Error in open session response message : invalid authentication algorithm\n", "suite", "refused"),
        ("ipmitool: lanplus.c:1839: ipmi_lanplus_build_v2x_msg: Assertion `0' failed.\n", "suite", "ipmitool itself"),
        (
            "Set Session Privilege Level to OPERATOR failed\n"
            "Error: Unable to establish IPMI v2 / RMCP+ session\nClose Session command failed\n",
            "refused",
            "or the cipher suite",
        ),
    ],
)
def test_what_ipmitool_says_of_a_suite_that_does_not_work(stderr: str, kind: str, words: str) -> None:
    """A cipher suite that fails at the BMC, or in ipmitool, is named as the cause to look for."""
    refusal = ipmi._tool_refusal(stderr)

    assert refusal.kind == kind
    assert words in str(refusal)


@needs_ipmitool
def test_ipmitool_sends_a_command_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose answer never comes is sent by ipmitool once, and a BMC silent from the start is Unreachable."""

    def broken() -> ipmi._Child:
        raise ipmi._Refused("start", "broken by the test")

    monkeypatch.setattr(ipmi, "_start", broken)
    bench.machine.silent_from = "cycle"
    clock = LiveClock()
    with client(bench.port) as bmc:
        with pytest.raises(Unreachable, match="may have been carried out"):
            bmc.set_power("cycle", clock.deadline(AMPLE))
        assert bench.machine.commands == ["cycle"]
        assert bench.machine.dropped <= 2  # the command, and at most the Close Session after it
        with pytest.raises(Unreachable) as silent:
            bmc.set_power("off", clock.deadline(0.3))
        assert "may have been carried out" not in str(silent.value)


@needs_proc
def test_ipmitool_does_not_show_the_password(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ipmitool gets the password by a file without a name, never as an argument or in its environment."""
    caplog.set_level(logging.DEBUG)
    argvs: list[list[str]] = []
    environments: list[object] = []
    real = subprocess.Popen

    def recording(argv: list[str], **more: object) -> object:
        argvs.append(argv)
        environments.append(more["env"])
        return real(argv, **more)  # type: ignore[call-overload]

    def broken() -> ipmi._Child:
        raise ipmi._Refused("start", "broken by the test")

    monkeypatch.setattr(ipmi, "_start", broken)
    monkeypatch.setattr(subprocess, "Popen", recording)
    with client(bench.port) as bmc:
        bmc.power_state(LiveClock().deadline(AMPLE))
    assert len(argvs) == 1
    assert PASSWORD not in " ".join(argvs[0]) + caplog.text
    assert PASSWORD not in str(environments)
