"""IPs that are born with a port: derived from the northbound database, never stored.

Every logical switch port with an address on a subnet is an IP, under the port's name, for as long as the port is there
and has it, unless something is reserved under that name. Its label `ip_reserved` says "false".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ovnreserve.model.addresses import Cidr, format_v4, format_v6
from ovnreserve.model.documents import Condition, timestamp
from ovnreserve.model.ip import IP, Metadata, Spec, Status, our_labels
from ovnreserve.model.topology import Element, Port
from ovnreserve.plan.identity import identity
from ovnreserve.plan.world import World

Networks = tuple[Cidr | None, Cidr | None]
"""Of a subnet: the IPv4 and the IPv6 one."""
ANY: Final[Networks] = (None, None)


class Addresses(NamedTuple):
    """What a port has: its MAC and the first address of each family that is on the subnet, or, where none is, the first
    of all. `elements` are all that name an address.
    """

    mac: str
    v4: int | None
    v6: int | None
    elements: list[Element]


def addresses_of(port: Port, networks: Networks) -> Addresses | None:
    """None if the port has no address, or none yet."""
    is_dynamic = False
    has: list[Element] = []
    for element in port.elements:
        if element.dynamic:
            is_dynamic = True
        elif element.mac and (element.v4 or element.v6):
            has.append(element)
    if is_dynamic:
        assigned = port.assigned
        if assigned is None:
            return None
        if assigned.mac and (assigned.v4 or assigned.v6):
            has.insert(0, assigned)
    if not has:
        return None
    first = next((e for e in has if _on(networks[0], e.v4) or _on(networks[1], e.v6)), has[0])
    mac, v4, v6 = first.mac, first.v4, first.v6
    assert mac is not None  # noqa: S101 - only such were taken
    if len(has) > 1 and not is_dynamic:
        # What a static port has may be spread over several elements; what a dynamic one was given is one of them.
        v4 = tuple(a for e in has if e.mac == mac for a in e.v4)
        v6 = tuple(a for e in has if e.mac == mac for a in e.v6)
    on4, on6 = _on(networks[0], v4), _on(networks[1], v6)
    if not on4 and not on6:
        on4, on6 = v4[:1], v6[:1]
    return Addresses(mac, on4[0] if on4 else None, on6[0] if on6 else None, has)


def _on(network: Cidr | None, addresses: Sequence[int]) -> Sequence[int]:
    """Those of a network."""
    return () if network is None else [address for address in addresses if address in network]


class Born(msgspec.Struct, frozen=True, gc=False):
    """An IP that was born with a port; `uid` is the port's uuid. Addresses are integers or None; of two families those
    that are on the subnet. `created` is when it was first seen (seconds since the epoch), `resource_version` the
    version that was published when it last changed.

    There is one for each of 100,000 ports: what it refers to is the port's own, and who it is for is read when somebody
    asks.
    """

    uid: str
    name: str
    switch: str
    subnet: str
    provider: str
    external_ids: dict[str, str]
    mac: str
    v4: int | None
    v6: int | None
    created: int
    resource_version: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses as text, IPv4 first."""
        four = () if self.v4 is None else (format_v4(self.v4),)
        return four if self.v6 is None else (*four, format_v6(self.v6))

    @property
    def labels(self) -> dict[str, str]:
        return our_labels("false", self.subnet, "")


def born(world: World, port: Port, before: Born | None = None, now: float = 0.0, version: int = 0) -> Born | None:
    """The IP of a port, None if it has none. It stays what it was `before` while nothing of it changes; O(1)."""
    segment = world.segments.get(port.switch or "")
    if segment is None or port.type == "router":
        return None
    network4, network6 = networks = segment.own_or_routed
    has = addresses_of(port, networks)
    if has is None:
        return None
    mac, v4, v6, _elements = has
    if v4 is not None and (network4 is None or v4 not in network4):
        v4 = None
    if v6 is not None and (network6 is None or v6 not in network6):
        v6 = None
    if v4 is None and v6 is None:
        return None
    switch = segment.switch
    if before is not None and before.uid == port.uuid:
        created, changed = before.created, before.resource_version
    else:
        created, changed = int(now), version
    ip = Born(
        port.uuid,
        port.name,
        switch.uuid,
        switch.name,
        switch.provider,
        port.external_ids,
        mac,
        v4,
        v6,
        created,
        changed,
    )
    if ip == before:
        return before
    return ip if changed == version else replace(ip, resource_version=version)


def render(ip: Born) -> IP:
    """The document of an IP that was born with a port."""
    who = identity(ip, ip.provider)
    addresses = ip.addresses
    has = " ".join((ip.mac, *addresses))
    since = timestamp(ip.created)
    lives = f"lives as long as its port {ip.name}"
    return IP(
        metadata=Metadata(
            creation_timestamp=since,
            generation=1,
            labels=ip.labels,
            name=ip.name,
            resource_version=str(ip.resource_version),
            uid=ip.uid,
        ),
        spec=Spec(
            attachIps=(),
            attachMacs=(),
            attachSubnets=(),
            containerID="",
            ipAddress=",".join(addresses),
            macAddress=ip.mac,
            namespace=who.namespace,
            nodeName="",
            podName=who.pod_name,
            podType=who.pod_type,
            subnet=ip.subnet,
            v4IpAddress="" if ip.v4 is None else format_v4(ip.v4),
            v6IpAddress="" if ip.v6 is None else format_v6(ip.v6),
        ),
        status=Status(
            "Bound",
            (
                Condition("Reserved", "False", "NotReserved", lives, since),
                Condition("Bound", "True", "Bound", f"port {ip.name} has {has}", since),
            ),
        ),
    )
