"""The commands of a simulated node: the few that this product, testinfra and curious people use. A module a subject."""

from pytest_pveha.sim.servers.commands import (
    bmc,
    ceph,
    cluster,
    curl,
    files,
    filters,
    going_down,
    guest_processes,
    guests,
    journal,
    packages,
    processes,
    storage,
    system,
    tasks,
    units,
)
from pytest_pveha.sim.servers.commands.registry import COMMANDS

__all__ = [
    "COMMANDS",
    "bmc",
    "ceph",
    "cluster",
    "curl",
    "files",
    "filters",
    "going_down",
    "guest_processes",
    "guests",
    "journal",
    "packages",
    "processes",
    "storage",
    "system",
    "tasks",
    "units",
]
