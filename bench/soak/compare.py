"""The model against everything there is to be seen, when all stand still. Pure.

    lost        acknowledged, and not there with the same uid, addresses, MAC and label; not excluded; not bound though
                its port is there; or an untrue answer said so
    returned    acknowledged as released, and there (again); its address is still excluded
    doubled     one address or MAC on a network for two, whoever they are
    foreign     somebody else's port, token, key or row is not as he left it; a running port was renumbered
    wrong       anything else that two places tell differently

A request with an unknown outcome may have been carried out or not: the records decide, and everybody has to agree.

Two things are not doubled where both daemons report them. A reservation lost its IPv4 address while the operator had
overwritten exclude_ips: ovn-northd has given it to a port (Withheld), and it is excluded again when that port leaves.
And a reservation that was adopted keeps the MAC that ovn-northd chose, and an IPv6 address made of it; while its port
is away nothing in OVN can keep them from being chosen again (Conflicted).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bench.soak.account import Account, Doubt, Held
from bench.soak.foreigners import PREFIX, Foreigner, Port
from bench.soak.ground import NETS, Net
from bench.soak.seen import Seen, addresses_of
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.exclude_ips import parse
from ovnreserve.model.topology import EXCLUDE_IPS, EXCLUDED_MARK

KINDS: Final = ("lost", "returned", "doubled", "foreign", "wrong")
_FAILED: Final = ("Failed", "failed")


class Difference(NamedTuple):
    kind: str
    what: str


class Expected(NamedTuple):
    """All accounts together, with what was in doubt settled by the records."""

    held: dict[str, Held]
    released: set[str]
    settled: dict[str, Held | None]
    plugged: set[str]


def expected(accounts: Iterable[Account], seen: Seen) -> Expected:
    held: dict[str, Held] = {}
    released: set[str] = set()
    settled: dict[str, Held | None] = {}
    plugged: set[str] = set()
    for account in accounts:
        held |= account.held
        released |= account.released
        plugged |= account.plugged
        for name, doubt in account.doubts.items():
            settled[name] = now = seen.records.held.get(name)
            if now is not None:
                held[name] = now
            else:
                released.add(name)
                if doubt.verb == "release":
                    plugged.discard(name)
    return Expected(held, released, settled, plugged)


def differences(accounts: Sequence[Account], foreigner: Foreigner, seen: Seen) -> list[Difference]:
    want = expected(accounts, seen)
    doubts = {name: doubt for account in accounts for name, doubt in account.doubts.items()}
    found = [*_states(seen), *_doubts(doubts, want, seen), *_places(want, seen), *_ports(want, seen)]
    found += _excludes(want, foreigner, seen)
    found += _doubled(want, seen)
    found += _foreign(foreigner, seen)
    found += [Difference(*_split(text)) for account in accounts for text in account.wrong]
    return found


def _split(text: str) -> tuple[str, str]:
    kind, _, what = text.partition(": ")
    return kind, what


def _states(seen: Seen) -> Iterator[Difference]:
    if sorted(seen.states.values()) != ["active", "standby"]:
        yield Difference("wrong", f"the daemons are {seen.states}")


# ---- reservations --------------------------------------------------------------------------------------------------


def _doubts(doubts: Mapping[str, Doubt], want: Expected, seen: Seen) -> Iterator[Difference]:
    """Has each come to what it can come to?"""
    for name, doubt in doubts.items():
        now = want.settled[name]
        before = doubt.before
        if doubt.verb == "reserve":
            asked = doubt.document["spec"]
            if now is not None and (now.subnet != asked["subnet"] or asked["v4IpAddress"] not in ("", now.v4)):
                yield Difference("wrong", f"{name} asked for {asked} with an unknown outcome, and is {now}")
        elif doubt.verb == "label":
            labels = (before.label if before else "", doubt.document["metadata"]["labels"].get("soak"))
            if now is None or now.label not in labels or now._replace(label="") != (before or now)._replace(label=""):
                yield Difference("lost", f"{name}, {before}, was labelled with an unknown outcome, and is {now}")
        elif now is not None and now != before:
            yield Difference("lost", f"{name}, {before}, was released with an unknown outcome, and is {now}")
        state = seen.records.other.get(name)
        if state is not None:
            yield Difference("wrong", f"{doubt.verb} of {name}: the outcome was unknown, and its record is {state}")


def _places(want: Expected, seen: Seen) -> Iterator[Difference]:
    for where, place in seen.places.items():
        yield from (Difference("doubled", f"{name} has two rows in {where}") for name in place.twice)
        for name, held in want.held.items():
            now = place.held.get(name)
            if now is None:
                state = place.other.get(name, "not there")
                yield Difference("lost", f"{name} in {where}: {state}; it is {held}")
            elif now != held:
                yield Difference("lost", f"{name} in {where}: {now}; it is {held}")
        for name in place.held.keys() - want.held.keys():
            kind = "returned" if name in want.released else "wrong"
            yield Difference(kind, f"{name} in {where}: {place.held[name]}; it is not reserved")
        for name in place.other.keys() - want.held.keys():
            if place.other[name] not in _FAILED:  # which holds nothing
                yield Difference("returned", f"{name} in {where}: {place.other[name]}; it is not reserved")


def _ports(want: Expected, seen: Seen) -> Iterator[Difference]:
    ours = {name for name in seen.ports if not name.startswith(PREFIX)}
    for name in want.plugged - ours:
        yield Difference("foreign", f"port {name} was deleted, and nobody had asked for that")
    for name in ours - want.plugged:
        yield Difference("returned", f"port {name} of a released reservation is still there: {seen.ports[name]}")
    for name in ours & want.plugged & want.held.keys():
        has, held = addresses_of(seen.ports[name]), want.held[name]
        if has != [held.addresses]:
            yield Difference("lost", f"port {name} has {has}; the reservation is {held}")
    bound = want.plugged & want.held.keys()
    for daemon, names in seen.bound.items():
        for name in names ^ bound:
            yield Difference("wrong", f"{daemon} shows {name} as {'Bound' if name in names else 'not Bound'}")


def _excludes(want: Expected, foreigner: Foreigner, seen: Seen) -> Iterator[Difference]:
    for net in NETS:
        if not net.v4:
            continue
        value, tail = seen.switches[net.name]["other_config"].get(EXCLUDE_IPS, ""), foreigner.tail(net.name)
        if value != tail and not value.endswith(f" {tail}"):
            yield Difference("foreign", f"exclude_ips of {net.name} is {value!r}; the operator's part was {tail!r}")
            continue
        excluded = _addresses(net, value.removesuffix(tail))
        ours = {held.v4: name for name, held in want.held.items() if held.subnet == net.name}
        taken = {address for address, _who in _foreign_addresses(net, seen)}
        for address in ours.keys() - excluded:
            name = ours[address]
            if not (address in taken and all(name in names for names in seen.withheld.values())):
                yield Difference("lost", f"{address} of {name} is not excluded on {net.name}")
        for address in excluded - ours.keys():
            yield Difference("returned", f"{address} is excluded on {net.name} by us, for nobody")


def _addresses(net: Net, text: str) -> set[str]:
    network = int.from_bytes(map(int, f"{net.v4}.0.0".split(".")))
    return {format_v4(a) for first, last in parse(text, network, 20).ranges for a in range(first, last + 1)}


def _doubled(want: Expected, seen: Seen) -> Iterator[Difference]:
    for net in NETS:
        holders: dict[str, str] = {}
        for name, held in want.held.items():
            for claim in (held.v4, held.v6, held.mac):
                if held.subnet == net.name and claim and holders.setdefault(claim, name) != name:
                    yield Difference("doubled", f"{claim} on {net.name}: {name} and {holders[claim]}")
        for address, port in _foreign_addresses(net, seen):
            holder = holders.setdefault(address, port)
            if holder != port and not _is_reported(holder, address, want, seen):
                yield Difference("doubled", f"{address} on {net.name}: {holder} and port {port}")


def _is_reported(name: str, address: str, want: Expected, seen: Seen) -> bool:
    """Is it one of the two that nobody can help, and do both daemons say so?"""
    if "." in address:
        return all(name in names for names in seen.withheld.values())
    chosen = name in want.held and want.held[name].mac.startswith(seen.mac_prefix)
    return chosen and all(name in names for names in seen.conflicted.values())


def _foreign_addresses(net: Net, seen: Seen) -> Iterator[tuple[str, str]]:
    """(address, port) of foreigners' ports."""
    for name, port in seen.ports.items():
        if name.startswith(PREFIX) and seen.port_switch.get(name) == net.name:
            dynamic = port["dynamic_addresses"]
            text = " ".join([*addresses_of(port), *([dynamic] if isinstance(dynamic, str) else [])])
            yield from ((word, name) for word in text.split() if "." in word or word.startswith("fd"))


# ---- what belongs to others ----------------------------------------------------------------------------------------


def _foreign(foreigner: Foreigner, seen: Seen) -> Iterator[Difference]:
    theirs = {name for name in seen.ports if name.startswith(PREFIX)}
    for name in theirs ^ foreigner.ports.keys():
        yield Difference("foreign", f"port {name} {'is still there' if name in theirs else 'was deleted'}")
    for name in theirs & foreigner.ports.keys():
        kept, port = foreigner.ports[name], seen.ports[name]
        now = Port(seen.port_switch.get(name, ""), tuple(addresses_of(port)), port["external_ids"], kept.address)
        yield from _same(f"port {name}", now, kept)
        yield from _same(f"type and enabled of port {name}", (port["type"], port["enabled"]), ("", []))
    for net in NETS:
        switch = seen.switches[net.name]
        config = _without(switch["other_config"], EXCLUDE_IPS, "subnet", "ipv6_prefix")
        yield from _same(f"other_config of {net.name}", config, foreigner.switch_config[net.name])
        ids = _without(switch["external_ids"], EXCLUDED_MARK)
        yield from _same(f"external_ids of {net.name}", ids, foreigner.switch_ids[net.name])
        attached = foreigner.dns_row if net is NETS[0] else []
        yield from _same(f"dns_records of {net.name}", switch["dns_records"], attached)
    dns = seen.dns.get(foreigner.dns_row, {})
    row = {"_uuid": foreigner.dns_row, "records": foreigner.dns, "external_ids": {"cms": "theirs"}}
    yield from _same("the foreign DNS row", dns, row)
    yield from _same("external_ids of NB_Global", seen.global_ids, foreigner.global_ids)


def _without(values: Mapping[str, str], *keys: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if key not in keys}


def _same(what: str, now: Any, kept: Any) -> Iterator[Difference]:
    if now != kept:
        yield Difference("foreign", f"{what} is {now}; it was {kept}")


def count(found: Collection[Difference]) -> dict[str, int]:
    return {kind: sum(difference.kind == kind for difference in found) for kind in KINDS}
