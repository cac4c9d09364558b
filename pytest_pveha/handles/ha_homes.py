"""Where HA's rules want a service: at home once all nodes are there, and where it may be while some are not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

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


def rightful(rules: Rules, online: Iterable[str]) -> dict[str, frozenset[str]]:
    """The nodes on which each service bound to nodes may be, while these are online; one that is not bound is left out.

    Those of the highest priority that is online; any node where a rule that is not strict has none online. A service
    that also keeps company may have had to make way for it: any node of its rule will do.
    Source: PVE Administration Guide, "Node Affinity Rules", "Resource Affinity Rules" and "Groups".
    """
    there, found = frozenset(online), {}
    kept = {sid for _, sids in company(rules) for sid in sids}
    for sid, nodes, strict in _bound(rules):
        ranked = {name: priority for name, priority in _priorities(nodes).items() if name in there}
        if not ranked:
            found[sid] = frozenset[str]() if strict else there
        elif sid in kept:
            found[sid] = frozenset(ranked) if strict else there
        else:
            found[sid] = frozenset(name for name, priority in ranked.items() if priority == max(ranked.values()))
    return found


def company(rules: Rules) -> list[tuple[bool, frozenset[str]]]:
    """Each rule of services among themselves: whether it keeps them together (else apart), and whom."""
    return [
        (rule.get("affinity") == "positive", frozenset(_words(rule.get("resources", ""))))
        for rule in (rules.rules or {}).values()
        if rule.get("type") == "resource-affinity" and not _on(rule.get("disable", ""))
    ]


def _bound(rules: Rules) -> list[tuple[str, str, bool]]:
    """Each service bound to nodes, by a rule or a group: the nodes with their priorities, and whether it is strict."""
    found = []
    for rule in (rules.rules or {}).values():
        if rule.get("type") == "node-affinity" and not _on(rule.get("disable", "")):
            strict = _on(rule.get("strict", ""))
            found += [(sid, rule.get("nodes", ""), strict) for sid in _words(rule.get("resources", ""))]
    for sid, resource in rules.resources.items():
        if group := (rules.groups or {}).get(resource.get("group", "")):
            found.append((sid, group.get("nodes", ""), _on(group.get("restricted", ""))))
    return found


def _of_group(rules: Rules, resource: Mapping[str, str]) -> frozenset[str]:
    group = (rules.groups or {}).get(resource.get("group", ""))
    if group is None or _on(group.get("nofailback", "")):
        return NOWHERE
    return _best(group.get("nodes", ""))


def _best(nodes: str) -> frozenset[str]:
    """The names with the highest priority in ``n1:2,n2``."""
    priorities = _priorities(nodes)
    return frozenset(name for name, priority in priorities.items() if priority == max(priorities.values()))


def _priorities(nodes: str) -> dict[str, int]:
    """Name → priority, 0 unless said."""
    return {word.partition(":")[0]: int(word.partition(":")[2] or 0) for word in _words(nodes)}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _on(value: str) -> bool:
    return value in ("1", "True", "true")
