"""Real guests: QEMU, in software, with Debian's kernel, busybox and the host's own sshd, watched over a bridge.

They live in the laboratory's switch, and die with whoever started them.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from container import CACHE, dying_with_us, fetching
from lab import Lab, tool
from ruamel.yaml import YAML

from pytest_pveha.clock import SECOND, LiveClock

CLOCK = LiveClock()
NETWORK, WATCHER = "guests", "watcher"
HTTP = 8006
"""Where a guest answers as long as it lives: as a node its API would be there."""
MODULES = ("e1000", "watchdog", "i6300esb", "softdog")
"""In the order in which they can be loaded."""
STARTING = 180.0
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts pts /dev/pts
for each in $(cat /modules/order); do case $each in i6300esb|softdog) ;; *) insmod /modules/$each.ko;; esac; done
for word in $(cat /proc/cmdline); do case $word in pveha.*) export "${word#pveha.}";; esac; done
[ -n "$dog" ] && insmod /modules/$dog.ko $(echo "$options" | tr + ' ')
hostname pve1
ip link set lo up; ip addr add "$address/24" dev eth0; ip link set eth0 up
mkdir -p /etc/pve/nodes/pve1 /run/sshd /var/empty /root; mount -t tmpfs -o size=100m tmp /tmp
httpd -p 8006 -h /etc/pve
/usr/sbin/sshd
echo "pveha is up" >/dev/console
while :; do sleep 1000; done
"""
FEED = """#!/bin/sh
# as an LRM does: feeds, and then writes down that it did
exec 3>/dev/watchdog
round=0
while :; do
  echo >&3
  round=$((round + 1))
  echo "{\\"round\\": $round}" >/etc/pve/nodes/pve1/lrm_status
  sleep 5
done
"""


# --- what they boot -------------------------------------------------------------------------------------------------


def kernel(name: str = "kernel", modules: Sequence[str] = MODULES) -> Path:
    """A folder of that name with Debian's kernel and those modules, fetched once and kept."""
    folder = CACHE / name
    with fetching(name):
        if not folder.exists():
            _fetch_kernel(folder, modules)
    return folder


def _fetch_kernel(folder: Path, modules: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="pveha-kernel-") as place:
        said = subprocess.run(
            ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False
        )
        package = next((line.split()[-1] for line in said.stdout.splitlines() if "Depends:" in line), "")
        words = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package or "linux-image-amd64"]
        if subprocess.run(words, cwd=place, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"apt-get download has no kernel for guests ({package or 'linux-image-amd64'})")
        (archive,) = Path(place).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, f"{place}/x"], check=True)
        draft = folder.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        shutil.copy(next(Path(place, "x/boot").glob("vmlinuz-*")), draft / "vmlinuz")
        for module in modules:
            for found in Path(place).rglob(f"{module}.ko*"):
                content = found.read_bytes()
                (draft / f"{module}.ko").write_bytes(lzma.decompress(content) if found.suffix == ".xz" else content)
        draft.rename(folder)


def initramfs(folder: Path) -> Path:
    """What the guests boot into: busybox, sshd with a key of its own, and an API that lives as long as the kernel."""
    root, made = folder / "initramfs", kernel()
    for each in ("bin", "dev", "proc", "sys", "etc/ssh", "modules", "usr/sbin", "var", "tmp"):
        (root / each).mkdir(parents=True)
    os.mknod(root / "dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    shutil.copy("/usr/sbin/sshd", root / "usr/sbin/sshd")
    for line in tool("ldd", "/usr/sbin/sshd").splitlines():
        library = next((word for word in line.split() if word.startswith("/")), None)
        if library:
            (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library.lstrip("/"))
    for path in made.glob("*.ko"):
        shutil.copy(path, root / "modules")
    (root / "modules/order").write_text("\n".join(each for each in MODULES if (made / f"{each}.ko").exists()) + "\n")
    for name in ("key", "host-key"):
        tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name))
    shutil.copy(folder / "host-key", root / "etc/ssh/host_key")
    shutil.copy(folder / "key.pub", root / "etc/ssh/authorized_keys")
    (root / "etc/ssh/sshd_config").write_text(
        "HostKey /etc/ssh/host_key\nAuthorizedKeysFile /etc/ssh/authorized_keys\nStrictModes no\nUsePAM no\n"
    )
    (root / "etc/passwd").write_text("root:*:0:0::/root:/bin/sh\nsshd:*:1:1::/var/empty:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nsshd:x:1:\n")
    for name, script in (("init", INIT), ("bin/feed", FEED)):
        (root / name).write_text(script)
        (root / name).chmod(0o755)
    with (folder / "initramfs.cpio").open("wb") as out:
        names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=out, check=True)
    shutil.rmtree(root)
    return folder / "initramfs.cpio"


# --- one of them ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """What QEMU told of itself, and when: mono ns of this host, to the microsecond."""

    name: str
    at: int


class Guest:
    """A process of QEMU's. Its end, and what it says by QMP, is the truth."""

    def __init__(
        self, place: Guests, name: str, address: str, *, kernel_words: str = "", more: Sequence[str] = ()
    ) -> None:
        self._place = place
        self.name, self.address = name, address
        folder = place.folder / name
        folder.mkdir()
        card = f"tap-{name}"
        tool("ip", "-n", place.switch, "tuntap", "add", card, "mode", "tap")
        tool("ip", "-n", place.switch, "link", "set", card, "master", NETWORK, "up")
        self._console = folder / "console"
        line = f"console=ttyS0 quiet panic=1 rdinit=/init pveha.address={address} {kernel_words}"
        # the same card wherever it runs: a guest that moves keeps it
        mac = "52:54:00:00:00:{:02x}".format(int(address.rpartition(".")[2]))
        words = [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-no-user-config",
            "-display", "none", "-kernel", str(kernel() / "vmlinuz"), "-initrd", str(place.initramfs), "-append", line,
            "-serial", f"file:{self._console}", "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-netdev", f"tap,id=n,ifname={card},script=no,downscript=no",
            "-device", f"e1000,netdev=n,mac={mac}",
            *more,
        ]  # fmt: skip
        self.process = dying_with_us(["ip", "netns", "exec", place.switch, *words], folder / "log")
        self._qmp = self._connected(folder / "qmp", folder / "log")
        self._lines = self._qmp.makefile("r", encoding="utf-8")
        self._events: list[Event] = []
        self._lines.readline()  # the greeting
        self.ask("qmp_capabilities")

    def _connected(self, path: Path, log: Path) -> socket.socket:
        deadline = CLOCK.deadline(STARTING)
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(STARTING)
            try:
                sock.connect(str(path))
                return sock
            except OSError:
                sock.close()
                assert self.process.poll() is None, log.read_text()
                assert not deadline.expired()
                CLOCK.sleep(0.05)

    def ask(self, command: str, **arguments: Any) -> Any:
        """What QMP answers; events that come meanwhile are kept."""
        self._qmp.sendall((json.dumps({"execute": command, "arguments": arguments}) + "\n").encode())
        while True:
            told = json.loads(self._lines.readline())
            if "event" in told:
                at = told["timestamp"]["seconds"] * SECOND + told["timestamp"]["microseconds"] * 1000
                now = CLOCK.now()
                self._events.append(Event(told["event"], at - now.utc + now.mono))
            elif "return" in told:
                return told["return"]
            else:
                raise RuntimeError(f"{self.name}: {command}: {told}")

    def events(self, name: str) -> list[Event]:
        """What it told by that name so far."""
        self.ask("query-status")  # whatever was told before stands before its answer
        return [event for event in self._events if event.name == name]

    def boots(self) -> int:
        """How often it came up."""
        return self._console.read_text(errors="replace").count("pveha is up") if self._console.exists() else 0

    def up(self, times: int = 1) -> None:
        """It has come up so many times."""
        deadline = CLOCK.deadline(STARTING)
        while self.boots() < times:
            assert self.process.poll() is None
            assert not deadline.expired(), self._console.read_text(errors="replace")[-2000:]
            CLOCK.sleep(0.1)

    def kill(self) -> tuple[int, int]:
        """Its process was killed; between which moments (mono ns) it ended."""
        before = CLOCK.now().mono
        self.process.kill()
        self.process.wait()
        return before, CLOCK.now().mono

    def close(self) -> None:
        """Nothing of it is left."""
        self.kill()
        self._lines.close()
        self._qmp.close()
        tool("ip", "-n", self._place.switch, "link", "delete", f"tap-{self.name}", check=False)


class Guests:
    """Where they live: the laboratory's switch, and a machine beside it from which they are watched."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self.switch = lab._switch
        self.initramfs = initramfs(folder)
        self._lab = lab
        self._started: list[Guest] = []
        if NETWORK not in lab._networks:
            lab.network(NETWORK)
            lab.machine(WATCHER, {NETWORK: "10.41.0.1/24"}).start()

    def start(self, name: str, address: str, **more: Any) -> Guest:
        """That guest was switched on."""
        guest = Guest(self, name, address, **more)
        self._started.append(guest)
        return guest

    @contextmanager
    def watching(self) -> Iterator[None]:
        """This thread and what it starts are on the machine beside."""
        with self._lab.inside(WATCHER):
            yield

    def close(self) -> None:
        """No guest is left."""
        for guest in self._started:
            guest.close()
        self._started.clear()

    def inventory(self, guest: Guest) -> Path:
        """A site whose one node is that guest."""
        kind, key, *_ = (self.folder / "host-key.pub").read_text().split()
        ends = [f"{guest.address}:{HTTP}", f"{guest.address}:{HTTP + 1}"]
        content = {
            "site": {"name": "one-guest"},
            "cluster": {
                "name": "none",
                "api": {
                    "endpoints": ends,
                    "token_id": "nobody@pve!none",
                    "token_secret": "env:PVEHA_NO_SUCH_TOKEN",
                    "fingerprints": dict.fromkeys(ends, ":".join(["00"] * 32)),
                },
            },
            "nodes": {
                "pve1": {
                    "address": guest.address,
                    "ssh": {"key_file": str(self.folder / "key"), "host_key": f"{kind} {key}"},
                }
            },
            "objectives": {"tiers": {"gold": {"rto": "5 min"}}},
        }
        path = self.folder / f"{guest.name}.yml"
        with path.open("w") as file:
            YAML().dump(content, file)
        return path
