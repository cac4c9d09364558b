"""Processes: ps and pgrep."""

from __future__ import annotations

import re

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.commands.registry import command, options
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.ceph.units import kind_of
from pytest_pveha.sim.world.model import Guest, GuestProcess

_DAEMONS = {
    "corosync": "/usr/sbin/corosync -f",
    "pve-cluster": "/usr/bin/pmxcfs",
    "pve-ha-crm": "pve-ha-crm",
    "pve-ha-lrm": "pve-ha-lrm",
    "watchdog-mux": "/usr/sbin/watchdog-mux",
    "pvedaemon": "pvedaemon",
    "pveproxy": "pveproxy",
    "pvestatd": "pvestatd",
    "pvescheduler": "pvescheduler",
    "spiceproxy": "spiceproxy",
    "sshd": "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
}


def _stopped(facts: Facts) -> set[int]:
    """The pids of what was sent SIGSTOP."""
    return {facts.unit(name).pid for name in facts.node.halted}


def _processes(facts: Facts) -> list[tuple[int, int, str]]:
    """Pid, age in whole seconds and command line of what runs, by pid."""
    found = [(1, int(facts.uptime()), "/sbin/init")]
    for name, line in _DAEMONS.items():
        unit = facts.unit(name)
        if unit.pid:
            found.append((unit.pid, int(facts.now - unit.since), line))
    for name, state in facts.node.units.items():
        if (kind := kind_of(name)) and state.pid:
            age = (facts.world.timeline.now - state.since) // SECOND
            line = f"/usr/bin/{kind} -f --cluster ceph --id {name.partition('@')[2]} --setuser ceph --setgroup ceph"
            found.append((state.pid, age, line))
    for guest in facts.world.guests.values():
        process = guest.processes.get(facts.node.name)
        if process is not None:
            age = (facts.world.timeline.now - process.started_at) // SECOND
            found.append((process.pid, age, _guest_line(guest, process)))
    return sorted(found)


def _guest_line(guest: Guest, process: GuestProcess) -> str:
    vmid = guest.vmid
    if guest.kind == "ct":
        return f"/usr/bin/lxc-start -F -n {vmid}"
    return (
        f"/usr/bin/kvm -id {vmid} -name {guest.name},debug-threads=on -no-shutdown"
        f" -chardev socket,id=qmp,path=/var/run/qemu-server/{vmid}.qmp,server=on,wait=off -mon chardev=qmp,mode=control"
        f" -pidfile /var/run/qemu-server/{vmid}.pid -daemonize -smp 1,sockets=1,cores=1,maxcpus=1 -nodefaults"
        f" -vga none -nographic -cpu host,+kvm_pv_eoi,+kvm_pv_unhalt -m {guest.spec.memory_bytes >> 20}"
    )


@command("ps")
def _ps(call: Invocation) -> Result:
    columns = [column for value in options(call.args, "-o", "--format") for column in value.split(",")] or [
        "pid",
        "args",
    ]
    titles = [column.partition("=") for column in columns]
    widths = {"pid": 7, "ppid": 7, "etimes": 7}
    rows, halted = [], _stopped(call.facts)
    if not all(equals and not title for _, equals, title in titles):
        rows.append([title if equals else name.upper() for name, equals, title in titles])
    for pid, age, line in _processes(call.facts):
        values = {"pid": str(pid), "ppid": "1", "etimes": str(age), "args": line, "cmd": line, "command": line}
        values |= {
            "comm": line.split()[0].rpartition("/")[2].rstrip(":"),
            "stat": "Ts" if pid in halted else "Ss",
            "user": "root",
        }
        rows.append([values.get(name, "-") for name, _, _ in titles])
    names = [name for name, _, _ in titles]
    lines = [" ".join(v.rjust(widths.get(n, 0)) for n, v in zip(names, row, strict=True)).rstrip() for row in rows]
    return Result(out="".join(f"{line}\n" for line in lines))


@command("pgrep")
def _pgrep(call: Invocation) -> Result:
    pattern = next((arg for arg in call.args if not arg.startswith("-")), "")
    found = [pid for pid, _, line in _processes(call.facts) if re.search(pattern, line)]
    return Result(0 if found else 1, "".join(f"{pid}\n" for pid in found))
