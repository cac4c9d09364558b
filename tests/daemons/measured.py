"""The sampler's intervals beside the truth: many targets that go away for known times, on a loopback of their own.

Run as a program, within a network namespace (``unshare --net``), it prints what came of it as JSON.
"""

from __future__ import annotations

import ctypes
import heapq
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_pveha.clock import SECOND, LiveClock
from pytest_pveha.judge.facts import Run
from pytest_pveha.judge.outages import Outage, outages
from pytest_pveha.observe.sampler import FAST, Probe
from pytest_pveha.observe.sampling import FIRST, SamplerProcess

PORT = 4711
SHORTEST, LONGEST = 0.2, 5.0
"""Seconds that a target is away."""
UP = (0.5, 3.0)
"""Seconds that it is there before it goes away again."""
MARGIN = 2.0
"""Seconds without an event at the begin and at the end."""
CLOCK = LiveClock()
RULES = """
table inet targets {
  set silent { type ipv4_addr; }
  set refusing { type ipv4_addr; }
  chain input {
    type filter hook input priority 0;
    ip daddr @silent drop
    ip daddr @refusing meta l4proto tcp reject with tcp reset
    ip daddr @refusing drop
  }
}
"""


@dataclass(frozen=True)
class Away:
    """A target was away: it went between the first two moments (mono ns), and came back between the others."""

    target: int
    how: str
    gone: tuple[int, int]
    back: tuple[int, int]

    @property
    def seconds(self) -> float:
        return ((self.back[0] + self.back[1]) - (self.gone[0] + self.gone[1])) / 2 / SECOND


@dataclass
class Told:
    """What one tool made of it."""

    seen: int = 0
    missed: int = 0
    """Outages that it did not see, or could not tell from others."""
    bias: float = 0.0
    """Mean of what it said less the truth (s)."""
    error: float = 0.0
    """95 of 100 of what it said are closer to the truth than this (s)."""
    late: float = 0.0
    """99 of 100 of its questions came less than this after their time (s)."""
    cores: float = 0.0
    """Processors it kept busy."""


@dataclass
class Outcome:
    """What a run came to."""

    targets: int
    seconds: float
    outages: int = 0
    outside: list[str] = field(default_factory=list)
    """Every interval of ours without the truth in it, and every outage of ours that was none."""
    widths: dict[str, float] = field(default_factory=dict)
    """The widest interval (s): of a duration, a begin and an end, where the target was silent, and where it refused."""
    tools: dict[str, Told] = field(default_factory=dict)
    held_up: tuple[float, float] = (0.0, 0.0)
    """How late somebody is who only sleeps till every tenth of a second: 99 of 100 times, at worst (s)."""


# --- targets ---------------------------------------------------------------------------------------------------------


def address(target: int) -> str:
    """Where that target is."""
    return f"127.1.{target // 250}.{1 + target % 250}"


class Gates:
    """Lets targets answer, be silent, or refuse, at once: nftables' own library, without a process a time."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnftables.so.1")
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self._do(RULES)

    def turn(self, target: int, how: str, *, away: bool) -> tuple[int, int]:
        """Between which moments the target went away in that manner, or came back."""
        before = CLOCK.now().mono
        self._do(f"{'add' if away else 'delete'} element inet targets {how} {{ {address(target)} }}")
        return before, CLOCK.now().mono

    def _do(self, command: str) -> None:
        if self._library.nft_run_cmd_from_buffer(self._context, command.encode()) != 0:
            raise RuntimeError(f"nft does not take {command!r}")


def accept() -> None:
    """Every target answers, from one process for all of them; for ever."""
    Path("/proc/sys/net/core/somaxconn").write_text(
        "65535"
    )  # of this namespace: nobody is turned away while we are slow
    with socket.create_server(("0.0.0.0", PORT), backlog=65535) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                continue


def play(gates: Gates, count: int, seconds: float, seed: int) -> list[Away]:
    """The targets went away and came back at random for that long; when."""
    rng = random.Random(seed)
    begin = CLOCK.now().mono
    end = begin + round(seconds * SECOND)
    found: list[Away] = []
    due: list[tuple[int, int, str, tuple[int, int] | None]] = []
    for target in range(count):
        heapq.heappush(due, (begin + round(rng.uniform(0, UP[1]) * SECOND), target, _how(rng), None))
    while due:
        at, target, how, gone = heapq.heappop(due)
        CLOCK.sleep_until(at)
        if gone is None:
            back = at + round(rng.uniform(SHORTEST, LONGEST) * SECOND)
            if back < end:
                heapq.heappush(due, (back, target, how, gates.turn(target, how, away=True)))
            continue
        found.append(Away(target, how, gone, gates.turn(target, how, away=False)))
        heapq.heappush(due, (CLOCK.now().mono + round(rng.uniform(*UP) * SECOND), target, _how(rng), None))
    return sorted(found, key=lambda away: (away.target, away.gone))


def _how(rng: random.Random) -> str:
    return rng.choice(("silent", "refusing"))


# --- our sampler -----------------------------------------------------------------------------------------------------


class Recorded(SamplerProcess):
    """The sampler's process, which also writes down how late each of its questions was."""

    def __init__(self, write: Any, lateness: Path) -> None:
        super().__init__(write)
        self.program = (__file__, "sample", str(lateness))


def sample(lateness: Path) -> int:
    """What the sampler's process does, with its lateness in that file at the end."""
    from pytest_pveha.observe import sampling
    from pytest_pveha.observe.sampler import Sampler

    late = array("q")
    hear = Sampler._heard

    def heard(self: Sampler, *what: Any) -> None:
        late.append(what[3] - what[5])
        hear(self, *what)

    Sampler._heard = heard  # type: ignore[method-assign]
    code = sampling.main()
    lateness.write_bytes(late.tobytes())
    return code


def idle(lateness: Path) -> int:
    """Sleeps until every tenth of a second, as important as the sampler, until its input ends."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    late, due, ended = array("q"), CLOCK.now().mono, threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        due += FAST
        CLOCK.sleep_until(due)
        late.append(CLOCK.now().mono - due)
    lateness.write_bytes(late.tobytes())
    return 0


class Ours:
    """The product's own sampler on all targets, ten times a second."""

    def __init__(self, count: int, folder: Path) -> None:
        self._rows: list[dict[str, Any]] = []
        self._lateness = folder / "lateness"
        self._process = Recorded(self._write, self._lateness)
        self._process.watch([Probe(f"tcp:{target}", str(target), address(target), PORT) for target in range(count)])
        self._process.fast()
        self._cpu = 0.0

    def _write(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "samples":
            self._rows.append(data)

    def begin(self) -> None:
        """From now on its processor time counts."""
        self._cpu = -self._used()

    def end(self) -> None:
        """Its processor time counts no more; the last answers are here."""
        self._cpu += self._used()
        self._process.stop()

    def _used(self) -> float:
        process = self._process._process
        assert process is not None
        return used(process.pid)

    def found(self) -> dict[int, list[Outage]]:
        """Each target's outages, by the judge's own rule."""
        names = {int(row["subject"]): [] for row in self._rows}
        for row in self._rows:
            names[int(row["subject"])].append(Run(**{name: row.get(name) for name in Run.__dataclass_fields__}))
        return {target: outages(runs, 2 * SECOND) for target, runs in names.items()}

    def told(self, truth: Sequence[Away], outcome: Outcome) -> Told:
        """Its intervals against the truth."""
        found = self.found()
        pairs = list(_paired(found, truth, lambda each: (each.start_low, each.end_high)))
        for away, outage in pairs:
            _compare(away, outage, outcome)
        outcome.outside += _without(found, truth)
        values = [((outage.low + (outage.high or 0)) / 2 / SECOND, away.seconds) for away, outage in pairs]
        told = _against(values, len(truth))
        told.late = percentile(seconds_in(self._lateness), 99)
        told.cores = self._cpu
        return told


def _paired(found: dict[int, list[Any]], truth: Sequence[Away], span: Any) -> Iterator[tuple[Away, Any]]:
    """Each true outage with the one that was told at that time, where it is the only one, and of no other."""
    near = [
        (away, each)
        for away in truth
        for each in found.get(away.target, [])
        if span(each)[0] - FAST <= away.back[1] and away.gone[0] <= span(each)[1] + FAST
    ]
    aways, eaches = Counter(id(away) for away, _ in near), Counter(id(each) for _, each in near)
    yield from ((away, each) for away, each in near if aways[id(away)] == eaches[id(each)] == 1)


def _without(found: dict[int, list[Outage]], truth: Sequence[Away]) -> list[str]:
    """What was told of targets that were there all the time."""
    real: dict[int, list[Away]] = {}
    for away in truth:
        real.setdefault(away.target, []).append(away)
    return [
        f"an outage from {outage.start_low} to {outage.end_high} of target {target}, which was there"
        for target, told in found.items()
        for outage in told
        if not any(
            away.gone[0] <= (outage.end_high or away.gone[0]) and (outage.start_low or 0) <= away.back[1]
            for away in real.get(target, [])
        )
    ]


def _compare(away: Away, outage: Outage, outcome: Outcome) -> None:
    assert outage.start_low is not None
    assert outage.end_high is not None
    truths = {
        "begin": (away.gone, (outage.start_low, outage.start_high)),
        "end": (away.back, (outage.end_low, outage.end_high)),
        "duration": ((away.back[0] - away.gone[1], away.back[1] - away.gone[0]), (outage.low, outage.high or 0)),
    }
    for what, (true, told) in truths.items():
        if true[1] < told[0] or told[1] < true[0]:
            outside = f"{what} of an outage of {away.seconds:.3f} s ({away.how}): {told} holds nothing of {true}"
            outcome.outside.append(outside)
        name = f"{what} {away.how}"
        outcome.widths[name] = max(outcome.widths.get(name, 0.0), (told[1] - told[0]) / SECOND)


# --- others ----------------------------------------------------------------------------------------------------------


class Other:
    """A tool that pings all targets, and what it printed."""

    def __init__(self, name: str, commands: Sequence[Sequence[str]], period: float, folder: Path) -> None:
        self.name, self.period = name, period
        self._files = [folder / f"{name}-{number}" for number in range(len(commands))]
        self._processes = []
        for words, file in zip(commands, self._files, strict=True):
            with file.open("wb") as out:
                self._processes.append(subprocess.Popen(dying(words), stdout=out, stderr=subprocess.DEVNULL))
        self._cpu = 0.0

    def begin(self) -> None:
        """From now on its processor time counts."""
        self._cpu = -sum(used(process.pid) for process in self._processes)

    def end(self) -> None:
        """It has stopped."""
        self._cpu += sum(used(process.pid) for process in self._processes)
        for process in self._processes:
            process.send_signal(signal.SIGINT)  # both print what they have kept back
        for process in self._processes:
            process.wait()

    def told(self, truth: Sequence[Away]) -> Told:
        """What somebody makes of it who counts the answers that are missing, as people do."""
        utc = CLOCK.now()
        heard: dict[str, list[tuple[float, int]]] = {}
        for file in self._files:
            for reply in _REPLY.finditer(file.read_text()):
                host, number = (reply["a"] or reply["b"]), (reply["m"] or reply["n"])
                heard.setdefault(host, []).append((float(reply["at"]) - (utc.utc - utc.mono) / SECOND, int(number)))
        found: dict[int, list[tuple[int, int, int]]] = {}
        gaps = []
        for target in range(max((away.target for away in truth), default=-1) + 1):
            replies = heard.get(address(target), [])
            for (left, one), (right, next_one) in pairwise(replies):
                if next_one == one + 1:
                    gaps.append(right - left - self.period)
                else:
                    span = (round(left * SECOND), round(right * SECOND), next_one - one - 1)
                    found.setdefault(target, []).append(span)
        pairs = list(_paired(found, truth, lambda each: each))
        told = _against([(lost * self.period, away.seconds) for away, (_, _, lost) in pairs], len(truth))
        told.late = percentile(gaps, 99)
        told.cores = self._cpu
        return told


_REPLY = re.compile(
    r"^\[(?P<at>\d+\.\d+)\] (?:(?P<a>[\d.]+) +: \[(?P<m>\d+)\], 64 bytes|"
    r"64 bytes from (?P<b>[\d.]+): icmp_seq=(?P<n>\d+))",
    re.MULTILINE,
)
"""A line of ``fping -D``, ``[…] 127.1.0.1 : [0], 64 bytes…``, or of ``ping -D``, ``[…] 64 bytes from 127.1.0.1: …``."""


def _against(values: Sequence[tuple[float, float]], all_of_them: int) -> Told:
    errors = [said - true for said, true in values]
    return Told(
        seen=len(values),
        missed=all_of_them - len(values),
        bias=statistics.fmean(errors) if errors else 0.0,
        error=percentile([abs(each) for each in errors], 95),
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent of them are; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def seconds_in(file: Path) -> list[float]:
    """The nanoseconds written down there."""
    values = array("q")
    values.frombytes(file.read_bytes())
    return [each / SECOND for each in values]


def used(pid: int) -> float:
    """Seconds of processor time that process has used."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / SECOND


def dying(words: Sequence[str]) -> list[str]:
    """That program, which the kernel kills when we die."""
    return ["setpriv", "--pdeathsig", "KILL", *words]


# --- a run -----------------------------------------------------------------------------------------------------------


@contextmanager
def sleeping(folder: Path, outcome: Outcome) -> Iterator[None]:
    """Meanwhile somebody only sleeps; how late he was is known afterwards."""
    words = dying([sys.executable, __file__, "idle", str(folder / "idle")])
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        yield
    assert process.returncode == 0
    late = seconds_in(folder / "idle")
    outcome.held_up = percentile(late, 99), max(late)


@contextmanager
def answering() -> Iterator[None]:
    """All targets answer."""
    words = dying([sys.executable, __file__, "accept"])
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.kill()


def run(count: int, seconds: float, seed: int, beside: Sequence[str]) -> Outcome:
    """Our sampler, and the tools beside it, watched so many targets for that long."""
    outcome = Outcome(count, seconds)
    gates = Gates()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pveha-measured-")))
        stack.enter_context(answering())
        ours = Ours(count, folder)
        hosts = [address(target) for target in range(count)]
        commands = {
            "fping": (0.1, [["fping", "-l", "-p", "100", "-i", "0", "-D", *hosts]]),
            "ping": (1.0, [["ping", "-n", "-D", "-i", "1", host] for host in hosts]),
        }
        others = [Other(name, commands[name][1], commands[name][0], folder) for name in beside]
        CLOCK.sleep(MARGIN)
        begin = CLOCK.now().mono
        for tool in (ours, *others):
            tool.begin()
        with sleeping(folder, outcome):
            truth = play(gates, count, seconds, seed)
        took = (CLOCK.now().mono - begin) / SECOND
        CLOCK.sleep(MARGIN)
        for tool in (ours, *others):
            tool.end()
        outcome.outages, outcome.seconds = len(truth), took
        outcome.tools = {"ours": ours.told(truth, outcome), **{other.name: other.told(truth) for other in others}}
        for told in outcome.tools.values():
            told.cores /= took + MARGIN
    return outcome


FIRST_OF_ALL = ["chrt", "--rr", "10"]


def may_come_first() -> bool:
    """Whether we may run before everything else on this machine, which then is as good as idle."""
    return subprocess.run([*FIRST_OF_ALL, "true"], capture_output=True, check=False).returncode == 0


def measured(
    count: int, seconds: float, seed: int = 1, beside: Sequence[str] = (), *, first_of_all: bool = False
) -> Outcome:
    """The same in a process and a network namespace of its own, which end with it.

    Args:
        first_of_all: all that takes part, tools and targets too, runs before everything else on this machine.
    """
    words = [
        *(FIRST_OF_ALL if first_of_all else ()),
        "unshare",
        "--net",
        *dying([sys.executable, __file__, "run", str(count), str(seconds), str(seed)]),
        *beside,
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=seconds + 120, check=True)
    data = json.loads(done.stdout)
    tools = {name: Told(**told) for name, told in data.pop("tools").items()}
    return Outcome(**data, tools=tools)


def main(words: Sequence[str]) -> int:
    """``accept``, ``sample FILE``, ``idle FILE`` or ``run TARGETS SECONDS SEED [TOOL …]``."""
    if words[0] == "accept":
        accept()
    if words[0] == "sample":
        return sample(Path(words[1]))
    if words[0] == "idle":
        return idle(Path(words[1]))
    outcome = run(int(words[1]), float(words[2]), int(words[3]), words[4:])
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
