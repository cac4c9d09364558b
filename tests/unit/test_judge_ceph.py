"""What Ceph said of itself during a test, as the judge sees it."""

from __future__ import annotations

from journal_builder import TEST, Entry, accepted_run, chained, ns, samples, seen

from pytest_pveha.judge import ceph
from pytest_pveha.judge.facts import TestFacts, gather
from pytest_pveha.judge.measured import Measured

HEALTH, HURT = "ceph/health", "ceph/hurt"


def facts(*odd: Entry) -> TestFacts:
    """A run in which Ceph answered every two seconds, was well before the fault, and these."""
    asked = samples("inside:ceph", "good", -20, 480, subject="node:ceph:inside", worst_gap=ns(2) - ns(0))
    watch = {"probe": "inside:ceph", "subject": "node:ceph:inside", "what": "ssh", "period_ms": 2000}
    well = [seen(HEALTH, None, "HEALTH_OK", -20, -20), seen(HURT, None, "no", -20, -20)]
    return gather(chained([*accepted_run(), Entry("watch", watch, TEST), asked, *well, *odd])).tests[TEST]


def silent(*odd: Entry) -> Measured:
    """How long it kept silent."""
    return ceph.silent_health(facts(*odd), "Ceph", {})


def test_health_that_stays_well_is_silent() -> None:
    """OSDs are down from 4 to 64 s, and health never says so."""
    found = silent(seen(HURT, "no", "yes", 2, 4), seen(HURT, "yes", "no", 62, 64))
    assert (found.low, found.high) == (58, 62)


def test_two_moments_that_were_not_seen_are_not_one_silence() -> None:
    """Both changed between the same two answers, 20 s apart, at the cut and at its end: silent for 20 s at the most."""
    cut = [seen(HURT, "no", "yes", 0, 20), seen(HEALTH, "HEALTH_OK", "HEALTH_WARN OSD_DOWN", 0, 20)]
    end = [seen(HURT, "yes", "no", 120, 140), seen(HEALTH, "HEALTH_WARN OSD_DOWN", "HEALTH_OK", 120, 140)]
    found = silent(*cut, *end)
    assert (found.low, found.high) == (0, 20)


def test_a_health_that_is_well_in_other_words_is_one_silence() -> None:
    """HEALTH_OK with a check that somebody muted goes on being HEALTH_OK."""
    muted = seen(HEALTH, "HEALTH_OK", "HEALTH_OK OSD_DOWN", 30, 32)
    found = silent(muted, seen(HURT, "no", "yes", 2, 4), seen(HURT, "yes", "no", 62, 64))
    assert (found.low, found.high) == (58, 62)
