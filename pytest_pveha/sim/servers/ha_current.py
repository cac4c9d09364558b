"""``/cluster/ha/status/current``: what the master and the LRMs last wrote, in the words people read.

Words and their conditions: pve-ha-manager 5.2 (API2/HA/Status.pm, Tools.pm); replies of a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_pveha.sim.world import versions
from pytest_pveha.sim.world.model import ClusterView
from pytest_pveha.sim.world.service import MAX_RELOCATE, MAX_RESTART, active_count

_OLD_SECONDS = 30
_DRIFT_SECONDS = -2

Entry = dict[str, Any]


class Current:
    """The entries, as one node reads them at that moment (epoch seconds by its clock)."""

    def __init__(self, view: ClusterView, version: str, now: float, date_text: Callable[[float], str]) -> None:
        self._view = view
        self._now = now
        self._date = date_text
        self._with_rules = versions.has(version, versions.RULES)
        self._with_watchdogs = versions.has(version, versions.DISARM)
        self._manager: Entry = view.manager_status["manager_status"]
        self._services: Entry = self._manager.get("service_status", {})

    def entries(self) -> list[Entry]:
        """Quorum, master, fencing, LRMs, services."""
        view, lrms = self._view, self._view.manager_status["lrm_status"]
        quorum = {
            "id": "quorum",
            "node": view.node,
            "quorate": int(view.quorate),
            "status": "OK" if view.quorate else f"No quorum on node '{view.node}'!",
            "type": "quorum",
        }
        entries: list[Entry] = [quorum]
        if self._manager.get("master_node"):
            entries.append(self._master())
        if self._with_watchdogs:
            entries.append(self._fencing())
        entries += [self._lrm(name, lrms.get(name, {})) for name in sorted(self._manager.get("node_status", {}))]
        configured = {resource["sid"]: resource for resource in view.resources}
        waiting = sorted(configured.keys() - self._services.keys())
        return entries + [self._service(sid, configured.get(sid)) for sid in [*sorted(self._services), *waiting]]

    def _word(self, written: float) -> str:
        age = self._now - written
        if age > _OLD_SECONDS:
            return "old timestamp - dead?"
        return "detected time drift!" if age < _DRIFT_SECONDS else "active"

    def _master(self) -> Entry:
        master, written = self._manager["master_node"], self._manager["timestamp"]
        word = self._word(written)
        if self._view.quorate and word != "active" and not self._view.resources:
            word = "idle"
        more = ""
        if self._with_watchdogs and (disarm := self._manager.get("disarm")):
            more = f" - {disarm['state']}, resource mode: {disarm['mode']}"
        scheduler = self._view.options.get("crs", {}).get("ha", "basic")
        if self._with_watchdogs and scheduler != "basic":
            more += f" - {scheduler} load CRS"
        return {
            "id": "master",
            "node": master,
            "status": f"{master} ({word}, {self._date(written)}){more}",
            "timestamp": written,
            "type": "master",
        }

    def _fencing(self) -> Entry:
        node = self._manager.get("master_node", self._view.node)
        entry: Entry = {"id": "fencing", "node": node, "type": "fencing"}
        if disarm := self._manager.get("disarm"):
            state, mode = disarm["state"], disarm["mode"]
            dog = "released" if state == "disarmed" else "active"
            text = f"{state}, resource mode: {mode} (CRM watchdog {dog})"
            return entry | {"armed-state": state, "resource_mode": mode, "status": text}
        active = "master_node" in self._manager and self._word(self._manager["timestamp"]) == "active"
        state, dog = ("armed", "active") if active else ("standby", "standby")
        return entry | {"armed-state": state, "status": f"{state} (CRM watchdog {dog})"}

    def _lrm(self, name: str, lrm: Entry) -> Entry:
        written = lrm.get("timestamp")
        entry: Entry = {"id": f"lrm:{name}", "node": name, "type": "lrm"}
        if not written:
            return entry | {"status": f"{name} (unable to read lrm status)"}
        words = [self._lrm_word(name, lrm)]
        if self._with_watchdogs:
            words.append(f"watchdog {self._lrm_watchdog(lrm)}")
        return entry | {"status": f"{name} ({', '.join(words)}, {self._date(written)})", "timestamp": written}

    def _lrm_word(self, name: str, lrm: Entry) -> str:
        word = self._word(lrm["timestamp"])
        if word != "active":
            return f"{lrm['mode']} mode" if lrm["mode"] in ("maintenance", "disarm") else word
        if lrm["mode"] != "active":
            return f"{lrm['mode']} mode"
        if lrm["state"] == "wait_for_agent_lock" and not active_count(self._services, name):
            return "idle"
        return str(lrm["state"])

    def _lrm_watchdog(self, lrm: Entry) -> str:
        if self._word(lrm["timestamp"]) == "active" and lrm["state"] in ("active", "maintenance"):
            return "active"
        return "released" if lrm["mode"] == "disarm" else "standby"

    def _service(self, sid: str, resource: Entry | None) -> Entry:
        status = self._services.get(sid)
        node = status["node"] if status else self._view.config_nodes.get(int(sid.partition(":")[2]), "---")
        state = _merged(resource, status)
        if self._manager.get("disarm", {}).get("mode") == "ignore":
            state = "ignore"
        entry: Entry = {"id": f"service:{sid}", "node": node, "sid": sid, "state": state, "type": "service"}
        entry["status"] = f"{sid} ({node}, {state})"
        if status:
            entry["crm_state"] = status["state"]
        if resource is not None:
            entry["max_relocate"] = resource.get("max_relocate", MAX_RELOCATE)
            entry["max_restart"] = resource.get("max_restart", MAX_RESTART)
            entry["request_state"] = resource["state"]
            if self._with_rules:
                entry["failback"] = resource.get("failback", 1)
            entry |= {key: resource[key] for key in ("group", "comment") if key in resource}
        return entry


def _merged(resource: Entry | None, status: Entry | None) -> str:
    """The word ``ha-manager status`` shows: the CRM's state, or what is still on its way to it."""
    if resource is None:
        return "deleting"
    wanted = resource["state"]
    if wanted == "ignored":
        return "ignored"
    if status is None:
        return "queued"
    state = str(status["state"])
    if state == "stopped":
        return {"started": "starting", "disabled": "disabled"}.get(wanted, state)
    if state == "started":
        if not status.get("running"):
            return "starting"
        return "stopping" if wanted in ("stopped", "disabled") else state
    if state == "error" and wanted == "disabled":
        return "clearing error flag"
    return state
