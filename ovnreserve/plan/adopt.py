"""Adopt: an IP that was born with a port is kept from now on, since its owner or its label says so.

A port that is running keeps its addresses and its MAC: it is pinned in the transaction that excludes them, or
ovn-northd would renumber it.
"""

from __future__ import annotations

from msgspec.structs import replace

from ovnreserve.model.errors import FieldError, Invalid, Refused
from ovnreserve.model.ip import LABEL_RESERVED, OUR_LABELS
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.topology import Port
from ovnreserve.plan.born import ANY, Born, addresses_of, born
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.patch import Patch, check_version, merged
from ovnreserve.plan.release import not_a_workload
from ovnreserve.plan.reserve import plan_adopt, plan_create
from ovnreserve.plan.retain import identity_of, plan_let_go, retainer, rule
from ovnreserve.plan.update import plan_patch
from ovnreserve.plan.world import World


def wants_retaining(world: World, name: str) -> bool:
    """Is there something for `plan_retain` to do about the IP of that name? O(1)."""
    r = world.reservations.get(name)
    if r is not None:
        return _no_longer(world, r) is not None
    port = world.port(name)
    return port is not None and _may_be_retained(port) and retainer(world, world.identity(port)) is not None


def _no_longer(world: World, r: Reservation) -> str | None:
    """Why it is retained no more, if so. One that has failed holds nothing: it would only hide what its port has."""
    if r.reserved or r.state not in (State.HELD, State.FAILED):
        return None
    keeper, why = rule(world, identity_of(r))
    if not keeper:
        return why
    port = world.port(r.name)
    if r.state is State.FAILED and port is not None and _may_be_retained(port) and born(world, port) is not None:
        return "it had failed, and its port has addresses"
    return None


def _may_be_retained(port: Port) -> bool:
    """Is it a workload's, with an address that it has already? Nothing is chosen for one that has none."""
    return port.switch is not None and not port.type and addresses_of(port, ANY) is not None


def plan_retain(world: World, name: str, context: Context) -> Plan:
    """Make the IP of a port outlive it, or let go of what nobody retains any more. Raises Defer."""
    r = world.reservations.get(name)
    if r is not None:
        why = _no_longer(world, r)
        return Plan("unchanged") if why is None else plan_let_go(world, r, context, why)
    port = world.port(name)
    if port is None or not _may_be_retained(port):
        return Plan("unchanged")
    who = world.identity(port)
    found = retainer(world, who)
    if found is None:
        return Plan("unchanged")
    pod_type, keeper = found
    try:
        plan = plan_adopt(world, port, who._replace(pod_type=pod_type), context, reserved=False)
    except Refused as refused:
        return Plan("unchanged", None, (), (Event("Warning", "NotRetained", name, refused.message),))
    return plan._replace(events=(Event("Normal", "Retained", name, f"kept by {keeper}"), *plan.events))


def plan_label(world: World, patch: Patch, context: Context, shown: Born | None = None) -> Plan:
    """A patch of an IP, whether it is kept or lives with its port and was `shown` like this. Raises NotFound, Conflict,
    Invalid or Defer.
    """
    port = world.port(patch.name)
    if patch.name in world.reservations or port is None or born(world, port) is None:
        return plan_patch(world, patch, context)
    if shown is not None:
        check_version(shown, patch.version)
    if not _may_be_retained(port):
        raise not_a_workload(port)
    labels = merged({}, {key: value for key, value in patch.labels.items() if key not in OUR_LABELS})
    annotations = merged({}, patch.annotations)
    if patch.wanted is not None:
        wanted = replace(patch.wanted, labels=labels, annotations=annotations, reserved=patch.reserved)
        return plan_create(world, wanted, context)
    if patch.reserved:
        return plan_adopt(world, port, world.identity(port), context, labels=labels, annotations=annotations)
    if labels or annotations:
        why = f"the IP lives with its port, and nothing of it is stored; reserve it with {LABEL_RESERVED}=true"
        raise Invalid.because(patch.name, [FieldError("FieldValueForbidden", "metadata", f"Forbidden: {why}")])
    return Plan("unchanged")
