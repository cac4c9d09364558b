"""Faults of Ceph refuse what they could not undo, or would take more than they say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import Clock, LiveClock
from pytest_pveha.errors import PreflightRefused, Unreachable
from pytest_pveha.faults.ceph import CephNetworkCut, NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.fault import Fault
from pytest_pveha.handles.ceph.daemon import OsdDaemon
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer
from pytest_pveha.scenario.ceph import Breaks, CephFaults
from pytest_pveha.wire.ssh import CommandResult, Ssh

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "ceph-16.2.15.json").read_text("utf-8"))
DUMP = json.dumps(RECORDED["whole"]["osd dump"])
HURT = json.dumps(RECORDED["one down"]["osd dump"])
NOOUT = json.dumps({**RECORDED["whole"]["osd dump"], "flags": "noout,sortbitwise"})
CLOCK = LiveClock()
BACK = tuple((f"ceph{n}", (f"10.77.6.3{n}",)) for n in (1, 2, 3))
OSDS = ((0, 1.0), (1, 1.0))
PING = "PING 10.77.6.31 (10.77.6.31) 56(84) bytes of data.\n"
ANSWERED = f"{PING}64 bytes from 10.77.6.31: icmp_seq=2 ttl=64 time=0.2 ms\n\n3 packets transmitted, 1 received, 66%\
 packet loss, time 400ms\n"
SILENT = f"{PING}\n3 packets transmitted, 0 received, 100% packet loss, time 400ms\n\n"


class Shell:
    """A node's shell: the first pattern that the command has says what it answers; None: nobody answers."""

    def __init__(self, answers: Mapping[str, str | None]) -> None:
        self._answers = answers

    def run(self, command: str, **_: Any) -> CommandResult:
        now = CLOCK.now()
        for pattern, said in self._answers.items():
            if re.search(pattern, command):
                if said is None:
                    raise Unreachable("nobody answers")
                return CommandResult(0, said.encode(), b"", now, now)
        raise AssertionError(f"nobody expected {command!r}")


class Cluster:
    """What corosync's links are, or nobody who says it."""

    def __init__(self, rings: Mapping[str, tuple[str, ...]] | None) -> None:
        self._rings = rings

    def ring_addresses(self, deadline: object) -> Mapping[str, tuple[str, ...]]:
        if self._rings is None:
            raise Unreachable("nobody answers")
        return self._rings

    def membership(self, deadline: object) -> None:
        raise Unreachable("nobody answers")


RINGS = {f"ceph{n}": (f"10.1.0.{n}",) for n in (1, 2, 3)}


def observer(rings: Mapping[str, tuple[str, ...]] | None = RINGS, **changes: str | None) -> Observer:
    """A site of three nodes with a whole Ceph, but for what is changed."""
    answers: dict[str, str | None] = {
        "is-active": changes.get("active", "active\n"),
        "ps -e": changes.get("processes", "1\n812\n"),
        "osd dump": changes.get("dump", DUMP),
        "SSH_CONNECTION": changes.get("way", "192.0.2.9 4000 192.0.2.31 22\n"),
        "MainPID": "MainPID=812\n",
        "ping": changes.get("ping", SILENT),
    }
    nodes = Nodes(Node(f"ceph{n}", cast("Ssh", Shell(answers)), None, cast("Clock", CLOCK), ()) for n in (1, 2, 3))
    given: dict[str, Any] = dict.fromkeys(
        field.name for field in fields(Site) if field.default is MISSING and field.default_factory is MISSING
    )
    given |= {"name": "s", "simulated": True, "clock": CLOCK, "cluster": Cluster(rings), "nodes": nodes}
    site = Site(**given)
    return Observer(site, lambda kind, data: None)


def cut(**changes: Any) -> CephNetworkCut:
    given = {"tag": "pveha-0-cut-1", "node": "ceph1", "network": "cluster", "addresses": BACK, "osds": OSDS}
    return CephNetworkCut(**{**given, **changes})


KILLED, LOST = OsdKilled("ceph1", 0, 812), OsdLost("ceph1", 0, 812)
REFUSED: list[tuple[Fault, Observer, str]] = [
    (KILLED, observer(active="failed\n"), "ceph-osd@0 on ceph1 does not run; there is nothing to break"),
    (LOST, observer(processes="1\n"), "ceph-osd@0 on ceph1 does not run; there is nothing to break"),
    (KILLED, observer(active=None), "osd.0 on ceph1 is not broken: nobody answers"),
    (KILLED, observer(dump=HURT), "osd.0 of ceph1 is not up and in; repair that first"),
    (LOST, observer(dump=None), "whether the OSDs of ceph1 are up cannot be told: "),
    (cut(), observer(rings=None), "what else that network carries cannot be told, so it is not cut: nobody answers"),
    (cut(), observer(rings={"ceph1": ("ceph1.lan",)}), "corosync calls a link of ceph1 'ceph1.lan'"),
    (
        cut(),
        observer(rings={"ceph2": ("10.77.6.32",)}),
        "is not cut: it carries corosync (ceph2 at 10.77.6.32)",
    ),
    (
        cut(cidr="10.77.6.0/24"),
        observer(rings={"ceph2": ("10.77.6.99",)}),
        "it carries corosync (ceph2 at 10.77.6.99) too, and that would be lost with it",
    ),
    (cut(), observer(way="192.0.2.9 4000 10.77.6.31 22\n"), "it carries our way to ceph1 (10.77.6.31) too"),
    (cut(osds=()), observer(), "no OSD stands on ceph1"),
    (
        cut(cidr="10.9.0.0/16"),
        observer(),
        "network is 10.9.0.0/16, and ceph1 uses 10.77.6.31 there; correct `n",
    ),
    (cut(addresses=(("ceph1", ()),)), observer(), "node ceph1 has no address on Ceph's cluster network"),
    (NooutSet("ceph1"), observer(dump=NOOUT), "noout is set already: whose it is is not known"),
    (NooutSet("ceph1"), observer(dump=None), "Ceph's flags cannot be told, so none is set: "),
]


@pytest.mark.parametrize(("fault", "site", "words"), REFUSED)
def test_what_could_go_wrong_is_not_begun(fault: Fault, site: Observer, words: str) -> None:
    """Each refusal says what it is about; nothing but questions was typed on any node."""
    with pytest.raises(PreflightRefused, match=re.escape(words)):
        fault.preflight(site)


def test_an_osd_that_nobody_knows_is_not_broken() -> None:
    """Its weight could not be put back."""
    run = cast("Breaks", type("Run", (), {"site": observer().site, "observer": observer()})())
    wish = CephFaults(run).osd_lost(OsdDaemon(77, "ceph1"))
    with pytest.raises(PreflightRefused, match=r"Ceph knows no osd\.77, so nothing was broken"), wish:
        pass


@pytest.mark.parametrize(
    ("said", "verdict", "saw"),
    [
        (SILENT, "yes", "ceph2, ceph3 hear nothing of ceph1 on Ceph's cluster network"),
        (ANSWERED, "no", "ceph2 hears ceph1 at 10.77.6.31"),
        (None, "cant_tell", "no node could say whether it hears ceph1: nobody answers"),
        ("ping: socket: Operation not permitted", "cant_tell", "no node could say whether it hears ceph1"),
    ],
)
def test_a_cut_bites_when_nobody_hears_the_node(said: str | None, verdict: str, saw: str) -> None:
    """By the echoes of the others' kernels, where there were any before; one that came through is enough for no."""
    eyes = observer(ping=said)
    found = cut(echoed=True).took_effect(eyes)
    assert found.verdict == verdict
    assert saw in found.saw


def test_without_echoes_before_ceph_has_the_word() -> None:
    """Where pings were never answered their silence says nothing: the OSDs that are called down do."""
    assert cut().took_effect(observer(ping=SILENT)).verdict == "no"
    found = cut().took_effect(observer(ping=ANSWERED, dump=HURT))
    assert (found.verdict, found.saw) == ("yes", "Ceph calls osd.0 of ceph1 down")


def test_what_each_takes_away() -> None:
    """A cut of the public network takes the mon and the guests' disks, too; the flag alone takes nothing."""
    assert cut(mon=True, guests=("vm:101",)).reach.mons == frozenset()
    public = cut(network="public", mon=True, guests=("vm:101",)).reach
    assert (public.osds, public.mons, public.guests) == ({0, 1}, {"ceph1"}, {"vm:101"})
    assert (NooutSet("ceph1").reach.flags, NooutSet("ceph1").reach.osds) == ({"noout"}, frozenset())
    assert LOST.reach.osds == {0}


def test_the_persistent_undo() -> None:
    """The node and another one remember it across a boot; the weight is put back only where it was less than whole."""
    whole = LOST.dead_man(observer(), "/x").undos
    assert [(undo.node, undo.outlives_reboot) for undo in whole] == [("ceph1", True), ("ceph2", True)]
    own, other = ("\n".join(undo.script) for undo in whole)
    assert own.index("unmask --runtime ceph-osd@0") < own.index("start ceph-osd@0") < own.index("osd in 0")
    assert "osd in 0" in other
    assert "reweight" not in own + other
    assert "osd reweight 0 0.85" in "\n".join(OsdLost("ceph1", 0, 812, 0.85).dead_man(observer(), "/x").undos[1].script)
