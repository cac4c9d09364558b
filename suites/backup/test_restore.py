"""Each tier's guest, restored beside itself from its newest backup: links down, under a number of its own, and removed.

The time of a restore ends when somebody answers inside: a VM's agent, a container's shell. With its links down nobody
could reach the application.
"""

import pytest

from pytest_pveha.judge import backup_age, collateral_resets, restore_time, violations
from pytest_pveha.observe import audits
from pytest_pveha.observe.copies import answers_inside, restored, runs, unlocked
from pytest_pveha.readiness.backups import verified
from pytest_pveha.readiness.copies import apart, same_content, untouched


@pytest.mark.destructive(blast="nothing: a copy beside the guest", expected="3 min", breaks=("guest-restored",))
@pytest.mark.needs(restore=True)
def test_restored_beside_itself(protected, faults, run, objectives):
    """A guest's newest backup is young enough, and is that guest again within the restore RTO."""
    run.check(verified(protected))
    with faults.guest_restored(protected) as copy:
        run.expect(restored(copy), within="24 h")
        run.expect(unlocked(copy), within="1 min")
        run.start(copy)
        run.expect(runs(copy), within="5 min")
        run.expect(answers_inside(copy), within="20 min")
        run.check(apart(copy))
        run.check(same_content(copy))
        run.check(untouched(copy))

    marks = [restored(copy), runs(copy), answers_inside(copy)]
    run.claim(restore_time(protected, until=marks), at_most=objectives.restore_rto)
    run.claim(backup_age([protected]), at_most=objectives.restore_rpo)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="nothing: a copy beside the guest", expected="3 min", breaks=("guest-restored",))
@pytest.mark.needs(live_restore=True)
def test_live_restored_beside_itself(protected_vm, faults, run, objectives):
    """A VM that is restored while it runs is that guest again, before its disk is whole, and then it is whole."""
    with faults.guest_restored(protected_vm, live=True) as copy:
        run.expect(runs(copy), within="10 min")
        run.expect(answers_inside(copy), within="20 min")
        run.check(apart(copy))
        run.expect(restored(copy), within="24 h")
        run.expect(unlocked(copy), within="1 min")
        run.check(same_content(copy))
        run.check(untouched(copy))

    run.claim(restore_time(protected_vm, until=[runs(copy), answers_inside(copy)]), at_most=objectives.restore_rto)
    run.claim(backup_age([protected_vm]), at_most=objectives.restore_rpo)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
