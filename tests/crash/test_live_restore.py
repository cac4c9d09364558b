"""A copy that runs while it is still being made: whoever dies meanwhile, it is stopped, unlocked and gone."""

from __future__ import annotations

import pytest
from test_crash import PLAYED, Case, assert_healthy, healed_by, here, struck
from whole_run import Place

__all__ = ["here"]


class Live(Case):
    """A cell whose fault is made live."""

    @property
    def test(self) -> str:
        """The test that is struck."""
        return super().test.replace("test_guest", "test_live_guest")


@pytest.mark.parametrize(
    ("line", "way"), [("fault.heal", "kill"), ("fault.heal", "abandoned"), ("fault.heal", "kill-both")]
)
def test_a_copy_that_runs_is_taken_away(here: Place, line: str, way: str) -> None:
    """By the supervisor, by its own node, or by hand."""
    case = Live("guest-restored", "after", line, way)
    blocks, played = PLAYED[case.fault]
    inventory = here.inventory(blocks, **{**played, "backup": {"speed": "80 MiB"}})
    run = struck(here, inventory, case)
    assert "guest_process_start" in [event["kind"] for event in here.truth if event.get("vmid") == 9000]
    healed_by(here, inventory, case, run)
    assert_healthy(here, inventory, run)
