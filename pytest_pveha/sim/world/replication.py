"""Replication jobs: a guest's zfs disks go to another node by a schedule, and from there a failover starts.

Each minute the scheduler of each node looks for jobs of the guests whose configuration lies there. What a node knows
of a job is that node's own (its state file), so after a failover the new node knows of no sync. A job whose guest was
taken over turns round: its target is where the guest was.

Sources: pve-guest-common 6.0 (ReplicationState.pm: job_status, record_job_end; ReplicationConfig.pm,
switch_replication_job_target; Replication.pm), pve-manager 9.2 (API2/Replication.pm).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Facts, Guest, Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

_MINUTE = 60.0
_REFUSED = 3.0
"""Seconds until ssh to a node that is gone gives up (no route to host)."""
_OLD = 6 * 3600
_FAILURES = 7
_FAR = 86400
TORN = "No common base snapshot on volume(s)"


@dataclass(slots=True)
class State:
    """What a node knows of one job; epoch seconds of its own clock."""

    last_sync: int = 0
    last_try: int = 0
    fail_count: int = 0
    duration: float | None = None
    error: str = ""
    pid: int = 0


@dataclass(slots=True)
class Job:
    """A job as the cluster has it configured, and what each node knows of it."""

    guest: Guest
    number: int
    target: str
    source: str
    minutes: int
    seconds: float
    disable: bool = False
    remove: str = ""
    states: dict[tuple[str, str], State] = field(default_factory=dict)
    """(node, target) → its state there."""
    log: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """As PVE calls it, such as ``101-0``."""
        return f"{self.guest.vmid}-{self.number}"

    @property
    def schedule(self) -> str:
        """As a calendar event."""
        return f"*/{self.minutes}"

    def state(self, node: str) -> State:
        """What that node knows of it with its present target."""
        return self.states.setdefault((node, self.target), State())


@dataclass(frozen=True, slots=True)
class Copy:
    """What lies on a node of a guest that runs elsewhere."""

    at: int
    """The moment (ns) whose data it is."""
    epoch: int
    """What the snapshot is called after: the run's start, by the source's clock."""


class Replication:
    """The jobs and copies of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: dict[str, Job] = {}
        self.copies: dict[tuple[int, str], Copy] = {}
        """(vmid, node) → its copy there."""
        self.bases: dict[tuple[int, str], Copy] = {}
        """(vmid, node) → the copy from which it was started there, as long as its snapshot is kept."""
        for one in world.spec.replication:
            guest = next(guest for guest in world.guests.values() if guest.sid == one.guest)
            number = sum(job.guest is guest for job in self.jobs.values())
            job = Job(guest, number, one.target, guest.spec.node, one.minutes, one.seconds, one.disable)
            self.jobs[job.id] = job

    def begin(self) -> None:
        """Every job has run by its schedule for days; each node's scheduler goes on."""
        if not self.jobs:
            return
        for job in self.jobs.values():
            self._begin_job(job)
        for node in self._world.nodes.values():
            self.scheduler(node)

    def _begin_job(self, job: Job) -> None:
        world, source = self._world, self._world.nodes[job.source]
        if world.planted("replica-on-wrong-node"):
            others = [name for name in world.nodes if name not in (job.source, job.target)]
            job.target = others[0] if others else job.target
        if world.planted("replication-never-ran"):
            return
        now = int(world.utc(source))
        last = now - now % (job.minutes * 60)
        state = job.state(source.name)
        state.last_sync = state.last_try = last
        state.duration = job.seconds
        if world.planted("replication-failing"):
            state.last_sync, state.fail_count = last - _OLD, _FAILURES
            state.error = f"{TORN} {self.volume(job.guest)}"
        if job.disable:
            state.last_sync = state.last_try = last - _OLD
        self._keep(job, state.last_sync, self._moment(source, state.last_sync))

    def _moment(self, node: Node, epoch: int) -> int:
        return round((epoch - self._world.utc(node)) * SECOND) + self._world.timeline.now

    def _keep(self, job: Job, epoch: int, at: int) -> None:
        """The copy on the job's target is of that moment."""
        if self._world.planted("replica-older-than-told"):
            at, epoch = at - _OLD * SECOND, epoch - _OLD
        self.copies[job.guest.vmid, job.target] = Copy(at, epoch)

    def volume(self, guest: Guest) -> str:
        """The id of its disk's volume."""
        return f"{self._world.storages.of(guest).name}:{'vm' if guest.kind == 'vm' else 'subvol'}-{guest.vmid}-disk-0"

    def scheduler(self, node: Node) -> None:
        """The node's pvescheduler looks each minute, at the full one."""
        if self.jobs:
            seconds = _MINUTE - self._world.utc(node) % _MINUTE
            self._world.on(node, seconds + 0.05, partial(self._minute, node), f"{node.name}: pvescheduler")

    def _minute(self, node: Node) -> None:
        self.scheduler(node)
        if not (node.units["pvescheduler"].active and self._world.quorate(node) and not node.syncing):
            return
        now = int(self._world.utc(node))
        for job in self.on(node):
            if not job.disable and 0 < self.next_sync(job, node) <= now and not job.state(node.name).pid:
                self._run(job, node, now)

    def on(self, node: Node) -> list[Job]:
        """The jobs of the guests whose configuration lies there, turned round if it was not before."""
        found = []
        for job in self.jobs.values():
            if job.guest.config_node != node.name:
                continue
            if job.source != node.name and self._world.quorate(node):
                if job.target == node.name and not self._world.planted("job-does-not-turn-round"):
                    job.target = job.source
                job.source = node.name
            if job.target != node.name:  # never to itself
                found.append(job)
        return found

    def next_sync(self, job: Job, node: Node) -> int:
        """When it is due, epoch seconds; 0: not to be told."""
        state = job.state(node.name)
        if self._world.planted("replication-never-ran"):
            return int(self._world.utc(node)) + _FAR
        if not state.fail_count:
            step = job.minutes * 60
            return state.last_try - state.last_try % step + step
        there = self._world.nodes[job.target]
        if there.nodeid not in self._world.view_members(node):
            return 0
        return state.last_try + 60 * (5 * state.fail_count if state.fail_count <= 3 else 30)

    def schedule_now(self, job: Job, node: Node) -> None:
        """It is due at the next full minute."""
        job.state(node.name).last_try = 0

    def _run(self, job: Job, node: Node, now: int) -> None:
        state, there = job.state(node.name), self._world.nodes[job.target]
        state.last_try, state.pid = now, self._world.new_pid(node)
        job.log = [f"{job.id}: start replication job", f"{job.id}: volumes => {self.volume(job.guest)}"]
        began = self._world.timeline.now
        error = self._why_it_fails(job, there)
        seconds = _REFUSED if error else job.seconds
        self._world.on(node, seconds, partial(self._ended, job, node, now, began, error), f"replication {job.id}")

    def _why_it_fails(self, job: Job, there: Node) -> str:
        if self._world.planted("replication-failing"):
            return f"{TORN} {self.volume(job.guest)}"
        if not there.running:
            address = self._world.network.address(there)
            return f"command '/usr/bin/ssh -e none -o 'BatchMode=yes' root@{address} -- true' failed: exit code 255"
        return ""

    def _ended(self, job: Job, node: Node, now: int, began: int, error: str) -> None:
        state, there = job.state(node.name), self._world.nodes[job.target]
        state.pid = 0
        state.duration = round((self._world.timeline.now - began) / SECOND, 6)
        if not error and not there.running:
            error = "command 'zfs recv' failed: exit code 255"
        if error:
            state.fail_count += 1
            state.error = error
            job.log.append(f"{job.id}: end replication job with error: {error}")
            self._world.log(node, "pvescheduler", f"{job.id}: got unexpected replication job error - {error}")
            return
        state.last_sync, state.fail_count, state.error = now, 0, ""
        if self._base(job, node) is not None:
            self.bases.pop((job.guest.vmid, node.name))
        self._keep(job, now, began)
        job.log.append(f"{job.id}: end replication job")
        self._world.truth("replicated", {"job": job.id, "source": node.name, "target": job.target})

    def snapshot(self, job: Job, node: Node) -> int:
        """What the job's snapshot on that node is called after (epoch seconds); 0 where it has none."""
        kept = self.copies.get((job.guest.vmid, node.name)) or self._base(job, node)
        if kept is not None:
            return kept.epoch
        return job.state(node.name).last_sync if job.source == node.name else 0

    def _base(self, job: Job, node: Node) -> Copy | None:
        """What that node and the job's target have in common since the guest runs there; other jobs leave it alone."""
        base = self.bases.get((job.guest.vmid, node.name))
        turned = job.target != node.name  # one that has not turned round made what is here itself
        return base if not turned or base is self.copies.get((job.guest.vmid, job.target)) else None

    # a guest elsewhere

    def why_not(self, guest: Guest, node: Node) -> str | None:
        """Why the guest cannot start there from a copy, in ZFS's words."""
        there = (guest.vmid, node.name) in self.copies
        if there and not self.leaves_out_a_disk(guest):
            return None
        disk = self.volume(guest).partition(":")[2]
        name = f"rpool/data/{disk if not there else disk.replace('disk-0', 'disk-1')}"
        return f"cannot open '{name}': dataset does not exist"

    def leaves_out_a_disk(self, guest: Guest) -> bool:
        """Whether the guest has a disk that its jobs do not take along."""
        mine = [job.guest for job in self.jobs.values() if job.guest.spec.node == guest.spec.node]
        return self._world.planted("disk-not-replicated") and guest in mine[:1]

    def fail_over(self, guest: Guest, node: Node) -> int:
        """The guest runs on with the copy there; the moment (ns) whose data that is.

        Where it was, what it wrote after that moment is not what it goes on with: that is the common base.
        """
        copy = self.bases[guest.vmid, node.name] = self.copies.pop((guest.vmid, node.name))
        self.copies[guest.vmid, guest.disk_node] = copy
        return copy.at

    def moved(self, guest: Guest, source: str, target: str) -> None:
        """The guest was migrated: what it leaves behind is a copy, and its jobs go on from there with what was known.

        Source: pve-guest-common, extract_vmid_tranfer_state.
        """
        now = int(self._world.utc(self._world.nodes[source]))
        self.copies.pop((guest.vmid, target), None)
        for job in self.jobs.values():
            if job.guest is guest and job.target == target:
                known = job.state(source)
                job.target, job.source = source, target
                job.states[target, source] = State(now, now, 0, known.duration)
                self.copies[guest.vmid, source] = Copy(self._world.timeline.now, now)

    # what is told

    def told(self, job: Job, node: Node) -> Facts:
        """GET /nodes/{node}/replication/{id}/status."""
        state = job.state(node.name)
        entry: Facts = {
            **self.configured(job),
            "vmtype": "qemu" if job.guest.kind == "vm" else "lxc",
            "last_sync": state.last_sync,
            "last_try": state.last_try,
            "next_sync": self.next_sync(job, node),
            "fail_count": state.fail_count,
        }
        if state.duration is not None:
            entry["duration"] = state.duration
        if state.error:
            entry["error"] = state.error
        return entry | ({"pid": state.pid} if state.pid else {})

    def configured(self, job: Job) -> Facts:
        """GET /cluster/replication, one entry."""
        entry: Facts = {
            "id": job.id,
            "guest": job.guest.vmid,
            "jobnum": job.number,
            "type": "local",
            "source": job.source,
            "target": job.target,
            "schedule": job.schedule,
        }
        if job.disable:
            entry["disable"] = 1
        return entry | ({"remove_job": job.remove} if job.remove else {})
