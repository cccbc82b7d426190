"""Update: a document or a patch for an IP that exists. Its spec is immutable, its labels and annotations are not."""

from __future__ import annotations

from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.errors import Conflict, FieldError, Invalid, NotFound
from ovnreserve.model.ip import LABEL_RESERVED, OUR_LABELS, Wanted
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import UpdateRecord
from ovnreserve.plan.outcome import Context, Plan
from ovnreserve.plan.patch import Patch, check_version, merged, relabelled
from ovnreserve.plan.retain import identity_of, plan_let_go, retainer
from ovnreserve.plan.world import World


def plan_update(world: World, r: Reservation, wanted: Wanted, context: Context) -> Plan:
    """A document for an IP that exists: the same is unchanged, labels may change, spec may not. One that its label does
    not reserve is reserved by it, unless it says otherwise. Raises Invalid, Conflict.
    """
    check_version(r, wanted.resource_version)
    _check_spec(r, wanted)
    labels = {key: value for key, value in wanted.labels.items() if key not in OUR_LABELS}
    reserved = wanted.reserved is not False
    return _relabel(world, r, {**r.labels, **labels}, {**r.annotations, **wanted.annotations}, reserved, context)


def _check_spec(r: Reservation, wanted: Wanted) -> None:
    """Raises Invalid naming every field of the spec that is given and differs."""
    spec = (
        ("subnet", r.subnet, wanted.subnet),
        ("podName", r.pod_name, wanted.pod_name),
        ("namespace", r.namespace, wanted.namespace),
        ("podType", r.pod_type, wanted.pod_type),
        ("v4IpAddress", r.v4, wanted.v4),
        ("v6IpAddress", r.v6, wanted.v6),
        ("macAddress", r.mac, wanted.mac),
        ("nodeName", r.node_name, wanted.node_name),
        ("containerID", r.container_id, wanted.container_id),
        ("attachIps", r.attach_ips, wanted.attach_ips),
        ("attachMacs", r.attach_macs, wanted.attach_macs),
        ("attachSubnets", r.attach_subnets, wanted.attach_subnets),
    )
    always = {"podType"}
    errors = [
        FieldError.invalid(f"spec.{field}", _shown(field, new), "field is immutable")
        for field, old, new in spec
        if new != old and (field in always or (new is not None and new not in ("", ())))
    ]
    if errors:
        raise Invalid.because(r.name, errors)


def plan_patch(world: World, patch: Patch, context: Context) -> Plan:
    """Raises NotFound, Conflict if the version is another or it is to be kept while it is being deleted, Invalid if the
    spec is another.
    """
    r = world.reservations.get(patch.name)
    if r is None:
        raise NotFound.of("ips", patch.name)
    check_version(r, patch.version)
    if patch.wanted is not None:
        _check_spec(r, patch.wanted)
    if r.state is State.RELEASING and (patch.reserved or patch.wanted is not None):
        raise being_deleted(r.name)
    ours = {key: value for key, value in patch.labels.items() if key not in OUR_LABELS}
    reserved = r.reserved if patch.reserved is None else patch.reserved
    reserved |= patch.wanted is not None and patch.reserved is None
    return _relabel(world, r, merged(r.labels, ours), merged(r.annotations, patch.annotations), reserved, context)


def being_deleted(name: str) -> Conflict:
    """Nobody is told that something is kept which is on its way out."""
    return Conflict.over(name, "metadata.name", "the IP is being deleted; apply again when it is gone")


def _relabel(
    world: World, r: Reservation, labels: dict[str, str], annotations: dict[str, str], reserved: bool, context: Context
) -> Plan:
    if r.reserved and not reserved and r.state is not State.RELEASING and retainer(world, identity_of(r)) is None:
        return plan_let_go(world, r, context, "its label says that it is not reserved any more")
    changed = r.with_(labels=labels, annotations=annotations, reserved=reserved)
    if changed == r:
        return Plan("unchanged", r)
    changed = changed.with_(**context.stamp)
    event = relabelled(r.name, (_labels(r), _labels(changed)), (r.annotations, annotations))
    return Plan("configured", changed, (UpdateRecord(changed),), (event,))


def _labels(r: Reservation) -> dict[str, str]:
    return {**r.labels, LABEL_RESERVED: "true" if r.reserved else "false"}


def _shown(field: str, value: object) -> str:
    if isinstance(value, int):
        return format_v4(value) if field == "v4IpAddress" else format_v6(value)
    return str(value) if isinstance(value, str) else ",".join(value) if isinstance(value, tuple) else str(value)
