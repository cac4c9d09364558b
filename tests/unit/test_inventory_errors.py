"""Every way an inventory can be wrong gives one message that says where, what, and what is expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from inventory_texts import CONSENT, REAL, SIMULATED

from pytest_pveha.errors import InventoryError
from pytest_pveha.inventory import document, load


def refusal(folder: Path, text: str | bytes) -> str:
    """What loading says, the file spelled ``site.yml``."""
    path = folder / "site.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InventoryError) as caught:
        load(path)
    assert caught.value.__cause__ is None
    return str(caught.value).replace(str(path), "site.yml")


def real(old: str, new: str) -> str:
    """The small real inventory with one thing changed."""
    assert REAL.count(old) >= 1, old
    return REAL.replace(old, new, 1)


def simulated(old: str, new: str) -> str:
    """The small simulated inventory with one thing changed."""
    assert SIMULATED.count(old) >= 1, old
    return SIMULATED.replace(old, new, 1)


def consenting(old: str, new: str) -> str:
    """The small real inventory with a consent in which one thing is changed."""
    assert CONSENT.count(old) == 1, old
    return REAL + CONSENT.replace(old, new, 1)


CASES: dict[str, str | bytes] = {
    # the file as a whole
    "empty": "",
    "only comments": "# nothing\n",
    "a list": "- a\n- b\n",
    "a word": "\nhello\n",
    "binary": b"site: {name: a}\n\xff\xfe\x00",
    "control character": "site:\n  name: a\x00\n",
    "open quote": "site:\n  name: 'small\n",
    "bad indentation": "site:\n  name: a\n version: b\n",
    "tab": "site:\n\tname: a\n",
    "unknown alias": "site: *nowhere\n",
    "two documents": "site: {name: a}\n---\nsite: {name: b}\n",
    "wrong directive": "%YAML 9.9\n---\nsite: a\n",
    "nested without end": "[" * 5000,
    "lists without end": "- " * 5000,
    "block inside itself": real("site: {name: small}", "site: &me {name: *me}"),
    "deep": real("{name: small}", "[" * 45 + "]" * 45),
    "alias bomb": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
    ),
    "merge bomb": ("a: &a {k: 1}\nb: &b {<<: [" + "*a," * 400 + "]}\nc: &c {<<: [" + "*b," * 400 + "]}\n"),
    "merge of a word": real("site: {name: small}", "site: {<<: word, name: small}"),
    "duplicate key": real("  pve2:\n", "  pve1:\n"),
    "foreign tag": real("name: small", "name: !!python/object:os.system small"),
    "tagged list": real("[192.0.2.11, 192.0.2.12]", "!set [192.0.2.11, 192.0.2.12]"),
    "key is a list": real("site: {name: small}", "site: {name: small, [a]: 1}"),
    "no value": REAL + "ceph:\n",
    "endless number": real("port: 443", "port: " + "9" * 5000),
    # keys and types
    "unknown block": REAL + "cepth: {}\n",
    "unknown key": real("password: env:BMC}", "passwort: env:BMC}"),
    "unknown key like nothing": real("{name: small}", "{name: small, zzz: 1}"),
    "missing block": real("site: {name: small}\n", ""),
    "missing key": real("    tier: gold\n", ""),
    "block is text": real("{name: small}", "small"),
    "names are a list": real("    gold: {rto: 5 min}", "    - gold"),
    "list is text": real("[192.0.2.11, 192.0.2.12]", "192.0.2.11"),
    "number is text": real("bmc: {", "bmc: {cipher: many, "),
    "number has a point": real("bmc: {", "bmc: {cipher: 3.5, "),
    "number too small": real("bmc: {", "bmc: {cipher: 0, "),
    "speed is text": simulated("{seed: 1}", "{speed: fast}"),
    "speed is not finite": simulated("{seed: 1}", "{speed: .nan}"),
    "flag is text": REAL + "replication: {manual_failover: maybe}\n",
    "choice": real("bmc: {", "bmc: {driver: ipmitool, "),
    "choice is a number": real("bmc: {", "bmc: {driver: 1, "),
    "too few": simulated("nodes:\n  pve1: {room: a}\n  pve2: {}", "nodes: {}"),
    "version is a number": real("{name: small}", "{name: small, version: 1.10}"),
    "version is a word": real("{name: small}", "{name: small, version: latest}"),
    "label is a number": real("name: shop", "name: 12"),
    "label is a list": real("name: shop", "name: [shop]"),
    "site name": real("small", "../small"),
    "site name with capitals": real("small", "Small"),
    "cluster name": real("prod1", "a name with spaces"),
    "node name": simulated("pve2: {}", "pve_2: {}"),
    "guest id": real("id: vm:101", 'id: "101"'),
    "network name": REAL + "networks: {corosync: {cidr: 192.0.2.0/24}}\n",
    "address": real("address: 192.0.2.11", "address: 192.0.2.300"),
    "address with scheme": real("address: 192.0.2.11", "address: https://192.0.2.11"),
    "endpoint port": real("[192.0.2.11,", "[192.0.2.11:99999,"),
    "port": real("port: 443", "port: 0"),
    "port is text": real("port: 443", "port: https"),
    "token id": real("pveha@pve!run", "pveha"),
    "url with password": real("{tcp: {host: 192.0.2.101, port: 443}}", "{http: {url: 'http://u:p@x.example/'}}"),
    "token id with its secret": real("pveha@pve!run", "pveha@pve!run=canary-secret"),
    "endpoint with a password": real("[192.0.2.11,", '["https://u:canary-secret@192.0.2.11",'),
    "secret that looks like an alias": real("password: env:BMC", "password: *canary-secret"),
    "secret that looks like a tag": real("password: env:BMC", "password: !canary-secret"),
    "secret without a blank": real("password: env:BMC", "password:canary-secret"),
    "secret that looks like a tag handle": real("password: env:BMC", "password: !canary-secret!x"),
    "cidr": REAL + "networks: {bmc: {cidr: 192.0.2.1/24}}\n",
    "jump": real("known_hosts}", "known_hosts, jump: bastion}"),
    "fingerprint": real("ca_file: ca.pem", "fingerprints: {192.0.2.11: AB:CD}"),
    "file name": real("ca_file: ca.pem", 'ca_file: "a\\nb"'),
    "duration without unit": real("rto: 5 min", "rto: 300"),
    "duration with point without unit": real("rto: 5 min", "rto: 1.50"),
    "duration with unknown unit": real("rto: 5 min", "rto: 5 m"),
    "duration zero": real("rto: 5 min", "rto: 0 s"),
    "duration too long": real("rto: 5 min", "rto: 999999999 days"),
    "duration is a list": real("rto: 5 min", "rto: [5 min]"),
    "size": simulated("{seed: 1}", "{node_memory: 64 GB}"),
    "size is a number": simulated("{seed: 1}", "{node_memory: 64}"),
    "boot seconds": simulated("{seed: 1}", "{boot_seconds: 3 min}"),
    "boot seconds out of range": simulated("{seed: 1}", "{boot_seconds: -1}"),
    "moment": consenting("2026-03-01T20:00:00Z", "soon"),
    "moment without zone": consenting("2026-03-01T20:00:00Z", "2026-03-01 20:00"),
    "day": REAL + "waivers: [{test: t, reason: r, owner: o, expires: 2026-02-30}]\n",
    "literal secret": real("token_secret: env:TOKEN", "token_secret: hunter2"),
    "literal secret that is a number": real("token_secret: env:TOKEN", "token_secret: 12345678"),
    "secret names nothing": real("token_secret: env:TOKEN", "token_secret: 'file: '"),
    "secret variable": real("token_secret: env:TOKEN", "token_secret: env:not-a-name"),
    "secret command quote": real("token_secret: env:TOKEN", "token_secret: 'cmd:pass \"x'"),
    "literal key": REAL + 'evidence: {signer: a, signing_key: "-----BEGIN OPENSSH"}\n',
    # between the blocks
    "node twice but for case": simulated("pve2: {}", "PVE1: {}"),
    "address twice": real("address: 192.0.2.12", "address: 192.0.2.11"),
    "BMC twice": real("198.51.100.12", "198.51.100.11"),
    "BMC twice in another spelling": real("198.51.100.11", "bmc.example").replace("198.51.100.12", "BMC.example"),
    "BMC identity twice": REAL.replace("password: env:BMC", 'password: env:BMC, identity: {mac: "02:00:00:00:00:01"}'),
    "guest twice": simulated("ct:102", "ct:101"),
    "guest name twice": (
        simulated('preferred_node: pve1}\n  - {id: "ct:102",', 'name: a}\n  - {id: "ct:102", name: a,')
    ),
    "endpoint twice": real("[192.0.2.11, 192.0.2.12]", '[192.0.2.11, "192.0.2.11:8006"]'),
    "unknown node": simulated("preferred_node: pve1", "preferred_node: pve11"),
    "unknown tier": real("tier: gold", "tier: golden"),
    "unknown tier in a scenario": REAL + "  scenarios: {power_loss: {bronze: {rto: 1 h}}}\n",
    "unknown tier in backup": REAL + "backup: {storage: pbs, tiers: [bronze]}\n",
    "unknown guest in replication": REAL + 'replication: {guests: ["vm:102"]}\n',
    "unknown node in the simulator": simulated("{seed: 1}", '{guests: [{id: "vm:101", node: pve9}]}'),
    "another unknown node in the simulator": simulated("{seed: 1}", "{nodes: [{name: pve9}]}"),
    "node played twice": simulated("{seed: 1}", "{nodes: [{name: pve1}, {name: pve1}]}"),
    "simulated rule about nobody": simulated("{seed: 1}", '{rules: {a: {affinity: positive, guests: ["vm:999"]}}}'),
    "simulated rule without nodes": simulated("{seed: 1}", '{rules: {a: {affinity: node, guests: ["vm:101"]}}}'),
    "simulated group of unknown nodes": simulated("{seed: 1}", "{groups: {a: {nodes: {pve9: 1}}}}"),
    "guest in an unknown simulated group": simulated("{seed: 1}", '{guests: [{id: "vm:101", group: east}]}'),
    "guest played as another kind": simulated("{seed: 1}", '{guests: [{id: "ct:101"}]}'),
    "guest played twice": simulated("{seed: 1}", '{guests: [{id: "vm:101"}, {id: "vm:101"}]}'),
    "BMC of an unknown node": simulated("{seed: 1}", "{bmcs: [{node: pve9}]}"),
    "BMC played twice": simulated("{seed: 1}", "{bmcs: [{vendor: ilo}, {vendor: idrac}]}"),
    "BMC too slow": simulated("{seed: 1}", "{bmcs: [{power_seconds: 11}]}"),
    "defect twice": simulated("{seed: 1}", "{defects: [never-fences, never-fences]}"),
    "probe with two": real("port: 443}}", "port: 443}, agent: true}"),
    "probe with none": real("{tcp: {host: 192.0.2.101, port: 443}}", "{}"),
    "network with both": REAL + "networks: {bmc: {cidr: 192.0.2.0/24, interface: eno1}}\n",
    "network with none": REAL + "networks: {bmc: {switch: sw1}}\n",
    "two host keys": real("{known_hosts: known_hosts}", '{known_hosts: k, host_key: "ssh-ed25519 AAAA"}'),
    "key of the other driver": real("bmc: {", "bmc: {driver: redfish, ca_file: ca.pem, cipher: 3, "),
    "key without signer": REAL + "evidence: {signing_key: key}\n",
    "CA file and fingerprints": real(
        "ca_file: ca.pem", f"ca_file: ca.pem\n    fingerprints: {{192.0.2.11: {'ab' * 32}, 192.0.2.12: {'ab' * 32}}}"
    ),
    "fingerprint of nobody": real(
        "ca_file: ca.pem",
        f"fingerprints: {{192.0.2.11: {'ab' * 32}, 192.0.2.12: {'ab' * 32}, 192.0.2.13: {'ab' * 32}}}",
    ),
    "endpoint without fingerprint": real("ca_file: ca.pem", f"fingerprints: {{192.0.2.11: {'ab' * 32}}}"),
    "jump over itself": real("known_hosts}", "known_hosts, jump: root@pve1}"),
    "jump over another node": real("known_hosts}", "known_hosts, jump: 'root@192.0.2.12:2222'}"),
    "consent for another cluster": consenting("cluster: prod1", "cluster: prod2"),
    "consent window": consenting("2026-03-02T04", "2026-03-01T04"),
    "consent kind": consenting("[power]", "[pwoer]"),
    "consent target": consenting("targets: all", "targets: [pve3]"),
    "consent for all and one": consenting("targets: all", "targets: [all, pve1]"),
    "consent without targets": consenting("targets: all", "targets: []"),
    "consent digest": consenting("ticket:", "node_digest: abc\n  ticket:"),
    "consent by a word": consenting("destructive: true", "destructive: 'yes'"),
    "approval by another name": consenting(
        "targets: all", "targets: all\n  approval: {file: plan.sig, allowed_signers: approvers}"
    ),
    "protected node": consenting("targets: all", "targets: all\n  never_touch: {nodes: [pve7]}"),
    "restore numbers": REAL + "backup: {storage: pbs, restore: {ids: [9099, 9000], storage: ssd}}\n",
    "restore over a guest": REAL + "backup: {storage: pbs, restore: {ids: [100, 200], storage: ssd}}\n",
    "restore with three numbers": REAL + "backup: {storage: pbs, restore: {ids: [1000, 2000, 3000], storage: ssd}}\n",
    # a real site says what the simulator would supply
    "no API": real(REAL[REAL.index("  api:") : REAL.index("nodes:")], ""),
    "one endpoint": real("[192.0.2.11, 192.0.2.12]", "[192.0.2.11]"),
    "API without anything": real(REAL[REAL.index("  api:") : REAL.index("nodes:")], "  api: {}\n"),
    "node without address": real("    address: 192.0.2.11\n", ""),
    "node without host key": real("    ssh: {known_hosts: known_hosts}\n", ""),
    "BMC without password": real(", password: env:BMC", ""),
    "redfish without certificate": real("bmc: {", "bmc: {driver: redfish, "),
    "redfish with both means": real("bmc: {", f"bmc: {{driver: redfish, ca_file: ca.pem, fingerprint: {'ab' * 32}, "),
    "guest without probes": real("    probes: [{tcp: {host: 192.0.2.101, port: 443}}]\n", ""),
    "probe without host": real("host: 192.0.2.101, ", ""),
    "several at once": real("port: 443", "port: 0").replace("rto: 5 min", "rto: 5").replace("id: vm:101", "id: x"),
}


MESSAGES = Path(__file__).with_suffix(".txt")


def messages() -> dict[str, str]:
    """The messages as a person reads them, by the title of their case; kept beside this file."""
    blocks = MESSAGES.read_text(encoding="utf-8").split("\n## ")[1:]
    return {title: text.strip() for title, _, text in (block.partition("\n") for block in blocks)}


@pytest.mark.parametrize("title", CASES)
def test_each_mistake_gives_its_message(title: str, tmp_path: Path) -> None:
    """A mistake in an inventory is told as file, line, key, what is wrong and what is expected."""
    assert refusal(tmp_path, CASES[title]) == messages()[title]


def test_no_message_is_left_over() -> None:
    """Each message that is kept belongs to a case."""
    assert list(messages()) == list(CASES)


def test_messages_never_repeat_secrets() -> None:
    """What was typed where a secret belongs is in no message."""
    text = MESSAGES.read_text(encoding="utf-8")
    assert "hunter2" not in text
    assert "canary-secret" not in text
    assert "12345678" not in text


def test_the_small_inventories_are_right_before_they_are_changed(tmp_path: Path) -> None:
    """What the cases start from loads."""
    for text in (REAL, SIMULATED, REAL + CONSENT):
        path = tmp_path / "site.yml"
        path.write_text(text)
        assert load(path).model.site.name in ("small", "tiny")


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said, with what to try."""
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "none.yml")
    assert str(caught.value) == (
        f"{tmp_path}/none.yml: there is no such file; name your inventory, or try inventories/sim-3node.yml"
    )


def test_directory(tmp_path: Path) -> None:
    """A directory is refused as one."""
    with pytest.raises(InventoryError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a directory; expected one YAML file"


def test_fifo_does_not_hang(tmp_path: Path) -> None:
    """A FIFO nobody writes to is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "pipe")
    assert str(caught.value) == f"{tmp_path}/pipe: is no regular file; expected one YAML file"


def test_endless_device() -> None:
    """A device that never ends is refused, not read."""
    with pytest.raises(InventoryError, match="is no regular file"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("a\0b", "not a usable file name"), ("x" * 300, "File name too long"), ("site.yml/more", "Not a directory")],
)
def test_impossible_file_names(name: str, why: str, tmp_path: Path) -> None:
    """A file name that cannot be is told without a traceback."""
    (tmp_path / "site.yml").write_text(REAL)
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / name)
    assert str(caught.value).endswith(f": cannot be read: {why}; expected a readable YAML file")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file we may not read is told; the kernel's refusal is played, for root may read everything."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pytest_pveha.inventory.document.os.open", refuse)
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "site.yml")
    assert str(caught.value) == (
        f"{tmp_path}/site.yml: cannot be read: Permission denied; expected a readable YAML file"
    )


def test_read_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails while we read is told."""

    def fail(*_: object, **__: object) -> object:
        raise OSError(5, "Input/output error")

    (tmp_path / "site.yml").write_text(REAL)
    monkeypatch.setattr("pytest_pveha.inventory.document.os.fdopen", fail)
    with pytest.raises(InventoryError, match="cannot be read: Input/output error"):
        load(tmp_path / "site.yml")


def test_huge_file(tmp_path: Path) -> None:
    """A file far too large is refused before it is parsed."""
    (tmp_path / "site.yml").write_bytes(b"#" * (document.MAX_BYTES + 1))
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "site.yml")
    assert str(caught.value) == (f"{tmp_path}/site.yml: is larger than 256 KiB; expected an inventory, one site a file")


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """An escape sequence in a key is shown, not sent."""
    text = refusal(tmp_path, real("{name: small}", '{name: small, "\\e[2J": 1}'))
    assert text == "site.yml:1: site.\N{REPLACEMENT CHARACTER}[2J: unknown key; expected one of name, version"


def test_a_slip_of_the_parser_is_still_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the YAML library raises on mad input becomes an inventory error."""

    def slip(*_: object) -> object:
        raise IndexError("list index out of range")

    monkeypatch.setattr("pytest_pveha.inventory.document.YAML.compose", slip)
    assert refusal(tmp_path, REAL) == "site.yml:1: not valid YAML (IndexError)"
