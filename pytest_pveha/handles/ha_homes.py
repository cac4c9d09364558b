"""Where HA's rules want a service: at home once all nodes are there, and where it may be while some are not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pytest_pveha.handles.cluster import Rules

NOWHERE: frozenset[str] = frozenset()
"""It stays where it is."""


def homes(rules: Rules, nodes: Collection[str]) -> dict[str, frozenset[str]]:
    """Each service's homes: the nodes of the highest priority in its node affinity or group, if it fails back.

    Those that are kept together have the homes of any of them. One that must be away from others may be sent anywhere:
    all nodes are its homes.
    Source: PVE Administration Guide, "HA Rules" and "Groups"; failback is on unless said (``failback 0``, before PVE 9
    ``nofailback 1`` of the group).
    """
    found = {sid: _of_group(rules, resource, nodes) for sid, resource in rules.resources.items()}
    best: dict[str, frozenset[str]] = {}
    anywhere: set[str] = set()
    for rule in rules.followed.values():
        named = [sid for sid in _words(rule.get("resources", "")) if sid in rules.resources]
        if rule.get("type") == "node-affinity":
            best |= dict.fromkeys(named, _best(rule.get("nodes", ""), nodes))
        elif rule.get("affinity") != "positive":
            anywhere |= set(named)
    found |= {sid: each for sid, each in best.items() if _fails_back(rules, sid)}
    for bundle in together(rules):
        ruled = [sid for sid in sorted(bundle) if sid in best]
        if anywhere & bundle or not all(_fails_back(rules, sid) for sid in bundle if ruled):
            anywhere |= bundle
        found |= dict.fromkeys(bundle, frozenset().union(*(best[sid] for sid in ruled)))
    found |= dict.fromkeys(anywhere, frozenset(nodes))
    return {sid: each & frozenset(nodes) for sid, each in found.items()}


def stays(rules: Rules, nodes: Collection[str], sid: str) -> frozenset[str]:
    """The nodes on which the service may be, and from which HA does not take it home at once, while all are there.

    A move to a node of lower priority is made, and taken back in the same round of the manager's.
    Source: PVE Administration Guide, "HA Groups", nofailback; measured with pve-ha-manager 5.2.
    """
    allowed = rules.candidates().get(sid, frozenset(nodes))
    return allowed & (homes(rules, nodes).get(sid) or allowed)


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
        for rule in rules.followed.values()
        if rule.get("type") == "resource-affinity"
    ]


def _bound(rules: Rules) -> list[tuple[str, str, bool]]:
    """Each service bound to nodes, by a rule or a group: the nodes with their priorities, and whether it is strict."""
    found = []
    for rule in rules.followed.values():
        if rule.get("type") == "node-affinity":
            strict = _on(rule.get("strict", ""))
            found += [(sid, rule.get("nodes", ""), strict) for sid in _words(rule.get("resources", ""))]
    for sid, resource in rules.resources.items():
        if group := (rules.groups or {}).get(resource.get("group", "")):
            found.append((sid, group.get("nodes", ""), _on(group.get("restricted", ""))))
    return found


def together(rules: Rules) -> tuple[frozenset[str], ...]:
    """The services that are kept on one node, whichever: positive resource affinities, joined where they share one."""
    bundles: list[frozenset[str]] = []
    for positive, sids in company(rules):
        if positive:
            named = sids & rules.resources.keys()
            touched = [bundle for bundle in bundles if bundle & named]
            bundles = [bundle for bundle in bundles if not bundle & named] + [named.union(*touched)]
    return tuple(bundle for bundle in bundles if len(bundle) > 1)


def places_after(rules: Rules, nodes: Collection[str], left: str) -> dict[str, frozenset[str]]:
    """Where each service that left that node before it went may rightly be, once it is back.

    HA brings them back to where they were, except those that do not fail back, and those that are kept together: the
    partners' node comes before the way back, so the first finds the others elsewhere and stays, and so do they.
    Source: measured with pve-ha-manager 5.2 and its own tester: maintenance, and reboot under ``migrate``.
    """
    bundled = frozenset().union(*together(rules))
    own = homes(rules, nodes)
    found = {}
    for sid in rules.resources:
        if sid in bundled:
            found[sid] = own[sid] or frozenset(nodes)
        else:
            found[sid] = frozenset([left]) if _fails_back(rules, sid) else frozenset(nodes)
    return found


def strangers(rules: Rules, nodes: Collection[str]) -> list[tuple[str, frozenset[str]]]:
    """Each rule in force, or group in use, that names nodes that there are not; and which."""
    named = {f"rule {name}": rule for name, rule in rules.followed.items()}
    used = {resource.get("group", "") for resource in rules.resources.values()}
    named |= {f"group {name}": group for name, group in (rules.groups or {}).items() if name in used}
    found = {what: _priorities(each.get("nodes", "")).keys() - set(nodes) for what, each in sorted(named.items())}
    return [(what, frozenset(lost)) for what, lost in found.items() if lost]


def _fails_back(rules: Rules, sid: str) -> bool:
    """Whether it leaves a node that will do for a better one by itself."""
    resource = rules.resources[sid]
    if (group := (rules.groups or {}).get(resource.get("group", ""))) is not None:
        return not _on(group.get("nofailback", ""))
    return _on(resource.get("failback", "1"))


def _of_group(rules: Rules, resource: Mapping[str, str], there: Collection[str]) -> frozenset[str]:
    group = (rules.groups or {}).get(resource.get("group", ""))
    if group is None or _on(group.get("nofailback", "")):
        return NOWHERE
    return _best(group.get("nodes", ""), there)


def _best(nodes: str, there: Collection[str]) -> frozenset[str]:
    """The names with the highest priority in ``n1:2,n2``, of those that there are."""
    priorities = {name: priority for name, priority in _priorities(nodes).items() if name in there}
    return frozenset(name for name, priority in priorities.items() if priority == max(priorities.values()))


def _priorities(nodes: str) -> dict[str, int]:
    """Name → priority, 0 unless said."""
    return {word.partition(":")[0]: int(word.partition(":")[2] or 0) for word in _words(nodes)}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _on(value: str) -> bool:
    return value in ("1", "True", "true")
