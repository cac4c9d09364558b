"""What a guest serves: TCP ports whose handshakes the kernel answers alone."""

from __future__ import annotations

from pytest_pveha.sim.servers.ports import State, TcpPort


class GuestPort(TcpPort):
    """A guest's application port. Nobody accepts: with TCP_DEFER_ACCEPT a probe that only connects never queues.

    Silent while the guest has no running process (its address is on no network), refusing while it boots.
    """

    def __init__(self, vmid: int, *, host: str = "127.0.0.1", state: State = State.OPEN) -> None:
        super().__init__(host, defer_accept=True, state=state)
        self.vmid = vmid
