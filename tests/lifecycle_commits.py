"""What a transaction of the daemon's has done, judged against the rows before and after it (`lifecycle.Site`).

Whom it has changed (`foreign_changes`), whom it has taken an address from (`moved`, `doubled`), whether what is kept is
excluded (`unexcluded`), and what it made of pools (lifecycle_pools.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from builders import Tables
from lifecycle_pools import clipped, misallotted, mispooled, pools_of
from ovsdb_model import PORTS, SWITCHES, thoughts

from ovnreserve.engine.batch import Batch
from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import KIND, KIND_LEDGER, NAME, State
from ovnreserve.model.topology import EXCLUDE_IPS, EXCLUDED_MARK, Port, parse_element, port_of, switch_of
from ovnreserve.plan.world import World

if TYPE_CHECKING:
    from lifecycle import Site



def wrong_with(site: Site, batch: Batch, before: Tables, seen: Tables) -> list[str]:
    """`before` is what the rows were just before it, `seen` what they were when it was planned."""
    after = site.tables
    comment = next(o["comment"] for o in site.wire.transaction.operations.operations if o["op"] == "comment")  # type: ignore[union-attr]
    found = [
        *foreign_changes(site, batch, before, after),
        *moved(site, before, seen, after),
        *doubled(site, batch, seen, after),
        *unexcluded(site, batch, seen, after),
        *misallotted(site, batch, seen),
        *mispooled(site, batch, seen),
    ]
    return [f"{comment}: {what}" for what in found]


def foreign_changes(site: Site, batch: Batch, before: Tables, after: Tables) -> Iterator[str]:
    """Rows, columns, keys or text of somebody else that are not what they were."""
    bound = {step.reservation for step in batch.all_steps if hasattr(step, "reservation")}
    ours = batch.names | bound
    for table, rows in before.items():
        for uuid in rows.keys() | after[table].keys():
            old, new = rows.get(uuid), after[table].get(uuid)
            if old == new:
                continue
            match table:
                case "DNS":
                    ids = (new or old or {})["external_ids"]
                    if ids.get(KIND) != KIND_LEDGER and ids.get(NAME) not in ours:
                        yield f"DNS row {ids} was changed"
                case "NB_Global":
                    if {**(old or {}), "nb_cfg": 0} != {**(new or {}), "nb_cfg": 0}:
                        yield f"NB_Global was {old}, is {new}"
                case "Logical_Switch_Port":
                    yield from _changes_of_port(site, batch, ours, old, new)
                case "Logical_Switch":
                    yield from _changes_of_switch(old, new, before)
                case _:
                    yield f"{table} was {old}, is {new}"


def _changes_of_port(site: Site, batch: Batch, ours: set[str], old: Any, new: Any) -> Iterator[str]:
    if old is not None and new is not None and {**old, "enabled": None} == {**new, "enabled": None}:
        if not site.options["block_squatters"] or old["type"]:
            yield f"port {old['name']} was disabled or enabled"
        return
    if old is None or old["name"] not in ours:
        yield f"port was {old}, is {new}"
        return
    name = old["name"]
    if new is None and name in site.condemned:
        return
    known = site.world.reservations.get(name) or batch.before.get(name)
    if not isinstance(known, Reservation):
        yield f"port {name} of no reservation of ours was changed"
    elif new is None:
        yield f"port {name} was deleted"
    else:
        if {**old, "addresses": ()} != {**new, "addresses": ()}:
            yield f"port {name} was {old}, is {new}"
        elements = [parse_element(text) for text in old["addresses"]]
        lost = {e.text for e in elements if not e.dynamic and (e.v4 or e.v6 or e.mac is None)} - new["addresses"]
        if lost:
            yield f"port {name} has lost {lost}"


def _changes_of_switch(old: Any, new: Any, before: Tables) -> Iterator[str]:
    if old is None or new is None:
        yield f"switch was {old}, is {new}"
        return
    name = old["name"]
    if new["ports"] - old["ports"]:
        yield f"switch {name} has more ports"
    yield from (f"switch {name} lost a port" for uuid in old["ports"] - new["ports"] if uuid not in before[PORTS])
    rest = [
        {column: row[column] for column in row if column not in ("ports", "other_config", "external_ids")}
        | {"config": {key: value for key, value in row["other_config"].items() if key != EXCLUDE_IPS}}
        | {"ids": {key: value for key, value in row["external_ids"].items() if key != EXCLUDED_MARK}}
        for row in (old, new)
    ]
    if rest[0] != rest[1]:
        yield f"switch {name} was {rest[0]}, is {rest[1]}"
    theirs = [split(row)[1] for row in (old, new)]
    if theirs[0] != theirs[1]:
        yield f"the operator's exclude_ips of {name} was {theirs[0]!r}, is {theirs[1]!r}"
    for column, key in (("other_config", EXCLUDE_IPS), ("external_ids", EXCLUDED_MARK)):
        if new[column].get(key) == "" != old[column].get(key):
            yield f"switch {name} has an empty {key}"


def split(row: Any) -> tuple[str, str]:
    return exclude_ips.split(row["other_config"].get(EXCLUDE_IPS, ""), row["external_ids"].get(EXCLUDED_MARK))


def moved(site: Site, before: Tables, seen: Tables, after: Tables) -> Iterator[str]:
    """Running dynamic ports that would have stayed where they are, but for our transaction."""
    without, now = thoughts(before), thoughts(after)
    for uuid, row in before[PORTS].items():
        has = row["dynamic_addresses"]
        if not has or without.get(uuid) != has or uuid not in after[PORTS]:
            continue
        new = after[PORTS][uuid]
        static = [parse_element(text) for text in new["addresses"] if "dynamic" not in text]
        if now.get(uuid) == has:
            continue
        was = parse_element(has)
        if not was.v4:
            continue  # there was none left for it
        if now.get(uuid) is None and any(
            e.mac == was.mac and set(was.v4) <= set(e.v4) and set(was.v6) <= set(e.v6) for e in static
        ):
            site.counts["pinned"] += 1
            continue
        if now.get(uuid) is None and not row["up"]:
            site.counts["given another before it was up"] += 1
            continue
        asks = next((e.v4 for e in map(parse_element, sorted(row["addresses"])) if e.dynamic), ())
        if asks and asks != was.v4 and not _takes(before, after, uuid, was.v4):
            site.counts["asked for another: ovn-northd chooses anew whenever it looks"] += 1
            continue
        if seen[PORTS].get(uuid) != row:
            site.counts["moved, changed since we looked"] += 1
            if seen[PORTS].get(uuid) is not None or not _is_guarded(site):
                continue
        yield f"port {row['name']} was moved from {has} to {now.get(uuid) or sorted(new['addresses'])}"


def _takes(before: Tables, after: Tables, port: str, addresses: Sequence[int]) -> bool:
    """Does the transaction exclude what the port has, or give it to another? Else ovn-northd moved it itself."""
    switch = next(uuid for uuid, row in after[SWITCHES].items() if port in row["ports"])
    was, now = (excluded_by_us(tables[SWITCHES][switch]) for tables in (before, after))
    others = [e for other in ports_on(after, switch) if other.uuid != port for e in other.elements if not e.dynamic]
    return not set(addresses).isdisjoint((now - was) | {address for e in others for address in e.v4})


def _is_guarded(site: Site) -> bool:
    """Did the transaction insist on the ports of a switch?"""
    sent = site.wire.transaction
    return sent is not None and any(o.get("columns") == ["ports"] for o in sent.operations.operations)


def doubled(site: Site, batch: Batch, seen: Tables, after: Tables) -> Iterator[str]:
    """Addresses that were given to a new reservation while somebody else had them."""
    before = batch.before
    for _work, plan in batch.planned:
        r = plan.resource
        if not isinstance(r, Reservation) or plan.result == "unchanged" or not r.live or r.state is State.RELEASING:
            continue
        old = before.get(r.name)
        is_new, is_moved = old is None, old is not None and old.home != r.home
        if not (is_new or is_moved):
            continue
        for other in site.world.reservations.values():
            if other.name != r.name and set(other.claims()) & set(r.claims()):
                yield f"IP {r.name} has what IP {other.name} has"
        for port in ports_on(after, r.switch) if is_new else ():
            macs, v4, v6 = port.own()
            if port.name != r.name and (r.v4 in v4 or r.v6 in v6 or r.mac in macs):
                if seen[PORTS].get(port.uuid) == after[PORTS][port.uuid]:
                    yield f"IP {r.name} has what port {port.name} has"
                else:
                    site.counts["doubled, came as we committed"] += 1


def ports_on(tables: Tables, switch: str) -> Iterator[Port]:
    row = tables[SWITCHES].get(switch)
    for uuid in row["ports"] if row is not None else ():
        yield port_of(uuid, tables[PORTS][uuid], switch)


def unexcluded(site: Site, batch: Batch, seen: Tables, after: Tables) -> Iterator[str]:
    """Kept addresses that a switch does not exclude, though nobody else runs there. Judged are the switches whose
    exclude_ips we have written, or had no need to, and those that were well and that nobody has rewritten since
    (`Site.vouched`): what somebody has just rewritten is repaired later.
    """
    new = {r.home for _work, plan in batch.planned if (r := plan.resource) is not None and r.state is State.INTENDED}
    was, site.vouched = site.vouched, {}
    for uuid, segment in site.world.segments.items():
        row = after[SWITCHES].get(uuid)
        is_put_off = uuid in site.engine._tasks._suspects  # whether a port has left is looked at a moment later
        ours = _writes_excludes(site, uuid) or (uuid in new and _telling(seen[SWITCHES].get(uuid)) == _telling(row))
        if row is None or not (ours or was.get(uuid) == _telling(row)):
            continue
        site.vouched[uuid] = _telling(row)
        excluded = excluded_by_us(row)
        for address, r in kept_on(site.world, uuid, row).items():
            shown = f"{format_v4(address)} of {r.name}"
            if address in excluded and address in segment.withheld:
                yield f"{shown} is excluded and withheld"
            elif address not in excluded and address not in segment.withheld:
                yield f"{shown} is not excluded"
            elif (
                address in segment.withheld
                and ours
                and not is_put_off
                and not any(address in p.own()[1] for p in ports_on(seen, uuid))
            ):
                yield f"{shown} is withheld for nobody"


def _telling(row: Any) -> tuple[str | None, ...]:
    """What of a switch, if it is there, says what it excludes."""
    if row is None:
        return ()
    config = row["other_config"]
    return config.get(EXCLUDE_IPS), config.get("subnet"), row["external_ids"].get(EXCLUDED_MARK)


def _writes_excludes(site: Site, switch: str) -> bool:
    sent = site.wire.transaction
    is_it = [["_uuid", "==", ["uuid", switch]]]
    return sent is not None and any(
        o["op"] == "mutate" and o["where"] == is_it and o["mutations"][0][0] == "other_config"
        for o in sent.operations.operations
    )


def excluded_by_us(row: Any) -> set[int]:
    v4 = switch_of("", row).v4
    if v4 is None:
        return set()
    ranges = exclude_ips.parse(split(row)[0], v4.first, v4.prefixlen).ranges
    return {address for first, last in ranges for address in range(first, last + 1)}


def kept_on(world: World, uuid: str, row: Any) -> dict[int, Reservation | Pool]:
    """The IPv4 addresses within the subnet that are to be excluded, and for whom."""
    v4 = switch_of("", row).v4
    if v4 is None:
        return {}
    kept: dict[int, Reservation | Pool] = {
        address: pool
        for pool in pools_of(world.pools.values(), uuid)
        for first, last in clipped(pool.v4, v4.hosts)
        for address in range(first, last + 1)
    }
    on = (r for r in world.reservations.values() if r.switch == uuid and r.live and r.v4 is not None)
    return kept | {r.v4: r for r in on if r.v4 is not None and v4.hosts[0] <= r.v4 <= v4.hosts[1]}
