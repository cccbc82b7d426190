"""A reservation: an IP that is kept for a named workload, by its label for ever, else as long as its owner says.

Its record stands in `external_ids:ovnreserve/record` of a DNS row, as JSON, and rebuilds the ledger's row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from ovnreserve.model.addresses import format_v4, format_v6, parse_v4, parse_v6, scan_mac
from ovnreserve.model.names import is_label, is_port_name, is_subdomain
from ovnreserve.model.resource import KIND, KIND_RESERVATION, NAME, RECORD, SWITCH, UID, Dot, Resource, State

Blocked = Literal["absent", "true", "overridden"]
"""What a port's `enabled` was before it was set to false; or that somebody has enabled the port since."""


class Reservation(Resource, frozen=True, kw_only=True):
    """One kept IP. Addresses are integers or None, `switch` is a row's uuid.


    `reserved` is its label: it lives until it is deleted. One that is not is *retained*: it goes with its port, unless
    its owner keeps it (plan/retain.py).
    """

    switch: str
    subnet: str
    pod_name: str
    namespace: str
    pod_type: str
    v4: int | None
    v6: int | None
    mac: str
    reserved: bool = True
    node_name: str = ""
    container_id: str = ""
    attach_ips: tuple[str, ...] = ()
    attach_macs: tuple[str, ...] = ()
    attach_subnets: tuple[str, ...] = ()
    blocked: dict[str, Blocked] = msgspec.field(default_factory=dict)
    """The ports (uuids) that are disabled since they have what is reserved (plan/squatters.py)."""

    @property
    def home(self) -> str:
        return self.switch

    @property
    def what(self) -> str:
        return f"{self.port_addresses} on subnet {self.subnet}"

    def claims(self) -> Iterable[tuple[str, str, int | str]]:
        held = (("IPv4", self.v4), ("IPv6", self.v6), ("MAC", self.mac)) if self.live else ()
        return [(self.switch, kind, what) for kind, what in held if what is not None]

    @property
    def is_let_go(self) -> bool:
        """Is it on its way back to its port, or out, without anybody having deleted it? Only the ledger says so, until
        the transaction that does it has been seen in the database: before that nothing has become of it.
        """
        return self.state is State.RELEASING and self.deleted is None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses as text, IPv4 first."""
        four = () if self.v4 is None else (format_v4(self.v4),)
        return four if self.v6 is None else (*four, format_v6(self.v6))

    @property
    def port_addresses(self) -> str:
        """The element of `Logical_Switch_Port.addresses` that gives the port exactly this: `MAC v4 v6`."""
        return " ".join((self.mac, *self.addresses))


# ---- the record: `external_ids:ovnreserve/record` of its DNS row ---------------------------------------------------

_encode = msgspec.json.Encoder().encode

_Seconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800)]  # up to the year 9999, as timestamps are written
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]  # what SQLite can store


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record's JSON, format 1. Short keys: it is read by us, and by people through describe."""

    subnet: str
    pod: str
    ns: str
    mac: str
    created: _Seconds
    rv: _Number
    type: str = ""
    v4: str | None = None
    v6: str | None = None
    gen: _Number = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node: str = ""
    container: str = ""
    attach: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None = None
    deleted: _Seconds | None = None
    by: tuple[str, _Number] | None = None
    failed: str | None = None
    retained: bool = False
    port: str | None = None  # the port's name, where it is not podName.namespace[.provider]
    blocked: dict[str, Blocked] = {}
    format: int = 1


_decode_record = msgspec.json.Decoder(_Record).decode


def external_ids_of(r: Reservation) -> dict[str, str]:
    """The whole external_ids of a reservation's DNS row."""
    attach = (r.attach_ips, r.attach_macs, r.attach_subnets)
    record = _Record(
        r.subnet, r.pod_name, r.namespace, r.mac, r.created, r.resource_version, r.pod_type,
        None if r.v4 is None else format_v4(r.v4), None if r.v6 is None else format_v6(r.v6), r.generation,
        r.labels, r.annotations, r.node_name, r.container_id, attach if any(attach) else None, r.deleted,
        r.written if r.written.number else None, r.message if r.state is State.FAILED else None,
        not r.reserved, None if is_named_after(r.name, r.pod_name, r.namespace) else r.name, r.blocked,
    )  # fmt: skip
    return {
        KIND: KIND_RESERVATION,
        NAME: r.name,
        UID: r.uid,
        SWITCH: r.switch,
        RECORD: _encode(record).decode(),
    }


def dns_records_of(r: Reservation) -> dict[str, str]:
    """The `records` column of its DNS row: what an operator sees who attaches it to a switch."""
    return {f"{r.pod_name}.{r.namespace}".rstrip("."): " ".join(r.addresses)}


def _state_of(record: _Record) -> State:
    if record.failed is not None:
        return State.FAILED
    return State.HELD if record.deleted is None else State.RELEASING


def reservation_of(ids: dict[str, str]) -> Reservation | None:
    """The reservation that a DNS row's external_ids rebuild, None if they were garbled: what has not the name of a
    workload, a MAC and an address was never written by us.
    """
    try:
        record = _decode_record(ids[RECORD])
        v4 = None if record.v4 is None else parse_v4(record.v4)
        v6 = None if record.v6 is None else parse_v6(record.v6)
        attach = record.attach or ((), (), ())
        if not _is_ours(ids, record):
            return None
        return Reservation(
            name=ids[NAME],
            uid=ids[UID],
            switch=ids[SWITCH],
            subnet=record.subnet,
            pod_name=record.pod,
            namespace=record.ns,
            pod_type=record.type,
            v4=v4,
            v6=v6,
            mac=record.mac,
            state=_state_of(record),
            created=record.created,
            resource_version=record.rv,
            generation=record.gen,
            labels=record.labels,
            annotations=record.annotations,
            node_name=record.node,
            container_id=record.container,
            attach_ips=attach[0],
            attach_macs=attach[1],
            attach_subnets=attach[2],
            deleted=record.deleted,
            written=Dot(*record.by) if record.by is not None else Dot(),
            message=record.failed or "",
            reserved=not record.retained,
            blocked=record.blocked,
        )
    except (KeyError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _is_ours(ids: dict[str, str], record: _Record) -> bool:
    """Are the names such as are let in, and the rest on one line?"""
    name = ids[NAME]
    texts = [ids[UID], ids[SWITCH], record.subnet, record.type, record.node, record.container]
    texts += [text for attached in record.attach or () for text in attached]
    texts += [record.by[0]] if record.by else []
    if record.port is None:
        is_named = is_subdomain(name) and is_named_after(name, record.pod, record.ns)
    else:
        is_named = is_port_name(name) and record.port == name and bool(record.pod)
        texts += [record.pod, record.ns]
    return (
        is_named
        and scan_mac(record.mac) == record.mac
        and not (record.v4 is None and record.v6 is None)
        and bool(ids[UID] and ids[SWITCH] and record.subnet)
        and all(map(str.isprintable, texts))
    )


def is_named_after(name: str, pod_name: str, namespace: str) -> bool:
    """Is it podName.namespace, or that with a provider behind it?"""
    return is_subdomain(pod_name) and is_label(namespace) and f"{name}.".startswith(f"{pod_name}.{namespace}.")
