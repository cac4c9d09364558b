"""Storages other than Ceph, and replication."""
