"""A real guest to write in: QEMU, in software, Debian's kernel, busybox, an ext4 disk, and Debian's qemu-guest-agent.

What of Proxmox VE stands between its API and the agent is played here: the same paths, parameters and replies as
qemu-server makes of them (PVE/API2/Qemu/Agent.pm, PVE/QemuServer/Agent.pm). It has no network.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from container import CACHE, dying_with_us, fetching
from guests import kernel
from lab import tool

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.agent import Agent
from pytest_pveha.wire.pve_api import Reply

CLOCK = LiveClock()
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk",
    "virtio_console", "crc16", "mbcache", "crc32c_generic", "jbd2", "ext4",
)  # fmt: skip
"""In the order in which they can be loaded."""
STARTING = 120.0
ANSWER = 3.0
"""Seconds that Proxmox VE waits for the agent's answer to a ping (qemu-server, qga_check_running)."""
FOLDER = "/disk"
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for each in $(cat /modules/order); do insmod /modules/$each.ko; done
until [ -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 /dev/vda /disk
for port in /dev/vport*; do break; done
echo "pveha is up" >/dev/console
while :; do qemu-ga -m virtio-serial -p $port; sleep 1; done
"""


def agent() -> Path:
    """Debian's qemu-ga, fetched once and kept."""
    path = CACHE / "qemu-ga"
    with fetching(path.name):
        if path.exists():
            return path
        with tempfile.TemporaryDirectory(prefix="pveha-agent-") as place:
            words = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "qemu-guest-agent"]
            if subprocess.run(words, cwd=place, capture_output=True, check=False).returncode != 0:
                pytest.skip("apt-get download has no qemu-guest-agent")
            (archive,) = Path(place).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, f"{place}/x"], check=True)
            shutil.copy(f"{place}/x/usr/sbin/qemu-ga", path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
    return path


def initramfs(folder: Path) -> Path:
    """What it boots into."""
    root, made = folder / "root", kernel("kernel-virtio", MODULES)
    for each in ("bin", "dev", "proc", "sys", "modules", "usr/sbin", "var/run", "var/log", "disk", "tmp"):
        (root / each).mkdir(parents=True)
    os.mknod(root / "dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    for program, place in ((shutil.which("busybox") or "", "bin/busybox"), (str(agent()), "usr/sbin/qemu-ga")):
        shutil.copy(program, root / place)
        for line in tool("ldd", program, check=False).splitlines():
            library = next((word for word in line.split() if word.startswith("/")), None)
            if library:
                (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, root / library.lstrip("/"))
    for name in MODULES:
        shutil.copy(made / f"{name}.ko", root / "modules")
    (root / "modules/order").write_text("\n".join(MODULES) + "\n")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    with (folder / "initramfs.cpio").open("wb") as out:
        names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=out, check=True)
    shutil.rmtree(root)
    return folder / "initramfs.cpio"


class Machine:
    """One QEMU on one disk, by its QMP and its agent's socket."""

    def __init__(self, folder: Path, boots: Path, drive: str) -> None:
        folder.mkdir()
        self.folder = folder
        words = [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "192", "-nodefaults", "-no-user-config",
            "-display", "none", "-kernel", str(kernel("kernel-virtio", MODULES) / "vmlinuz"), "-initrd", str(boots),
            "-append", "console=ttyS0 quiet panic=1 rdinit=/init", "-serial", f"file:{folder}/console",
            "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-drive", f"if=none,id=disk,{drive}", "-device", "virtio-blk-pci,drive=disk",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=qga,path={folder}/qga,server=on,wait=off",
            "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
        ]  # fmt: skip
        self.process = dying_with_us(words, folder / "log")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """What QMP answers."""
        with _connected(self.folder / "qmp", STARTING) as sock, sock.makefile("rw", encoding="utf-8") as lines:
            lines.readline()
            for each in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                lines.write(json.dumps(each) + "\n")
                lines.flush()
                while "return" not in (told := json.loads(lines.readline())):
                    assert "error" not in told, told
            return told["return"]

    def up(self) -> Agent:
        """Its agent has answered."""
        way = Agent("vm:101", "pve1", self)  # type: ignore[arg-type]
        deadline = CLOCK.deadline(STARTING)
        while True:
            try:
                way.ping(CLOCK.deadline(ANSWER))
            except ProtocolError:
                console = self.folder / "console"
                assert not deadline.expired(), console.read_text(errors="replace")[-2000:]
                assert self.process.poll() is None, (self.folder / "log").read_text()
                CLOCK.sleep(0.2)
            else:
                return way

    def kill(self) -> None:
        """Its process was killed."""
        self.process.kill()
        self.process.wait()

    # what Proxmox VE's API makes of its agent

    def get(self, path: str, *, deadline: Deadline, **params: Any) -> Reply:
        """As PveApi's."""
        return self._asked(path, params)

    def post(self, path: str, *, deadline: Deadline, **params: Any) -> Reply:
        """As PveApi's."""
        return self._asked(path, params)

    def _asked(self, path: str, params: dict[str, Any]) -> Reply:
        asked = CLOCK.now()
        what = path.removeprefix("/nodes/pve1/qemu/101/agent/")
        try:
            with _connected(self.folder / "qga", ANSWER) as sock, sock.makefile("rwb") as lines:
                value = self._command(_Ga(lines), what, params)
        except (OSError, ValueError) as error:
            raise ProtocolError(f"500 QEMU guest agent is not running ({error})", status=500) from None
        return Reply(value, "pve1", asked, CLOCK.now())

    def _command(self, ga: _Ga, what: str, params: dict[str, Any]) -> Any:
        ga.sync()
        if what == "exec":
            path, *words = params["command"]
            more = {"input-data": _b64(params["input-data"].encode())} if "input-data" in params else {}
            return ga.ask("guest-exec", path=path, arg=words, **{"capture-output": True}, **more)
        if what == "exec-status":
            told = ga.ask("guest-exec-status", pid=params["pid"])
            told["exited"] = int(told["exited"])  # Perl has no true
            for key in ("out-data", "err-data"):
                if key in told:
                    told[key] = base64.b64decode(told[key]).decode("latin-1")
            return told
        if what == "file-read":
            handle = ga.ask("guest-file-open", path=params["file"])
            said = ga.ask("guest-file-read", handle=handle, count=1 << 20)
            ga.ask("guest-file-close", handle=handle)
            return {"content": base64.b64decode(said["buf-b64"]).decode("latin-1"), "bytes-read": said["count"]}
        if what == "file-write":
            handle = ga.ask("guest-file-open", path=params["file"], mode="wb")
            ga.ask("guest-file-write", handle=handle, **{"buf-b64": params["content"]})
            ga.ask("guest-file-close", handle=handle)
            return None
        return {"result": ga.ask(f"guest-{what}")}


class _Ga:
    """The agent's own protocol: qga/qapi-schema.json."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def sync(self) -> None:
        """What others asked before is answered."""
        own = CLOCK.now().mono  # nobody else's: answers to who has hung up since come first
        words = {"execute": "guest-sync", "arguments": {"id": own}}
        self._lines.write(b"\xff" + json.dumps(words).encode() + b"\n")
        self._lines.flush()
        while (row := self._lines.readline()) and json.loads(row).get("return") != own:
            pass

    def ask(self, command: str, **arguments: Any) -> Any:
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._lines.flush()
        told = json.loads(self._lines.readline())
        if "error" in told:
            raise ProtocolError(f"500 Agent error: {told['error']['desc']}", status=500)
        return told["return"]


def disk(path: Path, size: str = "64M") -> Path:
    """A new disk with ext4 on it."""
    with path.open("wb") as file:
        file.truncate(int(size.removesuffix("M")) << 20)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", str(path))
    return path


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _connected(path: Path, within: float) -> socket.socket:
    deadline = CLOCK.deadline(within)
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(within)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            if deadline.expired():
                raise
            CLOCK.sleep(0.05)
        else:
            return sock


__all__ = ["CLOCK", "FOLDER", "Machine", "disk", "initramfs"]
