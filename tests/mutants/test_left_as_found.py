"""What a run did not do and may have brought about is told: how the site was left, against how it was found."""

from __future__ import annotations

import whole_run
from whole_run import Outcome

SUITE = whole_run.ROOT / "suites" / "nodes" / "test_power_loss.py"


def played(*, driver: str = "ipmi", **simulator: object) -> tuple[Outcome, str]:
    """A power loss on such a site, and its report."""
    with whole_run.place() as here:
        rooms = dict(zip(("pve1", "pve2", "pve3"), "abc", strict=True))
        nodes = {name: {"room": room, "bmc": {"driver": driver}} for name, room in rooms.items()}
        inventory = here.inventory({"nodes": nodes}, boot_seconds=40, **simulator)
        outcome = whole_run.run(inventory, here, "-k", "other-1", suites=SUITE)
        return outcome, (outcome.folder / "report.html").read_text()


def test_a_boot_override_that_came_with_the_power_is_told() -> None:
    """`power-cycle-sets-pxe`: what the BMC makes of the victim's next boot is told, by IPMI and by Redfish."""
    for driver, words in (("ipmi", "(IPMI c004000000)"), ("redfish", "(Redfish Continuous, UEFI)")):
        outcome, page = played(driver=driver, defects=["power-cycle-sets-pxe"])
        victim = next(line.data["params"]["node"] for line in outcome.journal if line.kind == "fault.plan")
        told = f"boot override of {victim}: none → pxe at every boot {words}"
        assert outcome.test("other-1")["verdict"] == "accepted", outcome.output
        assert outcome.verdict["left"] == {"compared": True, "differences": [], "surroundings": [told]}
        assert told in page


def test_a_bmc_that_cannot_say_refuses_nothing() -> None:
    """What could not be read was not compared: noted, and no reason not to run."""
    outcome, _ = played(bmcs=[{"boot_options": False}])
    assert outcome.test("other-1")["verdict"] == "accepted", outcome.output
    unread = ", ".join(f"boot override of pve{number}" for number in (1, 2, 3))
    assert outcome.verdict["left"]["surroundings"] == [f"not compared, since it could not be read at first: {unread}"]
