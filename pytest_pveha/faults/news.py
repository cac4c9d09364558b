"""What each kind of fault makes the journals say: declared here, so that it is not taken for harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_pveha.observe.news import Expected, expected


@dataclass(frozen=True, slots=True)
class Makes:
    """The headlines a fault makes: on its victims, on every node, and on every node but about its victims alone."""

    on_victims: tuple[str, ...] = ()
    anywhere: tuple[str, ...] = ()
    about_victims: tuple[str, ...] = ()


_NODE_LOST = ("member-lost", "token-late", "link-down")
_LINK_LOST = ("token-late", "link-down", "retransmits")
"""The ring goes on, and asks again for what was sent over a link until it was given up: 59 lines in 20 ms were seen on
PVE 9.2. Where a node is lost the ring stands still, and none was seen there."""
FENCED = ("fenced", "fence-lock-lost")
"""What is said of a node that is fenced."""
_BOOTS = ("quorum-lost",)
"""Until it hears the others a node that boots is alone."""
_LOCKS = ("lock-lost", "manager-lock-lost")
_UNDECIDED = ("quorum-lost", *_LOCKS, "write-refused")
"""Where the nodes that are left are no majority of all, they are not quorate until the quorum device has voted."""
_CUT_OFF = ("watchdog-expired", "watchdog-near-miss", "watchdog-not-fed", *_LOCKS, "quorum-lost", "write-refused")

MAKES: Mapping[str, Makes] = {
    "power-cut": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST, about_victims=FENCED),
    "power-cut-by-peer": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST, about_victims=FENCED),
    "mains-cut": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST, about_victims=FENCED),
    "cord-pulled": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST, about_victims=FENCED),
    "room-power-cut": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST, about_victims=FENCED),
    "feed-cut": Makes(on_victims=_BOOTS, anywhere=("member-lost", *_LINK_LOST), about_victims=FENCED),
    "room-cut": Makes(on_victims=_CUT_OFF, anywhere=_NODE_LOST, about_victims=FENCED),
    "switch-loss": Makes(anywhere=_LINK_LOST),
    "switch-pulled": Makes(anywhere=_LINK_LOST),
    "kernel-crash": Makes(on_victims=("crashed", *_BOOTS), anywhere=_NODE_LOST, about_victims=FENCED),
    "daemon-killed": Makes(on_victims=(*_CUT_OFF, "daemon-failed"), anywhere=_NODE_LOST, about_victims=FENCED),
    "daemons-frozen": Makes(
        on_victims=(*_CUT_OFF, "daemon-failed", "held-up"), anywhere=_NODE_LOST, about_victims=FENCED
    ),
    "partition": Makes(on_victims=_CUT_OFF, anywhere=_NODE_LOST, about_victims=FENCED),
    "link-loss": Makes(anywhere=_LINK_LOST),
    "clean-reboot": Makes(on_victims=_BOOTS, anywhere=("token-late", "link-down")),
    "clean-power-off": Makes(on_victims=_BOOTS, anywhere=_NODE_LOST, about_victims=FENCED),
    "service-stopped": Makes(on_victims=(*_CUT_OFF, "daemon-failed"), anywhere=_NODE_LOST, about_victims=FENCED),
}
"""By the fault's kind; one that is not here makes no bad news."""


def made_by(kind: str, victims: Iterable[str], *, majority: bool) -> list[Expected]:
    """What to expect of that fault on these victims; if they leave no majority, the others are its victims, too."""
    makes = MAKES.get(kind, Makes())
    whom = tuple(victims) if majority else ()
    undecided = _UNDECIDED if makes.on_victims and not majority else ()
    return [
        *expected(undecided),
        *expected(makes.on_victims, whom),
        *expected(makes.anywhere),
        *expected(makes.about_victims, about=whom),
    ]
