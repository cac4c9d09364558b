"""What the inventory puts out of scope, by its votes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.inventory import Site
from pytest_pveha.selection import not_applicable


def inventory(nodes: int, algorithm: str | None) -> Site:
    """So many nodes, and a quorum device of that algorithm."""
    device = None if algorithm is None else SimpleNamespace(algorithm=algorithm)
    model = SimpleNamespace(
        nodes=dict.fromkeys(range(nodes)), quorum_device=device, simulator=None, cluster=SimpleNamespace(proxmox=True)
    )
    return cast("Site", SimpleNamespace(model=model))


def item(**needs: Any) -> pytest.Item:
    """A test that needs this."""
    return cast("pytest.Item", SimpleNamespace(iter_markers=lambda _: [SimpleNamespace(kwargs=needs)]))


@pytest.mark.parametrize(
    ("nodes", "algorithm", "left", "quorum"), [(3, None, 1, 2), (4, None, 2, 3), (2, "ffsplit", 1, 2), (2, "lms", 1, 2)]
)
def test_a_loss_that_quorum_does_not_outlive(nodes: int, algorithm: str | None, left: int, quorum: int) -> None:
    """The votes are counted, and the sum is told."""
    why = not_applicable(item(losses=2), inventory(nodes, algorithm))
    assert why is not None
    assert f"the loss of 2 nodes leaves {left}, and quorum takes {quorum}" in why


@pytest.mark.parametrize(("nodes", "algorithm"), [(5, None), (4, "ffsplit"), (3, "lms")])
def test_a_loss_that_quorum_outlives(nodes: int, algorithm: str | None) -> None:
    """Then it applies."""
    assert not_applicable(item(losses=2), inventory(nodes, algorithm)) is None
