"""The SSH client, and testinfra over it, against a real SSH server on loopback that runs /bin/sh."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from paramiko.hostkeys import HostKeys
from testinfra.modules.service import SystemdService

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, Unreachable, UsageError
from pytest_pveha.wire import ssh as ssh_module
from pytest_pveha.wire.facts import host_on
from pytest_pveha.wire.ssh import Ssh, SshTarget, quote


class Server:
    """An SSH server that runs every command by /bin/sh, and that can lose its connections."""

    def __init__(self, folder: Path, user_key: asyncssh.SSHKey) -> None:
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.other_key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        self.authorized = folder / "authorized_keys"
        self.authorized.write_bytes(user_key.export_public_key())
        self.path = f"{folder}:{os.environ['PATH']}"
        self.commands: list[str] = []
        self.logins = 0
        self.port = 0
        self.cut_after: str | None = None
        self._connections: list[asyncssh.SSHServerConnection] = []
        self._children: list[asyncio.subprocess.Process] = []
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(0))
        ready.set()
        self._loop.run_forever()

    async def _listen(self, port: int) -> None:
        outer = self

        class Login(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                outer._connections.append(conn)

            def auth_completed(self) -> None:
                outer.logins += 1

            def connection_requested(self, host: str, port: int, *origin: Any) -> bool:
                return port != 1

        self._acceptor = await asyncssh.create_server(
            Login,
            "127.0.0.1",
            port,
            server_host_keys=[self.host_key, self.other_key],
            authorized_client_keys=str(self.authorized),
            process_factory=self._run,
            encoding=None,
        )
        self.port = self._acceptor.get_port()

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        self.commands.append(command)
        if command == self.cut_after:
            self.cut()
            return
        if command == "refuse":
            process.channel.close()
            return
        if command == "killed":
            process.exit_with_signal("KILL")
            return
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PATH": self.path},
            start_new_session=True,
        )
        self._children.append(child)
        assert child.stdin is not None
        feeding = asyncio.create_task(self._feed(process.stdin, child.stdin))
        try:
            await asyncio.gather(
                self._pump(child.stdout, process.stdout),
                self._pump(child.stderr, process.stderr),
            )
            process.exit(await child.wait())
        except (OSError, asyncssh.Error):
            pass  # the client is gone
        finally:
            feeding.cancel()
            self._kill(child)
            for rest in (child.stdout, child.stderr):  # a paused pipe would never be seen to end
                if rest is not None:
                    await rest.read()
            await child.wait()

    @staticmethod
    def _kill(child: asyncio.subprocess.Process) -> None:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    async def _feed(self, source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
        sink.close()

    async def _pump(self, source: asyncio.StreamReader | None, sink: asyncssh.SSHWriter[bytes]) -> None:
        assert source is not None
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()

    def cut(self) -> None:
        """Every connection is reset, as by a node that lost power and came back."""
        for connection in self._connections:
            with contextlib.suppress(Exception):
                connection._transport.abort()  # type: ignore[union-attr]
        self._connections.clear()

    def cut_now(self) -> None:
        """As ``cut``, from another thread; done on return."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self.cut)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(5)

    def close(self) -> None:
        """Nobody listens any more."""
        self.cut_now()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        self._acceptor.close()
        for child in self._children:
            self._kill(child)
        for _ in range(100):  # until the commands' processes are reaped, or asyncio complains of them later
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.01)


def public(key: asyncssh.SSHKey) -> str:
    """``TYPE BASE64``."""
    return " ".join(key.export_public_key().decode().split()[:2])


class Bench:
    """One server, one user with a key, and clients of them."""

    def __init__(self, folder: Path) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.folder = folder
        self.key = folder / "id"
        self.key.write_bytes(key.export_private_key())
        self.key.chmod(0o600)
        self.server = Server(folder, key)
        self.clock = LiveClock()
        self.clients: list[Ssh] = []

    def target(self, **changed: Any) -> SshTarget:
        """The server as the inventory would describe it."""
        given: dict[str, Any] = {
            "name": "pve1",
            "host": "127.0.0.1",
            "port": self.server.port,
            "key": self.key,
            "host_keys": (public(self.server.host_key),),
        }
        return SshTarget(**{**given, **changed})

    def ssh(self, **changed: Any) -> Ssh:
        """A client of the server."""
        self.clients.append(Ssh(self.target(**changed), self.clock))
        return self.clients[-1]

    def within(self, seconds: float = 20) -> Deadline:
        """A deadline from now."""
        return self.clock.deadline(seconds)

    def close(self) -> None:
        """Nothing is left open."""
        for client in self.clients:
            client.close()
        self.server.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A workplace that closes its server and clients."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_a_command_gives_status_and_both_streams(bench: Bench) -> None:
    """Exit status, stdout, stderr and the instants around the command come back."""
    before = bench.clock.now()
    done = bench.ssh().run("echo out; echo err >&2; exit 3", deadline=bench.within())
    assert (done.exit_status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert before <= done.asked_at <= done.answered_at


def test_one_connection_carries_many_commands(bench: Bench) -> None:
    """Commands reuse the connection, and none waits for Nagle."""
    client = bench.ssh()
    client.run("true", deadline=bench.within())
    took = []
    for _ in range(20):
        begun = time.monotonic()
        client.run("true", deadline=bench.within())
        took.append(time.monotonic() - begun)
    assert min(took) < 0.04  # with Nagle's algorithm each waits so long for a delayed acknowledgement
    assert bench.server.logins == 1


def test_words_are_quoted(bench: Bench) -> None:
    """A value in a command is one word, whatever it holds."""
    nasty = "a b; $(touch x) 'q' \"d\" \n*"
    done = bench.ssh().run(quote("printf", "%s|", nasty, 7), deadline=bench.within())
    assert done.stdout.decode() == f"{nasty}|7|"


def test_four_megabytes_on_stderr_do_not_deadlock(bench: Bench) -> None:
    """Both streams are read as they come."""
    done = bench.ssh().run("head -c 4000000 /dev/zero >&2; echo done", deadline=bench.within())
    assert len(done.stderr) == 4_000_000
    assert done.stdout == b"done\n"


def test_input_and_output_flow_together(bench: Bench) -> None:
    """Four megabytes through `cat` come back whole: input does not wait for output, nor output for input."""
    sent = os.urandom(1_000_000) * 4
    assert bench.ssh().run("cat", deadline=bench.within(), input=sent).stdout == sent


def test_no_input_is_an_empty_one(bench: Bench) -> None:
    """A command that reads its input ends."""
    assert bench.ssh().run("cat; echo end", deadline=bench.within()).stdout == b"end\n"


def test_output_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that writes without end is stopped, and the next one runs."""
    monkeypatch.setattr(ssh_module, "LARGEST_OUTPUT", 1_000_000)
    client = bench.ssh()
    with pytest.raises(ProtocolError, match="to stdout"):
        client.run("yes", deadline=bench.within())
    assert client.run("echo on", deadline=bench.within()).stdout == b"on\n"


def test_a_hung_command_ends_at_its_deadline(bench: Bench) -> None:
    """A command that hangs is left at the deadline, and the next one runs over a new connection."""
    client = bench.ssh()
    client.run("true", deadline=bench.within())
    begun = time.monotonic()
    with pytest.raises(Unreachable, match=r"did not answer within the deadline\. `sleep 60` .* its result is lost"):
        client.run("sleep 60", deadline=bench.within(0.4))
    assert 0.35 < time.monotonic() - begun < 2
    assert client.run("echo on", deadline=bench.within()).stdout == b"on\n"
    assert bench.server.commands.count("sleep 60") == 1


@pytest.mark.parametrize("acts", [True, False])
def test_a_link_cut_in_mid_command_is_told_and_not_repeated(bench: Bench, acts: bool) -> None:
    """When the link dies after the command went out, it is not sent again, whatever it is."""
    bench.server.cut_after = "reboot"
    client = bench.ssh()
    client.run("true", deadline=bench.within())
    with pytest.raises(Unreachable, match="unknown whether it ran" if acts else "result is lost"):
        client.run("reboot", deadline=bench.within(), acts=acts)
    assert bench.server.commands.count("reboot") == 1


@pytest.mark.parametrize("acts", [True, False])
def test_a_link_that_died_before_is_opened_anew(bench: Bench, acts: bool) -> None:
    """A kept connection that died meanwhile costs nothing: nothing had been sent over it."""
    client = bench.ssh()
    client.run("true", deadline=bench.within())
    bench.server.cut_now()
    assert client.run("echo again", deadline=bench.within(), acts=acts).stdout == b"again\n"
    assert bench.server.commands.count("echo again") == 1


def test_a_command_ended_by_a_signal(bench: Bench) -> None:
    """A command killed by a signal has status -1, and the link stands."""
    client = bench.ssh()
    assert client.run("killed", deadline=bench.within()).exit_status == -1
    client.run("true", deadline=bench.within())
    assert bench.server.logins == 1


def test_nobody_there(bench: Bench) -> None:
    """A refused connection is Unreachable, at once; a mute port is, at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=r"deadline; `true` was not sent"):
            bench.ssh(port=mute.getsockname()[1]).run("true", deadline=bench.within(0.3))
        assert time.monotonic() - begun < 2
        port = mute.getsockname()[1]
    with pytest.raises(Unreachable, match=r"pve1 \(root@127\.0\.0\.1:\d+\) cannot be reached: Connection refused"):
        bench.ssh(port=port).run("true", deadline=bench.within())
    with pytest.raises(Unreachable, match="deadline had passed"):
        bench.ssh().run("true", deadline=bench.within(0))


def test_something_else_listens_there(bench: Bench) -> None:
    """A server that speaks another protocol is told as that; one that hangs up is unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(said: bytes) -> None:
            sock, _ = listener.accept()
            sock.sendall(said)
            sock.recv(1000)
            sock.close()

        for said, error in ((b"HTTP/1.1 400 Bad Request\r\n" * 200, ProtocolError), (b"", Unreachable)):
            threading.Thread(target=answer, args=(said,), daemon=True).start()
            with pytest.raises(error):
                bench.ssh(port=listener.getsockname()[1]).run("true", deadline=bench.within(5))


def test_a_server_that_keeps_us_off_is_unreachable_and_says_why(bench: Bench) -> None:
    """What sshd says to an address it penalises (captured from OpenSSH 10.0p2) is told with what to look for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            sock.sendall(b"Not allowed at this time\r\n")
            sock.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Unreachable, match=r"before a greeting; .*PerSourcePenalties"):
            bench.ssh(port=listener.getsockname()[1]).run("true", deadline=bench.within(5))


def test_an_unknown_host_key_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Without an entry for the host nobody logs in; the message shows the key and the file to add it to."""
    known = tmp_path / "known_hosts"
    known.write_text("# nobody\n")
    shown = bench.server.host_key.get_fingerprint().replace("+", r"\+")
    other = bench.server.other_key.get_fingerprint().replace("+", r"\+")
    with pytest.raises(AuthRefused, match=rf"host key is unknown: .*({shown}|{other}).*known_hosts has none"):
        bench.ssh(host_keys=(), known_hosts=known).run("true", deadline=bench.within())
    assert bench.server.logins == 0
    assert known.read_text() == "# nobody\n"


def test_a_changed_host_key_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Another key than the known one is refused; both fingerprints and the line to change are shown."""
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    known = tmp_path / "known_hosts"
    known.write_text(f"other {public(stranger)}\n[127.0.0.1]:{bench.server.port} {public(stranger)}\n")
    with pytest.raises(AuthRefused, match="host key is another one") as caught:
        bench.ssh(host_keys=(), known_hosts=known).run("true", deadline=bench.within())
    for shown in (stranger.get_fingerprint(), bench.server.host_key.get_fingerprint(), f"{known}:2 has ssh-ed25519"):
        assert shown in str(caught.value)
    assert bench.server.logins == 0


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("which", ["host_key", "other_key"])
def test_known_hosts_is_read_as_openssh_writes_it(bench: Bench, tmp_path: Path, which: str, hashed: bool) -> None:
    """Plain and hashed names match, with a port, and a key of any of the host's types does."""
    known = tmp_path / "known_hosts"
    name = f"[127.0.0.1]:{bench.server.port}"
    name = HostKeys.hash_host(name) if hashed else f"pve1,{name}"
    known.write_text(f"# head\n\n@revoked x y z\n{name} {public(getattr(bench.server, which))} comment\n")
    assert bench.ssh(host_keys=(), known_hosts=known).run("true", deadline=bench.within()).exit_status == 0


def test_a_refused_key_is_told(bench: Bench, tmp_path: Path) -> None:
    """A key the server does not know is AuthRefused, with its fingerprint; no other key is tried."""
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "stranger").write_bytes(stranger.export_private_key())
    (tmp_path / "stranger").chmod(0o600)
    with pytest.raises(AuthRefused, match="refused us") as caught:
        bench.ssh(key=tmp_path / "stranger").run("true", deadline=bench.within())
    assert stranger.get_fingerprint() in str(caught.value)
    assert "only while pve-cluster runs" in str(caught.value)  # or else every key of a good node is refused
    with pytest.raises(AuthRefused, match="names no key file"):
        bench.ssh(key=None).run("true", deadline=bench.within())


def test_unusable_files_are_the_users_to_mend(bench: Bench, tmp_path: Path) -> None:
    """A missing key, one with a passphrase, one that is none, and a broken known_hosts are told by name."""
    locked = tmp_path / "locked"
    locked.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key(passphrase="x"))
    locked.chmod(0o600)
    (tmp_path / "none").write_text("hello")
    (tmp_path / "none").chmod(0o600)
    (tmp_path / "known").write_text(f"[127.0.0.1]:{bench.server.port} ssh-ed25519 AAAAx\n")
    for changed, said in (
        ({"key": tmp_path / "gone"}, "cannot be read"),
        ({"key": locked}, "passphrase"),
        ({"key": tmp_path / "none"}, "no SSH private key"),
        ({"host_keys": ("ssh-ed25519",)}, "is no host key"),
        ({"host_keys": (), "known_hosts": tmp_path / "gone"}, "cannot be read"),
        ({"host_keys": (), "known_hosts": tmp_path / "known"}, "known:1: no line"),
    ):
        with pytest.raises(UsageError, match=said):
            bench.ssh(**changed).run("true", deadline=bench.within())


def test_a_jump_host_leads_on(bench: Bench) -> None:
    """A command reaches its host through another one, and both host keys are checked."""
    jump = bench.target(name="jump")
    client = bench.ssh(jump=jump)
    assert client.run("echo there", deadline=bench.within()).stdout == b"there\n"
    assert bench.server.logins == 2
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="deadline"):
        client.run("sleep 60", deadline=bench.within(0.3))
    assert time.monotonic() - begun < 2
    with pytest.raises(Unreachable, match=r"jump host jump .* cannot connect to it"):
        bench.ssh(jump=jump, port=1).run("true", deadline=bench.within())


def test_a_refusal_behind_a_jump_host_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What paramiko complains of while it is closed (seen with OpenSSH) does not hide why the host was refused."""

    close = paramiko.Transport.close

    def gone(transport: paramiko.Transport) -> None:
        close(transport)
        raise EOFError

    monkeypatch.setattr(paramiko.Transport, "close", gone)
    stranger = public(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(AuthRefused, match="host key is another one"):
        bench.ssh(jump=bench.target(name="jump"), host_keys=(stranger,)).run("true", deadline=bench.within())


def test_threads_do_not_break_each_other(bench: Bench) -> None:
    """A deadline in one thread leaves another thread's command alone."""
    client = bench.ssh()
    got: list[bytes] = []
    thread = threading.Thread(
        target=lambda: got.append(client.run("read x; echo $x", deadline=bench.within(), input=b"late\n").stdout)
    )
    slow = threading.Thread(
        target=lambda: got.append(client.run("sleep 0.6; echo slow", deadline=bench.within()).stdout)
    )
    slow.start()
    thread.start()
    with pytest.raises(Unreachable):
        client.run("sleep 60", deadline=bench.within(0.3))
    thread.join(10)
    slow.join(10)
    assert sorted(got) == [b"late\n", b"slow\n"]


def test_lost_links_are_not_shouted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What paramiko logs at ERROR for a lost link comes at DEBUG, and no secret with it."""
    caplog.set_level(logging.DEBUG)
    bench.server.cut_after = "cut"
    with pytest.raises(Unreachable):
        bench.ssh().run("cut", deadline=bench.within())
    assert not [
        record for record in caplog.records if record.levelno > logging.DEBUG and "ssh.transport" in record.name
    ]
    assert base64.b64encode(bench.key.read_bytes()).decode() not in caplog.text


def script(path: Path, text: str) -> None:
    """An executable."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_testinfra_reads_over_our_ssh(bench: Bench) -> None:
    """testinfra's modules work over our connection: files, services, packages, the system."""
    script(bench.folder / "systemctl", 'case "$*" in *sshd*) exit 0;; *) exit 3;; esac')
    script(
        bench.folder / "dpkg-query",
        'case "$*" in *pve-ha-manager*) printf "install ok installed";; *) exit 1;; esac',
    )
    noted = bench.folder / "größe.cfg"
    noted.write_text("migration: secure\n", "utf-8")
    host = host_on(bench.ssh(), bench.clock, per_command=10)
    # as on a node: what this machine itself starts with is no matter
    service = type("Service", (SystemdService,), {"_host": host})
    assert service("sshd").is_running
    assert not service("nonesuch").is_running
    assert host.file(str(noted)).exists
    assert host.file(str(noted)).contains("secure")
    assert host.file(str(noted)).content_string == "migration: secure\n"
    assert not host.file("/nonexistent").exists
    assert host.system_info.type == "linux"
    assert host.package("pve-ha-manager").is_installed
    assert host.run("echo %s", "a b").stdout == "a b\n"
    assert bench.server.logins == 1


def test_testinfra_has_a_deadline(bench: Bench) -> None:
    """A hung command under testinfra ends as Unreachable."""
    host = host_on(bench.ssh(), bench.clock, per_command=0.4)
    host.run("true")
    with pytest.raises(Unreachable, match="deadline"):
        host.run("sleep 60")


# hostile


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o620, 0o601])
def test_a_key_that_others_may_read_is_refused(bench: Bench, mode: int) -> None:
    """As ssh itself does; the message has the command that mends it, and nobody was contacted with the key."""
    bench.key.chmod(mode)
    with pytest.raises(UsageError, match=rf"mode {mode:04o}.*type: chmod 600 .*/id"):
        bench.ssh().run("true", deadline=bench.within())
    assert bench.server.logins == 0


class Scripted:
    """A port that says what it is told to, and then drips, stalls or hangs up."""

    def __init__(self, *said: bytes, then: str = "stall") -> None:
        self._said = said
        self._then = then
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            for each in self._said:
                sock.sendall(each)
            while self._then == "drip" and not self._ended.wait(0.05):
                sock.sendall(b"x")
            while self._then == "flood" and not self._ended.is_set():
                sock.sendall(os.urandom(65536))
            if self._then == "stall":
                self._ended.wait(30)

    def close(self) -> None:
        """It says no more."""
        self._ended.set()
        self._listener.close()


@pytest.mark.parametrize("then", ["stall", "drip", "flood", "hang up"])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-\x1b[2J\xff\r\n",
        b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xff",  # a packet of 4 GiB
        b"SSH-2.0-x\r\n" + b"\x00\x00\x00\x0c\x0a\x14" + b"\x00" * 10,  # a key exchange with nothing in it
        b"<html>proxy</html>\n" * 50,
        b"\n" * 100_000,
        b"x" * 1_000_000,
    ],
    ids=lambda said: repr(said[:24]),
)
def test_a_lying_ssh_server_is_refused_in_time(bench: Bench, said: bytes, then: str) -> None:
    """Half a banner, rubbish behind it, a packet of 4 GiB, and what never ends: a SiteError within the deadline."""
    liar = Scripted(said, then=then)
    deadline = bench.within(1)
    try:
        with pytest.raises(SiteError) as refused:
            bench.ssh(port=liar.port).run("true", deadline=deadline)
    finally:
        liar.close()
    assert bench.clock.now().mono - deadline.mono < 5_000_000_000
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


def test_output_that_drips_is_left_at_the_deadline(bench: Bench) -> None:
    """A byte now and then is no sign of an end."""
    deadline = bench.within(1)
    with pytest.raises(Unreachable, match="deadline"):
        bench.ssh().run("while :; do printf x; sleep 0.05; done", deadline=deadline)
    assert bench.clock.now().mono - deadline.mono < 5_000_000_000
