"""The map of what was ever proven: from accepted tests alone, of runs whose folders hold, and with every gap in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from journal_builder import TEST, Entry, accepted_run, chained, changed, fault, replaced, run_open

from pytest_pveha.evidence.manifest import write_manifest
from pytest_pveha.faults.rooms import SwitchLoss
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.foresight import NO_NODES
from pytest_pveha.history import History, history, plain
from pytest_pveha.judge.verdict import Verdict, dump, judge
from pytest_pveha.report.coverage import lines

WANTED = [
    {"fault": "power-cut", "role": "crm-master", "of": "nodes", "subjects": ["pve1", "pve2"]},
    {"fault": "power-cut", "role": "", "of": "nodes", "subjects": ["pve1", "pve2"]},
    {"fault": "guest-killed", "role": "", "of": "guests", "subjects": ["vm:101"]},
]
FOUND = {"nodes": {"pve1": "online", "pve2": "online", "pve3": "online"}, "services": {"vm:101": "started@pve1"}}


def a_run(*, earlier: object = None, wanted: object = WANTED, **opened: Any) -> list[Entry]:
    """The builder's accepted run with what it knew when it began."""
    entries = changed(accepted_run(), "test.open", roles={"crm-master": "pve1"})
    entries = replaced(entries, "snapshot", lambda entry: Entry("snapshot", {**entry.data, "site": FOUND}))
    return [run_open(**opened), Entry("history", {"earlier": earlier or {}, "wanted": wanted}), *entries[1:]]


def squares(verdict: Verdict) -> dict[tuple[str, str, str], tuple[str | None, str | None]]:
    """Cell → run of its proof, and this run's verdict about it."""
    cells = verdict.coverage.to_json()["cells"]
    return {(cell["fault"], cell["role"], cell["subject"]): (cell["run"], cell["here"]) for cell in cells}


def test_a_run_covers_what_it_proved_and_shows_what_it_did_not() -> None:
    """The victim in its role is proven now; whoever else is on the site, and was not tried, is a gap."""
    verdict = judge(chained(a_run()))
    assert squares(verdict) == {
        ("guest-killed", "", "vm:101"): (None, None),
        ("power-cut", "crm-master", "pve1"): ("r1", "accepted"),
        ("power-cut", "crm-master", "pve2"): (None, None),
        ("power-cut", "crm-master", "pve3"): (None, None),
    }
    shown = lines(verdict.coverage.to_json())
    assert shown == ["guest-killed: NEVER vm:101", "power-cut as crm-master: NEVER pve2, pve3; pve1 now"]


def test_what_was_not_accepted_proves_nothing() -> None:
    """A rejected test leaves the gap, and says that it was tried; a trial or a fault that was never made, nothing."""
    missed = changed(a_run(), "audit", answer="no")
    assert squares(judge(chained(missed)))["power-cut", "crm-master", "pve1"] == (None, "rejected")
    assert "pve1 (rejected in this run)" in lines(judge(chained(missed)).coverage.to_json())[1]
    tried = replaced(a_run(), "fault.plan", lambda entry: Entry(entry.kind, entry.data | {"trial": True}, TEST))
    assert squares(judge(chained(tried)))["power-cut", "crm-master", "pve1"] == (None, None)


def test_earlier_proofs_count_with_their_age() -> None:
    """The newest proof of a cell is shown with its age; one that is no proof is left out, whatever it says."""
    told = {"fault": "power-cut", "role": "crm-master", "subject": "pve2", "at": "2025-12-03T08:00:00Z", "run": "r0"}
    older = told | {"at": "2025-11-03T08:00:00Z", "run": "r-older"}
    odd = [told | {"subject": "pve3", "at": at} for at in ("", "yesterday", "2026-01-01", 7)]
    verdict = judge(chained(a_run(earlier={"proofs": [told, older, *odd, 7], "uncounted": [{"run": "x"}]})))
    assert squares(verdict)["power-cut", "crm-master", "pve2"] == ("r0", None)
    assert squares(verdict)["power-cut", "crm-master", "pve3"] == (None, None)
    assert "pve2 30 days ago" in lines(verdict.coverage.to_json())[1]
    assert verdict.coverage.uncounted == (("x", ""),)


def test_a_role_that_changes_nothing_is_anybodys() -> None:
    """Where a fault is wanted in no role, a proof in any is one; and mains cut by hand are mains cut."""
    wanted = [{"fault": "mains-cut", "role": "", "of": "nodes", "subjects": ["pve1"]}]
    entries = [
        Entry(each.kind, each.data | {"fault": "cord-pulled-1"}, each.test) if each.kind.startswith("fault.") else each
        for each in a_run(wanted=wanted)
    ]
    assert squares(judge(chained(entries)))["mains-cut", "", "pve1"] == ("r1", "accepted")


def test_a_cut_is_proven_of_everybody_it_cut_off() -> None:
    """A fault of several nodes is proven of each, in the role of the side."""
    entries = replaced(
        changed(a_run(wanted=[]), "test.open", roles={"others-2": "pve2, pve3"}),
        "fault.plan",
        lambda entry: fault("plan", type="PowerCut", params={"cut_off": ["pve2", "pve3"]}, undo={}),
    )
    found = judge(chained(entries))
    assert {cell[1:] for cell in squares(found)} == {("other", "pve2"), ("other", "pve3")}


@pytest.mark.parametrize(("kind", "params"), [(StorageCut.kind, "storage"), (SwitchLoss.kind, "switch")])
def test_what_all_nodes_share_is_proven_by_its_name(kind: str, params: str) -> None:
    """One storage's server, or one switch, fails for every node at once: the other one is a gap yet."""
    assert kind in NO_NODES
    wanted = [{"fault": kind, "role": "", "of": NO_NODES[kind], "subjects": ["one", "another"]}]
    planned = {params: "one", "nodes": ["pve1", "pve2"]}
    entries = replaced(
        a_run(wanted=wanted),
        "fault.plan",
        lambda entry: fault("plan", type="Fault", params=planned, undo={}),
    )
    entries = [
        Entry(each.kind, each.data | {"fault": f"{kind}-1"}, each.test) if each.kind.startswith("fault.") else each
        for each in entries
    ]
    found = squares(judge(chained(entries)))
    assert found.keys() == {(kind, "", "one"), (kind, "", "another")}
    assert found[kind, "", "one"][1] is not None
    assert found[kind, "", "another"] == (None, None)


# what lies in the reports


def sealed(root: Path, name: str, entries: Sequence[Entry]) -> Path:
    """The folder of such a run, as it is left behind."""
    folder = root / "lab" / name
    folder.mkdir(parents=True)
    found = chained(entries)
    (folder / "journal.jsonl").write_bytes(b"".join(line.encode() + b"\n" for line in found))
    (folder / "verdict.json").write_bytes(dump(judge(found)))
    write_manifest(folder)
    return folder


def of(root: Path, *, simulated: bool = True) -> History:
    return history(root, "lab", "lab", simulated=simulated)


def test_a_run_that_holds_counts(tmp_path: Path) -> None:
    """Its proofs, its versions, whether it proved all, and how long its tests took."""
    assert of(tmp_path) == History()
    sealed(tmp_path, "20260102T080000Z-r1", a_run())
    (tmp_path / "lab" / "latest").symlink_to("20260102T080000Z-r1")
    found = of(tmp_path)
    assert [proof.cell.subject for proof in found.proofs] == ["pve1"]
    assert found.proven is not None
    assert (found.proven.run, found.proven.versions) == ("r1", {"pve1": "9.1.9"})
    assert list(found.seconds) == [TEST]
    assert found.seconds[TEST] > 10
    assert found.uncounted == ()


@pytest.mark.parametrize("file", ["journal.jsonl", "verdict.json", "MANIFEST"])
def test_a_folder_that_was_changed_does_not_count(tmp_path: Path, file: str) -> None:
    """Neither with another journal nor verdict, nor without its seal; it is named."""
    folder = sealed(tmp_path, "20260102T080000Z-r1", a_run())
    if file == "MANIFEST":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes().replace(b"pve1", b"pve2"))
    found = of(tmp_path)
    assert (found.runs, found.proofs, dict(found.seconds)) == ((), (), {})
    ((name, why),) = found.uncounted
    assert name == "20260102T080000Z-r1"
    assert "not as it was sealed" in why


def test_a_journal_that_was_changed_and_sealed_again_does_not_count(tmp_path: Path) -> None:
    """The manifest holds; the chain in the journal does not."""
    folder = sealed(tmp_path, "20260102T080000Z-r1", changed(a_run(), "audit", answer="no"))
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"answer":"no"', b'"answer":"yes"'))
    write_manifest(folder)
    assert of(tmp_path).runs == ()
    assert "cannot be judged again" in of(tmp_path).uncounted[0][1]


def test_a_verdict_of_other_rules_is_judged_by_todays(tmp_path: Path) -> None:
    """What verdict.json says is not believed: the journal's verdict of today counts."""
    folder = sealed(tmp_path, "20260102T080000Z-r1", changed(a_run(), "audit", answer="no"))
    verdict = json.loads((folder / "verdict.json").read_text())
    verdict["verdict"] = "accepted (simulated)"
    verdict["tests"][1]["verdict"] = "accepted"
    (folder / "verdict.json").write_text(json.dumps(verdict))
    write_manifest(folder)
    (run,) = of(tmp_path).runs
    assert (run.verdict, run.whole, of(tmp_path).proofs) == ("rejected", False, ())


def test_another_sites_runs_do_not_count(tmp_path: Path) -> None:
    """Simulated ones for a real site least of all."""
    sealed(tmp_path, "1-simulated", a_run())
    assert "the site was simulated then" in of(tmp_path, simulated=False).uncounted[0][1]
    sealed(tmp_path, "2-real", a_run(simulated=False))
    assert [run.verdict for run in of(tmp_path, simulated=False).runs] == ["accepted"]
    assert "the site was real then" in of(tmp_path).uncounted[0][1]
    sealed(tmp_path, "3-other", a_run(site="elsewhere"))
    sealed(tmp_path, "4-other", a_run(cluster="elsewhere"))
    assert len(of(tmp_path).uncounted) == 3


@pytest.mark.parametrize(
    "opened",
    [{"partial": True}, {"not_selected": [{"id": "x"}]}, {"selected": [{"id": TEST}, {"id": "suites/b.py::test_b"}]}],
)
def test_a_run_that_left_something_out_did_not_prove_all(tmp_path: Path, opened: dict[str, Any]) -> None:
    """Its proofs count one by one; that everything was repeated, it does not show."""
    sealed(tmp_path, "20260102T080000Z-r1", a_run(**opened))
    assert of(tmp_path).proven is None
    assert len(of(tmp_path).proofs) == 1


def test_a_test_that_only_looks_does_not_keep_a_run_from_being_whole(tmp_path: Path) -> None:
    """That something was late, once, does not make everything late for ever."""
    late = {"id": "suites/readiness/test_organisation.py::test_late", "title": "late"}
    selected = [{"id": TEST, "title": ""}, late]
    sealed(tmp_path, "20260102T080000Z-r1", a_run(selected=selected))
    assert of(tmp_path).proven is not None


def test_a_step_of_a_campaign_is_the_test_that_it_is_of() -> None:
    """With parameters and without."""
    assert plain("suites/a.py::test_b[other-1-step-17]") == "suites/a.py::test_b[other-1]"
    assert plain("suites/a.py::test_b[step-3]") == "suites/a.py::test_b"
    assert plain("suites/a.py::test_b[vm:101]") == "suites/a.py::test_b[vm:101]"
