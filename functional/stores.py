"""What the stores say: ledger, records, exclude_ips and the API, each asked on its own, and whether they agree."""

from __future__ import annotations

import json
import socket
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

from support import until_true, wait_until

from ovnreserve.model.addresses import format_v4
from ovnreserve.model.exclude_ips import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sites import Site

    from ovnreserve.sandbox import Daemon


def state(site: Site) -> str:
    return site.client.get("/apis/ovnreserve.io/v1/status")["state"]


def listening(daemon: Daemon) -> None:
    """It is not ready, but answers: its socket is there a moment before it can be connected to."""

    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as ours:
            return ours.connect_ex(str(daemon.run_dir / "ovnreserved.sock")) == 0

    wait_until(answers, what="it listens")


def active(site: Site) -> None:
    wait_until(lambda: state(site) == "active", 20, what="the daemon is active")


def restart(site: Site) -> None:
    """After a kill."""
    site.client.close()
    site.daemon.start()
    active(site)


def logged(site: Site, event: str) -> list[str]:
    return [line for line in site.daemon.log.read_text().splitlines() if f" {event} " in f"{line} "]


def specs(ips: Iterable[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
    """By name: uid, IPv4 address and MAC."""
    return {
        ip["metadata"]["name"]: (ip["metadata"]["uid"], ip["spec"]["v4IpAddress"], ip["spec"]["macAddress"])
        for ip in ips
    }


def kept(site: Site) -> list[dict[str, Any]]:
    """The IPs that are kept: those that are reserved, and those that are retained."""
    records = site.records()
    return [*site.ips(), *(ip for ip in site.ips("false") if ip["metadata"]["name"] in records)]


def under_way(site: Site) -> list[str]:
    ips = [*site.ips(), *site.ips("false")]
    return [ip["metadata"]["name"] for ip in ips if ip["status"]["phase"] not in ("Reserved", "Bound")]


def stores_agree(site: Site, switch: str, theirs: str = "") -> dict[str, tuple[str, str, str]]:
    """What ledger, records, exclude_ips and the API all say, once nothing is under way any more.

    They are read one after the other, while what the daemon does by itself may go on: they have to agree in the end.
    """
    wait_until(lambda: not under_way(site), 20, what="all settled")
    return until_true(partial(_what_all_say, site, switch, theirs), 20)


def _what_all_say(site: Site, switch: str, theirs: str) -> dict[str, tuple[str, str, str]]:
    shown = specs(kept(site))
    found = json.loads(
        site.nb("--format=json", "--columns=external_ids", "find", "dns", "external_ids:ovnreserve/kind=reservation")
    )
    ids = [dict(row[0][1]) for row in found["data"]]
    records = {i["ovnreserve/name"]: (i["ovnreserve/uid"], i["ovnreserve/record"]) for i in ids}
    assert len(ids) == len(records) == len(shown), "a record is missing or doubled"
    for name, (uid, v4, mac) in shown.items():
        assert records[name][0] == uid
        record = json.loads(records[name][1])
        assert (record["v4"], record["mac"]) == (v4, mac)
    addresses, macs = ({values[i] for values in shown.values()} for i in (1, 2))
    assert len(addresses) == len(macs) == len(shown), "an address or a MAC is given twice"
    value = site.exclude_ips(switch) or ""
    assert value.endswith(theirs)
    ours = parse(value.removesuffix(theirs), 10 << 24 | 16 << 16, 16)
    excluded = [format_v4(address) for first, last in ours.ranges for address in range(first, last + 1)]
    assert sorted(excluded) == sorted(addresses)
    assert in_ledger(site) == shown
    return shown


def in_ledger(site: Site) -> dict[str, tuple[str, str, str]]:
    """What the ledger holds; what is not settled in it yet has no address."""
    db = sqlite3.connect(f"file:{site.daemon.state_dir}/ledger.db?mode=ro", uri=True)
    try:
        rows = db.execute("SELECT name, uid, v4, mac, state FROM reservation").fetchall()
    finally:
        db.close()
    return {name: (uid, format_v4(v4) if state_ == "held" else state_, mac) for name, uid, v4, mac, state_ in rows}
