"""The interlock's arithmetic: a fault that the site would not survive is never allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.errors import PreflightRefused, Unreachable
from pytest_pveha.faults.fault import Reach, Restoring
from pytest_pveha.faults.interlock import interlock, losses, objections
from pytest_pveha.faults.objections.ourselves import needs
from pytest_pveha.faults.objections.state import CephState, Source, State
from pytest_pveha.handles.cluster import GuestRow, RunningTask, Totem
from pytest_pveha.handles.node import ClockOffset, Votes
from pytest_pveha.observe.what_if import Prediction

GIB = 1 << 30
NODES = ("n1", "n2", "n3", "n4", "n5")
STATUS = ["running"] * 5 + ["stopped", "paused", "unknown"]


def guest(sid: str, node: str = "n1", size: int = 4, status: str = "running", lock: str = "") -> GuestRow:
    return GuestRow(sid, sid, node, status, None, size * GIB, lock)


def table(*guests: GuestRow) -> Mapping[str, GuestRow]:
    return {one.sid: one for one in guests}


def all_say(votes: Votes, *names: str) -> dict[str, Votes]:
    return dict.fromkeys(names, votes)


HEALTHY = State(
    votes={"n1": 1, "n2": 1, "n3": 1},
    counted=all_say(Votes(True, 3, 3, 2, frozenset({"Quorate"})), "n1", "n2", "n3"),
    online=frozenset({"n1", "n2", "n3"}),
    quorate=True,
    armed=True,
    totem=Totem(3.125),
    configs=dict.fromkeys(("n1", "n2", "n3"), "config_version: 3"),
    shared_config="config_version: 3",
    free_memory={"n1": 30 * GIB, "n2": 30 * GIB, "n3": 30 * GIB},
    guests=table(guest("vm:101"), guest("vm:102"), guest("vm:103", "n2")),
    moving=frozenset({"vm:101", "vm:102", "vm:103"}),
    permitted=frozenset({"vm:101", "vm:102"}),
    clocks=dict.fromkeys(("n1", "n2", "n3"), ClockOffset(0.0, 0.01)),
    api_answered=frozenset({"n2"}),
    ssh_answered=frozenset({"n1", "n2", "n3"}),
    seen_from=dict.fromkeys(("n1", "n2", "n3"), "192.0.2.9"),
    addresses={f"n{number}": frozenset({f"192.0.2.{number}"}) for number in (1, 2, 3)},
    privileges={
        "/": {"Sys.Audit": True, "Sys.Console": True},
        "/vms": {"VM.Audit": True},
        "/vms/101": {"VM.PowerMgmt": False},
        "/vms/102": {"VM.PowerMgmt": True},
    },
)
ONE = Reach(frozenset({"n1"}))
LEFT = Prediction(
    osds=frozenset({0, 1}),
    undersized=("1.0", "1.1"),
    inactive=(),
    unreadable=(),
    unsure=(),
    no_place=("pool vmdata: rule replicated_rule finds 2 of 3 places, one in a host: it stays undersized",),
    stays_in=frozenset(),
    rebuild_bytes=0,
    receivers=0,
    fill=0.4,
    fullest=0.5,
)
CEPH = CephState(
    clean=True,
    pgs={"active+clean": 128},
    flags=frozenset({"sortbitwise", "purged_snapdirs"}),
    ok_to_stop=True,
    said="",
    osds=(0, 1),
    mons={"n1": ("n1",), "n2": ("n2",), "n3": ("n3",)},
    in_quorum=frozenset({"n1", "n2", "n3"}),
    prediction=LEFT,
    backfillfull=0.9,
)
EVENTFUL = {"active+clean": 120, "active+undersized+degraded": 8}
TWO = replace(
    HEALTHY,
    votes={"n1": 1, "n2": 1},
    counted=all_say(Votes(True, 2, 2, 2), "n1", "n2"),
    online=frozenset({"n1", "n2"}),
)


def test_of_two_halves_ceph_may_lose_either_and_not_both() -> None:
    """Where the cluster decides which side is lost, Ceph is asked about each by itself; a side that it cannot spare is
    named."""
    east, west = frozenset({"n1"}), frozenset({"n2"})
    halves = Reach(east | west, sides=(east, west), splits=True)
    both = replace(CEPH, ok_to_stop=False, said="would become offline")
    spared = replace(TWO, device_votes=1, ceph=both, ceph_without={east: CEPH, west: CEPH})
    assert not [text for text in objections(spared, halves) if "ok-to-stop" in text]
    lost = replace(spared, ceph_without={east: CEPH, west: both})
    told = [text for text in objections(lost, halves) if "ok-to-stop" in text]
    assert told == ["Ceph: `ceph osd ok-to-stop 0 1` (all of n2) says no: would become offline"]


def test_a_healthy_site_may_lose_one_node() -> None:
    """With votes, memory and time to spare nothing speaks against it, with Ceph or without."""
    assert objections(HEALTHY, ONE) == []
    assert objections(replace(HEALTHY, ceph=CEPH), ONE) == []


def test_ceph_is_asked_whatever_the_fault_is() -> None:
    """An OSD, or a mon, counts by itself; the flag that we have set is excused, and so is what we have degraded."""
    site = replace(HEALTHY, ceph=CEPH)
    osd = Reach(frozenset(), costs_membership=False, osds=frozenset({0}))
    assert objections(site, osd) == []
    (told,) = objections(replace(HEALTHY, ceph=replace(CEPH, ok_to_stop=False, said="unsafe")), osd)
    assert told == "Ceph: `ceph osd ok-to-stop 0 1` (all together) says no: unsafe"
    full = replace(LEFT, rebuild_bytes=300 * GIB, fullest=0.93)
    (told,) = objections(replace(HEALTHY, ceph=replace(CEPH, prediction=full)), osd)
    assert "rebuilding 300.0 GiB of OSDs 0 1 would fill the fullest of the others to 93%, and at 90%" in told
    (told,) = objections(replace(HEALTHY, ceph=replace(CEPH, prediction=None)), osd)
    assert "its maps could not be read" in told
    mons = Reach(frozenset(), costs_membership=False, mons=frozenset({"n1"}))
    (told,) = objections(replace(HEALTHY, ceph=replace(CEPH, in_quorum=frozenset({"n1", "n2"}))), mons)
    assert "2 mons in quorum − 1 of n1 = 1, and 2 of 3 are needed" in told
    flag = Reach(frozenset(), costs_membership=False, flags=frozenset({"noout"}))
    set_ = replace(HEALTHY, ceph=replace(CEPH, flags=CEPH.flags | {"noout"}))
    (told,) = objections(set_, osd)
    assert "noout is set" in told
    assert objections(set_, osd, [flag]) == []
    hurt = replace(HEALTHY, ceph=replace(CEPH, clean=False, pgs=EVENTFUL))
    assert len(objections(hurt, osd, [flag])) == 1
    assert objections(hurt, osd, [Reach(frozenset(), costs_membership=False, osds=frozenset({1}))]) == []
    none = replace(LEFT, inactive=("1.0",))
    (told,) = objections(
        replace(hurt, ceph=replace(CEPH, clean=False, pgs=EVENTFUL, prediction=none)),
        osd,
        [Reach(frozenset(), costs_membership=False, osds=frozenset({1}))],
    )
    assert "what would be left does not suffice: without osd.0, osd.1: 1 inactive" in told


def test_what_is_broken_already_counts_with_it() -> None:
    """Votes and memory are those that both leave: a node that is still there and is to fall is as good as lost."""
    five = replace(
        HEALTHY,
        votes=dict.fromkeys(NODES, 1),
        counted=all_say(Votes(True, 5, 5, 3), *NODES),
        online=frozenset(NODES),
        configs=dict.fromkeys(NODES, "config_version: 3"),
        clocks=dict.fromkeys(NODES, ClockOffset(0.0, 0.01)),
        free_memory=dict.fromkeys(NODES, 30 * GIB),
        ssh_answered=frozenset(NODES),
        seen_from=dict.fromkeys(NODES, "192.0.2.9"),
        api_answered=frozenset({"n5"}),
    )
    others = [Reach(frozenset({"n2"})), Reach(frozenset({"n3"}))]
    assert objections(five, ONE, others[:1]) == []
    (told,) = objections(five, ONE, others)
    assert "5 present − 3 of n1, n2, n3 = 2, and 3 of 5 are needed" in told
    gone = replace(five, online=frozenset({"n1", "n3", "n4", "n5"}))
    assert objections(gone, ONE, others[:1]) == []  # its vote is not taken away twice
    tight = replace(gone, free_memory={"n3": 9 * GIB, "n4": 1 * GIB, "n5": 2 * GIB})
    assert objections(tight, ONE) == []
    (told,) = objections(tight, ONE, others[:1])  # the lost one's guest is still to be placed
    assert "the HA guests of n1, n2 need 12.0 GiB" in told


def test_a_node_that_we_emptied_takes_nothing_over_and_refuses_nothing() -> None:
    """Maintenance of our own is meant; what it leaves must hold the victim's guests."""
    emptied = Reach(frozenset(), costs_membership=False, emptied=frozenset({"n3"}))
    state = replace(HEALTHY, maintenance=frozenset({"n3"}))
    assert objections(state, ONE, [emptied]) == []
    (told,) = objections(replace(state, free_memory={"n2": 7 * GIB, "n3": 30 * GIB}), ONE, [emptied])
    assert "fits nowhere any more: n2" in told
    (told,) = objections(state, ONE)
    assert "n3 is in it" in told


def test_with_sides_every_way_it_may_go_is_asked() -> None:
    """Where the cluster decides, what is lost is each side with what is lost already."""
    whole = Reach(frozenset({"n1", "n2"}), sides=(frozenset({"n1"}), frozenset({"n2"}))).beside(
        [Reach(frozenset({"n3"}))]
    )
    assert whole.sides == (frozenset({"n1", "n3"}), frozenset({"n2", "n3"}))
    assert whole.nodes == frozenset({"n1", "n2", "n3"})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (replace(HEALTHY, online=frozenset({"n1", "n2"})), "2 present − 1 of n1 = 1, and 2 of 3 are needed"),
        (replace(HEALTHY, quorate=False), "not quorate now (3 of 3 votes)"),
        (replace(HEALTHY, counted={}), "no node says what it counts"),
        (TWO, "2 present − 1 of n1 = 1, and 2 of 2 are needed"),
        (
            replace(
                TWO,
                votes={"n1": 2, "n2": 1},
                counted=all_say(Votes(True, 3, 3, 2), "n1", "n2"),
            ),
            "3 present − 2 of n1 = 1, and 2 of 3 are needed",
        ),
        (
            replace(TWO, device_votes=1, qdevice_connected=False, counted=all_say(Votes(True, 3, 2, 2), "n1", "n2")),
            "2 present − 1 of n1 = 1, and 2 of 3 are needed",
        ),
        (
            replace(HEALTHY, counted={**HEALTHY.counted, "n3": Votes(True, 2, 3, 2)}),
            "n3 expects 2, and 3 are configured: somebody typed `pvecm expected`",
        ),
        (
            replace(
                HEALTHY,
                votes={"n1": 1, "n2": 2, "n3": 2},
                counted=all_say(Votes(True, 6, 6, 4, frozenset({"Qdevice"})), "n1", "n2", "n3"),
            ),
            "the inventory has no `quorum_device`",
        ),
        (replace(HEALTHY, shared_config=None), "the cluster's copy could not be read"),
        (replace(HEALTHY, configs={"n1": "config_version: 3"}), "that of n2, n3 could not be read"),
        (
            replace(HEALTHY, configs={**HEALTHY.configs, "n2": "config_version: 2"}),
            "that of n2 is not the cluster's",
        ),
        (replace(HEALTHY, armed=False), "HA is disarmed"),
        (replace(HEALTHY, armed=None), "whether it is armed cannot be told"),
        (replace(HEALTHY, maintenance=frozenset({"n3"})), "n3 is in it, so nothing would be recovered there"),
        (
            replace(HEALTHY, totem=Totem(3.65, 40.0)),
            "token 3.65 s + totem.consensus 40 s + 10 s = 53.6 s, not below 50 s",
        ),
        (replace(HEALTHY, totem=Totem(22.5)), "2.2 × token 22.5 s + 10 s = 59.5 s, not below 50 s"),
        (
            replace(
                HEALTHY,
                totem=Totem(5.0),
                votes={"n1": 2, "n2": 2, "n3": 2},
                counted=all_say(Votes(True, 7, 6, 4), "n1", "n2", "n3"),
                device_votes=1,
                qdevice_connected=False,
            ),
            "30 s (a qdevice is configured and not connected) = 51.0 s",
        ),
        (
            replace(HEALTHY, free_memory={"n2": 3 * GIB, "n3": 4 * GIB}),
            "need 8.0 GiB; largest first, vm:102 (4.0 GiB) fits nowhere any more: n2 3.0 GiB, n3 0.0 GiB left",
        ),
        (
            replace(HEALTHY, guests=table(guest("vm:101", size=40)), free_memory=dict.fromkeys(NODES, 20 * GIB)),
            "vm:101 (40.0 GiB) fits nowhere any more: n2 20.0 GiB, n3 20.0 GiB left",
        ),
        (replace(HEALTHY, candidates={"vm:101": frozenset({"n1"})}), "vm:101 of n1 may run on none of the survivors"),
        (replace(HEALTHY, permitted=frozenset({"vm:101"})), "vm:102 on n1 would go down"),
        (
            replace(HEALTHY, permitted=None, never_touch=frozenset({"vm:102"})),
            "vm:102 would be reached, and `consent.never_touch` names it",
        ),
        (replace(HEALTHY, never_touch=frozenset({"n1"})), "n1 would be reached"),
        (
            replace(HEALTHY, guests=table(guest("vm:101", status="paused"))),
            "vm:101 paused on n1: that cannot be put back",
        ),
        (replace(HEALTHY, tasks=(RunningTask("vzdump", "", "n2"),)), "under way: vzdump on n2"),
        (
            replace(HEALTHY, guests=table(guest("vm:103", "n2", lock="backup"))),
            "under way: vm:103 is locked (backup)",
        ),
        (replace(HEALTHY, unsettled={"vm:103": "migrate"}), "under way: vm:103 is in HA state migrate"),
        (replace(HEALTHY, unsettled={"vm:103": "error"}), "HA: it gave up vm:103 (state error)"),
        (replace(HEALTHY, clocks={}), "that of n1, n2, n3 could not be read"),
        (replace(HEALTHY, clocks={**HEALTHY.clocks, "n2": ClockOffset(5.0, 6.0)}), "of n2 is known to ± 6.0 s only"),
        (
            replace(HEALTHY, clocks={**HEALTHY.clocks, "n2": ClockOffset(5.0, 0.1)}),
            "n2 is ahead of this machine by 4.9 s, more than 1 s",
        ),
        (
            replace(
                HEALTHY,
                clocks={**HEALTHY.clocks, "n2": ClockOffset(0.7, 0.1), "n3": ClockOffset(-0.7, 0.1)},
            ),
            "n2 is ahead of n3 by 1.2 s",
        ),
        (
            replace(HEALTHY, ceph=replace(CEPH, clean=False, pgs=EVENTFUL)),
            "not all placement groups are active+clean (8 active+undersized+degraded)",
        ),
        (replace(HEALTHY, ceph=replace(CEPH, flags=frozenset({"noout"}))), "noout is set"),
        (
            replace(HEALTHY, ceph=replace(CEPH, ok_to_stop=False, said="3 PGs would become inactive")),
            "`ceph osd ok-to-stop 0 1` (all of n1) says no: 3 PGs would become inactive",
        ),
        (
            replace(HEALTHY, ceph=replace(CEPH, ok_to_stop=None, said="nobody answered")),
            "whether OSDs 0 1 of n1 may stop cannot be told: nobody answered",
        ),
        (
            replace(HEALTHY, ceph=replace(CEPH, in_quorum=frozenset({"n1", "n2"}))),
            "2 mons in quorum − 1 of n1 = 1, and 2 of 3 are needed",
        ),
        (replace(HEALTHY, controller_guest="vm:900"), "this machine is vm:900"),
        (replace(HEALTHY, api_answered=frozenset({"n1"})), "only n1 answered over API, and nobody outside of n1"),
        (replace(HEALTHY, ssh_answered=frozenset()), "only nobody answered over SSH"),
        (
            replace(HEALTHY, seen_from={**HEALTHY.seen_from, "n2": "192.0.2.1"}),
            "n2 sees us come from 192.0.2.1, which is n1: with n1 our way to n2 is lost",
        ),
        (replace(HEALTHY, seen_from={"n2": "192.0.2.9"}), "n3 did not tell from where it sees us come"),
        (
            replace(HEALTHY, privileges={**HEALTHY.privileges, "/": {"Sys.Audit": True}}),
            "has not Sys.Console on / (to have HA bring its services back)",
        ),
        (
            replace(HEALTHY, privileges={**HEALTHY.privileges, "/vms": {"VM.Audit": False}}),
            "has not VM.Audit on /vms (to see every guest)",
        ),
        (
            replace(HEALTHY, privileges={**HEALTHY.privileges, "/vms/102": {}}),
            "has not VM.PowerMgmt on /vms/102 (to start a guest again that ran)",
        ),
    ],
)
def test_each_refusal_says_what_and_how_much(state: State, words: str) -> None:
    """Each reason not to break it is named with its figures, and alone."""
    found = objections(state, ONE)
    assert len(found) == 1, found
    assert words in found[0]


def test_two_nodes_may_lose_one_with_a_device_or_in_two_node_mode() -> None:
    """What votes in the place of the second node makes the difference."""
    votes = all_say(Votes(True, 3, 3, 2, frozenset({"Qdevice"})), "n1", "n2")
    assert objections(replace(TWO, device_votes=1, qdevice_connected=True, counted=votes), ONE) == []
    alone = all_say(Votes(True, 2, 2, 1, frozenset({"2Node"})), "n1", "n2")
    assert objections(replace(TWO, counted=alone), ONE) == []
    cut = Reach(frozenset({"n1"}), splits=True)
    (text,) = objections(replace(TWO, counted=alone), cut)
    assert "in two-node mode each half stays quorate by itself" in text


def test_the_way_to_what_is_broken_may_be_any() -> None:
    """It is the others that must be reached without it; and whoever comes by way of a third one loses nothing."""
    beside = replace(HEALTHY, seen_from={**HEALTHY.seen_from, "n1": "192.0.2.1", "n2": "192.0.2.3"})
    assert objections(beside, ONE) == []
    assert objections(replace(beside, seen_from={**beside.seen_from, "n2": "192.0.2.1"}), Reach(frozenset())) == []


def test_a_privilege_that_only_one_fault_needs() -> None:
    """What a fault asks the API for itself is needed on the path it names, and for nothing else."""
    reboot = replace(ONE, privileges=frozenset({("/nodes/n1", "Sys.PowerMgmt")}))
    (text,) = objections(HEALTHY, reboot)
    assert "has not Sys.PowerMgmt on /nodes/n1 (to have a node go down in good order)" in text
    assert (
        objections(replace(HEALTHY, privileges={**HEALTHY.privileges, "/nodes/n1": {"Sys.PowerMgmt": True}}), reboot)
        == []
    )
    assert needs(HEALTHY.guests, ONE) == {
        ("/", "Sys.Audit"), ("/", "Sys.Console"), ("/vms", "VM.Audit"),
        ("/vms/101", "VM.PowerMgmt"), ("/vms/102", "VM.PowerMgmt"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("clients", "refused"), [({"n2": True}, "is held open"), ({}, "may be held open"), ({"n2": False}, None)]
)
def test_a_watchdog_with_clients_is_never_ended(clients: Mapping[str, bool], refused: str | None) -> None:
    """Ending watchdog-mux is refused while somebody holds the watchdog open, and where that is not known."""
    reach = Reach(frozenset(), costs_membership=False, units=frozenset({("n2", "watchdog-mux.service")}))
    found = objections(replace(HEALTHY, watchdog_clients=clients), reach)
    assert ([refused in text for text in found] == [True]) if refused else (found == [])


def test_a_watchdog_may_end_where_its_node_is_to_be_reset() -> None:
    """The one fault that is for it may end its victim's watchdog-mux, and nobody else's."""
    held = replace(HEALTHY, watchdog_clients={"n2": True, "n3": True})
    mux = frozenset({("n2", "watchdog-mux")})
    meant = Reach(frozenset({"n2"}), units=mux, resets=frozenset({"n2"}))
    assert not any("watchdog" in text for text in objections(held, meant))
    for reach in (
        Reach(frozenset({"n2"}), units=mux),
        Reach(frozenset({"n3"}), units=mux, resets=frozenset({"n2"})),
        Reach(frozenset({"n2"}), units=mux | {("n3", "watchdog-mux")}, resets=frozenset({"n2"})),
    ):
        assert any("it is never done" in text for text in objections(held, reach))


def test_a_scenario_about_quorum_may_cost_quorum() -> None:
    """What a scenario is for is no objection to it; the rest still is."""
    cut = Reach(frozenset({"n1", "n2"}), about_quorum=True)
    seen = replace(HEALTHY, guests={}, api_answered=frozenset({"n3"}))
    assert objections(seen, cut) == []
    assert objections(replace(seen, armed=False), cut) != []


SITE = Reach(frozenset({"n1", "n2", "n3"}), about_quorum=True)
"""All nodes, for as long as it takes."""
MINE = replace(
    HEALTHY,
    permitted=None,
    api_answered=HEALTHY.online,
    privileges={**HEALTHY.privileges, "/vms/103": {"VM.PowerMgmt": True}},
)
"""Where every guest may fall, and may be started again."""


def test_a_site_that_is_reset_for_want_of_quorum_loses_its_storage_and_says_so() -> None:
    """What was agreed to is no objection, and is told: nodes, guests, OSDs, mons; what is broken is one."""
    held = replace(MINE, ceph=replace(CEPH, ok_to_stop=False))
    assert objections(held, SITE) == []
    assert losses(held, SITE) == (
        "quorum is taken from all nodes: n1, n2, n3 may be reset, and with them vm:101, vm:102, vm:103; "
        "Ceph: OSDs 0 1 and mons n1, n2, n3 go with them, so that no data is served until they are back"
    )
    assert objections(replace(held, ceph=replace(CEPH, clean=False, pgs=EVENTFUL)), SITE) != []
    assert (losses(HEALTHY, SITE) or "").endswith("vm:103")
    assert losses(held, ONE) is None
    assert losses(held, replace(SITE, brief=38.0)) is None


@pytest.mark.parametrize(
    ("token", "seconds", "refused"),
    [(3.125, 40, False), (3.65, 39.6, False), (3.65, 40, True), (10, 30, False), (10, 33, True)],
)
def test_a_brief_cut_is_over_before_a_watchdog_minds(token: float, seconds: float, refused: bool) -> None:
    """Its end, a consensus and a rejoin later, comes within 50 s of it; else it is refused, with the figures."""
    seen = replace(MINE, totem=Totem(token))
    found = objections(seen, replace(SITE, brief=seconds))
    assert bool(found) is refused
    assert all(text.startswith(f"watchdogs: the nodes undo this cut after {seconds:.1f} s") for text in found)


def test_unlisted_guests_may_fall_where_all_are_permitted() -> None:
    """With every bystander permitted none is an objection; templates and stopped guests never are."""
    assert objections(replace(HEALTHY, permitted=None), ONE) == []
    still = table(guest("vm:1", status="stopped"), replace(guest("vm:2", status="unknown"), template=True))
    assert objections(replace(HEALTHY, guests=still, permitted=frozenset()), ONE) == []


def test_a_site_that_cannot_be_seen_is_not_broken() -> None:
    """Where the look itself fails, the refusal says so and why."""

    def look(reach: Reach) -> State:
        raise Unreachable("nobody answered")

    with pytest.raises(PreflightRefused, match="cannot be told, so nothing was broken: nobody answered"):
        interlock(look, ONE)
    with pytest.raises(PreflightRefused, match="the interlock refuses to break n1: HA is disarmed"):
        interlock(lambda reach: replace(HEALTHY, armed=False), ONE)
    assert interlock(lambda reach: HEALTHY, ONE) == HEALTHY


# --- random sites, against an oracle of its own -----------------------------------------------------------------------


@st.composite
def sites(draw: st.DrawFn) -> tuple[State, Reach]:
    """A random site, for the most part healthy, and a random wish to break it."""
    names = NODES[: draw(st.integers(2, 5))]
    rarely = st.sampled_from([True] * 7 + [False])
    online = frozenset(names) if draw(rarely) else draw(st.sets(st.sampled_from(names), min_size=1).map(frozenset))
    votes = {name: draw(st.integers(1, 3)) for name in names}
    device = draw(st.sampled_from([0, 0, 1, sum(votes.values()) - 1]))
    expected = sum(votes.values()) + device
    seen = expected if draw(rarely) else draw(st.integers(1, expected + 2))
    two_node = len(names) == 2 and draw(st.booleans())
    quorum = 1 if two_node else seen // 2 + 1
    flags = frozenset({"2Node"} if two_node else ())
    guests = [
        GuestRow(
            f"vm:{100 + 10 * at + k}", "", name, draw(st.sampled_from(STATUS)), None,
            draw(st.integers(1, 24)) * GIB, draw(st.sampled_from([""] * 15 + ["backup"])),
        )
        for at, name in enumerate(names)
        for k in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    every = [one.sid for one in guests]
    some = st.sets(st.sampled_from(every)).map(frozenset) if every else st.just(frozenset())
    reached = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2).map(frozenset))
    ceph = None
    if draw(st.booleans()):
        where = draw(st.lists(st.sampled_from(names), min_size=1, max_size=5, unique=True))
        ceph = CephState(
            clean=draw(rarely),
            pgs={},
            flags=frozenset() if draw(rarely) else frozenset({"noout"}),
            ok_to_stop=draw(st.sampled_from([True, True, True, False, None])),
            said="",
            osds=tuple(at for at, name in enumerate(names) if name in reached),
            mons={name: (name,) for name in where},
            in_quorum=frozenset(name for name in where if name in online),
        )
    state = replace(
        HEALTHY,
        votes=votes,
        counted=all_say(Votes(True, seen, seen, quorum, flags), *online),
        online=online,
        quorate=draw(rarely),
        armed=draw(st.sampled_from([True] * 8 + [False, None])),
        totem=Totem(draw(st.sampled_from([3.125, 5.0, 22.5]))),
        device_votes=device,
        qdevice_connected=draw(st.booleans()) if device else None,
        configs=dict.fromkeys(names, "config_version: 3"),
        free_memory={name: draw(st.integers(0, 60)) * GIB for name in names if draw(rarely)},
        guests=table(*guests),
        moving=draw(some),
        candidates={
            sid: draw(st.sets(st.sampled_from(names)).map(frozenset)) for sid in draw(some) if draw(st.booleans())
        },
        permitted=draw(st.one_of(st.none(), some, st.just(frozenset(every)))),
        never_touch=draw(some) if not draw(rarely) else frozenset(),
        clocks=dict.fromkeys(names, ClockOffset(0.0, 0.01)),
        ceph=ceph,
        api_answered=draw(st.sets(st.sampled_from(names)).map(frozenset)) if not draw(rarely) else online,
        ssh_answered=online,
        seen_from=dict.fromkeys(names, "192.0.2.9"),
        privileges={
            **HEALTHY.privileges,
            **{f"/vms/{sid.partition(':')[2]}": {"VM.PowerMgmt": True} for sid in every},
        },
    )
    meant = draw(some) if not draw(rarely) else frozenset()
    return state, Reach(reached, guests=meant, about_quorum=not draw(rarely))


def would_harm(state: State, reach: Reach) -> list[str]:
    """What the fault would cost, told by trying: every way to place the guests, every vote counted one by one."""
    harm = []
    left = [name for name in state.votes if name in state.online and name not in reach.nodes]
    ballots = [name for name in left for _ in range(state.votes[name])]
    if state.qdevice_connected:
        ballots += ["device"] * state.device_votes
    of = sum(state.votes.values()) + state.device_votes
    two_node = any("2Node" in one.flags for one in state.counted.values())
    if not reach.about_quorum and not (two_node and ballots) and len(ballots) <= of - len(ballots):
        harm.append("quorum")
    hit = [one for one in state.guests.values() if one.node in reach.nodes or one.sid in reach.guests]
    fallen = [one for one in hit if one.status != "stopped"]
    harm += [f"guest {one.sid}" for one in fallen if state.permitted is not None and one.sid not in state.permitted]
    harm += [f"never {one.sid}" for one in fallen if one.sid in state.never_touch]
    moving = [one for one in fallen if one.sid in state.moving and one.node in reach.nodes]
    if not reach.about_quorum and not _placeable(state, moving, left):
        harm.append("memory")
    if state.ceph is not None:
        mons = [mon for name, of_node in state.ceph.mons.items() for mon in of_node if name in left]
        every = [mon for of_node in state.ceph.mons.values() for mon in of_node]
        mon_is_hit = any(name in reach.nodes for name in state.ceph.mons)
        stops = state.ceph.osds and not reach.about_quorum
        if not state.ceph.clean or (stops and state.ceph.ok_to_stop is not True):
            harm.append("data")
        if (
            not reach.about_quorum
            and mon_is_hit
            and 2 * len([mon for mon in mons if mon in state.ceph.in_quorum]) <= len(every)
        ):
            harm.append("mons")
    return harm


def _placeable(state: State, moving: list[GuestRow], left: list[str]) -> bool:
    """Whether any of all ways to spread these guests over the survivors fits."""
    for places in product(left, repeat=len(moving)):
        used = dict.fromkeys(left, 0)
        for one, place in zip(moving, places, strict=True):
            used[place] += one.memory
        allowed = all(place in state.candidates.get(one.sid, NODES) for one, place in zip(moving, places, strict=True))
        if allowed and all(used[name] <= state.free_memory.get(name, 0) for name in left):
            return True
    return False


@given(sites())
def test_nothing_that_would_cost_quorum_data_or_a_guest_is_allowed(case: tuple[State, Reach]) -> None:
    """Whatever the site and the wish: what nothing speaks against costs neither quorum, data, memory nor a guest."""
    state, reach = case
    if not objections(state, reach):
        assert would_harm(state, reach) == []


def test_the_oracle_sees_harm() -> None:
    """The oracle itself can say no: of each kind of harm once."""
    wide = replace(HEALTHY, ceph=CEPH)
    assert would_harm(wide, ONE) == []
    assert would_harm(wide, Reach(frozenset({"n1", "n2"}))) == ["quorum", "guest vm:103", "mons"]
    assert would_harm(replace(wide, free_memory={}), ONE) == ["memory"]
    assert would_harm(replace(wide, never_touch=frozenset({"vm:101"})), ONE) == ["never vm:101"]
    assert would_harm(replace(wide, ceph=replace(CEPH, ok_to_stop=False)), ONE) == ["data"]


# --- the same of faults of Ceph, storages, rooms and restores, one beside another -------------------------------------

COPY = Restoring("vm:101", "vm:9000", "n1", "local-lvm", "pbs1:backup/vm/101/x", 8 * GIB, 4 * GIB)


@st.composite
def further(draw: st.DrawFn) -> tuple[State, Reach, tuple[Reach, ...]]:
    """A random site, what is broken there already, and a wish of a newer kind."""
    state, old = draw(sites()) if draw(st.integers(0, 9)) == 0 else (replace(MINE, ceph=CEPH), ONE)
    if state.permitted is None:  # else nearly every wish has something else against it
        touched = draw(st.sets(st.sampled_from(sorted(state.guests) or ["vm:1"]), max_size=1))
        state = replace(state, never_touch=frozenset(touched) if draw(st.booleans()) else frozenset())
        free = draw(st.sampled_from([1, 30, 30, 30]))
        state = replace(state, free_memory=dict.fromkeys(state.votes, free * GIB))
    names, every = sorted(state.votes), sorted(state.guests)
    some_nodes = st.sets(st.sampled_from(names), max_size=2).map(frozenset)
    some = st.sets(st.sampled_from(every)).map(frozenset) if every else st.just(frozenset[str]())
    kind = draw(st.sampled_from(["osd", "mon", "storage", "device", "room", "room-cut", "by-hand", "restore", "old"]))
    wish = {
        "osd": lambda: Reach(frozenset(), costs_membership=False, osds=frozenset({7}), degraded=draw(st.booleans())),
        "mon": lambda: Reach(frozenset(), costs_membership=False, mons=draw(some_nodes)),
        "storage": lambda: Reach(frozenset(), costs_membership=False, hung=draw(some)),
        "device": lambda: Reach(frozenset(), device=True),
        "room": lambda: Reach(draw(some_nodes), site_wide=True),
        "room-cut": lambda: Reach(
            frozenset(names), sides=(frozenset(names[:1]), frozenset(names[1:])), splits=True, site_wide=True
        ),
        "by-hand": lambda: Reach(draw(some_nodes), by_hand=True),
        "restore": lambda: Reach(frozenset(), costs_membership=False, restoring=COPY),
        "old": lambda: old,
    }[kind]()
    standing = tuple(Reach(each) for each in draw(st.lists(some_nodes, max_size=2)) if each)
    ceph = state.ceph
    if ceph is not None:
        rarely = st.sampled_from([True] * 7 + [False])
        left = replace(
            LEFT,
            inactive=() if draw(rarely) else ("1.0",),
            rebuild_bytes=draw(st.sampled_from([0, 5 * GIB])),
            fullest=draw(st.sampled_from([0.4, 0.89, 0.9, 0.97])),
        )
        falls = wish.osds or any(one.nodes for one in (wish, *standing))
        ceph = replace(ceph, osds=(7,) if falls else (), prediction=left if draw(rarely) else None)
        ok = draw(st.sampled_from([True, True, True, False, None]))
        up = frozenset(draw(st.sets(st.sampled_from(sorted(ceph.in_quorum) or ["n1"]), min_size=1)))
        ceph = replace(ceph, clean=draw(rarely), ok_to_stop=ok, in_quorum=ceph.in_quorum if draw(rarely) else up)
    source = Source(
        draw(st.sampled_from(["ok", "", "ok", "failed", None])),
        draw(st.sampled_from([True, True, True, False, None])),
        draw(st.sampled_from([100 * GIB, 100 * GIB, None])),
        draw(st.sampled_from([0, 70 * GIB, 77 * GIB, 90 * GIB, None])),
    )
    return replace(state, ceph=ceph, source=draw(st.sampled_from([source, source, None]))), wish, standing


def would_harm_further(state: State, wish: Reach, standing: tuple[Reach, ...]) -> list[str]:
    """What it would cost beside what is broken, each side of a cut by itself."""
    gone = frozenset().union(*(one.nodes for one in standing))
    harm = []
    for side in wish.sides or (wish.nodes,):
        lost = side | gone
        ballots = sum(votes for name, votes in state.votes.items() if name in state.online and name not in lost)
        if state.qdevice_connected and not wish.device:
            ballots += state.device_votes
        of = sum(state.votes.values()) + state.device_votes
        two_node = any("2Node" in one.flags for one in state.counted.values())
        if not wish.about_quorum and not (two_node and ballots) and 2 * ballots <= of:
            harm.append("quorum")
        if state.ceph is not None and not wish.about_quorum:
            mons = {mon: name for name, of_node in state.ceph.mons.items() for mon in of_node}
            hit = {mon for mon, name in mons.items() if name in lost | wish.mons}
            if hit and 2 * len(state.ceph.in_quorum - hit) <= len(mons):
                harm.append("mons")
    for sid in wish.hung | {sid for sid, one in state.guests.items() if one.node in wish.nodes}:
        if sid not in wish.hung and state.guests[sid].status == "stopped":
            continue
        if sid in state.never_touch or (state.permitted is not None and sid not in state.permitted):
            harm.append(f"guest {sid}")
    if state.ceph is not None:
        left = state.ceph.prediction
        degraded = wish.degraded or bool(gone)
        if not state.ceph.clean and not (degraded and left is not None and left.serves):
            harm.append("data")
        if state.ceph.osds and not wish.about_quorum:
            if state.ceph.ok_to_stop is not True or left is None:
                harm.append("data")
            elif left.rebuild_bytes and left.fullest >= state.ceph.backfillfull:
                harm.append("room")
    if (copy := wish.restoring) is not None:
        source = state.source
        if source is None or not source.total or source.used is None or source.key_there is not True:
            return [*harm, "unknown backup"]
        if source.verification in (None, "failed"):
            harm.append("backup")
        if (source.used + copy.size) / source.total >= 0.85:
            harm.append("space")
        if copy.memory > state.free_memory.get(copy.node, 0):
            harm.append("memory")
    return harm


@tries(1000)
@given(further())
def test_nothing_newer_costs_quorum_data_or_a_guest_either(case: tuple[State, Reach, tuple[Reach, ...]]) -> None:
    """Of Ceph, storages, rooms, people and restores, alone and beside others: what is allowed harms nothing."""
    state, wish, standing = case
    if not objections(state, wish, standing):
        assert would_harm_further(state, wish, standing) == []


def test_each_newer_kind_is_allowed_and_sees_harm() -> None:
    """On a healthy site each may be; and the second oracle can say no, of each kind of harm once."""
    good = Source("ok", True, 100 * GIB, 0)
    site = replace(MINE, ceph=replace(CEPH, osds=()), source=good)
    osd = Reach(frozenset(), costs_membership=False, osds=frozenset({7}))
    stops = replace(site, ceph=replace(CEPH, osds=(7,)))
    copy = Reach(frozenset(), costs_membership=False, restoring=COPY)
    hung = Reach(frozenset(), costs_membership=False, hung=frozenset({"vm:101"}))
    mon = Reach(frozenset(), costs_membership=False, mons=frozenset({"n1"}))
    for state, wish in ((stops, osd), (site, copy), (site, hung), (site, mon)):
        assert objections(state, wish) == []
        assert would_harm_further(state, wish, ()) == []
    full = replace(LEFT, rebuild_bytes=GIB, fullest=0.95)
    told = [
        (replace(stops, ceph=replace(stops.ceph, ok_to_stop=False)), osd, (), "data"),
        (replace(stops, ceph=replace(stops.ceph, prediction=full)), osd, (), "room"),
        (replace(site, source=replace(good, used=80 * GIB)), copy, (), "space"),
        (replace(site, source=replace(good, verification="failed")), copy, (), "backup"),
        (replace(site, never_touch=frozenset({"vm:101"})), hung, (), "guest vm:101"),
        (site, Reach(frozenset({"n1"})), (Reach(frozenset({"n2"})),), "quorum"),
        (site, mon, (Reach(frozenset({"n2"})),), "mons"),
    ]
    for state, wish, standing, harm in told:
        assert harm in would_harm_further(state, wish, standing)
        assert objections(state, wish, standing) != []
