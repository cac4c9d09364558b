"""What a server of the site sees of time and of the world."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World


class Gone(Exception):
    """Whoever asked is no longer there, or the node that was to answer died: say nothing, change nothing."""


class Gate(Protocol):
    """The world, and the right to let time pass, as a server thread has them."""

    world: World

    def acting(self, sock: socket.socket | None = None) -> AbstractContextManager[World]:
        """The world at the site's present time, held still while open.

        Raises Gone when ``sock`` is given and its peer has hung up: a request of a killed run must not strike later.
        """

    def park(self, seconds: float) -> None:
        """Return when that much site time has passed; others run meanwhile. Never call it while ``acting``.

        Raises Gone when the requester gave up meanwhile.
        """
