"""The PVE API client against servers that answer, err, stall and lie as real ones do."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, Unreachable, UsageError
from pytest_pveha.wire import pve_api
from pytest_pveha.wire.pve_api import Endpoint, PveApi, Trust, api_path
from tests.contract.https_kit import Answer, Server, Site, drip, reply, reset, stall

SECRET = "canary-5b1e4c7a-0d0f"
TOKEN = "root@pam!pveha"


def data(value: Any) -> bytes:
    """A good answer with this value."""
    return reply("200 OK", {"data": value})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Certificates, made once."""
    return Site(tmp_path_factory.mktemp("tls"))


class Bench:
    """Servers and clients of one test."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = LiveClock()
        self.servers: list[Server] = []

    def server(self, *answers: Answer) -> Server:
        """One more endpoint."""
        self.servers.append(Server(self.site, *answers))
        return self.servers[-1]

    def api(self, *servers: Server, trust: Trust | None = None, secret: str = SECRET) -> PveApi:
        """A client of these endpoints, named pve1, pve2, …"""
        endpoints = [Endpoint(f"pve{n}", "127.0.0.1", server.port) for n, server in enumerate(servers, 1)]
        return PveApi(
            endpoints, TOKEN, lambda: secret, trust or Trust(fingerprints=(self.site.fingerprint,)), self.clock
        )

    def within(self, seconds: float = 10) -> Deadline:
        """A deadline from now."""
        return self.clock.deadline(seconds)


@pytest.fixture
def bench(site: Site) -> Iterator[Bench]:
    """A workplace that closes its servers."""
    bench = Bench(site)
    yield bench
    for server in bench.servers:
        server.close()


def test_get_gives_the_data_and_when_it_was_asked(bench: Bench) -> None:
    """A GET returns `data`, who answered, and two instants around the answer."""
    server = bench.server(data({"version": "9.1.9"}))
    before = bench.clock.now()
    answer = bench.api(server).get("/version", deadline=bench.within())
    assert answer.value == {"version": "9.1.9"}
    assert answer.endpoint == "pve1"
    assert before <= answer.asked_at <= answer.answered_at
    line, headers, _ = server.requests[0]
    assert line == "GET /api2/json/version"
    assert headers["authorization"] == f"PVEAPIToken={TOKEN}={SECRET}"


def test_a_connection_is_kept(bench: Bench) -> None:
    """Ten reads use one connection, without Nagle's delay."""
    server = bench.server(data(1))
    api = bench.api(server)
    for _ in range(10):
        api.get("/cluster/status", deadline=bench.within())
    assert server.connections == 1


def test_true_is_sent_as_1_and_lists_repeat_their_key(bench: Bench) -> None:
    """PVE's forms know no True; None is left out."""
    server = bench.server(data(None))
    api = bench.api(server)
    api.get("/cluster/tasks", deadline=bench.within(), all=True, none=None)
    api.put("/cluster/options", deadline=bench.within(), flag=False, delete=["a", "b"])
    assert server.requests[0][0] == "GET /api2/json/cluster/tasks?all=1"
    assert server.requests[1][2] == b"flag=0&delete=a&delete=b"


def test_segments_are_quoted() -> None:
    """A name cannot leave its segment."""
    assert api_path("cluster", "ha", "resources", "vm:101") == "/cluster/ha/resources/vm:101"
    assert api_path("storage", "a b/../c?d") == "/storage/a%20b%2F..%2Fc%3Fd"
    with pytest.raises(UsageError):
        api_path("nodes", "..")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (reply("401 No ticket", b""), AuthRefused, "No ticket"),
        (
            reply("403 Permission check failed (/, Sys.Audit)", {"data": None}),
            AuthRefused,
            r"Permission check failed \(/, Sys.Audit\)",
        ),
        (
            reply("400 Parameter verification failed.", {"data": None, "errors": {"vmid": "type check failed"}}),
            400,
            "Parameter verification failed. - vmid: type check failed",
        ),
        (reply("500 cluster not ready - no quorum?", {"data": None}), 500, "cluster not ready - no quorum"),
        (
            reply("500 Internal Server Error", {"data": None, "message": "hostname lookup 'x' failed"}),
            500,
            "hostname lookup 'x' failed",
        ),
        (reply("501 Method 'GET /x' not implemented", b""), 501, "not implemented"),
        (reply("502 Bad Gateway", b"<html>nginx</html>", "text/html"), 502, "HTML page"),
        (reply("200 OK", b"<html>login</html>", "text/html"), 200, "no PVE reply.*<html>login"),
        (reply("200 OK", [1, 2]), 200, "no object: list"),
        (reply("200 OK", {"result": 1}), 200, "without 'data'"),
        (reply("200 OK", b""), 200, "not JSON"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n", 302, "redirects to"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", None, "not HTTP"),
    ],
)
def test_every_wrong_answer_is_told_apart(
    bench: Bench, answer: bytes, status: type[Exception] | int | None, said: str
) -> None:
    """An error carries its status and both places of PVE's text; what is no PVE reply is quoted."""
    server, other = bench.server(answer), bench.server(data(1))
    expected = status if isinstance(status, type) else ProtocolError
    with pytest.raises(expected, match=said) as caught:
        bench.api(server, other).get("/cluster/status", deadline=bench.within())
    if isinstance(caught.value, ProtocolError):
        assert caught.value.status == status
    assert not other.requests


def test_an_answer_cut_off_is_a_protocol_error(bench: Bench) -> None:
    """Half an answer is no answer."""

    def half(sock: socket.socket) -> None:
        sock.sendall(data([1, 2, 3])[:-3])
        sock.close()

    with pytest.raises(ProtocolError, match="cut its answer"):
        bench.api(bench.server(half)).get("/cluster/status", deadline=bench.within())


def test_a_huge_answer_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply larger than we hold is refused, not half read."""
    monkeypatch.setattr(pve_api, "LARGEST_REPLY", 1000)
    with pytest.raises(ProtocolError, match="answers more than"):
        bench.api(bench.server(data("x" * 2000))).get("/cluster/status", deadline=bench.within())


@pytest.mark.parametrize("status", [595, 596, 597, 599])
def test_a_proxys_595_names_the_dead_node(bench: Bench, status: int) -> None:
    """An empty 595 for a node's path means that node, and no other endpoint is asked."""
    server, other = bench.server(reply(f"{status} No route to host", b"")), bench.server(data(1))
    with pytest.raises(Unreachable, match=f"node pve3 is unreachable.*{status} No route to host"):
        bench.api(server, other).get("/nodes/pve3/status", deadline=bench.within())
    assert not other.requests


def test_a_595_for_the_cluster_is_asked_elsewhere(bench: Bench) -> None:
    """A proxy error for a path without a node makes the next endpoint answer."""
    server, other = bench.server(reply("595 Connection refused", b"")), bench.server(data(1))
    assert bench.api(server, other).get("/cluster/status", deadline=bench.within()).endpoint == "pve2"


def test_reads_fail_over_and_stay(bench: Bench) -> None:
    """When an endpoint is gone the next one answers, and keeps being asked."""
    dead, alive = bench.server(data(1)), bench.server(data(2))
    api = bench.api(dead, alive)
    assert api.get("/version", deadline=bench.within()).endpoint == "pve1"
    dead.close()
    assert api.get("/version", deadline=bench.within()).endpoint == "pve2"
    assert api._current == 1
    with pytest.raises(Unreachable, match="pve1"):
        api.get("/version", deadline=bench.within(), at="pve1")
    with pytest.raises(UsageError, match="no endpoint 'pve9'; the inventory has pve1, pve2"):
        api.get("/version", deadline=bench.within(), at="pve9")


def test_a_silent_endpoint_costs_one_try(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stalled endpoint gets its share of the deadline; the next one answers within it."""
    monkeypatch.setattr(pve_api, "TRY_SECONDS", 0.3)
    api = bench.api(bench.server(stall), bench.server(data(2)))
    begun = time.monotonic()
    assert api.get("/version", deadline=bench.within()).endpoint == "pve2"
    assert 0.25 < time.monotonic() - begun < 2


@pytest.mark.parametrize("silence", [stall, drip])
def test_the_deadline_is_total(bench: Bench, silence: Answer) -> None:
    """A server that stalls, or feeds byte by byte, is left at the deadline; the client then works on."""
    server = bench.server(silence, data(7))
    api = bench.api(server)
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="did not answer within the deadline"):
        api.get("/version", deadline=bench.within(0.4))
    assert 0.35 < time.monotonic() - begun < 2
    assert api.get("/version", deadline=bench.within()).value == 7


def test_a_handshake_that_hangs_ends_at_the_deadline(bench: Bench) -> None:
    """A port that takes connections and says nothing is silent, not refused."""
    mute = socket.create_server(("127.0.0.1", 0))
    api = PveApi(
        [Endpoint("mute", "127.0.0.1", mute.getsockname()[1])],
        TOKEN,
        lambda: SECRET,
        Trust(fingerprints=(bench.site.fingerprint,)),
        bench.clock,
    )
    with pytest.raises(Unreachable, match="deadline"):
        api.get("/version", deadline=bench.within(0.3))
    with pytest.raises(Unreachable, match="was not sent"):
        api.post("/version", deadline=bench.within(0.3))
    mute.close()


def test_a_connect_that_hangs_ends_at_the_deadline(bench: Bench) -> None:
    """A lost SYN is waited for until the deadline and no longer."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = full.getsockname()
    fillers = []
    for _ in range(4):  # a full queue drops the SYNs that follow
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex(address)
    api = PveApi(
        [Endpoint("full", "127.0.0.1", address[1])],
        TOKEN,
        lambda: SECRET,
        Trust(fingerprints=(bench.site.fingerprint,)),
        bench.clock,
    )
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="deadline"):
        api.get("/version", deadline=bench.within(0.3))
    assert time.monotonic() - begun < 2
    for sock in (full, *fillers):
        sock.close()


def test_a_read_is_repeated_when_its_connection_was_reset(bench: Bench) -> None:
    """A kept connection that died is no outage: the read is sent anew, three times at most."""
    server = bench.server(data(1), reset, reset, data(4))
    api = bench.api(server)
    assert api.get("/version", deadline=bench.within()).value == 1
    assert api.get("/version", deadline=bench.within()).value == 4
    always = bench.server(reset)
    with pytest.raises(Unreachable, match="closed the connection"):
        bench.api(always).get("/version", deadline=bench.within())
    assert len(always.requests) == 3


@pytest.mark.parametrize("verb", ["post", "put", "delete"])
def test_an_act_is_sent_once(bench: Bench, verb: str) -> None:
    """A POST, PUT or DELETE that went out is neither repeated nor sent elsewhere."""
    server, other = bench.server(reset), bench.server(data(1))
    api = bench.api(server, other)
    with pytest.raises(Unreachable, match="unknown whether it was carried out"):
        getattr(api, verb)("/nodes/pve1/qemu/101/status/start", deadline=bench.within())
    assert len(server.requests) == 1
    assert not other.requests


def test_an_act_without_answer_is_sent_once(bench: Bench) -> None:
    """Silence after a POST is no reason to repeat it."""
    server, other = bench.server(stall), bench.server(data(1))
    with pytest.raises(Unreachable, match="unknown whether"):
        bench.api(server, other).post("/cluster/ha/resources", deadline=bench.within(0.4), sid="vm:101")
    assert [len(each.requests) for each in (server, other)] == [1, 0]


def test_an_act_chooses_another_endpoint_before_anything_is_sent(bench: Bench) -> None:
    """An endpoint that cannot be connected to costs an act nothing, even after a kept connection died."""
    dead, alive = bench.server(data(1)), bench.server(data("UPID:pve2:…"))
    api = bench.api(dead, alive)
    api.get("/version", deadline=bench.within())
    dead.close()
    assert api.post("/nodes/pve2/startall", deadline=bench.within()).endpoint == "pve2"
    assert len(alive.requests) == 1


def test_an_act_answered_595_says_so(bench: Bench) -> None:
    """595 is the connect phase: it never reached the node."""
    server, other = bench.server(reply("595 No route to host", b"")), bench.server(data(1))
    with pytest.raises(Unreachable, match=r"node pve3.*was not carried out"):
        bench.api(server, other).post("/nodes/pve3/qemu/101/status/start", deadline=bench.within())
    assert not other.requests


def test_nobody_there(bench: Bench) -> None:
    """All endpoints refused: each is named with its reason."""
    one, two = bench.server(data(1)), bench.server(data(1))
    api = bench.api(one, two)
    one.close()
    two.close()
    with pytest.raises(Unreachable, match=r"pve1 .*Connection refused; pve2 .*Connection refused"):
        api.get("/version", deadline=bench.within())
    with pytest.raises(Unreachable, match="was not sent"):
        api.post("/version", deadline=bench.within())


def test_the_pinned_certificate_is_accepted(bench: Bench) -> None:
    """A fingerprint as people copy it, with colons and capitals, matches."""
    pin = ":".join(bench.site.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    trust = Trust(fingerprints=("00" * 32, pin))
    assert bench.api(bench.server(data(1)), trust=trust).get("/version", deadline=bench.within()).value == 1


def test_another_certificate_is_refused_before_the_token_is_sent(bench: Bench) -> None:
    """A wrong pin is no outage: it says so, shows both, sends nothing and asks nobody else."""
    server, other = bench.server(data(1)), bench.server(data(1))
    api = bench.api(server, other, trust=Trust(fingerprints=("ab" * 32,)))
    with pytest.raises(AuthRefused, match=r"certificate of 127\.0\.0\.1:\d+ is not the one in the inventory.*AB:AB"):
        api.get("/version", deadline=bench.within())
    with pytest.raises(AuthRefused, match="certificate of"):
        api.post("/version", deadline=bench.within())
    assert not server.requests
    assert not other.requests


def test_a_ca_without_key_usage_is_accepted(bench: Bench) -> None:
    """A default PVE CA verifies on every Python: the strict flag is cleared, verification is not."""
    trust = Trust(ca_file=bench.site.ca_file)
    context = trust.context()
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert bench.api(bench.server(data(1)), trust=trust).get("/version", deadline=bench.within()).value == 1


def test_another_ca_is_refused(bench: Bench) -> None:
    """A certificate of a CA that is not ours is no outage."""
    server = bench.server(data(1))
    with pytest.raises(AuthRefused, match=r"certificate of .* is not the one in the inventory"):
        bench.api(server, trust=Trust(ca_file=bench.site.other_ca_file)).get("/version", deadline=bench.within())
    assert not server.requests


def test_trust_is_one_thing_or_the_other(bench: Bench, tmp_path: Path) -> None:
    """Neither, both, a wrong fingerprint and a file that is no CA are told to the person who wrote them."""
    for wrong in ({}, {"ca_file": bench.site.ca_file, "fingerprints": ("ab" * 32,)}, {"fingerprints": ("ab:cd",)}):
        with pytest.raises(UsageError, match="TLS"):
            Trust(**wrong)
    (tmp_path / "no.pem").write_text("hello")
    with pytest.raises(UsageError, match="cannot be read as a CA file"):
        Trust(ca_file=tmp_path / "no.pem").context()


def test_a_port_without_tls_is_a_protocol_error(bench: Bench) -> None:
    """Plain HTTP where TLS is expected is told as that."""
    plain = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        sock, _ = plain.accept()
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        sock.close()

    threading.Thread(target=answer, daemon=True).start()
    api = PveApi(
        [Endpoint("plain", "127.0.0.1", plain.getsockname()[1])],
        TOKEN,
        lambda: SECRET,
        Trust(fingerprints=(bench.site.fingerprint,)),
        bench.clock,
    )
    with pytest.raises(ProtocolError, match="speaks no TLS"):
        api.get("/version", deadline=bench.within())
    plain.close()


def test_the_environment_decides_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and CA bundles of the environment are ignored."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    assert bench.api(bench.server(data(1))).get("/version", deadline=bench.within()).value == 1


def test_the_secret_is_asked_once_and_again_after_a_401(bench: Bench) -> None:
    """A resolved secret is kept until it is refused."""
    server = bench.server(data(1), data(2), reply("401 permission denied - invalid token value", b""), data(4))
    asked: list[int] = []

    def secret() -> str:
        asked.append(1)
        return SECRET

    trust = Trust(fingerprints=(bench.site.fingerprint,))
    api = PveApi([Endpoint("pve1", "127.0.0.1", server.port)], TOKEN, secret, trust, bench.clock)
    for _ in range(2):
        api.get("/version", deadline=bench.within())
    with pytest.raises(AuthRefused, match="invalid token value"):
        api.get("/version", deadline=bench.within())
    api.get("/version", deadline=bench.within())
    assert len(asked) == 2


def everything(error: BaseException | None) -> str:
    """All that a traceback or a debugger's first look would show of an exception and what it hangs on to."""
    said = []
    while error is not None:
        said += [repr(error), str(error), *traceback.format_exception(error)]
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                said += [repr(value) for value in frame.f_locals.values()]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


@pytest.mark.parametrize(
    "answer",
    [
        data(1),
        reset,
        reply("401 bad", b""),
        reply("500 x", f"PVEAPIToken={TOKEN}={SECRET}".encode()),
        reply("200 OK", f"you sent {SECRET}".encode()),
        reply(f"500 you sent {SECRET}", b""),
        stall,
    ],
    ids=["good", "reset", "401", "in the body of a 500", "in a page", "in the reason", "silence"],
)
def test_the_secret_is_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture, answer: Answer) -> None:
    """With every logger at DEBUG the token's secret is in no log line and no exception, whatever happens."""
    caplog.set_level(logging.DEBUG)
    levels = {name: logging.getLogger(name).level for name in ("proxmoxer.core", "urllib3", "requests", "paramiko")}
    for name in ("proxmoxer.core", "proxmoxer.backends.https"):  # as loud as they can be
        caplog.set_level(logging.DEBUG, logger=name)
    api = bench.api(bench.server(answer))
    for act in (api.get, partial(api.post, password="hunter22")):
        seen: SiteError | None = None
        try:
            act("/access/token", deadline=bench.within(0.3))
        except SiteError as error:
            seen = error
        assert SECRET not in everything(seen)
    with contextlib.suppress(SiteError):
        api.delete("/access/token", deadline=bench.within(0.3), value=SECRET)  # goes into the address, which is logged
    if answer == data(1):
        assert "value=***" in caplog.text
    assert "POST https://127.0.0.1" in caplog.text
    assert SECRET not in caplog.text
    assert "hunter22" not in caplog.text
    assert levels["urllib3"] == logging.getLogger("urllib3").level


def test_a_malformed_secret_is_not_printed(bench: Bench) -> None:
    """A secret with a line end is refused without being shown."""
    with pytest.raises(UsageError, match=r"root@pam!pveha: its secret") as caught:
        bench.api(bench.server(data(1)), secret=SECRET + "\n").get("/version", deadline=bench.within())
    assert SECRET not in everything(caught.value)


def test_threads_do_not_break_each_other(bench: Bench) -> None:
    """A deadline in one thread leaves another thread's call alone."""
    slow = threading.Event()

    def later(sock: socket.socket) -> None:
        slow.wait(5)
        sock.sendall(data("late"))
        stall(sock)

    server = bench.server(later, stall)
    api = bench.api(server)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(api.get("/a", deadline=bench.within()).value))
    thread.start()
    while not server.requests:
        time.sleep(0.005)
    with pytest.raises(Unreachable):
        api.get("/b", deadline=bench.within(0.3))
    slow.set()
    thread.join(5)
    assert got == ["late"]


def test_close_is_no_end(bench: Bench) -> None:
    """After close nothing is open, and the next call opens again."""
    server = bench.server(data(1))
    api = bench.api(server)
    api.get("/version", deadline=bench.within())
    api.close()
    api.get("/version", deadline=bench.within())
    assert server.connections == 2


# hostile


def chunked(chunks: Callable[[], Iterator[bytes]]) -> Callable[[socket.socket], None]:
    """An answer without a length, in chunks, until the client has had enough."""

    def send(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for chunk in chunks():
                sock.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")

    return send


def endless(line: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n") -> Callable[[socket.socket], None]:
    """The same line for ever, where headers belong."""

    def send(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(head)
            while True:
                sock.sendall(line)

    return send


def and_close(answer: bytes) -> Callable[[socket.socket], None]:
    """That answer, and the end of the connection."""

    def send(sock: socket.socket) -> None:
        sock.sendall(answer)
        sock.close()

    return send


def hundred_megabytes() -> Iterator[bytes]:
    yield b'{"data": "'
    for _ in range(100):
        yield b"x" * (1 << 20)
    yield b'"}'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply("200 OK", b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "no PVE reply"),
        (reply("200 OK", b'{"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"), "no PVE reply"),
        (reply("500 x", b"[" * 100_000), "500 x"),
        (reply("200 OK", b'{"data": NaN}'), "no PVE reply"),
        (reply("200 OK", b'{"data": -Infinity}'), "no PVE reply"),
        (reply("200 OK", b'{"data": ' + b"9" * 100_000 + b"}"), "no PVE reply"),
        (reply("200 OK", b'\xff\xfe{"data": 1}'), "no PVE reply"),
        (reply("200 OK", b'{"data": 1} trailing'), "no PVE reply"),
        (reply("200 OK", b"<html><script>alert(1)</script>", "text/html"), "Is another web server"),
        (reply("200 OK", b"", "text/html"), "no PVE reply"),
        (reply("302 Found", b"").replace(b"\r\n\r\n", b"\r\nLocation: https://evil.example/\r\n\r\n"), "redirects to"),
        (chunked(hundred_megabytes), "answers more than"),
        (endless(b"X-Padding: " + b"x" * 100 + b"\r\n"), "not HTTP as we know it"),
        (endless(b"x" * 1000), "not HTTP as we know it"),
        (endless(b"x" * 1000, b""), "not HTTP as we know it"),
        (and_close(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"), None),
        (and_close(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\nConnection: close\r\n\r\n{}"), None),
        (and_close(b"HTTP/1.1 99999 OK\r\n\r\n"), None),
        (and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), None),
        (and_close(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"), None),
        (and_close(b"SSH-2.0-OpenSSH_9.2\r\n"), None),
        (and_close(b"\x00" * 1000 + b"\r\n"), None),
    ],
)
def test_a_lying_server_is_refused_in_time(bench: Bench, answer: Answer, said: str | None) -> None:
    """Nesting without end, NaN, 100 MB, endless headers and worse: a short SiteError, long before the deadline."""
    server = bench.server(answer)
    api = bench.api(server)
    deadline = bench.within(30)
    with pytest.raises(SiteError, match=said) as refused:
        api.get("/cluster/status", deadline=deadline)
    assert not deadline.expired()
    assert len(str(refused.value)) < 500
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"HTTP/1.1 100 Continue\r\n\r\n", b""),
        chunked(lambda: iter(lambda: time.sleep(0.02) or b" ", None)),  # type: ignore[arg-type, func-returns-value]
        stall,
        drip,
    ],
    ids=["continue-for-ever", "dripping-chunks", "stall", "drip"],
)
def test_a_reply_without_end_is_left_at_the_deadline(bench: Bench, answer: Answer) -> None:
    """Whatever keeps coming, or does not, the deadline ends it."""
    api = bench.api(bench.server(answer))
    deadline = bench.within(1)
    with pytest.raises(Unreachable, match="did not answer within the deadline"):
        api.get("/cluster/status", deadline=deadline)
    assert bench.clock.now().mono - deadline.mono < 5_000_000_000


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b[31m", "\u202e", "<script>", "x" * 100_000, "a\rb", "PVEAPIToken=a!b=secret"]
)
def test_an_errors_text_is_data(bench: Bench, text: str) -> None:
    """What an endpoint says of an error is spelled, shortened and without a credential in it."""
    server = bench.server(reply("500 Internal Server Error", {"message": text, "errors": {text: text}}))
    with pytest.raises(ProtocolError) as refused:
        bench.api(server).get("/cluster/status", deadline=bench.within())
    said = str(refused.value)
    assert len(said) < 1500
    assert said.replace("\n", "").isprintable()
    assert "=secret" not in said


@pytest.mark.parametrize("days", [(-400, -1), (400, 800)], ids=["expired", "not yet valid"])
def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path, days: tuple[int, int]) -> None:
    """An expired certificate, or a controller whose clock is years off, is told as that, and nothing was sent."""
    site = Site(tmp_path, days)
    server = Server(site, data(1))
    try:
        api = PveApi(
            [Endpoint("pve1", "127.0.0.1", server.port)],
            TOKEN,
            lambda: SECRET,
            Trust(ca_file=site.ca_file),
            LiveClock(),
        )
        with pytest.raises(AuthRefused, match=r"certificate of .*(expired|not yet valid)"):
            api.get("/version", deadline=LiveClock().deadline(10))
    finally:
        server.close()
    assert server.requests == []


def test_a_certificate_for_another_host_is_refused(bench: Bench) -> None:
    """The right CA's certificate for another name is another machine's."""
    server = bench.server(data(1))
    api = PveApi(
        [Endpoint("pve1", "localhost", server.port)],
        TOKEN,
        lambda: SECRET,
        Trust(ca_file=bench.site.ca_file),
        bench.clock,
    )
    with pytest.raises(AuthRefused, match="Nothing was sent to it"):
        api.get("/version", deadline=bench.within())
    assert server.requests == []


def test_a_certificate_that_changes_in_mid_run_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Another machine at the same address is noticed at its first connection, and nobody else is asked."""
    first = bench.server(data(1))
    api = bench.api(first)
    assert api.get("/version", deadline=bench.within()).value == 1
    port = first.port
    first.close()
    impostor = Server(Site(tmp_path), data(2), port=port)
    try:
        with pytest.raises(AuthRefused, match="is not the one in the inventory"):
            api.get("/version", deadline=bench.within())
    finally:
        impostor.close()
    assert impostor.requests == []
