"""What a guest serves: TCP ports whose handshakes the kernel answers alone."""

from __future__ import annotations

import threading

from pytest_pveha.sim.servers.ports import State, TcpPort


class GuestPort(TcpPort):
    """A guest's application port: open, refusing while the guest boots, silent while it has no running process.

    With TCP_DEFER_ACCEPT a probe that connects and resets never queues and wakes nobody. A connection that sends or
    ends in good order does queue; a thread clears those away, else a full queue would look like silence.
    """

    def __init__(self, vmid: int, *, host: str = "127.0.0.1", state: State = State.OPEN) -> None:
        super().__init__(host, defer_accept=True, state=state)
        self.vmid = vmid
        threading.Thread(target=self._clear_away, name=f"guest-{vmid}", daemon=True).start()

    def _clear_away(self) -> None:
        while (sock := self.accept()) is not None:
            self.forget(sock)
            sock.close()
