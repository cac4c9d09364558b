"""Seals and reports as those read them who have none of our software: OpenSSH, OpenSSL and a browser."""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packages import PACKAGES, lacks

from pytest_pveha.evidence.seal import seal
from pytest_pveha.evidence.sshsig import throwaway_key
from pytest_pveha.report.html import render

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import report_samples

pytestmark = pytest.mark.daemons

WHO = "ha-team@example.org"
SPKI = bytes.fromhex("302a300506032b6570032100")
"""What stands before an Ed25519 key in a PEM file (RFC 8410 §4)."""
NASTY = (
    '<script>document.title="executed"</script>',
    '<img src="http://probe.example/x" onerror="document.title=\'executed\'">',
    '"><svg onload=document.title="executed">',
    "</style><style>@import url(http://probe.example/y)",
)
"""What a guest, a node or a test may be called."""
OF_THE_BROWSER = (".google.com", ".googleapis.com", ".gvt1.com")


def needs(tool: str) -> pytest.MarkDecorator:
    """The mark of tests that need that tool."""
    return pytest.mark.skipif(lacks(tool), reason=f"{tool} is not installed: apt-get install {PACKAGES[tool]}")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A sealed run folder."""
    folder = tmp_path / "run"
    (folder / "raw").mkdir(parents=True)
    opening = {"kind": "run.open", "data": {"simulated": True}}
    (folder / "journal.jsonl").write_text(json.dumps(opening) + "\n")
    (folder / "verdict.json").write_text('{"simulated": true, "verdict": "accepted (simulated)"}\n')
    (folder / "raw" / "Straße 1.txt").write_text("raw")
    throwaway_key(tmp_path / "id", "of a test")
    seal(folder, tmp_path / "id", WHO)
    return folder


def tell(*words: str | Path, input: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """How that command ended."""
    return subprocess.run(words, input=input, capture_output=True, timeout=120, check=check)


@needs("ssh-keygen")
def test_openssh_reads_the_seal(run: Path) -> None:
    """It names the signer, accepts what was sealed, and refuses another text, namespace or signer."""
    manifest = (run / "MANIFEST").read_bytes()

    def said(text: bytes, namespace: str = "pveha-evidence", who: str = WHO) -> subprocess.CompletedProcess[bytes]:
        words = ["-f", run / "allowed_signers", "-I", who, "-n", namespace, "-s", run / "MANIFEST.sig"]
        return tell("ssh-keygen", "-Y", "verify", *words, input=text, check=False)

    good = said(manifest)
    assert good.returncode == 0
    assert f'Good "pveha-evidence" signature for {WHO} with ED25519 key'.encode() in good.stdout
    for bad in (said(manifest + b" "), said(manifest, namespace="file"), said(manifest, who="somebody@example.org")):
        assert bad.returncode != 0
    found = tell("ssh-keygen", "-Y", "find-principals", "-f", run / "allowed_signers", "-s", run / "MANIFEST.sig")
    assert found.stdout == f"{WHO}\n".encode()


@needs("openssl")
def test_openssl_reads_the_seal(run: Path, tmp_path: Path) -> None:
    """Taken apart by its specification alone, the signature holds for the manifest, and the manifest for each file."""
    lines = (run / "MANIFEST.sig").read_text().split("\n")
    blob = base64.b64decode("".join(lines[1 : lines.index("-----END SSH SIGNATURE-----")]))
    assert blob[:10] == b"SSHSIG" + struct.pack(">I", 1)  # PROTOCOL.sshsig
    key, namespace, reserved, hashed, signature = strings(blob[10:])
    assert (namespace, reserved, hashed) == (b"pveha-evidence", b"", b"sha512")
    digest = bytes.fromhex(tell("openssl", "dgst", "-sha512", "-r", run / "MANIFEST").stdout.split()[0].decode())
    pem = base64.b64encode(SPKI + strings(key)[1]).decode()
    (tmp_path / "key.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n")
    (tmp_path / "value").write_bytes(strings(signature)[1])
    for text, status in ((digest, 0), (bytes(64), 1)):
        (tmp_path / "text").write_bytes(b"SSHSIG" + b"".join(map(string, (namespace, reserved, hashed, text))))
        words = ["-verify", "-pubin", "-inkey", tmp_path / "key.pem", "-rawin", "-in", tmp_path / "text"]
        assert tell("openssl", "pkeyutl", *words, "-sigfile", tmp_path / "value", check=False).returncode == status
    listed = dict(line.split("  ", 1)[::-1] for line in (run / "MANIFEST").read_text().splitlines())
    assert set(listed) == {"SIMULATED", "journal.jsonl", "raw/Straße 1.txt", "verdict.json"}
    for name, value in listed.items():
        assert tell("openssl", "dgst", "-sha256", "-r", run / name).stdout.split()[0].decode() == value


def string(value: bytes) -> bytes:
    """As SSH writes it (RFC 4251 §5)."""
    return struct.pack(">I", len(value)) + value


def strings(data: bytes) -> list[bytes]:
    """The strings that stand there, one behind the other."""
    found = []
    while data:
        size = struct.unpack(">I", data[:4])[0]
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


# --- in a browser -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """What Chromium made of a page."""

    dom: str
    console: list[str]
    hosts: set[str]
    """Whom the page wanted something from; not whom the browser asks for its own updates."""

    @property
    def title(self) -> str:
        found = re.search(r"<title>(.*?)</title>", self.dom, re.DOTALL)
        return found[1] if found else ""


def opened(page: str, folder: Path) -> Opened:
    """The page, opened from a file as a person does, without any network."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    words = [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={folder / 'net.json'}", "--virtual-time-budget=3000",
        "--dump-dom", (folder / "page.html").as_uri(),
    ]  # fmt: skip
    done = tell("unshare", "--net", *words)
    console = [line for line in done.stderr.decode(errors="replace").split("\n") if ":CONSOLE" in line]
    log = json.loads((folder / "net.json").read_text())
    urls = {event["params"]["url"] for event in log["events"] if "url" in event.get("params", {})}
    hosts = {urlsplit(url).hostname or "" for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    return Opened(done.stdout.decode(), console, {host for host in hosts if not host.endswith(OF_THE_BROWSER)})


@needs("chromium")
@needs("unshare")
def test_the_browser_would_tell(tmp_path: Path) -> None:
    """A page that does what a report must not do is caught at each of it."""
    found = opened(f"<title>x</title><p>{''.join(NASTY)}<script>console.error('spoke')</script>", tmp_path)
    assert found.title == "executed"
    assert any("spoke" in line for line in found.console)
    assert found.hosts == {"probe.example"}


@needs("chromium")
@needs("unshare")
@pytest.mark.parametrize("rejected", [False, True])
def test_a_report_opens_in_a_browser(tmp_path: Path, rejected: bool) -> None:
    """Nothing is asked of anybody, nothing complains, no name acts, and every name is there to be read."""
    verdict, timelines, environment = report_samples.run(rejected=rejected)
    for index, test in enumerate(verdict["tests"]):
        test["title"] += NASTY[index % len(NASTY)]
        for number, claim in enumerate(test["claims"]):
            claim["subject"] += NASTY[number % len(NASTY)]
    found = opened(render(verdict, timelines, environment), tmp_path)
    assert found.console == []
    assert found.hosts == set()
    assert found.title not in ("", "executed")
    assert 'document.title="executed"' in found.dom  # as text
    assert "</html>" in found.dom
