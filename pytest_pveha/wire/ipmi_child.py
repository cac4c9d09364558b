"""IPMI sessions, each in a process of its own, by pyghmi: JSON lines in, JSON lines out.

A process of its own because pyghmi cannot be bounded or interrupted from within: a BMC that vanishes holds a call for
half a minute, and a second session to the same BMC in one process hangs. The parent bounds every call and kills us.
It starts one process, which loads pyghmi and forks a helper whenever the parent sends it a channel.

    {"op": "open", "address", "port", "user", "password", "privilege", "cipher"}   → {"ok": true}
    {"op": "ask", "netfn", "command", "data": [..], "once": bool}                   → {"ok": true, "code", "data": [..]}
    {"op": "close"}                                                                 → we end
    the others, failing                                                             → {"ok": false, "kind", "text"}

``kind``: start (pyghmi is not usable), address, timeout, refused, full, suite, protocol.

pyghmi's session layer is used directly: its Command adds vendor handlers that send more than was asked for, and
three times the start-up cost.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

PATIENCE = 1.0
"""Seconds of one turn of pyghmi's event loop; decides nothing, the parent's deadline does."""

LOOK_AGAIN = 0.005
"""Seconds after which pyghmi looks for an answer that it did not notice."""

NO_SUITE = "no cipher suite in common"

_KINDS = (
    ("incorrect password", "refused"),
    ("unauthorized name", "refused"),
    ("unauthorized role", "refused"),
    ("invalid role", "refused"),
    ("invalid username", "refused"),
    ("integrity check value", "refused"),
    ("rakp4 integrity code", "refused"),
    ("privelege", "refused"),  # pyghmi's spelling: Set Session Privilege Level was refused
    ("insufficient resources", "full"),
    ("cipher suite", "suite"),
    ("algorithm", "suite"),
    ("integrity payload", "suite"),
    ("timeout", "timeout"),
    ("no longer connected", "timeout"),
    ("failed to initialize", "timeout"),
    ("unable to transmit to specified address", "address"),
)


class Refusal(Exception):
    """The BMC, or nobody, answered so that the request cannot be served."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.kind = kind or kind_of(text)


def kind_of(text: str) -> str:
    """Which sort of failure pyghmi's words mean."""
    lowered = text.lower()
    return next((kind for words, kind in _KINDS if words in lowered), "protocol")


class Link:
    """One pyghmi session, from its login to its close."""

    def __init__(self, request: dict[str, Any]) -> None:
        Session = self._loop = _pyghmi()
        _demand_suite(Session, request["cipher"])
        outcome: list[dict[str, Any]] = []
        # by callback: a blocking login sits out pyghmi's own patience
        self._session = Session(
            request["address"],
            request["user"],
            request["password"],
            port=request["port"],
            onlogon=outcome.append,
            privlevel=request["privilege"],
        )
        while not outcome:
            Session.wait_for_rsp(timeout=PATIENCE)
        if "error" in outcome[0]:
            raise Refusal(str(outcome[0]["error"]))

    def ask(self, netfn: int, command: int, data: list[int], *, once: bool) -> dict[str, Any]:
        """Completion code and data of one command; sent again while unanswered unless ``once``."""
        # keep-alives run in real time and would hold a slot of a BMC that nobody talks to; the parent renews instead.
        # pyghmi registers one at each login, also at those it makes by itself
        self._loop.keepalive_sessions.pop(self._session, None)
        if not once:
            answer = self._session.raw_command(netfn=netfn, command=command, data=data)
        else:
            answers: list[dict[str, Any]] = []
            self._session.raw_command(netfn=netfn, command=command, data=data, retry=False, callback=answers.append)
            while not answers:
                self._loop.wait_for_rsp(timeout=PATIENCE)
            self._session.incommand = False  # pyghmi leaves this to whoever passes a callback
            answer = answers[0]
        if answer is None or "code" not in answer or answer["code"] > 0xFF:
            raise Refusal("timeout")
        return {"ok": True, "code": answer["code"], "data": list(answer["data"])}

    def close(self) -> None:
        """The BMC has been told that the session is over; it may have ended it long ago, and would not answer."""
        session_id = list(int(self._session.sessionid).to_bytes(4, "little"))
        self._session.raw_command(netfn=0x06, command=0x3C, data=session_id, retry=False)


def _pyghmi() -> Any:
    """pyghmi's Session class. Raises Refusal of the kind "start"."""
    try:
        from pyghmi.ipmi.private import session
    except Exception as error:
        raise Refusal(f"pyghmi cannot be loaded: {type(error).__name__}: {error}", "start") from error
    wait = session._io_wait
    if not getattr(wait, "impatient", False):

        def look_again(timeout: float, myaddr: Any = None, evq: Any = None) -> None:
            """An answer that came between sending and waiting wakes nobody in pyghmi, and cost 0.5 s and a resend."""
            wait(min(timeout, LOOK_AGAIN), myaddr, evq)

        look_again.impatient = True  # type: ignore[attr-defined]
        session._io_wait = look_again
    return session.Session


def _demand_suite(session_class: Any, cipher: int | None) -> None:
    """From now on logins propose just this suite; pyghmi by itself proposes 17 and falls back to 3."""
    if cipher is None:
        return
    propose = session_class._open_rmcpplus_request

    def only(self: Any) -> None:
        if cipher == 3:
            self.attemptedhash = 1
        elif self.attemptedhash == 1:
            self.onlogon({"error": NO_SUITE})
            return
        propose(self)

    session_class._open_rmcpplus_request = only


def _serve(requests: queue.SimpleQueue[bytes], channel: int) -> None:
    link: Link | None = None
    while True:
        request = json.loads(requests.get())
        try:
            if request["op"] == "open":
                link = Link(request)
                answer: dict[str, Any] = {"ok": True}
            elif link is None:
                raise Refusal("no session is open", "protocol")
            elif request["op"] == "ask":
                answer = link.ask(request["netfn"], request["command"], request["data"], once=request["once"])
            else:
                link.close()
                return
        except Refusal as refusal:
            answer = {"ok": False, "kind": refusal.kind, "text": refusal.text}
        except socket.gaierror as error:
            answer = {"ok": False, "kind": "address", "text": error.strerror}
        except Exception as error:  # whatever pyghmi stumbles over; the parent decides what it means
            text = str(error) or type(error).__name__
            known = kind_of(text)
            answer = {"ok": False, "kind": known, "text": text if known != "protocol" else type(error).__name__}
        os.write(channel, json.dumps(answer).encode() + b"\n")


def _listen(requests: queue.SimpleQueue[bytes], channel: int, parent: int) -> None:
    """Hand on what the parent says, and end the process with the parent, whatever it is busy with.

    The parent's pidfd, because the channel's end alone can be held open by a forked copy of the parent; and not
    PR_SET_PDEATHSIG, because that fires when the *thread* that started us ends.
    """
    pending = b""
    watch = _watch(channel, parent)
    while True:
        for descriptor, _ in watch.poll():
            chunk = os.read(channel, 65536) if descriptor == channel else b""
            if not chunk:
                os._exit(0)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                requests.put(line)


def _watch(descriptor: int, parent: int) -> select.poll:
    watch = select.poll()
    watch.register(descriptor, select.POLLIN | select.POLLHUP)
    watch.register(parent, select.POLLIN)
    return watch


def _help(channel: int, parent: int) -> NoReturn:
    """Be a helper, until the parent closes the channel or ends."""
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, channel, parent), daemon=True).start()
    try:
        _serve(requests, channel)
    finally:
        os._exit(0)  # pyghmi's thread and exit hooks have nothing left to do


def _fork_helpers(orders: socket.socket, parent: int) -> None:
    """One helper for each channel that comes, named to the parent by its process id and pidfd, until that ends.

    This process has no thread and no session of its own: a fork of it is as good as a new one.
    """
    watch = _watch(orders.fileno(), parent)
    while all(descriptor == orders.fileno() for descriptor, _ in watch.poll()):
        order, channels, _, _ = socket.recv_fds(orders, 64, 1)
        if not order:
            return
        try:
            child = os.fork()
            if child == 0:
                orders.close()
                _help(channels[0], parent)
            ended = os.pidfd_open(child)
        except OSError as error:
            orders.send(b"%d" % (error.errno or 0))
        else:
            socket.send_fds(orders, [b"%d" % child], [ended])
            os.close(ended)
        for channel in channels:
            os.close(channel)


def main(argv: list[str]) -> None:
    """Serve the parent whose process id is the one argument, until it ends, or closes its end of our standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose teardown needs us
    try:
        parent = os.pidfd_open(int(argv[1]))
    except ProcessLookupError:
        return
    if os.getppid() != int(argv[1]):
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever has its pidfd can tell when a helper ends: nobody waits
    with contextlib.suppress(Refusal):  # told when a session is asked for
        _pyghmi()
    with socket.socket(fileno=os.dup(0)) as orders:
        noise = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(noise, standard)  # pyghmi prints
        _fork_helpers(orders, parent)


if __name__ == "__main__":
    main(sys.argv)
