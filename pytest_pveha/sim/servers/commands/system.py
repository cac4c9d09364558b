"""What the machine says of itself, and the words every script uses."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.facts import KERNEL, KERNEL_BUILD
from pytest_pveha.sim.servers.shell import Invocation, Result


@command("true", ":")
def _true(_: Invocation) -> Result:
    return Result()


@command("false")
def _false(_: Invocation) -> Result:
    return Result(1)


@command("echo")
def _echo(call: Invocation) -> Result:
    if call.args[:1] == ["-n"]:
        return Result(out=" ".join(call.args[1:]))
    return Result(out=" ".join(call.args) + "\n")


@command("sleep")
def _sleep(call: Invocation) -> Result:
    units = {"s": 1, "m": 60, "h": 3600}
    seconds = 0.0
    for arg in call.args:
        match = re.fullmatch(r"(\d*\.?\d+)([smh]?)", arg)
        if match is None:
            return Result(1, err=f"sleep: invalid time interval ‘{arg}’\n")
        seconds += float(match[1]) * units[match[2] or "s"]
    return Result(wait=seconds)


@command("hostname")
def _hostname(call: Invocation) -> Result:
    if call.args == ["-I"]:
        node, world = call.facts.node, call.facts.world
        ceph = world.ceph
        known = list(dict.fromkeys([world.network.management(node), *world.network.addresses(node)]))
        if ceph is not None:
            known += [ceph.network.address(node.name, kind) for kind in ceph.network.kinds]
        return Result(out=" ".join(known) + " \n")
    return Result(out=f"{call.facts.node.name}\n")


@command("printenv")
def _printenv(call: Invocation) -> Result:
    found = [call.env[name] for name in call.args if name in call.env]
    return Result(0 if len(found) == len(call.args) else 1, "".join(f"{value}\n" for value in found))


@command("whoami")
def _whoami(_: Invocation) -> Result:
    return Result(out="root\n")


@command("id")
def _id(call: Invocation) -> Result:
    return Result(out="0\n" if "-u" in call.args else "uid=0(root) gid=0(root) groups=0(root)\n")


@command("uname")
def _uname(call: Invocation) -> Result:
    parts = {"s": "Linux", "n": call.facts.node.name, "r": KERNEL, "v": KERNEL_BUILD, "m": "x86_64", "o": "GNU/Linux"}
    asked = "".join(arg[1:] for arg in call.args) or "s"
    if "a" in asked:
        asked = "snrvmo"
    return Result(out=" ".join(parts[letter] for letter in parts if letter in asked) + "\n")


@command("uptime")
def _uptime(call: Invocation) -> Result:
    booted = datetime.fromtimestamp(int(call.facts.now - call.facts.uptime()), UTC)
    if "-s" in call.args:
        return Result(out=f"{booted:%Y-%m-%d %H:%M:%S}\n")
    minutes = int(call.facts.uptime() // 60)
    now = datetime.fromtimestamp(int(call.facts.now), UTC)
    return Result(out=f" {now:%H:%M:%S} up {minutes} min,  0 users,  load average: 0.10, 0.10, 0.10\n")


@command("date")
def _date(call: Invocation) -> Result:
    now = call.facts.now
    moment = datetime.fromtimestamp(int(now), UTC)
    wanted = next((arg[1:] for arg in call.args if arg.startswith("+")), None)
    if wanted is None:
        return Result(out=f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S} UTC {moment:%Y}\n")
    nanoseconds = round((now - int(now)) * 1e6) * 1000
    known = wanted.replace("%N", f"{nanoseconds:09d}").replace("%3N", f"{nanoseconds // 1_000_000:03d}")
    return Result(out=moment.strftime(known.replace("%s", str(int(now)))) + "\n")


@command("command", "which", "type")
def _which(call: Invocation) -> Result:
    found = [arg for arg in call.args if not arg.startswith("-") and arg in (*call.names, "command", "sudo", "sh")]
    return Result(0 if found else 1, "".join(f"/usr/bin/{name}\n" for name in found))
