"""A node that panics, hangs, or loses what feeds its watchdog: what restarts it, and when."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.ports import Silence
from pytest_pveha.sim.spec import BmcSpec, GuestSpec, NodeSpec, SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world import World
from tests.sim.servers_kit import PlayingGate, shell

HANG = "systemctl kill -s {} watchdog-mux corosync pve-ha-lrm pve-ha-crm pvestatd pvedaemon pveproxy"


class Site:
    """Three nodes with a guest each, and all that happened to them."""

    def __init__(self, *defects: str, seed: int = 1, **node: Any) -> None:
        nodes = tuple(NodeSpec(f"pve{number}", number, boot_seconds=40, **node) for number in (1, 2, 3))
        guests = tuple(GuestSpec(100 + number, f"g{number}", f"pve{number}") for number in (1, 2, 3))
        self.timeline = Timeline()
        self.truth: list[tuple[float, str, dict[str, Any]]] = []
        spec = SiteSpec("s", "c", nodes, guests, defects=defects, seed=seed)
        self.world = World(spec, self.timeline, self._happened)
        self.gate = PlayingGate(self.world)
        self.victim = next(name for name, node in self.world.nodes.items() if node.crm_state != "master")

    def _happened(self, kind: str, data: dict[str, Any]) -> None:
        self.truth.append((self.timeline.now / SECOND, kind, data))

    def play(self, seconds: float) -> None:
        self.timeline.run_until(self.timeline.now + round(seconds * SECOND))

    def on(self, line: str) -> str:
        """What the victim's shell says."""
        return shell(self.gate, line, self.victim).out

    def after(self, start: float, kind: str) -> float | None:
        """Seconds from ``start`` to the first such truth of the victim."""
        found = [at for at, what, data in self.truth if at >= start and what == kind and data["node"] == self.victim]
        return found[0] - start if found else None

    def crash(self) -> float:
        """The victim's kernel is told to crash; nobody answers."""
        self.play(20)
        with pytest.raises(Silence):
            shell(self.gate, "echo c > /proc/sysrq-trigger", self.victim)
        return self.timeline.now / SECOND


@pytest.mark.parametrize(
    ("node", "boots"),
    [
        ({}, None),
        ({"kernel_panic": 10}, (48, 52)),
        ({"watchdog": "iTCO_wdt"}, (47, 52)),
        ({"bmc": BmcSpec(owns_watchdog=True)}, (47, 52)),
        ({"watchdog": "iTCO_wdt", "kernel_panic": 3}, (41, 45)),
        ({"watchdog": "iTCO_wdt", "kernel_panic": 60}, (47, 52)),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_restarts_a_panicked_node(node: dict[str, Any], boots: tuple[int, int] | None, seed: int) -> None:
    """kernel.panic or a hardware watchdog, whichever is first; the kernel's own watchdog died with it."""
    site = Site(seed=seed, **node)
    start = site.crash()
    assert site.world.nodes[site.victim].chassis_on
    assert not site.world.nodes[site.victim].running
    site.play(600)
    took = site.after(start, "booted")
    if boots is None:
        assert took is None
        site.world.chassis(site.victim, "reset")
        site.play(60)
        assert site.world.nodes[site.victim].running
    else:
        assert took is not None
        assert boots[0] <= took <= boots[1]


@pytest.mark.parametrize("driver", ["softdog", "iTCO_wdt"])
def test_a_frozen_userland_is_reset(driver: str) -> None:
    """Its kernel lives, so that either watchdog bites within ten seconds; guests ran until then."""
    site = Site(watchdog=driver)
    site.play(20)
    start = site.timeline.now / SECOND
    site.on(HANG.format("STOP"))
    site.play(8)
    assert site.world.guests[100 + int(site.victim[-1])].processes
    site.play(5)
    died = site.after(start, "watchdog_reset")
    assert died is not None
    assert 9 <= died <= 10


def test_frozen_daemons_are_seen_and_go_on() -> None:
    """`ps` shows them stopped; thawed in time nothing bites, and the node stays a member."""
    site = Site()
    site.play(20)
    assert "Ts" not in site.on("ps -e -o pid=,stat=")
    site.on(HANG.format("STOP"))
    assert site.on("ps -e -o pid=,stat=").count("Ts") == 7
    site.play(5)
    site.on(HANG.format("CONT"))
    site.play(120)
    assert site.after(0, "watchdog_reset") is None
    assert "Ts" not in site.on("ps -e -o pid=,stat=")


def test_what_is_frozen_too_long_is_reset_when_it_goes_on() -> None:
    """A board that did not bite meanwhile does when the multiplexer sees how late its client is."""
    site = Site("half-alive-node")
    site.play(20)
    site.on(HANG.format("STOP"))
    site.play(200)
    assert site.after(0, "watchdog_reset") is None
    start = site.timeline.now / SECOND
    site.on(HANG.format("CONT"))
    site.play(30)
    assert site.after(start, "watchdog_reset") is not None


def test_a_node_tells_its_watchdog_and_settings() -> None:
    """sysfs, the multiplexer's journal, kernel.panic, and who is there by pmxcfs; the BMC's driver is not in sysfs."""
    site = Site(watchdog="iTCO_wdt", kernel_panic=7)
    assert site.on("cat /sys/class/watchdog/watchdog0/identity") == "iTCO_wdt\n"
    assert "Watchdog driver 'iTCO_wdt', version 0" in site.on("journalctl -b -o cat -u watchdog-mux")
    assert site.on("cat /proc/sys/kernel/panic") == "7\n"
    assert f'"{site.victim}": {{ "id": {site.victim[-1]}, "online": 1, "ip": "' in site.on("cat /etc/pve/.members")
    assert '"quorate": 1 }' in site.on("cat /etc/pve/.members")
    own = Site(bmc=BmcSpec(owns_watchdog=True))
    assert own.on("cat /sys/class/watchdog/watchdog0/identity") == ""
    assert "Watchdog driver 'IPMI'" in own.on("journalctl -b -o cat -u watchdog-mux")


def test_a_script_ends_where_it_says() -> None:
    """`exit` leaves the rest undone, with its status."""
    site = Site()
    done = shell(site.gate, "echo a; false || exit 3; echo b", site.victim)
    assert (done.status, done.out) == (3, "a\n")
    assert shell(site.gate, "true || exit 3; echo b", site.victim).out == "b\n"
