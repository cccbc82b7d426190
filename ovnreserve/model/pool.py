"""Pools: addresses of a subnet that are kept for the IPs of some namespaces, or for nobody (kube-ovn's IPPool).

A pool is sets of runs, one for each family, so an IPv6 pool of 2**64 addresses costs what one of two does. Which of
its addresses somebody has is not written down: the world knows (plan/pools.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from ovnreserve.model.addresses import format_v4, format_v6, parse_cidr, parse_either
from ovnreserve.model.documents import TOP, Condition, head, metadata_of, unknown
from ovnreserve.model.errors import FieldError, Invalid
from ovnreserve.model.names import LABEL_RULE, is_label, is_subdomain
from ovnreserve.model.resource import KIND, KIND_POOL, NAME, RECORD, SWITCH, UID, Dot, Resource, State
from ovnreserve.model.runs import Runs

API_VERSION: Final = "kubeovn.io/v1"
IP_POOL: Final = "ovn.kubernetes.io/ip_pool"
"""The annotation that names the pool from which an IP is to be."""
MOST_IPS: Final = 4096
MOST_NAMESPACES: Final = 1024

Ranges = tuple[tuple[int, int], ...]
"""Sorted, disjoint, not adjacent; both ends included."""


def pool_name(title: str) -> str:
    """By which it is known among the resources."""
    return f"ippool/{title}"


class Pool(Resource, frozen=True, kw_only=True):
    """An IPPool. `ips` is what was asked for, as it was written; `v4` and `v6` are what that means."""

    title: str
    switch: str
    subnet: str
    namespaces: tuple[str, ...]
    ips: tuple[str, ...]
    v4: Ranges
    v6: Ranges

    @property
    def home(self) -> str:
        return self.switch

    @property
    def what(self) -> str:
        return f"IPPool {self.title} of subnet {self.subnet}: {', '.join(self.ips)} for {self.whom}"

    @property
    def whom(self) -> str:
        """Whom it is for, in words."""
        if not self.namespaces:
            return "nobody"
        return f"namespace{'s' * (len(self.namespaces) > 1)} {', '.join(self.namespaces)}"

    def ranges(self, family: int) -> Ranges:
        return self.v4 if family == 4 else self.v6

    def document(self, counts: tuple[int, int, int, int], ready: Condition) -> dict[str, Any]:
        """As it goes out; `counts` are V4USING, V4AVAILABLE, V6USING, V6AVAILABLE, exact integers of any size."""
        return {
            "apiVersion": API_VERSION,
            "kind": "IPPool",
            "metadata": metadata_of(self, self.title),
            "spec": {"ips": list(self.ips), "namespaces": list(self.namespaces), "subnet": self.subnet},
            "status": {
                "conditions": [msgspec.to_builtins(ready)],
                "v4UsingIPs": counts[0],
                "v4AvailableIPs": counts[1],
                "v6UsingIPs": counts[2],
                "v6AvailableIPs": counts[3],
            },
        }


class WantedPool(msgspec.Struct, frozen=True, kw_only=True):
    """A valid document: what somebody wants."""

    title: str
    subnet: str
    namespaces: tuple[str, ...]
    ips: tuple[str, ...]
    v4: Ranges
    v6: Ranges
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resource_version: str = ""

    @property
    def name(self) -> str:
        return pool_name(self.title)


def read_pool(document: dict[str, Any]) -> WantedPool:
    """The valid form of an IPPool's document. Raises Invalid naming every bad field."""
    errors = unknown(document, TOP)
    given = head(document.get("metadata"), errors)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        errors.append(
            FieldError.required("spec") if spec is None else FieldError.invalid("spec", spec, "must be an object")
        )
        spec = {}
    errors += unknown(spec, frozenset({"subnet", "namespaces", "ips"}), "spec.")
    subnet = spec.get("subnet")
    if subnet in (None, ""):
        errors.append(FieldError.required("spec.subnet"))
    elif not isinstance(subnet, str) or not subnet.isprintable():
        errors.append(FieldError.invalid("spec.subnet", subnet, "must be the name of a subnet"))
    namespaces = _texts(spec.get("namespaces"), "spec.namespaces", MOST_NAMESPACES, errors)
    errors += [FieldError.invalid("spec.namespaces", n, LABEL_RULE) for n in namespaces if not is_label(n)]
    ips = _texts(spec.get("ips"), "spec.ips", MOST_IPS, errors)
    if not ips and not any(error.field == "spec.ips" for error in errors):
        errors.append(FieldError.required("spec.ips"))
    v4, v6 = Runs(), Runs()
    for index, text in enumerate(ips):
        try:
            family, first, last = read_range(text)
        except ValueError as why:
            errors.append(FieldError.invalid(f"spec.ips[{index}]", text, str(why)))
        else:
            (v4 if family == 4 else v6).add_range(first, last)
    if errors:
        raise Invalid.because(given.name, errors, "IPPool")
    return WantedPool(
        title=given.name,
        subnet=str(subnet),
        namespaces=tuple(dict.fromkeys(namespaces)),
        ips=tuple(ips),
        v4=tuple(v4),
        v6=tuple(v6),
        labels=given.labels,
        annotations=given.annotations,
        resource_version=given.version,
    )


def _texts(value: Any, field: str, most: int, errors: list[FieldError]) -> list[str]:
    if value in (None, ""):
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        errors.append(FieldError.invalid(field, value, "must be a list of strings"))
        return []
    if len(value) > most:
        errors.append(FieldError("FieldValueTooMany", field, f"Too many: at most {most} items"))
        return []
    return value


def read_range(text: str) -> tuple[int, int, int]:
    """(family, first, last) of `a`, `a..b` or a CIDR. ValueError says what is wrong."""
    if "/" in text:
        cidr = parse_cidr(text)
        if cidr is None:
            raise ValueError("must be an address, a CIDR or ADDRESS..ADDRESS")
        return (4 if cidr.bits == 32 else 6), cidr.first, cidr.last
    begin, dots, end = text.partition("..")
    ends = [parse_either(word.strip()) for word in ((begin, end) if dots else (begin, begin))]
    for family, index in ((4, 0), (6, 1)):
        first, last = ends[0][index], ends[1][index]
        if first is not None and last is not None:
            if first > last:
                raise ValueError("must not end before it begins")
            return family, first, last
    raise ValueError("must be an address, a CIDR or ADDRESS..ADDRESS")


def ranges_of(texts: Iterable[str]) -> tuple[Ranges, Ranges]:
    """The runs that they name, of IPv4 and of IPv6. Raises ValueError."""
    runs = {4: Runs(), 6: Runs()}
    for text in texts:
        family, first, last = read_range(text)
        runs[family].add_range(first, last)
    return tuple(runs[4]), tuple(runs[6])


def without(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in the first only."""
    runs = Runs(ranges)
    for first, last in others:
        runs.remove_range(first, last)
    return tuple(runs)


def format_ranges(family: int, ranges: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """`a` or `a..b` for each run."""
    shown = format_v4 if family == 4 else format_v6
    return tuple(shown(first) if first == last else f"{shown(first)}..{shown(last)}" for first, last in ranges)


# ---- the record ----------------------------------------------------------------------------------------------------

_Seconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    subnet: str
    ips: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    created: _Seconds
    rv: _Number
    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    gen: _Number = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deleted: _Seconds | None = None
    by: tuple[str, _Number] | None = None
    failed: str | None = None
    format: int = 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


def pool_ids(pool: Pool) -> dict[str, str]:
    """The whole external_ids of a pool's DNS row."""
    v4, v6 = format_ranges(4, pool.v4), format_ranges(6, pool.v6)
    by = pool.written if pool.written.number else None
    record = _Record(
        pool.subnet, pool.ips, pool.created, pool.resource_version, v4, v6, pool.namespaces, pool.generation,
        pool.labels, pool.annotations, pool.deleted, by, pool.message if pool.state is State.FAILED else None,
    )  # fmt: skip
    return {KIND: KIND_POOL, NAME: pool.name, UID: pool.uid, SWITCH: pool.switch, RECORD: _encode(record).decode()}


def pool_of(ids: dict[str, str]) -> Pool | None:
    """The pool that a DNS row's external_ids rebuild, None if they were garbled."""
    try:
        record = _decode(ids[RECORD])
        title = ids[NAME].partition("/")[2]
        texts = [ids[UID], ids[SWITCH], record.subnet, *([record.by[0]] if record.by else [])]
        is_named = is_subdomain(title) and ids[NAME] == pool_name(title) and all(map(is_label, record.namespaces))
        if not (is_named and all(texts) and all(map(str.isprintable, texts))):
            return None
        ranges_of(record.ips)  # what cannot be read again was never written by us
        v4, v6 = ranges_of(record.v4), ranges_of(record.v6)
        state = State.HELD if record.deleted is None else State.RELEASING
        return Pool(
            name=ids[NAME],
            uid=ids[UID],
            title=title,
            switch=ids[SWITCH],
            subnet=record.subnet,
            namespaces=record.namespaces,
            ips=record.ips,
            v4=v4[0],
            v6=v6[1],
            state=State.FAILED if record.failed is not None else state,
            created=record.created,
            resource_version=record.rv,
            generation=record.gen,
            labels=record.labels,
            annotations=record.annotations,
            deleted=record.deleted,
            written=Dot(*record.by) if record.by is not None else Dot(),
            message=record.failed or "",
        )
    except (KeyError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
