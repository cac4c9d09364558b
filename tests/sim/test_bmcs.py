"""The BMCs of a whole simulated site, by both protocols, with everything that can be odd about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import whole_run
from ruamel.yaml import YAML

from pytest_pveha import embedded
from pytest_pveha.clock import SECOND
from pytest_pveha.errors import AuthRefused, SiteError, Unreachable
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.observe.identity import own_bmc
from pytest_pveha.observe.observer import Observer
from pytest_pveha.record.volatile import canonical

BOTH = ["ipmi", "redfish"]


@contextmanager
def site(
    monkeypatch: pytest.MonkeyPatch, driver: str, *bmcs: dict[str, Any], defects: tuple[str, ...] = ()
) -> Iterator[Site]:
    """A site in virtual time whose BMCs speak that protocol and are as odd as these entries say."""
    with ExitStack() as stack:
        place = stack.enter_context(whole_run.place())
        monkeypatch.setenv("PVEHA_RUNTIME", str(place.folder / "run"))
        path = place.inventory(bmcs=list(bmcs), defects=list(defects))
        yaml = YAML()
        content = yaml.load(path.read_text())
        for node in content["nodes"].values():
            node["bmc"] = {"driver": driver}
        with path.open("w") as file:
            yaml.dump(content, file)
        running = embedded.start(load(path))
        stack.callback(embedded._started[-1].wait, 60)  # the others are other tests'
        stack.callback(running.stop)
        clock = running.clock()
        stack.callback(clock.close)
        handles = connect(running.inventory, clock)
        stack.callback(handles.close)
        yield handles


def controller(site: Site, name: str) -> Bmc:
    bmc = site.nodes[name].bmc
    assert bmc is not None
    return bmc


def seconds_until(site: Site, true: Callable[[], bool], within: float = 30.0) -> float:
    """Site seconds until it is true, looked at four times a second."""
    begun = site.clock.now().mono
    while not true():
        assert site.clock.now().mono - begun < within * SECOND
        site.clock.sleep(0.25)
    return (site.clock.now().mono - begun) / SECOND


@pytest.mark.parametrize("driver", BOTH)
def test_power_lags_behind_its_command(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """The command is answered at once and the power goes later: within 3 s, or as slowly as the entry says."""
    slow = {"node": "pve2", "power_seconds": 10}
    with site(monkeypatch, driver, slow) as there:
        for name, least, most in (("pve1", 0.5, 3.5), ("pve2", 7.5, 10.5)):
            bmc = controller(there, name)
            bmc.set_power("off", there.clock.deadline(20))
            assert bmc.power_state(there.clock.deadline(20)).on
            off = seconds_until(there, lambda bmc=bmc: not bmc.fresh_power_state(there.clock.deadline(20)).on)  # type: ignore[misc]
            assert least <= off <= most


@pytest.mark.parametrize("driver", BOTH)
def test_a_bmc_keeps_a_log_of_its_machine(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Power off and on stand in the log of that node's BMC, with their times, and in nobody else's."""
    with site(monkeypatch, driver) as there:
        bmc = controller(there, "pve2")
        assert bmc.sel(there.clock.deadline(20)) == ()
        begun = there.clock.now().utc / SECOND
        for command, on in (("off", False), ("on", True)):
            bmc.set_power(command, there.clock.deadline(20))  # type: ignore[arg-type]
            seconds_until(there, lambda on=on: bmc.power_state(there.clock.deadline(20)).on is on)  # type: ignore[misc]
        entries = bmc.sel(there.clock.deadline(20))
        assert [entry.event for entry in entries] == ["power off", "power on"]
        for entry in entries:
            assert entry.at is not None
            assert begun - 1 <= entry.at <= there.clock.now().utc / SECOND
        assert controller(there, "pve1").sel(there.clock.deadline(20)) == ()


@pytest.mark.parametrize("driver", BOTH)
@pytest.mark.parametrize("state", ["hung", "unreachable"])
def test_a_mute_bmc_costs_site_time_alone(monkeypatch: pytest.MonkeyPatch, driver: str, state: str) -> None:
    """A BMC that hangs or is not there is Unreachable when its deadline comes in site time; the others answer."""
    with site(monkeypatch, driver, {"node": "pve2", "state": state}) as there:
        deadline = there.clock.deadline(600)
        with pytest.raises(Unreachable, match="gave no answer before the deadline"):
            controller(there, "pve2").power_state(deadline)
        assert deadline.expired()
        assert controller(there, "pve1").power_state(there.clock.deadline(20)).on


@pytest.mark.parametrize("driver", BOTH)
def test_whose_bmc_it_is(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """A BMC with its own identity is the node's; with another's it is not; with none it cannot be told."""
    odd = ({"node": "pve2", "identity": "wrong"}, {"node": "pve3", "identity": "blank"})
    with site(monkeypatch, driver, *odd) as there:
        observer = Observer(there, lambda kind, data: None)
        said = [own_bmc(observer, there.nodes[name]).verdict for name in ("pve1", "pve2", "pve3")]
    assert said == ["yes", "no", "cant_tell"]


@pytest.mark.parametrize("driver", BOTH)
def test_exchanged_cables_show(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """With the cables exchanged no node's BMC is its own, whoever is asked, by either protocol."""
    with site(monkeypatch, driver, defects=("bmc-cables-swapped",)) as there:
        observer = Observer(there, lambda kind, data: None)
        assert {own_bmc(observer, node).verdict for node in there.nodes} == {"no"}


@pytest.mark.parametrize("driver", BOTH)
def test_slow_and_shy(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """A BMC that takes 5 s for each answer takes site time; a user without the privilege may look and not switch."""
    with site(monkeypatch, driver, {"answer_seconds": 5, "privilege": "OPERATOR", "sessions": 2}) as there:
        bmc = controller(there, "pve1")
        reading = bmc.power_state(there.clock.deadline(120))
        assert reading.on
        assert reading.answered_at.mono - reading.asked_at.mono >= 5 * SECOND
        assert bmc.access(there.clock.deadline(300)).may_switch is True
    with site(monkeypatch, driver, {"privilege": "USER"}) as there:
        bmc = controller(there, "pve1")
        with pytest.raises(AuthRefused):
            bmc.set_power("off", there.clock.deadline(20))
        there.clock.sleep(15)
        assert there.nodes["pve1"].boot_id(there.clock.deadline(20))


def test_cipher_zero_of_a_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three BMCs the one with suite 0 is found, and the one that is not there is not called safe."""
    odd = ({"node": "pve2", "cipher_zero": True}, {"node": "pve3", "state": "unreachable"})
    with site(monkeypatch, "ipmi", *odd) as there:
        said: list[object] = []
        for node in there.nodes:
            try:
                said.append(node.bmc.cipher_zero(there.clock.deadline(60)))  # type: ignore[union-attr]
            except SiteError as error:
                said.append(type(error))
    assert said == [False, True, Unreachable]


MIXED = [
    {"node": "pve1", "vendor": "idrac", "power_seconds": 10},
    {"node": "pve2", "vendor": "ilo", "answer_seconds": 2},
    {"node": "pve3", "vendor": "supermicro", "privilege": "OPERATOR"},
]


def by_redfish(path: Path) -> Path:
    """The inventory with BMCs that speak Redfish."""
    text = path.read_text()
    for name in ("pve1", "pve2", "pve3"):
        text = text.replace(f"  {name}: {{room", f"  {name}: {{bmc: {{driver: redfish}}, room")
    assert text.count("driver: redfish") == 3
    path.write_text(text)
    return path


def test_the_same_seed_gives_the_same_journal_by_redfish() -> None:
    """Two runs on a site whose BMCs speak Redfish, slow ones among them, differ in nothing that counts."""
    journals = []
    for _ in range(2):
        with whole_run.place() as place:
            path = by_redfish(place.inventory(bmcs=MIXED, boot_seconds=40))
            outcome = whole_run.run(path, place, suites=Path(__file__).with_name("short_suite.py"))
            assert len(outcome.journal) > 100
            journals.append(canonical(outcome.journal).decode().splitlines())
    assert journals[0] == journals[1]


def test_power_loss_is_proven_by_redfish() -> None:
    """The suite accepts a site whose BMCs speak Redfish, each in another maker's way, one of them slow."""
    with whole_run.place() as place:
        suite = whole_run.ROOT / "suites" / "nodes" / "test_power_loss.py"
        outcome = whole_run.run(by_redfish(place.inventory(bmcs=MIXED)), place, suites=suite)
    assert outcome.exit_code == 0, outcome.output
    assert {test["verdict"] for test in outcome.verdict["tests"]} == {"accepted"}
