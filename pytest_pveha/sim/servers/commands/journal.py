"""journalctl."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from pytest_pveha.sim.servers.commands.registry import command, option, options
from pytest_pveha.sim.servers.facts import Facts, clock_text
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.model import JournalLine


@command("journalctl")
def _journalctl(call: Invocation) -> Result:
    facts, args = call.facts, call.args
    units = {name.removesuffix(".service") for name in options(args, "-u", "--unit")}
    idents = set(options(args, "-t", "--identifier"))
    since, until = _moment(option(args, "-S", "--since")), _moment(option(args, "-U", "--until"))
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
    if count := option(args, "-n", "--lines"):
        lines = lines[-int(count) :]
    if not lines:
        return Result(out="" if {"-q", "--quiet"} & set(args) else "-- No entries --\n")
    form = option(args, "-o", "--output") or "short"
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
