"""What the commands of a simulated node say: the few that this product, testinfra and curious people use.

Outputs as recorded on a PVE 9.1.9 control plane; systemctl, journalctl, ps, dpkg-query: as Debian 13's print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.facts import (
    DESCRIPTIONS,
    KERNEL,
    KERNEL_BUILD,
    Facts,
    Unit,
    clock_text,
    date_text,
    digest,
)
from pytest_pveha.sim.servers.shell import Command, Invocation, Result
from pytest_pveha.sim.world.model import Guest, GuestProcess, JournalLine, Refused

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

COMMANDS: dict[str, Command] = {}


def _command(*names: str) -> Callable[[Command], Command]:
    def enter(function: Command) -> Command:
        COMMANDS.update(dict.fromkeys(names, function))
        return function

    return enter


def _option(args: list[str], *names: str) -> str | None:
    """The value of the last of these options, as ``-o x``, ``-ox`` or ``--option=x``."""
    values = _options(args, *names)
    return values[-1] if values else None


def _options(args: list[str], *names: str) -> list[str]:
    values = []
    for at, arg in enumerate(args):
        for name in names:
            if arg == name and at + 1 < len(args):
                values.append(args[at + 1])
            elif name.startswith("--") and arg.startswith(name + "="):
                values.append(arg[len(name) + 1 :])
            elif not name.startswith("--") and arg.startswith(name) and len(arg) > len(name):
                values.append(arg[len(name) :])
    return values


# --- small tools ------------------------------------------------------------------------------------------------------


@_command("true", ":")
def _true(_: Invocation) -> Result:
    return Result()


@_command("false")
def _false(_: Invocation) -> Result:
    return Result(1)


@_command("echo")
def _echo(call: Invocation) -> Result:
    if call.args[:1] == ["-n"]:
        return Result(out=" ".join(call.args[1:]))
    return Result(out=" ".join(call.args) + "\n")


@_command("sleep")
def _sleep(call: Invocation) -> Result:
    units = {"s": 1, "m": 60, "h": 3600}
    seconds = 0.0
    for arg in call.args:
        match = re.fullmatch(r"(\d*\.?\d+)([smh]?)", arg)
        if match is None:
            return Result(1, err=f"sleep: invalid time interval ‘{arg}’\n")
        seconds += float(match[1]) * units[match[2] or "s"]
    return Result(wait=seconds)


@_command("hostname")
def _hostname(call: Invocation) -> Result:
    return Result(out=f"{call.facts.node.name}\n")


@_command("whoami")
def _whoami(_: Invocation) -> Result:
    return Result(out="root\n")


@_command("id")
def _id(call: Invocation) -> Result:
    return Result(out="0\n" if "-u" in call.args else "uid=0(root) gid=0(root) groups=0(root)\n")


@_command("uname")
def _uname(call: Invocation) -> Result:
    parts = {"s": "Linux", "n": call.facts.node.name, "r": KERNEL, "v": KERNEL_BUILD, "m": "x86_64", "o": "GNU/Linux"}
    asked = "".join(arg[1:] for arg in call.args) or "s"
    if "a" in asked:
        asked = "snrvmo"
    return Result(out=" ".join(parts[letter] for letter in parts if letter in asked) + "\n")


@_command("uptime")
def _uptime(call: Invocation) -> Result:
    booted = datetime.fromtimestamp(int(call.facts.now - call.facts.uptime()), UTC)
    if "-s" in call.args:
        return Result(out=f"{booted:%Y-%m-%d %H:%M:%S}\n")
    minutes = int(call.facts.uptime() // 60)
    now = datetime.fromtimestamp(int(call.facts.now), UTC)
    return Result(out=f" {now:%H:%M:%S} up {minutes} min,  0 users,  load average: 0.10, 0.10, 0.10\n")


@_command("date")
def _date(call: Invocation) -> Result:
    now = call.facts.now
    moment = datetime.fromtimestamp(int(now), UTC)
    wanted = next((arg[1:] for arg in call.args if arg.startswith("+")), None)
    if wanted is None:
        return Result(out=f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S} UTC {moment:%Y}\n")
    nanoseconds = round((now - int(now)) * 1e6) * 1000
    known = wanted.replace("%N", f"{nanoseconds:09d}").replace("%3N", f"{nanoseconds // 1_000_000:03d}")
    return Result(out=moment.strftime(known.replace("%s", str(int(now)))) + "\n")


@_command("command", "which", "type")
def _which(call: Invocation) -> Result:
    found = [arg for arg in call.args if not arg.startswith("-") and arg in (*call.names, "command", "sudo", "sh")]
    return Result(0 if found else 1, "".join(f"/usr/bin/{name}\n" for name in found))


@_command("grep")
def _grep(call: Invocation) -> Result:
    flags = "".join(arg[1:] for arg in call.args if re.fullmatch(r"-[a-zA-Z]+", arg))
    rest = [arg for arg in call.args if not re.fullmatch(r"-[a-zA-Z]+|--", arg)]
    if not rest:
        return Result(2, err="Usage: grep [OPTION]... PATTERNS [FILE]...\n")
    text = call.input
    for path in rest[1:]:
        content = _content(call.facts, path)
        if content is None:
            return Result(2, err="" if "s" in flags else f"grep: {path}: No such file or directory\n")
        text += content
    pattern = re.escape(rest[0]) if "F" in flags else rest[0]
    matcher = re.compile(pattern, re.IGNORECASE if "i" in flags else 0)
    lines = [line for line in text.splitlines() if bool(matcher.search(line)) != ("v" in flags)]
    if "q" in flags:
        out = ""
    elif "c" in flags:
        out = f"{len(lines)}\n"
    else:
        out = "".join(f"{line}\n" for line in lines)
    return Result(0 if lines else 1, out)


# --- files ------------------------------------------------------------------------------------------------------------

_FOLDERS = frozenset(
    {"/", "/etc", "/etc/pve", "/etc/pve/ha", "/etc/corosync", "/proc", "/run", "/run/systemd/system", "/root", "/tmp"}
)


def _content(facts: Facts, path: str) -> str | None:
    """A file's text, or None if there is no such file."""
    name = facts.node.name
    if match := re.fullmatch(r"/etc/pve/(?:nodes/([^/]+)/|local/)?(qemu-server|lxc)/(\d+)\.conf", path):
        guest = facts.world.guests.get(int(match[3]))
        folder = "lxc" if guest is not None and guest.kind == "ct" else "qemu-server"
        if guest is None or folder != match[2] or facts.view.config_nodes[guest.vmid] != (match[1] or name):
            return None
        return f"memory: {guest.spec.memory_bytes >> 20}\nname: {guest.name}\n"
    files: dict[str, Callable[[], str]] = {
        "/proc/sys/kernel/random/boot_id": lambda: f"{facts.node.boot_id}\n",
        "/proc/uptime": lambda: f"{facts.uptime():.2f} {facts.uptime() * 8:.2f}\n",
        "/proc/version": lambda: f"Linux version {KERNEL} {KERNEL_BUILD}\n",
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
        "/etc/default/pve-ha-manager": lambda: "# select watchdog module (default is softdog)\n#WATCHDOG_MODULE=\n",
    }
    return files[path]() if path in files else None


def _corosync_conf(facts: Facts, *, local: bool = False) -> str:
    spec = facts.world.spec
    names = list(facts.world.nodes)
    behind = local and facts.world.planted("corosync-config-differs") and facts.node.name == names[-1]
    nodes = "".join(
        f"  node {{\n    name: {node.name}\n    nodeid: {node.nodeid}\n    quorum_votes: 1\n"
        f"    ring0_addr: {facts.address(node)}\n  }}\n"
        for node in facts.world.nodes.values()
    )
    return (
        "logging {\n  debug: off\n  to_syslog: yes\n}\n\n"
        f"nodelist {{\n{nodes}}}\n\n"
        "quorum {\n  provider: corosync_votequorum\n}\n\n"
        f"totem {{\n  cluster_name: {spec.cluster}\n  config_version: {len(spec.nodes) - behind}\n"
        "  interface {\n    linknumber: 0\n  }\n  ip_version: ipv4-6\n  link_mode: passive\n  secauth: on\n"
        f"  token_coefficient: {spec.token_coefficient}\n  version: 2\n}}\n\n"
    )


def _resources_cfg(facts: Facts) -> str:
    return "\n".join(
        f"{resource['type']}: {resource['sid'].partition(':')[2]}\n\tstate {resource['state']}\n"
        for resource in facts.ha_resources
    )


def _is_folder(facts: Facts, path: str) -> bool:
    path = path.rstrip("/") or "/"
    if path == "/run/watchdog-mux.active":
        return facts.node.watchdog_active
    nodes = {f"/etc/pve/nodes/{name}" for name in facts.world.nodes}
    return path in _FOLDERS or path in nodes


@_command("cat")
def _cat(call: Invocation) -> Result:
    paths = [arg for arg in call.args if arg != "--"]
    if not paths:
        return Result(out=call.input)
    out, err = "", ""
    for path in paths:
        content = _content(call.facts, path)
        if content is not None:
            out += content
        else:
            why = "Is a directory" if _is_folder(call.facts, path) else "No such file or directory"
            err += f"cat: {path}: {why}\n"
    return Result(1 if err else 0, out, err)


@_command("test", "[")
def _test(call: Invocation) -> Result:
    args = [arg for arg in call.args if arg != "]"]
    wanted = True
    if args[:1] == ["!"]:
        args, wanted = args[1:], False
    match args:
        case ["-d", path]:
            found = _is_folder(call.facts, path)
        case ["-f" | "-r" | "-s", path]:
            found = _content(call.facts, path) is not None
        case ["-e", path]:
            found = _is_folder(call.facts, path) or _content(call.facts, path) is not None
        case [_, _]:
            found = False
        case [left, "=" | "==", right]:
            found = left == right
        case _:
            return Result(2, err="bash: line 1: test: too many arguments\n")
    return Result(0 if found == wanted else 1)


@_command("dpkg-query")
def _dpkg_query(call: Invocation) -> Result:
    form = _option(call.args, "-f", "--showformat") or "${Package}\t${Version}\n"
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


# --- processes and units ----------------------------------------------------------------------------------------------

_DAEMONS = {
    "corosync": "/usr/sbin/corosync -f",
    "pve-cluster": "/usr/bin/pmxcfs",
    "pve-ha-crm": "pve-ha-crm",
    "pve-ha-lrm": "pve-ha-lrm",
    "watchdog-mux": "/usr/sbin/watchdog-mux",
    "pvedaemon": "pvedaemon",
    "pveproxy": "pveproxy",
    "pvestatd": "pvestatd",
    "sshd": "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
}


def _processes(facts: Facts) -> list[tuple[int, int, str]]:
    """Pid, age in whole seconds and command line of what runs, by pid."""
    found = [(1, int(facts.uptime()), "/sbin/init")]
    for name, line in _DAEMONS.items():
        unit = facts.unit(name)
        if unit.pid:
            found.append((unit.pid, int(facts.now - unit.since), line))
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


@_command("ps")
def _ps(call: Invocation) -> Result:
    columns = [column for value in _options(call.args, "-o", "--format") for column in value.split(",")] or [
        "pid",
        "args",
    ]
    titles = [column.partition("=") for column in columns]
    widths = {"pid": 7, "ppid": 7, "etimes": 7}
    rows = []
    if not all(equals and not title for _, equals, title in titles):
        rows.append([title if equals else name.upper() for name, equals, title in titles])
    for pid, age, line in _processes(call.facts):
        values = {"pid": str(pid), "ppid": "1", "etimes": str(age), "args": line, "cmd": line, "command": line}
        values |= {"comm": line.split()[0].rpartition("/")[2].rstrip(":"), "stat": "Ss", "user": "root"}
        rows.append([values.get(name, "-") for name, _, _ in titles])
    names = [name for name, _, _ in titles]
    lines = [" ".join(v.rjust(widths.get(n, 0)) for n, v in zip(names, row, strict=True)).rstrip() for row in rows]
    return Result(out="".join(f"{line}\n" for line in lines))


@_command("pgrep")
def _pgrep(call: Invocation) -> Result:
    pattern = next((arg for arg in call.args if not arg.startswith("-")), "")
    found = [pid for pid, _, line in _processes(call.facts) if re.search(pattern, line)]
    return Result(0 if found else 1, "".join(f"{pid}\n" for pid in found))


@_command("systemctl")
def _systemctl(call: Invocation) -> Result:
    args = [arg for arg in call.args if arg not in ("--no-pager", "--no-legend", "-q", "--quiet", "--full", "--plain")]
    verbs = {
        "is-active": _is_active,
        "is-enabled": _is_enabled,
        "is-system-running": lambda facts, rest: Result(out="running\n"),
        "show": _show,
        "status": _status,
        "list-unit-files": _unit_files,
    }
    verb = next((arg for arg in args if not arg.startswith("-")), "")
    if verb not in verbs:
        return Result(1, err=f"Unknown command verb '{verb}'.\n")
    args.remove(verb)
    result = verbs[verb](call.facts, args)
    quiet = verb.startswith("is-") and ("-q" in call.args or "--quiet" in call.args)
    return Result(result.status, "" if quiet else result.out, result.err)


def _is_active(facts: Facts, names: list[str]) -> Result:
    units = [facts.unit(name) for name in names]
    missing = 3 if any(unit.loaded for unit in units) else 4
    return Result(
        0 if any(unit.active == "active" for unit in units) else missing, "".join(f"{unit.active}\n" for unit in units)
    )


def _is_enabled(facts: Facts, names: list[str]) -> Result:
    units = [facts.unit(name) for name in names]
    good = any(unit.enabled in ("enabled", "static") for unit in units)
    return Result(0 if good else 4, "".join(f"{unit.enabled}\n" for unit in units))


def _show(facts: Facts, args: list[str]) -> Result:
    asked = [name for value in _options(args, "-p", "--property") for name in value.split(",")]
    values = [arg for value in ("-p", "--property") for at, arg in enumerate(args) if args[at - 1] == value and at]
    names = [arg for arg in args if not arg.startswith("-") and arg not in values]
    bare = "--value" in args
    blocks = []
    for name in names:
        shown = _properties(facts, facts.unit(name))
        chosen = {key: value for key, value in shown.items() if not asked or key in asked}
        blocks.append("".join(f"{value}\n" if bare else f"{key}={value}\n" for key, value in chosen.items()))
    return Result(out="\n".join(blocks))


def _properties(facts: Facts, unit: Unit) -> dict[str, str]:
    started = unit.since if unit.active == "active" else 0.0
    stopped = unit.since if unit.active != "active" else 0.0
    boot = facts.now - facts.uptime()

    def stamp(epoch: float) -> str:
        return f"{datetime.fromtimestamp(int(epoch), UTC):%a %Y-%m-%d %H:%M:%S} UTC" if epoch else ""

    def monotonic(epoch: float) -> str:
        return str(max(0, round((epoch - boot) * 1e6))) if epoch else "0"

    return {
        "Type": "forking",
        "MainPID": str(unit.pid),
        "NRestarts": "0",
        "ExecMainStartTimestamp": stamp(started),
        "ExecMainStartTimestampMonotonic": monotonic(started),
        "ExecMainPID": str(unit.pid),
        "Id": f"{unit.name}.service",
        "Names": f"{unit.name}.service",
        "Description": unit.description,
        "LoadState": "loaded" if unit.loaded else "not-found",
        "ActiveState": unit.active,
        "SubState": unit.sub,
        "UnitFileState": unit.enabled if unit.loaded else "",
        "ActiveEnterTimestamp": stamp(started),
        "ActiveEnterTimestampMonotonic": monotonic(started),
        "InactiveEnterTimestamp": stamp(stopped),
        "InactiveEnterTimestampMonotonic": monotonic(stopped),
    }


def _status(facts: Facts, names: list[str]) -> Result:
    units = [facts.unit(name) for name in names if not name.startswith("-")]
    out = "".join(
        f"● {unit.name}.service - {unit.description}\n"
        f"     Loaded: {'loaded' if unit.loaded else 'not-found'} ({unit.enabled})\n"
        f"     Active: {unit.active} ({unit.sub})\n   Main PID: {unit.pid}\n"
        for unit in units
    )
    return Result(0 if all(unit.active == "active" for unit in units) else 3, out)


def _unit_files(facts: Facts, _: list[str]) -> Result:
    names = sorted({*DESCRIPTIONS, *facts.node.units})
    units = [unit for unit in map(facts.unit, names) if unit.loaded]
    return Result(out="".join(f"{unit.name}.service {unit.enabled} enabled\n" for unit in units))


# --- the journal ------------------------------------------------------------------------------------------------------


@_command("journalctl")
def _journalctl(call: Invocation) -> Result:
    facts, args = call.facts, call.args
    units = {name.removesuffix(".service") for name in _options(args, "-u", "--unit")}
    idents = set(_options(args, "-t", "--identifier"))
    since, until = _moment(_option(args, "-S", "--since")), _moment(_option(args, "-U", "--until"))
    boot = _boot(facts, args)
    lines = [
        (line, epoch)
        for line, epoch in ((line, facts.epoch(line)) for line in facts.node.journal)
        if (not units or line.unit.removesuffix(".service") in units)
        and (not idents or line.ident in idents)
        and (boot is None or line.boot_id == boot)
        and (since is None or epoch >= since)
        and (until is None or epoch <= until)
    ]
    if count := _option(args, "-n", "--lines"):
        lines = lines[-int(count) :]
    if not lines:
        return Result(out="" if {"-q", "--quiet"} & set(args) else "-- No entries --\n")
    form = _option(args, "-o", "--output") or "short"
    host = "" if "--no-hostname" in args else f"{facts.node.name} "
    out, last = [], lines[0][0].boot_id
    for line, epoch in lines:
        if line.boot_id != last:
            last = line.boot_id
            out.append(f"-- Boot {last.replace('-', '')} --")
        out.append(_journal_text(form, host, line, epoch))
    return Result(out="".join(f"{text}\n" for text in out))


def _moment(text: str | None) -> float | None:
    """An epoch of ``@EPOCH`` or of a date and time in UTC."""
    if text is None:
        return None
    if text.startswith("@"):
        return float(text[1:])
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _boot(facts: Facts, args: list[str]) -> str | None:
    """The boot asked for by -b (the present one), ``-b -1``, or an id; None for all."""
    boots = list(dict.fromkeys(line.boot_id for line in facts.node.journal))
    for at, arg in enumerate(args):
        if arg in ("-b", "--boot") or arg.startswith("--boot="):
            value = arg.partition("=")[2] or (args[at + 1] if at + 1 < len(args) else "0")
            if value == "all":
                return None
            if re.fullmatch(r"-\d+", value):
                return boots[int(value) - 1] if len(boots) > -int(value) else ""
            if re.fullmatch(r"[0-9a-f]{32}", value):
                return next((boot for boot in boots if boot.replace("-", "") == value), "")
            return facts.node.boot_id
    return None


def _journal_text(form: str, host: str, line: JournalLine, epoch: float) -> str:
    micros = round(epoch * 1e6)
    fraction = f"{micros % 1_000_000:06d}"
    moment = datetime.fromtimestamp(micros // 1_000_000, UTC)
    stamps = {
        "short-unix": f"{micros // 1_000_000}.{fraction}",
        "short-precise": f"{clock_text(micros // 1_000_000)}.{fraction}",
        "short-iso": f"{moment:%Y-%m-%dT%H:%M:%S}+00:00",
        "short-iso-precise": f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}+00:00",
    }
    if form == "cat":
        return line.text
    if form == "json":
        return json.dumps(
            {
                "__REALTIME_TIMESTAMP": str(micros),
                "_BOOT_ID": line.boot_id.replace("-", ""),
                "_SYSTEMD_UNIT": f"{line.unit}.service",
                "SYSLOG_IDENTIFIER": line.ident,
                "_PID": str(line.pid),
                "MESSAGE": line.text,
            }
        )
    who = f"{line.ident}[{line.pid}]" if line.pid else line.ident
    return f"{stamps.get(form, clock_text(epoch))} {host}{who}: {line.text}"


# --- cluster tools ----------------------------------------------------------------------------------------------------


def _quorum_text(facts: Facts, *, hexadecimal: bool) -> str:
    view, node = facts.view, facts.node
    votes = len(view.members)
    member = "".join(
        f"{f'0x{each.nodeid:08x}' if hexadecimal else f'{each.nodeid:10d}'}          1 "
        f"{facts.address(each) if hexadecimal else each.name}{' (local)' if each is node else ''}\n"
        for each in facts.members
    )
    blocked = " " if view.quorate else "Activity blocked"
    return (
        "Quorum information\n------------------\n"
        f"Date:             {date_text(facts.now)}\n"
        "Quorum provider:  corosync_votequorum\n"
        f"Nodes:            {votes}\n"
        f"Node ID:          {f'0x{node.nodeid:08x}' if hexadecimal else node.nodeid}\n"
        f"Ring ID:          {view.ring_id}\n"
        f"Quorate:          {'Yes' if view.quorate else 'No'}\n\n"
        "Votequorum information\n----------------------\n"
        f"Expected votes:   {view.expected_votes}\n"
        f"Highest expected: {view.expected_votes}\n"
        f"Total votes:      {votes}\n"
        f"Quorum:           {view.quorum} {blocked}\n"
        f"Flags:            {'Quorate ' if view.quorate else ''}\n\n"
        f"{_membership_title()}{member}"
    )


def _membership_title() -> str:
    return "Membership information\n----------------------\n    Nodeid      Votes Name\n"


@_command("pvecm")
def _pvecm(call: Invocation) -> Result:
    facts = call.facts
    if not facts.node.corosync_up:
        return Result(1, err="Cannot initialize CMAP service\n")
    match call.args:
        case ["status"]:
            spec = facts.world.spec
            head = (
                "Cluster information\n-------------------\n"
                f"Name:             {spec.cluster}\nConfig Version:   {len(spec.nodes)}\n"
                "Transport:        knet\nSecure auth:      on\n\n"
            )
            return Result(out=head + _quorum_text(facts, hexadecimal=True))
        case ["nodes"]:
            rows = "".join(
                f"{node.nodeid:10d}          1 {node.name}{' (local)' if node is facts.node else ''}\n"
                for node in facts.members
            )
            return Result(out=f"\n{_membership_title()}{rows}")
        case _:
            return Result(255, err="ERROR: unknown command 'pvecm " + " ".join(call.args) + "'\n")


@_command("corosync-quorumtool")
def _quorumtool(call: Invocation) -> Result:
    if not call.facts.node.corosync_up:
        return Result(1, err="Cannot initialize QUORUM service\n")
    return Result(0 if call.facts.view.quorate else 2, _quorum_text(call.facts, hexadecimal=False))


@_command("corosync-cfgtool")
def _cfgtool(call: Invocation) -> Result:
    facts = call.facts
    if not facts.node.corosync_up:
        return Result(1, err="Could not initialize corosync configuration API error CS_ERR_LIBRARY\n")
    present = facts.view.members
    rows = ""
    for node in sorted(facts.world.nodes.values(), key=lambda node: node.nodeid):
        word = "localhost" if node is facts.node else "connected" if node.nodeid in present else "disconnected"
        rows += f"\t\tnodeid: {node.nodeid:10d}:\t{word}\n"
    head = f"Local node ID {facts.node.nodeid}, transport knet\nLINK ID 0 udp\n\taddr\t= {facts.address(facts.node)}\n"
    return Result(out=f"{head}\tstatus:\n{rows}")


@_command("ha-manager")
def _ha_manager(call: Invocation) -> Result:
    match call.args:
        case ["status", *options]:
            text = _ha_text(call.facts)
            if any(option.lstrip("-") == "verbose" for option in options):
                document = json.dumps(call.facts.ha_status, indent=3, sort_keys=True, separators=(",", " : "))
                text += f"full cluster state:\n{document}\n"
            return Result(out=text)
        case ["config"]:
            return Result(
                out="\n".join(f"{each['sid']}\n\tstate {each['state']}\n" for each in call.facts.ha_resources)
            )
        case ["migrate" | "relocate", sid, target]:
            if target not in call.facts.world.nodes:
                return Result(255, err=f"no such cluster node '{target}'\n")
            if sid not in (resource["sid"] for resource in call.facts.ha_resources):
                return Result(255, err=f"no such resource '{sid}'\n")
            return _act(lambda: call.facts.world.migrate_guest(int(sid.partition(":")[2]), target))
        case _:
            return Result(255, err="ERROR: unknown command 'ha-manager " + " ".join(call.args) + "'\n")


def _ha_text(facts: Facts) -> str:
    names = {"quorum": "quorum", "master": "master", "fencing": "fencing", "lrm": "lrm", "service": "service"}
    return "".join(f"{names[entry['type']]} {entry['status']}\n" for entry in facts.ha_current)


def _act(act: Callable[[], Any]) -> Result:
    """The act's result, or PVE's refusal."""
    try:
        act()
    except Refused as refused:
        return Result(255, err=f"{refused}\n")
    return Result()


@_command("pveversion")
def _pveversion(call: Invocation) -> Result:
    return Result(out=f"{call.facts.pveversion} (running kernel: {KERNEL})\n")


@_command("qm", "pct")
def _qm(call: Invocation) -> Result:
    facts = call.facts
    here = [guest for guest in facts.world.guests.values() if facts.view.config_nodes[guest.vmid] == facts.node.name]
    match call.args:
        case ["list"]:
            return Result(out=_guest_table(facts, [guest for guest in here if guest.kind == "vm"]))
        case ["status", vmid]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            running = facts.node.name in guest.processes
            return Result(out=f"status: {'running' if running else 'stopped'}\n")
        case ["start" | "stop" as verb, vmid]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            world = facts.world
            done = _act(lambda: (world.start_guest if verb == "start" else world.stop_guest)(guest.vmid))
            managed = facts.service_shown(guest.sid) is not None
            said = f"Requesting HA {verb} for {guest.kind.upper()} {vmid}\n" if managed and done.status == 0 else ""
            return Result(done.status, said, done.err)
        case _:
            return Result(255, err="ERROR: unknown command 'qm " + " ".join(call.args) + "'\n")


def _no_such_guest(facts: Facts, vmid: str) -> Result:
    path = f"nodes/{facts.node.name}/qemu-server/{vmid}.conf"
    return Result(2, err=f"Configuration file '{path}' does not exist\n")


def _guest_table(facts: Facts, guests: list[Guest]) -> str:
    out = "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       \n"
    for guest in sorted(guests, key=lambda guest: guest.vmid):
        process = guest.processes.get(facts.node.name)
        status, pid = ("running", process.pid) if process else ("stopped", 0)
        memory = guest.spec.memory_bytes >> 20
        out += f"{guest.vmid:10d} {guest.name:<20} {status:<10} {memory:<10d} {0:12.2f} {pid:<10d}\n"
    return out if guests else ""


# --- ipmitool, to the node's own BMC ----------------------------------------------------------------------------------


@_command("ipmitool")
def _ipmitool(call: Invocation) -> Result:
    spec = call.facts.node.spec
    match call.args:
        case ["mc", "guid"]:
            return Result(0, f"System GUID  : {spec.system_uuid}\nTimestamp    : 01/01/1970 00:00:00\n")
        case ["lan", "print"] | ["lan", "print", "1"]:
            address = call.facts.address(call.facts.node)
            return Result(
                0,
                f"IP Address Source       : Static Address\nIP Address              : {address}\n"
                f"Subnet Mask             : 255.255.255.0\nMAC Address             : {spec.bmc_mac}\n",
            )
    return Result(1, "", "Invalid command\n")
