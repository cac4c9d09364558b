"""Packages, as dpkg-query tells them."""

from __future__ import annotations

import re

from pytest_pveha.sim.servers.commands.registry import command, option
from pytest_pveha.sim.servers.shell import Invocation, Result

_PACKAGES = {
    "corosync": "3.1.9-pve2",
    "pve-cluster": "9.0.7",
    "pve-ha-manager": "5.1.3",
    "pve-qemu-kvm": "10.1.2-7",
    "qemu-server": "9.1.6",
    "proxmox-ve": "9.1.0",
    "openssh-server": "1:10.0p1-7",
    "systemd": "257.9-1~deb13u1",
}


@command("dpkg-query")
def _dpkg_query(call: Invocation) -> Result:
    form = option(call.args, "-f", "--showformat") or "${Package}\t${Version}\n"
    names = [arg for at, arg in enumerate(call.args) if not arg.startswith("-") and call.args[at - 1] not in ("-f",)]
    versions = {**_PACKAGES, "pve-manager": call.facts.world.spec.version}
    out, err = "", ""
    for name in names:
        if name not in versions:
            err += f"dpkg-query: no packages found matching {name}\n"
            continue
        values = {"Package": name, "Version": versions[name], "Status": "install ok installed", "Architecture": "amd64"}
        out += _filled(form, values).replace("\\n", "\n").replace("\\t", "\t")
    return Result(1 if err else 0, out, err)


def _filled(form: str, values: dict[str, str]) -> str:
    """The form with each ``${Field}`` replaced."""
    return re.sub(r"\$\{(\w+)\}", lambda part: values.get(part[1], ""), form)
