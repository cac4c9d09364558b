"""What a person is asked to break with their hands, and what is still owed by them.

No machine can undo this. What a person was asked is kept in this user's state directory (``record.questions``) and on
the nodes, so that whoever heals, here or elsewhere, knows whether somebody may still be on the way to do it.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_pveha.errors import CantTell, NotMet, PreflightRefused
from pytest_pveha.handles.hand import Hand
from pytest_pveha.observe.answer import Answer, Condition, wait_until, yes
from pytest_pveha.observe.observer import Observer


def until_done(observer: Observer, step: str, hand: Hand, deed: str, seen: Callable[[Observer], Answer]) -> None:
    """They said that they did it, or were seen to have done it; the site is watched by ``seen`` meanwhile.

    Args:
        step: the question that they were asked.
        deed: what they are to do, such as "pull the cord of pve1".

    Raises:
        PreflightRefused: they refuse, or neither did it nor answered in time.
    """

    def done(observer: Observer) -> Answer:
        said = observer.people.said(step)
        if said is not None and said.word == "refuse":
            raise PreflightRefused(f"{said.user} refuses to {deed}")
        if said is not None:
            return yes(f"{said.user} says that it is done")
        return seen(observer)

    try:
        wait_until(Condition(f"{hand.who} is to {deed}", done), hand.answer_within, observer)
    except (NotMet, CantTell) as error:
        raise PreflightRefused(
            f"{hand} was asked to {deed}, and neither did it nor answered in {hand.answer_within:g} s: "
            f"{error.last_seen}"
        ) from None


def owed(observer: Observer, step: str) -> bool:
    """Whether somebody was asked that, did not refuse, and was not seen to have done it."""
    if not observer.people.asked(step):
        return False
    said = observer.people.said(step)
    return said is None or said.word != "refuse"
