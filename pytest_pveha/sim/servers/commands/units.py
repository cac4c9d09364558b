"""systemctl and systemd-run, as systemd 257 prints."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.commands.going_down import go_down
from pytest_pveha.sim.servers.commands.registry import command, options
from pytest_pveha.sim.servers.facts import DESCRIPTIONS, Facts
from pytest_pveha.sim.servers.facts import Unit as Shown
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.daemons import Condition
from pytest_pveha.sim.world.systemd import Unit, UnitTrouble
from pytest_pveha.sim.world.unitfiles import DEFAULT_ACCURACY, BadUnit, span_text, time_span

_WITHOUT_MEANING = frozenset({"--no-pager", "--no-legend", "-q", "--quiet", "--full", "-l", "--plain", "--all", "-a"})
_SUFFIXES = (".service", ".timer", ".target", ".socket")


def _full(name: str) -> str:
    return name if name.endswith(_SUFFIXES) else f"{name}.service"


@command("systemctl")
def _systemctl(call: Invocation) -> Result:
    args = [arg for arg in call.args if arg not in _WITHOUT_MEANING]
    verb = next((arg for arg in args if not arg.startswith("-")), "list-units")
    if verb in args:
        args.remove(verb)
    if verb in _SHOWS:
        result = _SHOWS[verb](call.facts, args)
    elif verb in _ACTS:
        result = _ACTS[verb](call.facts, args)
    else:
        return Result(1, err=f"Unknown command verb '{verb}'.\n")
    quiet = "-q" in call.args or "--quiet" in call.args
    if quiet and verb.startswith("is-"):
        return Result(result.status)
    return (
        Result(result.status, result.out, "", until=result.until, then=result.then)
        if quiet and not result.status
        else result
    )


# --- acts -------------------------------------------------------------------------------------------------------------


def _each(names: list[str], act: Callable[[str], Condition | None]) -> Result:
    """The act on each unit; the result ends when all of them have."""
    err, status, conditions = "", 0, []
    for name in names:
        try:
            condition = act(_full(name))
        except UnitTrouble as trouble:
            err += f"{trouble}\n"
            status = trouble.status or status
        except BadUnit as bad:
            err, status = f"{err}{bad}\n", 1
        else:
            conditions += [condition] if condition is not None else []
    return Result(status, err=err, until=(lambda: all(c() for c in conditions)) if conditions else None)


def _start(facts: Facts, names: list[str]) -> Result:
    systemd = facts.world.systemd
    begun = _each(_named(names), lambda name: systemd.start(facts.node, name))

    def ended() -> Result:
        failed = [n for n in map(_full, _named(names)) if (u := systemd.find(facts.node, n)) and u.active == "failed"]
        err = "".join(
            f"Job for {name} failed because the control process exited with error code.\n"
            f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.\n'
            for name in failed
        )
        return Result(1 if failed else begun.status, err=begun.err + err)

    return Result(begun.status, err=begun.err, until=begun.until, then=ended)


def _stop(facts: Facts, names: list[str]) -> Result:
    return _each(_named(names), lambda name: facts.world.systemd.stop(facts.node, name))


def _restart(facts: Facts, names: list[str]) -> Result:
    known = [
        name for name in map(_full, _named(names)) if facts.world.systemd.find(facts.node, name) or _plays(facts, name)
    ]
    stopped = _stop(facts, known)
    return Result(until=stopped.until, then=lambda: _start(facts, names))


def _plays(facts: Facts, name: str) -> bool:
    return facts.world.systemd.daemon(facts.node, name) is not None


def _kill(facts: Facts, args: list[str]) -> Result:
    signals = options(args, "-s", "--signal") or ["TERM"]
    names = [name for name in _named(args) if name not in signals]
    signal = signals[-1].removeprefix("SIG")
    return _each(names, lambda name: facts.world.systemd.kill(facts.node, name, signal))


def _lines(facts: Facts, args: list[str], act: Callable[[str], list[str]], now: Callable[[str], Condition]) -> Result:
    """The act's lines are what systemctl says; with ``--now`` the unit follows at once."""
    said: list[str] = []

    def one(name: str) -> Condition | None:
        said.extend(act(name))
        return now(name) if "--now" in args else None

    done = _each(_named(args), one)
    return Result(done.status, err="".join(f"{line}\n" for line in said) + done.err, until=done.until)


def _enable(facts: Facts, args: list[str]) -> Result:
    systemd, node = facts.world.systemd, facts.node
    return _lines(facts, args, lambda n: systemd.enable(node, n), lambda n: systemd.start(node, n))


def _disable(facts: Facts, args: list[str]) -> Result:
    systemd, node = facts.world.systemd, facts.node
    return _lines(facts, args, lambda n: systemd.disable(node, n), lambda n: systemd.stop(node, n))


def _mask(facts: Facts, args: list[str]) -> Result:
    systemd, node = facts.world.systemd, facts.node

    def act(name: str) -> list[str]:
        return [f"Created symlink '{systemd.mask(node, name, '--runtime' in args)}' → '/dev/null'."]

    return _lines(facts, args, act, lambda name: systemd.stop(node, name))


def _unmask(facts: Facts, args: list[str]) -> Result:
    def act(name: str) -> list[str]:
        gone = facts.world.systemd.unmask(facts.node, name, "--runtime" in args)
        return [f"Removed '{link}'." for link in gone]

    return _lines(facts, args, act, lambda name: facts.world.systemd.start(facts.node, name))


def _reset_failed(facts: Facts, args: list[str]) -> Result:
    systemd, node = facts.world.systemd, facts.node
    names = _named(args) or [unit.name for unit in systemd.units(node)]
    return _each(names, lambda name: systemd.reset_failed(node, name))


def _named(args: list[str]) -> list[str]:
    """The units named, without options."""
    return [arg for arg in args if not arg.startswith("-")]


# --- what it shows ----------------------------------------------------------------------------------------------------


def _shown(facts: Facts, name: str) -> Shown:
    """A unit's state, whether it is the world's daemon or one of ours."""
    try:
        unit = None if _plays(facts, _full(name)) else facts.world.systemd.find(facts.node, _full(name))
    except BadUnit:
        return Shown(name, name, enabled="bad-setting")
    if unit is None:
        return facts.unit(name)
    since = facts.now - (facts.world.timeline.now - unit.since) / SECOND if unit.since else 0.0
    enabled = "transient" if unit.transient else _enabled_word(facts, unit)
    return Shown(unit.name.removesuffix(".service"), unit.file.description, unit.active, unit.sub, enabled, 0, since)


def _enabled_word(facts: Facts, unit: Unit) -> str:
    if not unit.file.wanted_by:
        return "static"
    return "enabled" if facts.world.systemd.enabled(facts.node, unit.name) else "disabled"


def _is_active(facts: Facts, names: list[str]) -> Result:
    units = [_shown(facts, name) for name in names]
    missing = 3 if any(unit.loaded for unit in units) else 4
    good = any(unit.active == "active" for unit in units)
    return Result(0 if good else missing, "".join(f"{unit.active}\n" for unit in units))


def _is_system_running(facts: Facts) -> Result:
    going_down = facts.world.shutdowns.of(facts.node) is not None
    return Result(1, "stopping\n") if going_down else Result(out="running\n")


def _is_failed(facts: Facts, names: list[str]) -> Result:
    units = [_shown(facts, name) for name in names]
    return Result(0 if any(u.active == "failed" for u in units) else 1, "".join(f"{u.active}\n" for u in units))


def _is_enabled(facts: Facts, names: list[str]) -> Result:
    units = [_shown(facts, name) for name in names]
    good = any(unit.enabled in ("enabled", "static") for unit in units)
    return Result(0 if good else 4 if any(not u.loaded for u in units) else 1, "".join(f"{u.enabled}\n" for u in units))


def _show(facts: Facts, args: list[str]) -> Result:
    asked = [name for value in options(args, "-p", "--property", "-P") for name in value.split(",")]
    values = [
        arg for value in ("-p", "--property", "-P") for at, arg in enumerate(args) if args[at - 1] == value and at
    ]
    names = [arg for arg in args if not arg.startswith("-") and arg not in values]
    bare = "--value" in args or "-P" in args
    blocks = []
    for name in names:
        shown = _properties(facts, name)
        chosen = {key: value for key, value in shown.items() if not asked or key in asked}
        blocks.append("".join(f"{value}\n" if bare else f"{key}={value}\n" for key, value in chosen.items()))
    return Result(out="\n".join(blocks))


def _stamp(epoch: float) -> str:
    return f"{datetime.fromtimestamp(int(epoch), UTC):%a %Y-%m-%d %H:%M:%S} UTC" if epoch else ""


def _properties(facts: Facts, name: str) -> dict[str, str]:
    unit = _shown(facts, name)
    started = unit.since if unit.active in ("active", "activating") else 0.0
    stopped = unit.since if unit.active not in ("active", "activating") else 0.0
    boot = facts.now - facts.uptime()

    def monotonic(epoch: float) -> str:
        return str(max(0, round((epoch - boot) * 1e6))) if epoch else "0"

    full = _full(unit.name)
    ours = None if _plays(facts, full) or not unit.loaded else facts.world.systemd.find(facts.node, full)
    special: dict[str, str] = {}
    if ours is None and full.endswith(".timer"):
        special = {"NextElapseUSecMonotonic": "infinity"}
    elif ours is not None and ours.is_timer:
        booted = facts.node.booted_at or 0
        special = {
            "Unit": ours.file.starts,
            "NextElapseUSecMonotonic": span_text((ours.due - booted) / SECOND) if ours.due else "infinity",
            "LastTriggerUSec": _stamp(_epoch(facts, ours.fired)),
            "Result": "success",
        }
    elif ours is not None:
        special = {
            "Type": "oneshot",
            "MainPID": "0",
            "Result": "exit-code" if ours.active == "failed" else "success",
            "ExecMainStatus": str(ours.status),
        }
    else:
        special = {
            "Type": "forking",
            "MainPID": str(unit.pid),
            "Result": "signal" if unit.active == "failed" else "success",
            "NRestarts": "0",
            "ExecMainStartTimestamp": _stamp(started),
            "ExecMainStartTimestampMonotonic": monotonic(started),
            "ExecMainPID": str(unit.pid),
        }
    return special | {
        "Id": full,
        "Names": full,
        "Description": unit.description,
        "LoadState": "masked" if unit.enabled == "masked" else "loaded" if unit.loaded else "not-found",
        "ActiveState": unit.active,
        "SubState": unit.sub,
        "UnitFileState": unit.enabled if unit.loaded else "",
        "ActiveEnterTimestamp": _stamp(started),
        "ActiveEnterTimestampMonotonic": monotonic(started),
        "InactiveEnterTimestamp": _stamp(stopped),
        "InactiveEnterTimestampMonotonic": monotonic(stopped),
    }


def _epoch(facts: Facts, moment: int) -> float:
    return facts.world.utc_of(moment, facts.node) if moment else 0.0


def _status(facts: Facts, names: list[str]) -> Result:
    units = [_shown(facts, name) for name in names if not name.startswith("-")]
    out = "".join(
        f"● {_full(unit.name)} - {unit.description}\n"
        f"     Loaded: {'loaded' if unit.loaded else 'not-found'} ({unit.enabled})\n"
        f"     Active: {unit.active} ({unit.sub})\n   Main PID: {unit.pid}\n"
        for unit in units
    )
    return Result(0 if all(unit.active == "active" for unit in units) else 3, out)


def _unit_files(facts: Facts, _: list[str]) -> Result:
    names = sorted({*DESCRIPTIONS, *facts.node.units})
    units = [unit for unit in map(facts.unit, names) if unit.loaded]
    return Result(out="".join(f"{unit.name}.service {unit.enabled} enabled\n" for unit in units))


def _list_units(facts: Facts, args: list[str]) -> Result:
    patterns = _named(args)
    rows = [(name, facts.unit(name)) for name in facts.node.units]
    rows += [(unit.name, _shown(facts, unit.name)) for unit in facts.world.systemd.units(facts.node)]
    chosen = sorted((_full(name), unit) for name, unit in rows if _wanted(_full(name), patterns))
    cells = [(name, "loaded", unit.active, unit.sub) for name, unit in chosen]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = (" ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)
    return Result(out="".join(f"{row} {unit.description}\n" for row, (_, unit) in zip(padded, chosen, strict=True)))


def _list_timers(facts: Facts, args: list[str]) -> Result:
    timers = [u for u in facts.world.systemd.units(facts.node) if u.is_timer and _wanted(u.name, _named(args))]
    rows = []
    for timer in sorted(timers, key=lambda timer: (not timer.due, timer.due, timer.name)):
        now = facts.world.timeline.now
        left = span_text((timer.due - now) // SECOND) if timer.due else "-"
        passed = f"{span_text((now - timer.fired) // SECOND)} ago" if timer.fired else "-"
        coming, last = _stamp(_epoch(facts, timer.due)) or "-", _stamp(_epoch(facts, timer.fired)) or "-"
        rows.append(f"{coming} {left} {last} {passed} {timer.name} {timer.file.starts}\n")
    return Result(out="".join(rows))


def _wanted(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) or name == _full(pattern) for pattern in patterns)


_SHOWS: dict[str, Callable[[Facts, list[str]], Result]] = {
    "is-active": _is_active,
    "is-failed": _is_failed,
    "is-enabled": _is_enabled,
    "is-system-running": lambda facts, rest: _is_system_running(facts),
    "show": _show,
    "status": _status,
    "list-unit-files": _unit_files,
    "list-units": _list_units,
    "list-timers": _list_timers,
}
_ACTS: dict[str, Callable[[Facts, list[str]], Result]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "kill": _kill,
    "enable": _enable,
    "disable": _disable,
    "mask": _mask,
    "unmask": _unmask,
    "reset-failed": _reset_failed,
    # unit files are read anew whenever a unit is not loaded
    "daemon-reload": lambda facts, rest: Result(),
    "reboot": lambda facts, rest: go_down(facts, rest, reboot=True),
    "poweroff": lambda facts, rest: go_down(facts, rest, reboot=False),
}


# --- systemd-run ------------------------------------------------------------------------------------------------------


@command("systemd-run")
def _systemd_run(call: Invocation) -> Result:
    at = next((n for n, arg in enumerate(call.args) if not arg.startswith("-")), len(call.args))
    given, words = call.args[:at], call.args[at:]
    values = {
        name: value for name, _, value in (arg.partition("=") for arg in given if not arg.startswith("--timer-p"))
    }
    timer = dict(arg.partition("=")[2].partition("=")[::2] for arg in given if arg.startswith("--timer-property="))
    unknown = values.keys() - {"--quiet", "-q", "--collect", "-G", "--unit", "--on-active", "--description"}
    if unknown or timer.keys() - {"AccuracySec"}:
        return Result(1, err=f"systemd-run: {', '.join(sorted(unknown) or sorted(timer))}: not played here\n")
    if "--on-active" not in values or "--unit" not in values or not words:
        return Result(1, err="systemd-run: only --unit=NAME --on-active=SECONDS COMMAND is played here\n")
    name = values["--unit"].removesuffix(".timer").removesuffix(".service")
    try:
        accuracy = time_span(timer["AccuracySec"]) if timer else DEFAULT_ACCURACY
        call.facts.world.systemd.run_later(call.facts.node, name, time_span(values["--on-active"]), accuracy, words)
    except (UnitTrouble, BadUnit) as trouble:
        return Result(1, err=f"{trouble}\n")
    quiet = values.keys() & {"--quiet", "-q"}
    said = f"Running timer as unit: {name}.timer\nWill run service as unit: {name}.service\n"
    return Result(err="" if quiet else said)
