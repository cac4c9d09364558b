"""Faults that cost a node its life: its kernel crashes, a daemon its watchdog depends on dies, or its userland hangs.

The node's own watchdog is to reset it, and does what heals; what does not come back is reset at its BMC, by us or by
other nodes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.clock import SECOND, Deadline
from pytest_pveha.errors import PreflightRefused, ProtocolError, SiteError, Unreachable
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles import watchdog
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import all_of, into, one_of, quote
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.identity import own_bmc
from pytest_pveha.observe.life import answers, booted_anew
from pytest_pveha.observe.observer import READ, Observer

MEMBERS = "/etc/pve/.members"
"""The cluster as pmxcfs tells it."""

BMC = 20.0
"""Seconds a BMC may take for one answer."""

BOOT = 300.0
"""Seconds a node may be silent before it is reset: one that restarts by itself is back by then."""

AGAIN = 600.0
"""Seconds after a reset until another one is tried: the slowest servers boot for nearly ten minutes."""

LAST_WORD = 3.0
"""Seconds until a command that ends its own machine is given up: its answer never comes."""

LRM_ROUND = 15.0
"""Seconds in which an active LRM writes its status once (a round is 10 s)."""

GIVES_UP = 15.0
"""Seconds after which no watchdog bites that had begun to starve before its feeder went on: its own 10 s are over."""

MUX = "watchdog-mux"
HA_USERLAND = (
    MUX, "corosync", "pve-ha-lrm", "pve-ha-crm", "pvestatd", "pvescheduler", "pvedaemon", "pveproxy",
)  # fmt: skip
"""What stands still in a hang: everything by which the cluster hears of a node, and its watchdog's feeder. sshd and
systemd run on, so that the node can be looked at and thaws itself; pve-cluster does, because our keys lie in it."""

LOOKS = 3
"""How often a silent node is asked before it is called dark."""

TRIES = 3
"""How often a dead-man asks the BMC."""


@dataclass(frozen=True, slots=True)
class KernelCrash:
    """A node's kernel panics.

    Blast radius: the node and its guests. Undo: the node restarts by itself, or is reset at its BMC.
    Source: kernel docs admin-guide/sysrq, command ``c``; root may always give it there, whatever kernel.sysrq says.
    """

    kind: ClassVar[str] = "kernel-crash"
    family: ClassVar[str] = "process"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "if it does not come back, reset the node at its BMC: ipmitool … chassis power reset"

    node: str
    returns: bool
    """Whether anything on it is set to restart it: kernel.panic, or a watchdog outside of the kernel."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}), resets=frozenset({self.node}))

    def preflight(self, observer: Observer) -> None:
        _preflight(observer, self.node)
        try:
            _ours(observer, self.node).command(_read(observer), "test", "-w", "/proc/sysrq-trigger")
        except ProtocolError as error:
            raise PreflightRefused(
                f"the kernel of {self.node} takes no sysrq commands (/proc/sysrq-trigger), so it cannot be crashed"
            ) from error

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return _reset_by_others(observer, self.node, kept)

    def inject(self, observer: Observer) -> None:
        try:
            crash = into(quote("echo", "c"), "/proc/sysrq-trigger")
            _ours(observer, self.node).act(observer.site.clock.deadline(LAST_WORD), "sh", "-c", crash)
        except Unreachable:
            return  # as it must: who was told to crash does not answer

    def took_effect(self, observer: Observer) -> Answer:
        """It is silent on all its addresses, and the others count it no more; or it has booted anew already."""
        if answers(observer, _ours(observer, self.node)):
            observer.boot_id(_ours(observer, self.node))
            if not booted_anew(observer, _ours(observer, self.node)):
                return no(f"{self.node} still answers")
            return yes(
                f"{self.node} has booted anew; {_settings(observer, self.node)}",
                observer.change(f"answering/{self.node}") or observer.change(f"boot_id/{self.node}"),
            )
        view = observer.look()
        if view.membership is None:
            return view.unseen()
        if view.membership.online.get(self.node):
            return no(f"{self.node} is silent, and still a member")
        return yes(
            f"{self.node} is silent on all its addresses and left the membership; {_settings(observer, self.node)}",
            observer.change(f"answering/{self.node}"),
        )

    def heal(self, observer: Observer) -> None:
        if _is_dark(observer, self.node):
            _bring_back(observer, self.node, at_once=not self.returns)

    def healed(self, observer: Observer) -> Answer:
        return _answers_us(observer, self.node)


@dataclass(frozen=True, slots=True)
class DaemonKilled:
    """A daemon is killed without a word, as the kernel does when memory runs out.

    Blast radius: of watchdog-mux, and of an active LRM or CRM, the node: its watchdog is no longer fed and resets it.
    Undo: the reset is the undo; where it does not come, at the BMC.
    """

    kind: ClassVar[str] = "daemon-killed"
    family: ClassVar[str] = "process"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "if its watchdog does not, reset the node at its BMC: ipmitool … chassis power reset"

    node: str
    unit: str
    pid: int
    """Its main process before."""
    boot_id: str
    """Of the boot in which it is killed: in the next one a unit that is not there yet is on its way."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}), units=frozenset({(self.node, self.unit)}), resets=frozenset({self.node}))

    def preflight(self, observer: Observer) -> None:
        _preflight(observer, self.node)
        if self.pid not in _processes(observer, self.node):
            raise PreflightRefused(f"{self.unit} on {self.node} does not run; nothing to kill")
        _note_daemons(observer, self.node, self.unit, "runs")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return _reset_by_others(observer, self.node, kept)

    def inject(self, observer: Observer) -> None:
        _ours(observer, self.node).act(_read(observer), "systemctl", "kill", "-s", "KILL", self.unit)

    def took_effect(self, observer: Observer) -> Answer:
        """The process is gone, by the node's process table."""
        asked = observer.site.clock.now()
        if self.pid in _processes(observer, self.node):
            return no(f"process {self.pid} of {self.unit} still runs on {self.node}")
        observer.note(f"{self.unit}@{self.node}", "gone", asked, observer.site.clock.now(), "ssh")
        return yes(
            f"process {self.pid} of {self.unit} is gone on {self.node}; {_settings(observer, self.node)}",
            observer.change(f"{self.unit}@{self.node}"),
        )

    def heal(self, observer: Observer) -> None:
        node = _ours(observer, self.node)
        if _is_dark(observer, self.node):
            _bring_back(observer, self.node, at_once=False)
        elif observer.boot_id(node) == self.boot_id and not node.units.active(self.unit, _read(observer)):
            _bring_back(observer, self.node, at_once=True)

    def healed(self, observer: Observer) -> Answer:
        node = _ours(observer, self.node)
        if not node.units.active(self.unit, _read(observer)):
            return no(f"{self.unit} on {self.node} does not run")
        return yes(f"{self.unit} on {self.node} runs")


@dataclass(frozen=True, slots=True)
class DaemonsFrozen:
    """Daemons stand still where they are, as when a node thrashes: nothing answers, nothing ends.

    Blast radius: of the LRM alone, or of all of them, the node: its watchdog resets it. Undo: they go on.
    Source: signal(7), SIGSTOP and SIGCONT.
    """

    kind: ClassVar[str] = "daemons-frozen"
    family: ClassVar[str] = "process"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "on the node: systemctl kill -s CONT UNIT…"

    node: str
    units: tuple[str, ...]
    pids: tuple[int, ...]
    """Their main processes."""

    @property
    def reach(self) -> Reach:
        return Reach(
            frozenset({self.node}),
            units=frozenset((self.node, unit) for unit in self.units),
            resets=frozenset({self.node}),
        )

    def preflight(self, observer: Observer) -> None:
        _preflight(observer, self.node)
        gone = sorted(set(self.pids) - _processes(observer, self.node))
        if gone or not self.pids:
            raise PreflightRefused(f"not all of {', '.join(self.units)} run on {self.node}; nothing was stopped")
        _note_daemons(observer, self.node, self._named, "runs")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """The node lets them go on; a reset does the same."""
        return DeadMan.on_every(Undo(self.node, (quote(*self._signal("CONT")),)))

    def inject(self, observer: Observer) -> None:
        """Right after the LRM has fed its watchdog, if it alone is stopped: what follows counts from there."""
        if MUX not in self.units:
            self._await_feed(observer)
        _ours(observer, self.node).act(_read(observer), *self._signal("STOP"))

    def took_effect(self, observer: Observer) -> Answer:
        """All of them stand still, by the node's process table."""
        asked = observer.site.clock.now()
        going = set(self.pids) - watchdog.stopped(_ours(observer, self.node), _read(observer))
        if going:
            return no(f"not all of {', '.join(self.units)} stand still on {self.node}")
        observer.note(f"{self._named}@{self.node}", "stopped", asked, observer.site.clock.now(), "ssh")
        return yes(
            f"{', '.join(self.units)} stand still on {self.node}; {_settings(observer, self.node)}",
            observer.change(f"{self._named}@{self.node}"),
        )

    def heal(self, observer: Observer) -> None:
        node = _ours(observer, self.node)
        if _is_dark(observer, self.node):
            _bring_back(observer, self.node, at_once=False)
        elif watchdog.stopped(node, _read(observer)) & set(self.pids):
            node.act(_read(observer), *self._signal("CONT"))
            _mark(observer, f"continued/{self.node}")
        else:
            reset_given_up(observer, self.node)

    def healed(self, observer: Observer) -> Answer:
        """They go on, no watchdog that had begun to starve bites any more, and the node has one.

        A multiplexer that has given its node up ends, and is not started again before a boot; the LRM goes on without
        it, and calls itself active (seen on PVE 9.2, with a watchdog that did not bite).
        """
        if watchdog.stopped(_ours(observer, self.node), _read(observer)) & set(self.pids):
            return no(f"daemons of {self.node} stand still")
        if self._may_bite(observer):
            return no(f"{self.node} goes on; whether its watchdog still resets it is not known yet")
        if given_up(observer, self.node):
            return no(f"{self.node} goes on without a watchdog ({MUX} has given it up): it must be reset")
        if not on_guard(observer, self.node):
            return no(f"{self.node} was reset, and its LRM does not guard its guests again")
        return yes(f"no daemon of ours stands still on {self.node}")

    def _may_bite(self, observer: Observer) -> bool:
        """Whether the node went on so lately that its watchdog may still reset it."""
        continued = observer.began(f"continued/{self.node}")
        return continued is not None and observer.site.clock.now().mono < continued + GIVES_UP * SECOND

    @property
    def _named(self) -> str:
        return self.units[0] if len(self.units) == 1 else "userland"

    def _signal(self, signal: str) -> tuple[str, ...]:
        return ("systemctl", "kill", "-s", signal, *self.units)

    def _await_feed(self, observer: Observer) -> None:
        """When the LRM was last seen to write its status is on record."""
        clock, node = observer.site.clock, _ours(observer, self.node)
        until = clock.deadline(LRM_ROUND)
        seen = 0
        while seen < 2 and not until.expired():  # the first sight is of some earlier round
            asked = clock.now()
            stamp = watchdog.lrm_stamp(node, _read(observer))
            seen += observer.note(f"lrm_stamp/{self.node}", stamp, asked, clock.now(), "ssh")
            clock.sleep(0.2)
        _note_daemons(observer, self.node, self._named, "runs")


# --- what they share -------------------------------------------------------------------------------------------------


def _ours(observer: Observer, name: str) -> Node:
    return observer.site.nodes[name]


def given_up(observer: Observer, name: str) -> bool:
    """Whether the node's multiplexer has ended with clients, which resets a node, and the node goes on.

    It is not started again before a boot, and the LRM goes on without it and calls itself active (seen on PVE 9.2, with
    a watchdog that does not bite). A node that does not answer is on its way.
    """
    node = _ours(observer, name)
    if not observer.site.cluster.proxmox:
        return False
    with suppress(SiteError):
        return not node.units.active(MUX, _read(observer)) and node.watchdog_has_clients(_read(observer))
    return False


def reset_given_up(observer: Observer, name: str) -> None:
    """A node that its multiplexer has given up, and that its watchdog had time to reset and did not, is reset."""
    if not given_up(observer, name):
        return
    since = observer.began(f"given_up/{name}")
    if since is None:
        _mark(observer, f"given_up/{name}")
    elif observer.site.clock.now().mono >= since + GIVES_UP * SECOND:
        _bring_back(observer, name, at_once=True)


def on_guard(observer: Observer, name: str) -> bool:
    """Whether the LRM of a node that we reset has written since, and guards it where HA has services there.

    Until then HA goes on calling them started, where the node was back before anybody missed it (seen on PVE 9.2).
    """
    now, sent = observer.site.clock.now(), observer.began(f"reset_sent/{name}")
    if sent is None:
        return True
    manager = observer.look().manager
    lrm = manager.lrms.get(name) if manager is not None else None
    if manager is None or lrm is None or lrm.timestamp <= (now.utc - now.mono + sent) / SECOND:
        return False
    return lrm.guarded or all(row.node != name or row.state != "started" for row in manager.services.values())


def _read(observer: Observer) -> Deadline:
    return observer.site.clock.deadline(READ)


def _processes(observer: Observer, name: str) -> frozenset[int]:
    return _ours(observer, name).pids(_read(observer))


def _note_daemons(observer: Observer, name: str, unit: str, state: str) -> None:
    asked = observer.site.clock.now()
    observer.note(f"{unit}@{name}", state, asked, observer.site.clock.now(), "ssh")


def _mark(observer: Observer, what: str) -> None:
    """That was done now."""
    now = observer.site.clock.now()
    observer.note(what, str(now.mono), now, now, "us")


def _settings(observer: Observer, name: str) -> str:
    kernel = observer.last(f"kernel.panic/{name}")
    return f"its watchdog is {observer.last(f'watchdog/{name}')}, kernel.panic is {kernel}"


def _preflight(observer: Observer, name: str) -> None:
    """The node's watchdog is fed by an active LRM, what it is is on record, and its BMC could reset it.

    Raises:
        PreflightRefused: it is not so; nothing was touched.
    """
    node = _ours(observer, name)
    if node.bmc is None:
        raise PreflightRefused(
            f"node {name} has no BMC in the inventory: if it did not come back by itself nobody could reset it; add "
            f"nodes.{name}.bmc"
        )
    view = observer.look()
    if view.manager is None:
        raise PreflightRefused(f"the HA manager cannot be asked, so nothing was broken: {view.trouble}")
    lrm = view.manager.lrms.get(name)
    if lrm is None or not lrm.guarded or not view.manager.fresh(name):
        raise PreflightRefused(
            f"the LRM of {name} is {lrm.state if lrm else 'not there'}, so its watchdog guards nothing and would not "
            f"reset it; a node's LRM is active while HA guests are on it"
        )
    asked = observer.site.clock.now()
    try:
        if not node.watchdog_has_clients(_read(observer)):
            raise PreflightRefused(
                f"nobody holds the watchdog of {name} open (/run/watchdog-mux.active), though its LRM is active: "
                f"nothing would reset it; `systemctl status watchdog-mux pve-ha-lrm` there"
            )
        found = {
            "watchdog": watchdog.identity(node, _read(observer)),
            "kernel.panic": str(watchdog.restarts_after_panic(node, _read(observer))),
        }
        on = node.bmc.power_state(observer.site.clock.deadline(BMC)).on
        own = own_bmc(observer, node)
    except SiteError as error:
        raise PreflightRefused(f"{name} is not broken: {error}") from error
    for what, value in found.items():
        observer.note(f"{what}/{name}", value, asked, observer.site.clock.now(), "ssh")
    if not on or own.verdict != "yes":
        raise PreflightRefused(f"{name} could not be reset: {own.saw if on else 'its BMC says that it is off'}")
    observer.boot_id(node)
    answers(observer, node)


def _reset_by_others(observer: Observer, name: str, kept: str) -> DeadMan:
    """Two other nodes, in other failure domains where there are any, reset the victim if it is not back by then."""
    site = observer.site
    victim = site.nodes[name]
    assert victim.bmc is not None
    command = victim.bmc.from_a_node(f"{kept}.secret", site.clock.deadline(BMC))
    if not command.reset:
        raise PreflightRefused(f"the BMC of {name} knows no reset, so no other node could bring it back")
    # pmxcfs lists the members (seen on PVE 9.2: "n1": { "id": 1, "online": 1, "ip": …); who has no quorum does nothing
    script = (
        one_of(quote("grep", "-q", '"quorate": 1', MEMBERS), quote("exit", "0")),
        all_of(quote("grep", "-q", f'"{name}": {{ "id": [0-9]*, "online": 1', MEMBERS), quote("exit", "0")),
        one_of(*[quote(*words) for words in command.reset] * TRIES),
    )
    others = sorted(site.nodes - {victim}, key=lambda node: node.room == victim.room)
    undos = tuple(
        Undo(
            node.name,
            script,
            outlives_reboot=True,
            secret=command.secret,
            checks=(command.status,) if command.status else (),
        )
        for node in others
    )
    return DeadMan(undos, min(2, len(undos)))


def _is_dark(observer: Observer, name: str) -> bool:
    """Whether the node answers nowhere, asked more than once: a lost packet must not get it reset."""
    for _ in range(LOOKS):
        if answers(observer, _ours(observer, name)):
            return False
        observer.site.clock.sleep(1)
    return True


def _bring_back(observer: Observer, name: str, *, at_once: bool) -> None:
    """A node that is silent for so long that it will not come by itself is reset; not again while it may be booting."""
    now = observer.site.clock.now().mono
    sent, dark = observer.began(f"reset_sent/{name}"), observer.began(f"answering/{name}")
    if sent is not None and now - sent < AGAIN * SECOND:
        return
    if not at_once and (dark is None or now - dark < BOOT * SECOND):
        return
    bmc = _ours(observer, name).bmc
    if bmc is None:
        raise Unreachable(f"node {name} has no BMC in the inventory; add nodes.{name}.bmc")
    on = bmc.fresh_power_state(observer.site.clock.deadline(BMC)).on
    bmc.set_power("reset" if on else "on", observer.site.clock.deadline(BMC))
    _mark(observer, f"reset_sent/{name}")


def _answers_us(observer: Observer, name: str) -> Answer:
    node = _ours(observer, name)
    if _is_dark(observer, name):
        return no(f"{name} is silent")
    observer.boot_id(node)
    return yes(f"{name} answers")
