"""Release: delete the IP, in two northbound transactions with ovn-northd's answer between them.

    held --(1) delete the port, mark the record--> releasing --sb_cfg passes--> (2) drop record and address --> gone

One transaction would not do: ovn-northd may hand the address out while chassis still forward the old port's packets.
Whoever finds a record marked as releasing, after whatever crash, has ovn-northd answer and goes on with the second.
Of an IP that was born with a port nothing is kept: that port is deleted, and the IP goes with it.
"""

from __future__ import annotations

from typing import Any

from ovnreserve.model.errors import Conflict, NotFound
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.model.steps import Barrier, DeletePort, DropRecord, Step, UpdateRecord
from ovnreserve.model.topology import Port
from ovnreserve.plan.bind import elsewhere, seen
from ovnreserve.plan.born import Born, born
from ovnreserve.plan.identity import contradiction
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.pools import check_unused
from ovnreserve.plan.squatters import unblocked
from ovnreserve.plan.world import World


def plan_release(world: World, r: Resource, context: Context, *, again: bool = False) -> Plan:
    """The first transaction. What is being released already stays so, unless that is to be done `again` because only
    the ledger says so; what failed holds nothing and just goes. Raises Conflict for a pool that is in use.
    """
    unblocking, unblocked_ = unblocked(world, r)
    if r.state is State.FAILED:
        event = Event("Normal", "Released", r.name, "had failed, held nothing")
        return Plan("deleted", None, (*unblocking, DropRecord(r)), (event, *unblocked_))
    if r.state is State.RELEASING and not again:
        return Plan("deleted", r)
    if isinstance(r, Pool) and not again:
        check_unused(world, r)
    deleted = r.deleted or int(context.now)
    changes: dict[str, Any] = {"blocked": {}} if isinstance(r, Reservation) else {}
    releasing = r.with_(state=State.RELEASING, deleted=deleted, **changes, **context.stamp)
    steps: list[Step] = [UpdateRecord(releasing), *unblocking]
    events: tuple[Event, ...] = (Event("Normal", "Releasing", r.name, f"releasing {r.what}"), *unblocked_)
    port = world.port(r.name)
    if port is not None and isinstance(r, Reservation):
        contradicts = contradiction(port, r.pod_name, r.namespace, r.pod_type)
        if port.switch != r.switch:
            where, ours = elsewhere(world, port, r)
            contradicts = f"logical switch {where}, the IP is on {ours}"
        elif port.type:
            contradicts = f"type {port.type}"
        if contradicts or port.switch is None:
            message = f"port {port.name} is left alone: it has {contradicts}"
            return Plan(
                "deleted", releasing, (*steps, Barrier()), (*events, Event("Warning", "PortNotOurs", r.name, message))
            )
        steps.append(DeletePort(port.uuid, port.switch, seen(port)))
        events = (*events, Event("Normal", "PortDeleted", r.name, f"deleted port {port.name} of subnet {r.subnet}"))
    return Plan("deleted", releasing, (*steps, Barrier()), events)


def plan_delete_port(world: World, name: str, context: Context, shown: Born | None = None) -> Plan:
    """Delete an IP that was born with a port, and was `shown` like this: the port. Raises NotFound, Conflict where it
    is no workload's.
    """
    port = world.port(name)
    ip = None if port is None else born(world, port, shown, context.now, context.resource_version)
    if port is None or ip is None:
        raise NotFound.resource(name)
    if port.type:
        raise not_a_workload(port, f"; if nothing needs it any more: ovn-nbctl lsp-del {name}")
    message = f"deleted port {name} of subnet {ip.subnet}, which had {' '.join((ip.mac, *ip.addresses))}"
    event = Event("Normal", "PortDeleted", name, message)
    return Plan("deleted", None, (DeletePort(port.uuid, ip.switch, seen(port)),), (event,), born=ip)


def not_a_workload(port: Port, hint: str = "") -> Conflict:
    what = f"logical switch port {port.name} is of type {port.type}, not a workload's"
    return Conflict.over(port.name, "metadata.name", what + hint)


def plan_await(r: Resource) -> Plan:
    """Between the two: somebody has found that the first is done, and has ovn-northd answer before the second."""
    return Plan("deleted", r, (Barrier(),))


def plan_finish(world: World, r: Resource) -> Plan:
    """The second transaction. Its success is what removes the resource from the ledger. An owner that is gone is
    remembered while there is still something of it.
    """
    return Plan("unchanged") if world.coverage.of(r.name) else plan_drop(world, r)


def plan_drop(world: World, r: Resource) -> Plan:
    """Delete a record that nobody should have any more."""
    event = Event("Normal", "Released", r.name, f"released {r.what}")
    steps, events = unblocked(world, r)
    return Plan("released", None, (*steps, DropRecord(r)), (event, *events))
