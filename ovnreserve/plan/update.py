"""Update: a document or a patch for an IP that exists. Its spec is immutable, its labels and annotations are not."""

from __future__ import annotations

from typing import NamedTuple

from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.errors import Conflict, FieldError, Invalid, NotFound
from ovnreserve.model.ip import OUR_LABELS, Wanted
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.steps import UpdateRecord
from ovnreserve.plan.outcome import Context, Plan


def plan_update(r: Reservation, wanted: Wanted, context: Context) -> Plan:
    """A document for an IP that exists: the same is unchanged, labels may change, spec may not. Raises Invalid,
    Conflict.
    """
    _check_version(r, wanted.resource_version)
    _check_spec(r, wanted)
    labels = {key: value for key, value in wanted.labels.items() if key not in OUR_LABELS}
    return _relabel(r, {**r.labels, **labels}, {**r.annotations, **wanted.annotations}, context)


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


class Patch(NamedTuple):
    """A merge patch of labels and annotations; None removes one. `version` is the resourceVersion it is for, "" for
    any. `wanted` is the document that the patch makes, where it says something of the spec.
    """

    name: str
    labels: dict[str, str | None]
    annotations: dict[str, str | None]
    version: str = ""
    wanted: Wanted | None = None


def plan_patch(r: Reservation | None, patch: Patch, context: Context) -> Plan:
    """Raises NotFound, Conflict if the version is another, Invalid if the spec is."""
    if r is None:
        raise NotFound.of("ips", patch.name)
    _check_version(r, patch.version)
    if patch.wanted is not None:
        _check_spec(r, patch.wanted)
    ours = {key: value for key, value in patch.labels.items() if key not in OUR_LABELS}
    return _relabel(r, _merged(r.labels, ours), _merged(r.annotations, patch.annotations), context)


def _merged(old: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**old, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def _relabel(r: Reservation, labels: dict[str, str], annotations: dict[str, str], context: Context) -> Plan:
    if labels == r.labels and annotations == r.annotations:
        return Plan("unchanged", r)
    changed = r.with_(labels=labels, annotations=annotations, **context.stamp)
    return Plan("configured", changed, (UpdateRecord(changed),) if r.live else ())


def _check_version(r: Reservation, version: str) -> None:
    if version and version != str(r.resource_version):
        raise Conflict.over(
            r.name, "metadata.resourceVersion",
            "the object has been modified; please apply your changes to the latest version and try again",
        )  # fmt: skip


def _shown(field: str, value: object) -> str:
    if isinstance(value, int):
        return format_v4(value) if field == "v4IpAddress" else format_v6(value)
    return str(value) if isinstance(value, str) else ",".join(value) if isinstance(value, tuple) else str(value)
