"""pytest processes from a warm start: each is forked from one that has imported what every run of the tool imports.

They end like any other process, by themselves or by kill -9. Importing takes longer than what most of them do.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

WARM = ("pytest_pveha.hooks", "pytest_pveha.fixtures", "pytest_html.report", "paramiko", "jinja2", "ruamel.yaml")
LIMIT = 400
"""Real seconds after which one is no longer waited for: it hangs. No result depends on it."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    returncode: int
    """Negative: the signal that ended it."""
    output: str
    """What it said, on both streams."""


def run_pytest(words: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Ended:
    """``python -m pytest`` with these words has ended."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile(prefix="pv-output-") as output:
        order = {"words": list(words), "env": dict(env), "cwd": str(cwd), "output": output.name}
        server.stdin.write(json.dumps(order).encode() + b"\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], LIMIT)[0]:
            server.kill()
            _server.cache_clear()
            raise AssertionError(f"it hangs: {Path(output.name).read_text()}")
        status = server.stdout.readline()
        assert status, "the process that was to start it is gone"
        return Ended(os.waitstatus_to_exitcode(int(status)), Path(output.name).read_text())


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


def _serve() -> dict[str, str] | None:
    """One order after the other; in the process forked for it, that order."""
    for order in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            return dict(json.loads(order))
        _, status = os.waitpid(child, 0)
        sys.stdout.buffer.write(b"%d\n" % status)
        sys.stdout.buffer.flush()
    return None


def _become(order: Mapping[str, object]) -> None:
    """This process is as if it had been started for that order."""
    with Path(os.devnull).open("rb") as nothing, Path(str(order["output"])).open("wb") as output:
        for here, there in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(here.fileno(), there)
    environment = order["env"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(order["cwd"]))
    sys.path[:0] = [str(Path.cwd()), *environment.get("PYTHONPATH", "").split(os.pathsep)]


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
        sys.argv = ["pytest", "-W", "ignore::pytest.PytestAssertRewriteWarning", *order["words"]]  # it was imported
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
