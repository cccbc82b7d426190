"""What a user sees of a reservation beyond its spec: derived from the world, never stored.

`observe` is what the engine does after every change that concerns the reservation, so it only looks things up;
`render` turns that into conditions when somebody reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ovnreserve.model.documents import Condition, timestamp
from ovnreserve.model.ip import Status
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.plan.bind import Verdict, judge
from ovnreserve.plan.holders import CONFLICTED, RESOLVED, Rival, conflicts
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.world import World

AWAITED = "awaited"
UNKNOWN = "unknown"
NOT_ENFORCEABLE = "not enforceable"

_CANNOT_USE = frozenset(
    {"WrongSubnet", "IdentityMismatch", "NotAWorkload", "AddressMismatch", "RunningElsewhere", "HeldByAnother"}
)
"""Why a port that is there cannot use the IP."""


class Observed(NamedTuple):
    """`enforced` is one of the words above; `since` when Reserved, Enforced, Bound and Conflicted last changed; `lost`
    the reason and message of why what is held keeps its addresses from nobody, if so.
    """

    state: State
    bound: Verdict
    conflicts: tuple[Rival, ...]
    enforced: str
    withheld: bool
    since: tuple[float, float, float, float]
    lost: tuple[str, str] | None = None


def observe(
    world: World,
    r: Reservation,
    before: Observed | None,
    now: float,
    *,
    awaited: bool,
    told: tuple[Rival, ...] = (),
) -> Observed:
    """Look at the reservation's port and at who else has its addresses; O(1). When it was not looked at before, `told`
    are those who were there last.
    """
    known = before.conflicts if before is not None else told
    bound = judge(world, r)
    segment = world.segments.get(r.switch)
    found = () if world.tables else known  # until the database was seen once
    enforced = NOT_ENFORCEABLE
    withheld = False
    if segment is not None and r.state is not State.RELEASING:
        found = _dated(conflicts(world, r), known, now)
        if segment.settled_for is None:  # what else holds addresses was not looked at yet
            found += tuple(_without(known, found))
        withheld = r.live and r.v4 in segment.withheld
        has_ipam = segment.switch.has_ipam and segment.v4 is not None and r.v4 is not None and r.v4 in segment.v4.cidr
        if r.live and has_ipam:
            enforced = AWAITED if awaited and not withheld else UNKNOWN
    elif r.state is State.RELEASING:
        enforced = UNKNOWN
    lost = _lost(world, r)
    if before is None:
        since = (now, now, now, min((rival.since for rival in found), default=now))
    else:
        since = (
            before.since[0] if (before.state, before.lost) == (r.state, lost) else now,
            before.since[1] if (before.enforced, before.withheld) == (enforced, withheld) else now,
            before.since[2] if before.bound.status == bound.status else now,
            before.since[3] if bool(before.conflicts) == bool(found) else now,
        )
    return Observed(r.state, bound, found, enforced, withheld, since, lost)


def _dated(found: tuple[Rival, ...], before: tuple[Rival, ...], now: float) -> tuple[Rival, ...]:
    """Who was there before is there since then."""
    since = {str(rival): rival.since for rival in before} if found else {}
    return tuple(rival._replace(since=since.get(str(rival), now)) for rival in found)


def _lost(world: World, r: Reservation) -> tuple[str, str] | None:
    """Is what is held still of a switch? Until the database was seen once, it is."""
    if r.state is not State.HELD or not world.tables:
        return None
    segment = world.segments.get(r.switch)
    if segment is None:
        return "SubnetMissing", f"logical switch {r.subnet} ({r.switch}) does not exist; kept until it is back"
    for family, address, shown in zip((4, 6), (r.v4, r.v6), (r.addresses[0], r.addresses[-1]), strict=True):
        if address is not None:
            why = _outside(segment, family, address)
            if why:
                return "OutsideSubnet", f"{shown} {why}"
    return None


def _outside(segment: Segment, family: int, address: int) -> str:
    """Why the address is none that a port of the subnet can have, or ""."""
    space = segment.space(family)
    name = segment.switch.name
    if space is None:
        is_known = segment.settled_for is not None  # its networks have been looked up
        return f"is outside of every network: subnet {name} has no IPv{family} CIDR now" if is_known else ""
    if address not in space.cidr:
        return f"is outside of {space.cidr}, which subnet {name} is now"
    first, last = space.cidr.hosts
    return "" if first <= address <= last else f"is no host of {space.cidr}, which subnet {name} is now"


def remarks(
    name: str, before: Observed | None, now: Observed, told: tuple[Rival, ...] = ()
) -> Iterator[Event]:
    """What is worth the journal of the change from one observation to the next: what others did to the reservation."""
    # What is being made may be about to write to its port: that port is judged when it is done.
    known = before.bound if before is not None and before.state is not State.INTENDED else None
    bound = now.bound
    is_new = known is None or (known.reason, known.message) != (bound.reason, bound.message)
    if is_new and bound.reason in _CANNOT_USE and now.state is not State.INTENDED:
        yield Event("Warning", bound.reason, name, bound.message)
    others = before.conflicts if before is not None else told
    yield from (Event("Warning", CONFLICTED, name, str(rival)) for rival in _without(now.conflicts, others))
    lost = before.lost if before is not None else None
    if now.lost is not None and now.lost != lost:
        yield Event("Warning", now.lost[0], name, now.lost[1])
    elif lost is not None and now.lost is None and now.state is State.HELD:
        yield Event("Normal", "SubnetBack", name, f"not so any more: {lost[1]}")
    for rival in _without(others, now.conflicts) if now.state is not State.RELEASING else ():
        yield Event("Normal", RESOLVED, name, rival.gone)


def _without(rivals: tuple[Rival, ...], others: tuple[Rival, ...]) -> list[Rival]:
    known = {str(rival) for rival in others} if rivals else set()
    return [rival for rival in rivals if str(rival) not in known]


def phase(r: Reservation, observed: Observed) -> str:
    match r.state:
        case State.INTENDED:
            return "Pending"
        case State.RELEASING:
            return "Releasing"
        case State.FAILED:
            return "Failed"
    if observed.lost is not None:
        return "Pending"
    return "Bound" if observed.bound.status else "Reserved"


def render(r: Reservation, observed: Observed) -> Status:
    """Phase and conditions, in the order Reserved, Enforced, Bound, Conflicted."""
    times = [timestamp(since) for since in observed.since]
    return Status(
        phase(r, observed),
        (
            _reserved(r, observed, times[0]),
            _enforced(observed, times[1]),
            Condition("Bound", str(observed.bound.status), observed.bound.reason, observed.bound.message, times[2]),
            _conflicted(r, observed, times[3]),
        ),
    )


def _reserved(r: Reservation, observed: Observed, since: str) -> Condition:
    match r.state:
        case State.INTENDED:
            return Condition("Reserved", "False", "Pending", "not yet seen in the northbound database", since)
        case State.FAILED:
            return Condition("Reserved", "False", "Failed", r.message, since)
        case State.RELEASING:
            return Condition("Reserved", "True", "Releasing", "excluded until ovn-northd has seen the release", since)
    if observed.lost is not None:
        return Condition("Reserved", "False", *observed.lost, since)
    return Condition("Reserved", "True", "Reserved", f"{', '.join(r.addresses)} is kept for {r.name}", since)


def _enforced(observed: Observed, since: str) -> Condition:
    if observed.state is State.FAILED:
        return Condition("Enforced", "False", "Failed", "it keeps its addresses from nobody", since)
    if observed.withheld:
        message = "not excluded: that would renumber the running port that has the address"
        return Condition("Enforced", "False", "Withheld", message, since)
    if observed.enforced == AWAITED:
        return Condition("Enforced", "True", "Seen", "ovn-northd has seen the exclusion", since)
    if observed.enforced == UNKNOWN:
        return Condition("Enforced", "Unknown", "NotAwaited", "nobody has waited for ovn-northd (--wait=sb)", since)
    message = "ovn-northd excludes IPv4 addresses only, and only within other_config:subnet"
    return Condition("Enforced", "False", "NotEnforceable", message, since)


_BLOCKED: Final = {
    None: "",
    "absent": " (disabled meanwhile)",
    "true": " (disabled meanwhile)",
    "overridden": " (enabled by somebody else)",
}


def _conflicted(r: Reservation, observed: Observed, since: str) -> Condition:
    if observed.conflicts:
        message = "; ".join(
            f"{rival} since {timestamp(rival.since)}{_BLOCKED[r.blocked.get(rival.port)]}"
            for rival in observed.conflicts
        )
        return Condition("Conflicted", "True", "AddressTaken", message, since)
    return Condition("Conflicted", "False", "NoConflict", "nobody else has the addresses", since)
