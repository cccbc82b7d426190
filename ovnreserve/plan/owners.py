"""Owners come, are scaled, and go: facts that somebody tells us. What follows for IPs is plan/retain.py's.

One that is deleted stays, as `releasing`, for as long as there is a port or a retained IP of it: were it forgotten
before, the fact would be missing, and its IPs be kept. Users do not see it any more.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from ovnreserve.model.errors import PLURALS, AlreadyExists, NotFound
from ovnreserve.model.owner import STATEFUL_SET, Owner, WantedOwner
from ovnreserve.model.resource import State
from ovnreserve.model.steps import PutRecord, UpdateRecord
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.patch import check_version, merged, relabelled
from ovnreserve.plan.world import World


def plan_owner(world: World, wanted: WantedOwner, context: Context, *, create: bool = False) -> Plan:
    """Take note of an owner, or bring what is known of it up to date. A manifest without replicas scales nothing: it
    leaves that to others, such as an autoscaler. Raises AlreadyExists, Conflict.
    """
    present = world.owners.get(wanted.name)
    if present is None or present.state is State.RELEASING:
        return _come(wanted, present, context)
    if create:
        raise AlreadyExists.of(PLURALS[wanted.kind], wanted.title)
    return _change(
        present,
        context,
        wanted.resource_version if wanted.uid in ("", present.uid) else "",
        replicas=present.replicas if wanted.replicas is None else wanted.replicas,
        start=wanted.start,
        labels={**present.labels, **wanted.labels},
        annotations={**present.annotations, **wanted.annotations},
    )


def _come(wanted: WantedOwner, gone: Owner | None, context: Context) -> Plan:
    """Also in the place of one that is still remembered as gone."""
    owner = Owner(
        name=wanted.name,
        uid=str(uuid.UUID(int=context.random.getrandbits(128), version=4)) if gone is None else gone.uid,
        kind=wanted.kind,
        namespace=wanted.namespace,
        title=wanted.title,
        replicas=1 if wanted.replicas is None else wanted.replicas,
        start=wanted.start,
        state=State.INTENDED if gone is None else State.HELD,
        created=int(context.now),
        labels=wanted.labels,
        annotations=wanted.annotations,
        **context.stamp,
    )
    step = PutRecord(owner) if gone is None else UpdateRecord(owner)
    return Plan("created", owner, (step,), (Event("Normal", "Created", owner.name, _shown(owner)),))


class Scale(NamedTuple):
    """A merge patch of an owner; None: it says nothing of that. Of labels and annotations None removes one."""

    name: str
    replicas: int | None
    start: int | None
    labels: dict[str, str | None]
    annotations: dict[str, str | None]
    version: str = ""


def plan_scale(world: World, patch: Scale, context: Context) -> Plan:
    """Raises NotFound, Conflict."""
    present = world.owners.get(patch.name)
    if present is None or present.state is State.RELEASING:
        raise NotFound.resource(patch.name)
    return _change(
        present,
        context,
        patch.version,
        replicas=present.replicas if patch.replicas is None else patch.replicas,
        start=present.start if patch.start is None else patch.start,
        labels=merged(present.labels, patch.labels),
        annotations=merged(present.annotations, patch.annotations),
    )


def _change(
    present: Owner,
    context: Context,
    version: str,
    *,
    replicas: int,
    start: int,
    labels: dict[str, str],
    annotations: dict[str, str],
) -> Plan:
    check_version(present, version, present.title, PLURALS[present.kind])
    changed = present.with_(replicas=replicas, start=start, labels=labels, annotations=annotations)
    if changed == present:
        return Plan("unchanged", present)
    scaled = (replicas, start) != (present.replicas, present.start)
    changed = changed.with_(generation=present.generation + scaled, **context.stamp)
    events = []
    if scaled:
        events.append(Event("Normal", "Scaled", present.name, f"{_shown(changed)}; before: {present.scale}"))
    if (labels, annotations) != (present.labels, present.annotations):
        events.append(relabelled(present.name, (present.labels, labels), (present.annotations, annotations)))
    return Plan("configured", changed, (UpdateRecord(changed),), tuple(events))


def _shown(owner: Owner) -> str:
    return owner.what if owner.kind != STATEFUL_SET else f"{owner.what}: {owner.scale}"
