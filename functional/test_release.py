"""Release: an IP is deleted in two transactions with ovn-northd's answer between them, and nothing of others goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX, Site
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from sites import Answer

    from ovnreserve.sandbox import Daemon, Servers

OPERATORS = [
    "10.16.0.5",
    "10.16.0.3 10.16.0.5..10.16.0.9",
    "  10.16.0.5 // the printers\n10.16.0.9 .. 10.16.0.12 ",
    "/* by hand */ 10.16.0.5\t10.16.0.300 10.16.0.7",
    "..10.16.0.9",
    "\n",
]


def delete(site: Site, name: str, query: str = "") -> dict[str, Any]:
    """Ask for it; it is going when this returns, not gone."""
    return site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{name}{query}")


def gone(site: Site, name: str, timeout: float = 10) -> None:
    wait_until(lambda: site.ip(name) is None, timeout, what=f"{name} is gone")


def marked(site: Site, name: str) -> bool:
    """Does its record say that it is being released?"""
    record = site.records().get(name)
    return record is not None and "deleted" in json.loads(record["external_ids"]["ovnreserve/record"])


def bound(site: Site, switch: str, *, pod: str = "") -> Answer:
    """A reservation on the switch whose port is there and bound."""
    answer = site.reserve(switch, pod)
    site.port(switch, "dynamic", name=answer.name)
    wait_until(lambda: site.condition(answer.name, "Bound")["status"] == "True", what=f"{answer.name} bound")
    return answer


def ports(site: Site) -> set[str]:
    return {row["name"] for row in site.rows("Logical_Switch_Port")}


def index(transactions: list[dict[str, Any]], condition: Callable[[dict[str, Any]], bool], start: int = 0) -> int:
    """The first transaction from `start` on that is like that."""
    return next(i for i in range(start, len(transactions)) if condition(transactions[i]))


def global_of(transaction: dict[str, Any], column: str) -> int:
    rows = transaction.get("NB_Global", {}).values()
    return max((row.get(column, 0) for row in rows), default=0)


# ---- two transactions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [None, PREFIX])
def test_the_port_goes_first_and_the_address_only_after_northd_has_seen_that(site: Site, prefix: str | None) -> None:
    switch = site.switch(ipv6_prefix=prefix)
    answer = bound(site, switch)
    port = site.row("Logical_Switch_Port", answer.name)["_uuid"]
    record = site.records()[answer.name]["_uuid"]
    switch_row = site.row("Logical_Switch", switch)["_uuid"]
    start = len(site.transactions())
    site.release(answer.name)

    log = site.transactions()
    first = index(log, lambda t: port in t.get("Logical_Switch_Port", {}), start)
    second = index(log, lambda t: t.get("DNS", {}).get(record, "") is None, start)
    assert log[first]["Logical_Switch_Port"][port] is None
    assert log[first]["_comment"] == f"ovnreserve: release {answer.name}"
    assert "deleted" in json.dumps(log[first]["DNS"][record])
    assert "other_config" not in log[first]["Logical_Switch"][switch_row]  # the address is still excluded
    barrier = global_of(log[first], "nb_cfg")
    assert barrier
    assert first < index(log, lambda t: global_of(t, "sb_cfg") >= barrier, start) < second
    assert "exclude_ips" in json.dumps(log[second]["Logical_Switch"][switch_row]["other_config"])  # a difference
    assert site.exclude_ips(switch) is None
    assert answer.name not in ports(site) | site.records().keys()


def test_while_it_goes_it_shows_as_releasing_with_a_time_and_a_finalizer(site: Site) -> None:
    switch = site.switch()
    answer = bound(site, switch)
    with site.northd_paused():
        shown = delete(site, answer.name)
        assert shown["metadata"]["deletionTimestamp"]
        ip = site.ip(answer.name)
        assert ip is not None
        assert ip["metadata"]["finalizers"] == ["ovnreserve/release"]
        assert ip["metadata"]["deletionTimestamp"] == shown["metadata"]["deletionTimestamp"]
        assert ip["status"]["phase"] == "Releasing"
        assert answer.name not in ports(site)
        assert site.exclude_ips(switch) == answer.v4
        again = delete(site, answer.name)
        assert again["metadata"]["deletionTimestamp"] == shown["metadata"]["deletionTimestamp"]
        [refused] = site.bulk("apply", [site.document(switch, answer.name.partition(".")[0])])
        assert refused.code == 409
        assert "being deleted" in refused.message
    gone(site, answer.name)


def test_the_journal_keeps_the_history_of_what_was_released(site: Site) -> None:
    answer = bound(site, site.switch())
    site.release(answer.name)
    wait_until(lambda: site.events(answer.name)[-1][0] == "Released", what="the journal is written")
    reasons = [reason for reason, _message in site.events(answer.name)]
    assert [reason for reason in reasons if reason != "Binding"] == [
        "Reserved", "Releasing", "PortDeleted", "Released",
    ]  # fmt: skip


def test_many_released_at_once_go_in_two_transactions(site: Site) -> None:
    switch = site.switch()
    answers = site.bulk("apply", [site.document(switch) for _ in range(100)])
    before = len(site.ours())
    deleted = site.bulk("delete", [{"kind": "IP", "metadata": {"name": answer.name}} for answer in answers])
    assert {answer.result for answer in deleted} == {"deleted"}
    wait_until(lambda: not site.ips(), what="all are gone")
    assert len(site.ours()) == before + 2
    assert site.exclude_ips(switch) is None


def test_a_released_name_can_be_reserved_again(site: Site) -> None:
    switch = site.switch()
    first = site.reserve(switch, "pod-a", v4IpAddress="10.16.0.9")
    site.release(first.name)
    second = site.reserve(switch, "pod-a", v4IpAddress="10.16.0.9")
    assert second.result == "created"
    assert second.ip["metadata"]["uid"] != first.ip["metadata"]["uid"]
    assert site.exclude_ips(switch) == "10.16.0.9"


def test_created_labelled_and_deleted_in_one_breath_leaves_nothing(site: Site) -> None:
    """Requests that meet in one batch work on one record."""
    switch = site.switch()
    document = site.document(switch, "pod-a")
    labelled = {**document, "metadata": {**document["metadata"], "labels": {"app": "web"}}}
    with site.northd_paused():
        created, changed = site.bulk("apply", [document, labelled])
        assert (created.result, changed.result) == ("created", "configured")
        rows = json.loads(site.nb("--format=json", "find", "dns", "external_ids:ovnreserve/kind=reservation"))["data"]
        assert len(rows) == 1
    site.release(created.name)
    assert site.records() == {}
    assert site.exclude_ips(switch) is None


# ---- ports of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [{"pod": "default/somebody-else"}, {"namespace": "elsewhere"}, {"ovnreserve/pod-type": "VirtualMachine"}],
)
def test_a_port_that_says_it_is_somebody_else_s_is_not_deleted(site: Site, said: dict[str, str]) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    ids = {f"external_ids:{key}": f'"{value}"' for key, value in said.items()}
    site.port(switch, "dynamic", name=answer.name, **ids)
    site.release(answer.name)
    wait_until(lambda: "PortNotOurs" in dict(site.events(answer.name)), what="an event")
    assert all(value in dict(site.events(answer.name))["PortNotOurs"] for value in said.values())
    assert answer.name in ports(site)
    assert site.exclude_ips(switch) is None


def test_a_port_of_that_name_on_another_switch_is_not_deleted(site: Site) -> None:
    switch, other = site.switch(), site.switch("10.17.0.0/24")
    answer = site.reserve(switch)
    site.port(other, "dynamic", name=answer.name)
    site.release(answer.name)
    wait_until(lambda: "PortNotOurs" in dict(site.events(answer.name)), what="an event")
    assert other in dict(site.events(answer.name))["PortNotOurs"]
    assert answer.name in ports(site)


def test_a_port_with_other_addresses_but_the_right_identity_is_deleted(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.port(switch, "0a:00:00:00:00:77 10.16.0.77", name=answer.name)
    site.release(answer.name)
    assert answer.name not in ports(site)


def test_a_squatter_is_not_deleted(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.port(switch, f"0a:00:00:00:00:77 {answer.v4}", name="squatter")
    site.release(answer.name)
    assert ports(site) == {"squatter"}


def test_the_port_of_another_provider_s_subnet_is_found_under_its_longer_name(site: Site) -> None:
    switch = site.switch(external_ids={"ovnreserve/provider": "net1.default.ovn"})
    answer = site.reserve(switch, "pod-a", name="pod-a.default.net1.default.ovn")
    other = site.switch("10.17.0.0/24")
    site.port(switch, "dynamic", name=answer.name)
    site.port(other, "dynamic", name="pod-a.default")
    site.release(answer.name)
    assert ports(site) == {"pod-a.default"}


def test_a_port_that_changes_while_it_is_released_is_deleted_all_the_same(site: Site) -> None:
    switch = site.switch()
    answer = bound(site, switch)
    site.nb("lsp-set-addresses", answer.name, "dynamic", "--", "set", "logical_switch_port", answer.name, "up=true")
    site.release(answer.name)
    assert ports(site) == set()


# ---- what is missing -----------------------------------------------------------------------------------------------


def test_a_missing_port_is_no_error(site: Site) -> None:
    switch = site.switch()
    answer = bound(site, switch)
    site.nb("lsp-del", answer.name)
    site.release(answer.name)
    assert site.exclude_ips(switch) is None


def test_a_missing_switch_is_no_error(site: Site) -> None:
    switch = site.switch()
    answer = bound(site, switch)
    site.nb("ls-del", switch)
    site.release(answer.name)
    assert site.records() == {}


def test_a_missing_record_is_no_error(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    with site.northd_paused():
        delete(site, answer.name)
        site.nb("--all", "destroy", "dns")
    gone(site, answer.name)
    assert site.exclude_ips(switch) is None


def test_what_does_not_exist_is_not_found(site: Site) -> None:
    [refused] = site.bulk("delete", [{"kind": "IP", "metadata": {"name": "nobody.default"}}])
    assert refused.code == 404


# ---- ovn-northd does not answer ------------------------------------------------------------------------------------


def test_a_release_does_not_wait_for_northd_for_ever(site: Site) -> None:
    switch = site.switch()
    answer = bound(site, switch)
    with site.northd_paused():
        delete(site, answer.name)
        gone(site, answer.name)
        wait_until(lambda: site.events(answer.name)[-1][0] == "Released", what="the journal is written")
        reasons = [reason for reason, _message in site.events(answer.name)]
        assert reasons[-4:] == ["Releasing", "PortDeleted", "BarrierTimeout", "Released"]
        assert site.exclude_ips(switch) is None
        assert site.records() == {}


# ---- killed between the two ----------------------------------------------------------------------------------------


def test_a_release_that_was_begun_is_finished_by_the_next_daemon(site: Site) -> None:
    switch = site.switch(exclude_ips="10.16.0.2")
    answer = bound(site, switch)
    with site.northd_paused():
        delete(site, answer.name)
        site.daemon.kill()
        site.client.close()
        assert marked(site, answer.name)
        assert site.exclude_ips(switch) == f"{answer.v4} 10.16.0.2"
    site.daemon.start()
    gone(site, answer.name)
    assert site.exclude_ips(switch) == "10.16.0.2"
    assert site.records() == {}
    wait_until(lambda: site.events(answer.name)[-1][0] == "Released", what="the journal is written")


def test_a_release_that_was_begun_is_finished_by_a_daemon_without_its_ledger(servers: Servers, daemon: Daemon) -> None:
    site = Site(servers, daemon)
    switch = site.switch()
    answer = bound(site, switch)
    with site.northd_paused():
        delete(site, answer.name)
        site.daemon.kill()
        site.client.close()
    for file in site.daemon.state_dir.iterdir():
        file.unlink()
    site.daemon.start()
    gone(site, answer.name)
    assert site.exclude_ips(switch) is None
    assert site.records() == {}


# ---- the operator's tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", OPERATORS)
def test_the_operator_s_text_is_untouched_to_the_letter(site: Site, theirs: str) -> None:
    switch = site.switch(exclude_ips=theirs)
    answers = [site.reserve(switch, v4IpAddress=f"10.16.0.{host}") for host in (3, 20, 22, 21)]
    assert [answer.result for answer in answers] == ["created"] * 4
    during = site.exclude_ips(switch)
    assert during is not None
    assert during.startswith("10.16.0.3 10.16.0.20..10.16.0.22 ")
    assert during.endswith(" " + theirs)
    for answer in answers:
        site.release(answer.name)
        left = site.exclude_ips(switch)
        assert left is not None
        assert left.endswith(theirs)
    assert site.exclude_ips(switch) == theirs


def test_what_the_operator_adds_meanwhile_stays(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch, v4IpAddress="10.16.0.9")
    site.nb("set", "logical_switch", switch, 'other_config:exclude_ips="10.16.0.9 10.16.0.30 // mine"')
    site.release(answer.name)
    assert site.exclude_ips(switch) == "10.16.0.30 // mine"


def test_an_address_that_both_name_stays_the_operator_s(site: Site) -> None:
    switch = site.switch("10.16.0.0/29", exclude_ips="10.16.0.2..10.16.0.3")
    answer = site.reserve(switch, v4IpAddress="10.16.0.2")
    assert site.exclude_ips(switch) == "10.16.0.2 10.16.0.2..10.16.0.3"
    site.release(answer.name)
    assert site.exclude_ips(switch) == "10.16.0.2..10.16.0.3"
    site.port(switch, name="next")
    assert site.dynamic_addresses("next").endswith(" 10.16.0.4")


def test_a_released_address_can_be_had_again_by_anybody(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch, v4IpAddress="10.16.0.2")
    site.port(switch, name="before")
    site.release(answer.name)
    site.port(switch, name="after")
    assert site.dynamic_addresses("before").endswith(" 10.16.0.3")
    assert site.dynamic_addresses("after").endswith(" 10.16.0.2")


def test_nothing_else_of_the_switch_is_touched(site: Site) -> None:
    switch = site.switch(NETWORK, external_ids={"vendor": "somebody"}, mcast_snoop="true")
    before = site.row("Logical_Switch", switch)
    answer = bound(site, switch)
    site.release(answer.name)
    assert site.row("Logical_Switch", switch) == before
