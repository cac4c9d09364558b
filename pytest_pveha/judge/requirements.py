"""What the site's owner asks, the tests that answer it, and what a run's answer is.

The questions are a table. A test is named by its path below ``suites/``: a whole file, or one test of it. Each that is
named has to be accepted; of several verdicts the worst counts, and what was not in the run answers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pytest_pveha.judge.facts import Facts, dicts, mapping, text

NOT_PROVEN: Final = "not proven"
NOT_APPLICABLE: Final = "not applicable"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A question of the site's owner."""

    id: str
    question: str
    tests: tuple[str, ...]
    each_guest: bool = False
    """Every HA guest that the site was found with must have been put to each of these tests."""


_GUEST = "guests/test_each_guest.py::test_"

REQUIREMENTS: Final = (
    Requirement(
        "fence-paths",
        "From each node the fence command works on every other",
        (
            "fencing/test_fence_paths.py::test_every_node_reaches_every_bmc",
            "fencing/test_fence_paths.py::test_a_peer_cuts_the_power",
        ),
    ),
    Requirement(
        "physical-power-cut",
        "A physical power cut is survived",
        ("nodes/test_physical_power_cut.py", "stretched/test_switch_loss.py::test_feed_loss"),
    ),
    Requirement(
        "restart-delay",
        "HA guests restart with the proper delay: not too late, not too early",
        (
            "nodes/test_power_loss.py",
            "nodes/test_hang.py",
            "quorum/test_partition.py::test_minority_stops_before_majority_starts",
        ),
    ),
    Requirement(
        "clean-failure",
        "A node that goes down in good order is emptied first",
        ("nodes/test_clean_reboot.py", "nodes/test_maintenance.py", "upgrade/test_rolling.py::test_rolling_reboot"),
    ),
    Requirement(
        "hard-failure",
        "The hard failure of a node is survived",
        ("nodes/test_power_loss.py", "nodes/test_kernel_crash.py", "nodes/test_hang.py"),
    ),
    Requirement(
        "network-loss",
        "The loss of networks is survived",
        (
            "quorum/test_link_loss.py",
            "quorum/test_bond_member.py",
            "quorum/test_partition.py",
            "stretched/test_switch_loss.py::test_switch_loss",
            "stretched/test_switch_loss.py::test_switch_pulled",
            f"{_GUEST}without_its_network",
        ),
    ),
    Requirement("osd-failure", "The failure of an OSD costs nothing", ("storage/test_osd_failure.py",)),
    Requirement("restore", "A restore is whole, and its real RTO is known", ("backup/test_restore.py",)),
    Requirement(
        "failover-failback",
        "Guests fail over, and come home as their rules say",
        ("nodes/test_power_loss.py", "nodes/test_failback.py"),
    ),
    Requirement(
        "quorum",
        "Quorum and the quorum device decide as they must",
        ("quorum/test_partition.py", "quorum/test_quorum_loss.py", "quorum/test_qdevice_loss.py"),
    ),
    Requirement("watchdog", "Each node's watchdog resets it when nobody feeds it", ("nodes/test_watchdog.py",)),
    Requirement(
        "shared-storage",
        "The loss of shared storage, or of replicated disks' node, is survived",
        ("storage/test_shared_storage.py", "storage/test_replication_failover.py"),
    ),
    Requirement(
        "ceph",
        "Ceph is large enough, and its networks may fail",
        (
            "storage/test_ceph_host_loss.py",
            "storage/test_ceph_network.py",
            "storage/test_maintenance_plus_loss.py",
        ),
    ),
    Requirement(
        "stretched",
        "The loss of a site, of its tie-breaker and of what is between the sites is survived",
        (
            "stretched/test_latency.py",
            "stretched/test_intersite_cut.py",
            "stretched/test_site_loss.py",
            "stretched/test_tiebreaker_loss.py",
            "stretched/test_tiebreaker_sees_one_side.py",
            "stretched/test_dr_procedure.py",
        ),
    ),
    Requirement(
        "each-guest",
        "Each HA guest by itself: killed, migrated, relocated, without its network",
        tuple(f"{_GUEST}{name}" for name in ("killed", "migrated_there_and_back", "relocated", "without_its_network")),
        each_guest=True,
    ),
    Requirement(
        "fence-network",
        "The fencing network is apart from production",
        ("readiness/test_organisation.py::test_fencing_network_is_apart",),
    ),
    Requirement(
        "runbook", "The runbook is there, and known", ("readiness/test_organisation.py::test_runbook_is_known",)
    ),
    Requirement(
        "repeated",
        "All this is repeated after each update, and in time",
        ("readiness/test_organisation.py::test_repeated_after_updates_and_in_time",),
    ),
)


class Judged(Protocol):
    """A test with its verdict."""

    @property
    def id(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with what the run says of it."""

    id: str
    question: str
    verdict: str
    reason: str
    tests: tuple[tuple[str, str], ...] = ()
    """Each test that answers it, with its verdict."""

    def to_json(self) -> dict[str, Any]:
        """As verdict.json has it."""
        return {
            "id": self.id,
            "question": self.question,
            "verdict": self.verdict,
            "reason": self.reason,
            "tests": [{"id": name, "verdict": verdict} for name, verdict in self.tests],
        }


def answers(
    tests: Sequence[Judged], facts: Facts, worst_first: Sequence[str], table: Sequence[Requirement] = REQUIREMENTS
) -> tuple[Answered, ...]:
    """Every question of the table, answered from these tests alone."""
    opened = {} if facts.open is None else facts.open.data
    left_out = {
        text(row.get("id")): text(row.get("reason"))
        for key in ("not_asked", "not_selected")
        for row in dicts(opened.get(key))
    }
    return tuple(_answer(one, tests, facts, left_out, worst_first) for one in table)


def is_named(path: str, test: str) -> bool:
    """Whether a test's id is of that path below ``suites/``, wherever the suites lie."""
    file, _, name = test.partition("[")[0].partition("::")
    wanted, _, only = path.partition("::")
    return f"/{file}".endswith(f"/suites/{wanted}") and only in ("", name)


def _answer(
    one: Requirement,
    tests: Sequence[Judged],
    facts: Facts,
    left_out: Mapping[str, str],
    worst_first: Sequence[str],
) -> Answered:
    found = {test.id: test for path in one.tests for test in tests if is_named(path, test.id)}
    rows = tuple((test.id, test.verdict) for test in found.values())
    if found and all(test.verdict == NOT_APPLICABLE for test in found.values()) and not _absent(one, rows):
        return Answered(one.id, one.question, NOT_APPLICABLE, next(iter(found.values())).reason, rows)
    findings = [
        *((test.verdict, f"{_short(test.id)}: {test.reason}") for test in found.values() if _counts(test.verdict)),
        *((NOT_PROVEN, f"{_short(test.id)} is waived") for test in found.values() if test.verdict == "waived"),
        *((NOT_PROVEN, _why_absent(path, left_out)) for path in _absent(one, rows)),
        *((NOT_PROVEN, f"{_short(name)}: {why}") for name, why in _missed(one, left_out, found)),
        *((NOT_PROVEN, why) for why in _guests_missing(one, found, facts)),
    ]
    if findings:
        worst = min((verdict for verdict, _ in findings), key=worst_first.index)
        told = list(dict.fromkeys(reason for verdict, reason in findings if verdict == worst))
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        return Answered(one.id, one.question, worst, "; ".join(told[:3]) + more, rows)
    accepted = sum(test.verdict == "accepted" for test in found.values())
    return Answered(
        one.id, one.question, "accepted", f"{accepted} test{'' if accepted == 1 else 's'} accepted, none worse", rows
    )


def _counts(verdict: str) -> bool:
    return verdict not in ("accepted", NOT_APPLICABLE, "waived")


def _absent(one: Requirement, rows: Sequence[tuple[str, str]]) -> list[str]:
    """What the table names and the run says nothing of."""
    return [path for path in one.tests if not any(is_named(path, name) for name, _ in rows)]


def _why_absent(path: str, left_out: Mapping[str, str]) -> str:
    why = next((why for name, why in left_out.items() if is_named(path, name)), "")
    return f"{path} was not part of this run{f': {why}' if why else ''}"


def _missed(one: Requirement, left_out: Mapping[str, str], found: Mapping[str, Judged]) -> Iterator[tuple[str, str]]:
    """Tests of which others of the same path ran, and which somebody left out themselves."""
    for name, why in left_out.items():
        named = [path for path in one.tests if is_named(path, name)]
        if name not in found and any(is_named(path, each) for path in named for each in found):
            yield name, why or "left out"


def _guests_missing(one: Requirement, found: Mapping[str, Judged], facts: Facts) -> Iterator[str]:
    if not one.each_guest or not any(test.verdict == "accepted" for test in found.values()):
        return
    services = set(mapping(mapping(facts.found).get("services")))
    if not services:
        yield "which guests HA has is not on record"
    for path in one.tests:
        tried = {
            text(fault.params.get("sid"))
            for name in found
            if is_named(path, name) and name in facts.tests
            for fault in facts.tests[name].faults
        }
        if (lacking := sorted(services - tried)) and any(is_named(path, name) for name in found):
            yield f"{path.partition('::test_')[2].replace('_', ' ')}: {', '.join(lacking)} not put to the test"


def _short(test: str) -> str:
    """A test's id below ``suites/``."""
    return f"/{test}".rpartition("/suites/")[2]
