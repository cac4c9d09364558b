"""Who may move, and when time may pass.

Exactly one participant runs at a time: it holds the baton. The next is the earliest by (time, rank, order of entry);
the world goes before any participant. A participant that waits for an answer keeps the baton, and so holds time, until
the server that answers it parks, or the port it waits for is known to be silent; then others run until the answer is
due or its patience is over.

A participant is one thread of one process, connected by its own Unix SEQPACKET socket; messages are JSON objects:

    → hello {name, rank, pid}   ← grant {now}           the right to run
    → until {when}              ← grant {now}           sleep
    → guard {peers, deadline}   (← expired {now})       "I am waiting for an answer from these ports"
    → unguard {}                ← grant {now}           the answer came, or it was given up
    → silent {ports}            ← silent {ports, late}  which of these would never answer, and which how late (ns)
    → announce {name, rank}     ← ok                    a thread of ours will say hello under that name
    → join {name}               ← grant {now}           wait for its leave
    → wake {}                                           from a signal handler: end my sleep now
    → leave {}

Not a participant's, and answered at once whoever runs:

    → stop {}               ← ok    the site ends
    → unplug {after, for}   ← ok    every port of the site falls silent that much later, for so long (null: until plug)
    → plug {}               ← ok    and is as the world has it again
    → mains {node, on}      ← mains {on}   the outlets of that node are switched (null: only asked for)
    → page {node, text, environment}   ← ok   whoever stands at that node is asked for something

A process that dies is buried whole, by its pidfd, before anybody else runs; with no participant left, time stands.
In paced mode (``speed``) entries are also held back until their real time has come, and time goes on without anybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, cast

from pytest_pveha.clock import SECOND, LiveClock
from pytest_pveha.sim.gate import Gone
from pytest_pveha.sim.timeline import Timeline

_TCP_INFO = 11
_TCP_ESTABLISHED = 1
_UNOWNED_RANK = 5


@dataclass(eq=False, slots=True)
class Participant:
    """One thread of one run, as the site knows it."""

    name: str
    rank: int
    pid: int = 0
    conn: socket.socket | None = None
    state: str = "waiting"  # waiting (entry in the heap) · running · guarded · away (guarded, baton given up) · joining
    peers: tuple[int, ...] = ()
    deadline: int = 0
    waits_for: str = ""

    def send(self, **message: Any) -> None:
        if self.conn is not None:
            with contextlib.suppress(OSError):
                self.conn.send(json.dumps(message).encode())


@dataclass(eq=False, slots=True)
class _Park:
    """A server thread asleep in site time on behalf of a participant."""

    owner: Participant | None
    ready: threading.Event = field(default_factory=threading.Event)
    gone: bool = False


@dataclass(order=True, slots=True)
class _Entry:
    when: int
    rank: int
    sequence: int
    who: Participant | _Park = field(compare=False)


class Baton:
    """The scheduler of one site. ``serve`` runs in the site's main thread; servers call ``acting`` and ``park``."""

    def __init__(
        self,
        timeline: Timeline,
        listener: Path,
        *,
        silent: Callable[[int], bool],
        late: Callable[[int], int] = lambda _: 0,
        changed: Callable[[], None] = lambda: None,
        buried: Callable[[], None] = lambda: None,
        plugged: Callable[[bool], None] = lambda _: None,
        mains: Callable[[str, bool | None], bool] = lambda _, __: False,
        paged: Callable[[str, str, Mapping[str, str]], None] = lambda _, __, ___: None,
        speed: float | None = None,
        began: int | None = None,
        idle_limit: float | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self._timeline = timeline
        self._silent = silent
        self._late = late
        self._changed = changed
        self._buried = buried
        self._plugged = plugged
        self._mains = mains
        self._paged = paged
        self._speed = speed
        self._idle_limit = idle_limit
        self._real = LiveClock()
        # the real moment (monotonic ns) at which site time was zero; only paced time asks for it
        self._origin = self._real.now().mono if began is None else began
        self._last_seen = self._real.now().mono
        self._participants: dict[str, Participant] = {}
        self._holder: Participant | None = None
        self._entries: list[_Entry] = []
        self._parks: list[_Park] = []
        self._sequence = 0
        self._pidfds: dict[int, int] = {}
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(listener))
        self._listener.listen(16)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    # --- for servers -------------------------------------------------------------------------------------------

    @contextmanager
    def acting(self, sock: socket.socket | None = None) -> Iterator[None]:
        """The world stands still while open; see Gate.acting."""
        with self.lock:
            if sock is not None and not _still_there(sock):
                raise Gone
            self._catch_up()
            yield
            self._changed()
        self._wake()

    def park(self, seconds: float) -> None:
        """Sleep that much site time in a server thread; see Gate.park."""
        with self.lock:
            self._catch_up()
            owner = self._holder
            if owner is None and not self._speed:
                return
            park = _Park(owner)
            self._parks.append(park)
            self._enter(self._timeline.now + round(seconds * SECOND), owner.rank if owner else _UNOWNED_RANK, park)
        self._wake()
        park.ready.wait()
        if park.gone:
            raise Gone

    # --- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Play until somebody says stop, or nobody has been there for ``idle_limit`` real seconds."""
        while not self._stopped:
            with self.lock:
                pause = self._dispatch()
            if not self._participants and self._idle_limit is not None:
                idle = (self._real.now().mono - self._last_seen) / SECOND
                if idle > self._idle_limit:
                    return
                pause = self._idle_limit if pause is None else min(pause, self._idle_limit)
            for key, _ in self._selector.select(pause):
                with self.lock:
                    key.data(key.fileobj)

    def stop(self) -> None:
        """End ``serve`` soon."""
        self._stopped = True
        self._wake()

    def close(self) -> None:
        """Let everybody go: parked servers are told that their requester is gone."""
        with self.lock:
            for park in self._parks:
                park.gone = True
                park.ready.set()
            for key in list(self._selector.get_map().values()):
                if isinstance(key.fileobj, int):
                    os.close(key.fileobj)  # a process that was watched
                else:
                    cast("socket.socket", key.fileobj).close()
            self._selector.close()
            self._wake_write.close()

    def _dispatch(self) -> float | None:
        """Let time pass by one entry if it may; how long to wait then, in seconds (0: not at all, None: for a message).

        One entry at a time, so that a signal or a death in the middle of a long sleep is heard where it happened.
        """
        holder = self._holder
        if holder is not None:
            if not self._may_give_up(holder):
                return None
            holder.state = "away"
            self._holder = None
            self._enter(holder.deadline, holder.rank, holder)
        if not self._participants and not self._speed:
            return None
        entry = self._entries[0] if self._entries else None
        event_time = self._timeline.next_time()
        times = [when for when in (entry.when if entry else None, event_time) if when is not None]
        if not times:
            return None
        due = max(min(times), self._timeline.now)
        if self._speed:
            early = self._origin + due / self._speed - self._real.now().mono
            if early > 0:
                return early / SECOND
        if event_time is not None and event_time <= due:
            self._timeline.run_next()
            self._changed()
            return 0
        assert entry is not None
        heappop(self._entries)
        self._timeline.now = due
        self._grant(entry.who)
        return 0

    def _may_give_up(self, holder: Participant) -> bool:
        if holder.state != "guarded":
            return False
        if any(park.owner is holder for park in self._parks):
            return True
        return bool(holder.peers) and all(self._silent(port) for port in holder.peers)

    def _grant(self, who: Participant | _Park) -> None:
        if isinstance(who, _Park):
            self._parks.remove(who)
            owner = who.owner
            if owner is not None and owner.state == "away":
                self._forget(owner)
                owner.state = "guarded"
                self._holder = owner
            who.ready.set()
            return
        self._holder = who
        if who.state == "away":
            who.state = "running"
            self._release_parks(who)
            who.send(re="expired", now=self._timeline.now)
        else:
            who.state = "running"
            if who.conn is not None:  # else it was announced; its hello is the answer to this
                who.send(re="grant", now=self._timeline.now)

    def _enter(self, when: int, rank: int, who: Participant | _Park) -> None:
        self._sequence += 1
        heappush(self._entries, _Entry(max(when, self._timeline.now), rank, self._sequence, who))

    def _forget(self, who: Participant | _Park) -> None:
        self._entries = [entry for entry in self._entries if entry.who is not who]
        heapify(self._entries)

    def _release_parks(self, owner: Participant) -> None:
        for park in [park for park in self._parks if park.owner is owner]:
            self._parks.remove(park)
            self._forget(park)
            park.gone = True
            park.ready.set()

    def _catch_up(self) -> None:
        """In paced mode, bring time to the present, but never past the next entry."""
        if not self._speed or self._holder is not None:
            return
        present = round((self._real.now().mono - self._origin) * self._speed)
        bounds = [present]
        if self._entries:
            bounds.append(self._entries[0].when)
        if (upcoming := self._timeline.next_time()) is not None:
            bounds.append(upcoming)
        self._timeline.now = max(self._timeline.now, min(bounds))

    # --- messages ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_write.send(b".")

    def _drain(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            sock.recv(4096)

    def _accept(self, listener: socket.socket) -> None:
        conn, _ = listener.accept()
        self._selector.register(conn, selectors.EVENT_READ, self._receive)

    def _receive(self, conn: socket.socket) -> None:
        if conn.fileno() < 0:  # closed by a burial in this same round
            return
        try:
            raw = conn.recv(65536)
        except OSError:
            raw = b""
        self._last_seen = self._real.now().mono
        if not raw:
            self._hang_up(conn)
            return
        message = json.loads(raw)
        if message["op"] == "stop":
            conn.send(b'{"re":"ok"}')
            self._stopped = True
        elif message["op"] in ("plug", "unplug"):
            self._on_plug(message)
            conn.send(b'{"re":"ok"}')
        elif message["op"] == "mains":
            self._catch_up()
            on = self._mains(message["node"], message["on"])
            self._changed()
            conn.send(json.dumps({"re": "mains", "on": on}).encode())
        elif message["op"] == "page":
            self._catch_up()
            self._paged(message["node"], message["text"], message["environment"])
            conn.send(b'{"re":"ok"}')
        elif message["op"] == "hello":
            self._hello(conn, message)
        elif (who := self._by_conn(conn)) is not None:
            getattr(self, f"_on_{message['op']}")(who, message)

    def _on_plug(self, message: dict[str, Any]) -> None:
        """The controller's cable goes out or in, in site time."""
        self._catch_up()
        if message["op"] == "plug":
            self._plug(True)
            return
        if message["after"]:
            self._timeline.after(message["after"], lambda: self._plug(False), "the controller's network goes")
        else:
            self._plug(False)
        if message["for"] is not None:
            again = message["after"] + message["for"]
            self._timeline.after(again, lambda: self._plug(True), "the controller's network is back")

    def _plug(self, plugged: bool) -> None:
        self._plugged(plugged)
        self._changed()

    def _by_conn(self, conn: socket.socket) -> Participant | None:
        return next((p for p in self._participants.values() if p.conn is conn), None)

    def _hello(self, conn: socket.socket, message: dict[str, Any]) -> None:
        name, pid = message["name"], message["pid"]
        self._watch(pid)
        announced = self._participants.get(name)
        if announced is not None and announced.conn is None:
            announced.conn, announced.pid = conn, pid
            if self._holder is announced:
                announced.send(re="grant", now=self._timeline.now)
            return
        if announced is not None:
            holder = self._holder
            conn.send(json.dumps({"re": "taken", "pid": announced.pid, "holder": holder and holder.pid}).encode())
            self._selector.unregister(conn)
            conn.close()
            return
        newcomer = Participant(name, message["rank"], pid, conn)
        self._participants[name] = newcomer
        self._catch_up()
        self._enter(self._timeline.now, newcomer.rank, newcomer)

    def _on_until(self, who: Participant, message: dict[str, Any]) -> None:
        who.state = "waiting"
        self._holder = None
        self._enter(message["when"], who.rank, who)

    def _on_guard(self, who: Participant, message: dict[str, Any]) -> None:
        who.state = "guarded"
        who.peers = tuple(message["peers"])
        who.deadline = message["deadline"]

    def _on_unguard(self, who: Participant, message: dict[str, Any]) -> None:
        del message
        self._release_parks(who)
        if who.state == "away":  # it has its answer although others run: it comes back in its turn
            self._forget(who)
            who.state = "waiting"
            self._enter(self._timeline.now, who.rank, who)
            return
        who.state = "running"
        who.send(re="grant", now=self._timeline.now)

    def _on_silent(self, who: Participant, message: dict[str, Any]) -> None:
        late = [(port, after) for port in message["ports"] if (after := self._late(port))]
        who.send(re="silent", ports=[port for port in message["ports"] if self._silent(port)], late=late)

    def _on_announce(self, who: Participant, message: dict[str, Any]) -> None:
        child = Participant(message["name"], message["rank"], who.pid)
        self._participants[child.name] = child
        self._enter(self._timeline.now, child.rank, child)
        who.send(re="ok")

    def _on_join(self, who: Participant, message: dict[str, Any]) -> None:
        who.waits_for = message["name"]
        who.state = "joining"
        self._holder = None
        self._wake_joiners()

    def _on_wake(self, who: Participant, message: dict[str, Any]) -> None:
        del message
        if who.state == "waiting" and any(entry.who is who for entry in self._entries):
            self._forget(who)
            self._enter(self._timeline.now, who.rank, who)

    def _on_leave(self, who: Participant, message: dict[str, Any]) -> None:
        del message
        if who.conn is not None:
            self._selector.unregister(who.conn)
            who.conn.close()
        self._remove(who)

    def _hang_up(self, conn: socket.socket) -> None:
        self._selector.unregister(conn)
        conn.close()
        who = self._by_conn(conn)
        if who is not None and who.pid not in self._pidfds:
            self._remove(who)
        # else: its process may be dying; the burial, which sees all of it at once, removes it

    def _remove(self, who: Participant) -> None:
        self._participants.pop(who.name, None)
        self._forget(who)
        self._release_parks(who)
        if self._holder is who:
            self._holder = None
        self._wake_joiners()

    def _wake_joiners(self) -> None:
        for joiner in self._participants.values():
            if joiner.state == "joining" and joiner.waits_for not in self._participants:
                joiner.state = "waiting"
                self._enter(self._timeline.now, joiner.rank, joiner)

    def _watch(self, pid: int) -> None:
        if pid in self._pidfds:
            return
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            self._pidfds[pid] = descriptor
            self._selector.register(descriptor, selectors.EVENT_READ, lambda _: self._bury(pid))

    def _bury(self, pid: int) -> None:
        """Remove a dead process whole, before anybody else runs: one by one, dying threads would be granted time."""
        descriptor = self._pidfds.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        for who in [who for who in self._participants.values() if who.pid == pid]:
            if who.conn is not None and who.conn.fileno() >= 0:
                self._selector.unregister(who.conn)
                who.conn.close()
            self._remove(who)
        self._buried()


def _still_there(sock: socket.socket) -> bool:
    """Whether the peer of this TCP connection has not hung up (Linux tcp_info, first byte: the state)."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] == _TCP_ESTABLISHED
    except OSError:
        return False
