"""A right inventory becomes a Site; what ships is right; nothing that is not an inventory gets through, or out."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import FrozenInstanceError
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from fuzzing import budget, tries
from hypothesis import given
from hypothesis import strategies as st
from inventory_texts import CONSENT, REAL, SIMULATED
from pydantic import ValidationError

from pytest_pveha.errors import InventoryError
from pytest_pveha.inventory import Inventory, Site, document, load, parse_duration, simulator_spec
from pytest_pveha.inventory.load import checked
from pytest_pveha.inventory.values import host_port, joined
from pytest_pveha.sim.spec import SiteSpec

ROOT = Path(__file__).parents[2]
SIM = ROOT / "inventories" / "sim-3node.yml"
PROD = ROOT / "inventories" / "example-prod.yml"


def site_of(folder: Path, text: str) -> Site:
    """The site of that text."""
    path = folder / "site.yml"
    path.write_text(text)
    return load(path)


def test_simulated_default_site() -> None:
    """The embedded site has three rooms, six HA guests in two tiers, two a node, and no defect."""
    site = load(SIM)
    assert (site.name, site.simulated, site.model.cluster.name) == ("sim-3node", True, "pveha-sim")
    assert {name: node.room for name, node in site.model.nodes.items()} == {"pve1": "a", "pve2": "b", "pve3": "c"}
    assert [guest.id for guest in site.model.guests] == [f"vm:{number}" for number in range(101, 107)]
    assert [guest.preferred_node for guest in site.model.guests] == ["pve1", "pve1", "pve2", "pve2", "pve3", "pve3"]
    assert {name: tier.rto for name, tier in site.model.objectives.tiers.items()} == {"gold": 300, "silver": 480}
    assert site.model.objectives.settle == 1200
    assert site.model.simulator is not None
    assert (site.model.simulator.seed, site.model.simulator.defects) == (1, ())
    assert site.model.evidence.signing_key is None


def test_the_demo_has_something_of_every_suite() -> None:
    """The demo's site has Ceph with three copies, replicas, a storage that may fall silent, backups to restore from."""
    site = load(ROOT / "inventories" / "sim-hyperconverged.yml")
    model = site.model
    assert site.simulated
    assert model.simulator is not None
    assert (model.simulator.ceph.size, model.simulator.ceph.failure_domain, len(model.nodes)) == (3, "host", 3)
    assert model.ceph is not None
    assert model.backup is not None
    assert model.backup.restore is not None
    assert model.replication is not None
    assert set(model.storages) == {"vault"}
    lying = {guest.id: guest.storage for guest in model.simulator.guests if guest.storage}
    replicated = {job.guest for job in model.simulator.replication}
    assert replicated == {guest for guest, storage in lying.items() if storage == "local-zfs"}
    assert not replicated & {guest.id for guest in model.guests if guest.canary}


def test_production_example_uses_every_block() -> None:
    """The production example is valid without network or secrets, and leaves out no block but the simulator."""
    site = load(PROD)
    assert not site.simulated
    assert site.model.model_fields_set == set(Inventory.model_fields) - {"simulator"}
    assert site.model.consent is not None
    assert site.model.consent.cluster == "prod1"


def test_production_example_leaks_no_real_address() -> None:
    """Addresses in the example are those kept for documentation (RFC 5737), names end in .example."""
    model = load(PROD).model
    assert model.cluster.api is not None
    addresses = [*model.cluster.api.endpoints, *(node.address or "" for node in model.nodes.values())]
    addresses += [node.bmc.address or "" for node in model.nodes.values() if node.bmc]
    kept = ("192.0.2.", "198.51.100.", "203.0.113.")
    assert all(address.startswith(kept) or address.endswith(".example") for address in addresses)


def test_site_knows_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site carries its file's absolute path and checksum; relative paths start from its folder."""
    site_of(tmp_path, REAL)
    monkeypatch.chdir(tmp_path)
    site = load(Path("site.yml"))
    assert site.path == tmp_path / "site.yml"
    assert site.sha256 == hashlib.sha256(REAL.encode()).hexdigest()
    assert site.model.cluster.api is not None
    assert site.model.cluster.api.ca_file is not None
    assert site.file(site.model.cluster.api.ca_file) == tmp_path / "ca.pem"
    assert site.file(Path("/etc/ca.pem")) == Path("/etc/ca.pem")


def test_everything_is_frozen(tmp_path: Path) -> None:
    """Nobody changes an inventory after it was read."""
    site = site_of(tmp_path, REAL)
    with pytest.raises(FrozenInstanceError):
        site.sha256 = "0"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        site.model.site.name = "other"


def test_defaults(tmp_path: Path) -> None:
    """What a file leaves out has the documented default, in seconds, bytes and normal forms."""
    model = site_of(
        tmp_path, REAL + "organisation: {runbook: r, acknowledged_by: a, acknowledged_on: 2026-01-02, on_call: b}\n"
    ).model
    assert model.nodes["pve1"].ssh.user == "root"
    assert model.nodes["pve1"].bmc is not None
    assert model.nodes["pve1"].bmc.effective_port == 623
    assert model.cluster.api is not None
    assert model.cluster.api.endpoints == ("192.0.2.11:8006", "192.0.2.12:8006")
    assert model.objectives.tiers["gold"].rpo == 0
    assert (model.objectives.settle, model.objectives.fence_margin) == (1200, 20)
    assert model.organisation is not None
    assert model.organisation.revalidate_every == timedelta(days=90).total_seconds()
    assert model.organisation.acknowledged_on == date(2026, 1, 2)
    assert model.ceph is None


def test_present_block_is_in_scope(tmp_path: Path) -> None:
    """An empty block in braces stands for all its defaults, and is present."""
    model = site_of(tmp_path, REAL + "ceph: {}\nreplication: {}\n").model
    assert model.ceph is not None
    assert model.ceph.failure_domain == "host"
    assert model.replication is not None


def test_shared_parts(tmp_path: Path) -> None:
    """What nodes share is written once: <<: *name takes it over, and own keys win."""
    text = REAL.replace("bmc: {address: 198.51.100.11,", "bmc: &bmc {address: 198.51.100.11,").replace(
        "bmc: {address: 198.51.100.12, user: root, password: env:BMC}", "bmc: {<<: *bmc, address: 198.51.100.12}"
    )
    bmc = site_of(tmp_path, text).model.nodes["pve2"].bmc
    assert bmc is not None
    assert (bmc.address, bmc.user) == ("198.51.100.12", "root")


def test_mistake_in_a_shared_part_is_found_where_it_stands(tmp_path: Path) -> None:
    """A mistake taken over by <<: is told at the line where it is written, for each block that has it."""
    text = REAL.replace("bmc: {address: 198.51.100.11,", "bmc: &bmc {cipher: 99, address: 198.51.100.11,").replace(
        "bmc: {address: 198.51.100.12, user: root, password: env:BMC}", "bmc: {<<: *bmc, address: 198.51.100.12}"
    )
    with pytest.raises(InventoryError) as caught:
        site_of(tmp_path, text)
    assert str(caught.value).replace(str(tmp_path), "") == (
        "/site.yml:13: nodes.pve1.bmc.cipher: is out of range; expected at most 17\n"
        "/site.yml:13: nodes.pve2.bmc.cipher: is out of range; expected at most 17"
    )


def test_scenario_overrides_a_tier(tmp_path: Path) -> None:
    """In a named scenario a tier's promise is as overridden, and else as it was."""
    model = site_of(tmp_path, REAL + "  scenarios: {power_loss_master: {gold: {rto: 6 min}}}\n").model
    assert model.objectives.tier("gold").rto == 300
    assert model.objectives.tier("gold", "power_loss_master").rto == 360
    assert model.objectives.tier("gold", "power_loss_master").write_stall == 60
    assert model.objectives.tier("gold", "another").rto == 300


def test_yaml_words_stay_words(tmp_path: Path) -> None:
    """on, yes and no are text where text belongs, as YAML 1.2 says."""
    model = site_of(tmp_path, SIMULATED.replace("{room: a}", "{room: yes, feed: no}")).model
    assert (model.nodes["pve1"].room, model.nodes["pve1"].feed) == ("yes", ("no",))


def test_byte_order_mark(tmp_path: Path) -> None:
    """A file from an editor that writes a byte order mark is read."""
    (tmp_path / "site.yml").write_bytes(b"\xef\xbb\xbf" + SIMULATED.encode())
    assert load(tmp_path / "site.yml").name == "tiny"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500 ms", 0.5),
        ("30 s", 30),
        ("30s", 30),
        ("5 min", 300),
        ("2 h", 7200),
        ("90 days", 7776000),
        ("1 h 30 min", 5400),
        ("1.5 h", 5400),
        ("1 minute", 60),
        ("0 s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number with its unit, or several."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "5", "5 m", "-5 s", "min", "5 min ago", "1e3 s", "٣ s", 5, 5.0, None, True, [5]])
def test_no_durations(value: object) -> None:
    """Whatever is no number with a unit is refused with what is expected."""
    with pytest.raises(ValueError, match='expected a number with its unit, like "500 ms"'):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("192.0.2.1", ("192.0.2.1", 8006)),
        ("192.0.2.1:99", ("192.0.2.1", 99)),
        ("PVE1.example:99", ("pve1.example", 99)),
        ("2001:DB8::1", ("2001:db8::1", 8006)),
        ("[2001:db8::1]:99", ("2001:db8::1", 99)),
    ],
)
def test_endpoints(text: str, pair: tuple[str, int]) -> None:
    """An endpoint is host, host:port or [v6]:port; written again it reads the same."""
    assert host_port(text, 8006) == pair
    assert host_port(joined(*pair), 1) == pair


def test_spec_for_the_simulator() -> None:
    """The simulator is told nodes in order, guests where they belong, and the extra guest outside HA."""
    spec = simulator_spec(load(SIM).model)
    assert (spec["name"], spec["cluster"], spec["version"], spec["seed"]) == ("sim-3node", "pveha-sim", "9.1.9", 1)
    assert spec["epoch_utc"] == 1767340800
    assert (spec["token_coefficient"], spec["defects"]) == (125, [])
    assert [(node["name"], node["nodeid"], node["room"]) for node in spec["nodes"]] == [
        ("pve1", 1, "a"),
        ("pve2", 2, "b"),
        ("pve3", 3, "c"),
    ]
    assert spec["nodes"][0]["boot_seconds"] == 210
    assert [(guest["vmid"], guest["node"], guest["ha"]) for guest in spec["guests"]] == [
        (101, "pve1", True),
        (102, "pve1", True),
        (103, "pve2", True),
        (104, "pve2", True),
        (105, "pve3", True),
        (106, "pve3", True),
        (107, "pve3", False),
    ]
    assert spec["guests"][0]["name"] == "shop-web"
    assert spec["guests"][0]["probes"] == 1


def test_spec_says_what_a_node_lacks(tmp_path: Path) -> None:
    """What no node has and what one node lacks besides are told together, node by node."""
    text = SIMULATED.replace(
        "{seed: 1}", "{links: 2, missing_tools: [nft], nodes: [{name: pve2, missing_tools: [ipmitool, nft]}]}"
    )
    spec = simulator_spec(site_of(tmp_path, text).model)
    assert spec["links"] == 2
    assert [node["missing_tools"] for node in spec["nodes"]] == [["nft"], ["ipmitool", "nft"]]


def test_spec_says_what_a_hand_has_set(tmp_path: Path) -> None:
    """corosync's mode, a device that nobody described, the way to the nodes, their clocks, and how Ceph is set."""
    block = """{quorum_device: lms, way_through: pve2, ceph: {min_size: 3, mons: 2},
      nodes: [{name: pve2, clock: -0.5}]}"""
    text = SIMULATED.replace("{seed: 1}", block) + "\nceph: {}\n"
    spec = simulator_spec(site_of(tmp_path, text).model)
    assert (spec["two_node"], spec["qdevice"], spec["way_through"]) == (False, "lms", "pve2")
    assert [spec["ceph"][key] for key in ("size", "min_size", "mons")] == [3, 3, 2]
    assert [node["clock"] for node in spec["nodes"]] == [0, -0.5]
    assert SiteSpec.from_json(spec).qdevice_host == "10.99.9.9"
    with pytest.raises(ValueError, match="two_node is for two nodes without a quorum device"):
        SiteSpec.from_json({**spec, "two_node": True})


def test_spec_says_how_each_bmc_is_played(tmp_path: Path) -> None:
    """A BMC is played as its own entry says, else as the entry for all; its protocol is its node's."""
    bmcs = "{seed: 1, bmcs: [{vendor: ilo}, {node: pve2, state: hung, power_seconds: 8}]}"
    text = SIMULATED.replace("pve1: {room: a}", "pve1: {bmc: {driver: redfish}}").replace("{seed: 1}", bmcs)
    one, two = (node["bmc"] for node in simulator_spec(site_of(tmp_path, text).model)["nodes"])
    assert (one["driver"], one["vendor"], one["state"], one["power_seconds"]) == ("redfish", "ilo", "answering", 3)
    assert (two["driver"], two["vendor"], two["state"], two["power_seconds"]) == ("ipmi", "generic", "hung", 8)
    assert SiteSpec.from_json(simulator_spec(site_of(tmp_path, text).model)).nodes[1].bmc.state == "hung"


def test_spec_places_guests_in_turn(tmp_path: Path) -> None:
    """A guest with neither a place nor a preferred node is placed by its turn; the simulator block wins."""
    text = SIMULATED.replace(
        "{seed: 1}", '{starts_at: 2026-06-01T00:00:00Z, guests: [{id: "vm:101", node: pve2, boot_seconds: 7}]}'
    )
    spec = simulator_spec(site_of(tmp_path, text).model)
    assert [(guest["vmid"], guest["kind"], guest["node"], guest["boot_seconds"]) for guest in spec["guests"]] == [
        (101, "vm", "pve2", 7),
        (102, "ct", "pve2", 20),
    ]
    assert spec["epoch_utc"] == 1780272000


def test_spec_of_the_ha_manager(tmp_path: Path) -> None:
    """Rules, groups, policy and the guests' HA settings reach the simulator; priorities as PVE writes them."""
    block = """{shutdown_policy: migrate, crs: static, migration_bandwidth: 100 MiB, token_lacks: [Sys.PowerMgmt],
      rules: {home: {affinity: node, guests: ["vm:101"], nodes: {pve1: 2, pve2: 0}, strict: true}},
      groups: {east: {nodes: {pve2: 1}, nofailback: true}},
      guests: [{id: "vm:101", max_restart: 3, acpi: false, storage: local-lvm, group: east}]}"""
    spec = simulator_spec(site_of(tmp_path, SIMULATED.replace("{seed: 1}", block)).model)
    assert (spec["shutdown_policy"], spec["crs"], spec["migration_mib"]) == ("migrate", "static", 100)
    assert spec["token_lacks"] == ["Sys.PowerMgmt"]
    assert spec["rules"] == [
        {"name": "home", "affinity": "node", "guests": ["vm:101"], "nodes": ["pve1:2", "pve2"], "strict": True}
    ]
    assert spec["groups"] == [{"name": "east", "nodes": ["pve2:1"], "restricted": False, "nofailback": True}]
    played = spec["guests"][0]
    assert (played["max_restart"], played["acpi"], played["storage"], played["group"]) == (
        3,
        False,
        "local-lvm",
        "east",
    )
    assert SiteSpec.from_json(spec).rules[0].nodes == ("pve1:2", "pve2")


def test_no_spec_for_a_real_site(tmp_path: Path) -> None:
    """A real site is never simulated by mistake."""
    with pytest.raises(ValueError, match="real site"):
        simulator_spec(site_of(tmp_path, REAL).model)


def test_simulator_supplies_what_the_file_leaves_out(tmp_path: Path) -> None:
    """Addresses and credentials of the running simulator come into the model; file and checksum stay."""
    site = site_of(tmp_path, SIMULATED)
    running: dict[str, Any] = {
        "cluster": {"api": {"endpoints": ["127.0.0.1:40001", "127.0.0.1:40002"], "token_secret": "file:/run/x/token"}},
        "nodes": {"pve1": {"address": "127.0.0.1", "bmc": {"address": "127.0.0.1", "port": 40003}}},
        "guests": [{"id": "ct:102", "probes": [{"tcp": {"host": "127.0.0.1", "port": 40004}}]}],
    }
    supplied = site.supplied(running)
    assert supplied.sha256 == site.sha256
    assert supplied.model.cluster.api is not None
    assert supplied.model.cluster.api.endpoints == ("127.0.0.1:40001", "127.0.0.1:40002")
    assert supplied.model.nodes["pve1"].room == "a"
    assert supplied.model.nodes["pve1"].bmc is not None
    assert supplied.model.nodes["pve1"].bmc.effective_port == 40003
    assert supplied.model.guests[0].preferred_node == "pve1"
    assert supplied.model.guests[1].probes[0].kind == "tcp"
    assert site.model.cluster.api is None


def test_nothing_is_supplied_to_a_real_site(tmp_path: Path) -> None:
    """A real site's addresses come from its file alone."""
    with pytest.raises(ValueError, match="only a simulated site"):
        site_of(tmp_path, REAL).supplied({})


def test_wrong_supply_is_an_inventory_error(tmp_path: Path) -> None:
    """What the simulator says is checked like what the file says."""
    with pytest.raises(InventoryError, match=r"nodes\.pve1\.address: YAML reads 1 as a number"):
        site_of(tmp_path, SIMULATED).supplied({"nodes": {"pve1": {"address": 1}}})


TEXTS = (REAL + CONSENT, SIMULATED, SIM.read_text(encoding="utf-8"), PROD.read_text(encoding="utf-8")[:6000])
SCRAPS = (
    *"{}[]:,-&*!|>'\"%@`#?\t\n \0\x1b\ufeff",
    "<<: *ssh",
    "*a",
    "&a ",
    "!!binary ",
    "1.10",
    "null",
    "~",
    "- ",
    ": ",
    "---\n",
    "...\n",
    "%YAML 1.1\n---\n",
    "0o9",
    "1_0",
    ".inf",
    "\ud7ff",
    "😀",
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An inventory with a few pieces cut out, doubled, swapped or put in."""
    text = draw(st.sampled_from(TEXTS))
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        match draw(st.integers(0, 5)):
            case 0:
                del lines[at : at + draw(st.integers(1, 4))]
            case 1:
                lines[at:at] = lines[at : at + 2]
            case 2:
                lines[at : at + 1] = ["  " + line for line in lines[at : at + 1]]
            case 3 if lines:
                column = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:column] + draw(st.sampled_from(SCRAPS)) + lines[at][column:]
            case 4 if lines:
                column = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:column] + draw(st.text(max_size=4)) + lines[at][column + 3 :]
            case _:
                lines = lines[: max(1, at)]
    raw = "".join(lines).encode("utf-8", "surrogatepass")
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) and draw(st.booleans()) else raw


def opened(path: Path, raw: bytes) -> None:
    """Loads those bytes; only an inventory error may come out, each line naming the file and fit for a terminal."""
    path.write_bytes(raw)
    said = ""
    try:
        load(path)
    except InventoryError as error:
        said = str(error)
    assert all(line.startswith(f"{path}:") and line.isprintable() for line in said.splitlines())


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the fuzzed inventories are written to."""
    return tmp_path_factory.mktemp("fuzz") / "site.yml"


@budget(80, 1500)
def test_broken_inventories_give_only_inventory_errors(scratch: Path, examples: int) -> None:
    """Whatever is done to an inventory's text, it loads or is refused; there is no traceback."""
    tries(examples)(given(raw=mutated())(lambda raw: opened(scratch, raw)))()


@budget(80, 2000)
def test_noise_gives_only_inventory_errors(scratch: Path, examples: int) -> None:
    """Bytes that never were an inventory are refused."""
    tries(examples)(given(raw=st.binary(max_size=200))(lambda raw: opened(scratch, raw)))()


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("all"), st.just("5 min")
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All keys within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    return [where, *(place for key, one in inner for place in places(one, (*where, key)))]


def replaced(value: Any, where: tuple[Any, ...], new: Any) -> Any:
    """The value with something else at that place."""
    if not where:
        return new
    if isinstance(value, dict):
        return {**value, where[0]: replaced(value[where[0]], where[1:], new)}
    return tuple(replaced(one, where[1:], new) if index == where[0] else one for index, one in enumerate(value))


PARSED = document.parse(PROD, PROD.read_bytes())
PLACES = places(PARSED.data)[1:]


@budget(300, 4000)
def test_wrong_types_give_only_inventory_errors(examples: int) -> None:
    """Any value of any type at any key is taken or refused by name."""

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        where = data.draw(st.sampled_from(PLACES))
        broken = replaced(PARSED.data, where, data.draw(VALUES))
        with suppress(InventoryError):
            checked(PARSED, broken)

    holds()
