"""The world: everything decisions look at, in memory, kept up to date by changes.

It joins the two stores: the northbound database's switches, ports and other holders of addresses, and the ledger's
reservations. Only the engine's thread changes it, through four doors: `apply` (northbound rows changed), `put` and
`drop` (a reservation changed), `quarantine`. Plans only read it.

Per switch a `Segment` knows every holder of every address and MAC, so each question a plan asks is one or two dict
look-ups, and the cost of a change does not grow with the number of ports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from math import inf
from typing import Any, NamedTuple

from ovnreserve.model.addresses import Cidr, parse_cidr
from ovnreserve.model.names import DEFAULT_PROVIDER
from ovnreserve.model.ovn_text import address_of
from ovnreserve.model.owner import Owner
from ovnreserve.model.pace import Beat, no_beat, paced
from ovnreserve.model.pool import Pool, pool_name
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, is_fact
from ovnreserve.model.topology import Port, RowChanges, Switch, port_of, switch_of
from ovnreserve.plan.coverage import Coverage
from ovnreserve.plan.identity import Identity, identity
from ovnreserve.plan.infrastructure import Infrastructure
from ovnreserve.plan.segment import Key, Segment, count, discard

Rows = Mapping[str, Mapping[str, Any]]

PORTS = "Logical_Switch_Port"
SWITCHES = "Logical_Switch"
_POOLS = pool_name("")
_MAC_PREFIX = re.compile(r"\s*(?:0x)?0?([0-9a-f]{1,2}):(?:0x)?0?([0-9a-f]{1,2}):(?:0x)?0?([0-9a-f]{1,2})").match
NOT_TOPOLOGY = frozenset({PORTS, SWITCHES, "NB_Global", "DNS"})


class Touched(NamedTuple):
    """Whom changes concern: reservations, pools and ports by name, switches whose exclude_ips changed or may have more
    addresses now, switches of which anything did or that went, ports that ovn-northd gave another address (before,
    after), and switches that came.
    """

    names: set[str]
    excludes: set[str]
    switches: set[str]
    moved: list[tuple[Port, Port]]
    came: set[str]


class World:
    """`beat` is called now and then while many changes are taken. With `keep_vm_ip` the IPs of VMs outlive their
    ports.
    """

    def __init__(self, beat: Beat = no_beat, *, keep_vm_ip: bool = False) -> None:
        self.beat = beat
        self.keep_vm_ip = keep_vm_ip
        self.tables: Mapping[str, Rows] = {}
        self.segments: dict[str, Segment] = {}
        self.by_name: dict[str, set[str]] = {}
        self.ports: dict[str, Port] = {}
        self.port_names: dict[str, str] = {}
        self.reservations: dict[str, Reservation] = {}
        self.owners: dict[str, Owner] = {}
        self.pools: dict[str, Pool] = {}
        self.macs: dict[str, int] = {}
        """How many ports and live reservations, anywhere, have this MAC."""
        self.blockers: dict[str, set[str]] = {}
        """The reservations that have noted something of a port (uuid) in `blocked`."""
        self._homes: dict[str, set[str]] = {}
        """The reservations and pools of each switch, by its uuid, whether it is there or not."""
        self._switch_of: dict[str, str] = {}
        self.coverage = Coverage()
        self._dhcp: dict[str, int] = {}
        self._quarantines: set[str] = set()
        self._infrastructure: Infrastructure | None = None
        self._review_all = False
        self._unreviewed: list[str] = []
        self._stale: set[str] = set()
        """Names for which something came or went with a switch's networks or other holders of addresses."""
        self._disturbed: set[str] = set()

    # ---- questions -------------------------------------------------------------------------------------------------

    def port(self, name: str) -> Port | None:
        uuid = self.port_names.get(name)
        return None if uuid is None else self.ports[uuid]

    def resource(self, name: str) -> Resource | None:
        """The reservation, owner or pool of that name."""
        return self._kept(name).get(name)

    def resources(self) -> Iterator[Resource]:
        """Everything that is kept."""
        return chain(self.reservations.values(), self.owners.values(), self.pools.values())

    def _kept(self, name: str) -> dict[str, Any]:
        if not is_fact(name):
            return self.reservations
        return self.pools if name.startswith(_POOLS) else self.owners

    def identity(self, port: Port) -> Identity:
        """Who the port is for."""
        segment = self.segments.get(port.switch or "")
        return identity(port, segment.switch.provider if segment is not None else DEFAULT_PROVIDER)

    def switches_named(self, name: str) -> list[Segment]:
        return [self.segments[uuid] for uuid in sorted(self.by_name.get(name, ()))]

    def homeless(self) -> set[str]:
        """The reservations and pools whose switch does not exist. Costs a look at every switch that has any."""
        gone = self._homes.keys() - self.segments.keys()
        return {name for uuid in gone for name in self._homes[uuid]}

    def kept_for(self, switch: str) -> list[str]:
        """The names of a switch's reservations and pools, whether it is there or not."""
        return sorted(self._homes.get(switch, ()))

    def switch_name(self, uuid: str | None) -> str:
        segment = self.segments.get(uuid or "")
        return segment.switch.name if segment else "(none)"

    @property
    def infrastructure(self) -> Infrastructure:
        """The index of everything else that holds addresses, made when somebody asks."""
        if self._infrastructure is None:
            self._infrastructure = Infrastructure(self.tables, port_names=self.port_names, dhcp_in_use=self._dhcp)
        return self._infrastructure

    def settled(self, segment: Segment) -> Segment:
        """The segment with its networks and other holders brought up to date, which is done when somebody asks."""
        infrastructure = self.infrastructure
        switch = segment.switch
        key = (infrastructure, switch.v4, switch.v6, segment.theirs, frozenset(segment.dhcp))
        if segment.settled_for != key:
            before = segment.networks, segment.claims
            self._look_at_routers(segment)
            v4, v6 = segment.own_or_routed
            segment.set_networks(v4, v6)
            claims = infrastructure.claims(switch.uuid, v4, v6, special=segment.special, dhcp=segment.dhcp)
            segment.set_others(claims)
            segment.settled_for = key
            self._stale.update(segment.concerned(*before))
        return segment

    @property
    def has_unreviewed(self) -> bool:
        return self._review_all or bool(self._unreviewed)

    def review(self, limit: int) -> None:
        """Bring some switches up to date that whatever else holds addresses may concern: those with reservations or
        pools, and of the others what their routers have.
        """
        if self._review_all:
            self._review_all = False
            self._unreviewed = [
                uuid
                for uuid, segment in self.segments.items()
                if any(segment.kept) or segment.special or any(segment.routed) or segment.routers
            ]
        for _ in range(min(limit, len(self._unreviewed))):
            segment = self.segments.get(self._unreviewed.pop())
            if segment is None:
                continue
            if any(segment.kept):
                self.settled(segment)
            else:
                self._look_at_routers(segment)

    def _look_at_routers(self, segment: Segment) -> None:
        """Which addresses have routers there, and which networks has a switch that names none?"""
        rows = [row for row, _router in self.attached_routers(segment)]
        if segment.set_routers(_addresses_of(rows)):
            self._disturbed.add(segment.switch.uuid)
        if segment.switch.is_subnet:
            return
        routed = _networks_of(rows)
        if routed != segment.routed:
            segment.routed = routed
            self._stale.update(self._ports_of(segment))

    def _ports_of(self, segment: Segment) -> Iterator[str]:
        """The names of the switch's ports that have addresses."""
        return (self.ports[uuid].name for uuids in segment.port_addresses.values() for uuid in uuids)

    def take_stale(self) -> set[str]:
        """The reservations and ports of which something was found to have changed since the last call, by bringing
        switches up to date.
        """
        stale, self._stale = self._stale, set()
        return stale

    def take_disturbed(self) -> set[str]:
        """The switches (uuids) on which a router came to or left an address that a port has, since the last call."""
        disturbed, self._disturbed = self._disturbed, set()
        return disturbed

    def _outdate(self) -> None:
        """The index of what else holds addresses is of yesterday, and so may be what reservations look like."""
        self._infrastructure = None
        self._review_all = True

    def attached_routers(self, segment: Segment) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """(Logical_Router_Port, its Logical_Router) rows of the routers that the switch is attached to."""
        return self.infrastructure.router_ports(segment.switch.uuid, segment.special)

    def mac_prefix(self) -> str:
        """NB_Global options:mac_prefix as ovn-northd reads and rewrites it (measured: one digit, more octets, a 0x in
        front are fine); "" while there is none.
        """
        for row in self.tables.get("NB_Global", {}).values():
            match = _MAC_PREFIX(str(row["options"].get("mac_prefix", "")).lower())
            return ":".join(octet.zfill(2) for octet in match.groups()) if match else ""
        return ""

    def has_localnet(self, segment: Segment) -> bool:
        return any(self.ports[uuid].type == "localnet" for uuid in segment.special)

    # ---- changes ---------------------------------------------------------------------------------------------------

    def apply(
        self, tables: Mapping[str, Rows], changes: RowChanges, meanwhile: Callable[[], object] = lambda: None
    ) -> Touched:
        """Take rows that changed. Costs nothing for what did not. Where they are many, `meanwhile` is called now and
        then; it must not look at the world, which is half old and half new.
        """
        self.tables = tables
        options_changed = any(
            columns is None or "options" in columns for columns in changes.rows.get("NB_Global", {}).values()
        )
        if options_changed or changes.rows.keys() - NOT_TOPOLOGY:
            self._outdate()
        touched = Touched(set(), set(), set(), [], set())
        rows = tables.get(SWITCHES, {})
        for uuid, columns in changes.rows.get(SWITCHES, {}).items():
            if columns is None or columns - {"ports"}:
                self._change_switch(uuid, rows.get(uuid), columns, touched)
        ports = set(changes.rows.get(PORTS, ()))
        for port, switch, joined in changes.members:
            if joined:
                self._switch_of[port] = switch
            elif self._switch_of.get(port) == switch:
                del self._switch_of[port]
            ports.add(port)
        port_rows = tables.get(PORTS, {})

        def breathe() -> None:
            self.beat()
            meanwhile()

        for uuid in paced(ports, breathe):
            self._change_port(uuid, port_rows.get(uuid), touched)
        return touched

    def _change_switch(
        self, uuid: str, row: Mapping[str, Any] | None, columns: set[str] | None, touched: Touched
    ) -> None:
        segment = self.segments.get(uuid)
        touched.switches.add(uuid)
        if segment is not None:
            discard(self.by_name, segment.switch.name, uuid)
        if row is None:
            if segment is not None:
                touched.names.update(segment.kept)
                del self.segments[uuid]
            return
        switch = switch_of(uuid, row)
        if segment is None:
            segment = self.segments[uuid] = Segment(switch)
            for name in self._homes.get(uuid, ()):
                resource = self.resource(name)
                if isinstance(resource, Reservation):
                    segment.add_reservation(resource)
                elif isinstance(resource, Pool):
                    segment.put_pool(resource)
            touched.excludes.add(uuid)
            touched.came.add(uuid)
            touched.names.update(segment.kept)
        elif (switch.exclude_ips, switch.mark) != (segment.switch.exclude_ips, segment.switch.mark):
            touched.excludes.add(uuid)
        if columns is None or columns - {"ports", "other_config", "external_ids"}:
            self._outdate()
        if _shape(switch) != _shape(segment.switch):
            touched.names.update(segment.kept)
            touched.names.update(self._ports_of(segment))
            self._unreviewed.append(uuid)
        renamed = switch.provider != segment.switch.provider
        segment.switch = switch
        if renamed:
            self._identify_again(row["ports"], touched)
        self.by_name.setdefault(switch.name, set()).add(uuid)

    def _identify_again(self, ports: Iterable[str], touched: Touched) -> None:
        """Who ports are for is read from their names with their switch's provider, which has changed."""
        for port in (self.ports[uuid] for uuid in ports if uuid in self.ports):
            touched.names.add(port.name)
            if self.coverage.follows_ports:
                self.coverage.add_port(port.name, self.identity(port))

    def _change_port(self, uuid: str, row: Mapping[str, Any] | None, touched: Touched) -> None:
        touched.names.update(self.blockers.get(uuid, ()))
        old = self.ports.get(uuid)
        new = None if row is None else port_of(uuid, row, self._switch_of.get(uuid))
        indexed = old is not None and new is not None and new._replace(up=old.up) == old  # no index knows of `up`
        covered = old is not None and new is not None and _telling(old) == _telling(new)
        if old is not None:
            touched.names.add(old.name)
            touched.names.update(self.rivals(old))
            if not indexed:
                self._index(old, -1)
            segment = self.segments.get(old.switch or "")
            has = new.assigned.v4 if new is not None and new.assigned is not None and new.switch == old.switch else ()
            if segment is not None and not segment.withheld.isdisjoint(set(old.own()[1]).difference(has)):
                touched.excludes.add(segment.switch.uuid)
            if self.port_names.get(old.name) == uuid:
                del self.port_names[old.name]
                if not covered:
                    self.coverage.remove_port(old.name)
            del self.ports[uuid]
        if new is not None:
            touched.names.add(new.name)
            self.ports[uuid] = new
            self.port_names[new.name] = uuid
            if not indexed:
                self._index(new, +1)
            if self.coverage.follows_ports and not covered:
                self.coverage.add_port(new.name, self.identity(new))
            touched.names.update(self.rivals(new))
            if old is not None and old.assigned is not None and old.assigned != new.assigned:
                touched.moved.append((old, new))
        touched.switches.update(port.switch for port in (old, new) if port is not None and port.switch)
        plugged = old is None or new is None or (old.name, old.switch) != (new.name, new.switch)
        if self._infrastructure is not None and any(
            port.special or (plugged and self._infrastructure.mentions(port.name))
            for port in (old, new)
            if port is not None
        ):
            self._outdate()

    def _index(self, port: Port, sign: int) -> None:
        segment = self.segments.get(port.switch or "")
        if segment is not None:
            (segment.add_port if sign > 0 else segment.remove_port)(port)
        for mac in port.own()[0]:
            count(self.macs, mac, sign)
        for options in port.dhcp:
            before = options in self._dhcp
            count(self._dhcp, options, sign)
            if before != (options in self._dhcp):
                self._outdate()

    def running_on(self, segment: Segment, address: int) -> Iterator[Port]:
        """The ports that ovn-northd has given an IPv4 address: to exclude it would renumber them."""
        for uuid in sorted(segment.port_addresses.get((4, address), ())):
            port = self.ports[uuid]
            if port.assigned is not None and address in port.assigned.v4:
                yield port

    def rivals(self, port: Port) -> Iterator[str]:
        """The reservations whose address or MAC the port has."""
        segment = self.segments.get(port.switch or "")
        if segment is None:
            return
        macs, v4, v6 = port.own()
        for family, addresses in ((4, v4), (6, v6)):
            for address in addresses:
                name = segment.reserved.get((family, address))
                if name is not None:
                    yield name
        for mac in macs:
            name = segment.reserved_macs.get(mac)
            if name is not None:
                yield name

    def put(self, r: Resource) -> None:
        """A resource came or changed. A reservation's addresses and MAC never change."""
        match r:
            case Reservation():
                self._put_reservation(r)
            case Pool():
                self._put_pool(r)
            case Owner():
                self.owners[r.name] = r
                self.coverage.know(r.name)
                if not self.coverage.follows_ports:
                    ports = paced(self.ports.values(), self.beat)
                    self.coverage.follow_ports((port.name, self.identity(port)) for port in ports)

    def _put_pool(self, pool: Pool) -> None:
        old = self.pools.get(pool.name)
        if old is not None and old.switch != pool.switch:
            self.drop(pool.name)
        self.pools[pool.name] = pool
        self._homes.setdefault(pool.switch, set()).add(pool.name)
        segment = self.segments.get(pool.switch)
        if segment is not None:
            segment.put_pool(pool)

    def _put_reservation(self, r: Reservation) -> None:
        segment = self.segments.get(r.switch)
        old = self.reservations.get(r.name)
        withheld = segment is not None and old is not None and old.live and old.v4 == r.v4 in segment.withheld
        self.drop(r.name)
        self.reservations[r.name] = r
        self._homes.setdefault(r.switch, set()).add(r.name)
        self.coverage.add_reservation(r)
        for port in r.blocked:
            self.blockers.setdefault(port, set()).add(r.name)
        if r.live:
            count(self.macs, r.mac, +1)
        if segment is not None:
            segment.add_reservation(r, withheld=withheld)

    def acknowledge(self, r: Resource) -> None:
        """Only the state of a live resource changed: nothing it holds did."""
        self._kept(r.name)[r.name] = r
        segment = self.segments.get(r.home)
        if isinstance(r, Pool) and segment is not None:
            segment.pools.acknowledge(r)

    def drop(self, name: str, quarantined_at: float | None = None) -> None:
        r = self._kept(name).pop(name, None)
        if isinstance(r, Owner):
            self.coverage.forget(name)
        elif isinstance(r, Reservation):
            self._drop_reservation(r, quarantined_at)
        elif isinstance(r, Pool):
            discard(self._homes, r.switch, r.name)
            segment = self.segments.get(r.switch)
            if segment is not None:
                segment.remove_pool(name)

    def _drop_reservation(self, r: Reservation, quarantined_at: float | None) -> None:
        discard(self._homes, r.switch, r.name)
        self.coverage.remove_reservation(r)
        for port in r.blocked:
            discard(self.blockers, port, r.name)
        if r.live:
            count(self.macs, r.mac, -1)
        segment = self.segments.get(r.switch)
        if segment is not None:
            if quarantined_at is not None:
                self._quarantines.add(r.switch)
            segment.remove_reservation(r, quarantined_at)

    @property
    def quarantines(self) -> Collection[str]:
        """The switches that may have addresses in quarantine."""
        return self._quarantines

    def quarantine(self, switch: str, family: int, address: int, since: float) -> None:
        """An address was released at that time, before this world was made or changed."""
        segment = self.segments.get(switch)
        if segment is not None:
            segment.quarantine(family, address, since)
            self._quarantines.add(switch)

    def end_quarantine(self, before: float, now: float = inf) -> set[str]:
        """Let addresses be chosen again that were released before that time; what was in the future, was now. The
        switches of which some were.
        """
        ended: set[str] = set()
        for switch in list(self._quarantines):
            segment = self.segments.get(switch)
            if segment is not None and segment.end_quarantine(before, now):
                ended.add(switch)
            if segment is None or not segment.has_quarantined:
                self._quarantines.discard(switch)
        return ended


def _networks_of(routers: Iterable[Mapping[str, Any]]) -> tuple[Cidr | None, Cidr | None]:
    """The networks of router ports (rows), the first of each family: the subnet of a switch that names none."""
    found: dict[int, Cidr] = {}
    for row in routers:
        for text in sorted(row["networks"]):
            cidr = parse_cidr(text)
            if cidr is not None and not text.lower().startswith("fe80"):
                found.setdefault(cidr.bits, cidr)
    return found.get(32), found.get(128)


def _addresses_of(routers: Iterable[Mapping[str, Any]]) -> dict[Key, str]:
    """The addresses of router ports (rows), each with the port's name."""
    found = {address_of(text): row["name"] for row in routers for text in row["networks"]}
    return {key: name for key, name in found.items() if key[0]}


def _telling(port: Port) -> tuple[Any, ...]:
    """What of a port tells who it is for."""
    return port.name, port.switch, port.external_ids


def _shape(switch: Switch) -> tuple[Any, ...]:
    """What of a switch is seen of its IPs."""
    return switch.name, switch.v4, switch.v6, switch.has_ipam, switch.provider
