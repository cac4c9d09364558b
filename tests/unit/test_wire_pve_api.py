"""The parts of the API client that need no server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_pveha.clock import Deadline, Instant, LiveClock
from pytest_pveha.errors import TimedOut, Unreachable, UsageError
from pytest_pveha.wire.pve_api import Endpoint, PveApi, Trust, _plain, _words
from pytest_pveha.wire.ssh import Ssh, SshTarget, quote
from pytest_pveha.wire.tcp import Hold

PIN = Trust(fingerprints=("ab" * 32,))


class SimulatedClock(LiveClock):
    """A clock whose guards end at once; it may not be asked anything while one is open, as a simulated one."""

    simulated = True

    def __init__(self) -> None:
        super().__init__()
        self.guarded: list[tuple[float, tuple[int, ...]]] = []
        self._guarding = False

    def now(self) -> Instant:
        assert not self._guarding
        return Instant(1_000_000_000, 0)

    @contextmanager
    def guard(self, deadline: Deadline, abort: Callable[[], None], peers: Collection[int] = ()) -> Iterator[None]:
        self.guarded.append((deadline.remaining(), tuple(peers)))
        self._guarding = True
        abort()
        try:
            yield
        except Exception as error:
            raise TimedOut("x") from error
        finally:
            self._guarding = False


def test_the_clock_is_told_whom_a_call_waits_for() -> None:
    """Each try is one guard: five seconds while another endpoint stands, with the port it waits for."""
    clock = SimulatedClock()
    api = PveApi(
        [Endpoint("a", "127.0.0.1", 1), Endpoint("b", "127.0.0.1", 2)],
        "u@pam!t",
        lambda: "x",
        {"a": PIN, "b": PIN},
        clock,
    )
    with pytest.raises(Unreachable, match=r"a \(127\.0\.0\.1:1\) did not answer .*; b"):
        api.get("/version", deadline=clock.deadline(60))
    with pytest.raises(Unreachable, match="was not sent"):
        api.post("/version", deadline=clock.deadline(3), at="b")
    assert clock.guarded == [(5.0, (1,)), (5.0, (2,)), (3.0, (2,))]


def test_ssh_tells_the_clock_the_port_it_really_waits_for() -> None:
    """Through a jump host, it is the jump host that is silent or not."""
    clock = SimulatedClock()
    jump = SshTarget("jump", "127.0.0.1", 7)
    ssh = Ssh(SshTarget("pve1", "10.0.0.1", 22, jump=jump), clock)
    with pytest.raises(Unreachable, match="deadline; `true` was not sent"):
        ssh.run("true", deadline=clock.deadline(4))
    assert clock.guarded == [(4.0, (7,))]


def test_a_call_ended_is_not_broken_by_a_late_abort() -> None:
    """Once let go, a hold breaks nothing, and says so."""
    hold = Hold()
    hold.let_go()
    hold.sever()
    assert not hold.severed


@pytest.mark.parametrize(
    ("phrase", "body", "said"),
    [
        ("no such task", {}, "no such task"),
        ("Internal Server Error", {"message": "got timeout\n"}, "Internal Server Error - got timeout"),
        ("x", {"message": "x"}, "x"),
        ("bad", {"errors": {"b": "2\n", "a": "1"}}, "bad - a: 1; b: 2"),
        (None, {"errors": "odd"}, "odd"),
        ("Bad Gateway", {"html": True}, "Bad Gateway (an HTML page)"),
    ],
)
def test_both_places_of_an_errors_text_are_read(phrase: str | None, body: dict[str, object], said: str) -> None:
    """The status line and the body may each hold it; equal ones are said once."""
    assert _words(phrase, body) == said


def test_booleans_become_numbers_everywhere() -> None:
    """Also within lists; numbers and texts stay."""
    assert _plain([True, False, 1, "x", (True,)]) == [1, 0, 1, "x", [1]]


@pytest.mark.parametrize("token", ["root@pam", "root!x", "root@pam!", "root@pam!a b", ""])
def test_a_wrong_token_id_is_told(token: str) -> None:
    """A token id has a user, a realm and a name."""
    with pytest.raises(UsageError, match=r"USER@REALM!TOKEN"):
        PveApi([Endpoint("a", "h")], token, lambda: "x", PIN, LiveClock())


def test_trust_takes_fingerprints_as_people_write_them() -> None:
    """With or without colons, in capitals or not: one spelling inside."""
    assert Trust(fingerprints=(":".join(["AB"] * 32), "ab" * 32)).fingerprints == ("ab" * 32,) * 2
    with pytest.raises(UsageError, match="either a CA file or"):
        Trust(ca_file=Path("x"), fingerprints=("ab" * 32,))


def test_quote_makes_one_word_of_each_value() -> None:
    """Values cannot become commands."""
    assert quote("qm", "start", 101, "; rm -rf /") == "qm start 101 '; rm -rf /'"
