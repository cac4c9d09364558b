"""Small inventories that the tests change one thing in."""

REAL = """\
site: {name: small}
cluster:
  name: prod1
  api:
    endpoints: [192.0.2.11, 192.0.2.12]
    token_id: pveha@pve!run
    token_secret: env:TOKEN
    ca_file: ca.pem
nodes:
  pve1:
    address: 192.0.2.11
    ssh: {known_hosts: known_hosts}
    bmc: {address: 198.51.100.11, user: root, password: env:BMC}
  pve2:
    address: 192.0.2.12
    ssh: {known_hosts: known_hosts}
    bmc: {address: 198.51.100.12, user: root, password: env:BMC}
guests:
  - id: vm:101
    name: shop
    tier: gold
    probes: [{tcp: {host: 192.0.2.101, port: 443}}]
objectives:
  tiers:
    gold: {rto: 5 min}
"""

SIMULATED = """\
site: {name: tiny}
cluster: {name: sim}
nodes:
  pve1: {room: a}
  pve2: {}
guests:
  - {id: "vm:101", tier: gold, preferred_node: pve1}
  - {id: "ct:102", tier: gold}
objectives: {tiers: {gold: {rto: 5 min}}}
simulator: {seed: 1}
"""

CONSENT = """\
consent:
  destructive: true
  cluster: prod1
  granted_by: boss
  ticket: CHG-1
  not_before: 2026-03-01T20:00:00Z
  not_after: 2026-03-02T04:00:00Z
  faults: [power]
  targets: all
"""
