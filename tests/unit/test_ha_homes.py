"""Where HA brings a service back to by itself: rules of PVE 9, groups before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.handles.cluster import Rules
from pytest_pveha.handles.ha_homes import company, homes, places_after, rightful, stays, together

NODES = ("n1", "n2", "n3")


def rule(nodes: str, **more: str) -> dict[str, str]:
    """A node affinity of vm:101."""
    return {"type": "node-affinity", "resources": "vm:101", "nodes": nodes, **more}


def of(rules: dict[str, dict[str, str]] | None, **resource: str) -> list[str]:
    """The homes of vm:101."""
    return sorted(homes(Rules(rules, None, {"vm:101": resource}), NODES)["vm:101"])


def test_the_highest_priority_is_home() -> None:
    """Of equal ones each is; a node that does not exist is none; strict or not makes no difference."""
    assert of({"r": rule("n1:1,n2:2,n3:2")}) == ["n2", "n3"]
    assert of({"r": rule("n1,n2", strict="1")}) == ["n1", "n2"]
    assert of({"r": rule("n9:3,n1:1")}) == ["n1"]


def test_without_failback_it_stays() -> None:
    """No rule, failback off, or a disabled rule: there is no home."""
    assert of(None) == []
    assert of({"r": rule("n1:1")}, failback="0") == []
    assert of({"r": rule("n1:1", disable="1")}) == []


def test_with_others_it_may_be_anywhere() -> None:
    """A resource affinity sends it wherever the others are, or are not."""
    both = {"a": {"type": "resource-affinity", "resources": "vm:101,vm:102"}, "b": rule("n1:1")}
    assert of(both) == list(NODES)
    assert of(dict(reversed(both.items()))) == list(NODES)


def test_a_move_to_a_lower_priority_does_not_last() -> None:
    """With failback only the best nodes keep a guest that is sent there, strict or not; without, all it may be on."""

    def kept(rules: dict[str, dict[str, str]] | None, **resource: str) -> set[str]:
        return set(stays(Rules(rules, None, {"vm:101": resource}), NODES, "vm:101"))

    assert kept({"r": rule("n1:2,n2:1")}) == {"n1"}
    assert kept({"r": rule("n1:2,n2:1", strict="1")}) == {"n1"}
    assert kept({"r": rule("n1:2,n2:1", strict="1")}, failback="0") == {"n1", "n2"}
    assert kept({"r": rule("n1:1,n2:1", strict="1")}) == {"n1", "n2"}
    assert kept(None) == set(NODES)


PAIR = {"type": "resource-affinity", "resources": "vm:101,vm:102", "affinity": "positive"}
BOTH: dict[str, dict[str, str]] = {"vm:101": {}, "vm:102": {}, "vm:103": {}}


def test_partners_have_the_homes_of_any_of_them() -> None:
    """None without a node affinity: they stay where they are. Without failback of the one that has it: anywhere."""
    alone = homes(Rules({"p": PAIR}, None, BOTH), NODES)
    assert alone == {"vm:101": set(), "vm:102": set(), "vm:103": set()}
    ruled = homes(Rules({"p": PAIR, "b": rule("n1:1")}, None, BOTH), NODES)
    assert ruled == {"vm:101": {"n1"}, "vm:102": {"n1"}, "vm:103": set()}
    off = homes(Rules({"p": PAIR, "b": rule("n1:1")}, None, {**BOTH, "vm:101": {"failback": "0"}}), NODES)
    assert off == {"vm:101": set(NODES), "vm:102": set(NODES), "vm:103": set()}


def test_rules_that_share_a_guest_are_one() -> None:
    """Disabled ones, and those of one guest, keep nobody together."""
    more = {"type": "resource-affinity", "resources": "vm:102,vm:103", "affinity": "positive"}
    assert together(Rules({"p": PAIR, "q": more}, None, BOTH)) == (frozenset(BOTH),)
    assert together(Rules({"p": PAIR | {"disable": "1"}}, None, BOTH)) == ()
    assert together(Rules({"p": PAIR}, None, {"vm:101": {}})) == ()
    assert together(Rules({"p": PAIR | {"affinity": "negative"}}, None, BOTH)) == ()


def test_who_comes_back_to_a_node_that_was_emptied() -> None:
    """All but partners without a home of their own, and those that do not fail back."""
    assert places_after(Rules({}, None, BOTH), NODES, "n2") == {sid: {"n2"} for sid in BOTH}
    pair = places_after(Rules({"p": PAIR}, None, BOTH), NODES, "n2")
    assert pair == {"vm:101": set(NODES), "vm:102": set(NODES), "vm:103": {"n2"}}
    ruled = places_after(Rules({"p": PAIR, "b": rule("n2")}, None, BOTH), NODES, "n2")
    assert ruled == {sid: {"n2"} for sid in BOTH}
    off = places_after(Rules({}, None, {**BOTH, "vm:103": {"failback": "0"}}), NODES, "n2")
    assert off["vm:103"] == set(NODES)
    groups = {"stay": {"nodes": "n2", "nofailback": "1"}}
    eight = places_after(Rules(None, groups, {"vm:101": {"group": "stay"}, "vm:102": {}}), NODES, "n2")
    assert eight == {"vm:101": set(NODES), "vm:102": {"n2"}}


def test_a_group_is_a_rule() -> None:
    """Before PVE 9: its nodes by priority, unless it does not fail back."""
    groups = {"g": {"nodes": "n1:1,n3:2"}, "stay": {"nodes": "n1", "nofailback": "1"}}
    found = homes(Rules(None, groups, {"vm:101": {"group": "g"}, "vm:102": {"group": "stay"}, "vm:103": {}}), NODES)
    assert found == {"vm:101": {"n3"}, "vm:102": set(), "vm:103": set()}


@given(st.dictionaries(st.sampled_from(NODES), st.integers(0, 9), min_size=1))
def test_homes_are_members_of_the_rule(priorities: dict[str, int]) -> None:
    """Whatever the priorities: a home is named, and none is better."""
    found = of({"r": rule(",".join(f"{node}:{priority}" for node, priority in priorities.items()))})
    assert found
    assert {priorities[node] for node in found} == {max(priorities.values())}


def may(rules: dict[str, dict[str, str]], online: tuple[str, ...]) -> list[str] | None:
    """Where vm:101 may be while these nodes are online; None: anywhere."""
    found = rightful(Rules(rules, None, {"vm:101": {}}), online).get("vm:101")
    return None if found is None else sorted(found)


def test_while_nodes_are_away_the_best_of_the_others_is_right() -> None:
    """Of those online the highest priority; with none of them a strict rule allows no node, another one all."""
    wanted = {"r": rule("n1:3,n2:2,n3:1")}
    assert may(wanted, NODES) == ["n1"]
    assert may(wanted, ("n2", "n3")) == ["n2"]
    assert may({"r": rule("n1")}, ("n2", "n3")) == ["n2", "n3"]
    assert may({"r": rule("n1", strict="1")}, ("n2", "n3")) == []
    assert may({"r": rule("n1", disable="1")}, NODES) is None


def test_company_may_outweigh_a_preference() -> None:
    """Who must keep away from another may be on a second-best node of a strict rule, and on any of another one."""
    apart = {"type": "resource-affinity", "affinity": "negative", "resources": "vm:101,vm:102"}
    assert may({"a": apart, "r": rule("n1:2,n2:1", strict="1")}, NODES) == ["n1", "n2"]
    assert may({"a": apart, "r": rule("n1:2,n2:1")}, NODES) == ["n1", "n2", "n3"]


def test_groups_bind_as_rules_do() -> None:
    """A restricted group is strict."""
    rules = Rules(None, {"g": {"nodes": "n1:2,n2:1", "restricted": "1"}}, {"vm:101": {"group": "g"}})
    assert rightful(rules, ("n2", "n3")) == {"vm:101": {"n2"}}
    assert rightful(rules, ("n3",)) == {"vm:101": frozenset()}


def test_company_is_read_in_both_directions() -> None:
    """Together is positive, apart is negative; a disabled rule is none."""
    rows = {
        "a": {"type": "resource-affinity", "affinity": "positive", "resources": "vm:101,vm:102"},
        "b": {"type": "resource-affinity", "affinity": "negative", "resources": "vm:103, vm:104"},
        "c": {"type": "resource-affinity", "affinity": "negative", "resources": "vm:1,vm:2", "disable": "1"},
    }
    assert company(Rules(rows, None, {})) == [
        (True, frozenset({"vm:101", "vm:102"})),
        (False, frozenset({"vm:103", "vm:104"})),
    ]
