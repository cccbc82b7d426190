"""The topology changes under what is reserved: nothing is lost, and its conditions follow."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from sites import Raw, Site
from support import wait_until

if TYPE_CHECKING:
    from ovnreserve.sandbox import Daemon, Servers


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
    assert own.records() == {}
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


def test_conditions_follow_the_switch(site: Site) -> None:
    switch = site.switch()
    name = site.reserve(switch, wait="sb").name
    told(site, name, "Enforced", "True", "Seen")
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.17.0.0/24")
    told(site, name, "Reserved", "False", "OutsideSubnet")
    told(site, name, "Enforced", "False", "NotEnforceable")
    site.nb("remove", "logical_switch", switch, "other_config", "subnet")
    told(site, name, "Reserved", "True", "Reserved")
    told(site, name, "Enforced", "False", "NotEnforceable")
    site.nb("ls-del", switch)
    told(site, name, "Reserved", "False", "SubnetMissing")
    expected = {"OutsideSubnet", "SubnetMissing"}
    wait_until(lambda: expected <= {reason for reason, _message in site.events(name)}, what="both are in the journal")


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
