"""Who held what, and who decided what: on real servers, also when it is long gone."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sites import Site
from support import wait_until

from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import StatusError
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from pathlib import Path

US = f"uid {os.getuid()} ({pwd.getpwuid(os.getuid()).pw_name})"
ADDRESS = "10.16.0.13"


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped, killed and destroyed."""
    return Site(servers, daemon)


def history(site: Site, **query: str) -> dict[str, Any]:
    parameters = "&".join(f"{key}={quote(value)}" for key, value in query.items())
    return site.client.get(f"/apis/ovnreserve.io/v1/history?{parameters}")


def tenures(site: Site, **query: str) -> list[tuple[str, str, bool]]:
    """(name, subnet, is it over) of each."""
    return [(t["name"], t["subnet"], t["until"] is not None) for t in history(site, **query)["tenures"]]


def events(site: Site, query: str = "") -> list[dict[str, Any]]:
    return site.client.get(f"/api/v1/events{query}")["items"]


def actors(site: Site, name: str) -> dict[str, str]:
    """By reason, at whose wish."""
    told = events(site, f"?fieldSelector=involvedObject.name%3D{name}")
    return {event["reason"]: event["metadata"]["annotations"]["ovnreserve.io/actor"] for event in told}


def middle(tenure: dict[str, Any]) -> str:
    """A time within it."""
    since, until = (datetime.fromisoformat(tenure[key]) for key in ("since", "until"))
    return (since + (until - since) / 2).isoformat()


def test_who_held_an_address_at_a_time_is_told_of_what_is_gone_and_of_what_lives(site: Site) -> None:
    switch = site.switch()
    first = site.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
    site.release(first)
    second = site.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
    assert tenures(site, address=ADDRESS)[-2:] == [(first, switch, True), (second, switch, False)]
    gone, lives = history(site, address=ADDRESS)["tenures"][-2:]
    assert gone["until"] < lives["since"]
    assert (first, switch, True) in tenures(site, address=ADDRESS, at=middle(gone))
    assert (second, switch, False) not in tenures(site, address=ADDRESS, at=middle(gone))
    now = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert tenures(site, name=second, at=now) == [(second, switch, False)]
    assert tenures(site, address=ADDRESS, at="0") == []
    assert tenures(site, name=first) == [(first, switch, True)]


def test_only_ips_have_tenures_and_other_kinds_have_events(site: Site) -> None:
    switch = site.switch()
    pool = {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": f"pool-{switch}"},
            "spec": {"subnet": switch, "ips": ["10.16.0.20..10.16.0.29"]}}  # fmt: skip
    site.bulk("apply", [pool])
    site.bulk("delete", [pool])
    wait_until(lambda: site.command("get", f"ippool/{pool['metadata']['name']}").code == 1, what="the pool is gone")
    told = history(site, name=f"ippool/{pool['metadata']['name']}")
    assert told["tenures"] == []
    assert [event["reason"] for event in told["events"]] == ["PoolCreated", "Releasing", "Released"]


def test_the_time_that_a_table_shows_is_one_at_which_it_was_held(site: Site) -> None:
    name = site.reserve(site.switch()).ip["metadata"]["name"]
    site.release(name)
    _head, row = site.command("history", name).stdout.splitlines()
    since, until = row.split()[:2]
    for moment in (since, until):
        found = site.command("history", name, "--at", moment)
        assert (found.code, found.stdout.splitlines()[1:]) == (0, [row])
    before = site.command("history", name, "--at", "2020-01-01")
    assert before == (0, "", "No resources found\n")


def test_an_address_that_two_switches_have_is_shown_with_both(site: Site) -> None:
    one, other = site.switch(), site.switch()
    names = [site.reserve(switch, v4IpAddress="10.16.0.77").ip["metadata"]["name"] for switch in (one, other)]
    assert tenures(site, address="10.16.0.77")[-2:] == [(names[0], one, False), (names[1], other, False)]


def test_addresses_and_macs_are_found_in_any_notation(site: Site) -> None:
    switch = site.switch(ipv6_prefix="fd00:16::/64")
    made = site.reserve(switch, v6IpAddress="fd00:16::ab", macAddress="02:6f:76:00:00:ab").ip
    name = made["metadata"]["name"]
    for text in ("fd00:16::ab", "FD00:16:0:0:0:0:0:AB", "02:6f:76:00:00:ab", "02-6F-76-00-00-AB", "026f.7600.00ab"):
        done = site.command("history", text)
        assert (done.code, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].split()[2:4] == [name, switch], text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "history is of one name, address or mac"),
        ("?name=a&mac=b", "history is of one name, address or mac"),
        ("?address=10.0.0.256", "address=10.0.0.256: must be an IPv4 or IPv6 address"),
        ("?mac=zz", "mac=zz: must be a MAC address"),
        ("?name=a&at=yesterday", "at=yesterday: must be seconds since 1970 or an RFC 3339 time"),
        ("?name=a&at=2026-11-27T08:00:00", "at=2026-11-27T08:00:00: must be"),
        ("?name=a&at=9e99", "at=9e99: must be"),
        (f"?name=a&at={'9' * 40}", "must be seconds since 1970"),
    ],
)
def test_what_cannot_be_asked_is_refused(site: Site, query: str, message: str) -> None:
    with pytest.raises(StatusError, match=message) as refused:
        site.client.get(f"/apis/ovnreserve.io/v1/history{query}")
    assert refused.value.status["code"] == 400


def test_a_name_that_never_was_is_not_found(site: Site) -> None:
    assert site.command("history", "never.default") == (
        1, "", 'Error from server (NotFound): the journal knows no "never.default"\n',
    )  # fmt: skip


def test_every_decision_names_who_asked_or_that_the_daemon_did_it_by_itself(site: Site) -> None:
    switch = site.switch()
    name = site.reserve(switch).ip["metadata"]["name"]
    site.nb("lsp-add", switch, name, "--", "lsp-set-addresses", name, "dynamic")
    wait_until(lambda: site.condition(name, "Bound")["status"] == "True", what="bound")
    site.command("apply", "-f", "-", stdin=json.dumps(labelled(site, name)))
    site.release(name)
    wait_until(lambda: "Released" in actors(site, name), what="the journal is written")
    assert actors(site, name) == {
        "Reserved": US, "Relabelled": US, "Releasing": US, "PortDeleted": US, "Binding": "ovnreserved",
        "Released": "ovnreserved",
    }  # fmt: skip
    [tenure] = history(site, name=name)["tenures"]
    assert (tenure["actor"], tenure["endedBy"]) == (US, US)


def labelled(site: Site, name: str) -> dict[str, Any]:
    ip = site.ip(name)
    assert ip is not None
    ip["metadata"]["labels"]["team"] = "red"
    return ip


def test_many_in_one_request_are_journalled_under_whoever_sent_it(site: Site) -> None:
    switch = site.switch()
    made = site.bulk("create", [site.document(switch) for _ in range(20)])
    for answer in made:
        assert actors(site, answer.ip["metadata"]["name"]) == {"Reserved": US}


def test_a_request_that_is_refused_is_not_journalled(site: Site) -> None:
    switch = site.switch()
    site.reserve(switch, "holder", v4IpAddress=ADDRESS)
    refused = site.reserve(switch, "refused", v4IpAddress=ADDRESS)
    assert refused.code == 409
    assert events(site, "?fieldSelector=involvedObject.name%3Drefused.default") == []
    with pytest.raises(StatusError, match="knows no"):
        history(site, name="refused.default")


def test_what_somebody_did_to_the_database_is_the_cause_that_the_journal_names(site: Site) -> None:
    switch = site.switch()
    name = site.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
    site.nb("set", "logical_switch", switch, "other_config:exclude_ips=10.16.0.99")
    wait_until(lambda: ADDRESS in (site.exclude_ips(switch) or ""), what="repaired")
    record = site.records()[name]["_uuid"]
    site.nb("destroy", "dns", record)
    wait_until(lambda: name in site.records(), what="written again")
    wait_until(lambda: "Republished" in dict(site.events(name)), what="journalled")
    assert "the northbound database had none" in dict(site.events(name))["Republished"]
    [repaired] = events(site, f"?fieldSelector=involvedObject.kind%3DSubnet,involvedObject.name%3D{switch}")
    assert 'was "10.16.0.99"' in repaired["message"]
    assert repaired["involvedObject"]["kind"] == "Subnet"
    assert tenures(site, name=name) == [(name, switch, False)]


def test_events_are_listed_by_time_and_of_one_object(site: Site) -> None:
    switch = site.switch()
    names = [site.reserve(switch).ip["metadata"]["name"] for _ in range(2)]
    site.release(names[0])
    head, *rows = site.command("get", "events", f"--for=ip/{names[0]}").stdout.splitlines()
    assert head.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert [row.split()[2:4] for row in rows] == [
        [reason, f"ip/{names[0]}"] for reason in ("Reserved", "Releasing", "Released")
    ]
    assert rows[0].split()[4:] == f"reserved {rows[0].split()[5]} {rows[0].split()[6]} on subnet {switch}".split()
    everything = json.loads(site.command("get", "ev", "-o", "json").stdout)["items"]
    assert {names[0], names[1]} <= {event["involvedObject"]["name"] for event in everything}
    times = [event["lastTimestamp"] for event in everything]
    assert times == sorted(times)
    assert len({event["metadata"]["name"] for event in everything}) == len(everything)
    assert US in site.command("get", "event", f"--for=ip/{names[0]}", "-o", "wide").stdout
    assert US in site.command("describe", "ip", names[1]).stdout


def test_events_are_found_by_reason_type_and_uid(site: Site) -> None:
    made = site.reserve(site.switch()).ip["metadata"]
    site.release(made["name"])
    select = "?fieldSelector=involvedObject.uid%3D{},{}"
    assert [e["reason"] for e in events(site, select.format(made["uid"], "reason%3DReleased"))] == ["Released"]
    assert [e["reason"] for e in events(site, select.format(made["uid"], "reason!%3DReleased"))] == [
        "Reserved", "Releasing",
    ]  # fmt: skip
    assert events(site, select.format(made["uid"], "type%3DWarning")) == []
    assert events(site, "?labelSelector=a%3Db") == []


def test_events_of_one_namespace_are_those_of_its_owners_and_in_default_all_that_has_none(site: Site) -> None:
    name = site.reserve(site.switch()).name
    for namespace in ("blue", "green"):
        metadata = {"name": "vm", "namespace": namespace}
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata}
        site.bulk("apply", [owner])
        site.bulk("delete", [owner])

    def ageless(*options: str) -> list[list[str]]:
        rows = site.command("get", "events", *options, "-n", "blue", "--no-headers").stdout.splitlines()
        return [row.split()[1:] for row in rows]

    rows = ageless("--for=vm/vm")
    assert {row[2] for row in rows} == {"virtualmachine/blue/vm"}
    assert ageless() == rows
    everywhere = site.command("get", "events", "--for=vm/vm", "--no-headers").stdout
    assert "virtualmachine/green/vm" in everywhere
    in_default = site.command("get", "events", "-n", "default").stdout
    assert f"ip/{name}" in in_default
    assert "/vm " not in in_default


# ---- what survives -------------------------------------------------------------------------------------------------


def test_history_survives_a_restart_and_a_kill(own: Site) -> None:
    switch = own.switch()
    gone = own.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
    own.release(gone)
    lives = own.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
    before = history(own, address=ADDRESS)
    own.restart()
    assert history(own, address=ADDRESS) == before
    own.daemon.kill()
    own.client.close()
    own.daemon.start()
    assert history(own, address=ADDRESS)["tenures"] == before["tenures"]
    assert tenures(own, address=ADDRESS) == [(gone, switch, True), (lives, switch, False)]


def test_a_backup_has_the_history_and_what_is_restored_begins_anew(own: Site, tmp_path: Path) -> None:
    switch = own.switch()
    name = own.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
    file = tmp_path / "backup.db"
    assert own.command("backup", str(file)).code == 0
    own.release(name)
    assert own.command("restore", str(file)).code == 0
    assert tenures(own, address=ADDRESS) == [(name, switch, True), (name, switch, False)]
    own.daemon.stop()
    own.client.close()
    for part in own.daemon.state_dir.iterdir():
        part.unlink()
    file.rename(own.daemon.state_dir / "ledger.db")
    own.daemon.start()
    wait_until(lambda: len(tenures(own, name=name)) == 2, what="the database is followed")
    first, second = history(own, name=name)["tenures"]
    assert (first["actor"], first["until"] is not None) == (US, True)
    assert (second["actor"], second["until"]) == ("ovnreserved", None)


def test_pruning_never_touches_what_lives_and_what_was_released_stays_so(servers: Servers, tmp_path: Path) -> None:
    with Daemon(servers, tmp_path / "state") as daemon:
        site = Site(servers, daemon)
        switch = site.switch()
        gone = site.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
        copy = site.records()[gone]["external_ids"]
        site.release(gone)
        lives = site.reserve(switch, v4IpAddress=ADDRESS).ip["metadata"]["name"]
        site.client.close()
    with Daemon(servers, tmp_path / "state", "--journal-keep", "0") as daemon:
        site = Site(servers, daemon)
        wait_until(lambda: "journal_pruned" in daemon.log.read_text(), what="the journal is pruned")
        assert tenures(site, address=ADDRESS) == [(lives, switch, False)]
        with pytest.raises(StatusError, match="knows no"):
            history(site, name=gone)
        daemon.stop()
        site.client.close()
        ids = [f"external_ids:{key}={json.dumps(value)}" for key, value in copy.items()]
        servers.nbctl("create", "dns", *ids)  # as an old copy of the database would bring it back
        daemon.start()
        wait_until(lambda: gone not in site.records(), what="it is removed again")
        assert site.ip(gone) is None
        assert site.ip(lives) is not None
        with closing(sqlite3.connect(tmp_path / "state" / "ledger.db")) as db:
            assert db.execute("SELECT count(*) FROM released").fetchone() == (1,)
        site.client.close()
