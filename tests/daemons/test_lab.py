"""The laboratory itself: its machines are apart, die as machines do, and nothing is left of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import AMPLE, Lab, cleared_away, left_of, needs, nobody_clears_away, tool

from pytest_pveha.clock import LiveClock

pytestmark = [pytest.mark.daemons, needs()]

OWNER = """
import sys
sys.path.insert(0, {here!r})
from lab import Lab
lab = Lab()
lab.network("net")
machine = lab.machine("one", {{"net": "10.77.0.1/24"}})
machine.start()
machine.daemon("sleep", "3600")
machine.run("nft", "add", "table", "inet", "left")
print(lab.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own() -> Iterator[Lab]:
    """A laboratory for one test, with two running machines in one network."""
    lab = Lab()
    try:
        lab.network("net")
        for number in (1, 2):
            lab.machine(f"m{number}", {"net": f"10.77.0.{number}/24"}).start()
        yield lab
    finally:
        lab.close()


def test_machines_are_apart(own: Lab) -> None:
    """Each has its own name, files and processes, and hears the other by the network only."""
    one, two = own.machines.values()
    assert [each.run("hostname") for each in (one, two)] == ["m1\n", "m2\n"]
    one.run("sh", "-c", "echo mine > /etc/mine")
    assert one.path("/etc/mine").read_text() == "mine\n"
    assert not Path("/etc/mine").exists()
    assert "mine" not in two.run("ls", "/etc")
    one.daemon("sleep", "3600")
    assert two.run("pgrep", "-c", "sleep").strip() == "1"  # the one that it idles by
    two.run("ping", "-c", "1", "-W", "5", "10.77.0.1")
    own.plug("m1", "net", connected=False)
    with pytest.raises(RuntimeError, match=r"ended with status 1"):
        two.run("ping", "-c", "1", "-W", "1", "10.77.0.1")
    assert "10.77.0." not in tool("ip", "address")


def test_a_machine_without_power_is_dead_and_silent(own: Lab) -> None:
    """Its processes are gone, nobody answers or refuses, and it comes back as another boot, without its rules."""
    one, two = own.machines.values()
    first = one.run("cat", "/proc/sys/kernel/random/boot_id")
    one.run("nft", "add", "table", "inet", "pveha_test")
    one.daemon("sleep", "4711")
    one.cut_power()
    assert not one.running
    assert not tool("pgrep", "-f", "^sleep 4711", check=False)
    with own.inside("m2"), pytest.raises(TimeoutError):
        socket.create_connection(("10.77.0.1", 22), timeout=1)
    one.start()
    assert one.run("cat", "/proc/sys/kernel/random/boot_id") != first
    assert one.run("nft", "list", "tables") == ""
    with own.inside("m2"), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("10.77.0.1", 22), timeout=AMPLE)
    two.run("ping", "-c", "1", "-W", "5", "10.77.0.1")


def test_threads_are_where_they_were_begun(own: Lab) -> None:
    """A thread begun inside a machine's network stays there, and whoever left it is at home again."""
    seen: list[str] = []
    with own.inside("m2"):
        thread = threading.Thread(target=lambda: seen.append(tool("ip", "address")))
    thread.start()
    thread.join()
    assert "10.77.0.2" not in seen[0]  # begun outside
    with own.inside("m2"):
        thread = threading.Thread(target=lambda: seen.append(tool("ip", "address")))
        thread.start()
        thread.join()
    assert "10.77.0.2" in seen[1]
    assert "10.77.0.2" not in tool("ip", "address")


def test_nothing_is_left(own: Lab) -> None:
    """After its end there is no folder, namespace or process of it, though machines were running."""
    own.machines["m1"].daemon("sleep", "4712")
    assert left_of(own.name)
    lab = Lab()
    lab.network("net")
    lab.machine("one", {"net": "10.77.0.1/24"}).start()
    lab.machines["one"].daemon("sleep", "4713")
    lab.close()
    assert left_of(lab.name) == []
    assert left_of(own.name)  # which is somebody else's
    assert not tool("pgrep", "-f", "^sleep 4713", check=False)


def test_a_killed_owner_leaves_nothing_to_the_next(own: Lab) -> None:
    """After kill -9 its processes end by themselves, and the next lab clears the rest away: not a living one's."""
    words = [sys.executable, "-c", OWNER.format(here=str(Path(__file__).parent))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        Lab().close()
        assert left_of(name)  # it lives
        with nobody_clears_away():
            owner.kill()
            clock = LiveClock()
            deadline = clock.deadline(AMPLE)
            while any(each.isdigit() for each in left_of(name)):
                assert not deadline.expired()
                clock.sleep(0.05)
            assert left_of(name)
    assert cleared_away(name)
    assert left_of(own.name)


def test_labs_live_side_by_side() -> None:
    """Several that begin and end at once are in nobody's way: same names, same addresses, and no lab is left."""
    words = [sys.executable, "-c", OWNER.format(here=str(Path(__file__).parent))]
    owners = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = []
    for owner in owners:
        assert owner.stdout is not None
        names.append(owner.stdout.readline().strip())
    assert len({*names} - {""}) == 3
    owners[0].kill()
    owners[0].wait()
    assert cleared_away(names[0])
    assert all(left_of(name) for name in names[1:])
    for owner in owners:
        owner.kill()
        owner.communicate()
    assert all(cleared_away(name) for name in names)
