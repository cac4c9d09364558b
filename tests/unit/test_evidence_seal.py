"""Seal and verify: whatever changes in a run folder after the seal is found, by us and by stock tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_pveha.errors import EvidenceError
from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.manifest import check_manifest, write_manifest
from pytest_pveha.evidence.seal import seal
from pytest_pveha.evidence.verify import OWN_KEY, VerifyReport, verify_run
from pytest_pveha.report.html import verification_commands

WHO = "ha-team@example.org"


def rejudge(run: Path) -> bytes:
    """Stands for the judge: the verdict is what the journal's second line says."""
    return (run / "journal.jsonl").read_bytes().split(b"\n")[1] + b"\n"


def make_run(folder: Path, *, simulated: bool = False) -> Path:
    verdict = json.dumps({"schema": 1, "simulated": simulated, "verdict": "accepted"})
    opening = json.dumps({"kind": "run.open", "data": {"simulated": simulated}})
    (folder / "raw").mkdir(parents=True)
    (folder / "journal.jsonl").write_text(f"{opening}\n{verdict}\n")
    (folder / "verdict.json").write_text(verdict + "\n")
    (folder / "report.html").write_text("<!doctype html>")
    (folder / "raw" / "Straße 1.txt").write_text("raw")
    (folder / "raw" / "MANIFEST").write_text("only at the top is it ours")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    sshsig.throwaway_key(tmp_path / "id", "test")
    return tmp_path / "id"


@pytest.fixture
def run(tmp_path: Path, key: Path) -> Path:
    folder = make_run(tmp_path / "run")
    seal(folder, key, WHO)
    return folder


def verified(run: Path, allowed: Path | None = None, identity: str | None = None) -> VerifyReport:
    return verify_run(run, allowed_signers=allowed, identity=identity, rejudge=rejudge)


def stock_tools_accept(run: Path) -> bool:
    """The auditor's two commands, exactly as the report prints them."""
    commands = (
        f"ssh-keygen -Y verify -f allowed_signers -I {WHO} -n pveha-evidence -s MANIFEST.sig < MANIFEST"
        " && sha256sum --strict --quiet -c MANIFEST"
    )
    return subprocess.run(commands, shell=True, cwd=run, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_stock_tools_verify_a_sealed_run(run: Path) -> None:
    """ssh-keygen and sha256sum accept a sealed run folder, and refuse it after one changed byte."""
    assert stock_tools_accept(run)
    with (run / "report.html").open("ab") as stream:
        stream.write(b" ")
    assert not stock_tools_accept(run)


def test_a_sealed_run_verifies(run: Path, tmp_path: Path) -> None:
    """An untouched run verifies; only allowed signers from elsewhere make it say who sealed it."""
    own = verified(run)
    assert (own.ok, own.signed, own.signer, own.simulated) == (True, True, WHO, False)
    assert any(OWN_KEY in line for line in own.lines)
    assert own.lines[-1].startswith("INTACT: ")
    allowed = tmp_path / "from-the-safe"
    shutil.copy(run / "allowed_signers", allowed)
    known = verified(run, allowed)
    assert known.ok
    assert known.lines[-1] == f"VERIFIED: sealed by {WHO}"
    assert not any(OWN_KEY in line for line in known.lines)


def test_the_manifest_lists_every_file_in_order(run: Path) -> None:
    """MANIFEST is sorted by path and lists all but itself, its signature and the allowed signers."""
    listed = [line.split("  ", 1)[1] for line in (run / "MANIFEST").read_text().splitlines()]
    assert listed == ["journal.jsonl", "raw/MANIFEST", "raw/Straße 1.txt", "report.html", "verdict.json"]


def test_a_change_of_any_byte_of_any_file_is_found(run: Path) -> None:
    """Each single byte of each file of a sealed run is covered: change it, and verifying fails."""
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"MANIFEST", "MANIFEST.sig", "allowed_signers", "report.html"}
    for path in files:
        before = path.read_bytes()
        # in the allowed_signers file, the comment and the identity are not secured by anything: that is why it
        # must come by another way
        for n in range(0, len(before), 7 if path.name == "MANIFEST.sig" else 5):
            if path.name == "allowed_signers":
                break
            path.write_bytes(before[:n] + bytes([before[n] ^ 1]) + before[n + 1 :])
            assert not verified(run).ok, (path.name, n)
        for changed in (before + b"\n", before[:-1], b""):
            path.write_bytes(changed)
            assert path.name == "allowed_signers" or not verified(run).ok, path.name
        path.write_bytes(before)
    assert verified(run).ok


def test_a_file_that_goes_or_comes_is_found(run: Path) -> None:
    """A removed and an added file are both named."""
    (run / "raw" / "Straße 1.txt").unlink()
    (run / "raw" / "later.txt").write_text("added after the seal")
    found = {(finding.kind, finding.path) for finding in verified(run).findings}
    assert found == {("missing", "raw/Straße 1.txt"), ("extra", "raw/later.txt")}


def test_sealing_again_with_another_key_is_seen_by_who_knows_the_signer(run: Path, tmp_path: Path) -> None:
    """A forger who seals again with an own key fools nobody who has the allowed signers from elsewhere."""
    allowed = tmp_path / "from-the-safe"
    shutil.copy(run / "allowed_signers", allowed)
    sshsig.throwaway_key(tmp_path / "forger", "forger")
    seal(run, tmp_path / "forger", WHO)
    assert verified(run).ok
    report = verified(run, allowed)
    assert not report.ok
    assert report.findings[0].kind == "signature"
    assert report.lines[-1].startswith("NOT VERIFIED")


def test_another_signer_than_expected_is_found(run: Path) -> None:
    """When the reader says who must have signed, anybody else's seal is refused."""
    assert verified(run, identity=WHO).ok
    assert not verified(run, identity="other@example.org").ok


@pytest.mark.parametrize("gone", ["MANIFEST", "MANIFEST.sig", "allowed_signers", "verdict.json", "journal.jsonl"])
def test_a_removed_part_of_the_seal_is_found(run: Path, gone: str) -> None:
    """No part of seal, record or verdict can be taken away unseen."""
    (run / gone).unlink()
    assert not verified(run).ok


def test_an_unsigned_run_says_so(tmp_path: Path) -> None:
    """Without a key the run is intact at best, and fails as soon as a signer is expected."""
    run = make_run(tmp_path / "run")
    assert not seal(run, None, None).signed
    report = verified(run)
    assert (report.ok, report.signed, report.signer) == (True, False, None)
    assert report.lines[-1].startswith("INTACT, NOT SIGNED")
    allowed = tmp_path / "allowed"
    allowed.write_text("")
    assert not verified(run, allowed).ok


def test_a_simulated_run_says_so_in_its_seal(tmp_path: Path, key: Path) -> None:
    """SIMULATED is in the manifest and first in what verify prints; removing or adding it is found."""
    run = make_run(tmp_path / "run", simulated=True)
    assert seal(run, key, WHO).simulated
    assert "  SIMULATED\n" in (run / "MANIFEST").read_text()
    assert verified(run).lines[0].startswith("SIMULATED")
    (run / "SIMULATED").unlink()
    seal_over = (run / "MANIFEST").read_text().replace(_line(run, "SIMULATED"), "")
    (run / "MANIFEST").write_text(seal_over)
    (run / "MANIFEST.sig").write_text(sshsig.sign(seal_over.encode(), key))
    report = verified(run)
    assert [finding.path for finding in report.findings] == ["SIMULATED"]
    assert report.simulated


def _line(run: Path, name: str) -> str:
    return next(line for line in (run / "MANIFEST").read_text().splitlines(True) if line.endswith(f"  {name}\n"))


def test_another_verdict_than_the_journal_gives_is_found(tmp_path: Path, key: Path) -> None:
    """A verdict that was edited before sealing is found by judging the journal again."""
    run = make_run(tmp_path / "run")
    (run / "verdict.json").write_text((run / "verdict.json").read_text().replace("accepted", "ACCEPTED"))
    seal(run, key, WHO)
    assert [finding.kind for finding in verified(run).findings] == ["verdict"]


def test_a_journal_that_cannot_be_judged_is_a_finding(run: Path) -> None:
    """Whatever the judge raises over a changed journal is reported, not thrown at the auditor."""

    def broken(_: Path) -> bytes:
        raise KeyError("seq\x1b[2J")

    report = verify_run(run, rejudge=broken)
    assert [finding.kind for finding in report.findings] == ["verdict"]
    assert not any("\x1b" in line for line in report.lines)


@pytest.mark.parametrize("name", ["line\nend", "back\\slash", "escape\x1b[2J", os.fsdecode(b"latin-\xe9")])
def test_a_name_that_sha256sum_would_escape_is_refused(tmp_path: Path, name: str) -> None:
    """A file name with a line end, a backslash, a control character or no UTF-8 cannot be sealed."""
    run = make_run(tmp_path / "run")
    (run / "raw" / name).write_text("x")
    with pytest.raises(EvidenceError, match="remove or rename") as caught:
        write_manifest(run)
    str(caught.value).encode()


def test_links_and_devices_are_refused(run: Path, tmp_path: Path) -> None:
    """A symbolic link or a pipe can neither be sealed nor slipped in afterwards, not even in place of the seal."""
    (run / "raw" / "link").symlink_to(tmp_path)
    os.mkfifo(run / "raw" / "pipe")
    kinds = {(finding.kind, finding.path) for finding in verified(run).findings}
    assert kinds == {("refused", "raw/link"), ("refused", "raw/pipe")}
    with pytest.raises(EvidenceError, match="symbolic link"):
        write_manifest(run)
    shutil.rmtree(run / "raw")
    target = tmp_path / "sig"
    shutil.move(run / "MANIFEST.sig", target)
    (run / "MANIFEST.sig").symlink_to(target)
    assert any(finding.path == "MANIFEST.sig" for finding in verified(run).findings)


def test_sealing_never_writes_through_a_link(tmp_path: Path) -> None:
    """A link planted where the seal goes is replaced; what it points to stays as it was."""
    run = make_run(tmp_path / "run", simulated=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("MANIFEST", "SIMULATED"):
        (run / name).symlink_to(victim)
    seal(run, None, None)
    assert victim.read_text() == "mine"
    assert verified(run).ok


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/hostname", "raw/../../outside", "./journal.jsonl", "raw//x", ".."]
)
def test_a_path_out_of_the_folder_is_refused(run: Path, tmp_path: Path, path: str) -> None:
    """A manifest that names a file elsewhere is refused without opening that file."""
    (tmp_path / "outside").write_text("x")
    with (run / "MANIFEST").open("a") as stream:
        stream.write(f"{'0' * 64}  {path}\n")
    assert [finding.kind for finding in check_manifest(run)] == ["refused"]


@pytest.mark.parametrize("line", ["", "x", "0" * 64 + " *report.html", "A" * 64 + "  x", "0" * 64 + "  MANIFEST.sig"])
def test_a_malformed_line_is_found(run: Path, line: str) -> None:
    """A manifest line that is not ours in every character is reported with its number."""
    with (run / "MANIFEST").open("a") as stream:
        stream.write(line + "\n")
    findings = check_manifest(run)
    assert [(finding.kind, finding.path) for finding in findings] == [("malformed", "MANIFEST:6")]


def test_a_file_listed_twice_is_found(run: Path) -> None:
    """A second line for the same file is refused, whatever its digest."""
    with (run / "MANIFEST").open("a") as stream:
        stream.write(_line(run, "report.html"))
    assert [finding.kind for finding in check_manifest(run)] == ["malformed"]


def test_a_key_without_identity_is_refused(tmp_path: Path, key: Path) -> None:
    """Signing needs to know as whom."""
    with pytest.raises(EvidenceError, match="say who signs"):
        seal(make_run(tmp_path / "run"), key, None)


def test_a_stale_signature_never_lies_beside_a_new_manifest(run: Path, tmp_path: Path) -> None:
    """When sealing again fails for the key, the old signature is gone and the manifest is new."""
    (run / "report.html").write_text("new")
    with pytest.raises(EvidenceError):
        seal(run, tmp_path / "no-key", WHO)
    assert not (run / "MANIFEST.sig").exists()
    assert verified(run).ok


def test_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    """A path that is no run folder, and allowed signers that are not there, are named in one line each."""
    with pytest.raises(EvidenceError, match="not a folder"):
        verified(tmp_path / "gone")
    with pytest.raises(EvidenceError, match="run folder"):
        write_manifest(tmp_path)
    run = make_run(tmp_path / "run")
    with pytest.raises(EvidenceError, match="allowed signers"):
        verified(run, tmp_path / "gone")


def test_the_printed_commands_find_an_added_file(run: Path) -> None:
    """The report's one-line search for files that were not sealed prints nothing, and then the file that was added."""
    (purpose_and_command,) = [each for each in verification_commands(WHO) if "no other file" in each[0]]

    def search() -> str:
        return subprocess.run(
            ["bash", "-c", purpose_and_command[1]], cwd=run, capture_output=True, text=True, check=False
        ).stdout

    assert search() == ""
    (run / "raw" / "MANIFEST.later").write_text("added")
    assert "< raw/MANIFEST.later" in search()
