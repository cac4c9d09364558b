"""Acts that the cluster may refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_pveha.sim.servers.shell import Result
from pytest_pveha.sim.world.model import Refused


def attempt(act: Callable[[], Any]) -> Result:
    """The act's result, or PVE's refusal."""
    try:
        act()
    except Refused as refused:
        return Result(255, err=f"{refused}\n")
    return Result()
