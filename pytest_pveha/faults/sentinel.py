"""Stop conditions: what ends a fault at once, because more is being lost than was meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import HarmSeen, StopAsked
from pytest_pveha.faults.fault import Reach
from pytest_pveha.observe.observer import View


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Looks at every view while a fault is in force.

    Args:
        online: the nodes that were members before it.
        stop_asked: why somebody wants the campaign to end, or None.
    """

    reach: Reach
    online: frozenset[str]
    stop_asked: Callable[[], str | None]
    until: Deadline | None = None
    """When the fault has been in force for as long as it may."""

    def __call__(self, view: View) -> None:
        """Return if all is as predicted.

        Raises:
            HarmSeen: a second node is gone, or quorum is.
            StopAsked: a person or the consent's window ends the campaign.
        """
        if (why := self.stop_asked()) is not None:
            raise StopAsked(f"stopped: {why}; what was broken is healed first")
        if self.until is not None and self.until.expired():
            raise StopAsked("stopped: the fault was in force for as long as it may be; it is healed now")
        if view.membership is None:
            return
        lost = sorted(name for name in self.online - self.reach.nodes if view.membership.online.get(name) is False)
        if lost:
            raise HarmSeen(
                f"{', '.join(lost)} was lost too, while only {', '.join(sorted(self.reach.nodes))} was to be: "
                f"healed at once, the campaign ends"
            )
        if not view.membership.quorate and not self.reach.about_quorum:
            raise HarmSeen("the cluster lost quorum, which was not to happen: healed at once, the campaign ends")
