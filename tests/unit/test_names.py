"""Names are looked up in one place, with an end to the waiting; and whatever knows an address reaches an IPv6 one."""

from __future__ import annotations

import errno
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.clock import SECOND, LiveClock
from pytest_pveha.errors import TimedOut, Unreachable
from pytest_pveha.observe import reachable
from pytest_pveha.observe.reachable import answering
from pytest_pveha.observe.sampler import Probe, Sampler
from pytest_pveha.wire import names
from pytest_pveha.wire.tcp import Address, Hold

PACKAGE = Path(__file__).parents[2] / "pytest_pveha"


class Resolver:
    """A name server that knows what it is told, and may hang."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.knows: dict[str, list[str]] = {}
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._really = socket.getaddrinfo

    def __call__(self, host: str, port: int, **how: Any) -> Any:
        if how.get("flags"):
            return self._really(host, port, **how)
        self.asked.append(host)
        assert self.goes_on.wait(30)
        found = [row for each in self.knows.get(host, []) for row in self._really(each, port, **how)]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """In the place of the system's; nothing is remembered from before."""
    made = Resolver()
    monkeypatch.setattr(names.socket, "getaddrinfo", made)
    monkeypatch.setattr(names, "_FOUND", {})
    monkeypatch.setattr(names, "_UNDER_WAY", {})
    yield made
    made.goes_on.set()


def test_a_name_is_asked_for_once(resolver: Resolver) -> None:
    """What was found is remembered, and an address is asked of nobody."""
    resolver.knows["pve1.example"] = ["192.0.2.11", "2001:db8::11"]
    expected = [
        (socket.AF_INET, ("192.0.2.11", 8006)),
        (socket.AF_INET6, ("2001:db8::11", 8006, 0, 0)),
    ]
    assert names.ways("pve1.example", 8006) == expected
    assert names.ways("pve1.example", 22)[0] == (socket.AF_INET, ("192.0.2.11", 22))
    assert names.known("pve1.example", 8006) == expected
    assert names.ways("192.0.2.12", 22) == [(socket.AF_INET, ("192.0.2.12", 22))]
    assert resolver.asked == ["pve1.example"]


def test_a_name_that_leads_nowhere_is_asked_for_again(resolver: Resolver) -> None:
    """A failure says why, and is not remembered."""
    with pytest.raises(OSError, match=r"the name gone.example leads nowhere \(.*not known"):
        names.ways("gone.example", 22)
    resolver.knows["gone.example"] = ["192.0.2.13"]
    assert names.ways("gone.example", 22) == [(socket.AF_INET, ("192.0.2.13", 22))]


def test_a_name_server_that_hangs_holds_up_nobody(resolver: Resolver) -> None:
    """The deadline ends the wait, one look-up goes on for all, and its answer is taken when it comes."""
    resolver.goes_on.clear()
    clock, hold = LiveClock(), Hold()
    begin = clock.now().mono
    with pytest.raises(TimedOut), clock.guard(clock.deadline(0.2), hold.sever):
        Address("slow.example", 8006).connect(hold)
    with pytest.raises(TimeoutError, match=r"no name server said in time where slow\.example is"):
        names.ways("slow.example", 8006, patience=0.1)
    assert names.known("slow.example", 8006) == []
    assert clock.now().mono - begin < 10 * SECOND
    assert resolver.asked == ["slow.example"]
    resolver.knows["slow.example"] = ["192.0.2.14"]
    resolver.goes_on.set()
    assert names.ways("slow.example", 22) == [(socket.AF_INET, ("192.0.2.14", 22))]


def test_silence_of_a_name_proves_nothing(resolver: Resolver) -> None:
    """Where a name leads nowhere nobody is called silent, and a probe's answer is unknown."""
    clock = LiveClock()
    with pytest.raises(Unreachable, match=r"whether anything answers at gone\.example:22 cannot be told: the name"):
        answering(clock, [("gone.example", 22)])
    assert heard(Probe("p", "s", "gone.example", 22)) == [("unknown", "this machine: no address of gone.example yet")]


def heard(probe: Probe) -> list[tuple[str, str]]:
    """What the sampler hears there in half a second."""
    lines: list[tuple[str, str]] = []
    sampler = Sampler(
        LiveClock(), lambda kind, data: lines.append((data["answer"], data["saw"])) if kind == "samples" else None
    )
    sampler.watch([probe])
    sampler.fast()
    LiveClock().sleep(0.5)
    sampler.stop()
    return lines


@pytest.fixture
def six() -> Iterator[socket.socket]:
    """A listening socket on ::1."""
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")
    with listening:
        yield listening


def test_ipv6_is_reached(six: socket.socket) -> None:
    """A place at an IPv6 address answers, refuses and is connected to as any other."""
    port = six.getsockname()[1]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as closed:
        nobody = closed.getsockname()[1]
    assert answering(LiveClock(), [("::1", port), ("::1", nobody)]) == [("::1", port), ("::1", nobody)]
    assert heard(Probe("p", "s", "::1", port)) == [("good", "connected")]
    assert heard(Probe("p", "s", "::1", nobody)) == [("bad", "ECONNREFUSED")]
    hold = Hold()
    with Address("::1", port).connect(hold) as sock:
        assert sock.getpeername()[:2] == ("::1", port)


def test_a_name_of_both_kinds_is_probed_one_way(resolver: Resolver, six: socket.socket) -> None:
    """By IPv4, where it has such an address: a probe does not change its way; by IPv6 where it has no other."""
    port = six.getsockname()[1]
    resolver.knows = {"six.example": ["::1"], "both.example": ["::1", "127.0.0.1"]}
    assert answering(LiveClock(), [("six.example", port)]) == [("six.example", port)]
    names.ways("both.example", port)
    assert heard(Probe("p", "s", "both.example", port)) == [("bad", "ECONNREFUSED")]


def test_an_answer_of_the_network_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine has no route at all nothing is there, though the connect is over at once."""
    with socket.socket() as sock:
        monkeypatch.setattr(reachable, "knock", lambda host, port: (sock, errno.ENETUNREACH))
        assert answering(LiveClock(), [("192.0.2.1", 22)]) == []


def test_nobody_else_asks_a_name_server() -> None:
    """Whoever connects by a name has it from the one place where the waiting ends."""
    asking = re.compile(r"getaddrinfo|gethostby\w+|create_connection|getfqdn|connect_ex\(\(|\.connect\(\(")
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "sim" not in path.relative_to(PACKAGE).parts and asking.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"wire/names.py"}
