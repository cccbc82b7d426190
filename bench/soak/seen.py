"""What is there to be seen: both daemons' answers, both ledgers, and the northbound database in one look."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from bench.soak.account import LABEL, Held, held_of
from bench.soak.ground import Ground, Neighbour, ledger_of, name_of, plain, socket_of
from ovnreserve.cli.client import Client
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.reservation import Reservation, reservation_of
from ovnreserve.model.resource import KIND, KIND_RESERVATION, State
from ovnreserve.sandbox import Daemon

_HELD: Final = ("Reserved", "Bound")


@dataclass
class Place:
    """One place that knows of reservations, by name: what is `held`, and the state of what is not held (`other`)."""

    held: dict[str, Held] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)


@dataclass
class Seen:
    """`places` by what they are called. `ports`, `switches` by name, `dns` by uuid: rows with plain values. `bound`,
    `withheld` and `conflicted` are names, as each daemon shows them; `mac_prefix` is that of ovn-northd's choices.
    """

    states: dict[str, str]
    places: dict[str, Place]
    bound: dict[str, set[str]]
    withheld: dict[str, set[str]]
    conflicted: dict[str, set[str]]
    ports: dict[str, dict[str, Any]]
    port_switch: dict[str, str]
    switches: dict[str, dict[str, Any]]
    dns: dict[str, dict[str, Any]]
    global_ids: dict[str, str]
    mac_prefix: str

    @property
    def records(self) -> Place:
        return self.places["the records"]


def look(ground: Ground, nb: Neighbour) -> Seen:
    """Everything as it is now. Raises CommandError while a daemon does not answer."""
    places: dict[str, Place] = {}
    states: dict[str, str] = {}
    bound: dict[str, set[str]] = {}
    withheld: dict[str, set[str]] = {}
    conflicted: dict[str, set[str]] = {}
    for daemon in ground.daemons:
        name = name_of(daemon)
        client = Client(str(socket_of(daemon)), lambda _warning: None)
        with closing(client):
            states[name] = client.get("/apis/ovnreserve.io/v1/status")["state"]
            ips = client.get("/apis/kubeovn.io/v1/ips?labelSelector=ovn.kubernetes.io/ip_reserved%3Dtrue")["items"]
        places[f"the API of {name}"] = _shown(ips)
        bound[name] = {ip["metadata"]["name"] for ip in ips if ip["status"]["phase"] == "Bound"}
        withheld[name] = {ip["metadata"]["name"] for ip in ips if _has(ip, "Withheld")}
        conflicted[name] = {ip["metadata"]["name"] for ip in ips if _has(ip, "AddressTaken")}
        places[f"the ledger of {name}"] = in_ledger(daemon)
    tables = {
        "Logical_Switch": ["_uuid", "name", "other_config", "external_ids", "ports", "dns_records"],
        "Logical_Switch_Port": ["_uuid", "name", "addresses", "dynamic_addresses", "external_ids", "type", "enabled"],
        "DNS": ["_uuid", "records", "external_ids"],
        "NB_Global": ["external_ids", "options"],
    }
    selects = [{"op": "select", "table": table, "where": [], "columns": columns} for table, columns in tables.items()]
    found = [[_plain(row) for row in result["rows"]] for result in nb.transact(*selects)]
    switches, ports, dns, [nb_global] = found
    names = {port["_uuid"]: port["name"] for port in ports}
    places["the records"] = _recorded(dns)
    return Seen(
        states, places, bound, withheld, conflicted,
        ports={port["name"]: port for port in ports},
        port_switch={names[uuid]: switch["name"] for switch in switches for uuid in _many(switch["ports"])},
        switches={switch["name"]: switch for switch in switches},
        dns={row["_uuid"]: row for row in dns},
        global_ids=nb_global["external_ids"],
        mac_prefix=nb_global["options"].get("mac_prefix", "none yet"),
    )  # fmt: skip


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: plain(value) for column, value in row.items()}


def _many(value: Any) -> list[Any]:
    """A set of one is written as the one (RFC 7047, 5.1)."""
    return value if isinstance(value, list) else [value]


def addresses_of(port: Mapping[str, Any]) -> list[str]:
    """The elements of `addresses`."""
    return _many(port["addresses"])


def _shown(ips: list[dict[str, Any]]) -> Place:
    place = Place()
    for ip in ips:
        name, phase = ip["metadata"]["name"], ip["status"]["phase"]
        if phase in _HELD:
            place.held[name] = held_of(ip)
        else:
            place.other[name] = phase
    return place


def _has(ip: dict[str, Any], reason: str) -> bool:
    """Does one of its conditions give this reason?"""
    return any(condition["reason"] == reason for condition in ip["status"]["conditions"])


def in_ledger(daemon: Daemon) -> Place:
    place = Place()
    with closing(sqlite3.connect(f"file:{ledger_of(daemon)}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT name, uid, subnet, v4, v6, mac, more, state FROM reservation").fetchall()
    for name, uid, subnet, v4, v6, mac, more, state in rows:
        if state == "held":
            label = json.loads(more).get("labels", {}).get(LABEL, "")
            place.held[name] = Held(uid, subnet, "" if v4 is None else format_v4(v4), v6 or "", mac, label)
        else:
            place.other[name] = state
    return place


def _recorded(dns: list[dict[str, Any]]) -> Place:
    place = Place()
    for row in dns:
        ids = row["external_ids"]
        if ids.get(KIND) != KIND_RESERVATION:
            continue
        r = reservation_of(ids)
        if r is None:
            place.other[ids.get("ovnreserve/name", row["_uuid"])] = "garbled"
        elif r.name in place.held or r.name in place.other:
            place.twice.append(r.name)
        elif r.state is State.HELD:
            place.held[r.name] = _held(r)
        else:
            place.other[r.name] = r.state.value
    return place


def _held(r: Reservation) -> Held:
    v4 = "" if r.v4 is None else format_v4(r.v4)
    v6 = r.addresses[-1] if r.v6 is not None else ""
    return Held(r.uid, r.subnet, v4, v6, r.mac, r.labels.get(LABEL, ""))
