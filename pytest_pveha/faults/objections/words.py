"""What several of them say in the same words."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_pveha.faults.fault import Reach


def listed(names: frozenset[str] | Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def target(reach: Reach) -> str:
    """What would be hit, for people."""
    osds = [f"osd.{osd}" for osd in sorted(reach.osds)]
    return ", ".join([*sorted(reach.nodes), *osds]) or "nobody"


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
