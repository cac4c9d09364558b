"""``pveha judge``: the record alone gives the verdict, and anything else is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import Shell

from pytest_pveha.judge.verdict import dump, judge
from pytest_pveha.record.journal import read


def verdict_of(folder: Path) -> bytes:
    """What verdict.json must be."""
    return dump(judge(read(folder / "journal.jsonl")))


def test_a_missing_verdict_is_written(shell: Shell, run_folder: Path) -> None:
    """The file has the bytes that the run would have written; a second time it is the same."""
    first = shell.pveha("judge", run_folder)
    assert first.code == 0
    assert "there was none; written" in first.lines[-1]
    assert (run_folder / "verdict.json").read_bytes() == verdict_of(run_folder)
    assert shell.pveha("judge", run_folder).lines[-1].startswith("same: ")


def test_the_summary_is_printed(shell: Shell, run_folder: Path) -> None:
    """The verdict, and what kept the run from being proven; a verdict that is not accepted is still exit code 0."""
    done = shell.pveha("judge", run_folder)
    assert "verdict: NOT PROVEN" in done.out
    assert "an empty run proves nothing" in done.out
    assert done.code == 0


def test_one_changed_byte_is_different(shell: Shell, run_folder: Path) -> None:
    """A verdict that was touched up is named, left as it is, and is exit code 1."""
    path = run_folder / "verdict.json"
    touched_up = verdict_of(run_folder).replace(b'"verdict": "not proven"', b'"verdict": "accepted"')
    path.write_bytes(touched_up)
    done = shell.pveha("judge", run_folder)
    assert done.code == 1
    assert done.lines[-1].startswith(f"different: the journal does not give {path}")
    assert path.read_bytes() == touched_up


@pytest.mark.parametrize("written", [True, False])
def test_print_gives_the_bytes_and_writes_nothing(shell: Shell, run_folder: Path, written: bool) -> None:
    """Standard output is what verdict.json must be, whether there is one or not."""
    if written:
        (run_folder / "verdict.json").write_bytes(b"{}\n")
    before = sorted(each.name for each in run_folder.iterdir())
    done = shell.pveha("judge", "--print", run_folder)
    assert done.out.encode() == verdict_of(run_folder)
    assert done.code == (1 if written else 0)
    assert sorted(each.name for each in run_folder.iterdir()) == before


def test_links_and_journals_name_a_run_too(shell: Shell, run_folder: Path) -> None:
    """``reports/latest`` and the journal itself are the run."""
    latest = shell.place / "reports" / "latest"
    latest.symlink_to(run_folder.relative_to(latest.parent))
    assert shell.pveha("judge", "reports/latest").code == 0
    assert shell.pveha("judge", run_folder / "journal.jsonl").lines[-1].startswith("same: ")


@pytest.mark.parametrize("given", ["reports/none", "reports", "reports/lab/20260102T080000Z-r1/verdict.json"])
def test_what_is_no_run_is_one_message(shell: Shell, run_folder: Path, given: str) -> None:
    """A path that is not there, another folder, another file: one line, exit code 4."""
    (run_folder / "verdict.json").write_bytes(b"{}\n")
    done = shell.pveha("judge", given)
    assert done.code == 4
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert given in line


def torn(journal: bytes) -> bytes:
    return journal[:-20]


def without_a_line(journal: bytes) -> bytes:
    first, _, third = journal.splitlines(keepends=True)
    return first + third


def changed(journal: bytes) -> bytes:
    return journal.replace(b"nothing happened", b"all went so well")


def empty(journal: bytes) -> bytes:
    return journal[:0]


def binary(journal: bytes) -> bytes:
    return b"\x00\xff\x1b[2J" + journal


@pytest.mark.parametrize(
    ("spoil", "number"), [(torn, 3), (without_a_line, 2), (changed, 2), (empty, 1), (binary, 1)], ids=lambda each: each
)
def test_a_bad_journal_is_one_message(shell: Shell, run_folder: Path, spoil: object, number: int) -> None:
    """The line that is wrong is named, nothing is judged, nothing is written; exit code 6."""
    path = run_folder / "journal.jsonl"
    assert callable(spoil)
    path.write_bytes(spoil(path.read_bytes()))
    done = shell.pveha("judge", run_folder)
    assert done.code == 6
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert f"{path}:{number}: " in line
    assert "Nothing can be judged from this journal" in line
    assert "\x1b" not in line
    assert not (run_folder / "verdict.json").exists()


def test_a_run_of_the_embedded_site_is_judged_the_same(shell: Shell) -> None:
    """What pytest wrote for a readiness run is what its journal gives, and its summary says SIMULATED."""
    import subprocess
    import sys
    from importlib import metadata

    from cli_kit import BACKSTOP, ROOT, SIMULATED

    suite = ROOT / "suites" / "readiness" / "test_readiness.py"
    words = [f"--inventory={SIMULATED}", "-m", "readiness", "--pveha-reports", str(shell.place / "reports"), str(suite)]
    ours = [] if metadata.entry_points(group="pytest11", name="pveha") else ["-p", "pytest_pveha.plugin"]
    options = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", *ours]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *words],
        cwd=shell.place,
        env=shell.environment,
        capture_output=True,
        timeout=BACKSTOP,
        check=True,
    )
    done = shell.pveha("judge", "reports/latest")
    assert done.code == 0
    assert done.lines[-1].startswith("same: ")
    assert "SIMULATED" in done.out
    verdict = json.loads(shell.pveha("judge", "--print", "reports/latest").out)
    assert verdict["simulated"] is True
    assert {test["verdict"] for test in verdict["tests"]} == {"accepted", "not applicable"}
    assert shell.pveha("verify", "reports/latest").lines[-1].startswith("INTACT, NOT SIGNED")
