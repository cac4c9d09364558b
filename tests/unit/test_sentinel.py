"""Stop conditions: what ends a fault at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Deadline, Instant, LiveClock
from pytest_pveha.errors import HarmSeen, SiteBusy, StopAsked, Unreachable
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.sentinel import Sentinel
from pytest_pveha.handles.ceph import CephStatus
from pytest_pveha.handles.cluster import Asked, GuestRow, Manager, Membership, Service
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.node import Node, Processes
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import View
from pytest_pveha.record.lease import Lease

ALL = frozenset({"n1", "n2", "n3"})
NOW = LiveClock().now()
RAN = {sid: GuestRow(sid, sid, node, "running", None, 1) for sid, node in (("vm:101", "n1"), ("vm:107", "n3"))}


class Clock:
    """A clock that moves when it is told to, and by the sleeps of those who use it."""

    def __init__(self) -> None:
        self.mono = 100 * SECOND

    def now(self) -> Instant:
        return replace(NOW, mono=self.mono)

    def sleep(self, seconds: float) -> None:
        self.mono += round(seconds * SECOND)

    def deadline(self, seconds: float) -> Deadline:
        return LiveClock().deadline(seconds)


@dataclass
class Field:
    """A site whose guests and placement groups are what a test says; it counts what it is asked."""

    guests_told: dict[str, GuestRow] = field(default_factory=lambda: dict(RAN))
    really: dict[str, str] = field(default_factory=dict)
    pgs: dict[str, int] = field(default_factory=lambda: {"active+clean": 128})
    has_ceph: bool = False
    reads: int = 0
    silent: bool = False
    mute: bool = False
    """Whether a node's own API says nothing of its guests."""
    unread: bool = False
    """Whether its second node cannot be asked by SSH."""
    clock: Clock = field(default_factory=Clock)
    guests: Guests = field(default_factory=lambda: Guests([Guest("vm:101", "gold", None, ())]))

    processes: dict[str, int] = field(default_factory=dict)
    """What its second node says that runs there."""

    @property
    def nodes(self) -> Nodes:
        return Nodes([cast("Node", Host("n2", self))])

    @property
    def cluster(self) -> Any:
        return self._speaking()

    @property
    def ceph(self) -> Any:
        return self._speaking()

    def _speaking(self) -> Talk:
        self.reads += 1
        if self.silent:
            raise Unreachable("nobody answered")
        return Talk(self)


@dataclass
class Host:
    """One of its nodes, by SSH."""

    name: str
    of: Field

    def processes(self, deadline: Deadline) -> Processes:
        if self.of.unread:
            raise Unreachable("no SSH")
        return Processes(self.of.processes, NOW, NOW)


@dataclass
class Talk:
    """Its API."""

    of: Field

    def guests(self, deadline: Deadline) -> dict[str, GuestRow]:
        return self.of.guests_told

    def guest_status(self, sid: str, node: str, deadline: Deadline) -> str:
        if self.of.mute:
            raise Unreachable("no answer")
        return self.of.really.get(sid, "running")

    def status(self, deadline: Deadline) -> CephStatus:
        return CephStatus("HEALTH_WARN", (), ("n1",), 3, 6, 6, 6, self.of.pgs)


def view(*online: str, quorate: bool = True, services: dict[str, str] | None = None) -> View:
    asked = Asked(NOW, NOW, "n2")
    told = {sid: Service(state, "n2", True) for sid, state in (services or {}).items()}
    manager = Manager("n2", 0, {}, told, {}, quorate, asked)
    return View(Membership("c", quorate, {name: name in online for name in sorted(ALL)}, asked), manager, "")


def sentinel(
    reach: Reach, why: str | None = None, site: Field | None = None, at_most: float = 3600, **services: str
) -> Sentinel:
    watching = Sentinel(cast("Site", site or Field()), lambda: why)
    watching.learn(view(*ALL, services=services), RAN)
    watching.begin("fault-1", reach, at_most)
    return watching


ONE = Reach(frozenset({"n1"}))


def a_minute(watching: Sentinel, site: Field, seconds: int = 60) -> None:
    for _ in range(seconds):
        watching(view("n2", "n3"))
        site.clock.sleep(1)


def test_what_was_predicted_does_not_stop() -> None:
    """The victim's own loss, with its guests, and a look that was not answered, are no reason to stop."""
    site = Field(guests_told={**RAN, "vm:101": replace(RAN["vm:101"], status="stopped")}, really={"vm:101": "stopped"})
    watching = sentinel(ONE, site=site)
    watching(view("n2", "n3"))
    watching(view("n1", "n2", "n3"))
    watching(View(None, None, "nobody answered"))
    site.silent = True
    site.clock.sleep(60)
    watching(view("n2", "n3"))


def test_a_second_node_stops() -> None:
    """Another node's loss is named, and ends it; so is the quorum that went with it."""
    with pytest.raises(HarmSeen, match=r"n3 was lost too, while only n1 was to be: healed"):
        sentinel(ONE)(view("n2"))
    with pytest.raises(HarmSeen, match=r"n3 was lost too, while only n1 was to be, and with it quorum: healed"):
        sentinel(ONE)(view("n2", quorate=False))


def test_lost_quorum_stops_unless_it_was_meant() -> None:
    """Quorum's loss ends it, but not a scenario that is about quorum."""
    with pytest.raises(HarmSeen, match="lost quorum"):
        sentinel(ONE)(view("n2", "n3", quorate=False))
    sentinel(Reach(frozenset({"n1"}), about_quorum=True))(view("n2", "n3", quorate=False))


def test_half_of_the_nodes_may_wait_for_the_quorum_device() -> None:
    """For half a minute, and anew after it was quorate; where a majority is left there is nothing to wait for."""
    site = Field()
    watching = sentinel(Reach(frozenset({"n1", "n3"})), site=site)
    for _ in range(2):
        watching(view("n2", quorate=False))
        site.clock.sleep(29)
        watching(view("n2", quorate=False))
        watching(view("n2"))
    watching(view("n2", quorate=False))
    site.clock.sleep(31)
    with pytest.raises(HarmSeen, match="lost quorum"):
        watching(view("n2", quorate=False))


def test_a_protected_guest_that_falls_stops() -> None:
    """A guest elsewhere that is down by its own node's word ends it, and so does one that is gone."""
    down = {**RAN, "vm:107": replace(RAN["vm:107"], status="stopped")}
    with pytest.raises(HarmSeen, match="vm:107 ran on n3 and is stopped on n3, while it was not to be touched"):
        sentinel(ONE, site=Field(guests_told=down, really={"vm:107": "stopped"}))(view("n2", "n3"))
    sentinel(ONE, site=Field(guests_told=down))(view("n2", "n3"))  # only the list is late
    with pytest.raises(HarmSeen, match="vm:107 ran on n3 and is gone"):
        sentinel(ONE, site=Field(guests_told={"vm:101": RAN["vm:101"]}))(view("n2", "n3"))
    meant = Reach(frozenset(), guests=frozenset({"vm:107"}))
    sentinel(meant, site=Field(guests_told=down, really={"vm:107": "stopped"}))(view("n1", "n2", "n3"))


HIDDEN = {
    "its node's pvestatd is silent": {"guests_told": {**RAN, "vm:107": replace(RAN["vm:107"], status="unknown")}},
    "its node's API is silent": {
        "guests_told": {**RAN, "vm:107": replace(RAN["vm:107"], status="stopped")},
        "mute": True,
    },
    "no API answers": {"silent": True},
}


@pytest.mark.parametrize("how", HIDDEN)
def test_a_guest_that_the_api_does_not_tell_of_is_looked_for_on_the_nodes(how: str) -> None:
    """Nowhere twice, it is down, and that ends it; with its process somewhere it runs; unread, nothing is known."""
    site = Field(**HIDDEN[how], processes={"vm:107": 5})
    watching = sentinel(ONE, site=site)
    a_minute(watching, site)
    site.unread = True
    a_minute(watching, site)
    site.unread, site.processes = False, {}
    watching(view("n2", "n3"))  # once: it may be on its way
    site.clock.sleep(20)
    with pytest.raises(HarmSeen, match="vm:107 ran on n3, and no node that is left has its process"):
        watching(view("n2", "n3"))


@pytest.mark.parametrize("how", HIDDEN)
def test_a_guest_missed_once_on_its_way_stops_nothing(how: str) -> None:
    """Seen again at the next look, it was being moved; what a fault may take is not looked for."""
    site = Field(**HIDDEN[how])
    watching = sentinel(ONE, site=site)
    for turn in range(6):
        site.processes = {"vm:107": 5} if turn % 2 else {}
        watching(view("n2", "n3"))
        site.clock.sleep(20)
    meant = Field(**HIDDEN[how])
    a_minute(sentinel(Reach(frozenset({"n1"}), guests=frozenset({"vm:107"})), site=meant), meant)


def test_a_guest_that_ha_gave_up_stops() -> None:
    """The campaign's guest in state error ends it, unless it was in error before."""
    with pytest.raises(HarmSeen, match=r"HA gave up vm:101 \(state error\)"):
        sentinel(ONE)(view("n2", "n3", services={"vm:101": "error"}))
    sentinel(ONE)(view("n2", "n3", services={"vm:999": "error"}))
    sentinel(ONE, **{"vm:101": "error"})(view("n2", "n3", services={"vm:101": "error"}))


def test_data_that_stays_away_stops() -> None:
    """Placement groups that peer for some seconds do not end it; those that stay inactive do."""
    site = Field(has_ceph=True, pgs={"active+clean": 120, "undersized+degraded+peered": 8})
    watching = sentinel(ONE, site=site)
    with pytest.raises(HarmSeen, match=r"8 of 128 placement groups have served no data for 3\d s"):
        a_minute(watching, site)
    assert 130 * SECOND < site.clock.mono < 160 * SECOND
    peering = Field(has_ceph=True, pgs={"peering": 8})
    watching = sentinel(ONE, site=peering)
    a_minute(watching, peering, seconds=15)
    peering.pgs = {"active+undersized+degraded": 8}
    a_minute(watching, peering)
    peering.pgs = {"peering": 8}
    a_minute(watching, peering, seconds=15)


def test_a_fault_over_its_time_stops() -> None:
    """In force for longer than was declared, it is ended with that as the reason."""
    site = Field()
    watching = sentinel(ONE, site=site, at_most=60)
    watching(view("n2", "n3"))
    site.clock.sleep(60)
    with pytest.raises(StopAsked, match="n1 has been broken for longer than was declared"):
        watching(view("n2", "n3"))


# --- one inside another -----------------------------------------------------------------------------------------------

TWO = Reach(frozenset({"n2"}))


def inside(watching: Sentinel, reach: Reach, *online: str, at_most: float = 3600) -> None:
    """Another fault is in force, too; before it these were members."""
    watching.learn(view(*online), watching.site.cluster.guests(LiveClock().deadline(1)))
    watching.begin("fault-2", reach, at_most)


def test_what_both_take_is_predicted_and_no_more() -> None:
    """The losses of all that is in force are meant, be it the outer one's that comes late; a third is none of them."""
    watching = sentinel(ONE)
    inside(watching, TWO, *ALL)
    watching(view("n3"))
    assert watching.lost == {"n1", "n2"}
    with pytest.raises(HarmSeen, match="n3 was lost too, while only n1, n2 was to be"):
        watching(view("n1"))


def test_the_outer_ones_time_counts_inside_the_inner_one() -> None:
    """The limit of each of them ends it."""
    site = Field()
    watching = sentinel(ONE, site=site, at_most=60)
    inside(watching, TWO, *ALL)
    site.clock.sleep(61)
    with pytest.raises(StopAsked, match="n1 has been broken for longer"):
        watching(view("n3"))


def test_what_was_undone_inside_is_excused_until_it_is_back() -> None:
    """A node that boots after the inner fault is no harm; lost again after it was back, it is."""
    site = Field()
    watching = sentinel(ONE, site=site)
    inside(watching, TWO, "n2", "n3")
    watching.end("fault-2")
    assert watching.lost == {"n1", "n2"}
    site.clock.sleep(120)
    watching(view("n3"))
    watching(view("n2", "n3"))
    assert watching.lost == {"n1"}
    with pytest.raises(HarmSeen, match="n2 was lost too, while only n1 was to be"):
        watching(view("n3"))


def test_a_watchdog_may_bite_after_the_inner_fault() -> None:
    """A node that is there right after the fault's end may still be reset because of it: for a minute."""
    site = Field()
    watching = sentinel(ONE, site=site)
    inside(watching, TWO, "n2", "n3")
    watching.end("fault-2")
    watching(view("n2", "n3"))
    site.clock.sleep(50)
    watching(view("n3"))


def test_the_outer_one_may_end_first() -> None:
    """In whatever order they end, what is in force still is guarded, and the end of all forgets all."""
    watching = sentinel(ONE)
    inside(watching, TWO, *ALL)
    watching.end("fault-1")
    watching(view("n3"))
    watching.end("fault-2")
    assert (watching.standing, watching.lost) == ((), frozenset())
    watching.learn(view("n3"), RAN)
    watching.begin("fault-3", Reach(frozenset({"n3"})), 60)
    watching(view())  # n1 and n2 were no members when this one began, and quorum is as it was told


def test_guests_that_the_inner_fault_felled_are_excused_until_they_run() -> None:
    """By the list alone they are not: it may be of before they fell. Seen running, they are guarded again."""
    site = Field(guests_told={"vm:107": replace(RAN["vm:107"], node="n2")})
    watching = sentinel(ONE, site=site)
    inside(watching, TWO, "n2", "n3")  # by now the guest is on n2
    down = {"vm:107": replace(RAN["vm:107"], node="n2", status="stopped")}
    site.guests_told, site.really = {**RAN, **down}, {"vm:107": "stopped"}
    site.clock.sleep(20)
    watching(view("n3"))
    watching.end("fault-2")
    site.clock.sleep(120)
    watching(view("n2", "n3"))  # back, and the guest still down
    site.guests_told = {**RAN, "vm:107": replace(RAN["vm:107"], node="n2")}
    site.clock.sleep(20)
    watching(view("n2", "n3"))  # listed as running, and no process seen
    site.guests_told = {**RAN, **down}
    site.clock.sleep(20)
    watching(view("n2", "n3"))
    site.processes, site.guests_told = {"vm:107": 5}, {**RAN, "vm:107": replace(RAN["vm:107"], node="n2")}
    site.clock.sleep(20)
    watching(view("n2", "n3"))
    site.guests_told = {**RAN, **down}
    site.clock.sleep(20)
    with pytest.raises(HarmSeen, match="vm:107 ran on n2 and is stopped on n2"):
        watching(view("n2", "n3"))


def test_its_own_questions_are_few() -> None:
    """With the two of every look the API is read at most twice a second, and each of its own is followed by a pause."""
    site = Field(has_ceph=True)
    watching, looks, began = sentinel(ONE, site=site), 0, site.clock.mono
    while site.clock.mono < began + 300 * SECOND:
        watching(view("n2", "n3"))
        looks += 1
        site.clock.sleep(1)
    assert site.reads >= 50
    assert (2 * looks + site.reads) / 300 <= 2.0


def test_somebody_may_stop_it() -> None:
    """A request to stop ends it with the reason given."""
    with pytest.raises(StopAsked, match="the night shift wants its cluster back"):
        sentinel(ONE, "the night shift wants its cluster back")(view("n2", "n3"))


def test_a_request_to_stop_reaches_the_holder_and_not_the_next_one(tmp_path: Path) -> None:
    """It is seen by whoever holds the site, and is gone for whoever takes it next."""
    environ = {"PVEHA_STATE": str(tmp_path)}
    holder, other = Lease("site", environ), Lease("site", environ)
    assert holder.holder() is None
    holder.take()
    assert other.holder() is not None
    with pytest.raises(SiteBusy):
        other.take()
    assert holder.stop_asked() is None
    other.ask_to_stop("enough")
    assert holder.stop_asked() == "enough"
    holder.give_back()
    other.take()
    assert other.stop_asked() is None
    other.give_back()
