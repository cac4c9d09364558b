"""Whose BMC is this: matches, contradictions, and what cannot be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import BmcIdentity, Node
from pytest_pveha.observe.identity import own_bmc, own_marks
from pytest_pveha.observe.observer import Observer

GUID = "00112233-4455-6677-8899-aabbccddeeff"
MIXED = "33221100-5544-7766-8899-aabbccddeeff"
"""The same board, told with its first three fields little-endian, as SMBIOS does."""
REVERSED = "ffeeddcc-bbaa-9988-7766-554433221100"
BLANK = "00000000-0000-0000-0000-000000000000"


class Board:
    """A node as far as its identity goes: what its BMC says, and what its system reads."""

    def __init__(self, bmc: dict[str, str], declared: BmcIdentity, name: str = "pve1", **read: str) -> None:
        self.name = name
        self.bmc_address: tuple[str, int] | None = None
        self.bmc_system = ""
        self.bmc = self
        self.bmc_identity = declared
        self._told = bmc
        self._read = read

    def identity(self, deadline: Deadline) -> dict[str, str]:
        return self._told

    def command(self, deadline: Deadline, *words: str) -> str:
        key = {"lan": "mac", "mc": "guid"}.get(words[1] if len(words) > 1 else "", "uuid")
        if key not in self._read:
            raise ProtocolError(f"{words[0]}: command not found")
        value = self._read[key]
        return {"mac": f"MAC Address             : {value}\n", "guid": f"System GUID  : {value}\n"}.get(
            key, value + "\n"
        )


class _Site:
    clock = LiveClock()

    def __init__(self, nodes: tuple[Board, ...]) -> None:
        self.nodes = nodes


class _Eyes:
    def __init__(self, *nodes: Board) -> None:
        self.site = _Site(nodes)


def asked(bmc: dict[str, str], declared: BmcIdentity | None = None, *others: Board, **read: str) -> Any:
    board = Board(bmc, declared or BmcIdentity(), **read)
    return own_bmc(cast("Observer", _Eyes(board, *others)), cast("Node", board))


@pytest.mark.parametrize(
    ("bmc", "read"),
    [
        ({"mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:01"}),
        ({"guid": GUID}, {"guid": GUID}),
        ({"guid": GUID}, {"uuid": GUID}),
        ({"guid": GUID}, {"uuid": MIXED}),
        ({"guid": GUID}, {"guid": REVERSED}),
        ({"guid": GUID, "mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:01", "uuid": BLANK}),
        # a system UUID may be another number altogether; the MAC decides
        ({"guid": GUID, "mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:01", "uuid": GUID.replace("0", "9")}),
    ],
)
def test_a_match_from_both_sides_is_the_own_bmc(bmc: dict[str, str], read: dict[str, str]) -> None:
    """One identity that agrees, in either byte order, suffices."""
    assert asked(bmc, **read).verdict == "yes"


@pytest.mark.parametrize(
    ("bmc", "read"),
    [
        ({"mac": "02:00:00:00:00:02"}, {"mac": "02:00:00:00:00:01"}),
        ({"guid": GUID.replace("0", "9")}, {"guid": GUID}),
        ({"guid": GUID.replace("0", "9")}, {"uuid": GUID}),
        ({"mac": "02:00:00:00:00:02", "guid": GUID}, {"mac": "02:00:00:00:00:01", "uuid": GUID}),
    ],
)
def test_a_contradiction_is_another_machine(bmc: dict[str, str], read: dict[str, str]) -> None:
    """An identity that disagrees refuses, whatever else agrees, and both sides are named."""
    answer = asked(bmc, **read)
    assert answer.verdict == "no"
    assert "is not pve1's own" in answer.saw


@pytest.mark.parametrize("read", [{}, {"uuid": BLANK}, {"guid": BLANK}])
def test_blank_and_missing_identities_tell_nothing(read: dict[str, str]) -> None:
    """Two boards that both say nothing are not the same board; the message says what to write."""
    answer = asked({"guid": BLANK}, **read)
    assert answer.verdict == "cant_tell"
    assert "nodes.pve1.bmc.identity" in answer.saw


def test_the_operator_may_confirm_what_cannot_be_compared() -> None:
    """A hand-made confirmation counts only where nothing can be compared, never against a contradiction."""
    sworn = BmcIdentity(confirmed_by="J. Doe, 2026-11-01")
    assert asked({"guid": BLANK}, sworn).verdict == "yes"
    assert asked({"mac": "02:00:00:00:00:02"}, sworn, mac="02:00:00:00:00:01").verdict == "no"


def test_a_declared_identity_is_compared_without_the_node() -> None:
    """What the inventory declares stands in for what the node cannot read."""
    assert asked({"mac": "02-00-00-00-00-01"}, BmcIdentity(mac="02:00:00:00:00:01")).verdict == "yes"
    assert asked({"mac": "02:00:00:00:00:02"}, BmcIdentity(mac="02:00:00:00:00:01")).verdict == "no"


def test_by_redfish_the_system_is_told() -> None:
    """The system's UUID is compared with the board's and with what is declared, never with the BMC's own GUID."""
    assert asked({"uuid": GUID}, uuid=MIXED, guid="99999999-4455-6677-8899-aabbccddeeff").verdict == "yes"
    assert asked({"uuid": GUID}, BmcIdentity(guid=GUID)).verdict == "yes"
    assert asked({"uuid": GUID}, BmcIdentity(guid="99999999-4455-6677-8899-aabbccddeeff"), uuid=GUID).verdict == "no"
    assert asked({"uuid": GUID}, uuid="99999999-4455-6677-8899-aabbccddeeff").verdict == "no"
    assert asked({"uuid": BLANK}, uuid=GUID).verdict == "cant_tell"


def test_we_know_ourselves_by_cards_and_board(tmp_path: Path) -> None:
    """Every card's address and the board's UUID, in lower case; blank ones, such as the loopback's, are nobody's."""
    for name, text in (
        ("net/eth0/address", "02:FC:00:00:00:01\n"),
        ("net/lo/address", "00:00:00:00:00:00\n"),
        ("dmi/id/product_uuid", f"{GUID.upper()}\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert own_marks(tmp_path) == {"02:fc:00:00:00:01", GUID}
    assert own_marks(tmp_path / "nothing") == frozenset()


def test_an_identity_that_two_nodes_have_is_neithers() -> None:
    """Boards with one GUID cannot be told apart by it, whether their systems read it or the inventory declares it."""
    for twin in (
        Board({}, BmcIdentity(), "pve2", guid=GUID),
        Board({}, BmcIdentity(), "pve2", uuid=MIXED, guid=REVERSED),
        Board({}, BmcIdentity(guid=GUID), "pve2"),
    ):
        answer = asked({"guid": GUID}, BmcIdentity(), twin, guid=GUID)
        assert answer.verdict == "cant_tell"
        assert "GUID: pve2 has the same" in answer.saw
        assert asked({"guid": GUID}, BmcIdentity(confirmed_by="J. Doe"), twin, guid=GUID).verdict == "yes"


def test_a_mac_of_its_own_outweighs_a_shared_guid() -> None:
    """Vendors ship boards with one GUID; a MAC address is one board's."""
    twin = Board({}, BmcIdentity(), "pve2", guid=GUID, mac="02:00:00:00:00:02")
    told = {"guid": GUID, "mac": "02:00:00:00:00:01"}
    assert asked(told, BmcIdentity(), twin, guid=GUID, mac="02:00:00:00:00:01").verdict == "yes"


def test_one_bmc_by_two_names_is_refused() -> None:
    """Two names that lead to one address are one BMC, even where somebody confirmed both by hand."""
    one, other = (Board({}, BmcIdentity(confirmed_by="J. Doe"), name) for name in ("pve1", "pve2"))
    one.bmc_address, other.bmc_address = ("127.0.0.1", 6230), ("localhost", 6230)
    answer = own_bmc(cast("Observer", _Eyes(one, other)), cast("Node", one))
    assert answer.verdict == "no"
    assert "one and the same BMC" in answer.saw
    other.bmc_address = ("localhost", 6231)
    assert own_bmc(cast("Observer", _Eyes(one, other)), cast("Node", one)).verdict == "yes"


def test_one_bmc_may_have_several_machines() -> None:
    """A chassis controller serves several systems, told apart by their ids; the same id twice is one machine."""
    one, other = (Board({}, BmcIdentity(confirmed_by="J. Doe"), name) for name in ("pve1", "pve2"))
    one.bmc_address = other.bmc_address = ("127.0.0.1", 443)
    one.bmc_system, other.bmc_system = "1", "2"
    assert own_bmc(cast("Observer", _Eyes(one, other)), cast("Node", one)).verdict == "yes"
    other.bmc_system = "1"
    assert own_bmc(cast("Observer", _Eyes(one, other)), cast("Node", one)).verdict == "no"
