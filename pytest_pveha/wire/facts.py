"""testinfra's modules (``host.service``, ``host.file``, ``host.package`` …) over our own SSH.

For reading only. testinfra's own SSH backends accept unknown host keys, have no command deadline, lock up on 4 MB of
stderr and may run a command twice; this one has none of that, but testinfra itself promises no at-most-once. What
changes a node goes through ``Ssh.run(..., acts=True)``.

testinfra raises AssertionError where a command ends with an unexpected status: asked about a service that is not
there, say. That is its answer, not the cluster's failure: readers turn it into "can't tell".
"""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend
from testinfra.backend.base import CommandResult as TestinfraResult
from testinfra.host import Host

from pytest_pveha.clock import Clock
from pytest_pveha.wire.ssh import Ssh


class _Backend(BaseBackend):  # type: ignore[misc]
    NAME = "pveha"

    def __init__(self, ssh: Ssh, clock: Clock, per_command: float) -> None:
        super().__init__(ssh.target.name)
        self._ssh = ssh
        self._clock = clock
        self._per_command = per_command

    def run(self, command: str, *args: str, **kwargs: Any) -> TestinfraResult:
        """The command ran, or Unreachable, AuthRefused or ProtocolError says why not."""
        line = self.get_command(command, *args)
        done = self._ssh.run(line, deadline=self._clock.deadline(self._per_command))
        return self.result(done.exit_status, self.encode(line), done.stdout, done.stderr)

    def get_encoding(self) -> str:
        """What a PVE node speaks; testinfra would start a Python there to find out."""
        return "UTF-8"


def host_on(ssh: Ssh, clock: Clock, per_command: float) -> Host:
    """A testinfra host that reads over ``ssh``, each of its commands within ``per_command`` seconds.

    testinfra remembers some facts (the distribution, where commands are): take a new one after a node has rebooted.
    """
    backend = _Backend(ssh, clock, per_command)
    host = Host(backend)
    backend.set_host(host)
    return host


__all__ = ["host_on"]
