"""Everything this package raises, in one tree.

    PvehaError
      UsageError     InventoryError  UnsafeTarget  SiteDirty  SiteBusy
      SiteError      Unreachable  AuthRefused  ProtocolError  TaskFailed  NoProxmox
      FaultError     PreflightRefused  NoEffect (WrongMachine)  DeadManFired  HealFailed
      WaitTimeout    CantTell (NotThere)
      EvidenceError  Inconclusive  ClockUncertain  BadSignature
    StopAsked      somebody, or the consent's window, ended the campaign
    NotMet(AssertionError)   the condition was seen to be false until the deadline
    HarmSeen(AssertionError) more is being lost than was meant
    Interrupted(KeyboardInterrupt)   a signal asked the run to stop; raised by Clock waits

AssertionError: the product failed. PvehaError: we could not tell.
A message says what happened, what it means here, and what to do next.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what could move a cursor, colour a terminal or turn a line around spelled out; line ends stay.

    What a site calls its guests, nodes and tasks is data, and ends up in messages.
    """
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


class PvehaError(Exception):
    """Base of everything that means "we could not tell" or "we will not do that". Its message is fit for a terminal."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in args))


class UsageError(PvehaError):
    """The person who typed this can put it right; nothing was touched."""


class InventoryError(UsageError):
    """The inventory cannot be used. The message carries ``file:line: key: what is wrong``, one line a finding."""


class UnsafeTarget(UsageError):
    """The fault may not reach this target: no consent, not named, or protected."""


class SiteDirty(UsageError):
    """An earlier run left something unhealed; no new fault until ``pveha heal`` has cleared it."""


class SiteBusy(UsageError):
    """Another run holds this site."""


class SiteError(PvehaError):
    """The site answered wrongly or not at all."""


class Unreachable(SiteError):
    """Nobody answered at that address within the deadline, or a proxy said 595/596/597/599 for it."""


class AuthRefused(SiteError):
    """The site answered, and refused the credentials, host key, certificate or privilege."""


class ProtocolError(SiteError):
    """The answer came, and is not what the protocol allows (an HTML page, a cut-off reply, a wrong type)."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TaskFailed(SiteError):
    """A PVE task ended with another exit status than OK."""

    def __init__(self, upid: str, log: str) -> None:
        super().__init__(f"task {upid} failed: {log}")
        self.upid = upid
        self.log = log


class NoProxmox(SiteError):
    """The site has no Proxmox, by its inventory: nobody there can say this, now or later."""

    def __init__(self) -> None:
        super().__init__("needs a Proxmox API, and the inventory says that the site has none (cluster.proxmox)")


class FaultError(PvehaError):
    """A fault could not be handled as planned."""


class PreflightRefused(FaultError):
    """The fault was refused while nothing was broken yet."""


class NoEffect(FaultError):
    """The fault was injected and did not bite; what follows proves nothing."""


class WrongMachine(NoEffect):
    """A hand did to another machine what was asked of it for this one; what follows proves nothing."""

    def __init__(self, message: str, nodes: frozenset[str]) -> None:
        super().__init__(message)
        self.nodes = nodes


class DeadManFired(FaultError):
    """A node undid the fault by itself while it was still wanted; what was measured proves nothing."""


class HealFailed(FaultError):
    """The undo could not be seen to work; the site is dirty."""


class WaitTimeout(PvehaError):
    """A wait ended at its deadline. Carries what was waited for, how long, and what was last seen."""

    def __init__(self, condition: str, within: float, last_seen: str) -> None:
        super().__init__(f"{condition}: not within {within:g} s; last seen: {last_seen}")
        self.condition = condition
        self.within = within
        self.last_seen = last_seen


class CantTell(WaitTimeout):
    """At the deadline the condition could not be decided: nothing usable was observed."""


class NotThere(CantTell):
    """What was waited for is about something that the site does not have: not proven, at once."""


class EvidenceError(PvehaError):
    """The record does not carry what is asked of it."""


class Inconclusive(EvidenceError):
    """The samples do not cover what is to be measured."""


class ClockUncertain(EvidenceError):
    """A node's clock cannot be related to ours closely enough."""


class BadSignature(EvidenceError):
    """The seal does not verify."""


class TimedOut(PvehaError):
    """The deadline of a guarded call passed; the call was aborted. wire/ turns it into Unreachable."""


class NotMet(AssertionError):
    """The condition was seen to be false until its deadline: the cluster did not do what it must."""

    def __init__(self, message: str, last_seen: str) -> None:
        super().__init__(printable(message))
        self.last_seen = last_seen


class StopAsked(PvehaError):
    """Somebody, or the end of the consent's window, ended the campaign; what was broken is healed first."""


class HarmSeen(AssertionError):
    """More is being lost than was meant: the fault is healed at once and the campaign ends."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop. Raised by Clock waits, so that teardown heals first."""
