"""The files of a simulated node that the world itself writes: /proc, the cluster's configuration, the system's name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from pytest_pveha.sim.servers import mounts
from pytest_pveha.sim.servers.facts import KERNEL, KERNEL_BUILD, Facts, digest
from pytest_pveha.sim.servers.links import FOLDER, bonding
from pytest_pveha.sim.servers.storage_facts import configured
from pytest_pveha.sim.world.pbs import KEY

_WATCHDOG = "/sys/class/watchdog/watchdog0/"
_OS_RELEASE = """PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
VERSION="13 (trixie)"
VERSION_CODENAME=trixie
DEBIAN_VERSION_FULL=13.2
ID=debian
HOME_URL="https://www.debian.org/"
SUPPORT_URL="https://www.debian.org/support"
BUG_REPORT_URL="https://bugs.debian.org/"
"""
SYSRQ = "/proc/sysrq-trigger"
"""Takes commands to the kernel from root, whatever kernel.sysrq says (kernel docs, admin-guide/sysrq)."""
_FOLDERS = frozenset(
    {"/", "/etc", "/etc/pve", "/etc/pve/ha", "/etc/corosync", "/proc", "/run", "/run/systemd/system", "/root", "/tmp"}
)


def content(facts: Facts, path: str) -> str | None:
    """A file's text, or None if there is no such file."""
    name = facts.node.name
    if match := re.fullmatch(r"/etc/pve/(?:nodes/([^/]+)/|local/)?(qemu-server|lxc)/(\d+)\.conf", path):
        guest = facts.world.guests.get(int(match[3]))
        folder = "lxc" if guest is not None and guest.kind == "ct" else "qemu-server"
        if guest is None or folder != match[2] or facts.view.config_nodes.get(guest.vmid) != (match[1] or name):
            return None
        return "".join(f"{key}: {value}\n" for key, value in sorted(configured(facts, guest).items()))
    if (match := re.fullmatch(r"/etc/pve/nodes/([^/]+)/lrm_status", path)) and match[1] in facts.world.nodes:
        status = facts.ha_status["lrm_status"].get(match[1])
        return None if status is None else json.dumps(status)
    if (told := mounts.content(facts, path)) is not None:
        return told
    if path.startswith(FOLDER):
        return bonding(facts, path)
    if match := re.fullmatch(r"/(?:var/)?run/qemu-server/(\d+)\.pid", path):
        guest = facts.world.guests.get(int(match[1]))
        process = guest.processes.get(name) if guest is not None and guest.kind == "vm" else None
        return None if process is None else f"{process.pid}\n"
    if (backup := facts.world.pbs.spec) is not None and path == f"/etc/pve/priv/storage/{backup.storage}.enc":
        return '{"kdf":null,"fingerprint":"' + KEY + '"}\n' if facts.world.pbs.key_there else None
    files: dict[str, Callable[[], str]] = {
        "/proc/sys/kernel/random/boot_id": lambda: f"{facts.node.boot_id}\n",
        "/proc/uptime": lambda: f"{facts.uptime():.2f} {facts.uptime() * 8:.2f}\n",
        "/proc/version": lambda: f"Linux version {KERNEL} {KERNEL_BUILD}\n",
        "/etc/pve/.members": lambda: _members(facts),
        "/proc/sys/kernel/panic": lambda: f"{facts.node.spec.kernel_panic}\n",
        "/proc/sys/kernel/sysrq": lambda: "438\n",
        SYSRQ: lambda: "",
        "/proc/loadavg": lambda: "0.10 0.10 0.10 1/300 2000\n",
        "/sys/class/dmi/id/product_uuid": lambda: f"{facts.node.spec.system_uuid}\n",
        "/etc/hostname": lambda: f"{name}\n",
        "/etc/machine-id": lambda: f"{digest('machine', name)[:32]}\n",
        "/etc/os-release": lambda: _OS_RELEASE,
        "/etc/debian_version": lambda: "13.2\n",
        "/etc/pve/corosync.conf": lambda: _corosync_conf(facts),
        "/etc/corosync/corosync.conf": lambda: _corosync_conf(facts, local=True),
        "/etc/pve/ha/manager_status": lambda: json.dumps(facts.ha_status["manager_status"], sort_keys=True),
        "/etc/pve/ha/resources.cfg": lambda: _resources_cfg(facts),
        "/etc/default/pve-ha-manager": lambda: _ha_manager_default(facts),
    }
    # the BMC's driver is no part of the kernel's watchdog core, so it is not there (drivers/char/ipmi/ipmi_watchdog.c)
    if path.startswith(_WATCHDOG) and facts.node.spec.watchdog_driver != "ipmi_watchdog":
        values = {"identity": facts.node.spec.watchdog_identity, "timeout": "10", "state": "active", "nowayout": "0"}
        value = values.get(path.removeprefix(_WATCHDOG))
        return None if value is None else f"{value}\n"
    return files[path]() if path in files else None


def is_folder(facts: Facts, path: str) -> bool:
    path = path.rstrip("/") or "/"
    if path == "/run/watchdog-mux.active":
        return facts.node.watchdog_active
    nodes = {f"/etc/pve/nodes/{name}" for name in facts.world.nodes}
    return path in _FOLDERS or path in nodes


def _corosync_conf(facts: Facts, *, local: bool = False) -> str:
    spec = facts.world.spec
    last = list(facts.world.nodes)[-1]
    behind = local and facts.world.planted("corosync-config-differs") and facts.node.name == last
    nodes = "".join(
        f"  node {{\n    name: {node.name}\n    nodeid: {node.nodeid}\n    quorum_votes: 1\n"
        + "".join(f"    ring{link}_addr: {facts.address(node, link)}\n" for link in range(spec.links))
        + "  }\n"
        for node in facts.world.nodes.values()
    )
    return (
        "logging {\n  debug: off\n  to_syslog: yes\n}\n\n"
        f"nodelist {{\n{nodes}}}\n\n"
        f"quorum {{\n{_device(facts)}  provider: corosync_votequorum\n"
        + ("  two_node: 1\n" if spec.two_node else "")
        + "}\n\n"
        f"totem {{\n  cluster_name: {spec.cluster}\n  config_version: {len(spec.nodes) - behind}\n"
        + "".join(f"  interface {{\n    linknumber: {link}\n  }}\n" for link in range(spec.links))
        + "  ip_version: ipv4-6\n  link_mode: passive\n  secauth: on\n"
        f"  token_coefficient: {spec.token_coefficient}\n  version: 2\n}}\n\n"
    )


def _device(facts: Facts) -> str:
    """The section of the quorum device, as `pvecm qdevice setup` writes it."""
    spec, device = facts.world.spec, facts.world.corosync.device
    if not device.algorithm:
        return ""
    return (
        f"  device {{\n    model: net\n    net {{\n      algorithm: {device.algorithm}\n"
        f"      host: {spec.qdevice_host}\n      tls: on\n    }}\n    votes: {device.votes}\n  }}\n"
    )


def _members(facts: Facts) -> str:
    """As pmxcfs writes it (seen on PVE 9.2)."""
    here = facts.view.members
    rows = ",\n".join(
        f'  "{node.name}": {{ "id": {node.nodeid}, "online": {int(node.nodeid in here)}, '
        f'"ip": "{facts.address(node)}"}}'
        for node in facts.world.nodes.values()
    )
    count = len(facts.world.nodes)
    return (
        f'{{\n"nodename": "{facts.node.name}",\n"version": 5,\n'
        f'"cluster": {{ "name": "{facts.world.spec.cluster}", "version": {count}, "nodes": {count}, '
        f'"quorate": {int(facts.view.quorate)} }},\n"nodelist": {{\n{rows}\n  }}\n}}\n'
    )


def _ha_manager_default(facts: Facts) -> str:
    driver = facts.node.spec.watchdog_driver
    chosen = "#WATCHDOG_MODULE=" if driver == "softdog" else f"WATCHDOG_MODULE={driver}"
    return f"# select watchdog module (default is softdog)\n{chosen}\n"


def _resources_cfg(facts: Facts) -> str:
    return "\n".join(
        f"{resource['type']}: {resource['sid'].partition(':')[2]}\n\tstate {resource['state']}\n"
        for resource in facts.ha_resources
    )
