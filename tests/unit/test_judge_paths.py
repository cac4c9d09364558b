"""Fence paths as the judge and the report see them: all of them, or no verdict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, S, accepted_run, chained

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import paths
from pytest_pveha.judge.facts import Path, TestFacts, gather
from pytest_pveha.judge.measured import compare
from pytest_pveha.report.paths import matrix

NODES = ["n1", "n2", "n3"]
PAIRS = [(peer, bmc) for peer in NODES for bmc in NODES if peer != bmc]
ALL = {"nodes": NODES}
GOOD = {"answer": "yes", "saw": "chassis on", "own": "yes", "own_saw": "MAC", "may": "yes", "may_saw": "OPERATOR"}


def line(peer: str, bmc: str, **changes: Any) -> Entry:
    """A path that answered after 200 ms, by the peer's clock, and 300 by ours."""
    times = {"before": S, "after": S + 300_000_000, "least": 0.2}
    return Entry("path", {"peer": peer, "bmc": bmc, **times, **GOOD, **changes}, TEST)


def facts(*odd: Entry) -> TestFacts:
    """All paths good but for those."""
    others = {(entry.data["peer"], entry.data["bmc"]) for entry in odd}
    good = [line(*pair) for pair in PAIRS if pair not in others]
    return gather(chained([*accepted_run(), *good, *odd])).tests[TEST]


def test_a_whole_site_is_measured() -> None:
    """Every path good: nothing broken, nobody wrong, and the time between the two clocks' views of it."""
    test = facts()
    assert (test.spoilt, len(test.paths)) == ([], 6)
    found = paths.slowest(test, "cluster", ALL)
    assert (found.low, found.high, found.unit) == (0.2, 0.3, "s")
    assert (paths.broken(test, "", ALL).high, paths.strangers(test, "", ALL).high) == (0, 0)


@pytest.mark.parametrize(
    ("odd", "broken", "strangers", "time"),
    [
        ({"answer": "no", "saw": "no answer in 11 s", "own": "cant_tell", "may": "cant_tell", "least": 11.0,
          "after": 13 * S}, "rejected", "inconclusive", "rejected"),
        ({"answer": "no", "saw": "refused", "own": "cant_tell", "may": "cant_tell", "least": 0.0},
         "rejected", "inconclusive", "accepted"),
        ({"answer": "cant_tell", "own": "cant_tell", "may": "cant_tell", "saw": "ipmitool: not installed"},
         "inconclusive", "inconclusive", "inconclusive"),
        ({"may": "no", "may_saw": "USER"}, "rejected", "accepted", "accepted"),
        ({"may": "cant_tell"}, "inconclusive", "accepted", "accepted"),
        ({"own": "no", "own_saw": "another MAC"}, "accepted", "rejected", "accepted"),
        ({"own": "cant_tell"}, "accepted", "inconclusive", "accepted"),
        ({"after": S + 12 * S, "least": 11.0}, "accepted", "accepted", "rejected"),
        ({"after": S + 12 * S, "least": 9.0}, "accepted", "accepted", "inconclusive"),
    ],
)  # fmt: skip
def test_one_bad_path_decides(odd: dict[str, Any], broken: str, strangers: str, time: str) -> None:
    """Each claim goes by the worst path, and says which it is."""
    test = facts(line("n3", "n2", **odd))
    assert compare(paths.broken(test, "", ALL), "none", None)[0] == broken
    assert compare(paths.strangers(test, "", ALL), "none", None)[0] == strangers
    found = paths.slowest(test, "", ALL)
    assert compare(found, "at_most", 10)[0] == time
    if time != "accepted":
        assert found.about.startswith("n3 → n2")


@given(st.sets(st.sampled_from(PAIRS)))
def test_a_path_that_was_not_asked_is_never_a_pass(asked: set[tuple[str, str]]) -> None:
    """Unless every pair was asked no claim is accepted, however good those are that were."""
    test = gather(chained([*accepted_run(), *(line(*pair) for pair in sorted(asked))])).tests[TEST]
    accepted = len(asked) == len(PAIRS)
    for measure, op in ((paths.broken, "none"), (paths.strangers, "none"), (paths.slowest, "at_most")):
        try:
            verdict = compare(measure(test, "", ALL), op, 10)[0]
        except Inconclusive:
            verdict = "inconclusive"
        assert verdict == ("accepted" if accepted else "inconclusive")


def test_a_claim_of_no_path_is_not_measured() -> None:
    """One node alone has no path."""
    with pytest.raises(Inconclusive, match="no two nodes"):
        paths.slowest(facts(), "", {"nodes": ["n1"]})


@pytest.mark.parametrize("spoilt", [{"own": "perhaps"}, {"after": 0}, {"least": -1.0}, {"peer": ""}, {"before": None}])
def test_a_line_that_cannot_be_used_is_named(spoilt: dict[str, Any]) -> None:
    """It counts as not asked, and the test's facts say which line it was."""
    good = [line(*pair) for pair in PAIRS[1:]]
    bad = Entry("path", {**line(*PAIRS[0]).data, **spoilt}, TEST)
    test = gather(chained([*accepted_run(), *good, bad])).tests[TEST]
    assert len(test.paths) == 5
    assert "(path) cannot be used" in test.spoilt[0]


def test_the_report_has_a_table_of_them() -> None:
    """Nodes down the side and along the top, the worst of the three answers in each cell, troubles in words."""
    odd = line("n1", "n2", own="no", own_saw="another MAC"), line("n2", "n3", answer="no", saw="no answer in 11 s")
    table = matrix(facts(*odd).paths)
    assert table is not None
    assert table["bmcs"] == NODES
    cells = {(row["peer"], bmc): cell for row in table["rows"] for bmc, cell in zip(NODES, row["cells"], strict=True)}
    assert cells["n1", "n1"] is None
    assert cells["n1", "n2"]["css"] == "rejected"
    assert (cells["n2", "n3"]["css"], cells["n2", "n3"]["text"]) == ("rejected", "no answer")
    assert cells["n3", "n1"] == {"sign": "✓", "css": "accepted", "text": "0.3 s"}
    assert [(row["path"], row["text"]) for row in table["troubles"]] == [
        ("n1 → n2", "another MAC"),
        ("n2 → n3", "no answer in 11 s"),
    ]
    assert matrix(()) is None


def test_the_table_escapes_nothing_away() -> None:
    """A path that nobody asked is shown as such."""
    table = matrix([Path("n1", "n2", "yes", "on", (0.1, 0.2), "yes", "", "yes", "")])
    assert table is not None
    assert table["rows"][1]["cells"][0]["text"] == "not asked"
