"""What nodes do by themselves after a mains cut: as the inventory says, or nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from pytest_pveha.clock import LiveClock
from pytest_pveha.faults.fault import DeadMan
from pytest_pveha.faults.mains import MainsCut
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.pdu import FromNodes, Pdu
from pytest_pveha.observe.observer import Observer
from pytest_pveha.wire.bmc import NodeCommands

WAY = FromNodes(("curl", "--config", "{secret}", "on"), ("curl", "--config", "{secret}"), lambda: "pdu-word")


class Controller:
    """A BMC that says what a node types."""

    def from_a_node(self, secret: str, deadline: object) -> NodeCommands:
        words = (("ipmitool", "-f", secret, "chassis", "power", "on"),)
        return NodeCommands(words, (), (), (), (), "bmc-word")


def dead_man(way: FromNodes | None, *, bmc: bool = True) -> DeadMan:
    """Of the first of three nodes."""
    nodes = [
        Node(name, None, None, LiveClock(), (), room=room) for name, room in (("n1", "a"), ("n2", "a"), ("n3", "b"))
    ]
    nodes[0].pdu = Pdu("n1", ["off"], ["on"], None, 1.0, LiveClock(), way)
    if bmc:
        nodes[0].bmc = Controller()  # type: ignore[assignment]
    site = SimpleNamespace(nodes=Nodes(nodes), clock=LiveClock())
    return MainsCut("n1").dead_man(cast("Observer", SimpleNamespace(site=site)), "/kept/mains-cut-1")


def test_without_a_way_there_is_none() -> None:
    """No node is asked for what the inventory does not say."""
    assert dead_man(None) == DeadMan.on_every()


def test_two_nodes_switch_the_outlets_and_then_the_node() -> None:
    """The other room first; the outlets thrice, a pause for the BMC, then that; each secret in a file of its own."""
    found = dead_man(WAY)
    assert ([undo.node for undo in found.undos], found.needed) == (["n3", "n2"], 2)
    outlets, pause, on = found.undos[0].script
    assert outlets == " || ".join(["curl --config /kept/mains-cut-1.outlets on"] * 3)
    assert pause == "sleep 180"
    assert on == " || ".join(["ipmitool -f /kept/mains-cut-1.secret chassis power on"] * 3)
    assert found.undos[0].checks == ((("curl", "--config", "/kept/mains-cut-1.outlets"),),)
    assert (found.undos[0].secret, found.undos[0].more) == ("bmc-word", (("outlets", "pdu-word"),))
    assert found.undos[0].outlives_reboot
    assert "word" not in repr(found)
    assert len(dead_man(WAY, bmc=False).undos[0].script) == 1
