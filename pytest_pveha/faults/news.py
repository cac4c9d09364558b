"""What each kind of fault makes the journals say: declared here, so that it is not taken for harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_pveha.observe.news import Expected, expected


@dataclass(frozen=True, slots=True)
class Makes:
    """The headlines a fault makes, on its victims and on every node."""

    on_victims: tuple[str, ...] = ()
    anywhere: tuple[str, ...] = ()


_NODE_LOST = ("fenced", "member-lost", "token-late", "link-down")
_BOOTS = ("quorum-lost",)
"""Until it hears the others a node that boots is alone."""
_CUT_OFF = ("watchdog-expired", "watchdog-near-miss", "watchdog-not-fed", "lock-lost", "quorum-lost", "write-refused")

MAKES: Mapping[str, Makes] = {
    "power-cut": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST),
    "power-cut-by-peer": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST),
    "mains-cut": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST),
    "cord-pulled": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST),
    "kernel-crash": Makes(on_victims=("crashed", *_BOOTS), anywhere=_NODE_LOST),
    "daemon-killed": Makes(on_victims=(*_CUT_OFF, "daemon-failed"), anywhere=_NODE_LOST),
    "daemons-frozen": Makes(on_victims=(*_CUT_OFF, "daemon-failed", "held-up"), anywhere=_NODE_LOST),
    "partition": Makes(on_victims=_CUT_OFF, anywhere=_NODE_LOST),
    "link-loss": Makes(anywhere=("token-late", "link-down")),
    "clean-reboot": Makes(on_victims=_BOOTS, anywhere=("token-late", "link-down")),
    "clean-power-off": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST),
    "service-stopped": Makes(on_victims=(*_CUT_OFF, "daemon-failed"), anywhere=_NODE_LOST),
}
"""By the fault's kind; one that is not here makes no bad news."""


def made_by(kind: str, victims: Iterable[str], *, majority: bool) -> list[Expected]:
    """What to expect of that fault on these victims; if they leave no majority, the others are its victims, too."""
    makes = MAKES.get(kind, Makes())
    return [*expected(makes.on_victims, victims if majority else ()), *expected(makes.anywhere)]
