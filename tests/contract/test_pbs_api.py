"""The backup server's client: its login and its plain-text errors; against servers that lie, and the simulated one."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, Unreachable, UsageError
from pytest_pveha.handles.pbs import Pbs
from pytest_pveha.sim.servers.certs import Authority
from pytest_pveha.sim.servers.pbs_api import PbsServer
from pytest_pveha.wire.pbs_api import pbs_api
from pytest_pveha.wire.pve_api import PveApi, Trust
from tests.contract.https_kit import Answer, Server, Site, drip, reply, reset, stall
from tests.contract.test_pve_api import SECRET, chunked, everything, hundred_megabytes
from tests.sim.servers_kit import PlayingGate, small_site

TOKEN = "pveha@pbs!run"
CLOCK = LiveClock()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Certificates, made once."""
    return Site(tmp_path_factory.mktemp("tls"))


def client(site: Site, *answers: Answer, secret: str = SECRET) -> tuple[PveApi, Server]:
    """A client of a server that gives these answers."""
    server = Server(site, *answers)
    trust = Trust(fingerprints=(site.fingerprint,))
    return pbs_api("127.0.0.1", server.port, TOKEN, lambda: secret, trust, CLOCK), server


def test_it_logs_in_as_the_backup_server_wants(site: Site) -> None:
    """The token's secret comes after a colon, which on PVE is an equals sign."""
    api, server = client(site, reply("200 OK", {"data": {"version": "3.2"}}))
    assert api.get("/version", deadline=CLOCK.deadline(10)).value == {"version": "3.2"}
    assert server.requests[0][1]["authorization"] == f"PBSAPIToken={TOKEN}:{SECRET}"


@pytest.mark.parametrize(
    ("status", "text", "error", "said"),
    [
        ("400 Bad Request", "no such datastore 'x'", ProtocolError, r"with 400 .*no such datastore 'x'"),
        ("401 Unauthorized", "authentication failed", AuthRefused, r"refused the API token .*authentication failed"),
        (
            "403 Forbidden",
            "permission check failed - missing Datastore.Audit|Datastore.Backup on /datastore/main",
            AuthRefused,
            r"refused /version to the API token .*missing Datastore\.Audit",
        ),
        ("404 Not Found", "Path '/version' not found.", ProtocolError, "with 404"),
    ],
)
def test_an_error_in_plain_text_is_told(site: Site, status: str, text: str, error: type[SiteError], said: str) -> None:
    """The server's errors are no JSON: the body is the message."""
    api, _ = client(site, reply(status, text.encode(), "text/plain"))
    with pytest.raises(error, match=said):
        api.get("/version", deadline=CLOCK.deadline(10))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply("200 OK", b"<html><title>nginx</title>", "text/html"), "no PBS reply"),
        (reply("502 Bad Gateway", b"<html>nginx", "text/html"), "an HTML page"),
        (reply("200 OK", b'{"data": NaN}'), "no PBS reply"),
        (reply("200 OK", b"[1]"), "no PBS reply"),
        (reply("200 OK", b'{"success": 1}'), "no PBS reply"),
        (reply("200 OK", b'{"data":' + b"[" * 100_000), "no PBS reply"),
        (chunked(hundred_megabytes), "answers more than"),
        (reply("302 Found", b"").replace(b"\r\n\r\n", b"\r\nLocation: https://evil.example/\r\n\r\n"), "no PBS API"),
        (reply("500 x", b"\x1b[2J" + b"y" * 100_000, "text/plain"), "500"),
        (reset, "closed the connection"),
    ],
)
def test_a_lying_server_is_refused_in_time(site: Site, answer: Answer, said: str) -> None:
    """A page for a reply, nesting without end, 100 MB, escapes: a printable SiteError, long before the deadline."""
    api, _ = client(site, answer)
    deadline = CLOCK.deadline(30)
    with pytest.raises(SiteError, match=said) as refused:
        api.get("/version", deadline=deadline)
    assert not deadline.expired()
    assert len(str(refused.value)) < 1500
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("answer", [stall, drip], ids=["stall", "drip"])
def test_the_deadline_is_total(site: Site, answer: Answer) -> None:
    """Whatever keeps coming, or does not, the deadline ends it."""
    api, _ = client(site, answer)
    with pytest.raises(Unreachable, match="did not answer within the deadline"):
        api.get("/version", deadline=CLOCK.deadline(0.5))


@pytest.mark.parametrize(
    "answer",
    [
        reply("401 Unauthorized", f"PBSAPIToken={TOKEN}:{SECRET}".encode(), "text/plain"),
        reply("400 Bad Request", f"you sent {SECRET}".encode(), "text/plain"),
        reply("200 OK", f"you sent {SECRET}".encode()),
        reset,
        stall,
    ],
    ids=["401", "400", "page", "reset", "silence"],
)
def test_the_secret_is_nowhere(site: Site, caplog: pytest.LogCaptureFixture, answer: Answer) -> None:
    """With every logger at DEBUG the token's secret is in no log line and no exception."""
    caplog.set_level(logging.DEBUG)
    for name in ("proxmoxer.core", "proxmoxer.backends.https"):
        caplog.set_level(logging.DEBUG, logger=name)
    api, _ = client(site, answer)
    with pytest.raises(SiteError) as seen:
        api.get("/admin/datastore", deadline=CLOCK.deadline(0.5))
    trace = seen.value.__traceback__
    assert trace is not None
    assert SECRET not in everything(seen.value.with_traceback(trace.tb_next))  # this frame holds the answer
    assert SECRET not in caplog.text


def test_another_certificate_is_refused_before_the_token_is_sent(site: Site) -> None:
    """A renewed or foreign certificate is told with where its owner reads it."""
    _, server = client(site, reply("200 OK", {"data": 1}))
    trust = Trust(fingerprints=("ab" * 32,), shown_by="`proxmox-backup-manager cert info` there")
    api = pbs_api("127.0.0.1", server.port, TOKEN, lambda: SECRET, trust, CLOCK)
    with pytest.raises(AuthRefused, match="proxmox-backup-manager cert info"):
        api.get("/version", deadline=CLOCK.deadline(10))
    assert server.requests == []


def test_a_malformed_secret_is_not_printed(site: Site) -> None:
    """A secret with a line end is refused without being shown."""
    api, _ = client(site, reply("200 OK", {"data": 1}), secret=SECRET + "\n")
    with pytest.raises(UsageError, match="its secret") as caught:
        api.get("/version", deadline=CLOCK.deadline(10))
    assert SECRET not in everything(caught.value)


# --- the simulated one -----------------------------------------------------------------------------------------------


class Played:
    """The simulated server on a port of its own, and a client of it."""

    def __init__(
        self, folder: Path, *, token: str = TOKEN, secret: str = SECRET, store: str = "main", space: str = ""
    ) -> None:
        world = small_site(backup={"storage": "pbs1", "token_lacks": (), "namespace": "prod", "encrypted": True})
        self.gate = PlayingGate(world)
        authority = Authority("backup")
        context: ssl.SSLContext = authority.issue("pbs").server_context(folder)
        self.server = PbsServer(self.gate, context, TOKEN, SECRET)
        self.server.start()
        (folder / "ca.pem").write_bytes(authority.pem)
        api = pbs_api(
            "127.0.0.1", self.server.port.port, token, lambda: secret, Trust(ca_file=folder / "ca.pem"), CLOCK
        )
        self.pbs = Pbs(api, "127.0.0.1", store, space)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    """The server as it should be asked."""
    made = Played(tmp_path, space="prod")
    yield made
    made.server.port.close()


def test_the_simulated_server_is_read(played: Played) -> None:
    """Version, usage, and each guest's snapshots with verify state, owner, key and files, the newest first."""
    assert played.pbs.version(CLOCK.deadline(10)) == "3.2.4"
    total, used = played.pbs.usage(CLOCK.deadline(10))
    assert 0 < used < total
    every = played.pbs.snapshots(CLOCK.deadline(10))
    assert {one.sid for one in every} == {"vm:101", "vm:102", "vm:103"}
    mine = played.pbs.snapshots(CLOCK.deadline(10), "vm:101")
    assert [one.sid for one in mine] == ["vm:101"] * 3
    assert mine[0].taken - mine[1].taken == 86400
    assert (mine[0].owner, mine[0].verification) == ("pve@pbs!cluster", "ok")
    assert mine[0].verified == mine[0].taken + 7200
    assert mine[0].key.startswith("e9:04")
    assert "drive-scsi0.img.fidx" in mine[0].files


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"secret": "wrong-secret-here"}, "authentication failed"),
        ({"token": "pveha@pbs!other"}, "authentication failed"),
        ({"store": "none"}, "no such datastore 'none'"),
        ({"space": "elsewhere"}, "namespace 'elsewhere' does not exist"),
    ],
)
def test_the_simulated_server_refuses(tmp_path: Path, how: dict[str, str], said: str) -> None:
    """A wrong token, datastore or namespace is refused in the server's words."""
    made = Played(tmp_path, **how)  # type: ignore[arg-type]
    with pytest.raises(SiteError, match=said):
        made.pbs.snapshots(CLOCK.deadline(10))
    made.server.port.close()


def test_a_token_without_rights_is_refused(played: Played) -> None:
    """403, with the privileges that one of would suffice, and the path."""
    from pytest_pveha.sim.world.pbs import Pbs as World

    world: World = played.gate.world.pbs
    assert world.spec is not None
    object.__setattr__(world.spec, "token_lacks", ("Datastore.Audit", "Datastore.Backup"))
    with pytest.raises(AuthRefused, match=r"missing Datastore\.Audit\|Datastore\.Backup on /datastore/main"):
        played.pbs.snapshots(CLOCK.deadline(10))
