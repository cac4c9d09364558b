"""People are asked for what no machine can do, and what they answer is on record: who, what, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import CantTell, PreflightRefused, SiteError, StopAsked
from pytest_pveha.handles.hand import Hand
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, wait_until, yes
from pytest_pveha.record.questions import WORDS, Desk, Question, Said, Word, login

if TYPE_CHECKING:
    from pytest_pveha.observe.observer import Observer

NOBODY = Hand("the operator", "", 900.0)
"""Whoever is there, where the inventory names nobody."""

LOOK = 5 * SECOND
"""Nanoseconds between two looks at the site while somebody is on the way."""

COMES_UP = 300.0
"""Seconds after an answer in which a machine's BMC, or the machine, can be looked at again."""


class Terminal(Protocol):
    """Where the person who started the run sits."""

    @property
    def listens(self) -> bool:
        """Whether somebody can type there."""

    def show(self, text: str) -> None:
        """It stands there, and what was typed before counts for nothing."""

    def typed(self) -> str | None:
        """A line that was typed since; None if there is none, or nobody can type."""


class People:
    """Whoever can be asked during a run, or while it is healed."""

    def __init__(
        self,
        observer: Observer,
        desk: Desk | None = None,
        terminal: Terminal | None = None,
        stop_asked: Callable[[], str | None] = lambda: None,
        keep: Callable[[Question, Said | None], bool] = lambda question, said: True,
    ) -> None:
        self._observer = observer
        self._desk = desk
        self._terminal = terminal
        self._stop_asked = stop_asked
        self._keep = keep
        """Takes down what was asked and answered where whoever heals elsewhere finds it; whether that is certain."""
        self._looked: dict[str, int] = {}
        """Each question of ours without an answer, and when (mono ns) there was none yet."""
        self._asked: set[str] = set()
        self._until = 0

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(self, step: str, text: str, hand: Hand = NOBODY, within: float | None = None) -> None:
        """Somebody did it, and said so; the site is watched meanwhile.

        Raises:
            PreflightRefused: nobody answered in time, or they refuse.
            StopAsked: somebody wants the run to end.
        """
        seconds = hand.answer_within if within is None else within
        self.put(step, text, hand, seconds)
        looked = self._observer.site.clock.now().mono

        def answered(observer: Observer) -> Answer:
            nonlocal looked
            if (now := observer.site.clock.now().mono) - looked >= LOOK:
                looked = now
                observer.look()
            if (why := self._stop_asked()) is not None:
                raise StopAsked(f"stopped: {why}")
            said = self.said(step)
            if said is None:
                return cant_tell("no answer yet")
            if said.word == "refuse":
                raise PreflightRefused(f"{said.user} refuses ({step}: {text})")
            return yes(f"{said.user} says {said.word}")

        try:
            wait_until(Condition(f"{hand.who} answers to {step}", answered), seconds, self._observer)
        except CantTell:
            raise PreflightRefused(
                f"{hand} gave no answer in {seconds:g} s ({step}: {text}); answer on the terminal, or with "
                f"`pveha answer RUN {step}` in another one of the same user on this machine"
            ) from None
        finally:
            self.drop(step)

    def remind(self, step: str, text: str, hand: Hand, within: float) -> None:
        """They are asked, unless they were already, by this process."""
        if step not in self._asked:
            self.put(step, text, hand, within)

    def put(self, step: str, text: str, hand: Hand, within: float, *, harmful: bool = False) -> None:
        """They are asked: on the terminal, by the command that calls them, and for ``pveha answer``.

        Args:
            harmful: what they are to do breaks something: they are asked only if who heals elsewhere would know.

        Raises:
            PreflightRefused: it is harmful, and nobody elsewhere would; nobody was asked.
        """
        self._asked.add(step)
        observer, clock = self._observer, self._observer.site.clock
        question = self._our_desk.ask(step, text, hand.who)
        if not self._keep(question, None) and harmful:
            self.drop(step)
            raise PreflightRefused(
                f"no majority of the nodes takes down that {hand} is asked ({step}), so who heals from another machine "
                f"would not know of it; nobody was asked. Repair SSH to the nodes, or make room in /var"
            )
        observer.write("ask", {"step": step, "text": text, "who": hand.who, "within": within})
        now = clock.now().mono
        self._looked[step] = now
        self._until = max(self._until, now + round((within + COMES_UP) * SECOND))
        words = f"{hand}: {text}\nThen type: {question.command} done (or: refuse)"
        if self._terminal is not None:
            here = "\nHere it is enough to type that last word." if self._terminal.listens else ""
            self._terminal.show(f"{words}{here}")
        else:
            observer.tell(words, "")
        try:
            hand.call(f"{words}\n", clock)
        except SiteError as error:
            observer.write("note", {"text": str(error)})
            observer.tell(str(error), "")

    def said(self, step: str) -> Said | None:
        """What was answered; on record since it was first seen."""
        before = self._looked.get(step)
        now = self._observer.site.clock.now().mono
        way = "pveha answer"
        if before is not None and step == next(reversed(self._looked)) and (word := self._typed()) is not None:
            self._our_desk.say(step, word, login())
            way = "terminal"
        said = self._our_desk.answer(step)
        if before is None:
            return said
        if said is None:
            self._looked[step] = now
            return None
        del self._looked[step]
        self._note(step)
        told = {"step": step, "answer": said.word, "user": said.user, "way": way, "low": before, "high": now}
        self._observer.write("answer", told)
        return said

    def hear(self) -> None:
        """Whatever was answered is on record."""
        for step in list(self._looked):
            self.said(step)

    # --- what was asked ------------------------------------------------------------------------------------------

    def asked(self, step: str) -> bool:
        """Whether anybody was asked that, by this process or by one before it, and it was not seen to be done."""
        question = self._our_desk.question(step)
        return question is not None and not question.settled

    def settle(self, step: str) -> None:
        """It was seen to be done."""
        self._our_desk.settle(step)
        self._note(step)

    def drop(self, step: str) -> None:
        """Nobody waits for that answer any more."""
        self._looked.pop(step, None)
        self.settle(step)

    def over(self) -> bool:
        """Whether everybody who was asked has had their time."""
        return self._observer.site.clock.now().mono >= self._until

    def clear(self) -> None:
        """Nobody is asked anything any more."""
        self._looked.clear()
        self._asked.clear()
        if self._desk is not None:
            self._desk.clear()

    def _note(self, step: str) -> None:
        if (question := self._our_desk.question(step)) is not None:
            self._keep(question, self._our_desk.answer(step))

    @property
    def _our_desk(self) -> Desk:
        if self._desk is None:
            raise SiteError("nobody can be asked here: no run is open")
        return self._desk

    def _typed(self) -> Word | None:
        line = self._terminal.typed() if self._terminal is not None else None
        if line is None or self._terminal is None:
            return None
        for word in WORDS:
            if line.strip().lower() == word:
                return word
        self._terminal.show(f"{line!r} is no answer; type: {' or '.join(WORDS)}")
        return None
