"""What a version of Proxmox VE has that another lacks, as far as the HA manager and its API show it."""

from __future__ import annotations

RULES = (9, 0)
"""Rules in place of groups, and ``failback`` of each resource (pve-ha-manager 5.0)."""
DISARM = (9, 1, 9)
"""Disarming, the entry ``fencing`` and the watchdog in an LRM's text: the oldest version they were recorded on."""
MESSAGE = (8, 4)
"""Errors say their text in the body too (libpve-http-server-perl 5.2.0); before, in the reason phrase alone."""


def parsed(version: str) -> tuple[int, ...]:
    """The version's numbers, so that versions can be compared."""
    return tuple(int(part) for part in version.replace("-", ".").split(".") if part.isdigit())


def has(version: str, feature: tuple[int, ...]) -> bool:
    """Whether that version is at least the one that brought the feature."""
    return parsed(version) >= feature
