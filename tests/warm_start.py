"""Processes from a warm start: each is forked from one that has imported what every run of the tool imports.

They end like any other process, by themselves or by kill -9. Importing takes longer than what most of them do. A run's
own site and supervisor are forked for it in the same way; its parent is then the run, as of any process it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from _pytest.config import default_plugins

SUPERVISOR = "pytest_pveha.supervisor"
WARM = (
    "pytest_pveha.hooks",
    "pytest_pveha.fixtures",
    "pytest_pveha.healing",
    "pytest_pveha.sim.site",
    "pytest_html.report",
    "paramiko",
    "jinja2",
    "ruamel.yaml",
    "pyghmi.ipmi.private.session",
    "hypothesis.core",  # its plugin imports it when a run ends
    SUPERVISOR,
    *(f"pytest_pveha.observe.{name}" for name in ("guests", "placement", "quorum", "replication", "upkeep")),
    *(f"pytest_pveha.readiness.{name}" for name in ("backups", "bonds", "copies", "layout")),
    *(f"_pytest.{name}" for name in default_plugins),
)
STARTED = ("pytest_pveha.sim", SUPERVISOR, "pytest_pveha.wire.ipmi_child")
"""What a run starts that takes long to import, and what its supervisor starts."""
LIMIT = 400
"""Real seconds after which one is no longer waited for: it hangs. No result depends on it."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    returncode: int
    """Negative: the signal that ended it."""
    out: str
    err: str

    @property
    def output(self) -> str:
        """What it said, on both streams."""
        return self.out + self.err


def run_pytest(words: Sequence[str], *, env: Mapping[str, str], cwd: Path, limit: float = LIMIT) -> Ended:
    """``python -m pytest`` with these words has ended."""
    # what the plug-in consists of was imported before pytest could rewrite its asserts: it has none
    return run("pytest", ["-W", "ignore::pytest.PytestAssertRewriteWarning", *words], env=env, cwd=cwd, limit=limit)


def run(module: str, words: Sequence[str], *, env: Mapping[str, str], cwd: Path, limit: float = LIMIT) -> Ended:
    """``python -m`` that module with these words has ended; it had nothing to read."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with (
        tempfile.NamedTemporaryFile(prefix="pv-out-") as out,
        tempfile.NamedTemporaryFile(prefix="pv-err-") as err,
    ):
        order = {"module": module, "words": list(words), "env": dict(env), "cwd": str(cwd)}
        server.stdin.write(json.dumps({**order, "streams": [os.devnull, out.name, err.name]}).encode() + b"\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], limit)[0]:
            server.kill()
            _server.cache_clear()
            raise AssertionError(f"it hangs: {Path(out.name).read_text()}{Path(err.name).read_text()}")
        status = server.stdout.readline()
        assert status, "the process that was to start it is gone"
        return Ended(os.waitstatus_to_exitcode(int(status)), Path(out.name).read_text(), Path(err.name).read_text())


@cache
def _server() -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[bytes]) -> None:
    for stream in (server.stdin, server.stdout):
        assert stream is not None
        with contextlib.suppress(OSError):
            stream.close()
    server.wait()


def _serve() -> dict[str, Any] | None:
    """One order after the other; in the process forked for it, that order."""
    for order in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            found: dict[str, Any] = json.loads(order)
            with contextlib.ExitStack() as opened:
                modes = ("rb", "wb", "wb")
                files = [opened.enter_context(Path(n).open(m)) for n, m in zip(found["streams"], modes, strict=True)]
                for there, file in enumerate(files):
                    os.dup2(file.fileno(), there)
            return _nursery() or found
        _, status = os.waitpid(child, 0)
        sys.stdout.buffer.write(b"%d\n" % status)
        sys.stdout.buffer.flush()
    return None


def _nursery() -> dict[str, Any] | None:
    """From now on what this process starts of STARTED is forked, too; in the process forked for it, that order.

    A process of its own forks them, which has no threads and nothing open. It leaves them to the run by ending between
    the two: a process without a parent goes to its nearest ancestor that adopts (prctl(2), PR_SET_CHILD_SUBREAPER).
    """
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() != 0:
        there.close()
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
        subprocess.Popen = _popen(here)  # type: ignore[misc]
        return None
    here.close()
    while True:
        text, streams, _, _ = socket.recv_fds(there, 1 << 20, 3)
        if not text:
            os._exit(0)
        between = os.fork()
        if between == 0:
            ends = os.pidfd_open(os.getpid())
            if (child := os.fork()) != 0:
                there.send(b"%d" % child)
                os._exit(0)
            select.select([ends], [], [])  # now its parent is the run
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            there.detach()
            os.closerange(3, 256)
            os.setsid()
            order: dict[str, Any] = json.loads(text)
            return (order["module"] == SUPERVISOR and _nursery()) or order
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)


def _popen(nursery: socket.socket) -> type[subprocess.Popen[Any]]:
    """subprocess.Popen, which has the nursery start what it can."""

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def _execute_child(self, args: Any, *how: Any) -> None:
            words = [] if isinstance(args, str | bytes) else [os.fsdecode(word) for word in args]
            module, *more = [word for word in words[1:] if word not in ("-P", "-m")] or [""]
            if words[:1] != [sys.executable] or module not in STARTED:
                super()._execute_child(args, *how)  # type: ignore[misc]
                return
            pipes = how[9:15]
            streams = [
                stream if stream != -1 else number for number, stream in enumerate((pipes[0], pipes[3], pipes[5]))
            ]
            order = {"module": module, "words": more, "env": dict(how[5]), "cwd": how[4] or str(Path.cwd())}
            socket.send_fds(nursery, [json.dumps(order).encode()], streams)
            self.pid = int(nursery.recv(64))
            self._child_created = True
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    return Popen


def _become(order: Mapping[str, Any]) -> None:
    """This process is as if it had been started for that order, and has ended as that does.

    But for the last, what the interpreter would do with what is in memory: it would copy all that is shared until then.
    """
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.path[:0] = [str(Path.cwd()), *order["env"].get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = [order["module"], *order["words"]]
    sys.modules.pop(order["module"], None)
    try:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            raise
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


def main() -> None:
    """The server; and, returning from it, each process it was asked for."""
    for name in WARM:
        import_module(name)
    for plugin in metadata.entry_points(group="pytest11"):
        plugin.load()
    gc.freeze()
    assert threading.active_count() == 1
    order = _serve()
    if order is not None:
        _become(order)


if __name__ == "__main__":
    main()
