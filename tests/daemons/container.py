"""A machine whose first process is the real systemd: Debian in a container of systemd-nspawn, reached by its own sshd.

It shares this host's network and listens on loopback alone. Everything it mounts is in a mount namespace of its own,
and it dies with whoever started it, so that nothing is left of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from packages import PACKAGES, lacks
from ruamel.yaml import YAML

from pytest_pveha.clock import Deadline, LiveClock

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pveha-tests"
"""Where the root file system is kept between runs; the only thing that stays."""
RELEASES = {"bookworm": "systemd-252", "trixie": "systemd-257"}
"""Debian 12, under Proxmox VE 8, and Debian 13, under Proxmox VE 9."""
INSIDE = "systemd,systemd-sysv,dbus,openssh-server,procps"
ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""A program that is started so has its own mounts and processes, none of which outlives it."""
BUILDING = 600.0
STARTING = 60.0

_START = r"""set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run   # what systemd-nspawn notes down of its machines
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --resolv-conf=off \
    --machine="$3" --directory="$2/root" --boot $4
"""
_FORCE = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
"""systemd 257 refuses the first version of cgroups otherwise, which some hosts still have."""


def root_file_system(release: str) -> Path:
    """A minimal Debian, made once and kept. Skips the test, with the reason, where there can be none."""
    root = CACHE / f"debian-{release}"
    if os.geteuid() != 0:
        pytest.skip("systemd as PID 1 needs root")
    for tool in ("systemd-nspawn", *(() if root.exists() else ("debootstrap",))):
        if lacks(tool):
            pytest.skip(f"{tool} is not installed: apt-get install {PACKAGES[tool]}")
    with fetching("debian"):
        if not root.exists():  # all at once, for whoever needs one needs the others next
            with ThreadPoolExecutor() as pool:
                said = dict(zip(RELEASES, pool.map(_made, RELEASES), strict=True))
            if not root.exists():
                pytest.skip(f"debootstrap made no Debian {release}: {said[release]}")
    return root


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Nobody else puts that into the cache meanwhile."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made(release: str) -> str:
    """That release is there; else how debootstrap failed. Its mounts, and all of it, die with us."""
    root = CACHE / f"debian-{release}"
    if root.exists():
        return ""
    draft = root.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={INSIDE}", release, str(draft)]
    made = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", *ALONE, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILDING,
        check=False,
    )
    if made.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        return (made.stdout + made.stderr).strip()[-200:]
    for lists in (draft / "var/lib/apt/lists", draft / "var/cache/apt/archives"):
        shutil.rmtree(lists, ignore_errors=True)
    draft.rename(root)
    return ""


def dying_with_us(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """That program, started in a session of its own; the kernel kills it when we die, however we do."""
    with log.open("ab") as file:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Container:
    """One machine; its disk is what it wrote over the root file system, and outlives its power."""

    def __init__(self, folder: Path, name: str, release: str) -> None:
        self.folder = folder
        self._root = root_file_system(release)
        self.name = name
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        for each in ("upper", "work", "root"):
            (folder / each).mkdir(parents=True)
        self.key = folder / "key"
        for path in (self.key, folder / "host-key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "of a test", "-f", str(path)]
            subprocess.run(words, check=True, timeout=STARTING)
        self._put("etc/hostname", f"{name}\n")
        self._put("etc/ssh/pveha_keys", (folder / "key.pub").read_text(), 0o644)
        self._put("etc/ssh/pveha_host_key", (folder / "host-key").read_text())
        # since OpenSSH 9.8, whoever only looks whether sshd is there is kept off for a while
        lenient = "" if release == "bookworm" else "PerSourcePenalties no\n"
        self._put(
            "etc/ssh/sshd_config.d/pveha.conf",
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey /etc/ssh/pveha_host_key\n"
            f"AuthorizedKeysFile /etc/ssh/pveha_keys\n{lenient}",
        )

    @property
    def host_key(self) -> str:
        """Its public host key, as an inventory has it."""
        kind, key, *_ = (self.folder / "host-key.pub").read_text().split()
        return f"{kind} {key}"

    def _put(self, path: str, content: str, mode: int = 0o600) -> None:
        file = self.folder / "upper" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in (file.parent, *file.parents):
            if folder == self.folder / "upper":
                break
            folder.chmod(0o755)
        file.write_text(content)
        file.chmod(mode)

    def file(self, path: str) -> Path:
        """Where the host sees what the machine wrote to that path."""
        return self.folder / "upper" / path.lstrip("/")

    def start(self) -> None:
        """It was switched on, and sshd answers."""
        force = _FORCE if Path("/sys/fs/cgroup/systemd").exists() else ""
        inner = ["sh", "-c", _START, "sh", str(self._root), str(self.folder), self.name, force]
        self._process = dying_with_us([*ALONE, *inner], self.folder / "console")
        deadline = LiveClock().deadline(STARTING)
        while not self._greets(deadline):
            assert self._process.poll() is None, (self.folder / "console").read_text()[-2000:]
            assert not deadline.expired(), (self.folder / "console").read_text()[-2000:]
            deadline.clock.sleep(0.1)

    def _greets(self, deadline: Deadline) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=deadline.remaining()) as conn:
                return conn.recv(4) == b"SSH-"
        except OSError:
            return False

    def cut_power(self) -> None:
        """Every process of it is gone, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            deadline = LiveClock().deadline(STARTING)
            while self._greets(deadline):  # its first process dies right after the one we killed
                assert not deadline.expired()
                deadline.clock.sleep(0.05)

    def inventory(self) -> Path:
        """A site of this one node; its API is not there."""
        content = {
            "site": {"name": "one-machine"},
            "cluster": {
                "name": "none",
                "api": {
                    "endpoints": ["127.0.0.1:1", "127.0.0.1:2"],
                    "token_id": "nobody@pve!none",
                    "token_secret": "env:PVEHA_NO_SUCH_TOKEN",
                    "fingerprints": dict.fromkeys(("127.0.0.1:1", "127.0.0.1:2"), ":".join(["00"] * 32)),
                },
            },
            "nodes": {
                "pve1": {
                    "address": "127.0.0.1",
                    "ssh": {"port": self.port, "key_file": str(self.key), "host_key": self.host_key},
                }
            },
            "objectives": {"tiers": {"gold": {"rto": "5 min"}}},
        }
        path = self.folder / "site.yml"
        with path.open("w") as file:
            YAML().dump(content, file)
        return path


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
