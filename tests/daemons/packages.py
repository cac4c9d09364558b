"""Debian's packages that the tests against real daemons need; run as a program, it installs those that lack.

It starts none of their daemons: the tests do, on machines of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    "corosync": "corosync",
    "corosync-qdevice": "corosync-qdevice",
    "corosync-qnetd": "corosync-qnetd",
    "certutil": "libnss3-tools",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "ipmi_sim": "openipmi",
    "ipmitool": "ipmitool",
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "fping": "fping",
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "mke2fs": "e2fsprogs",
    "apt-get": "apt",
    "openssl": "openssl",
    "chromium": "chromium",
    "unshare": "util-linux",
    "ceph-mon": "ceph-mon",
    "ceph-mgr": "ceph-mgr",
    "ceph-osd": "ceph-osd",
    "ceph": "ceph-common",
    "ganesha.nfsd": "nfs-ganesha",
    "rpcbind": "rpcbind",
    "nfs-cp": "libnfs-utils",
    "tgtd": "tgt",
    "qemu-io": "qemu-utils",
    "curl": "curl",
}
"""Which package has which tool."""

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
POLICY = Path("/usr/sbin/policy-rc.d")
"""What maintainers' scripts ask before they start anything: status 101 forbids it."""


def lacks(tool: str) -> bool:
    """Whether that tool is not installed."""
    return shutil.which(tool, path=PATH) is None


def main() -> int:
    """Every package is installed, or it is said which are not; the tests skip what needs those."""
    missing = sorted({package for tool, package in PACKAGES.items() if lacks(tool)})
    if not missing:
        return 0
    if os.geteuid() != 0 or lacks("apt-get"):
        sys.stderr.write(f"not installed, and not ours to install: {' '.join(missing)}\n")
        return 0
    sys.stderr.write(f"installing: {' '.join(missing)}\n")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    with _nothing_starts():
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "install", "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL)
    return 0


@contextmanager
def _nothing_starts() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


if __name__ == "__main__":
    sys.exit(main())
