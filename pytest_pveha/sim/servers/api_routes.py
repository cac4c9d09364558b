"""The REST API's shapes: one function a path, each answering from what the node sees at this moment.

A module a family; importing them enters their routes. What a node answers for another one (proxying, waiting,
authentication) is https_api's business.
"""

from __future__ import annotations

from pytest_pveha.sim.servers import (
    api_access,
    api_agent,
    api_backups,
    api_ceph,
    api_cluster,
    api_guests,
    api_ha,
    api_ha_rules,
    api_nodes,
    api_replication,
    api_restores,
    api_storage,
    api_tasks,
)
from pytest_pveha.sim.servers.api_registry import ApiError, Call, Listing, Route, find

__all__ = [
    "FAMILIES",
    "ApiError",
    "Call",
    "Listing",
    "Route",
    "find",
]

FAMILIES = (
    api_access, api_agent, api_ceph, api_cluster, api_guests, api_ha, api_ha_rules, api_nodes, api_replication,
    api_storage, api_tasks, api_backups, api_restores,
)  # fmt: skip
