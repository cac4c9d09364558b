"""systemd of each node: units of ours, transient or from files, beside the daemons the world plays.

A transient unit dies with its node; one with a file and an enabled link is started anew at each boot. A timer is an
event of the world's timeline; what it starts runs in the shell the world was built with. Sources: systemctl(1),
systemd-run(1), systemd.timer(5); `systemd-run --on-active=2` with AccuracySec=100ms fired on time, without it up to a
minute late (seen on a PVE 9.1.9 control plane). Wording: systemd 257.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.daemons import Condition, Daemons, done
from pytest_pveha.sim.world.files import FileTrouble
from pytest_pveha.sim.world.unitfiles import FOLDER, BadUnit, UnitFile, parse

if TYPE_CHECKING:
    from pytest_pveha.sim.world.model import Node
    from pytest_pveha.sim.world.world import World

RUNTIME = "/run/systemd/system"
_TOO_OFTEN = (
    "Job for {name} failed because start of the service was attempted too often.\n"
    'See "systemctl status {name}" and "journalctl -xeu {name}" for details.\n'
    'To force a start use "systemctl reset-failed {name}"\nfollowed by "systemctl start {name}" again.'
)
NOT_LOADED = 5
"""Exit status of systemctl for a unit that does not exist."""


class Outcome(Protocol):
    """How a program ended."""

    @property
    def status(self) -> int:
        """Its exit status."""

    @property
    def out(self) -> str:
        """What it printed."""

    @property
    def err(self) -> str:
        """What it complained of."""


Program = Generator[float | None, str, Outcome]
"""A running program: it yields the seconds it sleeps, or None when it wants its input, and returns how it ended."""


class Exec(Protocol):
    """What runs a command on a node, without a shell around it."""

    def __call__(self, world: World, node: Node, words: Sequence[str]) -> Program:
        """The program, not yet begun."""


class UnitTrouble(Exception):
    """systemctl or systemd-run cannot do it; the message is theirs, ``status`` their exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False, slots=True)
class Unit:
    """A timer or service of ours that is loaded. Moments are ns of the world's time, 0 for never."""

    name: str
    file: UnitFile
    transient: bool
    active: str = "inactive"
    sub: str = "dead"
    since: int = 0
    due: int = 0
    """When a waiting timer elapses; it fires at most its accuracy later."""
    fired: int = 0
    status: int = 0
    """Exit status of a service's last run."""
    event: Event | None = field(default=None, repr=False)

    @property
    def is_timer(self) -> bool:
        """A timer, or else a service."""
        return self.name.endswith(".timer")


class Systemd:
    """The service managers of one world's nodes."""

    def __init__(self, world: World, run: Exec | None) -> None:
        self._world = world
        self._run = run
        self._rng = world.rng("systemd")
        self._loaded: dict[str, dict[str, Unit]] = {name: {} for name in world.nodes}
        self._disabled: dict[str, set[str]] = {name: set() for name in world.nodes}
        self.daemons = Daemons(world)

    # what there is

    def units(self, node: Node) -> list[Unit]:
        """The loaded units of ours, by name."""
        return [self._loaded[node.name][name] for name in sorted(self._loaded[node.name])]

    def find(self, node: Node, name: str) -> Unit | None:
        """That unit of ours, loaded from its file if need be; None if there is none."""
        unit = self._loaded[node.name].get(name)
        if unit is None and (file := self.file(node, name)) is not None:
            return Unit(name, file, transient=False)
        return unit

    def file(self, node: Node, name: str) -> UnitFile | None:
        """What that unit's file says, None without one; BadUnit if it cannot be read."""
        try:
            return parse(name, self._world.files[node.name].read(f"{FOLDER}/{name}"))
        except FileTrouble:
            return None

    def enabled(self, node: Node, name: str) -> bool:
        """Whether the unit starts at boot."""
        if (daemon := self.daemon(node, name)) is not None:
            return daemon not in self._disabled[node.name]
        return any(self._world.files[node.name].is_link(link) for link in self._links(node, name))

    def masked(self, node: Node, name: str) -> bool:
        """Whether the unit is kept from starting at all."""
        full = name if "." in name else f"{name}.service"
        files = self._world.files[node.name]
        return any(files.leads_nowhere(f"{folder}/{full}") for folder in (FOLDER, RUNTIME))

    def starts_at_boot(self, node: Node, daemon: str) -> bool:
        """Whether that daemon of the world's comes up with its node."""
        return not daemon or (daemon not in self._disabled[node.name] and not self.masked(node, daemon))

    @staticmethod
    def daemon(node: Node, name: str) -> str | None:
        """The name under which the world plays that unit, None if it does not."""
        bare = name.removesuffix(".service")
        return bare if bare in node.units else None

    # the node's life

    def boot(self, node: Node) -> None:
        """What is enabled starts."""
        files = self._world.files[node.name]
        for folder in ("timers.target.wants", "multi-user.target.wants"):
            for name in files.names(f"{FOLDER}/{folder}"):
                try:
                    self.start(node, name)
                except (UnitTrouble, BadUnit) as trouble:
                    self._world.log(node, "systemd", f"{name}: {trouble}", 1)

    def forget(self, node: Node) -> None:
        """The node is dead: nothing is loaded, nothing waits."""
        for unit in self._loaded[node.name].values():
            if unit.event is not None:
                unit.event.cancel()
        self._loaded[node.name].clear()

    # verbs

    def run_later(self, node: Node, name: str, seconds: float, accuracy: float, command: Sequence[str]) -> None:
        """A transient timer of that name (no suffix) waits to start the command."""
        loaded = self._loaded[node.name]
        for full in (f"{name}.timer", f"{name}.service"):
            if full in loaded or self.file(node, full) is not None:
                text = f"Unit {full} was already loaded or has a fragment file."
                raise UnitTrouble(f"Failed to start transient timer unit: {text}")
        description = "[systemd-run] " + " ".join(command)
        service = Unit(f"{name}.service", UnitFile(description, tuple(command)), transient=True)
        file = UnitFile(description, (), seconds, accuracy, service.name)
        timer = Unit(f"{name}.timer", file, transient=True)
        loaded[service.name], loaded[timer.name] = service, timer
        self._wait(node, timer)

    def start(self, node: Node, name: str) -> Condition:
        """The unit has been told to start; it has when the condition holds."""
        self._refuse_masked(node, "start", name)
        if (daemon := self.daemon(node, name)) is not None:
            if not self.daemons.start(node, daemon) and self._limited(node, daemon):
                raise UnitTrouble(_TOO_OFTEN.format(name=f"{daemon}.service"))
            return done
        unit = self._need(node, "start", name)
        if unit.active in ("active", "activating"):
            return done
        self._loaded[node.name][name] = unit
        if unit.is_timer:
            self._wait(node, unit)
            return done
        self._execute(node, unit)
        return lambda: unit.active != "activating"

    def stop(self, node: Node, name: str) -> Condition:
        """The unit has been told to stop; it has when the condition holds."""
        if (daemon := self.daemon(node, name)) is not None:
            return self.daemons.stop(node, daemon)
        unit = self.find(node, name)
        if unit is None:
            raise UnitTrouble(f"Failed to stop {name}: Unit {name} not loaded.", NOT_LOADED)
        if unit.event is not None:
            unit.event.cancel()
        unit.active, unit.sub, unit.since, unit.due = "inactive", "dead", self._world.timeline.now, 0
        self._collect(node, unit)
        return done

    def kill(self, node: Node, name: str, signal: str) -> None:
        """The unit's main process has been sent that signal."""
        if (daemon := self.daemon(node, name)) is not None:
            self.daemons.signal(node, daemon, signal)
            return
        unit = self._loaded[node.name].get(name)
        if unit is None:
            raise UnitTrouble(f"Failed to kill unit {name}: Unit {name} not loaded.")
        if unit.active == "activating" and unit.event is not None and signal in ("KILL", "TERM", "INT"):
            unit.event.cancel()
            self._end(node, unit, 137)

    def enable(self, node: Node, name: str) -> list[str]:
        """The unit starts at each boot from now on; the lines that say which links were made."""
        if (daemon := self.daemon(node, name)) is not None:
            self._disabled[node.name].discard(daemon)
            return []
        if self.file(node, name) is None:
            raise UnitTrouble(f"Failed to enable unit: Unit {name} does not exist")
        links = self._links(node, name)
        if not links:
            raise UnitTrouble(f"The unit files have no installation config: {name}", 0)
        files = self._world.files[node.name]
        made = []
        for link in links:
            if not files.is_link(link):
                files.make_folder(link.rpartition("/")[0], parents=True)
                files.link(link, f"{FOLDER}/{name}")
                made.append(f"Created symlink '{link}' → '{FOLDER}/{name}'.")
        return made

    def disable(self, node: Node, name: str) -> list[str]:
        """The unit no longer starts at boot; the lines that say which links went."""
        if (daemon := self.daemon(node, name)) is not None:
            self._disabled[node.name].add(daemon)
            return []
        files = self._world.files[node.name]
        links = [link for link in self._links(node, name) if files.is_link(link)]
        if not links and self.file(node, name) is None:
            raise UnitTrouble(f"Failed to disable unit: Unit {name} does not exist")
        for link in links:
            files.remove(link)
        return [f"Removed '{link}'." for link in links]

    def mask(self, node: Node, name: str, runtime: bool = False) -> str:
        """The unit cannot be started until it is unmasked, or with ``runtime`` until the next boot; the link's name."""
        link = f"{RUNTIME if runtime else FOLDER}/{name if '.' in name else f'{name}.service'}"
        if self._world.files[node.name].find(link) is not None:
            raise UnitTrouble(f"Failed to mask unit: File '{link}' already exists.")
        self._world.files[node.name].link(link, "/dev/null")
        return link

    def unmask(self, node: Node, name: str, runtime: bool = False) -> list[str]:
        """The unit can be started again; ``runtime``: as far as it was masked until the next boot. The links' names."""
        files = self._world.files[node.name]
        full = name if "." in name else f"{name}.service"
        links = [f"{folder}/{full}" for folder in ((RUNTIME,) if runtime else (FOLDER, RUNTIME))]
        gone = [link for link in links if files.leads_nowhere(link)]
        for link in gone:
            files.remove(link)
        return gone

    def reset_failed(self, node: Node, name: str) -> None:
        """The unit is not failed any more."""
        if (daemon := self.daemon(node, name)) is not None:
            node.units[daemon].failed = False
            if self._world.ceph is not None:
                self._world.ceph.units.reset_failed(node, daemon)
            return
        unit = self._loaded[node.name].get(name)
        if unit is None:
            raise UnitTrouble(f"Failed to reset failed state of unit {name}: Unit {name} not loaded.")
        if unit.active == "failed":
            unit.active, unit.sub = "inactive", "dead"

    # timers and what they start

    def _wait(self, node: Node, timer: Unit) -> None:
        now = self._world.timeline.now
        timer.active, timer.sub, timer.since = "active", "waiting", now
        timer.due = now + round(timer.file.seconds * SECOND)
        late = self._rng.uniform(0.0, timer.file.accuracy)
        self._world.truth("timer", {"node": node.name, "unit": timer.name, "what": "armed"})
        if not self._world.planted("timers-never-fire"):
            what = f"{node.name}: {timer.name}"
            timer.event = self._world.on(node, timer.file.seconds + late, lambda: self._elapse(node, timer), what)

    def _elapse(self, node: Node, timer: Unit) -> None:
        timer.fired, timer.sub, timer.due = self._world.timeline.now, "elapsed", 0
        timer.event = None
        self._world.truth("timer", {"node": node.name, "unit": timer.name, "what": "fired"})
        try:
            self.start(node, timer.file.starts)
        except (UnitTrouble, BadUnit) as trouble:
            self._world.log(node, "systemd", f"{timer.name}: {trouble}", 1)

    def _execute(self, node: Node, unit: Unit) -> None:
        self._world.log(node, "systemd", f"Starting {unit.name} - {unit.file.description}...", 1)
        unit.active, unit.sub, unit.since, unit.event = "activating", "start", self._world.timeline.now, None
        if self._run is None:
            self._end(node, unit, 203)
            return
        program = self._run(self._world, node, unit.file.command)

        def step(answer: str | None) -> None:
            try:
                pause = next(program) if answer is None else program.send(answer)
            except StopIteration as ended:
                for line in (ended.value.out + ended.value.err).splitlines():
                    self._world.log(node, unit.name.removesuffix(".service"), line)
                self._end(node, unit, ended.value.status)
                return
            if pause is None:
                step("")  # its input is /dev/null
            else:
                unit.event = self._world.on(node, pause, lambda: step(None), f"{node.name}: {unit.name}")

        # a moment later, in a process of its own
        unit.event = self._world.on(node, 0.01, lambda: step(None), f"{node.name}: {unit.name}")

    def _end(self, node: Node, unit: Unit, status: int) -> None:
        unit.status, unit.since, unit.event = status, self._world.timeline.now, None
        unit.active, unit.sub = ("failed", "failed") if status else ("inactive", "dead")
        said = f"{unit.name}: Main process exited, code=exited, status={status}/FAILURE" if status else ""
        said = said or f"{unit.name}: Deactivated successfully."
        self._world.log(node, "systemd", said, 1)
        self._world.truth("service", {"node": node.name, "unit": unit.name, "status": status})
        self._collect(node, unit)

    def _collect(self, node: Node, unit: Unit) -> None:
        """A unit that is over and has not failed is unloaded; with a transient one, so is the timer that started it."""
        loaded = self._loaded[node.name]
        if not unit.transient:
            if unit.active == "inactive":
                loaded.pop(unit.name, None)
            return
        stem = unit.name.rpartition(".")[0]
        timer, service = loaded.get(f"{stem}.timer"), loaded.get(f"{stem}.service")
        if timer is not None and timer.sub != "waiting":
            del loaded[timer.name]
            timer = None
        if service is not None and timer is None and service.active != "activating":
            del loaded[service.name]

    # helpers

    def _limited(self, node: Node, daemon: str) -> bool:
        """Whether that daemon was started too often."""
        return self._world.ceph is not None and (node.name, daemon) in self._world.ceph.units.limited

    def _need(self, node: Node, verb: str, name: str) -> Unit:
        try:
            unit = self.find(node, name)
        except BadUnit as bad:
            raise UnitTrouble(f"Failed to {verb} {name}: Unit {name} has a bad unit file setting: {bad}") from None
        if unit is None:
            raise UnitTrouble(f"Failed to {verb} {name}: Unit {name} not found.", NOT_LOADED)
        return unit

    def _refuse_masked(self, node: Node, verb: str, name: str) -> None:
        if self.masked(node, name):
            full = name if "." in name else f"{name}.service"
            raise UnitTrouble(f"Failed to {verb} {full}: Unit {full} is masked.")

    def _links(self, node: Node, name: str) -> list[str]:
        """The links that an enabled unit has."""
        file = self.file(node, name)
        wanted = file.wanted_by if file is not None else ("timers.target",) if name.endswith(".timer") else ()
        return [f"{FOLDER}/{target}.wants/{name}" for target in wanted]
