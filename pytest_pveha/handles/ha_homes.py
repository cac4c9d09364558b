"""Where HA brings a service back to by itself once all nodes are there. Pure, from the rules as they were read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pytest_pveha.handles.cluster import Rules

NOWHERE: frozenset[str] = frozenset()
"""It stays where it is."""


def homes(rules: Rules, nodes: Collection[str]) -> dict[str, frozenset[str]]:
    """Each service's homes: the nodes of the highest priority in its node affinity or group, if it fails back.

    One that must be with, or away from, others may be sent anywhere: all nodes are its homes.
    Source: PVE Administration Guide, "HA Rules" and "Groups"; failback is on unless said (``failback 0``, before PVE 9
    ``nofailback 1`` of the group).
    """
    found = {sid: _of_group(rules, resource) for sid, resource in rules.resources.items()}
    for rule in (rules.rules or {}).values():
        if _on(rule.get("disable", "")):
            continue
        for sid in _words(rule.get("resources", "")):
            if sid not in rules.resources:
                continue
            if rule.get("type") != "node-affinity":
                found[sid] = frozenset(nodes)
            elif _on(rules.resources[sid].get("failback", "1")) and found[sid] != frozenset(nodes):
                found[sid] = _best(rule.get("nodes", ""))
    return {sid: each & frozenset(nodes) for sid, each in found.items()}


def _of_group(rules: Rules, resource: Mapping[str, str]) -> frozenset[str]:
    group = (rules.groups or {}).get(resource.get("group", ""))
    if group is None or _on(group.get("nofailback", "")):
        return NOWHERE
    return _best(group.get("nodes", ""))


def _best(nodes: str) -> frozenset[str]:
    """The names with the highest priority in ``n1:2,n2``; 0 unless said."""
    priorities = {word.partition(":")[0]: int(word.partition(":")[2] or 0) for word in _words(nodes)}
    return frozenset(name for name, priority in priorities.items() if priority == max(priorities.values()))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _on(value: str) -> bool:
    return value in ("1", "True", "true")
