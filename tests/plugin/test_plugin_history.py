"""What earlier runs left is known to the next: how long it will take, what is proven, whether it was repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from plugin_kit import SITE, Bench, Result
from test_plugin_runs import OUTAGE

ORGANISED = """
organisation:
  runbook: runbook.md
  acknowledged_by: Platform team
  acknowledged_on: 2026-01-02
  on_call: team@example.org
  revalidate_every: 90 days
networks:
  bmc: {interface: eno9, switch: oob}
  corosync0: {interface: eno1, switch: sw1}
"""

LOOKS = '''
@pytest.mark.readiness
def test_fencing_network_is_apart(fence_network, run):
    """Apart."""
    run.check(fence_network)

@pytest.mark.readiness
def test_runbook_is_known(runbook, run):
    """Known."""
    run.check(runbook)

@pytest.mark.readiness
def test_repeated_after_updates_and_in_time(repetition, run):
    """Repeated."""
    run.check(repetition)
'''

ALL = ("-m", "destructive or readiness")


def when(day: str, version: str = "9.1.9") -> str:
    """The site on that day, with that version of Proxmox VE."""
    return (SITE + ORGANISED).replace("seed: 1,", f'seed: 1, starts_at: {day}T08:00:00Z, version: "{version}",')


def answers(result: Result) -> dict[str, str]:
    """The verdicts of the three that look, by their names."""
    found = {test["id"].rpartition("::test_")[2]: test["verdict"] for test in result.verdict["tests"]}
    return {name: verdict for name, verdict in found.items() if "[" not in name and name != "gate"}


@pytest.fixture(scope="module")
def years(new_bench: Callable[[], Bench]) -> tuple[Bench, dict[str, Result]]:
    """One site over a year: proven, updated, proven again, left alone for too long."""
    bench = new_bench()
    bench.suite(OUTAGE)
    (bench.project / "suites" / "readiness").mkdir()
    bench.suite(LOOKS, "readiness/test_organisation.py")
    bench.file("runbook.md", "Call the team.\n")
    runs = {}
    for name, day, version, words in (
        ("first", "2026-01-02", "9.1.9", ALL),
        ("soon", "2026-01-22", "9.1.9", ("-m", "readiness")),
        ("updated", "2026-01-23", "9.1.10", ("-m", "readiness")),
        ("repeated", "2026-01-24", "9.1.10", ALL),
        ("late", "2026-06-01", "9.1.10", ("-m", "readiness")),
    ):
        bench.file("sim.yml", when(day, version))
        runs[name] = bench.armed(*words)
        assert runs[name].verdict["run"] in runs[name].text  # read now: the folder is that of the newest run
    return bench, runs


def test_it_is_known_whether_all_was_repeated(years: tuple[Bench, dict[str, Result]]) -> None:
    """Not at first; then until an update; again when the run is the repetition; and not when it is late."""
    _, runs = years
    told = {name: answers(result)["repeated_after_updates_and_in_time"] for name, result in runs.items()}
    assert told == {
        "first": "not proven",
        "soon": "accepted",
        "updated": "rejected",
        "repeated": "accepted",
        "late": "rejected",
    }, runs["soon"].text
    late = runs["late"].test("repeated")["reason"]
    assert "128 days ago; it is to be proven every 90 days" in late
    assert "9.1.9 → 9.1.10, and nobody has proven it again" in runs["updated"].test("repeated")["reason"]


def test_the_runbook_grows_old_and_the_switches_stay_apart(years: tuple[Bench, dict[str, Result]]) -> None:
    """Whoever acknowledged it does so again, or it is no longer known."""
    _, runs = years
    assert {name: answers(result)["runbook_is_known"] for name, result in runs.items()} == {
        **dict.fromkeys(("first", "soon", "updated", "repeated"), "accepted"),
        "late": "rejected",
    }
    assert {answers(result)["fencing_network_is_apart"] for result in runs.values()} == {"accepted"}
    rows = {row["id"]: row["verdict"] for row in runs["repeated"].verdict["requirements"]}
    assert (rows["repeated"], rows["runbook"], rows["fence-network"]) == ("accepted", "accepted", "accepted")


def test_what_was_proven_is_remembered_with_its_age(years: tuple[Bench, dict[str, Result]]) -> None:
    """A run that breaks nothing shows the map of those before it."""
    _, runs = years
    (cell,) = [cell for cell in runs["soon"].verdict["coverage"]["cells"] if cell["proven"]]
    assert (cell["fault"], cell["role"], cell["here"]) == ("power-cut", "other", None)
    assert cell["run"] == runs["first"].verdict["run"]
    assert 19 <= cell["age"] / 86400 <= 20
    assert re.search(r"^  power-cut as other: pve\d 19 days ago$", runs["soon"].out, re.M), runs["soon"].out


def test_the_next_run_knows_how_long_it_takes(years: tuple[Bench, dict[str, Result]]) -> None:
    """By what the test took before, and not by what it says of itself; within 15 percent of what follows."""
    _, runs = years
    assert "estimate: about 12 min for 1 test (1 as declared)" in runs["first"].out
    assert "(1 as they took here before)" in runs["repeated"].out
    (said,) = re.findall(r"^estimated (.+), took (.+)$", runs["repeated"].out, re.M)
    guess, took = (_seconds(each) for each in said)
    assert abs(guess - took) <= 0.15 * took


def _seconds(text: str) -> int:
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", text))


def test_a_run_that_was_changed_is_forgotten(years: tuple[Bench, dict[str, Result]]) -> None:
    """Whoever touches a run folder takes its proofs from it; it is named."""
    bench, _ = years
    folders = sorted(path for path in (bench.project / "reports" / "bench").iterdir() if not path.is_symlink())
    for folder in folders:
        verdict = json.loads((folder / "verdict.json").read_text())
        (folder / "verdict.json").write_text(json.dumps(verdict | {"verdict": "accepted"}))
    result = bench.armed("-m", "readiness")
    assert answers(result)["repeated_after_updates_and_in_time"] == "not proven"
    assert result.verdict["coverage"]["proven"] == 0
    assert len(result.verdict["coverage"]["uncounted"]) == len(folders)
    assert f"  not counted: {folders[0].name}: not as it was sealed: verdict.json" in result.out
