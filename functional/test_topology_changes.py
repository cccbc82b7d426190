"""The topology changes under what is reserved: nothing is lost, and its conditions follow."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, Raw, Site
from stores import listening
from support import wait_until

from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped and killed."""
    return Site(servers, daemon)


def told(site: Site, name: str, type_: str, status: str, reason: str) -> None:
    """The condition comes to this."""

    def is_so() -> bool:
        found = site.condition(name, type_)
        return (found["status"], found["reason"]) == (status, reason)

    wait_until(is_so, what=f"{type_}={status} {reason}")


def test_an_empty_database_for_a_while_destroys_nothing(own: Site) -> None:
    """Somebody starts the server on an empty file, sees it, and puts the right one back."""
    switch = own.switch(exclude_ips="10.16.0.5 // theirs")
    answers = [own.reserve(switch) for _ in range(3)]
    excluded, records = own.exclude_ips(switch), own.records()
    database = own.servers.run_dir / "ovnnb_db.db"
    saved = database.with_suffix(".saved")
    own.servers.nb_server.kill()
    database.rename(saved)
    own.servers._create("ovnnb", "ovn-nb.ovsschema")
    own.servers.nb_server.start()
    for answer in answers:
        told(own, answer.name, "Reserved", "False", "SubnetMissing")
    assert {own.ip(answer.name)["status"]["phase"] for answer in answers} == {"Pending"}
    wait_until(lambda: status(own)["state"] == "foreign", what="it is taken for another cloud's")
    assert own.records() == {}
    assert own.rows("DNS") == []
    own.servers.nb_server.kill()
    shutil.move(saved, database)
    own.servers.nb_server.start()
    for answer in answers:
        told(own, answer.name, "Reserved", "True", "Reserved")
    assert (own.exclude_ips(switch), own.records().keys()) == (excluded, records.keys())
    assert own.reserve(switch).result == "created"
    assert len(own.records()) == 4


def test_a_switch_that_goes_and_comes_back_has_everything_written_again(own: Site) -> None:
    switch = own.switch()
    answer = own.reserve(switch)
    row = own.row("Logical_Switch", switch)["_uuid"]
    own.nb("ls-del", switch, "--", "--all", "destroy", "dns")
    told(own, answer.name, "Reserved", "False", "SubnetMissing")
    assert own.records() == {}
    insert = {"op": "insert", "table": "Logical_Switch", "uuid": row, "row": {"name": switch}}
    insert["row"]["other_config"] = ["map", [["subnet", "10.16.0.0/24"]]]
    with Raw(own.servers) as raw:
        raw.transact(insert)
    told(own, answer.name, "Reserved", "True", "Reserved")
    wait_until(lambda: own.exclude_ips(switch) == answer.v4, what="excluded again")
    wait_until(lambda: answer.name in own.records(), what="recorded again")


# ---- a switch made anew under its name -------------------------------------------------------------------------------


def test_what_still_fits_moves_to_a_switch_made_anew_under_the_name_and_the_rest_fails(own: Site) -> None:
    """Nobody is renumbered by that: who got one of the addresses there first keeps it."""
    switch = own.switch("10.16.0.0/24", exclude_ips="10.16.0.99")
    kept = [own.reserve(switch, v4IpAddress=f"10.16.0.{host}") for host in (2, 3, 40)]
    lost = own.reserve(switch, v4IpAddress="10.16.0.200")
    labelled = own.command("delete", "ip", own.reserve(switch).name)
    assert labelled.code == 0
    own.nb("ls-del", switch)
    told(own, kept[0].name, "Reserved", "False", "SubnetMissing")
    own.nb("ls-add", switch, "--", "set", "logical_switch", switch, "other_config:subnet=10.16.0.0/26",
           "--", "lsp-add", switch, "lucky", "--", "lsp-set-addresses", "lucky", "dynamic",
           "--", "lsp-add", switch, kept[2].name, "--", "lsp-set-addresses", kept[2].name, "dynamic 10.16.0.40",
           )  # fmt: skip
    for answer in kept:
        told(own, answer.name, "Reserved", "True", "Reserved")
    uuid = own.row("Logical_Switch", switch)["_uuid"]
    wait_until(lambda: own.addresses(kept[2].name) == {kept[2].addresses}, what="bound to what it had")
    own.nb("--wait=sb", "sync")
    lucky = own.dynamic_addresses("lucky").split()[-1]
    withheld = lucky in (answer.v4 for answer in kept)
    expected = [answer.v4 for answer in kept if answer.v4 != lucky]
    wait_until(
        lambda: (own.exclude_ips(switch) or "").replace("..", " ").split() == expected, what="what fits is excluded"
    )
    assert own.dynamic_addresses("lucky").split()[-1] == lucky
    for answer in kept:
        assert own.records()[answer.name]["external_ids"]["ovnreserve/switch"] == uuid
        assert own.ip(answer.name)["metadata"]["uid"] == answer.ip["metadata"]["uid"]
        expected_status = "True" if withheld and answer.v4 == lucky else "False"
        wait_until(
            lambda name=answer.name, status=expected_status: own.condition(name, "Conflicted")["status"] == status,
            what="Conflicted says so",
        )
    told(own, lost.name, "Reserved", "False", "Failed")
    assert "10.16.0.200 is no host of 10.16.0.0/26" in own.condition(lost.name, "Reserved")["message"]
    assert dict(own.events(kept[0].name))["Rehomed"]


def test_a_switch_made_anew_while_the_daemon_was_down_is_found_and_its_standby_follows(
    own: Site, tmp_path: Path
) -> None:
    switch = own.switch()
    answers = [own.reserve(switch) for _ in range(3)]
    other = own.reserve(own.switch())  # the database is known by this one's switch
    own.daemon.kill()
    own.nb("ls-del", switch, "--", "ls-add", switch, "--", "set", "logical_switch", switch,
           "other_config:subnet=10.16.0.0/24")  # fmt: skip
    own.client.close()
    own.daemon.start()
    with Daemon(own.servers, tmp_path / "second", run_dir=own.servers.run_dir / "second") as second:
        standby = Site(own.servers, second)
        for site in (own, standby):
            for answer in (*answers, other):
                told(site, answer.name, "Reserved", "True", "Reserved")
    wait_until(lambda: own.exclude_ips(switch) == f"{answers[2].v4}..{answers[0].v4}", what="excluded there")


def test_while_several_switches_have_the_name_nothing_moves(site: Site) -> None:
    switch = site.switch()
    name = site.reserve(switch).name
    with Raw(site.servers) as raw:
        config = ["map", [["subnet", "10.16.0.0/24"]]]
        where = [["name", "==", switch]]
        twice = [{"op": "insert", "table": "Logical_Switch", "row": {"name": switch, "other_config": config}}] * 2
        raw.transact({"op": "delete", "table": "Logical_Switch", "where": where}, *twice)
        told(site, name, "Reserved", "False", "SubnetMissing")
        one = site.rows("Logical_Switch")[0]["_uuid"]
        raw.transact({"op": "delete", "table": "Logical_Switch", "where": [["_uuid", "==", ["uuid", one]]]})
    site.nb("ls-add", "another")  # a switch that comes makes it look again
    told(site, name, "Reserved", "True", "Reserved")


# ---- another cloud's database ----------------------------------------------------------------------------------------


def status(site: Site) -> dict[str, Any]:
    return site.client.get("/apis/ovnreserve.io/v1/status")


def test_a_database_of_another_cloud_gets_nothing_until_it_is_adopted(own: Site, tmp_path: Path) -> None:
    with Servers() as others:
        other = Site(others, Daemon(others, tmp_path / "others"))
        with other.daemon:
            theirs = other.reserve(other.switch(name="net"), "theirs")
            with other.northd_paused():
                mine = own.reserve(own.switch(name="net"))
                late = own.reserve(own.switch("10.17.0.0/24", name="late"))
                own.daemon.stop()
                before = other.servers.nbctl("list", "dns")
                stray = Daemon(others, own.daemon.state_dir, run_dir=others.run_dir / "stray")
                stray.start(wait=False)
                lost = Site(others, stray)
                listening(stray)
                wait_until(lambda: status(lost)["state"] == "foreign", what="it refuses")
                assert "--adopt-database" in status(lost)["database"]["problem"]
                refused = lost.reserve("net")
                assert refused.code == 503
                assert "seems to be another cloud's database" in refused.message
                assert {ip["metadata"]["name"] for ip in lost.ips()} == {mine.name, late.name}
                assert other.servers.nbctl("list", "dns") == before
        # The lock was left to those whose it is; now there is nobody, and still nothing is written.
        assert other.servers.nbctl("list", "dns") == before
        stray.stop()
        adopting = Daemon(others, own.daemon.state_dir, "--adopt-database", run_dir=others.run_dir / "stray")
        with adopting:
            lost = Site(others, adopting)
            wait_until(lambda: mine.name in lost.records(), what="published")
            assert theirs.name in lost.records()  # both sides of what is now a fork stay
            told(lost, late.name, "Reserved", "False", "SubnetMissing")
        with Daemon(others, own.daemon.state_dir, run_dir=others.run_dir / "stray") as again:
            assert status(Site(others, again))["state"] == "active"  # once is enough


def test_the_ledger_row_is_right_once_a_switch_is_made_anew_that_a_restored_database_lacked(own: Site) -> None:
    own.reserve(own.switch())
    database = own.servers.run_dir / "ovnnb_db.db"
    yesterday = database.with_suffix(".yesterday")
    shutil.copy(database, yesterday)
    made = own.reserve(own.switch("10.17.0.0/24", name="late"))
    own.servers.nb_server.stop()
    shutil.copy(yesterday, database)
    own.servers.nb_server.start()
    told(own, made.name, "Reserved", "False", "SubnetMissing")
    own.switch("10.17.0.0/24", name="late")
    told(own, made.name, "Reserved", "True", "Reserved")
    wait_until(lambda: own.command("verify").code == 0, what="nothing differs")


def test_conditions_follow_the_switch(site: Site) -> None:
    switch = site.switch()
    name = site.reserve(switch, wait="sb").name
    told(site, name, "Enforced", "True", "Seen")
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.17.0.0/24")
    told(site, name, "Reserved", "False", "OutsideSubnet")
    told(site, name, "Enforced", "False", "NotEnforceable")
    site.nb("remove", "logical_switch", switch, "other_config", "subnet")
    wait_until(lambda: "every network" in site.condition(name, "Reserved")["message"], what="it says so")
    told(site, name, "Reserved", "False", "OutsideSubnet")
    told(site, name, "Enforced", "False", "NotEnforceable")
    site.nb("set", "logical_switch", switch, f"other_config:subnet={NETWORK}")
    told(site, name, "Reserved", "True", "Reserved")
    site.nb("ls-del", switch)
    told(site, name, "Reserved", "False", "SubnetMissing")
    expected = {"OutsideSubnet", "SubnetMissing"}
    wait_until(lambda: expected <= {reason for reason, _message in site.events(name)}, what="both are in the journal")


def test_a_subnet_is_gone_with_its_switch(site: Site) -> None:
    switch = site.switch()
    site.port(switch)
    wait_until(lambda: site.subnet(switch)["status"]["v4usingIPs"] == 1, what="the port is counted")
    site.nb("ls-del", switch)
    wait_until(lambda: not site.client.get("/apis/kubeovn.io/v1/subnets")["items"], what="gone")


def test_a_subnet_is_gone_also_when_its_router_goes_in_the_same_transaction(site: Site) -> None:
    switch = site.switch()
    router = site.router(switch, "10.16.0.1/24")
    wait_until(lambda: site.subnet(switch)["status"]["v4usingIPs"] == 1, what="the router is counted")
    site.nb("ls-del", switch, "--", "lr-del", router)
    wait_until(lambda: not site.client.get("/apis/kubeovn.io/v1/subnets")["items"], what="gone")


def test_a_router_and_nat_that_come_to_a_reserved_address_are_conflicts(site: Site) -> None:
    switch = site.switch()
    first, second = (site.reserve(switch) for _ in range(2))
    router = site.router(switch, f"{first.v4}/24")
    told(site, first.name, "Conflicted", "True", "AddressTaken")
    assert "logical router port" in site.condition(first.name, "Conflicted")["message"]
    assert site.condition(second.name, "Conflicted")["status"] == "False"
    site.nb("lr-nat-add", router, "snat", second.v4, "192.168.0.0/24")
    told(site, second.name, "Conflicted", "True", "AddressTaken")
    site.nb("lr-nat-del", router)
    told(site, second.name, "Conflicted", "False", "NoConflict")
    site.nb("lr-del", router)
    told(site, first.name, "Conflicted", "False", "NoConflict")


def test_a_repair_is_told_under_the_name_of_the_switch(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.nb("set", "logical_switch", switch, "other_config:exclude_ips=10.16.0.9")
    wait_until(lambda: answer.v4 in (site.exclude_ips(switch) or ""), what="repaired")
    wait_until(lambda: site.events(switch), what="journalled")
    [(reason, message)] = site.events(switch)
    assert reason == "Repaired"
    assert 'was "10.16.0.9": our part is written again' in message
