"""Unit files as far as this world's systemd reads them: a service that runs one command, a timer that starts one.

Sources: systemd.service(5), systemd.timer(5), systemd.time(7).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

FOLDER = "/etc/systemd/system"
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("us", "usec"), 1e-6),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
DEFAULT_ACCURACY = 60.0


class BadUnit(Exception):
    """The file is no unit that this systemd can run; the message says why."""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """What a unit file says. ``command`` is a service's; ``seconds``, ``accuracy`` and ``starts`` are a timer's."""

    description: str
    command: tuple[str, ...] = ()
    seconds: float = 0.0
    accuracy: float = DEFAULT_ACCURACY
    starts: str = ""
    wanted_by: tuple[str, ...] = ()


def time_span(text: str) -> float:
    """The seconds in a time span such as ``620``, ``10min 20s`` or ``100ms``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text)
    if (
        not parts
        or re.sub(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", "", text.strip())
        or any(u not in _SECONDS for _, u in parts)
    ):
        raise BadUnit(f"Failed to parse time span: {text}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def span_text(seconds: float) -> str:
    """A time span as ``systemctl show`` prints it, such as ``2d 10min 20.123456s``."""
    left = round(seconds * 1e6)
    words = []
    for word, size in (("w", 604800), ("d", 86400), ("h", 3600), ("min", 60)):
        count, left = divmod(left, size * 1_000_000)
        words += [f"{count}{word}"] if count else []
    whole, micros = divmod(left, 1_000_000)
    if micros and whole:
        words.append(f"{whole}.{micros:06d}s")
    elif whole:
        words.append(f"{whole}s")
    elif micros >= 1000:
        words.append(f"{micros / 1000:.3f}ms" if micros % 1000 else f"{micros // 1000}ms")
    elif micros:
        words.append(f"{micros}us")
    return " ".join(words) or "0"


def parse(name: str, text: str) -> UnitFile:
    """What the file of that name says."""
    keys: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise BadUnit(f"{name}: '{line}' is no assignment")
        keys[f"{section}.{key.strip()}"] = value.strip()
    description = keys.get("Unit.Description", name)
    wanted = tuple(keys.get("Install.WantedBy", "").split())
    if name.endswith(".timer"):
        after = keys.get("Timer.OnActiveSec") or keys.get("Timer.OnBootSec")
        if after is None:
            raise BadUnit("Timer unit lacks value setting. Refusing.")
        accuracy = time_span(keys["Timer.AccuracySec"]) if "Timer.AccuracySec" in keys else DEFAULT_ACCURACY
        starts = keys.get("Timer.Unit", name.removesuffix(".timer") + ".service")
        return UnitFile(description, (), time_span(after), accuracy, starts, wanted)
    if "Service.ExecStart" not in keys:
        raise BadUnit("Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.")
    return UnitFile(description, tuple(shlex.split(keys["Service.ExecStart"])), wanted_by=wanted)
