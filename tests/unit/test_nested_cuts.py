"""Cuts beside a node that is silent already: it is asked nothing, and hears nobody whom it is not to hear."""

from __future__ import annotations

from pytest_pveha.faults.network import Partition, spare

ADDRESSES = tuple((f"n{number}", (f"192.0.2.{number}",)) for number in range(1, 6))
CUT = Partition("pveha-0a1b2c3d-partition-2", ("n5",), ("n1", "n2", "n3"), ADDRESSES, silent=("n4",))


def test_who_is_cut_off_does_not_hear_the_silent_one_either() -> None:
    """If it comes back while the cut lasts it is with the rest; those take no rule against it."""
    assert set(CUT._traffic("n5").addresses) == {f"192.0.2.{number}" for number in (1, 2, 3, 4)}
    assert set(CUT._traffic("n1").addresses) == {"192.0.2.5"}


def test_nothing_is_asked_of_the_silent_one() -> None:
    """No dead-man, no part in what is lost: that is the fault's that took it."""
    assert {undo.node for undo in CUT.dead_man(None, "").undos} == {"n1", "n2", "n3", "n5"}  # type: ignore[arg-type]
    assert CUT.reach.nodes == {"n5"}


def test_a_link_is_spare_if_it_is_up_to_all_that_are_there() -> None:
    """So many nodes as are known to be silent may be out of reach on every link; one more, or half a link, may not."""
    both = {0: {2: True, 3: True}, 1: {2: True, 3: True}}
    assert spare(both, (0,)) == [1]
    one_silent = {0: {2: True, 3: False}, 1: {2: True, 3: False}}
    assert spare(one_silent, (0,), 1) == [1]
    assert spare(one_silent, (0,)) == []
    half = {0: {2: True, 3: True}, 1: {2: True, 3: False}}
    assert spare(half, (0,), 1) == []
    assert spare({0: {2: True}}, (0,)) == []
