"""The person at the rack: reads what the pager says, walks, does it in time, and types the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

Types = Callable[[tuple[str, ...], Mapping[str, str]], None]
"""Types a line of words, in that environment."""

_PULL = re.compile(r"pull ALL power cords of (\S+) now")
_PLUG = re.compile(r"put ALL (?:its )?power cords(?: of (\S+))? in again")
_TAKE_OFF = re.compile(r"take switch (.+?) off the network now")
_PUT_BACK = re.compile(r"put switch (.+?) back on the network")
_TYPE = re.compile(r"\bon (\S+) type: ([^\n]+)")
_ANSWER = re.compile(r"then type: pveha (answer) (\S+) (\S+) (done)", re.IGNORECASE)


class OperatorAtWork:
    """One person for all nodes. What is asked of them they do one after the other, as it came."""

    def __init__(self, world: World, types: Types, shell: Callable[[str, str], None] = lambda node, line: None) -> None:
        """``shell`` runs a line on that node, as they would type it there."""
        self._world = world
        self._types = types
        self._shell = shell

    def paged(self, node: str, text: str, environment: Mapping[str, str]) -> None:
        """They have read the message; what they make of it comes later."""
        world, play = self._world, self._world.spec.operator
        answer = _ANSWER.search(text)
        if play is None or answer is None or world.planted("operator-never-answers"):
            return
        if world.planted("operator-vanishes") and any(
            each.search(text) for each in (_PULL, _PLUG, _TAKE_OFF, _PUT_BACK)
        ):
            return
        words = answer.groups()

        def act() -> None:
            self._do(node, text)
            world.timeline.after(play.answer_seconds, lambda: self._types(words, environment), f"the operator: {words}")

        world.timeline.after(play.reaction_seconds, act, f"the operator at {node}")

    def _do(self, node: str, text: str) -> None:
        world = self._world
        if _PULL.search(text):
            if world.planted("operator-leaves-second-cord"):
                world.truth("cord", {"node": node, "in": "one of two"})
                return
            names = list(world.nodes)
            if world.planted("operator-pulls-wrong-cord"):
                node = names[(names.index(node) + 1) % len(names)]
            world.power.mains(node, False)
        elif _PLUG.search(text):
            world.power.mains(node, True)
        elif switch := _TAKE_OFF.search(text):
            self._take_off(switch[1])
        elif switch := _PUT_BACK.search(text):
            world.switches.restore()
        elif (step := _TYPE.search(text)) and not world.planted("operator-skips-a-step"):
            world.truth("typed", {"node": step[1], "line": step[2]})
            self._shell(step[1], step[2])

    def _take_off(self, switch: str) -> None:
        world = self._world
        if world.planted("operator-takes-wrong-switch"):
            names = world.switches.names
            switch = names[(names.index(switch) + 1) % len(names)]
        world.switches.set(switch, up=False)
