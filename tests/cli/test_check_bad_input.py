"""``pveha check`` when one thing about a real site is wrong: one clear message, and nothing is broken."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Done, Realish
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pytest_pveha.inventory import node_digest

Described = dict[str, Any]


@contextmanager
def nobody() -> Iterator[int]:
    """A port of this machine at which nobody answers: taken, and not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def secret(place: Path, text: str, mode: int = 0o600) -> str:
    """A reference to a file with that secret."""
    path = place / "secret"
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return f"file:{path}"


def other_host_key() -> str:
    """A public host key that no node has."""
    public = Ed25519PrivateKey.generate().public_key()
    form = serialization.PublicFormat.OpenSSH
    return public.public_bytes(serialization.Encoding.OpenSSH, form).decode()


def refused(done: Done, count: int = 1) -> list[str]:
    """The lines that say NO; everything else was asked and is OK."""
    found = done.starting("NO")
    assert len(found) == count, done.out
    assert done.code == 1
    return found


def test_unreachable_api(realish: Realish, tmp_path: Path) -> None:
    """Nobody at any endpoint: each is named, the readiness checks are not asked, and it cannot be told."""
    described = realish.describe()
    with nobody() as port, nobody() as other:
        described["cluster"]["api"]["endpoints"] = [f"127.0.0.1:{port}", f"127.0.0.1:{other}"]
        done = realish.check(described, tmp_path)
    assert done.code == 6
    lines = done.starting("CAN'T TELL")
    assert f"127.0.0.1:{port}" in lines[0]
    assert f"127.0.0.1:{other}" in lines[1]
    assert "refused" in lines[0]
    assert "readiness checks: not asked" in lines[2]
    assert len(lines) == 3
    assert realish.touched() == []


def test_one_endpoint_of_three_is_unreachable(realish: Realish, tmp_path: Path) -> None:
    """The others answer for the cluster; what hangs on that node's own view cannot be told, and says why, or where."""
    described = realish.describe()
    with nobody() as port:
        described["cluster"]["api"]["endpoints"][1] = f"127.0.0.1:{port}"
        done = realish.check(described, tmp_path)
    assert done.code == 6
    line, view, storages = done.starting("CAN'T TELL")
    assert f"127.0.0.1:{port}" in line
    assert view.endswith(": as said of “API at pve2”")
    assert f"GET /nodes/pve2/storage: no API endpoint answered: pve2 (127.0.0.1:{port})" in storages


def test_wrong_token(realish: Realish, tmp_path: Path) -> None:
    """Each endpoint refuses the token by its id; the wrong secret is shown nowhere."""
    described = realish.describe()
    described["cluster"]["api"]["token_secret"] = secret(tmp_path, "not-the-secret")
    done = realish.check(described, tmp_path)
    lines = refused(done, 3)
    assert all("refused the API token pveha@pve!run" in line and "Check its id, secret" in line for line in lines)
    assert "not-the-secret" not in done.out + done.err
    assert realish.touched() == []


def test_wrong_certificate(realish: Realish, tmp_path: Path) -> None:
    """A pinned certificate that is another one: both fingerprints, and nothing was sent."""
    described = realish.describe(pinned=True)
    endpoint = described["cluster"]["api"]["endpoints"][0]
    described["cluster"]["api"]["fingerprints"] = {
        each: ":".join(["AB"] * 32) for each in described["cluster"]["api"]["endpoints"]
    }
    lines = refused(realish.check(described, tmp_path), 3)
    assert endpoint in lines[0]
    assert "Nothing was sent to it" in lines[0]


def test_changed_host_key(realish: Realish, tmp_path: Path) -> None:
    """The node, both fingerprints and what to do are said once; later lines only refer to it."""
    described = realish.describe()
    described["nodes"]["pve2"]["ssh"]["host_key"] = other_host_key()
    done = realish.check(described, tmp_path)
    (line,) = refused(done)
    assert line.startswith("NO          SSH to pve2: ")
    assert "its host key is another one" in line
    assert "We did not log in" in line
    assert done.out.count("its host key is another one") == 1
    assert realish.touched() == []


def test_wrong_login_key(realish: Realish, tmp_path: Path) -> None:
    """A private key that the node does not know: the node, the key file, and what to look at."""
    described = realish.describe()
    key = tmp_path / "id"
    key.touch(mode=0o600)
    key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    described["nodes"]["pve3"]["ssh"]["key_file"] = str(key)
    (line,) = refused(realish.check(described, tmp_path))
    assert line.startswith("NO          SSH to pve3: ")
    assert str(key) in line
    assert "authorized_keys" in line


def test_wrong_bmc_password(realish: Realish, tmp_path: Path) -> None:
    """The BMC is there and refuses; the password is shown nowhere, and no power command went out."""
    described = realish.describe()
    described["nodes"]["pve1"]["bmc"]["password"] = secret(tmp_path, "not-the-word")
    done = realish.check(described, tmp_path)
    (line,) = refused(done)
    assert line.startswith("NO          BMC of pve1: ")
    assert "refused user 'pveha'" in line
    assert "check user, password" in line
    assert "not-the-word" not in done.out + done.err
    assert realish.touched() == []


def test_another_machines_bmc(realish: Realish, tmp_path: Path) -> None:
    """A BMC with another MAC than the inventory's may be another machine's: its power must never be cut."""
    described = realish.describe()
    described["nodes"]["pve1"]["bmc"]["identity"] = {"mac": "02:00:00:00:00:0a"}
    described["nodes"]["pve2"]["bmc"]["identity"] = {"mac": "02:00:00:00:00:02"}
    (line,) = refused(realish.check(described, tmp_path))
    assert line.startswith("NO          BMC of pve1: the BMC reached is not pve1's own: MAC address")
    assert "the BMC says 02:00:00:00:00:01, pve1 has 02:00:00:00:00:0a" in line


def test_guid_in_either_byte_order(realish: Realish, tmp_path: Path) -> None:
    """Boards and ipmitool print a GUID in either order; both are the same machine."""
    described = realish.describe()
    described["nodes"]["pve1"]["bmc"]["identity"] = {"guid": "00000000-4000-8000-0000-000000000001"}
    described["nodes"]["pve2"]["bmc"]["identity"] = {"guid": "02000000-0000-0000-0080-004000000000"}
    done = realish.check(described, tmp_path)
    assert done.code == 0, done.out


def expired(described: Described) -> str:
    described["consent"]["not_after"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="seconds")
    return "consent.not_after: it expired"


def not_yet(described: Described) -> str:
    described["consent"]["not_before"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    return "consent.not_before: the window opens"


def for_other_nodes(described: Described) -> str:
    described["consent"]["node_digest"] = node_digest(["pve1", "pve2", "pve4"])
    return "consent.node_digest: is sha256:"


@pytest.mark.parametrize("spoil", [expired, not_yet, for_other_nodes])
def test_consent_that_does_not_hold(realish: Realish, tmp_path: Path, spoil: Callable[[Described], str]) -> None:
    """The line names the key of the consent, says what is wrong with it and what to do."""
    described = realish.describe()
    words = spoil(described)
    (line,) = refused(realish.check(described, tmp_path))
    assert words in line
    assert "renew" in line
    assert realish.touched() == []


def test_consent_for_another_cluster_in_the_file(realish: Realish, tmp_path: Path) -> None:
    """An inventory whose consent names another cluster than itself is wrong by itself: file, line, exit code 4."""
    described = realish.describe()
    described["consent"]["cluster"] = "prod-west"
    done = realish.check(described, tmp_path)
    assert done.code == 4
    (line,) = done.err.splitlines()
    assert line.startswith(f"{tmp_path / 'real.yml'}:")
    assert "consent.cluster: is for cluster prod-west" in line


def test_inventory_and_consent_of_another_site(realish: Realish, tmp_path: Path) -> None:
    """Another site's inventory with this site's addresses: the live cluster's own name tells."""
    described = realish.describe()
    described["cluster"]["name"] = described["consent"]["cluster"] = "prod-west"
    lines = refused(realish.check(described, tmp_path), 2)
    assert "it answers for pveha-sim, the inventory is for prod-west" in lines[0]
    assert "this may be the wrong cluster" in lines[1]
    assert realish.touched() == []


def test_nodes_of_another_cluster(realish: Realish, tmp_path: Path) -> None:
    """A node that the inventory does not name is seen."""
    described = realish.describe()
    del described["nodes"]["pve3"]
    for guest in described["guests"]:
        if guest["preferred_node"] == "pve3":
            del guest["preferred_node"]
    described["consent"]["node_digest"] = node_digest(["pve1", "pve2"])
    done = realish.check(described, tmp_path)
    assert done.code == 1
    assert "nodes only on the site: pve3" in done.out


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:PVEHA_NO_SUCH_SECRET", "environment variable PVEHA_NO_SUCH_SECRET is not set"),
        ("file:/nonexistent/token", "/nonexistent/token cannot be read"),
        ("cmd:false", "command false ended with exit status 1"),
    ],
)
def test_a_secret_that_cannot_be_had(realish: Realish, tmp_path: Path, reference: str, words: str) -> None:
    """The place of the secret is named, once; exit code 4."""
    described = realish.describe()
    described["cluster"]["api"]["token_secret"] = reference
    done = realish.check(described, tmp_path)
    assert done.code == 4
    (line,) = done.err.splitlines()
    assert words in line


def test_a_secret_that_others_may_read(realish: Realish, tmp_path: Path) -> None:
    """A password file with a wrong mode is refused, with the command that puts it right."""
    described = realish.describe()
    described["nodes"]["pve1"]["bmc"]["password"] = secret(tmp_path, "word", 0o644)
    done = realish.check(described, tmp_path)
    assert done.code == 4
    assert f"chmod 600 {tmp_path / 'secret'}" in done.err


def test_a_file_that_does_not_exist(realish: Realish, tmp_path: Path) -> None:
    """A CA file that is not there is named; exit code 4."""
    described = realish.describe()
    described["cluster"]["api"]["ca_file"] = "no-such-ca.pem"
    done = realish.check(described, tmp_path)
    assert done.code == 4
    assert f"{tmp_path / 'no-such-ca.pem'}: cannot be read as a CA file" in done.err


def test_nothing_was_broken_by_all_of_this(realish: Realish) -> None:
    """By the site's own record nobody has touched it."""
    assert realish.touched() == []
