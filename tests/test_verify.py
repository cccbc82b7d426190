"""What is not as it should be, each difference in one line, by itself."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, NOW, Cloud, pool, reservation
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.model.addresses import format_v4, parse_v4
from ovnreserve.model.exclude_ips import mark
from ovnreserve.model.owner import Owner, owner_name
from ovnreserve.model.pool import Pool
from ovnreserve.model.record import record_ids
from ovnreserve.model.reservation import external_ids_of
from ovnreserve.model.resource import RECORD, UID, Resource, State
from ovnreserve.plan.difference import Difference
from ovnreserve.plan.verify import Stores, verify_database, verify_ledger_row, verify_names
from ovnreserve.plan.verify_switch import verify_switches

ROW = "11111111-0000-0000-0000-000000000000"
OTHER = "22222222-0000-0000-0000-000000000000"
Rows = list[tuple[str, dict[str, str]]]


class Case:
    """A cloud of one switch and one reservation that all agree on, until something is changed."""

    def __init__(self, **fields: Any) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch(v6="fd00::/64")
        self.r = self.cloud.reserve(self.switch, **fields)
        self.cloud.write_excludes(self.switch)
        self.ledger: dict[str, Resource | None] = {self.r.name: self.r}
        self.records: dict[str, Rows] = {self.r.name: [(ROW, external_ids_of(self.r))]}

    def differences(self, *busy: str) -> list[Difference]:
        world = self.cloud.world
        stores = Stores(self.ledger, self.records, frozenset(busy))
        names = sorted({r.name for r in world.resources()} | self.ledger.keys() | self.records.keys())
        return [*verify_names(world, stores, names), *verify_switches(world, sorted(world.segments), busy)]

    def told(self) -> list[str]:
        return [difference.what for difference in self.differences()]

    def write_record(self, r: Resource) -> None:
        self.records[r.name] = [(ROW, record_ids(r))]

    def keep(self, *resources: Resource) -> None:
        """Have the world, the ledger and the records say so, and exclude_ips follow."""
        for r in resources:
            self.cloud.world.put(r)
            self.ledger[r.name] = r
            self.write_record(r)
        self.cloud.write_excludes(self.switch)

    def pool(self, *ips: str, name: str = "pool-1", **fields: Any) -> Pool:
        made = pool(self.switch, *ips, name=name, **fields)
        self.keep(made)
        return made


@pytest.mark.parametrize(
    "fields",
    [{}, {"v6": "fd00::9"}, {"v4": None, "v6": "fd00::9"}, {"labels": {"a": "b"}, "node_name": "n"}],
)
def test_where_all_agree_nothing_is_told(fields: dict[str, Any]) -> None:
    assert Case(**fields).told() == []


def owner(kind: str = "StatefulSet", **fields: Any) -> Owner:
    values: dict[str, Any] = {"state": State.HELD, "created": NOW, "resource_version": 5, **fields}
    name = owner_name(kind, "default", "web")
    return Owner(name=name, uid=f"uid-of-{name}", kind=kind, namespace="default", title="web", **values)


# ---- ledger ---------------------------------------------------------------------------------------------------------


def test_the_ledgers_file_is_held_against_what_the_daemon_knows() -> None:
    case = Case()
    case.ledger = {"ghost.default": reservation(case.switch, "ghost.default", v4="10.0.0.8", mac=MAC)}
    assert case.told() == [
        "IP ghost.default: it is in the ledger's file and nowhere else",
        "IP vm-1.default: it is not in the ledger's file",
    ]
    case.ledger = {case.r.name: case.r.with_(mac=MAC, labels={"a": "b"})}
    assert case.told() == ["IP vm-1.default: the ledger's file has another labels, mac"]


@pytest.mark.parametrize(
    ("revisions", "vector", "what"),
    [
        ([], {}, None),
        (['{"a":1}'], {"a": 1}, None),
        ([], {"a": 1}, "the ledger row is missing"),
        (['{"a":1}', '{"a":1}'], {"a": 1}, "the ledger row is there 2 times"),
        (['{"a":1}'], {"a": 2, "b": 1}, "the ledger row has revision a:1, the ledger a:2, b:1"),
        (["nonsense"], {"a": 2}, "the ledger row has revision none, the ledger a:2"),
    ],
)
def test_the_ledger_row_is_there_once_and_says_what_the_ledger_knows(
    revisions: list[str], vector: dict[str, int], what: str | None
) -> None:
    assert [found.what for found in verify_ledger_row(revisions, vector)] == ([what] if what else [])


# ---- records --------------------------------------------------------------------------------------------------------


def test_a_record_is_missing_or_says_something_else() -> None:
    case = Case()
    case.records = {}
    assert case.told() == ["IP vm-1.default: its record is missing"]
    case.write_record(case.r.with_(labels={"a": "b"}, generation=2))
    assert case.told() == ["IP vm-1.default: its record has another generation, labels"]
    case.write_record(case.r.with_(uid="x"))
    assert case.told() == ["IP vm-1.default: its record is of another uid, x"]


def test_a_record_that_others_have_added_something_to_is_no_difference() -> None:
    case = Case()
    case.records[case.r.name][0][1]["theirs"] = "x"
    assert case.told() == []


def test_a_record_is_there_twice() -> None:
    case = Case()
    case.records[case.r.name].append((OTHER, external_ids_of(case.r)))
    [found] = case.differences()
    assert found.what == "IP vm-1.default: its record is there 2 times"
    assert "destroy" in found.left


@pytest.mark.parametrize("key", [RECORD, UID])
def test_a_record_that_cannot_be_read_is_repaired_if_an_ip_has_its_name(key: str) -> None:
    case = Case()
    del case.records[case.r.name][0][1][key]
    case.records["ghost.default"] = [(OTHER, {})]
    ghost, ours = case.differences()
    assert ours == Difference("IP vm-1.default: its record cannot be read", f"ovn-nbctl list dns {ROW}")
    assert (ghost.command, bool(ghost.left)) == (f"ovn-nbctl list dns {OTHER}", True)


def test_a_record_that_the_ledger_does_not_know_is_told_by_its_row() -> None:
    case = Case()
    ghost = reservation(case.switch, "ghost.default", v4="10.0.0.8", mac=MAC)
    case.write_record(ghost)
    assert case.differences() == [
        Difference(f"record {ROW} of IP ghost.default: the ledger does not know it", f"ovn-nbctl list dns {ROW}")
    ]


@pytest.mark.parametrize(
    ("state", "recorded", "what"),
    [
        (State.INTENDED, None, "IP vm-1.default: it is in the ledger, and not yet in the database"),
        (State.INTENDED, State.HELD, None),
        (State.RELEASING, None, None),
        (State.RELEASING, State.RELEASING, None),
        (State.RELEASING, State.HELD, "IP vm-1.default: its record has another state, deleted"),
    ],
)
def test_what_is_under_way_is_told_only_where_the_database_does_not_say_so(
    state: State, recorded: State | None, what: str | None
) -> None:
    case = Case(state=state, deleted=5 if state is State.RELEASING else None)
    case.records = {}
    if recorded is not None:
        case.write_record(case.r.with_(state=recorded, deleted=5 if recorded is State.RELEASING else None))
    assert case.told() == ([what] if what else [])


def test_one_that_has_failed_is_told_with_its_reason() -> None:
    case = Case(state=State.FAILED, message="another one has it")
    [found] = case.differences()
    assert found.what == "IP vm-1.default: it has failed: another one has it"
    assert "deleted" in found.left


def test_what_is_being_written_is_passed_over() -> None:
    case = Case()
    case.records = {}
    case.cloud.change("Logical_Switch", case.switch, other_config={"subnet": "10.0.0.0/24"}, external_ids={})
    assert len(case.differences()) == 2
    assert case.differences(case.r.name, case.switch) == []


# ---- exclude_ips ----------------------------------------------------------------------------------------------------


def excludes(case: Case, text: str, marked: str | None) -> None:
    ids = {"ovnreserve/excluded": mark(marked)} if marked is not None else {}
    config = {"subnet": "10.0.0.0/24", "exclude_ips": text}
    case.cloud.change("Logical_Switch", case.switch, other_config=config, external_ids=ids)


@pytest.mark.parametrize(
    ("text", "marked", "what"),
    [
        ("10.0.0.9 10.0.0.1", "10.0.0.9", None),
        ("10.0.0.9", None, "10.0.0.9 is not in our part"),
        ("10.0.0.1", None, "10.0.0.9 is not in our part"),
        ("10.0.0.1..10.0.0.9", "10.0.0.1..10.0.0.9",
         "10.0.0.1, 10.0.0.2, 10.0.0.3 and 5 more are in our part, and nobody has that reserved"),
        ("10.0.0.9..10.0.0.9", "10.0.0.9..10.0.0.9", "our part is not written as it should be"),
        ("10.0.0.9 10.99.0.1", "10.0.0.9", None),
    ],
)  # fmt: skip
def test_our_part_of_exclude_ips_is_what_is_reserved(text: str, marked: str | None, what: str | None) -> None:
    case = Case()
    excludes(case, text, marked)
    where = f"exclude_ips of logical switch net ({case.switch})"
    assert case.told() == ([f"{where}: {what}"] if what else [])


def test_a_token_that_northd_cannot_read_is_told() -> None:
    case = Case()
    excludes(case, "10.0.0.9 10.0.0.1 - x", "10.0.0.9")
    [what] = case.told()
    assert "cannot read other_config:exclude_ips of logical switch net" in what
    assert "ignores all of it from there on: \"- x\" (Syntax error at `-' expecting address.)" in what


def test_an_address_that_a_dynamic_port_of_others_has_is_withheld_and_left() -> None:
    case = Case()
    excludes(case, "", None)
    case.cloud.port(case.switch, "other", "dynamic", assigned=f"{MAC} 10.0.0.9")
    withheld = next(found for found in case.differences() if "withheld" in found.what)
    assert withheld.what.startswith("IP vm-1.default: 10.0.0.9 is withheld from exclude_ips of logical switch net (")
    assert "would renumber port other" in withheld.left
    assert not [what for what in case.told() if "not in our part" in what]
    case.cloud.world.segments[case.switch].withhold(frozenset({parse_v4("10.0.0.9")}))
    assert withheld in case.differences(), "also once the daemon has withheld it"


def test_a_whole_network_in_our_part_is_counted_not_listed() -> None:
    case = Case()
    excludes(case, "0.0.0.0..255.255.255.254", "0.0.0.0..255.255.255.254")
    [what] = case.told()
    assert "and 4294967290 more are in our part" in what


def test_a_pool_of_sixteen_million_addresses_is_told_without_counting_them() -> None:
    case = Case()
    case.cloud.change("Logical_Switch", case.switch, other_config={"subnet": "10.0.0.0/8"})
    case.pool("10.0.0.0/8", v4=((parse_v4("10.0.0.1"), parse_v4("10.255.255.254")),))
    assert case.told() == []
    case.cloud.port(case.switch, "other", "dynamic", assigned=f"{MAC} 10.0.0.77")
    case.cloud.change("Logical_Switch", case.switch, other_config={"subnet": "10.0.0.0/8"}, external_ids={})
    where = f"exclude_ips of logical switch net ({case.switch})"
    assert case.told() == [
        f"IPPool pool-1: 10.0.0.77 is withheld from {where}: port other has it",
        f"{where}: 10.0.0.1, 10.0.0.2, 10.0.0.3 and 16777210 more are not in our part",
    ]


@settings(max_examples=60)
@given(st.sets(st.integers(2, 40)), st.sets(st.integers(2, 40)))
def test_every_address_that_is_missing_or_too_much_is_told(reserved: set[int], written: set[int]) -> None:
    cloud = Cloud()
    switch = cloud.switch()
    base = parse_v4("10.0.0.0")
    for host in reserved:
        cloud.reserve(switch, f"vm-{host}.default", v4=base + host, mac=f"02:6f:76:00:00:{host:02x}")
    text = " ".join(format_v4(base + host) for host in sorted(written))
    config = {"subnet": "10.0.0.0/24", **({"exclude_ips": text} if text else {})}
    ids = {"ovnreserve/excluded": mark(text)} if text else {}
    cloud.change("Logical_Switch", switch, other_config=config, external_ids=ids)
    told = [found.what for found in verify_switches(cloud.world, [switch], ())]
    assert any("not in our part" in what for what in told) is bool(reserved - written)
    assert any("nobody has that reserved" in what for what in told) is bool(written - reserved)
    if reserved == written == set():
        assert told == []


# ---- owners and pools ------------------------------------------------------------------------------------------------

KINDS = [
    (owner(), "StatefulSet default/web"),
    (owner("VirtualMachine"), "VirtualMachine default/web"),
    (pool("s", "10.0.0.20..10.0.0.29"), "IPPool pool-1"),
]


@pytest.mark.parametrize(("resource", "title"), KINDS)
def test_owners_and_pools_are_held_against_their_records_and_the_ledgers_file(resource: Resource, title: str) -> None:
    case = Case()
    if isinstance(resource, Pool):
        resource = resource.with_(switch=case.switch)
    case.keep(resource)
    assert case.told() == []
    case.write_record(resource.with_(labels={"a": "b"}, generation=2))
    assert case.told() == [f"{title}: its record has another generation, labels"]
    case.write_record(resource.with_(uid="x"))
    assert case.told() == [f"{title}: its record is of another uid, x"]
    del case.records[resource.name]
    assert case.told() == [f"{title}: its record is missing"]
    case.write_record(resource)
    case.ledger[resource.name] = resource.with_(labels={"a": "b"})
    assert case.told() == [f"{title}: the ledger's file has another labels"]
    del case.ledger[resource.name]
    [found] = case.differences()
    assert found.what == f"{title}: it is not in the ledger's file"
    assert found.command == f"ovn-nbctl find dns 'external_ids:ovnreserve/name=\"{resource.name}\"'"


@pytest.mark.parametrize(("resource", "title"), KINDS)
def test_a_record_of_an_owner_or_a_pool_that_nobody_knows_is_told_by_its_row(resource: Resource, title: str) -> None:
    case = Case()
    case.write_record(resource)
    assert case.told() == [f"record {ROW} of {title}: the ledger does not know it"]
    del case.records[resource.name][0][1][RECORD]
    [found] = case.differences()
    kind = title.partition(" ")[0]
    assert found.what == f'record {ROW} of "{resource.name}": it cannot be read, and no {kind} has its name'
    assert found.left


def test_an_owner_that_is_remembered_as_gone_is_no_difference() -> None:
    case = Case()
    case.keep(owner(state=State.RELEASING, deleted=NOW))
    assert case.told() == []


def test_a_retained_ip_is_looked_at_as_one_that_is_reserved() -> None:
    case = Case(reserved=False)
    assert case.told() == []
    case.records = {}
    assert case.told() == ["IP vm-1.default: its record is missing"]


def test_a_pool_that_is_not_yet_in_the_database_is_told_once() -> None:
    case = Case()
    intended = case.pool("10.0.0.20", state=State.INTENDED)
    del case.records[intended.name]
    assert case.told() == ["IPPool pool-1: it is in the ledger, and not yet in the database"]


def test_a_pool_that_has_failed_is_told_with_its_reason() -> None:
    case = Case()
    case.pool("10.0.0.20", state=State.FAILED, message="spec.ips[0]: must be within 10.0.0.0/29")
    [found] = case.differences()
    assert found.what == "IPPool pool-1: it has failed: spec.ips[0]: must be within 10.0.0.0/29"
    assert found.left == "it stays so until it is deleted"


def test_pools_that_have_the_same_addresses_are_both_told() -> None:
    case = Case()
    case.pool("10.0.0.20..10.0.0.29")
    case.pool("10.0.0.25", name="pool-2")
    one, two = case.differences()
    assert one.what == "IPPool pool-1: IPPool pool-2 has addresses of 10.0.0.20..10.0.0.29 too"
    assert two.what == "IPPool pool-2: IPPool pool-1 has addresses of 10.0.0.25 too"
    assert one[1:] == two[1:] == (
        "ovn-nbctl find dns external_ids:ovnreserve/kind=pool",
        "both keep what they say until the ips of one are changed",
    )


def test_a_pool_whose_switch_is_gone_or_another_network_is_told_and_left() -> None:
    case = Case()
    case.pool("10.0.0.20..10.0.0.29")
    config = {**case.cloud.tables["Logical_Switch"][case.switch]["other_config"], "subnet": "10.9.0.0/24"}
    case.cloud.change("Logical_Switch", case.switch, other_config=config)
    [found] = [each for each in case.differences() if "IPPool" in each.what]
    assert found.what == "IPPool pool-1: 10.0.0.20..10.0.0.29 is outside of 10.9.0.0/24, which subnet net is now"
    assert found.command.endswith(f"list logical_switch {case.switch}")
    del case.cloud.tables["Logical_Switch"][case.switch]
    case.cloud.sync()
    [found] = [each for each in case.differences() if "IPPool" in each.what]
    assert found.what == f"IPPool pool-1: logical switch net ({case.switch}) does not exist; kept until it is back"
    assert found.left == "it is kept, and written again once the subnet is back as it was"


# ---- findings --------------------------------------------------------------------------------------------------------


def test_an_address_that_two_ports_have_is_told_once_and_their_rows_shown() -> None:
    case = Case()
    one = case.cloud.port(case.switch, "one", f"{MAC} 10.0.0.77")
    other = case.cloud.port(case.switch, "other", "0a:00:00:00:00:02 10.0.0.77")
    assert case.differences() == [
        Difference(
            "10.0.0.77 is held by logical switch ports one and other on logical switch net",
            f"ovn-nbctl list logical_switch_port {one} {other}",
            "what is not ours is never changed",
        )
    ]


def test_that_another_port_has_what_is_reserved_is_told_of_the_ip_alone() -> None:
    case = Case()
    case.cloud.port(case.switch, case.r.name, case.r.port_addresses)
    case.cloud.port(case.switch, "squatter", f"{MAC} 10.0.0.9")
    [what] = case.told()
    assert what == "IP vm-1.default: 10.0.0.9 is also held by logical switch port squatter on logical switch net"


def test_a_mac_prefix_that_is_ours_is_told() -> None:
    cloud = Cloud()
    cloud.mac_prefix("0a:bb:cc")
    assert list(verify_database(cloud.world)) == []
    cloud = Cloud()
    cloud.mac_prefix("02:6f:76")
    [found] = verify_database(cloud.world)
    assert found.what.startswith("NB_Global options:mac_prefix is 02:6f:76, which ovnreserve gives MACs from")
    assert found.command == "ovn-nbctl get nb_global . options:mac_prefix"
    assert found.left


# ---- ports ----------------------------------------------------------------------------------------------------------


def test_a_port_that_has_something_else_is_left_and_one_that_is_to_be_written_is_not() -> None:
    case = Case()
    port = case.cloud.port(case.switch, case.r.name, f"{MAC} 10.0.0.77")
    [found] = case.differences()
    assert found.what.startswith("IP vm-1.default: not bound: port vm-1.default has addresses")
    assert (found.command, bool(found.left)) == (f"ovn-nbctl list logical_switch_port {port}", True)
    case.cloud.change("Logical_Switch_Port", port, addresses=frozenset({"dynamic"}))
    [found] = case.differences()
    assert ("is being given" in found.what, found.left) == (True, "")
    case.cloud.change("Logical_Switch_Port", port, addresses=frozenset({case.r.port_addresses}))
    assert case.told() == []


def test_whoever_else_has_an_address_is_named_with_a_command_that_a_shell_takes_as_it_is() -> None:
    case = Case()
    name = 'it\'s $(rm -rf) "mine"'
    case.cloud.port(case.switch, name, f"{MAC} 10.0.0.9")
    [found] = case.differences()
    assert found.what == f"IP vm-1.default: 10.0.0.9 is also held by logical switch port {name} on logical switch net"
    [uuid] = case.cloud.tables["Logical_Switch_Port"]
    assert found.command == f"ovn-nbctl list logical_switch_port {uuid}"


def test_a_switch_that_is_gone_or_another_network_is_told_and_left() -> None:
    case = Case()
    excludes(case, "10.0.0.9", "10.0.0.9")
    config = {"subnet": "10.9.0.0/24", "exclude_ips": "10.0.0.9"}
    case.cloud.change("Logical_Switch", case.switch, other_config=config)
    assert case.told() == ["IP vm-1.default: 10.0.0.9 is outside of 10.9.0.0/24, which subnet net is now"]
    del case.cloud.tables["Logical_Switch"][case.switch]
    case.cloud.sync()
    [found] = case.differences()
    assert found.what.startswith("IP vm-1.default: logical switch net (")
    assert found.left
