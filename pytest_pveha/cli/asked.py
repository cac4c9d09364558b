"""One question of ``pveha check`` and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.errors import AuthRefused, SiteError
from pytest_pveha.observe.answer import Answer, Verdict, cant_tell, no


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's answer, as one line says it."""

    verdict: Verdict
    what: str
    saw: str
    blocks: bool = True
    """Whether anything but yes keeps destructive tests from running."""

    def __str__(self) -> str:
        return f"{self.what}: {self.saw}"


def asked(what: str, ask: Callable[[], Answer], *, blocks: bool = True) -> Asked:
    """What came of asking; who refuses us has answered: no."""
    try:
        answer = ask()
    except AuthRefused as error:
        answer = no(str(error))
    except SiteError as error:
        answer = cant_tell(str(error))
    return Asked(answer.verdict, what, answer.saw, blocks)
