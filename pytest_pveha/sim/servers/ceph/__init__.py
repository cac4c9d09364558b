"""Ceph's answers as JSON: what ``ceph ... -f json`` prints, and what PVE's API passes on of it.

Shapes: Ceph's documentation and output of Pacific to Tentacle; recorded/ceph-samples.json. Keys that Ceph leaves out
when they are zero are left out.
"""
