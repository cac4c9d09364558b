"""Where HA brings a service back to by itself: rules of PVE 9, groups before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.handles.cluster import Rules
from pytest_pveha.handles.ha_homes import homes

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
    assert of({"r": rule("n9:3,n1:1")}) == []


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
