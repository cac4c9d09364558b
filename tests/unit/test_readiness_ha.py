"""What the gate asks of corosync's times, of HA's rules and of its services, one answer at a time."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.clock import Instant
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, Unreachable
from pytest_pveha.handles.cluster import Asked, Cluster, Manager, Rules, Service, Totem
from pytest_pveha.handles.corosync import Ring
from pytest_pveha.handles.ha_homes import homes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer
from pytest_pveha.observe.observer import Observer
from pytest_pveha.readiness.checks import CHECKS
from pytest_pveha.readiness.silent import each_node_asked

NODES = ("n1", "n2", "n3")
CLOCK = SimpleNamespace(deadline=lambda seconds: SimpleNamespace(remaining=lambda: seconds))


def ask(name: str, **site: Any) -> Answer:
    check = next(check for check in CHECKS if check.name == name)
    return check.ask(cast("Observer", SimpleNamespace(site=SimpleNamespace(clock=CLOCK, **site), **site)))


def said(token: int, consensus: int) -> str:
    """As corosync-cmapctl of a PVE 9.2 node prints it, with neighbours that begin alike."""
    return (
        f"runtime.config.totem.consensus (u32) = {consensus}\nruntime.config.totem.token (u32) = {token}\n"
        "runtime.config.totem.token_retransmit (u32) = 869\nruntime.config.totem.token_warning (u32) = 75\n"
    )


def times(consensus: float | None = None, **texts: str) -> Answer:
    nodes = [SimpleNamespace(name=name, command=lambda *words, text=text: text) for name, text in texts.items()]
    cluster = SimpleNamespace(
        votes=lambda deadline: dict.fromkeys(NODES, 1),
        totem=lambda deadline, count: Totem(3.65 if count == 3 else 0, consensus),
    )
    return ask("times", nodes=nodes, cluster=cluster)


def test_a_ring_by_its_configuration_is_fit() -> None:
    """Three nodes with 3.65 s of token and 4.38 s of consensus are what the configuration makes of three nodes."""
    answer = times(**dict.fromkeys(NODES, said(3650, 4380)))
    assert answer.verdict == "yes"
    assert "3.65" in answer.saw


def test_a_consensus_of_its_own_is_reckoned_with() -> None:
    """Where totem.consensus is configured it counts, in the bounds of a cut too."""
    assert times(10.0, **dict.fromkeys(NODES, said(3650, 10000))).verdict == "yes"
    assert times(10.0, **dict.fromkeys(NODES, said(3650, 4380))).verdict == "no"
    assert (Ring(3.65, agreement=10.0).consensus, Ring(3.65).consensus) == (10.0, 1.2 * 3.65)


@pytest.mark.parametrize("other", [said(60000, 72000), said(3650, 20000), said(1000, 1200)])
def test_a_node_that_waits_otherwise_for_the_token_is_named(other: str) -> None:
    """A node that waits longer than the others is quorate for longer: its watchdog may come too late."""
    answer = times(n1=said(3650, 4380), n2=other, n3=said(3650, 4380))
    assert answer.verdict == "no"
    assert "n2 runs with token" in answer.saw
    assert "n1" not in answer.saw.partition(": ")[2]


def services(**states: str) -> Answer:
    rows = {sid.replace("_", ":"): Service(state, "n1", True) for sid, state in states.items()}
    now = Instant(0, 0)
    manager = Manager("n1", 0, {}, rows, {}, True, Asked(now, now, "n1"))
    sids = ("vm:101", "vm:102")
    check = next(check for check in CHECKS if check.name == "services")
    site = SimpleNamespace(guests=SimpleNamespace(sids=sids))
    return check.ask(
        cast("Observer", SimpleNamespace(site=site, look=lambda: SimpleNamespace(manager=manager, trouble="")))
    )


@pytest.mark.parametrize(
    ("states", "verdict", "word"),
    [
        ({"vm_101": "started", "vm_102": "started"}, "yes", "2 services"),
        ({"vm_101": "started", "vm_102": "ignored"}, "no", "vm:102 is ignored, so HA does nothing for it"),
        ({"vm_101": "started", "vm_102": "disabled"}, "no", "vm:102 is disabled"),
        ({"vm_101": "started", "vm_102": "error"}, "no", "vm:102 error"),
        ({"vm_101": "started"}, "no", "vm:102 is not managed by HA"),
        # not in the inventory: somebody's wish
        ({"vm_101": "started", "vm_102": "started", "vm_103": "ignored"}, "yes", "3 services"),
    ],
)
def test_a_guest_that_matters_is_in_the_hands_of_ha(states: dict[str, str], verdict: str, word: str) -> None:
    """A guest that is started with its node only, or that HA was told to leave alone, would stay down."""
    answer = services(**states)
    assert answer.verdict == verdict
    assert word in answer.saw


def ruled(**rule: str) -> Rules:
    return Rules({"ha-rule-1": {"type": "node-affinity", "resources": "vm:101", **rule}}, None, {"vm:101": {}})


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ({"nodes": "n1:2,n2"}, "yes"),
        ({"nodes": "n1:2,n9:3"}, "no"),
        ({"nodes": "n9", "disable": "1"}, "yes"),
    ],
)
def test_a_rule_for_a_node_that_is_not_there_is_named(rule: Mapping[str, str], verdict: str) -> None:
    """A node that was taken out, or misspelt, in a rule that is in force."""
    cluster = SimpleNamespace(ha_rules=lambda deadline: ruled(**rule))
    answer = ask("rules", cluster=cluster, nodes=SimpleNamespace(names=NODES))
    assert answer.verdict == verdict
    if verdict == "no":
        assert "rule ha-rule-1 names n9, which is not there" in answer.saw


def test_a_group_for_a_node_that_is_not_there_is_named_where_it_is_used() -> None:
    """Before PVE 9; a group that no service is in binds nobody."""
    groups = {"old": {"nodes": "n9"}, "used": {"nodes": "n8,n1"}}
    rules = Rules(None, groups, {"vm:101": {"group": "used"}})
    cluster = SimpleNamespace(ha_rules=lambda deadline: rules)
    answer = ask("rules", cluster=cluster, nodes=SimpleNamespace(names=NODES))
    assert (answer.verdict, answer.saw) == ("no", "group used names n8, which is not there")


def test_a_rule_that_ha_leaves_aside_is_named_and_binds_nobody() -> None:
    """As PVE 9.2 tells a rule that contradicts another one: it is there, not disabled, and not followed."""
    row = {
        "rule": "ha-rule-1",
        "type": "node-affinity",
        "resources": "vm:101",
        "nodes": "n1",
        "strict": 1,
        "digest": "0",
        "order": 1,
        "errors": {"resources": ["resource 'vm:101' is already used in another node affinity rule"]},
    }
    tables = {"/cluster/ha/rules": [row], "/cluster/ha/groups": [], "/cluster/ha/resources": [{"sid": "vm:101"}]}
    api = SimpleNamespace(get=lambda path, **asked: SimpleNamespace(value=tables[path]))
    rules = Cluster(cast("Any", api)).ha_rules(cast("Any", None))
    assert rules.candidates() == {}
    assert homes(rules, NODES) == {"vm:101": frozenset()}
    answer = ask("rules", cluster=SimpleNamespace(ha_rules=lambda deadline: rules), nodes=SimpleNamespace(names=NODES))
    assert answer.verdict == "no"
    assert "HA does not follow rule ha-rule-1: resource 'vm:101' is already used" in answer.saw


def test_home_is_the_best_node_that_there_is() -> None:
    """HA takes a guest to the best of the nodes that live, so one that is not there is nobody's home."""
    assert homes(ruled(nodes="n1:2,n9:3,n2:1"), NODES) == {"vm:101": frozenset({"n1"})}


class Silent:
    """A connection on which nobody answers, or we are not let in."""

    def __init__(self, error: SiteError) -> None:
        self.asked = 0
        self.error = error

    def run(self, line: str, *, deadline: object, **how: object) -> object:
        del line, deadline, how
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "times"), [(Unreachable("n1: no"), 1), (AuthRefused("n1: no"), 1), (ProtocolError("n1: no"), 4)]
)
def test_a_silent_node_is_waited_for_once(error: SiteError, times: int) -> None:
    """Every later question fails at once and with the same words; afterwards it is asked again.

    One that answered, though not with a boot id, is asked on.
    """
    line = Silent(error)
    node = Node("n1", cast("Any", line), None, cast("Any", CLOCK), ())
    clock = SimpleNamespace(deadline=CLOCK.deadline, spawn=lambda name, body: SimpleNamespace(join=body))
    observer = cast("Observer", SimpleNamespace(site=SimpleNamespace(clock=clock, nodes=[node])))
    with each_node_asked(observer) as said_by, each_node_asked(observer):
        assert said_by["n1"] is error
        for _ in range(3):
            with pytest.raises(type(error), match="n1: no"):
                node.host_name(cast("Any", None))
        assert line.asked == times + (times > 1)  # the nested look asks that one, too
    with pytest.raises(type(error)):
        node.host_name(cast("Any", None))
    assert line.asked == times + (times > 1) + 1
