"""What a node types to fence another, with the real ipmitool and curl, at every kind of BMC."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.fence_path import STDIN, FencePath
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.identity import _same_uuid
from pytest_pveha.wire.ssh import CommandResult
from tests.contract.test_bmc import KINDS, Pair, paired
from tests.sim.bmc_bench import PASSWORD

TOOLS = {"ipmi": "ipmitool", "redfish": "curl"}


class Here:
    """This machine in place of a node: its shell, reached without SSH."""

    name = "n1"

    def __init__(self, path: str = "/usr/bin:/bin") -> None:
        self.path = path
        self.typed: list[str] = []

    @property
    def ssh(self) -> Here:
        return self

    def run(self, line: str, *, deadline: Deadline, acts: bool = False, input: bytes | None = None) -> CommandResult:
        """The line, by the real shell."""
        del acts
        self.typed.append(line)
        asked = deadline.clock.now()
        done = subprocess.run(
            ["/bin/sh", "-c", line], input=input, env={"PATH": self.path}, capture_output=True, check=False
        )
        return CommandResult(done.returncode, done.stdout, done.stderr, asked, deadline.clock.now())


def path_to(bmc: Bmc, here: Here) -> FencePath:
    """From here to that BMC."""
    clock = LiveClock()
    return FencePath(cast("Node", here), "n2", bmc.from_a_node(STDIN, clock.deadline(60)), clock)


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Every kind of BMC whose tool is installed here."""
    tool = TOOLS[request.param.partition("-")[0]]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: apt-get install {tool}")
    with ExitStack() as stack:
        yield paired(request.param, stack)


def test_it_is_asked_and_switched(pair: Pair) -> None:
    """Power state, identity and the command, each answered; what is typed holds no password."""
    here = Here()
    path = path_to(pair.client(), here)
    reply = path.power_state(20)
    assert (reply.power, reply.silent, reply.missing, reply.trouble) == ("on", False, "", "")
    assert 0 < reply.least <= (reply.answered_at.mono - reply.asked_at.mono) / 1e9
    told = path.tells(20)
    assert _same_uuid(told.get("guid") or told["uuid"], str(pair.machine.guid))
    if pair.kind == "ipmi":
        assert told["mac"] == pair.machine.mac
        assert told.get("level") in (None, "OPERATOR")  # not every BMC has the command
    assert path.off(20) == ""
    assert pair.machine.commands == ["off"]
    assert path.power_state(20).power == "off"
    assert PASSWORD not in "".join(here.typed)
    assert "Tr0ub4dor" not in "".join(here.typed)


def test_a_wrong_password_is_a_refusal(pair: Pair) -> None:
    """The BMC is there and says no: that is no silence, and nothing was switched."""
    path = path_to(_mistaken(pair.client(), "not-the-password"), Here())
    reply = path.power_state(20)
    assert (reply.power, reply.silent, reply.missing) == ("", False, "")
    assert reply.trouble
    assert path.off(20)
    assert pair.machine.commands == []


def test_a_silent_bmc_is_given_up(pair: Pair) -> None:
    """No answer in time is silence, and took that long at least; a command may then have been carried out."""
    client = pair.client()
    path = path_to(client, Here())
    pair.machine.silent_from = "now"
    reply = path.power_state(1)
    assert (reply.power, reply.silent, reply.trouble, reply.least) == ("", True, "no answer in 1 s", 1.0)
    with pytest.raises(ProtocolError, match="may have been carried out"):
        path.off(1)


def test_a_missing_tool_is_named(pair: Pair, tmp_path: Path) -> None:
    """A node without the tool says which one it lacks."""
    for tool in ("date", "timeout", "sh"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    reply = path_to(pair.client(), Here(str(tmp_path))).power_state(5)
    assert (reply.power, reply.silent, reply.missing) == ("", False, TOOLS[pair.kind.partition("-")[0]])


def _mistaken(bmc: Bmc, password: str) -> Any:
    """The same BMC with another password to hand on."""

    class Mistaken:
        def from_a_node(self, secret: str, deadline: Deadline) -> Any:
            commands = bmc.from_a_node(secret, deadline)
            wrong = commands.secret.replace(PASSWORD.replace('"', '\\"'), password)
            assert wrong != commands.secret
            return replace(commands, secret=wrong)  # type: ignore[type-var]

    return Mistaken()
