"""How the site is set: what a run must leave as it was, and what may only be told if it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_pveha.errors import SiteError
from pytest_pveha.handles import leftovers
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.cluster import Rules
from pytest_pveha.observe.ceph_map import ASK, settled, told_by
from pytest_pveha.observe.observer import READ, Observer

UNKNOWN = "unknown"
"""What could not be read."""

NOTHING = "nothing"
"""What was read, and was empty."""

CLEAN, UNCLEAN = "all active+clean", "not all active+clean"

RULES = "HA rules"
_OURS = "ours on "
_OF_RULES = ("HA rule ", "HA group ", "HA resource ")

NODE = 20.0
"""Seconds that reading one node's side may take, its BMC's answer included."""

BETWEEN = "; "

OPTIONS = ("ha", "crs", "fencing", "migration", "max_workers")
"""The datacenter's options that say what HA does."""


def of_the_cluster(observer: Observer) -> dict[str, str]:
    """How HA and Ceph are set, as the API tells it; nothing where there is no Proxmox."""
    site, deadline = observer.site, observer.site.clock.deadline
    found: dict[str, str] = {}
    if not site.cluster.proxmox:
        return found
    try:
        found |= _rules(site.cluster.ha_rules(deadline(READ))) | {RULES: "read"}
    except SiteError:
        found[RULES] = UNKNOWN
    try:
        options = site.cluster.options(deadline(READ), *OPTIONS)
        found |= {f"datacenter option {name}": _text(options.get(name)) for name in OPTIONS}
    except SiteError:
        found |= {f"datacenter option {name}": UNKNOWN for name in OPTIONS}
    try:
        found["HA armed"] = {True: "yes", False: "no", None: UNKNOWN}[site.cluster.armed(deadline(READ))]
        found["in maintenance"] = _list(site.cluster.manager(deadline(READ)).maintenance)
    except SiteError:
        found |= {"HA armed": UNKNOWN, "in maintenance": UNKNOWN}
    if site.has_ceph:
        try:
            found["Ceph flags"] = _list(site.ceph.flags(deadline(READ)))
            _, whole = settled(observer, lambda: site.ceph.status(deadline(READ)))
            found["Ceph placement groups"] = {"yes": CLEAN, "no": UNCLEAN}.get(whole.verdict, UNKNOWN)
        except SiteError:
            found |= {"Ceph flags": UNKNOWN, "Ceph placement groups": UNKNOWN}
        found["Ceph OSDs"] = _osds(observer)
    return found


def _osds(observer: Observer) -> str:
    """Which OSDs are up, and what each is reweighted to: what was marked out, or in, by anybody shows."""
    try:
        osds = told_by(observer, lambda node: shell.osd_map(node, observer.site.clock.deadline(ASK))).osds
    except SiteError:
        return UNKNOWN
    return BETWEEN.join(f"{osd} {'up' if one.up else 'down'} {one.weight:g}" for osd, one in sorted(osds.items()))


def on_the_nodes(observer: Observer, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What stands on these nodes: what carries our tag, and beside it what a reboot may change without us."""
    ours: dict[str, str] = {}
    others: dict[str, str] = {}
    for node in observer.site.nodes:
        if node.name not in names:
            continue
        standing = leftovers.read(node, observer.site.clock.deadline(NODE))
        for kind, items in standing.ours.items():
            ours[ours_on(node.name, kind)] = UNKNOWN if items is None else _list(items, BETWEEN)
        others[f"nft tables of {node.name}"] = UNKNOWN if standing.tables is None else _list(standing.tables)
        others[f"iptables policies of {node.name}"] = UNKNOWN if standing.policies is None else _list(standing.policies)
        boots = leftovers.boot_override(node, observer.site.clock.deadline(NODE))
        others[f"boot override of {node.name}"] = boots or UNKNOWN
    return ours, others


def ours_on(node: str, kind: str) -> str:
    """What the setting is called that says what of ours, of that kind, stands on the node."""
    return f"{_OURS}{node}, {kind.strip()}"


def is_ours_on(node: str, setting: str) -> bool:
    """Whether the setting is one of those."""
    return setting.startswith(ours_on(node, ""))


def ours_in(found: Mapping[str, str]) -> dict[str, str]:
    """Those of the settings that say what of ours stands on nodes."""
    return {setting: text for setting, text in found.items() if setting.startswith(_OURS)}


def changed(found: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is not as it was, in words.

    What could not be read at first cannot be compared. What can no longer be read is not known to be as it was.
    """
    keys = {*found, *now}
    if UNKNOWN in (found.get(RULES), now.get(RULES)):
        keys = {key for key in keys if not key.startswith(_OF_RULES)}
    return [
        f"{key}: {found.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in sorted(keys)
        if found.get(key) != now.get(key) and found.get(key) != UNKNOWN
    ]


def _rules(rules: Rules) -> dict[str, str]:
    tables = zip(_OF_RULES, (rules.rules, rules.groups, rules.resources), strict=True)
    return {f"{what}{name}": _text(row) for what, table in tables for name, row in (table or {}).items()}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={each}" for key, each in sorted(value.items()))
    return "not set" if value is None else str(value)


def _list(names: Iterable[str], between: str = ", ") -> str:
    return between.join(sorted(names)) or NOTHING
