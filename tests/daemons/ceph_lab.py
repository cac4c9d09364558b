"""A real Ceph on the laboratory's machines: mons, mgrs and OSDs on files, public and cluster network apart."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clusters import CLOCK, eventually, give_sshd, hand, host_key
from lab import Lab, Machine

from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.observe.observer import Observer

TOOLS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "sshd", "ssh-keygen")
PUBLIC, BACK = "10.77.5", "10.77.6"
NETWORKS = {"mgmt": "10.77.0", "public": PUBLIC, "back": BACK}
DOWN_OUT = 15
"""Seconds after which this Ceph marks an OSD that is down out; 600 as shipped."""
POOL, PGS = "vmdata", 32
DISK = 10 * 2**30
"""Bytes of each OSD's disk: a sparse file."""
SETTLES = 180.0
STEADY = 10.0
"""Seconds that an OSD has to have been up to be called healed, where a test does not ask for the 45 of the product."""
MAP = "/srv/osdmap"
_PLACED = re.compile(r"^(\S+) raw .* up \((\[[\d,]*\]), \S+\) acting \(\2, ", re.MULTILINE)
"""Of ``osdmaptool --test-map-pgs-dump-all``: a placement group and who serves it, where that is who is to."""

CONF = """[global]
fsid = {fsid}
mon_initial_members = {names}
mon_host = {hosts}
public_network = {public}.0/24
cluster_network = {back}.0/24
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 3
osd_pool_default_min_size = 2
osd_pool_default_pg_autoscale_mode = off
mon_osd_down_out_interval = {down_out}
mon_warn_on_pool_no_redundancy = false
mgr_initial_modules =
bluestore_block_size = {disk}
osd_memory_target = 939524096
bluestore_cache_autotune = false
bluestore_cache_size = 33554432
osd_recovery_sleep = 0
osd_recovery_sleep_hdd = 0
osd_max_backfills = 4
osd_crush_update_on_start = true
mon_data_avail_warn = 5
log_to_stderr = false
"""


class CephCluster:
    """Hosts with a mon each, a mgr on the first, and so many OSDs each; its handles are ``site``.

    A second mgr would stand by, in 300 MB, for a loss of the first that no test has in mind.
    """

    def __init__(self, lab: Lab, key: Path, *, hosts: int = 3, per_host: int = 2, first: int = 31) -> None:
        self.lab = lab
        self._key = key
        self.per_host = per_host
        self.machines: dict[str, Machine] = {}
        names = [f"ceph{number}" for number in range(1, hosts + 1)]
        for number, name in enumerate(names, first):
            self.machines[name] = lab.machine(name, {net: f"{at}.{number}/24" for net, at in NETWORKS.items()})
        self.client = lab.machine("client", {"public": f"{PUBLIC}.{first + hosts}/24"})
        self.fsid = str(uuid.uuid4())
        everybody = (*self.machines.values(), self.client)
        for machine in everybody:
            folder = machine.path("/etc/ceph")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "ceph.conf").write_text(self._conf())
        for machine in self.machines.values():
            give_sshd(machine, key)
            player = machine.path("/usr/local/bin/systemctl")
            shutil.copy(Path(__file__).parent / "played_units.py", player)
            player.chmod(0o755)
        self.first = self.machines[names[0]]
        self.file = self._inventory()
        self.site: Site = connect(load(self.file), CLOCK)
        self.observer = Observer(self.site, lambda kind, data: None)
        lab.at_end.append(self.site.close)

    def _conf(self) -> str:
        at = [machine.addresses["public"] for machine in self.machines.values()]
        return CONF.format(
            fsid=self.fsid,
            names=",".join(self.machines),
            hosts=",".join(f"[v2:{one}:3300,v1:{one}:6789]" for one in at),
            public=PUBLIC,
            back=BACK,
            down_out=DOWN_OUT,
            disk=DISK,
        )

    def _inventory(self) -> Path:
        """The site as its engineer would describe it. Nobody serves the API that it names."""
        folder = self.lab.folder
        (folder / "token").write_text("00000000-0000-4000-8000-000000000000\n")
        (folder / "token").chmod(0o600)
        at = {name: machine.addresses["mgmt"] for name, machine in self.machines.items()}
        told: dict[str, Any] = {
            "site": {"name": "ceph-lab"},
            "cluster": {
                "name": "ceph-lab",
                "api": {
                    "endpoints": list(at.values()),
                    "token_id": "pveha@pve!lab",
                    "token_secret": "file:token",
                    "fingerprints": {address: ":".join(["00"] * 32) for address in at.values()},
                },
            },
            "nodes": {
                name: {
                    "address": at[name],
                    "ssh": {"user": "root", "key_file": str(self._key), "host_key": host_key(self.machines[name])},
                }
                for name in self.machines
            },
            "networks": {"ceph_public": {"cidr": f"{PUBLIC}.0/24"}, "ceph_cluster": {"cidr": f"{BACK}.0/24"}},
            "ceph": {"pools": [POOL]},
            "objectives": {"tiers": {"gold": {"rto": "5 min"}}},
        }
        file = folder / "ceph.yml"
        file.write_text(json.dumps(told, indent=1))  # YAML, too
        return file

    def node(self, name: str) -> Node:
        """Our handle of that node."""
        return self.site.nodes[name]

    # --- beginning ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """All placement groups are active+clean."""
        for machine in self.machines.values():
            self.boot(machine)
        self.client.start()
        self.make()
        self.ceph("osd", "pool", "create", POOL, str(PGS), str(PGS))
        self.ceph("osd", "pool", "application", "enable", POOL, "rbd")
        self.ceph("balancer", "off")  # what moves, moves because of a test
        eventually(self.clean, within=SETTLES, what="all placement groups are active+clean")

    def make(self) -> None:
        """The daemons are made and run, on machines that do."""
        self._make_mons()
        self._make_mgr()
        self._make_osds()

    def boot(self, machine: Machine) -> None:
        """The machine runs, with its sshd, and with the Ceph daemons that stand on it."""
        machine.start()
        machine.daemon("/usr/sbin/sshd", "-D", "-e")
        if units := self._units(machine):
            self.unit(machine, "start", *units)

    @staticmethod
    def _units(machine: Machine) -> list[str]:
        """Those of the daemons that stand on that machine."""
        folders = [machine.path(f"/var/lib/ceph/{kind}") for kind in ("mon", "mgr", "osd")]
        return [
            f"ceph-{folder.name}@{each.name.removeprefix('ceph-')}"
            for folder in folders
            for each in (sorted(folder.iterdir()) if folder.is_dir() else [])
        ]

    def unit(self, machine: Machine, verb: str, *words: str) -> str:
        """What the machine's systemctl said."""
        return machine.run("/usr/local/bin/systemctl", verb, *words, check=False)

    def _make_mons(self) -> None:
        names = list(self.machines)
        keyring, admin, found = "/srv/mon.keyring", "/etc/ceph/ceph.client.admin.keyring", "/srv/monmap"
        run = self.first.run
        run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = [word for what in ("mon", "osd", "mgr", "mds") for word in ("--cap", what, "allow *")]
        run("ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin", *caps)
        run("ceph-authtool", keyring, "--import-keyring", admin)
        run("monmaptool", "--create", "--fsid", self.fsid, found)
        for name in names:
            at = self.machines[name].addresses["public"]
            run("monmaptool", "--addv", name, f"[v2:{at}:3300,v1:{at}:6789]", found)
        for machine in (*self.machines.values(), self.client):
            if machine is not self.first:
                shutil.copy(self.first.path(admin), machine.path(admin))
        for name, machine in self.machines.items():
            if machine is not self.first:
                hand(self.first, keyring, machine)
                hand(self.first, found, machine)
            machine.run("mkdir", "-p", f"/var/lib/ceph/mon/ceph-{name}")
            machine.run("ceph-mon", "--mkfs", "-i", name, "--monmap", found, "--keyring", keyring)
            self.unit(machine, "start", f"ceph-mon@{name}")
        eventually(lambda: self.ask("quorum_status").get("quorum_names") is not None, what="the mons answer")
        self.ceph("mon", "enable-msgr2")
        self.ceph("config", "set", "mon", "auth_allow_insecure_global_id_reclaim", "false")

    def _make_mgr(self) -> None:
        name = self.first.name
        self.first.run("mkdir", "-p", f"/var/lib/ceph/mgr/ceph-{name}")
        caps = ("mon", "allow profile mgr", "osd", "allow *", "mds", "allow *")
        keyring = self.ceph("auth", "get-or-create", f"mgr.{name}", *caps)
        self.first.path(f"/var/lib/ceph/mgr/ceph-{name}/keyring").write_text(keyring)
        self.unit(self.first, "start", f"ceph-mgr@{name}")

    def _make_osds(self) -> None:
        wanted = [machine for machine in self.machines.values() for _ in range(self.per_host)]
        for number, machine in enumerate(wanted):
            ident = str(uuid.uuid4())
            folder = f"/var/lib/ceph/osd/ceph-{number}"
            machine.run("mkdir", "-p", folder)
            secret = machine.run("ceph-authtool", "--gen-print-key").strip()
            (machine.path(folder) / "keyring").write_text(f"[osd.{number}]\n\tkey = {secret}\n")
            self.first.path("/srv/secrets.json").write_text(json.dumps({"cephx_secret": secret}))
            told = self.ceph("osd", "new", ident, "-i", "/srv/secrets.json")
            assert int(told) == number
            (machine.path(folder) / "uuid").write_text(ident)

        def make(number: int) -> None:
            machine, folder = wanted[number], f"/var/lib/ceph/osd/ceph-{number}"
            ident = (machine.path(folder) / "uuid").read_text()
            machine.run("ceph-osd", "-i", str(number), "--mkfs", "--osd-uuid", ident, within=SETTLES)
            self.unit(machine, "start", f"ceph-osd@{number}")

        with ThreadPoolExecutor(len(wanted)) as pool:
            list(pool.map(make, range(len(wanted))))

    # --- asking ------------------------------------------------------------------------------------------------------

    def ceph(self, *words: str) -> str:
        """What ``ceph`` printed on the first host that runs."""
        machine = next(each for each in self.machines.values() if each.running)
        return machine.run("timeout", "30", "ceph", "--connect-timeout", "20", *words)

    def ask(self, *words: str) -> dict[str, Any]:
        """The same as an object; an empty one while nobody answers."""
        try:
            return dict(json.loads(self.ceph(*words, "-f", "json")))
        except (RuntimeError, ValueError):
            return {}

    def states(self) -> dict[str, int]:
        """Placement groups by state."""
        told = self.ask("status").get("pgmap", {}).get("pgs_by_state", [])
        return {row["state_name"]: row["count"] for row in told}

    def clean(self) -> bool:
        """Whether all are active+clean, every OSD is up and in, and every mon in quorum."""
        told = self.ask("status")
        count = self.per_host * len(self.machines)
        osds = told.get("osdmap", {})
        return (
            {row["state_name"] for row in told.get("pgmap", {}).get("pgs_by_state", [])} == {"active+clean"}
            and osds.get("num_up_osds") == count
            and osds.get("num_in_osds") == count
            and len(told.get("quorum_names", ())) == len(self.machines)
            and self._told_of_this_map()
        )

    def _told_of_this_map(self) -> bool:
        """Whether each placement group was told of, as active+clean, since the map has it where it is.

        States are told late: an OSD that has come up is in the map for seconds before anything peers with it. So who
        serves each group is computed from the map, and compared with what was told, and since when.
        """
        self.ceph("osd", "getmap", "-o", MAP)
        machine = next(each for each in self.machines.values() if each.running)
        placed = dict(_PLACED.findall(machine.run("osdmaptool", MAP, "--test-map-pgs-dump-all")))
        since = {row["osd"]: row["up_from"] for row in self.ask("osd", "dump").get("osds", ())}
        rows = self.ask("pg", "dump", "pgs").get("pg_stats", [])
        return {row["pgid"] for row in rows} == set(placed) and all(
            row["state"] == "active+clean"
            and row["up"] == row["acting"] == json.loads(placed[row["pgid"]])
            and row["reported_epoch"] >= max(since.get(osd, 0) for osd in row["up"])
            for row in rows
        )

    def host_of(self, osd: int) -> Machine:
        """Where that OSD stands."""
        return list(self.machines.values())[osd // self.per_host]

    def osds_of(self, name: str) -> tuple[int, ...]:
        """The OSDs of that host."""
        at = list(self.machines).index(name) * self.per_host
        return tuple(range(at, at + self.per_host))

    # --- mending -----------------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Whatever a test did to it is undone, and all is active+clean again."""
        for machine in self.machines.values():
            for network in machine.addresses:
                self.lab.plug(machine.name, network, connected=True)
            if not machine.running:
                self.boot(machine)
                continue
            machine.run("nft", "flush", "ruleset")
            for verb in ("unmask", "reset-failed", "start"):
                self.unit(machine, verb, *self._units(machine))
        eventually(lambda: self.ask("osd", "dump") != {}, within=SETTLES, what="the mons answer again")
        told = self.ask("osd", "dump")
        for flag in {"noout", "norebalance"} & {*told["flags"].split(",")}:
            self.ceph("osd", "unset", flag)
        if out := [str(osd["osd"]) for osd in told["osds"] if osd["weight"] != 1]:
            self.ceph("osd", "in", *out)
        eventually(self.clean, within=2 * SETTLES, what="Ceph is whole again")
