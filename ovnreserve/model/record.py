"""Records: the DNS row of a resource, whatever its kind (model/reservation.py, owner.py and pool.py have the JSON)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ovnreserve.model.owner import Owner, owner_ids, owner_of
from ovnreserve.model.pool import Pool, pool_ids, pool_of
from ovnreserve.model.reservation import Reservation, dns_records_of, external_ids_of, reservation_of
from ovnreserve.model.resource import KIND, KIND_OWNER, KIND_POOL, KIND_RESERVATION, Resource


def record_ids(resource: Resource) -> dict[str, str]:
    """The whole external_ids of its row."""
    match resource:
        case Reservation():
            return external_ids_of(resource)
        case Owner():
            return owner_ids(resource)
        case Pool():
            return pool_ids(resource)
    raise TypeError(type(resource).__name__)


def record_names(resource: Resource) -> dict[str, str]:
    """The `records` column of its row, for an operator who attaches it to a switch."""
    return dns_records_of(resource) if isinstance(resource, Reservation) else {}


def resource_of(ids: dict[str, str]) -> Resource | None:
    """The resource that a row's external_ids rebuild, None if they were garbled or are none of ours."""
    read = _READERS.get(ids.get(KIND, ""))
    return None if read is None else read(ids)


_READERS: Final[dict[str, Callable[[dict[str, str]], Resource | None]]] = {
    KIND_RESERVATION: reservation_of,
    KIND_OWNER: owner_of,
    KIND_POOL: pool_of,
}
