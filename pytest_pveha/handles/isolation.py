"""What keeps a copy of a guest apart: from the network, from the host, and from the guest itself. Pure.

Sources: qm.conf(5), pct.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_CARD = re.compile(r"net\d+")
_MAC = r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"
_ADDRESS = re.compile(rf"(?:hw|mac)addr={_MAC}|(?P<model>[a-z0-9-]+)={_MAC}")
_DROPPED = frozenset({"rate", "firewall", "link_down", "queues", "host-managed"})
HAZARDS = re.compile(
    r"args|hookscript|hostpci\d+|usb\d+|virtiofs\d+|parallel\d+|serial\d+|ivshmem|dev\d+|lxc\..+|startup|vmstate"
)
"""Keys by which a copy would reach what is not its own: the host's devices, files and sockets, scripts, the boot order
of the node (qm.conf(5), pct.conf(5))."""
_OWN_SOCKET = "socket"
"""A serial port of that value is the guest's own socket on the node, by its number."""
_FOREIGN_MOUNT = re.compile(r"/")
"""A mount point that begins so is a folder or a device of the host."""


def isolated(settings: Mapping[str, str], tag: str) -> dict[str, str]:
    """What a copy's configuration must say in the place of the backup's: every link down, not started at boot, ours.

    Network cards lose their addresses, so that PVE makes new ones, and stay on their bridges: without one QEMU would
    give the copy a way out through the host (qm.conf(5)).
    """
    name = "hostname" if "hostname" in settings or "rootfs" in settings else "name"
    cards = {key: _linkless(value) for key, value in settings.items() if _CARD.fullmatch(key)}
    return {**cards, "onboot": "0", "protection": "0", "tags": tag, name: tag, "description": "made by pytest-pveha"}


def _linkless(card: str) -> str:
    parts = []
    for part in card.split(","):
        found = _ADDRESS.match(part)
        if found is None:
            parts += [part] if part.partition("=")[0] not in _DROPPED else []
        elif found["model"]:
            parts.append(found["model"])
    return ",".join([*parts, "link_down=1"])


def hazards(settings: Mapping[str, str]) -> list[str]:
    """The keys by which that guest would reach beyond itself."""
    found = []
    for key, value in sorted(settings.items()):
        if key.startswith("serial") and value == _OWN_SOCKET:
            continue
        mount = re.fullmatch(r"mp\d+", key) and _FOREIGN_MOUNT.match(value)
        if HAZARDS.fullmatch(key) or mount:
            found.append(key)
    return found


def open_links(settings: Mapping[str, str]) -> list[str]:
    """The network cards whose links are up."""
    cards = {key: value.split(",") for key, value in settings.items() if _CARD.fullmatch(key)}
    return sorted(key for key, parts in cards.items() if "link_down=1" not in parts)


def addresses(settings: Mapping[str, str]) -> set[str]:
    """The addresses of its network cards, in lower case."""
    found: Iterable[str] = (value for key, value in settings.items() if _CARD.fullmatch(key))
    return {mac.lower() for value in found for mac in re.findall(_MAC, value)}
