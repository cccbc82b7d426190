"""Allot: from which pools an IP has its addresses.

    the annotation names a pool                  from that one; it must be for the IP's namespace, or for none
    else the namespace is bound to pools         from these, in the order of their names
    else                                         from outside of all pools

A family of which the pools have no addresses is chosen outside. An address that is given may lie in a pool only if the
IP could have it from there. A running port keeps the address it has, whosever pool that is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.errors import Conflict, FieldError, Invalid, NoAvailableAddress
from ovnreserve.model.ip import Wanted
from ovnreserve.model.pool import IP_POOL, Pool, pool_name
from ovnreserve.model.resource import State
from ovnreserve.plan.pooled import gives
from ovnreserve.plan.segment import Segment

_FIELD: Final = f"metadata.annotations[{IP_POOL}]"


def pools_for(segment: Segment, wanted: Wanted) -> Sequence[Pool]:
    """The pools that the IP's addresses are chosen from, the first first; none where it is outside. Raises Invalid if
    the annotation names none of the subnet, Conflict if it names one that is for others.
    """
    title = wanted.annotations.get(IP_POOL, "")
    if not title:
        return [pool for pool in segment.pools.bound_to(wanted.namespace) if gives(pool)]
    pool = segment.pools.get(pool_name(title))
    if pool is None or not gives(pool):
        state = "does not exist" if pool is None else f"is {pool.state.value}"
        error = FieldError.invalid(_FIELD, title, f"IPPool {title} of subnet {wanted.subnet} {state}")
        raise Invalid.because(wanted.name, [error])
    if pool.namespaces and wanted.namespace not in pool.namespaces:
        raise Conflict.over(wanted.name, _FIELD, f"IPPool {title} is for {pool.whom}, not {wanted.namespace}")
    return [pool]


def choose_from(segment: Segment, family: int, pools: Sequence[Pool], wanted: Wanted, title: str) -> int | None:
    """An address of the first of these pools that has one; None if none of them is of the family (`title`). One in
    quarantine only if nothing else is left in any. Raises NoAvailableAddress, and Conflict if there is no such pool any
    more but one that has failed: what is for the namespace is not to be had outside.
    """
    space = segment.space(family)
    if space is None:
        return None
    of_family = [pool for pool in pools if pool.ranges(family)]
    if not of_family:
        _check_failed(segment, family, pools, wanted)
        return None
    resting = None
    for pool in of_family:
        address = space.choose(pool=pool.ranges(family))
        if address is not None and not space.is_resting(address):
            return address
        resting = address if resting is None else resting
    if resting is None:
        raise NoAvailableAddress.on(wanted.name, wanted.subnet, title, [pool.title for pool in of_family])
    return resting


def _check_failed(segment: Segment, family: int, pools: Sequence[Pool], wanted: Wanted) -> None:
    bound = segment.pools.bound_to(wanted.namespace) if not pools else ()
    failed = next((pool for pool in bound if pool.state is State.FAILED and pool.ranges(family)), None)
    if failed is not None:
        which = f"IPPool {failed.title}, which is for {failed.whom}"
        raise Conflict.over(wanted.name, "spec.namespace", f"{which}, has failed ({failed.message}); delete it")


def check_given(segment: Segment, wanted: Wanted, warnings: list[str]) -> None:
    """Raises Conflict if a given address is of a pool that is for others."""
    named = wanted.annotations.get(IP_POOL, "")
    for family, field, address in ((4, "v4IpAddress", wanted.v4), (6, "v6IpAddress", wanted.v6)):
        if address is None:
            continue
        pool = segment.pools.at(family, address)
        shown = format_v4(address) if family == 4 else format_v6(address)
        if pool is not None and not may_have(pool, wanted):
            raise Conflict.over(wanted.name, f"spec.{field}", f"{shown} is {kept_for(pool)}")
        if named and (pool is None or pool.title != named):
            warnings.append(f"{shown} is given, and not of IPPool {named}, which annotation {IP_POOL} names")


def kept_for(pool: Pool) -> str:
    """Why somebody else may not have an address of that pool; reads behind "ADDRESS is "."""
    hint = "" if pool.namespaces else f" but whom annotation {IP_POOL} gives it"
    return f"of IPPool {pool.title}, which is for {pool.whom}{hint}"


def may_have(pool: Pool, wanted: Wanted) -> bool:
    """Could the IP have an address of that pool?"""
    if pool.namespaces:
        return wanted.namespace in pool.namespaces
    return wanted.annotations.get(IP_POOL) == pool.title


def remark_adopted(segment: Segment, wanted: Wanted, family: int, address: int, warnings: list[str]) -> None:
    """A running port has an address of a pool that is for others, or not of the one it is to be from: that stays so,
    and is said.
    """
    pool = segment.pools.at(family, address)
    named = wanted.annotations.get(IP_POOL, "")
    shown = format_v4(address) if family == 4 else format_v6(address)
    if pool is not None and not may_have(pool, wanted):
        warnings.append(f"{shown}, which port {wanted.name} has, is of IPPool {pool.title}, which is for {pool.whom}")
    elif named and (pool is None or pool.title != named):
        warnings.append(f"{shown}, which port {wanted.name} has, is not of IPPool {named}")
