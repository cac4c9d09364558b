"""Stop conditions: what ends a fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import HarmSeen, SiteBusy, StopAsked
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.sentinel import Sentinel
from pytest_pveha.handles.cluster import Asked, Membership
from pytest_pveha.observe.observer import View
from pytest_pveha.record.lease import Lease

ALL = frozenset({"n1", "n2", "n3"})


def view(*online: str, quorate: bool = True) -> View:
    now = LiveClock().now()
    return View(
        Membership("c", quorate, {name: name in online for name in sorted(ALL)}, Asked(now, now, "n2")), None, ""
    )


def sentinel(reach: Reach, why: str | None = None) -> Sentinel:
    return Sentinel(reach, ALL, lambda: why)


def test_what_was_predicted_does_not_stop() -> None:
    """The victim's own loss, and a look that was not answered, are no reason to stop."""
    watching = sentinel(Reach(frozenset({"n1"})))
    watching(view("n2", "n3"))
    watching(view("n1", "n2", "n3"))
    watching(View(None, None, "nobody answered"))


def test_a_second_node_stops() -> None:
    """Another node's loss is named, and ends it."""
    with pytest.raises(HarmSeen, match="n3 was lost too, while only n1 was to be"):
        sentinel(Reach(frozenset({"n1"})))(view("n2"))


def test_lost_quorum_stops_unless_it_was_meant() -> None:
    """Quorum's loss ends it, but not a scenario that is about quorum."""
    with pytest.raises(HarmSeen, match="lost quorum"):
        sentinel(Reach(frozenset({"n1"})))(view("n2", "n3", quorate=False))
    sentinel(Reach(frozenset({"n1"}), about_quorum=True))(view("n2", "n3", quorate=False))


def test_somebody_may_stop_it() -> None:
    """A request to stop ends it with the reason given."""
    with pytest.raises(StopAsked, match="the night shift wants its cluster back"):
        sentinel(Reach(frozenset({"n1"})), "the night shift wants its cluster back")(view("n2", "n3"))


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
