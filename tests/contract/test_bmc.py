"""One BMC as the rest of the package sees it: the same cases by IPMI and by Redfish, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, Unreachable
from pytest_pveha.handles.bmc import Bmc, PowerCommand
from pytest_pveha.observe.identity import _same_uuid
from pytest_pveha.sim.servers.bmc import POWER_UNIT, SENSOR_SPECIFIC, SelEntry
from pytest_pveha.wire.ipmi import IpmiBmc
from pytest_pveha.wire.redfish import RedfishBmc
from pytest_pveha.wire.tls import Trust
from tests.sim.bmc_bench import PASSWORD, USER, Bench, Machine, RedfishBench, bmc, redfish

AMPLE = 60.0
"""Seconds no call here comes near; a failing one ends all the same."""
KINDS = ["ipmi", "redfish-generic", "redfish-idrac", "redfish-ilo", "redfish-supermicro"]
NO_CYCLE = {"redfish-ilo"}
"""Those that know no power cycle."""


@dataclass
class Pair:
    """A BMC and what it belongs to."""

    kind: str
    bench: Bench | RedfishBench
    stack: ExitStack

    @property
    def machine(self) -> Machine:
        return self.bench.machine

    def client(self, user: str = USER, password: str = PASSWORD, privilege: str = "OPERATOR") -> Bmc:
        """One more client of it."""
        client: Bmc
        if isinstance(self.bench, RedfishBench):
            trust = Trust(ca_file=self.bench.ca)
            client = RedfishBmc("127.0.0.1", self.bench.port, user, lambda: password, trust, LiveClock())
        else:
            client = IpmiBmc("127.0.0.1", self.bench.port, user, lambda: password, LiveClock(), privilege=privilege)
        self.stack.callback(client.close)
        return client


def paired(kind: str, stack: ExitStack, **more: object) -> Pair:
    """A running BMC of that kind."""
    protocol, _, vendor = kind.partition("-")
    opened = redfish(vendor, **more) if protocol == "redfish" else bmc(**more)  # type: ignore[arg-type]
    return Pair(kind, stack.enter_context(opened), stack)  # type: ignore[arg-type]


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Every kind of BMC."""
    with ExitStack() as stack:
        yield paired(request.param, stack)


def test_power_goes_off_and_on(pair: Pair) -> None:
    """Power goes off and on by command, and both kinds of reading say so, each between its two moments."""
    clock, client = LiveClock(), pair.client()
    for command, on in (("on", True), ("off", False), ("on", True)):
        before = clock.now()
        client.set_power(command, clock.deadline(AMPLE))  # type: ignore[arg-type]
        first, second = client.power_state(clock.deadline(AMPLE)), client.fresh_power_state(clock.deadline(AMPLE))
        assert (first.on, second.on) == (on, on)
        assert before <= first.asked_at <= first.answered_at <= second.asked_at <= second.answered_at <= clock.now()


@pytest.mark.parametrize("command", ["off", "cycle", "reset", "soft"])
def test_a_command_arrives_once(pair: Pair, command: PowerCommand) -> None:
    """Each command is carried out once, as just that; a BMC that lacks it is told nothing in its place."""
    client = pair.client()
    if command == "cycle" and pair.kind in NO_CYCLE:
        with pytest.raises(ProtocolError, match=r"has no PowerCycle \(cycle\).*Nothing was sent"):
            client.set_power(command, LiveClock().deadline(AMPLE))
        assert pair.machine.commands == []
        return
    client.set_power(command, LiveClock().deadline(AMPLE))
    assert pair.machine.commands == [command]


@pytest.mark.parametrize("command", ["cycle", "reset", "soft"])
def test_what_needs_power_is_refused_without_it(pair: Pair, command: PowerCommand) -> None:
    """A machine that is off is not cycled, reset or shut down: ProtocolError, and the next call works."""
    pair.machine.on = False
    client = pair.client()
    with pytest.raises(ProtocolError, match="not supported in the present state"):
        client.set_power(command, LiveClock().deadline(AMPLE))
    assert pair.machine.commands == []
    assert not client.power_state(LiveClock().deadline(AMPLE)).on


@pytest.mark.parametrize("on", [True, False])
def test_what_is_so_already_is_no_error(pair: Pair, on: bool) -> None:
    """On of a machine that is on, and off of one that is off, succeed, whether or not the BMC takes the command."""
    pair.machine.on = on
    pair.client().set_power("on" if on else "off", LiveClock().deadline(AMPLE))
    assert pair.machine.on is on


@pytest.mark.parametrize("going", ["off", "on"])
def test_on_its_way_is_not_off(pair: Pair, going: str) -> None:
    """Until the power is off, and as soon as it comes, the machine counts as on: nothing is proven dead too early."""
    pair.machine.on = going == "off"
    pair.machine.going = going
    reading = pair.client().fresh_power_state(LiveClock().deadline(AMPLE))
    assert reading.on is (going == "off" or pair.kind == "redfish-ilo")


def test_it_says_who_it_is(pair: Pair) -> None:
    """MAC address, address and the machine's UUID, in whichever byte order, are told."""
    told = pair.client().identity(LiveClock().deadline(AMPLE))
    assert told["mac"] == pair.machine.mac
    assert told["ip"] == pair.machine.ip
    assert _same_uuid(told.get("guid") or told["uuid"], str(pair.machine.guid))
    assert {"firmware", "manufacturer", "product"} <= told.keys()


@pytest.mark.parametrize("wrong", [{"password": "not-the-password"}, {"user": "nobody"}], ids=["password", "user"])
def test_wrong_credentials_are_refused(pair: Pair, wrong: dict[str, str]) -> None:
    """A wrong user or password is AuthRefused whatever is asked, says where to look, and nothing was sent."""
    client, deadline = pair.client(**wrong), LiveClock().deadline
    for call in (client.power_state, client.fresh_power_state, client.identity, client.sel, client.access):
        with pytest.raises(AuthRefused, match=r"refused user .*check user"):
            call(deadline(AMPLE))
    with pytest.raises(AuthRefused) as refused:
        client.set_power("off", deadline(AMPLE))
    assert "not-the-password" not in str(refused.value)
    assert "may have been carried out" not in str(refused.value)
    assert pair.machine.commands == []


def test_the_log_is_read_oldest_first(pair: Pair) -> None:
    """Every entry of the event log, over as many pages as it takes, with its time and what it says beyond doubt."""
    pair.machine.log = [*pair.machine.log, SelEntry(1767340200.0, POWER_UNIT, 0x30, SENSOR_SPECIFIC, asserted=False)]
    entries = pair.client().sel(LiveClock().deadline(AMPLE))
    assert [entry.event for entry in entries] == ["power off", "watchdog reset", "power on"]
    assert [entry.at for entry in entries] == [1767340000.0, 1767340100.0, 1767340200.0]
    assert [entry.number for entry in entries] == ["1", "2", "3"]
    assert all(entry.text for entry in entries)


def test_an_empty_log_is_empty(pair: Pair) -> None:
    """A log without entries is no error."""
    pair.machine.log = []
    assert pair.client().sel(LiveClock().deadline(AMPLE)) == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("privilege", "may"), [("ADMINISTRATOR", True), ("OPERATOR", True), ("USER", False)])
def test_what_our_user_may(kind: str, privilege: str, may: bool) -> None:
    """OPERATOR switches power and USER does not; a mere user's command is AuthRefused and does nothing."""
    with ExitStack() as stack:
        pair = paired(kind, stack, privilege=privilege)
        client = pair.client(privilege=privilege)
        access = client.access(LiveClock().deadline(AMPLE))
        assert access.user == USER
        assert access.may_switch is may
        assert access.level.upper() in (privilege, "READONLY" if privilege == "USER" else privilege)
        assert access.others in ((), None)
        if may:
            client.set_power("off", LiveClock().deadline(AMPLE))
        else:
            with pytest.raises(AuthRefused, match="privilege"):
                client.set_power("off", LiveClock().deadline(AMPLE))
        assert pair.machine.commands == (["off"] if may else [])


@pytest.mark.parametrize(
    ("flags", "ipmi", "redfish"),
    [
        ("0004000000", "none", "none"),
        ("8004000000", "pxe at the next boot (IPMI 8004000000)", "pxe at the next boot (Redfish Once, UEFI)"),
        ("e008000000", "disk at every boot (IPMI e008000000)", "hdd at every boot (Redfish Continuous, UEFI)"),
        ("a028000000", "a reserved device at the next boot (IPMI a028000000)", "none"),
    ],
)
def test_what_it_will_boot_is_told(pair: Pair, flags: str, ipmi: str, redfish: str) -> None:
    """An override, once or for ever, in the words of whoever told it; one that is not valid is none."""
    pair.machine.boot = bytes.fromhex(flags)
    told = pair.client().boot_override(LiveClock().deadline(AMPLE))
    assert told == (ipmi if pair.kind == "ipmi" else redfish)
    assert pair.machine.commands == []


def test_a_bmc_without_boot_options_says_nothing(pair: Pair) -> None:
    """That is no error, and not "none" either; nor is one that does not let our user ask."""
    pair.machine.boot = None
    assert pair.client().boot_override(LiveClock().deadline(AMPLE)) is None
    pair.machine.boot = bytes.fromhex("8004000000")
    if pair.kind == "ipmi":
        assert pair.client(privilege="USER").boot_override(LiveClock().deadline(AMPLE)) is None


def test_silence_ends_at_the_deadline(pair: Pair) -> None:
    """A BMC that takes what is sent and never answers is Unreachable at the deadline, and works again afterwards."""
    clock, client = LiveClock(), pair.client()
    pair.machine.silent_from = "now"
    for call in (client.power_state, client.fresh_power_state, client.identity, client.sel, client.access):
        deadline = clock.deadline(0.2)
        with pytest.raises(Unreachable, match="gave no answer before the deadline"):
            call(deadline)
        assert deadline.expired()
    with pytest.raises(Unreachable) as silent:
        client.set_power("off", clock.deadline(0.2))
    assert "may have been carried out" not in str(silent.value)
    pair.machine.silent_from = ""
    assert client.power_state(clock.deadline(AMPLE)).on
    assert pair.machine.commands == []


def test_silence_after_the_command(pair: Pair) -> None:
    """A command whose answer never comes is not sent again, and the error says that it may have been carried out."""
    clock, client = LiveClock(), pair.client()
    pair.machine.silent_from = "off"
    with pytest.raises(Unreachable, match="may have been carried out"):
        client.set_power("off", clock.deadline(2.5))
    assert pair.machine.commands == ["off"]


def test_a_slow_bmc_is_waited_for() -> None:
    """A BMC that takes its time before each answer is asked once and answers right."""
    for kind in KINDS:
        with ExitStack() as stack:
            pair = paired(kind, stack, answer_seconds=3.0)
            assert pair.client().power_state(LiveClock().deadline(AMPLE)).on
            assert set(pair.machine.paused) == {3.0}
