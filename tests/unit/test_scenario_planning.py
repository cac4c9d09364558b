"""The plan says what would be hit, who goes down, and what the consent refuses; one plan has one spelling."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inventory_texts import CONSENT, REAL, SIMULATED

from pytest_pveha.errors import UsageError
from pytest_pveha.inventory import Site, load, node_digest
from pytest_pveha.inventory.rooms import third_room
from pytest_pveha.scenario.declared import Declared
from pytest_pveha.scenario.planning import (
    Document,
    Resident,
    Scene,
    Subject,
    canonical,
    declared_scene,
    digest,
    parse,
    plan,
    refusals,
)
from pytest_pveha.scenario.roles import cast, cast_side

NOON = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
FULL = CONSENT.replace("ticket:", f"node_digest: {node_digest(['pve1', 'pve2'])}\n  ticket:")
POWER = Declared("one node", 1020.0, ("power-cut",))
MASTER = Subject("t.py::test_cut[crm-master]", "It is fenced.", POWER, role="crm-master")
OTHER = Subject("t.py::test_cut[other-1]", "It is fenced.", POWER, role="other-1")
LOOKS = Subject("t.py::test_ready", "It is ready.", None)


def site_of(folder: Path, text: str) -> Site:
    """The site of that text."""
    path = folder / "site.yml"
    path.write_text(text)
    return load(path)


def scene(*guests: Resident, master: str = "pve1", busy: str = "pve2") -> Scene:
    """A live site of two nodes."""
    return Scene("prod1", ("pve1", "pve2"), guests, connected=True, master=master, busy={busy: 1})


def hit(document: Document, number: int = 0) -> list[str]:
    """What the test of that number may hit."""
    return [target["name"] for target in document["tests"][number]["targets"]]


def guests(document: Document, number: int = 0) -> dict[str, dict[str, Any]]:
    """The guests that go down with the first target of that test."""
    return {guest["id"]: guest for guest in document["tests"][number]["targets"][0]["guests"]}


def test_roles_are_bound_as_a_run_would_bind_them(tmp_path: Path) -> None:
    """Before the master is lost a role is one node."""
    site = site_of(tmp_path, REAL)
    assert hit(plan(site, scene(), "all", [MASTER])) == ["pve1"]
    assert hit(plan(site, scene(), "all", [OTHER])) == ["pve2"]
    assert hit(plan(site, scene(master="pve2"), "all", [MASTER])) == ["pve2"]


def test_the_fullest_node_runs_most_services() -> None:
    """Master or not; of equal ones the first of the inventory; none where there is no node."""
    assert cast("fullest", ("n1", "n2", "n3"), "n1", {"n2": 2, "n3": 5}) == "n3"
    assert cast("fullest", ("n1", "n2"), "n1", {"n1": 3, "n2": 3}) == "n1"
    assert cast("fullest", (), "n1", {"n9": 3}) is None
    assert cast_side("fullest", ("n1", "n2"), "n1", {"n2": 1}) == ("n2",)


def test_once_the_master_is_lost_nobody_knows_who_is_next(tmp_path: Path) -> None:
    """Each node that may be hit is listed for the tests after that."""
    document = plan(site_of(tmp_path, REAL), scene(), "all", [OTHER, MASTER, OTHER])
    assert [hit(document, number) for number in range(3)] == [["pve2"], ["pve1"], ["pve1", "pve2"]]


def test_a_foreign_master_binds_nothing(tmp_path: Path) -> None:
    """A master outside the inventory, or none, leaves every node possible."""
    assert hit(plan(site_of(tmp_path, REAL), scene(master=""), "all", [MASTER])) == ["pve1", "pve2"]


def test_without_a_connection_roles_are_unbound(tmp_path: Path) -> None:
    """Guests are on their preferred nodes then, and those without one are listed."""
    site = site_of(tmp_path, SIMULATED)
    document = plan(site, declared_scene(site), "all", [MASTER])
    assert document["connected"] is False
    assert hit(document) == ["pve1", "pve2"]
    assert list(guests(document)) == ["vm:101"]
    assert document["unplaced"] == ["ct:102"]


def test_parameters_name_their_target(tmp_path: Path) -> None:
    """A node is itself; a guest is itself where only guests are reached, else its node; nothing named is any node."""
    site = site_of(tmp_path, REAL)
    live = scene(Resident("vm:101", "shop", "pve2", ha=True))
    subjects = [
        Subject("a", "a", POWER, node="pve2"),
        Subject("b", "b", POWER, guest="vm:101"),
        Subject("c", "c", POWER),
    ]
    document = plan(site, live, "all", subjects)
    assert [hit(document, number) for number in range(3)] == [["pve2"], ["pve2"], ["pve1", "pve2"]]


def test_a_guest_that_is_restored_does_not_go_down(tmp_path: Path) -> None:
    """Its copy is made beside it: the guest is the target, and nobody falls."""
    beside = Subject(
        "t.py::test_restore[vm:101]", "It is.", Declared("nothing", 60.0, ("guest-restored",)), guest="vm:101"
    )
    document = plan(site_of(tmp_path, REAL), scene(Resident("vm:101", "shop", "pve1", ha=True)), "all", [beside])
    assert hit(document) == ["vm:101"]
    assert guests(document) == {}


def test_every_guest_on_the_victim_is_listed(tmp_path: Path) -> None:
    """Those under test, those outside HA and those the inventory does not know; and whether each may go down."""
    site = site_of(tmp_path, REAL + FULL + '  bystanders: ["vm:800"]\n  never_touch: {guests: ["vm:801"]}\n')
    live = scene(
        Resident("vm:101", "shop", "pve1", ha=True),
        Resident("vm:800", "build", "pve1", ha=False),
        Resident("vm:801", "payroll", "pve1", ha=True),
        Resident("vm:900", "away", "pve2", ha=True),
    )
    found = guests(plan(site, live, "all", [MASTER]))
    assert {sid: (row["ha"], row["listed"], row["permitted"]) for sid, row in found.items()} == {
        "vm:101": (True, True, True),
        "vm:800": (False, False, True),
        "vm:801": (True, False, False),
    }


@pytest.mark.parametrize("bystanders", ["all", '["vm:801"]'])
def test_never_touch_outranks_bystanders(tmp_path: Path, bystanders: str) -> None:
    """A guest never to be touched does not go down with its node, whatever else is permitted."""
    text = REAL + FULL + f'  bystanders: {bystanders}\n  never_touch: {{guests: ["vm:801"]}}\n'
    document = plan(site_of(tmp_path, text), scene(Resident("vm:801", "", "pve1", ha=False)), "all", [MASTER])
    assert guests(document)["vm:801"]["permitted"] is False
    (refused,) = refusals(document, site_of(tmp_path, text), NOON)[MASTER.id]
    assert refused == (
        "vm:801 on pve1 would go down, and may not: neither `guests:` nor `consent.bystanders` names it, "
        "or `consent.never_touch` does"
    )


def test_granted(tmp_path: Path) -> None:
    """What the consent covers has no refusal, and what only looks needs none."""
    site = site_of(tmp_path, REAL + FULL)
    assert refusals(plan(site, scene(), "all", [MASTER, LOOKS]), site, NOON) == {MASTER.id: []}


def test_a_refusal_is_the_consents_own(tmp_path: Path) -> None:
    """Another kind, no kind at all, more than the victim, another target, another cluster: each is said."""
    site = site_of(tmp_path, REAL + FULL.replace("[power]", "[network]"))
    assert "faults: power (" in refusals(plan(site, scene(), "all", [MASTER]), site, NOON)[MASTER.id][0]
    site = site_of(tmp_path, REAL + FULL)
    unsaid = Subject("u", "u", Declared(), role="crm-master")
    assert refusals(plan(site, scene(), "all", [unsaid]), site, NOON)["u"] == [
        f"{site.path}: consent: the test does not say what it breaks, so nobody can have agreed to it; "
        "add breaks=(…) to its mark destructive (docs/reference/fixtures.md)"
    ]
    wide = Subject("w", "w", Declared(breaks=("power-cut",), site_reset=True), role="crm-master")
    assert "consent.site_reset: is false" in refusals(plan(site, scene(), "all", [wide]), site, NOON)["w"][0]
    twice = Subject("t", "t", Declared(breaks=("power-cut",), combined=True), role="crm-master")
    assert "consent.combined: is false" in refusals(plan(site, scene(), "all", [twice]), site, NOON)["t"][0]
    site = site_of(tmp_path, REAL + FULL.replace("targets: all", "targets: [pve2]"))
    assert "targets: pve1 is not granted" in refusals(plan(site, scene(), "all", [MASTER]), site, NOON)[MASTER.id][0]
    assert refusals(plan(site, scene(), "all", [OTHER]), site, NOON)[OTHER.id] == []


def test_the_document_says_what_it_is_for(tmp_path: Path) -> None:
    """Site, nodes, inventory, window and time are in it, and nothing that changes with the clock."""
    site = site_of(tmp_path, REAL + FULL)
    document = plan(site, scene(), "all", [MASTER, OTHER, LOOKS], not_selected=[])
    assert document["node_digest"] == node_digest(["pve1", "pve2"])
    assert document["inventory_sha256"] == site.sha256
    assert document["window"] == {"not_before": "2026-03-01T20:00:00+00:00", "not_after": "2026-03-02T04:00:00+00:00"}
    assert document["expected_seconds"] == 2040.0
    assert [test["destructive"] for test in document["tests"]] == [True, True, False]
    assert canonical(document) == canonical(plan(site, scene(), "all", [MASTER, OTHER, LOOKS], not_selected=[]))


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The canonical bytes give the document; the digest is what sha256sum says of them."""
    document = plan(site_of(tmp_path, REAL), scene(), "all", [MASTER])
    assert parse(canonical(document), "p") == document
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"schema": 2}', b"\xff", b'{"schema": 1, "tests": 3}', b'{"schema": 1, "tests": [{}]}'],
)
def test_what_is_no_plan_is_refused(raw: bytes) -> None:
    """One message that says how to make one."""
    with pytest.raises(UsageError, match=r"^p: is no plan that can be approved .* pveha plan INVENTORY --json FILE$"):
        parse(raw, "p")


def test_another_spelling_is_refused(tmp_path: Path) -> None:
    """The same data in other bytes is another file than the one that was written."""
    document = plan(site_of(tmp_path, REAL), scene(), "all", [MASTER])
    with pytest.raises(UsageError, match="it was changed after it was written"):
        parse(json.dumps(document).encode(), "p")


@given(st.binary(max_size=200))
def test_no_bytes_make_it_stumble(raw: bytes) -> None:
    """Whatever is read, the answer is a plan or the one error."""
    try:
        parse(raw, "p")
    except UsageError:
        return
    raise AssertionError("random bytes were taken for a plan")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"brakes": ()},
            "the mark destructive has no brakes; it knows blast, expected, breaks, may, site_reset, combined",
        ),
        ({"breaks": ("powercut",)}, "breaks=powercut: no such fault; known are"),
        ({"breaks": [7]}, "breaks=7: no such fault"),
        ({"breaks": 7}, "breaks=7: expected kinds of fault, as in"),
        ({"may": "powercut"}, "may=powercut: no such fault; known are"),
        ({"site_reset": "yes"}, "site_reset='yes': expected True or False"),
        ({"combined": 1}, "combined=1: expected True or False"),
        ({"expected": "17"}, "expected='17': "),
    ],
)
def test_a_mark_that_cannot_be_understood(words: dict[str, Any], message: str) -> None:
    """A slip in a mark is an error, never a smaller consent."""
    with pytest.raises(UsageError) as caught:
        Declared.of(words)
    assert str(caught.value).startswith(message)


def test_a_mark() -> None:
    """What it says, with the families that consent grants; one kind alone may stand without parentheses."""
    found = Declared.of({"blast": "one node", "expected": "17 min", "breaks": "power-cut"})
    assert found == POWER
    assert found.families == ("power",)
    more = Declared.of({"breaks": "power-cut", "may": "service-stopped"})
    assert (more.may, more.families) == (("service-stopped",), ("power",))
    assert Declared.of({}) == Declared()


def test_a_room_is_cast_by_where_the_master_is() -> None:
    """All nodes of its room, or of the other; nobody where the master stands in none."""
    rooms = {"east": ("n1", "n2"), "west": ("n3", "n4")}
    names = ("n1", "n2", "n3", "n4")
    assert cast_side("room-with-master", names, "n3", {}, rooms) == ("n3", "n4")
    assert cast_side("other-room", names, "n3", {}, rooms) == ("n1", "n2")
    assert cast_side("other-room", names, "n9", {}, rooms) is None


def test_the_room_of_a_node_that_is_the_tiebreaker_is_no_side() -> None:
    """Beside two larger rooms it is never cut off as a room, whoever the master is; three equal rooms have none."""
    rooms = {"tie": ["n5"], "east": ["n1", "n2"], "west": ["n3", "n4"]}
    names = ("n1", "n2", "n3", "n4", "n5")
    assert third_room(rooms) == "tie"
    assert cast_side("other-room", names, "n1", {}, rooms) == ("n3", "n4")
    assert cast_side("other-room", names, "n5", {}, rooms) == ("n1", "n2")
    assert cast_side("room-with-master", names, "n5", {}, rooms) is None
    assert third_room({"east": ["n1", "n2"], "west": ["n3"]}) == ""
    assert third_room({"a": ["n1"], "b": ["n2"], "c": ["n3"]}) == ""
    assert cast_side("other-room", names, "n1", {}) is None
