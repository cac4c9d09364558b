"""What guests and Ceph's own tool say may be cut, flipped or made up: it is read as it is, or refused in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fuzzing import budget, deep, spoilt, spoilt_bytes, tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.clock import Clock, Deadline, Instant, LiveClock
from pytest_pveha.errors import ProtocolError, Unreachable
from pytest_pveha.handles.agent import Agent, Container, Ran
from pytest_pveha.handles.canary import parse, said
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.wire.pve_api import PveApi, Reply
from pytest_pveha.wire.ssh import CommandResult, Ssh

CLOCK = LiveClock()
NOW = CLOCK.now()
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "ceph-16.2.15.json").read_text("utf-8"))


def plain(value: Any) -> bool:
    """Whether a reading is made of texts, yes and no, bytes, and finite numbers of a size that is counted with."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Instant):
        return all(plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return all(plain(key) and plain(each) for key, each in value.items())
    if isinstance(value, tuple | frozenset | list):
        return all(plain(each) for each in value)
    if type(value) in (int, float):
        return bool(math.isfinite(value) and abs(value) < 1 << 63)
    return value is None or type(value) in (str, bool, bytes, Instant)


# --- Ceph's own tool -------------------------------------------------------------------------------------------------


class Prints:
    """A node that prints the same, whatever is typed; the last command typed is remembered."""

    def __init__(self, stdout: bytes) -> None:
        self.stdout = stdout
        self.typed = ""

    def run(self, command: str, **_: Any) -> CommandResult:
        self.typed = command
        return CommandResult(0, self.stdout, b"", NOW, NOW)


def printing(stdout: bytes) -> tuple[Node, Prints]:
    """A node by such a shell."""
    prints = Prints(stdout)
    return Node("n1", cast("Ssh", prints), None, cast("Clock", CLOCK), ()), prints


ASKS: dict[str, Callable[[Node, Deadline], Any]] = {
    each.__name__: each
    for each in (
        shell.status, shell.osd_map, shell.places, shell.rules, shell.pgs, shell.rooms, shell.stored, shell.mons,
    )
}  # fmt: skip


def recorded(ask: str) -> Any:
    """What a real Ceph answered to that, by what is typed for it."""
    one, prints = printing(b"null")
    with pytest.raises(ProtocolError):
        ASKS[ask](one, CLOCK.deadline(20))
    typed = prints.typed.partition(" --connect-timeout ")[2].partition(" ")[2].removesuffix(" -f json")
    return RECORDED["host down"][typed]


@budget(150, 2500)
@pytest.mark.parametrize("ask", ASKS)
def test_spoilt_maps_of_ceph_are_read_or_refused(ask: str, examples: int) -> None:
    """A changed or torn answer gives values of their types, or a ProtocolError that names the node and the question."""
    whole = recorded(ask)
    assert plain(ASKS[ask](printing(json.dumps(whole).encode())[0], CLOCK.deadline(20)))

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        text = json.dumps(spoilt(whole, data.draw)).encode("utf-8", "surrogatepass")
        if data.draw(st.integers(0, 3)) == 0:
            text = spoilt_bytes(text, data.draw)
        try:
            good = plain(ASKS[ask](printing(text)[0], CLOCK.deadline(20)))
        except ProtocolError as error:
            good = str(error).startswith("node n1: `ceph ") and len(str(error)) < 400
        assert good

    holds()


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("value", [None, "", 7, True, float("nan"), [7], [[]], [None], deep(500)])
def test_another_shape_is_no_map(ask: str, value: Any) -> None:
    """A list for an object, a number for a list, or nesting without end."""
    with pytest.raises(ProtocolError, match=r"^node n1: `ceph "):
        ASKS[ask](printing(json.dumps(value).encode())[0], CLOCK.deadline(20))


# --- the guest agent --------------------------------------------------------------------------------------------------


class Api:
    """Answers everything with the same value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self, path: str, /, **_: Any) -> Reply:
        return Reply(self.value, "n1", NOW, NOW)

    post = get


def agent(value: Any) -> Agent:
    return Agent("vm:101", "n1", cast("PveApi", Api(value)))


AGENT: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "time": ({"result": 1795335870123456789}, lambda value: agent(value).time(CLOCK.deadline(5))),
    "system": (
        {"result": {"id": "debian", "pretty-name": "Debian"}},
        lambda value: agent(value).system(CLOCK.deadline(5)),
    ),
    "frozen": ({"result": "thawed"}, lambda value: agent(value).frozen(CLOCK.deadline(5))),
    "start": ({"pid": 4711}, lambda value: agent(value).start(CLOCK.deadline(5), "true")),
    "ended": (
        {"exited": 1, "exitcode": 0, "out-data": "x\n", "err-data": ""},
        lambda value: agent(value).ended(4711, CLOCK.deadline(5)),
    ),
    "read": (
        {"content": "x\n", "truncated": False},
        lambda value: agent(value).read("/etc/hostname", CLOCK.deadline(5)),
    ),
}


@budget(150, 2500)
@pytest.mark.parametrize("name", AGENT)
def test_a_spoilt_reply_of_an_agent_is_read_or_refused(name: str, examples: int) -> None:
    """A changed reply gives a value of its type, or a ProtocolError that names the request."""
    whole, read = AGENT[name]
    assert plain(read(whole))

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        try:
            good = plain(read(spoilt(whole, data.draw)))
        except ProtocolError as error:
            good = str(error).startswith(("GET /", "POST /")) and len(str(error)) < 400
        assert good

    holds()


@pytest.mark.parametrize("value", [{}, {"exited": None}, {"exited": 1}, {"exited": 2}, {"exited": 1, "exitcode": "no"}])
def test_an_end_that_was_not_told_is_no_success(value: Any) -> None:
    """Of a program that may run still, or ended nobody says how, status 0 is never believed."""
    with pytest.raises(ProtocolError):
        agent(value).ended(4711, CLOCK.deadline(5))


def test_a_program_that_never_ends_is_given_up() -> None:
    """An agent that says `not yet` for ever costs no more than the deadline."""

    class Never(Api):
        def post(self, path: str, /, **_: Any) -> Reply:
            return Reply({"pid": 7}, "n1", NOW, NOW)

    guest = Agent("vm:101", "n1", cast("PveApi", Never({"exited": 0})))
    with pytest.raises(Unreachable, match="had not ended in time; its process is 7 there"):
        guest.run(CLOCK.deadline(0.2), "true")


@tries(300)
@given(st.binary(max_size=60))
def test_a_file_of_a_container_is_base64_or_refused(printed: bytes) -> None:
    """What ``base64`` is said to have printed is bytes, or a ProtocolError that names the guest."""
    only = SimpleNamespace(name="n1", ssh=Prints(printed))
    guest = Container("ct:102", "n1", Nodes([cast("Node", only)]))
    try:
        good = isinstance(guest.read("/etc/hostname", CLOCK.deadline(5)), bytes)
    except ProtocolError as error:
        good = str(error).startswith("ct:102: ")
    assert good


# --- the ledger -------------------------------------------------------------------------------------------------------

INC = "5f76b90a-0d1c-4d8c-8a55-0b6a52e9b0aa:27"


def ledger(count: int) -> str:
    """So many lines, as the program writes them."""
    before, lines = "0", []
    for number in range(1, count + 1):
        ack = "-" if number == 1 else f"{number / 5 - 0.18:.2f}"
        body = f"{number} {INC} {number / 5:.2f} 1795335870 {ack}"
        before = hashlib.sha256(f"{before} {body}".encode()).hexdigest()
        lines.append(f"{body} {before}\n")
    return "".join(lines)


@budget(400, 6000)
def test_a_spoilt_ledger_never_vouches_for_what_was_not_written(examples: int) -> None:
    """However it is cut, flipped or doubled: a line that follows from the one before is the line that was written."""
    text = ledger(12)
    true = {each.hash: each for each in parse(text)}
    assert len(true) == 12
    assert all(each.linked for each in true.values())

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        read = parse(spoilt_bytes(text.encode(), data.draw).decode(errors="replace"))
        before = "0"
        for each in read:
            if each.linked:
                written = true[each.hash]
                assert (each.number, each.begun, each.before) == (written.number, written.begun, written.before)
                assert before == "0" or true[before].number == each.number - 1
            before = each.hash if each.hash in true else before
        assert all(one.end <= two.end for one, two in pairwise(read))

    holds()


TOLD = f"{INC} 17.25 4711 writing\n"


@budget(300, 4000)
def test_a_spoilt_word_of_the_ledgers_program_is_read_or_refused(examples: int) -> None:
    """Its line about itself gives figures that are counted with, or a ProtocolError that names the guest."""

    def read(out: str) -> Any:
        return said("vm:101", Ran(0, out, "", NOW, NOW))[0]

    assert (read(TOLD).size, read(TOLD).word) == (4711, "writing")

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        try:
            good = plain(read(spoilt_bytes(TOLD.encode(), data.draw).decode(errors="replace")))
        except ProtocolError as error:
            good = str(error).startswith("vm:101: ") and len(str(error)) < 400
        assert good

    holds()
