"""The world kept up by changes is the world made from scratch, whatever others do to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import pytest
from builders import MAC, Cloud, Row, contents, reservation, row_of, uuid_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.resource import State

SWITCHES = [uuid_of(number) for number in (1, 2)]
PORTS = [uuid_of(number) for number in range(10, 14)]
ROUTER, ROUTER_PORTS, NAT = uuid_of(30), [uuid_of(31), uuid_of(32)], uuid_of(33)
DHCP = [uuid_of(40), uuid_of(41)]
BALANCERS = [uuid_of(50), uuid_of(51)]
CHECK, GLOBALS = uuid_of(60), uuid_of(70)

NAMES = ["a", "b", "c"]
MACS = [MAC, "0a:00:00:00:00:02", "02:6f:76:00:00:09"]
V4 = ["10.0.0.2", "10.0.0.3", "10.0.0.9", "10.0.0.14", "10.0.1.5"]
V6 = ["fd00::5", "fd00::800:ff:fe00:1"]
OTHERS = [*V4, "10.0.0.6", "192.168.0.1"]
SUBNETS = ["10.0.0.0/28", "10.0.0.0/24", "10.0.1.0/24", "bad"]
EXCLUDES = ["10.0.0.3", "10.0.0.2..10.0.0.5 10.0.0.9", "10.0.0.4 bad", "10.0.1.0..10.0.1.9"]


class Somebody:
    """Changes rows of the database, at random, as any CMS might; `rules` is what may happen."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.tables = self.cloud.tables
        self.ports = self.tables["Logical_Switch_Port"]
        self.switches = self.tables["Logical_Switch"]
        self.eager = True

    # ---- switches --------------------------------------------------------------------------------------------------

    def _config(self, random: Random) -> dict[str, str]:
        config = {}
        for key, values in (("subnet", SUBNETS), ("ipv6_prefix", ["fd00::/64", "fd00::"]), ("exclude_ips", EXCLUDES)):
            if random.random() < 0.7:
                config[key] = random.choice(values)
        return config

    def add_a_switch(self, random: Random) -> None:
        name = random.choice(["net", "other"])
        fresh = row_of("Logical_Switch", name=name, other_config=self._config(random))
        self.switches.setdefault(random.choice(SWITCHES), fresh)

    def change_a_switch(self, random: Random) -> None:
        row = self.switches[random.choice(sorted(self.switches))]
        change = random.choice(["name", "other_config", "load_balancer"])
        if change == "name":
            row["name"] = random.choice(["net", "other"])
        elif change == "other_config":
            row["other_config"] = self._config(random)
        else:
            row["load_balancer"] = frozenset(random.sample(BALANCERS, random.randrange(3)))

    def delete_a_switch_with_its_ports(self, random: Random) -> None:
        row = self.switches.pop(random.choice(sorted(self.switches)))
        for uuid in row["ports"]:
            del self.ports[uuid]

    def recreate_a_switch_with_its_ports(self, random: Random) -> None:
        old = random.choice(sorted(self.switches))
        free = [uuid for uuid in SWITCHES if uuid not in self.switches]
        if free:
            self.switches[free[0]] = self.switches.pop(old)

    # ---- ports -----------------------------------------------------------------------------------------------------

    def _element(self, random: Random) -> str:
        if random.random() < 0.5:
            return random.choice(
                ["dynamic", "unknown", "router", "nonsense", "dynamic 10.0.0.9", f"{MAC} dynamic", MAC]
            )
        words = [random.choice(MACS), random.choice(V4)]
        return " ".join([*words, random.choice(V6)] if random.random() < 0.3 else words)

    def _columns(self, random: Random) -> Row:
        pick = random.choice
        return {
            "addresses": frozenset(self._element(random) for _ in range(random.randrange(3))),
            "dynamic_addresses": pick([None, f"{pick(MACS)} {pick(V4)}", pick(MACS)]),
            "port_security": frozenset([self._element(random)] if random.random() < 0.3 else []),
            "type": pick(["", "", "", "router", "virtual", "localnet"]),
            "options": pick([{}, {"router-port": "lrp-0"}, {"router-port": "lrp-1"}, {"virtual-ip": "10.0.0.14"}]),
            "up": pick([None, False, True]),
            "enabled": pick([None, False, True]),
            "dhcpv4_options": pick([None, None, *DHCP]),
            "dhcpv6_options": pick([None, None, *DHCP]),
            "health_checks": pick([frozenset(), frozenset(), frozenset({CHECK})]),
        }

    def _free_names(self) -> list[str]:
        return sorted(set(NAMES) - {row["name"] for row in self.ports.values()})

    def add_a_port(self, random: Random) -> None:
        free = [uuid for uuid in PORTS if uuid not in self.ports]
        names = self._free_names()
        if free and names:
            uuid = random.choice(free)
            self.ports[uuid] = row_of("Logical_Switch_Port", name=random.choice(names), **self._columns(random))
            self.switches[random.choice(sorted(self.switches))]["ports"] |= {uuid}

    def change_a_port(self, random: Random) -> None:
        columns = self._columns(random)
        some = random.sample(sorted(columns), random.randrange(1, len(columns)))
        self.ports[random.choice(sorted(self.ports))].update({column: columns[column] for column in some})

    def rename_a_port(self, random: Random) -> None:
        for name in self._free_names():
            self.ports[random.choice(sorted(self.ports))]["name"] = name

    def swap_the_names_of_two_ports(self, random: Random) -> None:
        one, other = (self.ports[random.choice(sorted(self.ports))] for _ in range(2))
        one["name"], other["name"] = other["name"], one["name"]

    def _unplug(self, uuid: str) -> None:
        for row in self.switches.values():
            row["ports"] -= {uuid}

    def delete_a_port(self, random: Random) -> None:
        uuid = random.choice(sorted(self.ports))
        self._unplug(uuid)
        del self.ports[uuid]

    def recreate_a_port_under_its_name(self, random: Random) -> None:
        uuid = random.choice(sorted(self.ports))
        for fresh in PORTS:
            if fresh not in self.ports:
                self.ports[fresh] = self.ports.pop(uuid)
                for row in self.switches.values():
                    if uuid in row["ports"]:
                        row["ports"] = row["ports"] - {uuid} | {fresh}
                return

    def move_a_port(self, random: Random) -> None:
        uuid = random.choice(sorted(self.ports))
        self._unplug(uuid)
        self.switches[random.choice(sorted(self.switches))]["ports"] |= {uuid}

    # ---- whatever else holds addresses -----------------------------------------------------------------------------

    def _put(self, table: str, uuid: str, there: float, row: Row) -> None:
        if there < 0.2:
            self.tables[table].pop(uuid, None)
        else:
            self.tables[table].setdefault(uuid, row_of(table)).update(row)

    def change_a_router_port(self, random: Random) -> None:
        number = random.randrange(2)
        networks = frozenset({f"{random.choice(OTHERS)}/24", "fd00::1/64"})
        row = {"name": f"lrp-{number}", "mac": MACS[number], "networks": networks}
        self._put("Logical_Router_Port", ROUTER_PORTS[number], random.random(), row)
        there = frozenset(uuid for uuid in ROUTER_PORTS if uuid in self.tables["Logical_Router_Port"])
        self._put("Logical_Router", ROUTER, 1, {"name": "lr", "ports": there})

    def change_the_router(self, random: Random) -> None:
        self._put("NAT", NAT, 1, {"type": "snat", "external_ip": random.choice(OTHERS)})
        balancers = frozenset(random.sample(BALANCERS, random.randrange(2)))
        row = {"name": "lr", "nat": frozenset({NAT}), "load_balancer": balancers}
        self._put("Logical_Router", ROUTER, random.random(), row)

    def change_a_load_balancer(self, random: Random) -> None:
        vips = {f"{random.choice(OTHERS)}:80": "10.0.0.2:80"}
        row = {"name": "lb", "vips": vips, "ip_port_mappings": {"10.0.0.2": f"{random.choice(NAMES)}:10.0.0.6"}}
        self._put("Load_Balancer", random.choice(BALANCERS), random.random(), row)

    def change_dhcp_options(self, random: Random) -> None:
        row = {"cidr": "10.0.0.0/24", "options": {"server_id": random.choice(OTHERS), "server_mac": MACS[2]}}
        self._put("DHCP_Options", random.choice(DHCP), random.random(), row)

    def change_a_health_check(self, random: Random) -> None:
        self._put("Logical_Switch_Port_Health_Check", CHECK, 1, {"src_ip": random.choice(OTHERS)})

    def change_nb_global(self, random: Random) -> None:
        self._put("NB_Global", GLOBALS, random.random(), {"options": {"svc_monitor_mac": random.choice(MACS)}})

    # ---- reservations ----------------------------------------------------------------------------------------------

    def reserve(self, random: Random) -> None:
        r = reservation(
            random.choice(SWITCHES), random.choice(NAMES), v4=random.choice([None, *V4]),
            v6=random.choice([None, *V6]), mac=f"02:6f:76:00:00:0{random.randrange(10)}",
            state=random.choice(list(State)),
        )  # fmt: skip
        held = {
            holding
            for other in self.cloud.world.reservations.values()
            if other.live and other.switch == r.switch and other.name != r.name
            for holding in (other.v4, other.v6, other.mac)
        }
        if not r.live or not held & ({r.v4, r.v6, r.mac} - {None}):
            self.cloud.world.put(r)

    def release(self, random: Random) -> None:
        self.cloud.world.drop(random.choice(NAMES))

    # ---- following -------------------------------------------------------------------------------------------------

    def let_changes_gather(self, _random: Random) -> None:
        self.eager = False

    def follow_each_change(self, _random: Random) -> None:
        self.eager = True

    def receive(self, _random: Random) -> None:
        self.cloud.send()

    def reconnect(self, _random: Random) -> None:
        self.cloud.send_all()

    def look(self, _random: Random) -> None:
        self.cloud.look()

    def ask_about_a_switch(self, random: Random) -> None:
        segments = self.cloud.world.segments
        if segments:
            self.cloud.world.settled(segments[random.choice(sorted(segments))])

    def do(self, rule: Rule, seed: int) -> None:
        if not self.switches and rule in _NEED_A_SWITCH | _NEED_A_PORT:
            rule = Somebody.add_a_switch
        elif not self.ports and rule in _NEED_A_PORT:
            rule = Somebody.add_a_port
        rule(self, Random(seed))

    def compare(self) -> None:
        self.cloud.sync()
        assert self.cloud.replica.tables == self.tables
        assert contents(self.cloud.world) == contents(self.cloud.rebuilt())


Rule = Callable[[Somebody, Random], None]

_NEED_A_SWITCH: set[Rule] = {
    Somebody.change_a_switch,
    Somebody.delete_a_switch_with_its_ports,
    Somebody.recreate_a_switch_with_its_ports,
    Somebody.add_a_port,
}
_NEED_A_PORT: set[Rule] = {
    Somebody.change_a_port,
    Somebody.rename_a_port,
    Somebody.swap_the_names_of_two_ports,
    Somebody.delete_a_port,
    Somebody.recreate_a_port_under_its_name,
    Somebody.move_a_port,
}
RULES: list[Rule] = [
    rule for name, rule in vars(Somebody).items() if not name.startswith("_") and name not in ("do", "compare")
]


def follow(history: Iterable[tuple[Rule, int]]) -> None:
    somebody = Somebody()
    for rule, seed in history:
        somebody.do(rule, seed)
        if somebody.eager:
            somebody.compare()
    somebody.compare()


@settings(max_examples=200)
@given(seed=st.integers(0, 1 << 64), length=st.integers(20, 60))
def test_following_changes_comes_to_the_same_as_starting_from_a_full_dump(seed: int, length: int) -> None:
    random = Random(seed)
    follow((random.choice(RULES), random.randrange(1 << 32)) for _ in range(length))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(RULES), st.integers(0, 1 << 20)), min_size=1, max_size=40))
def test_so_it_does_for_short_histories(history: list[tuple[Rule, int]]) -> None:
    """The same; a failure of this one is easier to read."""
    follow(history)


# ---- whom changes concern --------------------------------------------------------------------------------------------


def test_a_port_concerns_the_reservation_of_its_name_and_those_whose_address_or_mac_it_has() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.reserve(switch, "by-v4.default", v4="10.0.0.5", mac="02:6f:76:00:00:05")
    cloud.reserve(switch, "by-mac.default", v4="10.0.0.6", mac="02:6f:76:00:00:06")
    cloud.reserve(switch, "by-v6.default", v4=None, v6="fd00::7", mac="02:6f:76:00:00:07")
    cloud.reserve(switch, "nobody.default", v4="10.0.0.8", mac="02:6f:76:00:00:08")
    port = cloud.port(switch, "thief", "02:6f:76:00:00:06 10.0.0.5 fd00::7")
    for touched in (cloud.change("Logical_Switch_Port", port, up=True), cloud.delete_port(port)):
        assert touched.names == {"thief", "by-v4.default", "by-mac.default", "by-v6.default"}
        assert touched.switches == {switch}


def test_a_switch_concerns_its_reservations_when_it_goes() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    r = cloud.reserve(switch)
    del cloud.tables["Logical_Switch"][switch]
    touched = cloud.sync()
    assert touched.names == {r.name}
    assert touched.switches == {switch}
    assert cloud.world.reservations == {r.name: r}


def test_a_switch_that_comes_back_finds_its_reservations() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    r = cloud.reserve(switch)
    row = cloud.tables["Logical_Switch"].pop(switch)
    cloud.sync()
    cloud.tables["Logical_Switch"][switch] = row
    touched = cloud.sync()
    assert touched.excludes == touched.came == {switch}
    assert touched.names == {r.name}
    assert cloud.segment(switch).reservations == {r.name}


@pytest.mark.parametrize(
    ("columns", "concerned"),
    [
        ({"other_config": {"subnet": "10.0.1.0/24"}}, True),
        ({"other_config": {}}, True),
        ({"name": "other"}, True),
        ({"other_config": {"subnet": "10.0.0.0/24", "exclude_ips": "10.0.0.5"}}, False),
        ({"external_ids": {"neutron:x": "y"}}, False),
    ],
)
def test_a_switch_concerns_its_reservations_when_its_name_or_networks_change(columns: Row, *, concerned: bool) -> None:
    cloud = Cloud()
    switch = cloud.switch()
    r = cloud.reserve(switch)
    assert cloud.change("Logical_Switch", switch, **columns).names == ({r.name} if concerned else set())


# ---- whatever else holds addresses -----------------------------------------------------------------------------------


def stale(cloud: Cloud) -> set[str]:
    """Whom a review finds concerned."""
    while cloud.world.has_unreviewed:
        cloud.world.review(1)
    return cloud.world.take_stale()


def test_what_comes_to_a_reserved_address_concerns_its_reservation_and_no_other() -> None:
    cloud = Cloud()
    switch, other = cloud.switch(), cloud.switch("other")
    cloud.reserve(switch, "nine.default")
    cloud.reserve(switch, "eight.default", v4="10.0.0.8", mac="02:6f:76:00:00:08")
    cloud.reserve(other, "nine-elsewhere.default", mac="02:6f:76:00:00:10")
    router = cloud.router(switch, "10.0.0.1/24")
    stale(cloud)
    nat = cloud.insert("NAT", type="snat", external_ip="10.0.0.9")
    cloud.change("Logical_Router", router, nat=frozenset({nat}))
    assert stale(cloud) == {"nine.default"}
    cloud.change("NAT", nat, external_ip="10.0.0.77")
    assert stale(cloud) == {"nine.default"}
    cloud.change("NAT", nat, external_ip="10.0.0.78")
    assert stale(cloud) == set()


def test_what_a_plan_finds_first_concerns_it_all_the_same() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    r = cloud.reserve(switch)
    stale(cloud)
    cloud.router(switch, "10.0.0.9/24")
    cloud.segment(switch)
    assert stale(cloud) == {r.name}


def test_the_networks_of_router_ports_concern_all_reservations_of_a_switch_that_names_none() -> None:
    cloud = Cloud()
    switch = cloud.switch(subnet=None)
    r = cloud.reserve(switch, v4="10.9.0.9")
    stale(cloud)
    cloud.router(switch, "10.9.0.1/24")
    assert stale(cloud) == {r.name}


def test_a_workloads_port_calls_for_no_review() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.reserve(switch)
    stale(cloud)
    port = cloud.port(switch, "p", f"{MAC} 10.0.0.9")
    cloud.change("Logical_Switch_Port", port, up=True)
    cloud.delete_port(port)
    assert not cloud.world.has_unreviewed


@pytest.mark.parametrize(
    ("columns", "concerned"),
    [
        ({"other_config": {"subnet": "10.0.0.0/24", "exclude_ips": "10.0.0.5"}}, True),
        ({"external_ids": {"ovnreserve/excluded": "1 x"}}, True),
        ({"external_ids": {"neutron:x": "y"}}, False),
        ({"other_config": {"subnet": "10.0.1.0/24"}}, False),
        ({"name": "other"}, False),
    ],
)
def test_only_a_change_of_exclude_ips_or_our_mark_calls_for_a_look_at_them(columns: Row, *, concerned: bool) -> None:
    cloud = Cloud()
    switch = cloud.switch()
    touched = cloud.change("Logical_Switch", switch, **columns)
    assert touched.excludes == ({switch} if concerned else set())
    assert touched.switches == {switch}


def test_a_dynamic_port_that_gets_another_address_was_moved() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    port = cloud.port(switch, "p", "dynamic")
    assert cloud.change("Logical_Switch_Port", port, dynamic_addresses=f"{MAC} 10.0.0.2").moved == []
    assert cloud.change("Logical_Switch_Port", port, up=True).moved == []
    [(before, after)] = cloud.change("Logical_Switch_Port", port, dynamic_addresses=f"{MAC} 10.0.0.3").moved
    assert (before.dynamic_addresses, after.dynamic_addresses) == (f"{MAC} 10.0.0.2", f"{MAC} 10.0.0.3")


# ---- reservations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.INTENDED, State.HELD, State.RELEASING])
def test_a_withheld_address_stays_withheld_whatever_becomes_of_its_reservation(state: State) -> None:
    """To exclude it would renumber the running port that has it."""
    cloud = Cloud()
    switch = cloud.switch()
    r = cloud.reserve(switch)
    segment = cloud.segment(switch)
    segment.withhold(frozenset({parse_v4("10.0.0.9")}))
    cloud.world.put(r.with_(state=state, labels={"a": "b"}))
    assert segment.excluded.text() == ""
    cloud.world.drop(r.name)
    assert segment.withheld == set()
    cloud.world.put(r)
    assert segment.excluded.text() == "10.0.0.9"


def test_a_failed_reservation_keeps_nothing() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    r = cloud.reserve(switch)
    cloud.world.put(r.with_(state=State.FAILED))
    segment = cloud.segment(switch)
    assert (segment.reserved, segment.reserved_macs, segment.excluded.text()) == ({}, {}, "")
    assert segment.reservations == {r.name}
    assert cloud.world.macs == {}
    cloud.world.drop(r.name)
    assert segment.reservations == set()


def test_quarantine_ends_when_its_time_is_over_and_outlives_another_network() -> None:
    cloud = Cloud()
    switch = cloud.switch(subnet="10.0.0.0/29")
    cloud.reserve(switch, v4="10.0.0.6")
    cloud.world.drop("vm-1.default", quarantined_at=100.0)

    def chosen() -> int | None:
        space = cloud.segment(switch).v4
        assert space is not None
        return space.choose([(0, parse_v4("10.0.0.6"))])

    assert chosen() == parse_v4("10.0.0.5")
    cloud.change("Logical_Switch", switch, other_config={"subnet": "10.0.0.0/24"})
    assert chosen() == parse_v4("10.0.0.5")
    cloud.world.end_quarantine(99.0)
    assert chosen() == parse_v4("10.0.0.5")
    cloud.world.end_quarantine(100.0)
    assert chosen() == parse_v4("10.0.0.6")


def test_what_was_released_before_a_restart_is_in_quarantine_where_the_switch_is_still_there() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.world.quarantine(switch, 4, parse_v4("10.0.0.254"), 100.0)
    cloud.world.quarantine("gone", 4, parse_v4("10.0.0.254"), 100.0)
    cloud.world.quarantine(switch, 6, 5, 100.0)
    space = cloud.segment(switch).v4
    assert space is not None
    assert space.choose() == parse_v4("10.0.0.253")


# ---- the networks of a switch ----------------------------------------------------------------------------------------


def test_a_switch_that_names_no_subnet_has_the_networks_of_its_router_port() -> None:
    cloud = Cloud()
    switch = cloud.switch(subnet=None)
    cloud.reserve(switch, v4="10.9.0.9")
    cloud.router(switch, "10.9.0.1/24", "fe80::1/64", "fd09::1/64")
    segment = cloud.segment(switch)
    assert [str(space.cidr) for space in segment.spaces] == ["10.9.0.0/24", "fd09::/64"]
    assert segment.v4 is not None
    assert segment.v4.used == 2


def test_its_own_subnet_goes_before_that_of_its_router_port() -> None:
    cloud = Cloud()
    switch = cloud.switch(v6=None)
    cloud.router(switch, "10.9.0.1/24", "fd09::1/64")
    assert [str(space.cidr) for space in cloud.segment(switch).spaces] == ["10.0.0.0/24"]


def test_switches_are_found_by_name_also_when_two_share_it() -> None:
    cloud = Cloud()
    first, second = cloud.switch(), cloud.switch()
    assert [segment.switch.uuid for segment in cloud.world.switches_named("net")] == [first, second]
    assert cloud.world.switches_named("other") == []
    assert cloud.world.switch_name(first) == "net"
    assert cloud.world.switch_name(None) == "(none)"


def test_somebody_else_has_a_turn_now_and_then_while_very_many_ports_are_taken() -> None:
    cloud = Cloud()
    ports = {uuid_of(number): row_of("Logical_Switch_Port", name=f"p{number}") for number in range(1000, 3500)}
    cloud.tables["Logical_Switch_Port"].update(ports)
    cloud.send()
    turns: list[int] = []
    world = cloud.world
    world.apply(cloud.replica.tables, cloud.replica.take_changes(), lambda: turns.append(len(world.ports)))
    assert turns == [0, 1000, 2000]
    assert len(world.ports) == 2500
