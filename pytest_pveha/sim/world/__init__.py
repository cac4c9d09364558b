"""The pure discrete-event world of a simulated site: no sockets, no threads, no wall time."""

from pytest_pveha.sim.world.model import (
    ClusterView,
    Facts,
    Guest,
    GuestProcess,
    JournalLine,
    Node,
    Refused,
    Report,
    Task,
    UnitState,
)
from pytest_pveha.sim.world.world import World

__all__ = [
    "ClusterView",
    "Facts",
    "Guest",
    "GuestProcess",
    "JournalLine",
    "Node",
    "Refused",
    "Report",
    "Task",
    "UnitState",
    "World",
]
