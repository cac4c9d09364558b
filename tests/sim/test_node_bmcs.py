"""ipmitool on a node: to its own BMC and to any other's."""

from __future__ import annotations

import pytest

from pytest_pveha.sim.world.bmcs import BmcLogin
from tests.sim.servers_kit import PlayingGate, shell, small_site, told

TOOL = "ipmitool -I lanplus -H 10.0.9.3 -p 6233 -U pveha"
NO_SESSION = "Error: Unable to establish IPMI v2 / RMCP+ session\n"
HPM = "Get HPM.x Capabilities request failed, compcode = d4\n"
"""What ipmitool complains of to an operator, though all goes well (seen against a simulated BMC of OpenIPMI)."""


@pytest.fixture
def gate() -> PlayingGate:
    """A site whose BMCs are at 10.0.9.1 to 3, ports 6231 to 3."""
    return managed()


def managed(**changes: object) -> PlayingGate:
    """A gate to such a site."""
    gate = PlayingGate(small_site(**changes))
    for number, name in enumerate(gate.world.nodes, 1):
        gate.world.bmcs[f"10.0.9.{number}", 6230 + number] = BmcLogin(name, "pveha", "geheim")
    return gate


def test_another_nodes_power(gate: PlayingGate) -> None:
    """A node switches another off and on, with the password from a file, the environment or the line."""
    told(gate, "umask 077 && mkdir -p /var/lib/pveha && cat > /var/lib/pveha/secret", given="geheim\n")
    tool = f"{TOOL} -f /var/lib/pveha/secret -C 3 -L OPERATOR"
    for words, said in (("status", "Chassis Power is on\n"), ("off", "Chassis Power Control: Down/Off\n")):
        done = shell(gate, f"{tool} chassis power {words}")
        assert (done.status, done.out, done.err) == (0, said, HPM)
    gate.until(lambda: not gate.world.nodes["pve3"].chassis_on, 5)
    assert told(gate, f"IPMI_PASSWORD=geheim {TOOL} -E -C 3 chassis power status") == "Chassis Power is off\n"
    assert told(gate, f"{TOOL} -P geheim -C 3 chassis power on") == "Chassis Power Control: Up/On\n"
    gate.until(lambda: gate.world.nodes["pve3"].running, 90)


def test_what_a_bmc_says_of_itself(gate: PlayingGate) -> None:
    """GUID, address and users are those of the machine asked, not of the one that asks."""
    spec = gate.world.nodes["pve3"].spec
    tool = f"{TOOL} -P geheim -C 3"
    assert f"System GUID  : {spec.system_uuid}\n" in told(gate, f"{tool} mc guid")
    assert spec.bmc_mac in told(gate, f"{tool} lan print 1")
    assert "pveha" in told(gate, f"{tool} user list 1")
    assert "IPMIv2/RMCP+" in told(gate, f"{tool} session info active")
    assert str(gate.world.nodes["pve1"].spec.system_uuid) in told(gate, "ipmitool mc guid")


@pytest.mark.parametrize(
    "line",
    [
        f"{TOOL} -P falsch -C 3 chassis power off",
        "ipmitool -I lanplus -H 10.0.9.3 -p 6233 -U root -P geheim -C 3 chassis power off",
        f"{TOOL} -C 3 chassis power off",
    ],
)
def test_a_wrong_login_does_nothing(gate: PlayingGate, line: str) -> None:
    """A wrong user or password is told as the tool tells it, soon, and the power stays."""
    done = shell(gate, line)
    assert (done.status, done.out, done.err) == (1, "", NO_SESSION)
    gate.play(10)
    assert sum(gate.parked) < 1
    assert gate.world.nodes["pve3"].chassis_on


def test_a_password_file_that_is_not_there(gate: PlayingGate) -> None:
    """Without the file nothing is sent, and the message names it."""
    done = shell(gate, f"{TOOL} -f /nowhere -C 3 chassis power off")
    assert done.status == 1
    assert done.err.endswith("Unable to read password from file /nowhere\n")


def test_a_dead_bmc_takes_its_time() -> None:
    """A BMC that does not answer is given up after twenty seconds, and a script's second try goes the same way."""
    gate = managed(defects=["bmc-unreachable"])
    line = f"{TOOL} -P geheim -C 3 chassis power on"
    done = shell(gate, f"{line} || {line}")
    assert (done.status, done.err) == (1, NO_SESSION * 2)
    assert sum(gate.parked) == pytest.approx(40.2)
    gate.parked.clear()
    assert shell(gate, line.replace("10.0.9.3", "10.0.9.77")).err == NO_SESSION
    assert sum(gate.parked) == pytest.approx(20.1)


def test_swapped_cables_hit_the_wrong_machine() -> None:
    """With the defect the BMC at a node's address is another's."""
    gate = managed(defects=["bmc-cables-swapped"])
    told(gate, f"{TOOL} -P geheim -C 3 chassis power off")
    gate.play(5)
    assert gate.world.nodes["pve3"].chassis_on
    assert not gate.world.nodes["pve1"].chassis_on


def test_a_dead_man_switches_a_node_on_again(gate: PlayingGate) -> None:
    """The whole way: a timer on one node gives another its power back."""
    told(gate, "umask 077 && mkdir -p /var/lib/pveha && cat > /var/lib/pveha/secret", given="geheim\n")
    on = f"{TOOL} -f /var/lib/pveha/secret -C 3 -L OPERATOR chassis power on"
    told(gate, "cat > /var/lib/pveha/undo.sh", given=f"#!/bin/sh\n{on} || {on}\n")
    line = "systemd-run --quiet --collect --unit=pveha-x --on-active=60 --timer-property=AccuracySec=100ms"
    told(gate, f"{line} /bin/sh /var/lib/pveha/undo.sh")
    gate.kill("pve3")
    gate.play(50)
    assert not gate.world.nodes["pve3"].chassis_on
    gate.play(20)
    assert gate.world.nodes["pve3"].chassis_on
