"""Each rule of the interlock on random sites: it refuses where it must, passes where it may, and both were seen.

What each rule is for is told here in other words than its own: by the figures that were drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.faults import interlock
from pytest_pveha.faults.fault import Reach, Restoring
from pytest_pveha.faults.interlock import objections
from pytest_pveha.faults.objections.backups import NEARFULL
from pytest_pveha.faults.objections.manager import SETTLED
from pytest_pveha.faults.objections.state import Source, State
from pytest_pveha.handles.cluster import RunningTask, Totem
from pytest_pveha.handles.node import ClockOffset, Votes
from tests.unit.test_interlock import CEPH, GIB, HEALTHY, MINE, ONE, TWO, all_say, guest, table

Case = tuple[State, Reach, bool]
"""A site, a wish, and whether it must be refused for that."""
Draw = st.DrawFn
NAMES = ("n1", "n2", "n3")
SIDS = ("vm:101", "vm:102", "vm:103")
some_nodes = st.sets(st.sampled_from(NAMES), min_size=1, max_size=2).map(frozenset)
some_guests = st.sets(st.sampled_from(SIDS)).map(frozenset)
maybe = st.booleans()
NOTHING = Reach(frozenset(), costs_membership=False)


def restoring(size: int, memory: int, node: str = "n1") -> Reach:
    """The wish for a copy that is so large."""
    copy = Restoring("vm:101", "vm:9000", node, "local-lvm", "pbs1:backup/vm/101/x", size * GIB, memory * GIB)
    return replace(NOTHING, restoring=copy)


def _restorable(draw: Draw) -> Case:
    verified = draw(st.sampled_from(["ok", "", "failed", None]))
    key = draw(st.sampled_from([True, False, None]))
    source = draw(st.sampled_from([None, Source(verified, key, 100 * GIB, 0)]))
    bad = source is None or verified not in ("ok", "") or key is not True
    return replace(MINE, source=source), restoring(8, 4), bad


def _copy_memory(draw: Draw) -> Case:
    needed, free, node = draw(st.integers(1, 9)), draw(st.integers(0, 9)), draw(st.sampled_from(NAMES))
    known = draw(maybe)
    state = replace(MINE, free_memory={**dict.fromkeys(NAMES, 30 * GIB), node: free * GIB})
    if not known:
        state = replace(state, free_memory={name: size for name, size in state.free_memory.items() if name != node})
    state = replace(state, source=Source("ok", True, 100 * GIB, 0))
    return state, restoring(8, needed, node), not known or free < needed


def _space(draw: Draw) -> Case:
    used, size = draw(st.integers(0, 100)), draw(st.integers(1, 60))
    total = draw(st.sampled_from([100, 100, 100, None]))
    source = Source("ok", True, total and total * GIB, used * GIB)
    return replace(MINE, source=source), restoring(size, 1), total is None or used + size >= 100 * NEARFULL


def _hung(draw: Draw) -> Case:
    hung = draw(some_guests)
    permitted = draw(st.one_of(st.none(), some_guests))
    stranger = permitted is not None and any(sid not in permitted for sid in hung)
    return replace(HEALTHY, permitted=permitted), replace(NOTHING, hung=hung), stranger


def _never_touch(draw: Draw) -> Case:
    """By whichever way it is reached: with its node, by name, by its writes; or a node itself."""
    shielded = draw(st.sampled_from([*SIDS, *NAMES]))
    nodes = draw(st.one_of(st.just(frozenset[str]()), some_nodes))
    named, hung = draw(some_guests), draw(some_guests)
    homes = {"vm:101": "n1", "vm:102": "n1", "vm:103": "n2"}
    status = {sid: draw(st.sampled_from(["running", "stopped"])) for sid in SIDS}
    there = table(*(guest(sid, homes[sid], status=status[sid]) for sid in SIDS))
    falls = homes.get(shielded) in nodes and status[shielded] == "running"
    state = replace(MINE, guests=there, never_touch=frozenset({shielded}))
    return state, Reach(nodes, guests=named, hung=hung), shielded in nodes | named | hung or falls


def _bystanders(draw: Draw) -> Case:
    permitted, nodes = draw(some_guests), draw(some_nodes)
    homes = {"vm:101": "n1", "vm:102": "n1", "vm:103": "n2"}
    return (
        replace(HEALTHY, permitted=permitted),
        Reach(nodes),
        any(home in nodes and sid not in permitted for sid, home in homes.items()),
    )


def _paused(draw: Draw) -> Case:
    status, home = draw(st.sampled_from(["running", "stopped", "paused", "unknown"])), draw(st.sampled_from(NAMES))
    state = replace(MINE, guests=table(guest("vm:101", home, status=status)))
    return state, ONE, home == "n1" and status in ("paused", "unknown")


def _memory(draw: Draw) -> Case:
    size, left = draw(st.integers(1, 40)), draw(st.lists(st.integers(0, 40), min_size=2, max_size=2))
    state = replace(
        MINE,
        guests=table(guest("vm:101", size=size)),
        free_memory={"n1": 90 * GIB, "n2": left[0] * GIB, "n3": left[1] * GIB},
    )
    return state, ONE, size > max(left)


def _enough(draw: Draw) -> Case:
    nodes = draw(st.sets(st.sampled_from(NAMES), min_size=1).map(frozenset))
    return replace(MINE, guests={}), Reach(nodes), len(nodes) > 1


def _membership_time(draw: Draw) -> Case:
    token, consensus, nodes = draw(st.floats(1, 40)), draw(st.none() | st.floats(1, 60)), draw(maybe)
    wish = replace(ONE, costs_membership=nodes)
    long = token + (1.2 * token if consensus is None else consensus) + 10 >= 50
    return replace(MINE, totem=Totem(token, consensus)), wish, nodes and long


def _maintenance(draw: Draw) -> Case:
    """One that itself falls, or that we have emptied, was meant."""
    there, emptied = draw(some_nodes), draw(st.one_of(st.just(frozenset[str]()), some_nodes))
    return replace(MINE, maintenance=there), replace(ONE, emptied=emptied), bool(there - {"n1"} - emptied)


def _clean(draw: Draw) -> Case:
    clean = draw(maybe)
    return replace(MINE, ceph=replace(CEPH, clean=clean)), ONE, not clean


def _flags(draw: Draw) -> Case:
    flags = draw(st.sets(st.sampled_from(["noout", "norecover", "sortbitwise", "noscrub"])).map(frozenset))
    ours = draw(st.sampled_from([frozenset[str](), frozenset({"noout"})]))
    bad = bool(flags & {"noout", "norecover"} - ours)
    return replace(MINE, ceph=replace(CEPH, flags=flags)), replace(ONE, flags=ours), bad


def _stoppable(draw: Draw) -> Case:
    said = draw(st.sampled_from([True, False, None]))
    return replace(MINE, ceph=replace(CEPH, ok_to_stop=said)), ONE, said is not True


def _room(draw: Draw) -> Case:
    full, bytes_ = draw(st.floats(0.3, 1)), draw(st.sampled_from([0, GIB]))
    assert CEPH.prediction is not None
    told = replace(CEPH.prediction, fullest=full, rebuild_bytes=bytes_)
    return replace(MINE, ceph=replace(CEPH, prediction=told)), ONE, bool(bytes_) and full >= CEPH.backfillfull


def _mons(draw: Draw) -> Case:
    up = draw(st.sets(st.sampled_from(NAMES), min_size=1).map(frozenset))
    return replace(MINE, ceph=replace(CEPH, in_quorum=up)), ONE, len(up - {"n1"}) < 2


def _sight(draw: Draw) -> Case:
    api, ssh = (
        draw(st.sets(st.sampled_from(NAMES)).map(frozenset)),
        draw(st.sets(st.sampled_from(NAMES)).map(frozenset)),
    )
    return replace(MINE, api_answered=api, ssh_answered=ssh), ONE, not api - {"n1"} or not ssh - {"n1"}


def _way(draw: Draw) -> Case:
    """What the victim itself sees does not matter; what another one did not tell does."""
    seen = {name: draw(st.sampled_from(["192.0.2.9", "192.0.2.1", "192.0.2.3", None])) for name in NAMES}
    told = {name: address for name, address in seen.items() if address is not None}
    bad = any(seen[name] in (None, "192.0.2.1") for name in ("n2", "n3"))
    return replace(MINE, seen_from=told), ONE, bad


def _two_halves(draw: Draw) -> Case:
    mode, splits = draw(maybe), draw(maybe)
    votes = Votes(True, 2, 2, 1 if mode else 2, frozenset({"2Node"} if mode else ()))
    state = replace(TWO, counted=all_say(votes, "n1", "n2"))
    return state, Reach(frozenset({"n1"}), splits=splits), mode and splits


def _override(draw: Draw) -> Case:
    expected = draw(st.integers(1, 5))
    state = replace(MINE, counted={**MINE.counted, "n3": Votes(True, expected, 3, 2)})
    return state, ONE, expected != 3


def _config(draw: Draw) -> Case:
    texts = {name: draw(st.sampled_from(["version: 3", "version: 2", None])) for name in NAMES}
    shared = draw(st.sampled_from(["version: 3", None]))
    configs = {name: text for name, text in texts.items() if text is not None}
    state = replace(MINE, configs=configs, shared_config=shared)
    return state, ONE, shared is None or any(text != shared for text in texts.values())


def _brief(draw: Draw) -> Case:
    token, seconds = draw(st.floats(1, 10)), draw(st.floats(1, 60))
    left = 50 - 1.2 * token - 4 - 2
    return replace(MINE, totem=Totem(token)), replace(ONE, brief=seconds), seconds > left


def _armed(draw: Draw) -> Case:
    armed = draw(st.sampled_from([True, False, None]))
    return replace(MINE, armed=armed), ONE, armed is not True


def _busy(draw: Draw) -> Case:
    kind = draw(st.sampled_from(["vzdump", "qmigrate", "vncproxy", "aptupdate"]))
    lock = draw(st.sampled_from(["", "suspended", "backup", "some-new-lock"]))
    word = draw(st.sampled_from(["started", "stopped", "migrate", "some-new-state"]))
    state = replace(
        MINE,
        tasks=(RunningTask(kind, "", "n2"),),
        guests=table(guest("vm:103", "n2", lock=lock)),
        unsettled={} if word in SETTLED else {"vm:103": word},
    )
    return (
        state,
        ONE,
        kind in ("vzdump", "qmigrate") or lock not in ("", "suspended") or "-" in word or word == "migrate",
    )


def _given_up(draw: Draw) -> Case:
    word = draw(st.sampled_from(["error", "fence", "recovery"]))
    return replace(MINE, unsettled={"vm:103": word}), ONE, word == "error"


def _clocks(draw: Draw) -> Case:
    """What is left of a difference after both errors; a clock that nobody could read, or nearly."""
    offset, error = draw(st.floats(-4, 4)), draw(st.floats(0.001, 2))
    read = draw(maybe)
    clocks = {**MINE.clocks, "n2": ClockOffset(offset, error)}
    if not read:
        del clocks["n2"]
    bad = not read or error > 1 or abs(offset) - error > 1
    return replace(MINE, clocks={name: each for name, each in clocks.items()} | _exact(clocks)), ONE, bad


def _exact(clocks: dict[str, ClockOffset]) -> dict[str, ClockOffset]:
    """The others agree with ours to the nanosecond: the figures drawn are all there is."""
    return {name: ClockOffset(0.0, 0.0) for name in clocks if name != "n2"}


def _controller(draw: Draw) -> Case:
    ours = draw(st.sampled_from([None, "vm:900"]))
    return replace(MINE, controller_guest=ours), ONE, ours is not None


def _privileges(draw: Draw) -> Case:
    lacks = draw(st.sampled_from(["", "Sys.Audit", "Sys.Console", "VM.Audit", "VM.PowerMgmt"]))
    has = {
        path: {name: below for name, below in each.items() if name != lacks} for path, each in MINE.privileges.items()
    }
    return replace(MINE, privileges=has), ONE, bool(lacks)


def _watchdog(draw: Draw) -> Case:
    node, unit = (
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(["watchdog-mux", "watchdog-mux.service", "corosync"])),
    )
    clients = draw(st.sampled_from([{}, {node: True}, {node: False}]))
    meant = draw(maybe)
    wish = Reach(frozenset({node}), units=frozenset({(node, unit)}), resets=frozenset({node} if meant else ()))
    return replace(MINE, watchdog_clients=clients), wish, unit != "corosync" and not meant and clients != {node: False}


RULES: dict[str, Callable[[Draw], Case]] = {
    each.__name__.removeprefix("_"): each
    for each in (
        _restorable, _copy_memory, _space, _hung, _never_touch, _bystanders, _paused, _memory, _enough,
        _membership_time, _maintenance, _clean, _flags, _stoppable, _room, _mons, _sight, _way, _two_halves, _override,
        _config, _brief, _armed, _busy, _given_up, _clocks, _controller, _privileges, _watchdog,
    )
}  # fmt: skip


def test_no_rule_is_left_out() -> None:
    """Every rule of the interlock has its random sites here."""
    assert RULES.keys() == {rule.__name__ for rule in interlock.RULES}


@pytest.mark.parametrize("name", RULES)
def test_the_rule_refuses_what_it_must_and_nothing_else(name: str) -> None:
    """On random sites with random figures it objects exactly where harm would come; and both were among them."""
    rule = next(rule for rule in interlock.RULES if rule.__name__ == name)
    seen: set[bool] = set()

    @tries(60)
    @given(st.composite(RULES[name])())
    def on_each(case: Case) -> None:
        state, wish, refused = case
        seen.add(refused)
        assert (rule(state.without(wish.nodes), wish) is not None) is refused
        if refused:
            assert objections(state, wish) != []

    on_each()
    assert seen == {True, False}, "one of the two was never drawn, so it is not proven"
