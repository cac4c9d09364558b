"""Faults that cost a node its life: refused where nothing would reset it, and undone without a reset too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Deadline, Decided, Instant, LiveClock
from pytest_pveha.errors import PreflightRefused, ProtocolError, Unreachable
from pytest_pveha.faults.crash import AGAIN, BOOT, DaemonKilled, DaemonsFrozen, KernelCrash
from pytest_pveha.faults.fault import Fault
from pytest_pveha.handles.cluster import Asked, Lrm, Manager, Membership
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import BmcIdentity
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer

NOW = LiveClock().now()
IDENTITY = "journalctl -b -o cat --no-pager -u watchdog-mux"


@dataclass
class Bmc:
    """A BMC that writes down what it is told."""

    on: bool = True
    mac: str = "02:00:00:00:00:01"
    told: list[str] = field(default_factory=list)

    def power_state(self, deadline: Deadline) -> Bmc:
        return self

    fresh_power_state = power_state

    def set_power(self, command: str, deadline: Deadline) -> None:
        self.told.append(command)

    def identity(self, deadline: Deadline) -> dict[str, str]:
        return {"mac": self.mac}

    def from_a_node(self, secret: str, deadline: Deadline) -> Bmc:
        return self

    reset = ()


@dataclass
class Victim:
    """A node whose shell says what a test wants."""

    site: Field
    name: str = "n1"
    room: str = "a"
    bmc: Bmc | None = field(default_factory=Bmc)
    bmc_address: None = None
    bmc_system: None = None
    bmc_identity: BmcIdentity = field(default_factory=lambda: BmcIdentity(mac="02:00:00:00:00:01"))
    addresses: tuple[tuple[str, int], ...] = (("127.0.0.1", 9),)
    clients: bool = True
    active_units: frozenset[str] = frozenset({"watchdog-mux", "pve-ha-lrm"})
    halted: frozenset[int] = frozenset()
    says: Mapping[str, str] = field(
        default_factory=lambda: {
            IDENTITY: "Watchdog driver 'Software Watchdog', version 0\n",
            "cat /proc/sys/kernel/panic": "0\n",
            "test -w /proc/sysrq-trigger": "",
        }
    )
    acted: list[str] = field(default_factory=list)

    @property
    def units(self) -> Victim:
        return self

    def active(self, unit: str, deadline: Deadline) -> bool:
        return unit in self.active_units

    def watchdog_has_clients(self, deadline: Deadline) -> bool:
        return self.clients

    def pids(self, deadline: Deadline) -> frozenset[int]:
        return frozenset({640, 990})

    def boot_id(self, deadline: Deadline) -> str:
        return "a"

    def command(self, deadline: Deadline, *words: str) -> str:
        line = " ".join(words)
        if line == "ps -e -o pid=,stat=":
            return "".join(f"{pid} {'T' if pid in self.halted else 'Ss'}\n" for pid in (640, 990))
        if line not in self.says:
            raise ProtocolError(f"`{line}` ended with status 1")
        return self.says[line]

    def act(self, deadline: Deadline, *words: str) -> str:
        if not self.site.answers:
            raise Unreachable("nobody answered")
        self.acted.append(" ".join(words))
        return ""


@dataclass
class Field:
    """A site with one node, alive or silent, and a clock that moves by sleeping."""

    mono: int = 1000 * SECOND
    answers: bool = True
    lrm: str = "active"
    proxmox: bool = True
    stamp: int = 100

    def __post_init__(self) -> None:
        self.victim = Victim(self)
        self.nodes: Any = Nodes([self.victim])  # type: ignore[list-item]

    @property
    def clock(self) -> Field:
        return self

    @property
    def cluster(self) -> Field:
        return self

    @property
    def guests(self) -> Any:
        return type("None", (), {"sids": ()})

    def now(self) -> Instant:
        return Instant(self.mono, NOW.utc + self.mono)

    def deadline(self, seconds: float) -> Deadline:
        return LiveClock().deadline(seconds)

    def sleep(self, seconds: float) -> None:
        self.mono += round(seconds * SECOND)

    def connected(self, ports: dict[int, int], until: int) -> dict[int, Decided]:
        return dict.fromkeys(ports, Decided(self.mono, connected=True)) if self.answers else {}

    def membership(self, deadline: Deadline) -> Membership:
        return Membership("c", True, {"n1": True}, Asked(NOW, NOW, "n1"))

    def manager(self, deadline: Deadline) -> Manager:
        lrms = {"n1": Lrm(self.lrm, "active", self.stamp)}
        return Manager("n2", self.stamp + 1, {"n1": "online"}, {}, lrms, True, Asked(NOW, NOW, "n1"))


def observer(site: Field) -> Observer:
    return Observer(cast("Site", site), lambda kind, data: None)


CRASH = KernelCrash("n1", returns=True)
KILLED = DaemonKilled("n1", "watchdog-mux", 640, "a")
FROZEN = DaemonsFrozen("n1", ("pve-ha-lrm",), (990,))


@pytest.mark.parametrize("fault", [CRASH, KILLED, FROZEN], ids=lambda fault: fault.kind)
def test_a_guarded_node_may_be_broken(fault: Fault) -> None:
    """With an active LRM, an open watchdog and its own BMC nothing refuses, and what it has is on record."""
    seen = observer(Field())
    fault.preflight(seen)
    assert seen.last("watchdog/n1") == "Software Watchdog"
    assert seen.last("kernel.panic/n1") == "0"


@pytest.mark.parametrize("fault", [CRASH, KILLED, FROZEN], ids=lambda fault: fault.kind)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lrm": "wait_for_agent_lock"}, "the LRM of n1 is wait_for_agent_lock, so its watchdog guards nothing"),
        ({"clients": False}, "nobody holds the watchdog of n1 open"),
        ({"bmc": None}, r"no BMC in the inventory: .*add nodes\.n1\.bmc"),
        ({"bmc": Bmc(on=False)}, "its BMC says that it is off"),
        ({"bmc": Bmc(mac="02:00:00:00:00:02")}, "not n1's own"),
        ({"says": {}}, "which watchdog it has cannot be told"),
    ],
)
def test_an_unguarded_node_is_not_broken(fault: Fault, change: dict[str, Any], why: str) -> None:
    """Where nothing would reset it, or nobody could, it is left alone."""
    site = Field()
    for name, value in change.items():
        setattr(site if hasattr(site, name) else site.victim, name, value)
    with pytest.raises(PreflightRefused, match=why):
        fault.preflight(observer(site))
    assert site.victim.acted == []


def test_what_does_not_run_is_not_broken() -> None:
    """A kernel that takes no commands, a daemon that is not there."""
    site = Field()
    site.victim.says = {key: text for key, text in site.victim.says.items() if "sysrq" not in key}
    with pytest.raises(PreflightRefused, match="takes no sysrq commands"):
        CRASH.preflight(observer(site))
    with pytest.raises(PreflightRefused, match="does not run; nothing to kill"):
        DaemonKilled("n1", "watchdog-mux", 7, "a").preflight(observer(site))
    with pytest.raises(PreflightRefused, match="nothing was stopped"):
        DaemonsFrozen("n1", ("pve-ha-lrm", "corosync"), (990, 7)).preflight(observer(site))


def test_a_bmc_without_a_reset_brings_nobody_back() -> None:
    """A dead-man that could do nothing is none, so nothing is broken."""
    site = Field()
    assert site.victim.bmc is not None
    with pytest.raises(PreflightRefused, match="the BMC of n1 knows no reset, so no other node could bring it back"):
        CRASH.dead_man(observer(site), "/var/lib/pveha/0a1b2c3d/kernel-crash-1")


def resets(fault: Fault, site: Field, seen: Observer, seconds: float) -> list[float]:
    """When the node was reset, in seconds, if the heal is tried every minute for so long."""
    assert site.victim.bmc is not None
    begin, at = site.mono, []
    while site.mono < begin + seconds * SECOND:
        before, start = len(site.victim.bmc.told), site.mono
        fault.heal(seen)
        at += [(site.mono - begin) / SECOND] * (len(site.victim.bmc.told) - before)
        site.mono = start + 60 * SECOND
    assert set(site.victim.bmc.told) <= {"reset"}
    return at


@pytest.mark.parametrize("fault", [CRASH, KILLED, FROZEN], ids=lambda fault: fault.kind)
def test_a_silent_node_has_time_to_boot(fault: Fault) -> None:
    """It is reset after five minutes of silence, and not again while that may still be booting."""
    site = Field(answers=False)
    first, *more = resets(fault, site, observer(site), 899)
    assert BOOT <= first < BOOT + 70
    assert [AGAIN <= later - first < AGAIN + 70 for later in more] in ([], [True])


def test_what_cannot_come_back_is_reset_at_once() -> None:
    """A crashed kernel that nothing restarts: at once, and once."""
    site = Field(answers=False)
    first, *more = resets(KernelCrash("n1", returns=False), site, observer(site), AGAIN - 60)
    assert first < 10
    assert more == []


def test_a_living_node_is_not_reset() -> None:
    """Healing what never was broken changes nothing."""
    for fault in (CRASH, KernelCrash("n1", returns=False), KILLED, FROZEN):
        site = Field()
        seen = observer(site)
        assert resets(fault, site, seen, 600) == []
        assert site.victim.acted == []
        assert fault.healed(seen).verdict == "yes"


def test_a_node_without_its_daemon_is_reset() -> None:
    """It lives on though what feeds its watchdog is gone: only a reset gives it back, and it is sent once."""
    site = Field()
    site.victim.active_units = frozenset()
    seen = observer(site)
    assert KILLED.healed(seen).verdict == "no"
    assert len(resets(KILLED, site, seen, AGAIN - 60)) == 1


def test_a_booting_node_is_not_reset() -> None:
    """In the next boot a daemon that does not run yet is on its way."""
    site = Field()
    site.victim.active_units = frozenset()
    earlier = replace(KILLED, boot_id="another")
    assert resets(earlier, site, observer(site), 600) == []
    assert earlier.healed(observer(site)).verdict == "no"


def test_frozen_daemons_go_on_and_are_watched() -> None:
    """They are thawed; healed is said only when no watchdog can bite any more."""
    site = Field()
    site.victim.halted = frozenset({990})
    seen = observer(site)
    assert FROZEN.healed(seen).verdict == "no"
    FROZEN.heal(seen)
    assert site.victim.acted == ["systemctl kill -s CONT pve-ha-lrm"]
    site.victim.halted = frozenset()
    assert FROZEN.healed(seen).verdict == "no"
    site.sleep(20)
    assert FROZEN.healed(seen).verdict == "yes"


def test_a_node_that_its_multiplexer_gave_up_is_reset() -> None:
    """Frozen for too long under a watchdog that does not bite, it goes on with nothing that would ever reset it.

    Seen on PVE 9.2: watchdog-mux ended, and the LRM went on, called itself active and wrote `watchdog update failed`.
    """
    site = Field()
    site.victim.active_units = frozenset({"pve-ha-lrm"})
    seen = observer(site)
    FROZEN.heal(seen)
    assert FROZEN.healed(seen).verdict == "no"
    assert "without a watchdog" in FROZEN.healed(seen).saw
    assert site.victim.bmc is not None
    assert site.victim.bmc.told == []  # its watchdog may still do it
    site.sleep(20)
    FROZEN.heal(seen)
    FROZEN.heal(seen)
    assert site.victim.bmc.told == ["reset"]
    site.victim.active_units = frozenset({"watchdog-mux", "pve-ha-lrm"})
    assert "does not guard its guests again" in FROZEN.healed(seen).saw  # HA has its old word only
    site.stamp = site.now().utc // SECOND + 1
    assert FROZEN.healed(seen).verdict == "yes"


@pytest.mark.parametrize("change", [{"clients": False}, {"active_units": frozenset({"watchdog-mux"})}])
def test_who_has_not_been_given_up_is_not_reset(change: dict[str, Any]) -> None:
    """A multiplexer that somebody ended while nobody used it leaves no mark; one that runs has given nobody up."""
    site = Field()
    for name, value in {"active_units": frozenset(), **change}.items():
        setattr(site.victim, name, value)
    assert resets(FROZEN, site, observer(site), 600) == []


def test_without_proxmox_there_is_no_multiplexer() -> None:
    """A site of corosync alone has no watchdog-mux that could have given a node up."""
    site = Field(proxmox=False)
    site.victim.active_units = frozenset()
    assert resets(FROZEN, site, observer(site), 600) == []


def test_a_crash_is_not_answered() -> None:
    """The lost link is what is expected; a refusal is not."""
    site = Field()
    CRASH.inject(observer(site))
    assert site.victim.acted == ["sh -c echo c > /proc/sysrq-trigger"]
    site.answers = False
    CRASH.inject(observer(site))
