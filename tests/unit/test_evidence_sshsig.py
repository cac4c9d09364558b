"""Signatures: ssh-keygen takes ours, we take ssh-keygen's, and nothing else passes either."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from pytest_pveha.clock import Instant
from pytest_pveha.errors import BadSignature, EvidenceError
from pytest_pveha.evidence import sshsig

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")

DATA = b"0" * 64 + b"  journal.jsonl\n"
WHO = "ha-team@example.org"
KINDS = {
    "ed25519": ["-t", "ed25519"],
    "rsa": ["-t", "rsa", "-b", "2048"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
}


def ssh_keygen(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)


def make_key(path: Path, *arguments: str) -> Path:
    made = ssh_keygen("-q", *arguments, "-f", path, *(() if "-N" in arguments else ("-N", "")))
    assert made.returncode == 0, made.stderr
    return path


def openssh_verify(folder: Path, armored: str, allowed: str, data: bytes = DATA, who: str = WHO) -> bool:
    (folder / "s.sig").write_text(armored)
    (folder / "allowed").write_text(allowed)
    done = ssh_keygen(
        "-Y", "verify", "-f", folder / "allowed", "-I", who, "-n", "pveha-evidence", "-s", folder / "s.sig", stdin=data
    )
    return done.returncode == 0


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    sshsig.throwaway_key(path, "throw-away key of a test")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_openssh_accepts_what_we_sign(tmp_path: Path, kind: str) -> None:
    """A signature made here by any kind of key passes ssh-keygen -Y verify and our own verifier."""
    key = make_key(tmp_path / "id", *KINDS[kind])
    armored, allowed = sshsig.sign(DATA, key), sshsig.allowed_signers(WHO, key)
    assert openssh_verify(tmp_path, armored, allowed)
    assert not openssh_verify(tmp_path, armored, allowed, data=DATA + b"x")
    assert not openssh_verify(tmp_path, armored, allowed, who="somebody@example.org")
    sshsig.verify(DATA, armored, allowed, WHO)


@pytest.mark.parametrize("kind", KINDS)
def test_we_accept_what_openssh_signs(tmp_path: Path, kind: str) -> None:
    """A signature made by ssh-keygen -Y sign passes our verifier, and fails for other data."""
    key = make_key(tmp_path / "id", *KINDS[kind])
    made = ssh_keygen("-Y", "sign", "-n", "pveha-evidence", "-f", key, stdin=DATA)
    allowed = sshsig.allowed_signers(WHO, key)
    sshsig.verify(DATA, made.stdout.decode(), allowed, WHO)
    with pytest.raises(BadSignature, match="does not belong"):
        sshsig.verify(DATA + b"x", made.stdout.decode(), allowed, WHO)


def test_ed25519_gives_the_bytes_openssh_gives(tmp_path: Path) -> None:
    """Ed25519 signs without chance, so our armored text equals ssh-keygen's."""
    key = make_key(tmp_path / "id", "-t", "ed25519")
    made = ssh_keygen("-Y", "sign", "-n", "pveha-evidence", "-f", key, stdin=DATA)
    assert sshsig.sign(DATA, key) == made.stdout.decode()


def test_a_throwaway_key_is_private(tmp_path: Path) -> None:
    """The throw-away key is 0600, has a public half, and never replaces a key that is there."""
    path = tmp_path / "id"
    sshsig.throwaway_key(path, "made for one run")
    assert path.stat().st_mode & 0o777 == 0o600
    public = path.with_name("id.pub").read_text()
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" made for one run\n")
    with pytest.raises(FileExistsError):
        sshsig.throwaway_key(path, "again")


def test_every_changed_byte_of_a_signature_is_seen(key: Path) -> None:
    """No single byte of the signature file can change, go or come without the verifier saying so."""
    armored, allowed = sshsig.sign(DATA, key), sshsig.allowed_signers(WHO, key)
    for n in range(len(armored)):
        flipped = chr(ord(armored[n]) ^ 1)
        for tampered in (armored[:n] + flipped + armored[n + 1 :], armored[:n] + armored[n + 1 :]):
            with pytest.raises(BadSignature):
                sshsig.verify(DATA, tampered, allowed, WHO)
    for tampered in (armored + "\n", "\n" + armored, armored.replace("\n", "\r\n"), armored + armored, ""):
        with pytest.raises(BadSignature):
            sshsig.verify(DATA, tampered, allowed, WHO)


def test_a_signature_for_something_else_is_refused(tmp_path: Path) -> None:
    """A signature made in another namespace (a git commit, a file) is not evidence."""
    key = make_key(tmp_path / "id", "-t", "ed25519")
    made = ssh_keygen("-Y", "sign", "-n", "file", "-f", key, stdin=DATA)
    with pytest.raises(BadSignature, match="made for something else"):
        sshsig.verify(DATA, made.stdout.decode(), sshsig.allowed_signers(WHO, key), WHO)


def test_another_key_is_refused(tmp_path: Path, key: Path) -> None:
    """A valid signature by a key that is not among the allowed signers does not verify, and the key is named."""
    other = make_key(tmp_path / "id", "-t", "ed25519")
    with pytest.raises(BadSignature, match=r"SHA256:\S+, a key that is not among the allowed signers"):
        sshsig.verify(DATA, sshsig.sign(DATA, key), sshsig.allowed_signers(WHO, other), WHO)
    with pytest.raises(BadSignature, match=r"not by 'boss@example\.org'"):
        sshsig.verify(DATA, sshsig.sign(DATA, key), sshsig.allowed_signers(WHO, key), "boss@example.org")


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ("", True),
        ('namespaces="pveha-evidence"', True),
        ('namespaces="git,pveha-*"', True),
        ('namespaces="git"', False),
        ('namespaces="*,!pveha-evidence"', False),
        ('valid-after="20260101Z",valid-before="20261231235959Z"', True),
        ('valid-after="20260301"', False),
        ('valid-before="202601310000Z"', False),
        ("cert-authority", False),
    ],
)
def test_allowed_signers_options_mean_what_openssh_means(tmp_path: Path, key: Path, options: str, good: bool) -> None:
    """Namespaces and validity in an allowed_signers file decide as they do for ssh-keygen."""
    public = key.with_name("id.pub").read_text()
    allowed = f"# who may sign\n\nx@y,*@example.org {options} {public}"
    armored = sshsig.sign(DATA, key)
    at = Instant(mono=0, utc=1_769_904_000 * 10**9)  # 2026-02-01T00:00:00Z
    (tmp_path / "s.sig").write_text(armored)
    (tmp_path / "allowed").write_text(allowed)
    openssh = ssh_keygen(
        *("-Y", "verify", "-f", tmp_path / "allowed", "-I", WHO, "-n", "pveha-evidence"),
        *("-s", tmp_path / "s.sig", "-Overify-time=20260201000000Z"),
        stdin=DATA,
    )
    if good:
        sshsig.verify(DATA, armored, allowed, WHO, at=at)
    else:
        with pytest.raises(BadSignature):
            sshsig.verify(DATA, armored, allowed, WHO, at=at)
    assert (openssh.returncode == 0) is good


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "who ssh-ed25519",
        "who ssh-ed25519 !!!",
        'who namespaces="x ssh-ed25519 AAAA',
        'who valid-after="x" KEY',
    ],
)
def test_an_unreadable_allowed_signers_file_is_no_permission(key: Path, line: str) -> None:
    """What cannot be read in allowed_signers is an error, never a signer."""
    public = " ".join(key.with_name("id.pub").read_text().split()[:2])
    with pytest.raises(BadSignature, match="allowed_signers"):
        sshsig.verify(DATA, sshsig.sign(DATA, key), line.replace("KEY", public) + "\n", WHO)


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    """A key that needs a passphrase is refused, with the command that signs by hand."""
    key = make_key(tmp_path / "id", "-t", "ed25519", "-N", "secret")
    with pytest.raises(EvidenceError, match=r"passphrase.*ssh-keygen -Y sign -n pveha-evidence"):
        sshsig.sign(DATA, key)


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    """A key that cannot be read is refused, and the message names it."""
    with pytest.raises(EvidenceError, match=r"gone: cannot be read \(No such file"):
        sshsig.sign(DATA, tmp_path / "gone")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that others can read is refused, and the message says chmod 600."""
    key = make_key(tmp_path / "id", "-t", "ed25519")
    key.chmod(mode)
    with pytest.raises(EvidenceError, match="chmod 600"):
        sshsig.sign(DATA, key)


def test_a_file_that_is_no_key_is_refused(tmp_path: Path, key: Path) -> None:
    """A public key, a weak key, a foreign kind of key and plain rubbish are refused before anything is signed."""
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    weak = rsa.generate_private_key(65537, 1024).private_bytes(serialization.Encoding.PEM, *private)
    foreign = dsa.generate_private_key(2048).private_bytes(serialization.Encoding.PEM, *private)
    for raw in (key.with_name("id.pub").read_bytes(), b"rubbish", b"", weak, foreign):
        path = tmp_path / "id"
        path.write_bytes(raw)
        path.chmod(0o600)
        with pytest.raises(EvidenceError, match="signing key"):
            sshsig.sign(DATA, path)


def test_a_pem_key_signs(tmp_path: Path) -> None:
    """A key in PKCS8 PEM, as other tools write it, signs as well."""
    for made in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())):
        path = tmp_path / "id.pem"
        path.write_bytes(
            made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        path.chmod(0o600)
        assert openssh_verify(tmp_path, sshsig.sign(DATA, path), sshsig.allowed_signers(WHO, path))


@pytest.mark.parametrize("identity", ["", "two words", "a,b", "*", "x\ny", '"q"', "#x", "!x"])
def test_an_identity_that_means_something_else_is_refused(key: Path, identity: str) -> None:
    """An identity with a space, comma, wildcard or line end cannot become an allowed_signers line."""
    with pytest.raises(EvidenceError, match="signer identity"):
        sshsig.allowed_signers(identity, key)
