"""SSH on every node: root with one authorised key, commands only, each in a thread that may wait in site time.

One event loop in one thread serves all nodes. Keepalives and login timeouts, which would run in real time, are off.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from logging import getLogger

import asyncssh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pytest_pveha.sim.gate import Gate, Gone
from pytest_pveha.sim.servers.ceph_commands import CEPH_COMMANDS
from pytest_pveha.sim.servers.ports import TcpPort
from pytest_pveha.sim.servers.shell import Result, Shell
from pytest_pveha.sim.servers.shell_commands import COMMANDS

log = getLogger(__name__)

USER = "root"
_KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")


class SshServers:
    """The SSH servers of a site's nodes.

    Args:
        ports: each node's; its names are the nodes served.
        host_keys: each node's own.
        authorized: the only key that may log in.
    """

    def __init__(
        self,
        gate: Gate,
        ports: Mapping[str, TcpPort],
        host_keys: Mapping[str, Ed25519PrivateKey],
        authorized: Ed25519PublicKey,
    ) -> None:
        self._gate = gate
        self.ports = dict(ports)
        self._host_keys = {name: _host_key(host_keys[name]) for name in self.ports}
        self._authorized = asyncssh.import_public_key(
            authorized.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        )
        self._loop = asyncio.new_event_loop()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Every node's port is served from now on."""
        self._spawn(self._run_loop, "ssh-loop")
        for name, port in self.ports.items():
            self._spawn(partial(self._accept, name, port), f"ssh-{name}")

    def close(self) -> None:
        """The ports are given back; connections are reset; the loop has ended."""
        for port in self.ports.values():
            port.close()
        if self._threads:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._threads[0].join(10)

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _accept(self, name: str, port: TcpPort) -> None:
        while (sock := port.accept()) is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                asyncio.run_coroutine_threadsafe(self._serve(name, port, sock), self._loop)

    async def _serve(self, name: str, port: TcpPort, sock: socket.socket) -> None:
        """One connection, from handshake to end."""

        async def command(process: asyncssh.SSHServerProcess[str]) -> None:
            await self._command(name, sock, process)

        try:
            connection = await asyncssh.run_server(
                sock,
                server_factory=lambda: _Server(self._authorized),
                process_factory=command,
                server_host_keys=[self._host_keys[name]],
                kex_algs=_KEX,
                login_timeout=0,
                keepalive_interval=0,
                allow_scp=False,
                agent_forwarding=False,
                x11_forwarding=False,
                line_editor=False,
                encoding="utf-8",
            )
            await connection.wait_closed()
        except (OSError, asyncssh.Error) as error:
            log.debug("%s: SSH connection ended: %s", name, error)
        finally:
            port.forget(sock)

    async def _command(self, name: str, sock: socket.socket, process: asyncssh.SSHServerProcess[str]) -> None:
        line = process.command
        if line is None:
            process.stderr.write("This account runs commands only.\n")
            process.exit(1)
            return
        shell = Shell(self._gate, name, COMMANDS | CEPH_COMMANDS, sock)
        result = await self._in_thread(lambda: shell.run(line))
        if result is None:
            return  # nobody listens, or the node is dead: no exit status, no end
        process.stdout.write(result.out)
        process.stderr.write(result.err)
        process.exit(result.status)

    async def _in_thread(self, work: Callable[[], Result]) -> Result | None:
        """What ``work`` returned in a daemon thread of its own, as many as there are commands; None if Gone."""
        future: asyncio.Future[Result | None] = self._loop.create_future()

        def settle(result: Result | None) -> None:
            if not future.done():
                future.set_result(result)

        def run() -> None:
            result: Result | None = None
            try:
                result = work()
            except Gone:
                pass
            except Exception:
                log.exception("a command failed inside the simulated shell")
                result = Result(125, err="the simulated shell failed\n")
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                self._loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=run, name="ssh-command", daemon=True).start()
        return await future


def _host_key(key: Ed25519PrivateKey) -> asyncssh.SSHKey:
    return asyncssh.import_private_key(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )


class _Server(asyncssh.SSHServer):
    """Lets root in with the one key."""

    def __init__(self, authorized: asyncssh.SSHKey) -> None:
        self._authorized = authorized

    def begin_auth(self, username: str) -> bool:
        """Always asks for a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys, and nothing else."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Only the one key, only for root."""
        return username == USER and key.public_data == self._authorized.public_data
