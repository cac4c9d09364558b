"""A laboratory on this machine: machines for real daemons, wired to each other, and nothing of it elsewhere.

A machine is a network namespace with processes, mounts and a host name of its own; its files are the host's but for
``OWN``. Whatever belongs to a lab carries its name, ``pveha-lab-…``: the namespaces, and one folder in ``/run``, which
its owner holds locked. A lab whose folder nobody holds has lost its owner, and the next lab clears it away.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import secrets
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from packages import PACKAGES, lacks

from pytest_pveha.clock import LiveClock

TAG = "pveha-lab-"
RUN = Path("/run")
NAMESPACES = RUN / "netns"

AMPLE = 60.0
"""Seconds for what takes less than one on a machine that is not busy."""

BULKY = "/var/lib/ceph"
BULK = Path("/var/tmp")
"""What each machine has for itself of the former lies there, in a folder of the lab's name: ``/run`` may be memory."""

KEPT = "/var/lib/pveha"
"""What a run keeps on a node; there is an empty folder of that name on this host while there are labs, to be hidden by
each machine's own."""

OWN = (
    str(Path("~root").expanduser()), "/srv", "/usr/local", "/var/lib/corosync", "/var/log/corosync", BULKY,
    "/var/log/ceph", KEPT,
)  # fmt: skip
"""What each machine has for itself, empty at first; ``/etc``, too, which begins as a copy of the host's."""

BOOT = """
set -e
mount --make-rprivate /
for own in etc {own}; do mount --bind "{files}/$own" "/$own"; done
mount --bind "{files}/boot_id" /proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/sshd /run/lock /run/ceph
hostname {name}
trap '[ -e {deaf} ] || down=yes' PWR
down=
echo up
exec >/dev/null 2>&1
while [ ! "$down" ]; do sleep 3600 & wait $! || :; done
kill -TERM -1
while set -- /proc/[0-9]*; [ $# -gt 1 ]; do sleep 0.05; done
"""
"""What a machine does first. Then it waits, and reaps what its daemons left, until somebody presses its power button:
it asks its processes to end, waits for the last of them, and is off."""

DEAF = "/run/deaf"
"""Where a machine has that file nobody there listens to its power button."""

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def lacking(*tools: str) -> str:
    """Why there can be no lab with these tools here; empty where there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    for tool in ("ip", "nft", *tools):
        if lacks(tool):
            return f"{tool} is not installed: apt-get install {PACKAGES[tool]}"
    return _forbidden()


@functools.cache
def _forbidden() -> str:
    words = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "ip", "link"]
    tried = subprocess.run(words, capture_output=True, text=True, timeout=AMPLE, check=False)
    return "" if tried.returncode == 0 else f"no namespaces for us here: {tried.stderr.strip()}"


def needs(*tools: str) -> pytest.MarkDecorator:
    """The mark of tests that need a lab and these tools: elsewhere they are skipped, with the reason."""
    reason = lacking(*tools)
    return pytest.mark.skipif(bool(reason), reason=reason)


class Lab:
    """Machines and the networks between them. Whoever made it closes it."""

    def __init__(self) -> None:
        for folder in RUN.glob(f"{TAG}*"):
            _clear_away(folder)
        with _locked(RUN):
            self.name = TAG + secrets.token_hex(3)
            self.folder = RUN / self.name
            self.folder.mkdir(mode=0o700)
            self._owned = os.open(self.folder, os.O_RDONLY)
            fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.machines: dict[str, Machine] = {}
        self.at_end: list[Callable[[], None]] = []
        """What is called before the machines lose their power for good."""
        self._networks: list[str] = []
        self._switch = self.namespace("switch")

    def namespace(self, name: str) -> str:
        """A new network namespace of ours, with a loopback that is up; its full name."""
        full = f"{self.name}-{name}"
        tool("ip", "netns", "add", full)
        tool("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def network(self, name: str) -> None:
        """A bridge of that name is there for machines to be plugged into."""
        tool("ip", "-n", self._switch, "link", "add", "name", name, "type", "bridge")
        tool("ip", "-n", self._switch, "link", "set", name, "up")
        self._networks.append(name)

    def machine(self, name: str, addresses: Mapping[str, str]) -> Machine:
        """A new machine, not yet started, with such an address (``a/len``) in each of those networks: eth0, eth1 …"""
        space = self.namespace(name)
        for number, (network, address) in enumerate(addresses.items()):
            port, card = self.port(name, network), f"eth{number}"
            tool("ip", "-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", card, "netns", space)
            tool("ip", "-n", self._switch, "link", "set", port, "master", network, "up")
            tool("ip", "-n", space, "address", "add", address, "dev", card)
        self.machines[name] = Machine(self, name, space, {net: a.partition("/")[0] for net, a in addresses.items()})
        return self.machines[name]

    def port(self, machine: str, network: str) -> str:
        """What the switch calls the port of that machine in that network."""
        return f"{machine}-{self._networks.index(network)}"

    def plug(self, machine: str, network: str, *, connected: bool) -> None:
        """That machine's cable in that network is plugged in at the switch, or pulled."""
        word = "up" if connected else "down"
        tool("ip", "-n", self._switch, "link", "set", self.port(machine, network), word)

    @contextmanager
    def inside(self, machine: str) -> Iterator[None]:
        """This thread, and every thread and process it starts, is on that machine's network."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NAMESPACES / self.machines[machine].namespace, os.O_RDONLY)
        try:
            _set_namespace(there)
            yield
        finally:
            _set_namespace(home)
            os.close(there)
            os.close(home)

    def close(self) -> None:
        """Nothing of it is left."""
        for act in self.at_end:
            act()
        for machine in self.machines.values():
            machine.cut_power()
        _clear(self.folder)
        os.close(self._owned)
        with _locked(RUN), suppress(OSError):
            if not any(RUN.glob(f"{TAG}*")):
                Path(KEPT).rmdir()


class Machine:
    """One machine of a lab."""

    def __init__(self, lab: Lab, name: str, namespace: str, addresses: dict[str, str]) -> None:
        self.name = name
        self.namespace = namespace
        self.addresses = addresses
        """Its address in each network."""
        self._files = lab.folder / name
        Path(KEPT).mkdir(exist_ok=True)
        self._files.mkdir()
        tool("cp", "-a", "/etc", str(self._files / "etc"))
        for own in OWN:
            (self._files / own[1:]).parent.mkdir(parents=True, exist_ok=True)
            if own == BULKY:
                bulk = BULK / lab.name / name
                bulk.mkdir(parents=True)
                (self._files / own[1:]).symlink_to(bulk)
            else:
                (self._files / own[1:]).mkdir()
        (self._files / "usr/local/bin").mkdir()
        self.path("/etc/hostname").write_text(f"{name}\n")
        self.path("/etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        self._cord: subprocess.Popen[str] | None = None

    def path(self, name: str) -> Path:
        """Where this host finds a file that the machine has for itself."""
        return self._files / name[1:]

    @property
    def running(self) -> bool:
        """Whether it has power and has not gone down by itself."""
        cord = self._cord  # a board's thread asks, too
        return cord is not None and cord.poll() is None

    def start(self) -> None:
        """It has booted: no process of an earlier life is there, and no packet filter rule."""
        assert not self.running
        (self._files / "boot_id").write_text(f"{uuid.uuid4()}\n")
        tool("nft", "flush", "ruleset", within=self.namespace)
        for number in range(len(self.addresses)):
            tool("ip", "-n", self.namespace, "link", "set", f"eth{number}", "up")
        own = " ".join(each[1:] for each in OWN if Path(each).is_dir())
        script = BOOT.format(own=own, files=self._files, name=self.name, deaf=DEAF)
        # whatever ends this host's process, or the one that unshares, ends the machine
        words = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={NAMESPACES / self.namespace}", "unshare"]
        words += ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
        self._cord = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._cord.stdout is not None
        assert self._cord.stderr is not None
        if self._cord.stdout.readline() != "up\n":
            raise RuntimeError(f"{self.name} does not boot: {self._cord.stderr.read()}")
        children = Path(f"/proc/{self._cord.pid}/task/{self._cord.pid}/children").read_text().split()
        (self._first,) = children

    def cut_power(self) -> None:
        """It is dead, and silent on all its networks."""
        for number in range(len(self.addresses)):
            tool("ip", "-n", self.namespace, "link", "set", f"eth{number}", "down")
        if self._cord is None:
            return
        self._cord.kill()
        self._cord.communicate()
        self._cord = None

    def press_button(self) -> None:
        """Its power button was pressed for a moment; whether it goes down, and when, is its own affair."""
        with suppress(ProcessLookupError):  # it has just gone down
            os.kill(int(self._first), signal.SIGPWR)

    def run(self, *words: str, check: bool = True, within: float = AMPLE) -> str:
        """What the command printed there."""
        return tool(*self._entering(), *words, check=check, timeout=within)

    def daemon(self, *words: str) -> None:
        """The command runs there from now on; what it prints is in ``/run/NAME.out``."""
        out = f"/run/{Path(words[0]).name}.out"
        self.run("sh", "-c", 'out=$1; shift; setsid "$@" </dev/null >>"$out" 2>&1 &', "sh", out, *words)

    def _entering(self) -> list[str]:
        assert self.running, f"{self.name} has no power"
        return ["nsenter", "--target", self._first, "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]


def tool(*words: str, within: str = "", check: bool = True, timeout: float = AMPLE) -> str:
    """What a command of this host printed; run in the network namespace ``within``, if one is named."""
    line = [*(("ip", "netns", "exec", within) if within else ()), *words]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(line)} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def left_of(lab: str) -> list[str]:
    """What is still there of the lab of that name: folders, namespaces, processes."""
    spaces = [each for each in NAMESPACES.glob(f"{lab}-*")] if NAMESPACES.is_dir() else []
    pids = [pid for space in spaces for pid in _pids(space.name)]
    return [str(each) for each in (*RUN.glob(lab), *BULK.glob(lab), *spaces, *pids)]


@contextmanager
def nobody_clears_away() -> Iterator[None]:
    """No lab is begun by anybody meanwhile, and so none that has lost its owner is cleared away."""
    with _locked(RUN):
        yield


def cleared_away(lab: str) -> bool:
    """A next lab has begun, and nothing is left of that one: another may just be clearing it away."""
    Lab().close()
    clock = LiveClock()
    deadline = clock.deadline(AMPLE)
    while left_of(lab) and not deadline.expired():
        clock.sleep(0.05)
    return not left_of(lab)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _clear_away(folder: Path) -> None:
    """Nothing of the lab in that folder is left, unless somebody holds it: its owner, or another who clears it away."""
    with _locked(RUN):  # so that no folder is seen before its owner holds it
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return
    try:
        _clear(folder)
    finally:
        os.close(held)


def _clear(folder: Path) -> None:
    """Nothing of that lab is left; whoever calls holds it. Others begin and end theirs meanwhile."""
    for space in NAMESPACES.glob(f"{folder.name}-*"):
        _end_all(space.name)
        tool("ip", "netns", "delete", space.name)
    shutil.rmtree(BULK / folder.name, ignore_errors=True)
    shutil.rmtree(folder)


def _end_all(namespace: str) -> None:
    clock = LiveClock()
    deadline = clock.deadline(AMPLE)
    while pids := _pids(namespace):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if deadline.expired():
            raise RuntimeError(f"{namespace}: processes {pids} do not end")
        clock.sleep(0.05)


def _pids(namespace: str) -> list[int]:
    return [int(pid) for pid in tool("ip", "netns", "pids", namespace).split()]


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")
