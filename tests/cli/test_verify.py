"""``pveha verify``: what holds of a seal, in words and as exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import Shell

from pytest_pveha.evidence.seal import seal
from pytest_pveha.evidence.sshsig import allowed_signers, throwaway_key
from pytest_pveha.judge.verdict import dump, judge
from pytest_pveha.record.journal import read

SIGNER = "acceptance@example.org"


@pytest.fixture
def judged(run_folder: Path) -> Path:
    """The run with its verdict, not sealed yet."""
    (run_folder / "verdict.json").write_bytes(dump(judge(read(run_folder / "journal.jsonl"))))
    return run_folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key to sign with."""
    path = tmp_path / "evidence_key"
    throwaway_key(path, SIGNER)
    return path


@pytest.fixture
def signers(tmp_path: Path, key: Path) -> Path:
    """Who may sign, as the reader was given it."""
    path = tmp_path / "signers"
    path.write_text(allowed_signers(SIGNER, key), encoding="utf-8")
    return path


def test_unsigned_is_intact_and_says_so(shell: Shell, judged: Path) -> None:
    """Exit code 0, unless a signature was asked for."""
    seal(judged, None, None)
    done = shell.pveha("verify", judged)
    assert done.lines[-1].startswith("INTACT, NOT SIGNED: ")
    assert done.code == 0
    demanded = shell.pveha("verify", "--signed", judged)
    assert demanded.lines[-1].startswith("INTACT, NOT SIGNED: ")
    assert demanded.code == 1
    assert demanded.err == "pveha: --signed: this run is not signed\n"


def test_signed_by_whoever_is_intact(shell: Shell, judged: Path, key: Path) -> None:
    """The key that lies with the run proves integrity, and satisfies --signed."""
    seal(judged, key, SIGNER)
    done = shell.pveha("verify", "--signed", judged)
    assert done.lines[-1].startswith("INTACT: ")
    assert done.code == 0


def test_signed_by_an_allowed_signer_is_verified(shell: Shell, judged: Path, key: Path, signers: Path) -> None:
    """With the signers that the reader brings, and the identity they expect."""
    seal(judged, key, SIGNER)
    done = shell.pveha("verify", judged, "--allowed-signers", signers, "--identity", SIGNER)
    assert done.lines[-1] == f"VERIFIED: sealed by {SIGNER}"
    assert done.code == 0
    other = shell.pveha("verify", judged, "--allowed-signers", signers, "--identity", "mallory@example.org")
    assert other.lines[-1].startswith("NOT VERIFIED: ")
    assert other.code == 1


@pytest.mark.parametrize("name", ["journal.jsonl", "verdict.json", "MANIFEST"])
def test_a_lost_file_is_a_finding(shell: Shell, judged: Path, name: str) -> None:
    """Whatever is missing, it is told and is exit code 1."""
    seal(judged, None, None)
    (judged / name).unlink()
    done = shell.pveha("verify", judged)
    assert done.code == 1
    assert done.lines[-1].startswith("NOT VERIFIED: ")
    assert any(line.startswith("NOT AS SEALED  ") and name in line for line in done.lines)


def test_a_resealed_false_verdict_is_found(shell: Shell, judged: Path) -> None:
    """Sealed again after the verdict was touched up: the journal, judged again, does not give it."""
    path = judged / "verdict.json"
    path.write_bytes(path.read_bytes().replace(b'"verdict": "not proven"', b'"verdict": "accepted"'))
    seal(judged, None, None)
    done = shell.pveha("verify", judged)
    assert done.code == 1
    assert "not what the journal gives" in done.out


def test_wrong_words_are_one_message(shell: Shell, judged: Path) -> None:
    """A folder or a signers' file that is not there: exit code 4, and nothing is said of the evidence."""
    for words in (["nowhere"], [judged, "--allowed-signers", "nowhere"]):
        done = shell.pveha("verify", *words)
        assert done.code == 4
        assert done.out == ""
        assert len(done.err.splitlines()) == 1
        assert "nowhere" in done.err
