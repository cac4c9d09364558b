"""A copy as it is looked at: how far it is, whether it answers inside, what of it reaches beyond it, and its age."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import NotMet, PreflightRefused
from pytest_pveha.handles.agent import AgentAway
from pytest_pveha.handles.backups import Backup
from pytest_pveha.handles.copies import TaskState
from pytest_pveha.handles.guest import Guest
from pytest_pveha.handles.node import ClockOffset
from pytest_pveha.observe.copies import Copy, Original, age, answers_inside, keep_apart, reaches, restored, unlocked
from pytest_pveha.observe.observer import Observer

TAG = "pveha-0a1b2c3d-guest-restored-1"
COPY = Copy("vm:9000", "n1", Guest("vm:101", "gold", None, ()), TAG, 100, Original("n2", "d", 812, {}))
THEIRS = {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "smbios1": "uuid=a"}
APART = {"net0": "virtio=BC:24:11:00:00:02,bridge=vmbr0,link_down=1", "smbios1": "uuid=b", "onboot": "0", "tags": TAG}


def observer(
    copy: dict[str, str] | None = None,
    *,
    tasks: tuple[TaskState, ...] = (),
    log: tuple[str, ...] = (),
    away: str = "",
    managed: tuple[str, ...] = (),
    offsets: tuple[ClockOffset, ...] = (),
    dropped: list[str] | None = None,
) -> Observer:
    """Eyes on a site that says this."""
    clock = LiveClock()
    there = dict(copy) if copy is not None else None

    def ping(deadline: object) -> None:
        if away:
            raise AgentAway(away)

    def drop(sid: str, node: object, keys: tuple[str, ...], deadline: object) -> None:
        assert there is not None
        assert dropped is not None
        dropped.extend(keys)
        for key in keys:
            there.pop(key)

    copies = SimpleNamespace(
        restores=lambda *_: tasks,
        log=lambda *_: log,
        settings=lambda sid, *_: there if sid == "vm:9000" else THEIRS,
        drop=drop,
    )
    nodes = [SimpleNamespace(clock_offset=lambda deadline, one=one: one) for one in offsets]
    site = SimpleNamespace(
        clock=clock,
        copies=copies,
        inside=lambda *_: SimpleNamespace(ping=ping),
        cluster=SimpleNamespace(ha_rules=lambda deadline: SimpleNamespace(resources={sid: {} for sid in managed})),
        nodes=nodes or {"n1": None},
    )
    return cast("Observer", SimpleNamespace(site=site))


def task(ended: str) -> TaskState:
    return TaskState("UPID:n1:1", 120, ended)


@pytest.mark.parametrize(
    ("tasks", "verdict"),
    [((), "no"), ((task(""),), "no"), ((task("OK"),), "yes"), ((task("WARNINGS: 1"),), "yes")],
)
def test_a_restore_is_waited_for(tasks: tuple[TaskState, ...], verdict: str) -> None:
    """Until its task has ended well, whatever it warned of."""
    answer = restored(COPY).ask(observer(tasks=tasks, log=("progress 5% (read 1 bytes)",)))
    assert answer.verdict == verdict


def test_a_restore_that_failed_is_not_waited_for() -> None:
    """Not met at once, with the line that says why, and not the one that says what is left."""
    log = ("progress 5%", "restore failed: connection reset", "VM 9000 state is NOT cleaned up.", "TASK ERROR: x")
    with pytest.raises(NotMet, match="failed: exit code 255: restore failed: connection reset"):
        restored(COPY).ask(observer(tasks=(task("failed: exit code 255"),), log=log))


@pytest.mark.parametrize(
    ("away", "verdict"),
    [("", "yes"), ("500 QEMU guest agent is not running", "no"), ("500 No QEMU guest agent configured", "cant_tell")],
)
def test_who_was_never_to_answer_says_nothing(away: str, verdict: str) -> None:
    """A VM without an agent is no VM that does not work."""
    assert answers_inside(COPY).ask(observer(away=away)).verdict == verdict


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**APART, "net0": "virtio=BC:24:11:00:00:02,bridge=vmbr0"}, "net0 is up"),
        ({**APART, "net0": f"{THEIRS['net0']},link_down=1"}, "the address bc:24:11:00:00:01 is the original's"),
        ({**APART, "smbios1": "uuid=a"}, "its UUID is the original's"),
        ({**APART, "onboot": "1"}, "it starts at boot"),
        ({**APART, "tags": "gold"}, "our tag is not on it (gold)"),
        ({**APART, "hostpci0": "0000:01:00.0"}, "hostpci0 is set"),
    ],
)
def test_what_reaches_beyond_a_copy_is_told(settings: dict[str, str], said: str) -> None:
    """Each by itself, and nothing of one that is kept apart."""
    assert reaches(observer(APART), COPY, APART) == []
    assert [text for text in reaches(observer(settings), COPY, settings) if said in text]


def test_a_managed_copy_is_told() -> None:
    """HA would move and start it."""
    assert reaches(observer(APART, managed=("vm:9000",)), COPY, APART) == ["HA manages it"]


def test_what_can_be_taken_away_is() -> None:
    """Devices and scripts go before it starts; what no tool takes away, or a link that is up, keeps it off."""
    dropped: list[str] = []
    keep_apart(observer({**APART, "hostpci0": "x", "args": "-vnc :1"}, dropped=dropped), COPY)
    assert dropped == ["args", "hostpci0"]
    with pytest.raises(PreflightRefused, match=r"lxc\.mount\.entry, which no tool takes away"):
        keep_apart(observer({**APART, "lxc.mount.entry": "/srv"}, dropped=[]), COPY)
    with pytest.raises(PreflightRefused, match="would not be kept apart: net0 is up"):
        keep_apart(observer({**APART, "net0": "virtio=BC:24:11:00:00:02"}, dropped=[]), COPY)


@pytest.mark.parametrize(("settings", "verdict"), [(None, "no"), ({"lock": "create"}, "no"), ({"memory": "1"}, "yes")])
def test_a_lock_is_seen(settings: dict[str, str] | None, verdict: str) -> None:
    """A copy that is not there is not unlocked, either."""
    assert unlocked(COPY).ask(observer(settings)).verdict == verdict


def test_an_age_reaches_as_far_as_the_worst_clock() -> None:
    """Whichever node stamped it: two seconds behind, or one ahead, each with its error; stamps are whole seconds."""
    here = observer(offsets=(ClockOffset(-2.0, 0.1), ClockOffset(1.0, 0.2)))
    now = here.site.clock.now().utc / 1e9
    backup: Any = Backup("v", "vm:101", int(now) - 100, 1, "ok", "", False)
    low, high = age(here, backup)
    exact = now - backup.taken
    assert low == pytest.approx(exact - 1 - 2.1, abs=0.5)
    assert high == pytest.approx(exact + 1.2, abs=0.5)
