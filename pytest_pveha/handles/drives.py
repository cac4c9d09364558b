"""What a guest's configuration says of its disks, media and devices: qm.conf(5), pct.conf(5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_DRIVE = re.compile(r"(?:scsi|virtio|sata|ide|mp)\d+|efidisk0|tpmstate0|rootfs")
_DEVICE = re.compile(r"hostpci\d+|usb\d+|dev\d+")


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk or medium of a guest."""

    key: str
    storage: str
    """Where it lies; empty for a path or a device of the node itself."""
    volume: str
    medium: bool
    """Whether it is a CD, which a guest can do without."""
    replicated: bool
    shared: bool = False
    """Whether a mount point is declared to be the same on every node (pct.conf(5), shared)."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a guest needs to have on the node it starts on."""

    drives: tuple[Drive, ...]
    devices: tuple[str, ...]
    """Passed through from the node itself, by no mapping that names one for each node: ``hostpci0: 0000:3b:00.0``."""


def hardware(config: Mapping[str, str]) -> Hardware:
    """The drives and devices of a guest's configuration. An empty CD drive is none."""
    drives, devices = [], []
    for key, value in sorted(config.items()):
        first, *rest = value.split(",")
        options = dict(part.partition("=")[::2] for part in rest)
        if _DEVICE.fullmatch(key):
            if "mapping" not in options and not first.startswith("mapping=") and first not in ("spice", "host=spice"):
                devices.append(f"{key}: {first}")
        elif _DRIVE.fullmatch(key):
            volume = first.removeprefix("file=").removeprefix("volume=")
            medium = options.get("media") == "cdrom"
            if volume in ("none", "cdrom"):
                continue
            storage = "" if volume.startswith("/") else volume.partition(":")[0]
            replicated = options.get("replicate", "1") not in ("0", "no", "off", "false")
            drives.append(Drive(key, storage, volume, medium, replicated, options.get("shared") == "1"))
    return Hardware(tuple(drives), tuple(devices))
