"""The owner's questions: each names tests that exist, and the worst of their verdicts is the answer."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from journal_builder import TEST, accepted_run, chained

from pytest_pveha.judge.facts import Facts, Fault, TestFacts
from pytest_pveha.judge.requirements import REQUIREMENTS, Answered, Requirement, answers, is_named
from pytest_pveha.judge.verdict import WORST_FIRST, judge
from pytest_pveha.record.journal import Line

SUITES = Path(__file__).parents[2] / "suites"


def there(path: str) -> bool:
    """Whether the suites have that file, and that test in it."""
    file, _, name = path.partition("::")
    if not (SUITES / file).is_file():
        return False
    functions = [each for each in ast.parse((SUITES / file).read_text()).body if isinstance(each, ast.FunctionDef)]
    return not name or name in [each.name for each in functions]


def test_every_test_of_the_table_exists() -> None:
    """A question names no test that is not there."""
    named = {path for one in REQUIREMENTS for path in one.tests}
    assert {path for path in named if not there(path)} == set()
    assert not there("nodes/test_power_loss.py::test_of_nobody")


def test_every_question_is_asked_once() -> None:
    """Ids and questions are each their own."""
    assert len({one.id for one in REQUIREMENTS}) == len({one.question for one in REQUIREMENTS}) == len(REQUIREMENTS)


@dataclass(frozen=True)
class Had:
    """A test with its verdict."""

    id: str
    verdict: str
    reason: str = "so it was"


ONE = "suites/a/test_x.py::test_one"
TWO = "suites/a/test_x.py::test_two"
WHOLE = Requirement("x", "Does x hold?", ("a/test_x.py",))
BOTH = Requirement("x", "Does x hold?", ("a/test_x.py::test_one", "a/test_x.py::test_two"))


def asked(one: Requirement, *tests: Had, facts: Facts | None = None) -> Answered:
    """The answer to that one question."""
    (answer,) = answers(tests, facts or Facts(), WORST_FIRST, (one,))
    return answer


@pytest.mark.parametrize(
    ("verdicts", "answer"),
    [
        ((), "not proven"),
        (("accepted",), "accepted"),
        (("accepted", "not applicable"), "accepted"),
        (("accepted", "rejected"), "rejected"),
        (("inconclusive", "invalid"), "invalid"),
        (("accepted", "not proven"), "not proven"),
        (("accepted", "dirty", "rejected"), "dirty"),
        (("not applicable", "not applicable"), "not applicable"),
        (("waived",), "not proven"),
        (("accepted", "waived"), "not proven"),
        (("not applicable", "waived"), "not proven"),
        (("not applicable", "rejected"), "rejected"),
    ],
)
def test_the_worst_counts(verdicts: Sequence[str], answer: str) -> None:
    """Nothing is accepted without an accepted test, and nothing hides a worse one."""
    found = asked(WHOLE, *(Had(f"{ONE}[{number}]", verdict) for number, verdict in enumerate(verdicts)))
    assert found.verdict == answer
    assert len(found.tests) == len(verdicts)
    assert found.reason


def test_each_named_test_must_have_been_in_the_run() -> None:
    """One of two is not enough, whatever the other would have said; nor is one of which a part was left out."""
    assert asked(BOTH, Had(ONE, "accepted")).verdict == "not proven"
    assert asked(BOTH, Had(ONE, "not applicable")).verdict == "not proven"
    assert "a/test_x.py::test_two was not part of this run" in asked(BOTH, Had(ONE, "accepted")).reason
    assert asked(BOTH, Had(ONE, "accepted"), Had(TWO, "accepted")).verdict == "accepted"
    open_line = Line(1, 0, "", 0, "", "run.open", None, {"not_selected": [{"id": f"{ONE}[b]", "reason": "left out"}]})
    assert asked(WHOLE, Had(f"{ONE}[a]", "accepted"), facts=Facts(open=open_line)).verdict == "not proven"
    looks = Line(1, 0, "", 0, "", "run.open", None, {"not_asked": [{"id": TWO, "reason": "it only looks"}]})
    assert asked(WHOLE, Had(ONE, "accepted"), facts=Facts(open=looks)).verdict == "not proven"
    assert (
        "was not part of this run: it only looks" in asked(BOTH, Had(ONE, "accepted"), facts=Facts(open=looks)).reason
    )


def test_a_test_is_known_wherever_the_suites_lie() -> None:
    """In the project, in an installation, with parameters; and not by a name that only looks like it."""
    path = "nodes/test_power_loss.py"
    assert is_named(path, f"suites/{path}::test_power_loss_of_one_node[other-1]")
    assert is_named(f"{path}::test_a", f"../lib/pytest_pveha/suites/{path}::test_a")
    assert not is_named(f"{path}::test_a", f"suites/{path}::test_ab")
    assert not is_named(path, f"mysuites/{path}::test_a")
    assert not is_named(path, f"suites/more/{path}::test_a")


def test_each_guest_means_each() -> None:
    """A guest that HA has and nobody tried leaves the question open, as does not knowing which there are."""
    one = Requirement("g", "Each guest?", ("a/test_x.py::test_one",), each_guest=True)

    def tried(*guests: str, found: object) -> Answered:
        tests = {}
        for sid in guests:
            fault = Fault("guest-killed-1", "GuestKilled", {"sid": sid}, f"{ONE}[{sid}]")
            tests[f"{ONE}[{sid}]"] = TestFacts(f"{ONE}[{sid}]", faults=[fault])
        facts = Facts(tests=tests, found=None if found is None else {"services": found})
        return asked(one, *(Had(name, "accepted") for name in tests), facts=facts)

    services = {"vm:101": "started@pve1", "vm:102": "started@pve2"}
    assert tried("vm:101", "vm:102", found=services).verdict == "accepted"
    assert tried("vm:101", found=services).verdict == "not proven"
    assert "one: vm:102 not put to the test" in tried("vm:101", found=services).reason
    assert tried("vm:101", found=None).verdict == "not proven"
    assert tried("vm:101", found=["vm:101"]).verdict == "not proven"


def test_the_answers_come_from_the_journal_alone() -> None:
    """The verdict of a journal has an answer to every question, and to one whose test is in it a better one."""
    verdict = judge(chained(accepted_run()))
    rows = {row.id: row for row in verdict.requirements}
    assert list(rows) == [one.id for one in REQUIREMENTS]
    assert rows["hard-failure"].tests == ((TEST, "accepted"),)
    assert rows["hard-failure"].verdict == "not proven"  # a crash and a hang were not in it
    assert rows["watchdog"].tests == ()
