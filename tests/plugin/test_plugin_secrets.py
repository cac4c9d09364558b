"""Canary secrets everywhere, and all said as loudly as it goes: none is in anything that a run leaves or shows."""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import real_style

from pytest_pveha.embedded import Embedded
from pytest_pveha.evidence.sshsig import throwaway_key

ROOT = Path(__file__).parents[2]

TALKATIVE = '''
import pytest


def touch_everything(site, nodes):
    deadline = site.clock.deadline(30)
    site.cluster.guests(deadline)
    for node in nodes:
        node.command(deadline, "uname", "-a")
        assert node.facts().file("/etc/hostname").exists
        try:
            node.bmc.identity(deadline)
            node.bmc.fresh_power_state(deadline)
        except Exception as error:
            print(error)


def test_that_would_break_something(run, faults, nodes):
    """Refused, for there is no consent."""
    with faults.power_cut(next(iter(nodes))):
        pass


@pytest.mark.readiness
def test_forced_failure(run, site, nodes):
    """It fails with everything in its locals."""
    touch_everything(site, nodes)
    everything = [vars(node) for node in nodes] + [vars(site.cluster), vars(site.cluster._api), run]
    assert not everything


@pytest.mark.readiness
def test_forced_error_beneath(run, site, nodes, monkeypatch):
    """A programming error, with the frames of the wire in it."""
    node = next(iter(nodes))
    for each in (node.bmc, node.ssh, site.cluster._api):
        monkeypatch.setattr(each, "_clock", None)
    try:
        node.bmc.fresh_power_state(site.clock.deadline(10))
    except AttributeError:
        site.cluster.guests(site.clock.deadline(10))


@pytest.mark.readiness
def test_forced_error_in_a_library(run, site, nodes, monkeypatch):
    """With the request in its frames."""
    def broken(*args, **more):
        raise TypeError("forced in a library")
    monkeypatch.setattr("http.client.HTTPConnection.getresponse", broken)
    site.cluster.guests(site.clock.deadline(10))


@pytest.mark.readiness
def test_forced_error_in_a_helper(run, site, nodes, monkeypatch):
    """With the login in its frames."""
    node = next(iter(nodes))
    monkeypatch.setattr("pytest_pveha.wire.ipmi.json", None)
    node.bmc.fresh_power_state(site.clock.deadline(10))


@pytest.mark.readiness
def test_forced_error_beside_a_dead_man(run, site, nodes, monkeypatch):
    """A node is told how to switch another one on, BMC password and all; then it fails with that in its frames."""
    from pytest_pveha.faults.keeping import Keeping
    from pytest_pveha.faults.power import PowerCut

    keeping = Keeping(site, "0badcafe")
    victim, *others = nodes
    dead_man = PowerCut(victim.name).dead_man(run._observer, keeping.kept("talk"))
    try:
        armed = keeping.arm("talk", dead_man, 600)
        for node in others:
            there = node.disk.names("/var/lib/pveha/0badcafe", site.clock.deadline(10))
            assert ("talk.secret" in there) == (node.name in armed.nodes)
    finally:
        keeping.clear()

    def broken(*args, **more):
        raise TypeError("forced beside a dead-man")
    monkeypatch.setattr("pytest_pveha.wire.ssh._converse", broken)
    keeping.arm("talk", dead_man, 600)


@pytest.mark.readiness
def test_forced_trouble_of_outlets(run, site, nodes):
    """The command that switches them fails, and says its login while it does."""
    pdu = nodes["pve2"].pdu
    try:
        pdu.switch("on")
    except Exception as error:
        print("outlets:", error, vars(pdu), pdu.from_nodes)
    pdu.switch("on")


@pytest.mark.readiness
def test_forced_error_beside_outlets(run, site, nodes, monkeypatch):
    """A node is told how to switch outlets on, login and all; then it fails with that in its frames."""
    from dataclasses import replace
    from pytest_pveha.faults.fault import DeadMan
    from pytest_pveha.faults.keeping import Keeping
    from pytest_pveha.faults.mains import MainsCut

    keeping = Keeping(site, "0badcafe")
    whole = MainsCut("pve2").dead_man(run._observer, keeping.kept("dark"))
    dead_man = DeadMan(tuple(replace(undo, secret="") for undo in whole.undos), whole.needed)  # the login is the first
    try:
        armed = keeping.arm("dark", dead_man, 600)
        for name in armed.nodes:
            assert "dark.outlets" in nodes[name].disk.names("/var/lib/pveha/0badcafe", site.clock.deadline(10))
    finally:
        keeping.clear()

    def broken(*args, **more):
        raise TypeError("forced beside outlets")
    monkeypatch.setattr("pytest_pveha.wire.ssh._converse", broken)
    keeping.arm("dark", dead_man, 600)


@pytest.mark.readiness
def test_forced_refusal_of_a_backup_server(run, site, nodes, monkeypatch):
    """It knows no such token; and then it fails with the token in its frames."""
    try:
        site.pbs.snapshots(site.clock.deadline(10))
    except Exception as error:
        print(error, vars(site.pbs), vars(site.pbs._api))

    def broken(*args, **more):
        raise TypeError("forced at the backup server")
    monkeypatch.setattr("http.client.HTTPConnection.getresponse", broken)
    site.pbs.version(site.clock.deadline(10))


@pytest.mark.readiness
def test_forced_refusal(run, site, nodes):
    """Refused by the API, or unknown to it."""
    site.cluster._api.get("/cluster/none", deadline=site.clock.deadline(10))
'''

CRASH = """
def pytest_runtest_logfinish(nodeid):
    if "forced_refusal" in nodeid:
        raise ValueError("forced internal error")
"""


@dataclass
class Witness:
    """Reads what ``/proc`` shows of every process, again and again, until it is dismissed."""

    needles: dict[str, bytes]
    allowed: frozenset[tuple[str, str]]
    """(canary, file) pairs that any process may show, with a reason beside where they are given."""
    shown: set[str] = field(default_factory=set)
    looks: int = 0
    kinds: set[str] = field(default_factory=set)
    """Last words of the command lines it saw: it saw the processes that matter."""

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._old = {entry.name for entry in Path("/proc").glob("[0-9]*")}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.looks += 1
            for entry in Path("/proc").glob("[0-9]*"):
                if entry.name not in self._old:
                    self._look(entry)

    def _look(self, entry: Path) -> None:
        for name in ("cmdline", "environ"):
            try:
                content = (entry / name).read_bytes()
            except OSError:
                continue
            if name == "cmdline":
                self.kinds.update(word for word in ("ipmi_child", "ipmitool", "supervisor") if word.encode() in content)
            for canary, needle in self.needles.items():
                if needle in content and (canary, name) not in self.allowed:
                    self.shown.add(f"{canary} in {name} of {(entry / 'cmdline').read_bytes()[:200]!r}")

    def dismiss(self) -> None:
        """It looks no more."""
        self._ended.set()
        self._thread.join()


@pytest.fixture(scope="module")
def site() -> Iterator[Embedded]:
    """A site described as somebody's real one."""
    with tempfile.TemporaryDirectory(prefix="pv") as name, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PVEHA_RUNTIME", name)
        with real_style.paced_site(Path(name)) as running:
            yield running


def spellings(secret: str) -> set[bytes]:
    """The secret, and how the wire or a report may write it."""
    return {
        secret.encode(),
        quote(secret, safe="").encode(),
        base64.b64encode(secret.encode()),
        secret.encode().hex().encode(),
        repr(secret)[1:-1].encode(),
    }


def body_of(key: Path) -> str:
    """A line of the key file that is the private part of that key alone."""
    return key.read_text().splitlines()[-2][-40:]


@pytest.mark.parametrize("loud", [False, True], ids=["as usual", "as loud as it goes"])
def test_no_secret_is_shown_or_left(site: Embedded, tmp_path: Path, loud: bool) -> None:
    """Token, BMC password, outlets' login, SSH key, evidence key and what env: and cmd: give are in no file, output or
    process list."""
    described = real_style.describe(site, consent=False)
    token, password = ((site.runtime / name).read_text().strip() for name in ("token", "bmc-password"))
    ssh_key = Path(described["nodes"]["pve1"]["ssh"]["key_file"])
    throwaway_key(tmp_path / "evidence", "canary")
    described["cluster"]["api"]["token_secret"] = "env:CANARY_TOKEN"
    for node in described["nodes"].values():
        node["bmc"]["password"] = f"cmd:cat {shlex.quote(str(site.runtime / 'bmc-password'))}"
    described["nodes"]["pve3"]["bmc"]["cipher"] = 8  # only ipmitool speaks that one, and this BMC does not
    described["evidence"] = {
        "signing_key": f"cmd:cat {shlex.quote(str(tmp_path / 'evidence'))}",
        "signer": "ha-team@example.org",
    }
    (tmp_path / "pbs").write_text("canary-of-the-backup-server")
    (tmp_path / "pbs").chmod(0o600)
    (tmp_path / "outlets").write_text('user = "pdu-admin:canary-of-the-outlets"\n')
    (tmp_path / "outlets").chmod(0o600)
    described["nodes"]["pve2"]["pdu"] = {
        "off": ["true"],
        "on": ["sh", "-c", f"cat {shlex.quote(str(tmp_path / 'outlets'))} >&2; exit 3"],
        "from_nodes": {
            "on": ["curl", "--config", "{secret}", "http://pdu.invalid/pve2"],
            "status": ["uname"],
            "secret": f"file:{tmp_path / 'outlets'}",
        },
    }
    host, _, port = described["cluster"]["api"]["endpoints"][0].rpartition(":")
    described["backup"] = {
        "storage": "pbs1",
        "pbs": {
            "server": host, "port": int(port), "datastore": "main", "token_id": "pveha@pbs!talk",
            "token_secret": f"file:{tmp_path / 'pbs'}", "ca_file": described["cluster"]["api"]["ca_file"],
        },
    }  # fmt: skip
    canaries = {
        "backup server's token": "canary-of-the-backup-server",
        "outlets' login": "canary-of-the-outlets",
        "token": token,
        "BMC password": password,
        "SSH key": body_of(ssh_key),
        "evidence key": body_of(tmp_path / "evidence"),
    }
    assert all(len(secret) >= 12 for secret in canaries.values())
    place = tmp_path / "place"
    (place / "suites").mkdir(parents=True)
    (place / "suites" / "test_talk.py").write_text(TALKATIVE)
    (place / "suites" / "conftest.py").write_text(CRASH)
    (place / "tmp").mkdir()
    inventory = real_style.write(described, place / "real.yml")
    loudly = [
        "-vv", "-l", "--tb=long", "--full-trace", "-rA", "--capture=no",
        "--log-level=DEBUG", "--log-cli-level=DEBUG", f"--log-file={place / 'log'}",
    ]  # fmt: skip
    # secrets given by env: are in the environment of whoever typed the command, and of what heals in its stead
    witness = Witness({name: text.encode() for name, text in canaries.items()}, frozenset({("token", "environ")}))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "pytest_pveha.plugin", "-p", "pytest_metadata.plugin",
            "-p", "pytest_html.plugin", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"),
            f"--pveha-inventory={inventory}", f"--pveha-reports={place / 'reports'}",
            "-m", "destructive or not destructive",
            *(loudly if loud else []), f"--rootdir={place}", str(place / "suites"),
        ],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PVEHA_STATE": str(place / "state"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CANARY_TOKEN": token,
            "TMPDIR": str(place / "tmp"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    witness.dismiss()
    told = done.stdout + done.stderr
    assert b"forced at the backup server" in told or not loud
    for said in (
        b"forced internal error",
        b"forced beside a dead-man",
        b"forced beside outlets",
        b"ended with status 3: ***",
    ):  # the latter comes once one was armed
        assert said in told, told.decode()
    assert "ipmi_child" in witness.kinds
    assert witness.looks > 20
    assert witness.shown == set()
    (folder,) = (place / "reports" / "realish").iterdir()
    papers = {"journal.jsonl", "verdict.json", "report.html", "junit.xml", "pytest.html", "MANIFEST.sig"}
    assert papers <= {path.name for path in folder.iterdir()}, told.decode()
    left = {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file() and not path.is_symlink()}
    if loud:
        assert len(left[str(place / "log")]) > 10_000, "the libraries said nothing, so nothing is proven"
    left["what was printed"] = told
    found = [
        f"{name} in {where}: …{content[max(0, place_ - 80) : place_ + 20]!r}"
        for where, content in left.items()
        for name, secret in canaries.items()
        for spelled in spellings(secret)
        if (place_ := content.find(spelled)) >= 0
    ]
    assert found == []
    assert not re.search(rb"BEGIN OPENSSH PRIVATE KEY", b"".join(left.values()))
    assert list((place / "tmp").iterdir()) == []
