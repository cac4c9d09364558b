"""Whom a cut between rooms names, and what the loss of a room does to what HA's rules forbid."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from pytest_pveha.clock import LiveClock
from pytest_pveha.faults.interlock import objections
from pytest_pveha.faults.rooms import FeedCut, RoomCut, RoomPowerCut
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.layout import DEVICE, Layout, Ways
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.pdu import FromNodes, Pdu
from pytest_pveha.observe.observer import Observer
from pytest_pveha.scenario.breaking import outward_only, unshared
from tests.unit.test_interlock import HEALTHY


def test_an_address_of_several_nodes_is_named_by_no_rule() -> None:
    """Such as that of a bridge every node has: a node that drops it would drop what it says to itself."""
    own = {"n1": frozenset({"10.0.0.1", "172.17.0.1"}), "n2": frozenset({"10.0.0.2", "172.17.0.1", "fd00::2"})}
    assert unshared(own) == (("n1", ("10.0.0.1",)), ("n2", ("10.0.0.2", "fd00::2")))


def test_a_bmc_on_loopback_or_by_name_is_named_by_no_rule() -> None:
    """Rules can name IP addresses alone, and nobody is to lose itself."""
    assert outward_only({"127.0.0.1", "bmc1.example", "198.51.100.7"}) == ("198.51.100.7",)


def test_a_cut_that_the_device_decides_hits_either_room() -> None:
    """Halves: one of two sides. A room that the device does not see, or the smaller one: that one."""
    addresses = (("n1", ("10.0.0.1",)), ("n2", ("10.0.0.2",)))
    halves = RoomCut("pveha-0", ("n1",), ("n2",), addresses, halves=True).reach
    assert (halves.nodes, halves.sides) == (frozenset({"n1", "n2"}), (frozenset({"n1"}), frozenset({"n2"})))
    blind = RoomCut("pveha-0", ("n1",), ("n2",), addresses, "10.0.9.9", 5403, blind=True).reach
    assert (blind.nodes, blind.sides, blind.site_wide) == (frozenset({"n1"}), (), True)


def test_one_node_alone_is_no_room() -> None:
    """What takes a single node needs no more consent than its power does."""
    assert not RoomPowerCut(("n1",)).reach.site_wide
    assert not FeedCut("f", ("n1",)).reach.site_wide
    assert RoomPowerCut(("n1", "n2")).reach.site_wide


def test_who_is_to_switch_a_feed_on_is_seen_to_reach_each_of_its_outlets() -> None:
    """They may hang on several PDUs: that one of them answers says nothing of the others."""
    nodes = [Node(name, None, None, LiveClock(), (), room=name[0]) for name in ("a1", "a2", "b1")]
    for node in nodes[:2]:
        way = FromNodes(("on", node.name), ("status", node.name, "{secret}"), lambda: "word")
        node.pdu = Pdu(node.name, ["off"], ["on"], None, 1.0, LiveClock(), way)
    site = SimpleNamespace(nodes=Nodes(nodes), clock=LiveClock())
    man = FeedCut("f", ("a1", "a2")).dead_man(cast("Observer", SimpleNamespace(site=site)), "/kept/f")
    (undo,) = man.undos
    assert undo.node == "b1"
    assert undo.checks == (
        (("status", "a1", "/kept/f.a1-outlets"),),
        (("status", "a2", "/kept/f.a2-outlets"),),
    )


def test_rules_that_keep_guests_do_not_bind_people() -> None:
    """A guest that may run on none of the survivors is a reason to refuse, unless people bring it there."""
    state = replace(HEALTHY, candidates={sid: frozenset({"n1"}) for sid in HEALTHY.moving})
    lost = RoomPowerCut(("n1",))
    kept = [text for text in objections(state, lost.reach) if text.startswith(("memory:", "rules:"))]
    assert "may run on none of the survivors" in kept[0]
    by_hand = RoomPowerCut(("n1",), by_hand=True)
    assert [text for text in objections(state, by_hand.reach) if text.startswith(("memory:", "rules:"))] == []


def test_every_way_between_the_rooms_is_known() -> None:
    """From each node to each of another room, in both directions, and to the quorum device's machine."""
    layout = Layout({"a": ("n1", "n2"), "b": ("n3",)}, device="10.0.9.9")
    ways = Ways.of(layout)
    assert set(ways.between) == {("n1", "n3"), ("n2", "n3"), ("n3", "n1"), ("n3", "n2")}
    assert ways.to_device == (("n1", DEVICE), ("n2", DEVICE), ("n3", DEVICE))
    assert Ways.of(Layout({"a": ("n1",)})) == Ways((), ())
