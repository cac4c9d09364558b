"""Rules: on which nodes a service may be, and with whom. Pure; PVE 8's groups are read as rules.

A rule is what the API shows: ``resources`` a comma list of sids, ``nodes`` one of ``node`` or ``node:priority``.
Source: pve-ha-manager 5.2, Rules/*.pm and Groups.pm (behaviour and error texts); its rules_cfgs tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from pytest_pveha.sim.world.model import Facts

NODE, RESOURCE = "node-affinity", "resource-affinity"
_OUTSIDE = -1
"""Priority of the nodes that a rule which is not strict does not name."""

Problems = dict[str, dict[str, list[str]]]
"""By rule and key: what is wrong with it."""


def listed(text: str) -> list[str]:
    """The words of a comma list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def priorities(text: str) -> dict[str, int]:
    """Nodes and their priority, 0 unless said."""
    found = {}
    for word in listed(text):
        node, _, priority = word.partition(":")
        found[node] = int(priority or 0)
    return found


@dataclass(frozen=True, slots=True)
class Compiled:
    """The rules that are in force, by service."""

    nodes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For a service under a node affinity: the nodes it may use, and their priority."""
    together: Mapping[str, frozenset[str]] = field(default_factory=dict)
    apart: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def allowed(self, sid: str, online: Iterable[str]) -> set[str]:
        """The online nodes on which that service may be."""
        return set(online) & self.nodes[sid].keys() if sid in self.nodes else set(online)

    def preferred(self, sid: str, online: Iterable[str]) -> set[str]:
        """Those of the allowed online nodes that have the highest priority."""
        allowed = self.allowed(sid, online)
        if sid not in self.nodes or not allowed:
            return allowed
        best = max(self.nodes[sid][node] for node in allowed)
        return {node for node in allowed if self.nodes[sid][node] == best}


def compiled(rules: Mapping[str, Facts], nodes: Iterable[str]) -> tuple[Compiled, list[str]]:
    """The rules in force, and a line for each that was dropped because it cannot be kept."""
    every = sorted(nodes)
    wrong = problems(rules, every)
    said = [
        f"Drop rule '{name}', because {text}."
        for name in sorted(wrong)
        for texts in wrong[name].values()
        for text in texts
    ]
    kept = {name: rule for name, rule in rules.items() if name not in wrong and not rule.get("disable")}
    bundles = _bundles(kept)
    where = _node_affinity(kept, every, bundles)
    together = {sid: frozenset(bundle - {sid}) for sid, bundle in bundles.items()}
    return Compiled(where, together, _apart(kept, bundles)), said


def _of_kind(rules: Mapping[str, Facts], kind: str, affinity: str | None = None) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(listed(rule["resources"]))
        for name, rule in sorted(rules.items())
        if rule["type"] == kind and affinity in (None, rule.get("affinity"))
    }


def _bundles(rules: Mapping[str, Facts]) -> dict[str, set[str]]:
    """For each service in a positive rule: all it must be with. Rules that share a service are one."""
    bundles: dict[str, set[str]] = {}
    for resources in _of_kind(rules, RESOURCE, "positive").values():
        joined = set(resources).union(*(bundles.get(sid, set()) for sid in resources))
        for sid in joined:
            bundles[sid] = joined
    return bundles


def _node_affinity(
    rules: Mapping[str, Facts], every: list[str], bundles: Mapping[str, set[str]]
) -> dict[str, Mapping[str, int]]:
    where: dict[str, Mapping[str, int]] = {}
    for name, resources in _of_kind(rules, NODE).items():
        rule = rules[name]
        nodes = priorities(rule["nodes"])
        if not rule.get("strict"):
            nodes = dict.fromkeys(every, _OUTSIDE) | nodes
        where |= dict.fromkeys(resources, nodes)
    # what holds for one of a bundle holds for all of it
    ruled = dict(where)
    for sid, bundle in bundles.items():
        of_partners = [ruled[partner] for partner in sorted(bundle) if partner in ruled]
        if sid not in ruled and of_partners:
            where[sid] = of_partners[0]
    return where


def _apart(rules: Mapping[str, Facts], bundles: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    apart: dict[str, set[str]] = {}
    for resources in _of_kind(rules, RESOURCE, "negative").values():
        for one, other in combinations(sorted(resources), 2):
            for here in bundles.get(one, {one}):
                for there in bundles.get(other, {other}):
                    apart.setdefault(here, set()).add(there)
                    apart.setdefault(there, set()).add(here)
    return {sid: frozenset(others) for sid, others in apart.items()}


def problems(rules: Mapping[str, Facts], nodes: Iterable[str]) -> Problems:
    """Why rules cannot be kept, by rule and key; rules that are disabled are not looked at."""
    rules = {name: rule for name, rule in rules.items() if not rule.get("disable")}
    count = len(list(nodes))
    found: Problems = {}

    def wrong(name: str, text: str) -> None:
        texts = found.setdefault(name, {}).setdefault("resources", [])
        if text not in texts:
            texts.append(text)

    by_node = _of_kind(rules, NODE)
    positive, negative = _of_kind(rules, RESOURCE, "positive"), _of_kind(rules, RESOURCE, "negative")
    for one, other in combinations(by_node, 2):
        for sid in sorted(by_node[one] & by_node[other]):
            for name in (one, other):
                wrong(name, f"resource '{sid}' is already used in another node affinity rule")
    for name, resources in (positive | negative).items():
        if len(resources) < 2:
            wrong(name, "rule is ineffective as there are less than two resources")
    for name, resources in negative.items():
        if len(resources) > count:
            wrong(name, "rule defines more resources than available nodes")
        for other, partners in positive.items():
            if len(resources & partners) >= 2:
                wrong(name, "rule shares two or more resources with a positive resource affinity rule")
                wrong(other, "rule shares two or more resources with a negative resource affinity rule")
    for name, resources in by_node.items():
        if len(set(priorities(rules[name]["nodes"]).values())) < 2:
            continue
        for other, partners in (positive | negative).items():
            if resources & partners:
                wrong(
                    name,
                    "resources are in a resource affinity rule and cannot be in a node affinity rule with multiple "
                    "priorities",
                )
                wrong(other, "resources are in node affinity rules with multiple priorities")
    return found


def groups_as_rules(groups: Mapping[str, Facts], resources: Mapping[str, Facts]) -> dict[str, Facts]:
    """The groups that have members, as the node affinity rules they mean and are migrated to."""
    found: dict[str, Facts] = {}
    for name, group in sorted(groups.items()):
        members = sorted(sid for sid, resource in resources.items() if resource.get("group") == name)
        if members:
            found[f"ha-group-{name}"] = {
                "rule": f"ha-group-{name}",
                "type": NODE,
                "resources": ",".join(members),
                "nodes": group["nodes"],
                "comment": group.get("comment") or f"Generated from HA group '{name}'.",
                **({"strict": 1} if group.get("restricted") else {}),
            }
    return found


def failback(sid: str, resources: Mapping[str, Facts], groups: Mapping[str, Facts]) -> bool:
    """Whether that service goes home to a better node by itself."""
    resource = resources[sid]
    if group := groups.get(resource.get("group", "")):
        return not group.get("nofailback")
    return bool(resource.get("failback", 1))
