"""`ovnreserve verify`: each kind of difference is made, told, shown by the command beside it, and repaired or left.

An active daemon repairs within milliseconds. So it is stopped where a difference shall stay, and a standby is asked.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sites import Site
from support import Result, wait_until

from ovnreserve.model.exclude_ips import mark
from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ovnreserve.sandbox import Servers

VERIFY = "/apis/ovnreserve.io/v1/verify"
MAC = "0a:00:00:00:00:01"


class Pair(NamedTuple):
    active: Site
    standby: Site


@pytest.fixture
def pair(servers: Servers, tmp_path: Path) -> Iterator[Pair]:
    """Two daemons. The active one may be paused."""

    def run(name: str) -> Daemon:
        return Daemon(servers, tmp_path / name, "--watchdog", "0", run_dir=servers.run_dir / name)

    with run("active") as one, run("standby") as two:
        yield Pair(Site(servers, one), Site(servers, two))
        print(one.log.read_text(), two.log.read_text(), sep="\n----\n")


def told(site: Site, *words: str) -> tuple[str, str]:
    """(what, command) of the only difference, once it has all of these words."""

    def is_told() -> bool:
        differences = site.client.get(VERIFY)["differences"]
        return len(differences) == 1 and all(word in differences[0]["what"] for word in words)

    wait_until(is_told, 20, what=f"{words} is told, and nothing else")
    done = site.command("verify")
    assert (done.code, done.stderr) == (1, "")
    [line] = done.stdout.splitlines()
    what, gap, command = line.partition("  # ")
    assert gap
    return what, command


def shown(site: Site, command: str) -> str:
    """What the command of a difference prints, given to a shell's words."""
    program, *arguments = shlex.split(command)
    assert program == "ovn-nbctl"
    return site.servers.nbctl(*arguments)


def clean(site: Site) -> None:
    wait_until(lambda: site.client.get(VERIFY)["clean"], 20, what="nothing differs")


def repaired(pair: Pair) -> None:
    """Let the active daemon go on, and repair."""
    pair.active.daemon.resume()
    pair.active.client.close()
    done = pair.active.command("verify", "--repair")
    assert (done.code, done.stderr) == (0, ""), done
    clean(pair.standby)
    assert pair.active.command("verify") == Result(0, "", "")


def reserved(pair: Pair) -> tuple[str, str, str]:
    """A switch with a reservation that both daemons have, with the active one paused: (switch, name, record's uuid)."""
    switch = pair.active.switch()
    answer = pair.active.reserve(switch)
    wait_until(lambda: pair.standby.ip(answer.name) is not None, what="it follows")
    clean(pair.active)
    clean(pair.standby)
    pair.active.daemon.pause()
    return switch, answer.name, pair.standby.records()[answer.name]["_uuid"]


# ---- nothing differs -------------------------------------------------------------------------------------------------


def test_what_is_merely_so_is_no_difference(site: Site) -> None:
    switch = site.switch(ipv6_prefix="fd00:16::", exclude_ips="10.16.0.9 // mine")
    assert site.command("verify") == Result(0, "", "")
    bound, bare, released = site.reserve(switch), site.reserve(switch), site.reserve(switch, v4IpAddress="10.16.0.9")
    site.port(switch, name=bound.name)
    site.port(switch)
    site.release(released.name)
    wait_until(lambda: site.condition(bound.name, "Bound")["status"] == "True", what="bound")
    assert site.ip(bare.name) is not None
    clean(site)
    with site.northd_paused():
        site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{bare.name}")
        assert site.ip(bare.name)["status"]["phase"] == "Releasing"
        clean(site)


def test_nothing_differs_while_clients_reserve_bind_and_release(site: Site) -> None:
    switch = site.switch("10.16.0.0/16", "fd00:16::")
    stop = threading.Event()
    rounds: list[set[str]] = []

    def work() -> None:
        other = Site(site.servers, site.daemon)
        other._numbers = itertools.count(1_000_000)
        while not stop.is_set():
            answers = other.bulk("apply", [other.document(switch) for _ in range(150)])
            other.servers.nbctl(
                "lsp-add", switch, answers[0].name, "--", "lsp-set-addresses", answers[0].name, "dynamic"
            )
            done = other.bulk("delete", [answer.ip for answer in answers[:100]])
            rounds.append({answer.result for answer in (*answers, *done)})

    worker = threading.Thread(target=work)
    worker.start()
    try:
        looks = 0
        while looks < 10 or len(rounds) < 3:
            assert worker.is_alive()
            assert site.client.get(VERIFY)["differences"] == []
            looks += 1
    finally:
        stop.set()
        worker.join()
    assert all(each == {"created", "deleted"} for each in rounds)
    clean(site)


def test_verifying_changes_neither_store_though_they_differ(pair: Pair) -> None:
    _switch, name, record = reserved(pair)
    pair.standby.nb("destroy", "dns", record)

    def stores() -> tuple[str, str]:
        ledger = sqlite3.connect(f"file:{pair.standby.daemon.state_dir}/ledger.db?mode=ro", uri=True)
        with closing(ledger):
            return pair.standby.nb("--format=json", "list", "dns"), "\n".join(ledger.iterdump())

    before = stores()
    done = pair.standby.command("verify")
    assert (done.code, name in done.stdout) == (1, True)
    assert stores() == before
    repaired(pair)


def test_a_repair_of_what_is_clean_says_nothing_and_changes_nothing(site: Site) -> None:
    switch = site.switch()
    site.reserve(switch)
    with site.nothing_written():
        assert site.command("verify", "--repair") == (0, "", "")
        assert json.loads(site.command("verify", "--repair", "-o", "json").stdout) == {
            "repaired": [], "clean": True, "total": 0, "differences": [],
        }  # fmt: skip


# ---- records ---------------------------------------------------------------------------------------------------------


def test_a_record_that_is_missing(pair: Pair) -> None:
    _switch, name, record = reserved(pair)
    pair.standby.nb("destroy", "dns", record)
    what, command = told(pair.standby, "missing")
    assert what == f"IP {name}: its record is missing"
    assert shown(pair.standby, command) == ""
    repaired(pair)
    assert name in shown(pair.standby, command)


def test_a_record_that_cannot_be_read(pair: Pair) -> None:
    _switch, name, record = reserved(pair)
    pair.standby.nb("set", "dns", record, "external_ids:ovnreserve/record=nonsense")
    what, command = told(pair.standby, "cannot be read")
    assert what == f"IP {name}: its record cannot be read"
    assert "nonsense" in shown(pair.standby, command)
    repaired(pair)


def test_a_record_that_says_something_else(pair: Pair) -> None:
    _switch, name, record = reserved(pair)
    text = pair.standby.records()[name]["external_ids"]["ovnreserve/record"]
    other = json.dumps({**json.loads(text), "mac": MAC, "node": "elsewhere"})
    pair.standby.nb("set", "dns", record, f"external_ids:ovnreserve/record={json.dumps(other)}")
    what, command = told(pair.standby, "another")
    assert what == f"IP {name}: its record has another mac, node_name"
    assert "elsewhere" in shown(pair.standby, command)
    repaired(pair)


def test_a_record_that_is_of_another_uid(pair: Pair) -> None:
    _switch, name, record = reserved(pair)
    ids = pair.standby.records()[name]["external_ids"]
    pair.standby.nb("set", "dns", record, "external_ids:ovnreserve/uid=mine", "external_ids:ovnreserve/record=x")
    what, command = told(pair.standby, "cannot be read")
    assert what == f"IP {name}: its record cannot be read"
    assert "mine" in shown(pair.standby, command)
    pair.active.daemon.resume()
    wait_until(
        lambda: any(row["external_ids"] == ids for row in pair.standby.rows("DNS")), what="the record is written again"
    )
    what, command = told(pair.active, "2 times")
    assert "mine" in shown(pair.active, command)
    pair.active.nb("destroy", "dns", record)
    repaired(pair)


def test_a_record_that_is_there_twice_is_left_to_whoever_made_it(pair: Pair) -> None:
    _switch, name, record = reserved(pair)
    ids = pair.standby.records()[name]["external_ids"]
    copy = pair.standby.nb("create", "dns", *(f"external_ids:{key}={json.dumps(ids[key])}" for key in ids)).strip()
    what, command = told(pair.standby, "2 times")
    assert what == f"IP {name}: its record is there 2 times"
    assert {record, copy} <= set(shown(pair.standby, command).replace(":", " ").split())
    pair.active.daemon.resume()
    done = pair.active.command("verify", "--repair")
    assert done.code == 1
    assert done.stdout.startswith(f"left: {what} (the daemon uses one of them; ovn-nbctl destroy dns UUID removes")
    pair.active.nb("destroy", "dns", copy)
    repaired(pair)


def test_a_record_of_nobody_that_cannot_be_read_is_left(site: Site) -> None:
    ids = {"kind": "reservation", "name": "ghost $(x) 'y'", "record": "nonsense"}
    settings = [f"external_ids:ovnreserve/{key}={json.dumps(value)}" for key, value in ids.items()]
    record = site.nb("create", "dns", *settings).strip()
    what, command = told(site, "ghost")
    assert what == f"""record {record} of "ghost $(x) 'y'": it cannot be read, and no IP has its name"""
    assert "nonsense" in shown(site, command)
    done = site.command("verify", "--repair")
    assert (done.code, done.stdout.startswith(f"left: {what} (nobody knows whose it was;")) == (1, True)
    site.nb("destroy", "dns", record)
    assert site.command("verify", "--repair") == (0, "", "")


# ---- owners and pools ------------------------------------------------------------------------------------------------

OWNER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {"replicas": 3}}
MACHINE = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "vm1", "namespace": "prod"}}
TITLES = {
    "IPPool": "IPPool pool-1",
    "StatefulSet": "StatefulSet default/web",
    "VirtualMachine": "VirtualMachine prod/vm1",
}


def pool(switch: str, *ips: str, name: str = "pool-1") -> dict[str, Any]:
    spec = {"subnet": switch, "ips": list(ips), "namespaces": ["prod"]}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}


def applied(pair: Pair, document: dict[str, Any]) -> tuple[str, str]:
    """An owner or a pool that both daemons have, with the active one paused: (its name in the records, its row)."""
    pair.active.apply(document)
    given = {"namespace": "default", **document["metadata"]}
    space = "" if document["kind"] == "IPPool" else f"{given['namespace']}/"
    name = f"{document['kind'].lower()}/{space}{given['name']}"
    wait_until(lambda: title_of(pair.standby, document), what="it follows")
    clean(pair.active)
    clean(pair.standby)
    pair.active.daemon.pause()
    [record] = [row for row in pair.standby.rows("DNS") if row["external_ids"].get("ovnreserve/name") == name]
    return name, record["_uuid"]


def title_of(site: Site, document: dict[str, Any]) -> str:
    """What `get` has of it; "" if nothing."""
    word, given = document["kind"].lower(), document["metadata"]
    return site.command("get", word, given["name"], "-n", given.get("namespace", "default"), "-o", "name").stdout


def test_owners_and_pools_are_no_difference(servers: Servers, daemon: Daemon) -> None:
    site = Site(servers, daemon, follow=True)
    switch = site.switch("10.0.0.0/8")
    for document in (OWNER, MACHINE, pool(switch, "10.64.0.0/10", "10.9.0.0..10.9.0.7")):
        assert site.apply(document).result == "created"
    clean(site)
    assert site.command("verify") == Result(0, "", "")
    site.port(switch, name="web-0.default")
    wait_until(lambda: "web-0.default" in site.records(), what="retained")
    clean(site)
    site.bulk("delete", [OWNER])
    clean(site)
    site.restart()
    clean(site)


def test_an_owner_that_is_deleted_and_applied_again_is_one_for_the_standby_too_which_keeps_it(pair: Pair) -> None:
    switch = pair.active.switch()
    pair.active.apply(OWNER)
    pair.active.port(switch, name="web-0.default")
    for site in pair:
        wait_until(lambda site=site: "web-0.default" in site.records() and title_of(site, OWNER), what="retained")
    pair.active.bulk("delete", [OWNER])
    wait_until(lambda: not title_of(pair.standby, OWNER), what="the standby follows: it is gone")
    pair.active.apply(OWNER)
    wait_until(lambda: title_of(pair.standby, OWNER), what="the standby follows: it is there again")
    clean(pair.standby)
    pair.active.daemon.kill()
    wait_until(lambda: pair.standby.client.get("/apis/ovnreserve.io/v1/status")["state"] == "active", what="taken over")
    clean(pair.standby)
    assert title_of(pair.standby, OWNER)


@pytest.mark.parametrize("document", [OWNER, MACHINE, pool("lan", "10.16.0.20..10.16.0.29")], ids=lambda d: d["kind"])
def test_a_record_of_an_owner_or_a_pool_that_is_missing_or_garbled(pair: Pair, document: dict[str, Any]) -> None:
    pair.active.switch(name="lan")
    name, record = applied(pair, document)
    title = TITLES[document["kind"]]
    pair.standby.nb("set", "dns", record, "external_ids:ovnreserve/record=nonsense")
    what, command = told(pair.standby, "cannot be read")
    assert what == f"{title}: its record cannot be read"
    assert "nonsense" in shown(pair.standby, command)
    pair.standby.nb("destroy", "dns", record)
    what, command = told(pair.standby, "missing")
    assert what == f"{title}: its record is missing"
    assert shown(pair.standby, command) == ""
    repaired(pair)
    assert name in shown(pair.standby, command)


def test_a_ledgers_file_that_lacks_an_owner_or_a_pool_is_written_again(servers: Servers, daemon: Daemon) -> None:
    site = Site(servers, daemon, follow=True)
    switch = site.switch()
    for document in (OWNER, MACHINE, pool(switch, "10.16.0.20")):
        site.apply(document)
    clean(site)
    with closing(sqlite3.connect(f"{daemon.state_dir}/ledger.db", isolation_level=None)) as db:
        db.execute("DELETE FROM fact")
    done = site.command("verify")
    assert [line.partition("  # ")[0] for line in done.stdout.splitlines()] == [
        f"{title}: it is not in the ledger's file" for title in TITLES.values()
    ]
    assert site.command("verify", "--repair").stdout.count("repaired: ") == 3
    site.restart()
    clean(site)
    assert title_of(site, MACHINE) == "virtualmachine.kubevirt.io/vm1\n"


def test_what_a_pool_keeps_and_is_not_excluded(pair: Pair) -> None:
    switch = pair.active.switch()
    applied(pair, pool(switch, "10.16.0.20..10.16.0.29"))
    pair.standby.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    port = pair.standby.port(switch, "dynamic 10.16.0.25")
    wait_until(lambda: pair.standby.dynamic_addresses(port).endswith("10.16.0.25"), what="ovn-northd gave it away")

    def both() -> list[str]:
        return [each["what"] for each in pair.standby.client.get(VERIFY)["differences"]]

    uuid = pair.standby.row("Logical_Switch", switch)["_uuid"]
    where = f"exclude_ips of logical switch {switch} ({uuid})"
    withheld = f"IPPool pool-1: 10.16.0.25 is withheld from {where}: port {port} has it"
    wait_until(
        lambda: both() == [withheld, f"{where}: 10.16.0.20, 10.16.0.21, 10.16.0.22 and 6 more are not in our part"],
        what="both are told",
    )
    pair.active.daemon.resume()
    wait_until(lambda: both() == [withheld], what="the rest is excluded")
    pair.active.nb("lsp-del", port)
    repaired(pair)


def test_a_pool_that_is_not_in_force_is_told_with_the_command_that_shows_why(site: Site) -> None:
    switch = site.switch()
    site.apply(pool(switch, "10.16.0.20..10.16.0.29"))
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.99.0.0/24")
    what, command = told(site, "outside of 10.99.0.0/24")
    assert what == f"IPPool pool-1: 10.16.0.20..10.16.0.29 is outside of 10.99.0.0/24, which subnet {switch} is now"
    assert "10.99.0.0/24" in shown(site, command)
    site.nb("ls-del", switch)
    what, command = told(site, "does not exist")
    assert what.startswith(f"IPPool pool-1: logical switch {switch} (")
    assert shown(site, command) == ""


# ---- findings --------------------------------------------------------------------------------------------------------


def test_an_address_that_two_ports_have_is_told_and_both_are_shown(site: Site) -> None:
    switch = site.switch()
    for name, mac in (("one", MAC), ("other", "0a:00:00:00:00:02")):
        site.port(switch, f"{mac} 10.16.0.77", name=name)
    what, command = told(site, "10.16.0.77")
    assert what == f"10.16.0.77 is held by logical switch ports one and other on logical switch {switch}"
    assert {"one", "other"} <= set(shown(site, command).split())
    assert site.command("verify", "--repair").stdout.startswith(f"left: {what} (what is not ours is never changed)")


def test_a_mac_prefix_that_is_ours_is_told(servers: Servers, daemon: Daemon) -> None:
    site = Site(servers, daemon)
    site.nb("set", "nb_global", ".", "options:mac_prefix=02:6f:76")
    what, command = told(site, "mac_prefix")
    assert what.startswith("NB_Global options:mac_prefix is 02:6f:76, which ovnreserve gives MACs from: ")
    assert "02:6f:76" in shown(site, command)
    site.nb("set", "nb_global", ".", 'options:mac_prefix="0a:bb:cc"')
    clean(site)


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_a_ledger_row_that_is_missing(pair: Pair) -> None:
    reserved(pair)
    row = pair.standby.nb("--bare", "--columns=_uuid", "find", "dns", "external_ids:ovnreserve/kind=ledger").strip()
    pair.standby.nb("destroy", "dns", row)
    what, command = told(pair.standby, "missing")
    assert (what, shown(pair.standby, command)) == ("the ledger row is missing", "")
    repaired(pair)


def test_a_ledger_row_with_another_revision(pair: Pair) -> None:
    reserved(pair)
    row = pair.standby.nb("--bare", "--columns=_uuid", "find", "dns", "external_ids:ovnreserve/kind=ledger").strip()
    pair.standby.nb("remove", "dns", row, "external_ids", "ovnreserve/revision")
    what, command = told(pair.standby, "revision none")
    assert what.startswith("the ledger row has revision none, the ledger ")
    assert row in shown(pair.standby, command)
    repaired(pair)


def test_a_ledger_row_that_is_there_twice_is_left_to_whoever_made_it(pair: Pair) -> None:
    reserved(pair)
    [row] = [row for row in pair.standby.rows("DNS") if row["external_ids"]["ovnreserve/kind"] == "ledger"]
    ids = row["external_ids"]
    copy = pair.standby.nb("create", "dns", *(f"external_ids:{key}={json.dumps(ids[key])}" for key in ids)).strip()
    what, command = told(pair.standby, "2 times")
    assert what == "the ledger row is there 2 times"
    assert copy in shown(pair.standby, command)
    pair.standby.nb("destroy", "dns", copy)
    repaired(pair)


GHOST = """
    INSERT INTO reservation SELECT 'ghost.default', 'u', switch, subnet, pod_name, namespace, pod_type, 1, NULL,
    '0a:00:00:00:00:02', state, created, deleted, resource_version, message, more, live, incarnation, number
    FROM reservation
"""


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE reservation SET mac = '0a:00:00:00:00:01'", "the ledger's file has another mac"),
        ("DELETE FROM reservation", "it is not in the ledger's file"),
        (GHOST, "it is in the ledger's file and nowhere else"),
    ],
)
def test_a_ledgers_file_that_says_something_else_is_written_again(site: Site, statement: str, what: str) -> None:
    answer = site.reserve(site.switch())
    clean(site)
    with closing(sqlite3.connect(f"{site.daemon.state_dir}/ledger.db", isolation_level=None)) as db:
        db.execute(statement)
    name = "ghost.default" if statement == GHOST else answer.name
    line, command = told(site, what)
    assert line == f"IP {name}: {what}"
    assert (answer.name in shown(site, command)) is (name == answer.name)
    done = site.command("verify", "--repair")
    assert done == (0, f"repaired: {line}\n", "")
    site.restart()
    clean(site)
    assert [ip["spec"]["macAddress"] for ip in site.ips()] == [answer.mac]


# ---- exclude_ips -----------------------------------------------------------------------------------------------------


def test_an_address_that_is_not_excluded(pair: Pair) -> None:
    switch, _name, _record = reserved(pair)
    pair.standby.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    uuid = pair.standby.row("Logical_Switch", switch)["_uuid"]
    what, command = told(pair.standby, "not in our part")
    assert what == f"exclude_ips of logical switch {switch} ({uuid}): 10.16.0.254 is not in our part"
    assert "10.16.0.254" not in shown(pair.standby, command)
    repaired(pair)
    assert "10.16.0.254" in shown(pair.standby, command)


def test_an_address_that_is_excluded_for_nobody(pair: Pair) -> None:
    switch, _name, _record = reserved(pair)
    ours = "10.16.0.7 10.16.0.20..10.16.0.29 10.16.0.254"
    settings = {"other_config:exclude_ips": f"{ours} 10.16.0.9", "external_ids:ovnreserve/excluded": mark(ours)}
    pair.standby.nb("set", "logical_switch", switch, *(f"{key}={json.dumps(settings[key])}" for key in settings))
    what, command = told(pair.standby, "nobody")
    assert what.endswith("10.16.0.7, 10.16.0.20, 10.16.0.21 and 8 more are in our part, and nobody has that reserved")
    assert "10.16.0.20..10.16.0.29" in shown(pair.standby, command)
    repaired(pair)
    assert pair.standby.exclude_ips(switch) == "10.16.0.254 10.16.0.9"


def test_a_mark_that_is_missing(pair: Pair) -> None:
    switch, _name, _record = reserved(pair)
    pair.standby.nb("remove", "logical_switch", switch, "external_ids", "ovnreserve/excluded")
    what, command = told(pair.standby, "not in our part")
    assert what.endswith(": 10.16.0.254 is not in our part")
    assert shown(pair.standby, command).splitlines()[1].strip('"') == ""
    repaired(pair)


def test_an_address_is_withheld_while_ovn_northds_port_has_it_and_the_repair_says_why(pair: Pair) -> None:
    switch, name, _record = reserved(pair)
    pair.standby.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    port = pair.standby.port(switch, "dynamic 10.16.0.254")
    wait_until(lambda: pair.standby.dynamic_addresses(port).endswith("10.16.0.254"), what="ovn-northd gave it away")

    wait_until(lambda: "withheld" in str(pair.standby.client.get(VERIFY)), what="it is told")
    pair.active.daemon.resume()
    done = pair.active.command("verify", "--repair")
    assert done.code == 1
    left = [line for line in done.stdout.splitlines() if "withheld" in line]
    uuid = pair.active.row("Logical_Switch", switch)["_uuid"]
    [line] = left
    start = (
        f"left: IP {name}: 10.16.0.254 is withheld from exclude_ips of logical switch {switch} ({uuid}): port {port}"
    )
    assert line.startswith(f"{start} has it (to exclude it would renumber port {port};")
    assert "10.16.0.254" not in shown(pair.active, line.partition("  # ")[2])
    assert [line for line in done.stdout.splitlines() if f"also held by logical switch port {port}" in line]
    assert pair.active.dynamic_addresses(port).endswith("10.16.0.254"), "the running port was not renumbered"
    pair.active.nb("lsp-del", port)
    repaired(pair)


def test_what_the_operator_wrote_and_ovn_northd_does_not_read_is_told_and_left(site: Site) -> None:
    switch = site.switch(exclude_ips="10.16.0.5 - 10.16.0.9")
    site.reserve(switch)
    what, command = told(site, "cannot read")
    assert 'ignores all of it from there on: "- 10.16.0.9" (Syntax error at `-\'' in what
    assert "10.16.0.5 - 10.16.0.9" in shown(site, command)
    done = site.command("verify", "--repair")
    assert (done.code, done.stdout) == (1, f"left: {what} (what is not ours is never changed)  # {command}\n")


# ---- ports and other holders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "columns", "why"),
    [
        (f"{MAC} 10.16.0.77", {}, "has addresses"),
        ("dynamic", {"external_ids": "pod=default/another"}, "has external_ids:pod"),
        ("router", {"type": "router"}, "is of type router"),
    ],
)
def test_a_port_that_cannot_use_the_ip_is_told_and_left(
    site: Site, addresses: str, columns: dict[str, str], why: str
) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.port(switch, addresses, name=answer.name, **columns)
    what, command = told(site, f"IP {answer.name}: not bound: port {answer.name} ")
    assert why in what
    assert answer.name in shown(site, command)
    before = site.row("Logical_Switch_Port", answer.name)
    done = site.command("verify", "--repair")
    assert (done.code, done.stdout.startswith(f"left: {what} (")) == (1, True)
    assert site.row("Logical_Switch_Port", answer.name)["addresses"] == before["addresses"]
    site.nb("lsp-del", answer.name)
    clean(site)


def test_a_port_that_is_not_given_its_addresses_yet(pair: Pair) -> None:
    switch, name, _record = reserved(pair)
    pair.standby.port(switch, "dynamic", name=name)
    what, command = told(pair.standby, "not bound")
    assert "is being given" in what
    assert "dynamic" in shown(pair.standby, command)
    repaired(pair)


def test_another_port_that_has_the_address_or_the_mac(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    port = site.port(switch, f"{MAC} {answer.v4}", name="squatter")
    what, command = told(site, "squatter")
    taken = f"{answer.v4} is also held by logical switch port squatter"
    assert what == f"IP {answer.name}: {taken} on logical switch {switch}"
    assert answer.v4 in shown(site, command)
    site.nb("lsp-set-addresses", port, f"{answer.mac} 10.16.0.9")
    what, command = told(site, "MAC")
    assert answer.mac in shown(site, command)
    assert site.command("verify", "--repair").code == 1


def hold_by_router_port(site: Site, switch: str, address: str) -> None:
    site.router(switch, f"{address}/24")


def hold_by_nat(site: Site, switch: str, address: str) -> None:
    router = site.router(switch, "10.16.0.1/24")
    site.nb("lr-nat-add", router, "snat", address, "192.168.0.0/24")


def hold_by_load_balancer(site: Site, switch: str, address: str) -> None:
    site.nb("lb-add", "web", f"{address}:80", "10.16.0.9:80")
    site.nb("ls-lb-add", switch, "web")


@pytest.mark.parametrize("hold", [hold_by_router_port, hold_by_nat, hold_by_load_balancer])
def test_whatever_else_has_the_address_is_told_and_shown(site: Site, hold: Callable[[Site, str, str], None]) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    hold(site, switch, answer.v4)
    what, command = told(site, "also held by")
    assert what.startswith(f"IP {answer.name}: {answer.v4} is also held by ")
    assert answer.v4 in shown(site, command)


def test_a_subnet_that_is_gone_or_another_network_now(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.99.0.0/24")
    what, command = told(site, "outside of 10.99.0.0/24")
    assert what == f"IP {answer.name}: {answer.v4} is outside of 10.99.0.0/24, which subnet {switch} is now"
    assert "10.99.0.0/24" in shown(site, command)
    site.nb("ls-del", switch)
    what, command = told(site, "does not exist")
    assert what.startswith(f"IP {answer.name}: logical switch {switch} (")
    assert shown(site, command) == ""
    assert "is kept, and written again once the subnet is back" in site.command("verify", "--repair").stdout


# ---- who may repair --------------------------------------------------------------------------------------------------


def test_a_standby_repairs_nothing_and_names_the_active_daemon(pair: Pair) -> None:
    pair.active.reserve(pair.active.switch())
    clean(pair.standby)
    done = pair.standby.command("verify", "--repair")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error from server (ServiceUnavailable): this ovnreserved is standby; ")
    assert f"(pid {pair.active.daemon.pid}, {pair.active.daemon.run_dir}/ovnreserved.sock) wrote last" in done.stderr


def test_while_the_database_is_away_there_is_nothing_to_compare(servers: Servers, daemon: Daemon) -> None:
    site = Site(servers, daemon)
    servers.nb_server.kill()
    wait_until(lambda: site.client.get("/apis/ovnreserve.io/v1/status")["state"] == "disconnected")
    for arguments in ((), ("--repair",)):
        done = site.command("verify", *arguments)
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error from server (ServiceUnavailable): ")
