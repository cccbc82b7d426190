"""Which addresses are free, and why one is not: asked of real servers, answered also while they are away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sites import NETWORK, PREFIX, TOP, Site
from support import ovnreserve, wait_until
from test_restart import state

from ovnreserve.cli.errors import StatusError
from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from pathlib import Path

    from ovnreserve.sandbox import Servers

SUGGEST = "/apis/ovnreserve.io/v1/suggest"
MAC = "0a:00:00:00:00:01"


def explained(site: Site, switch: str, address: str) -> tuple[int, list[str]]:
    done = site.command("suggest", "--subnet", switch, "--explain", address)
    assert done.stderr == ""
    return done.code, done.stdout.splitlines()


def test_what_is_suggested_is_what_is_reserved_next(site: Site) -> None:
    switch = site.switch(NETWORK, PREFIX, external_ids={"ovnreserve/auto": "10.16.0.20..10.16.0.90"})
    site.port(switch, f"{MAC} 10.16.0.90")
    site.reserve(switch, v4IpAddress="10.16.0.88")
    done = site.command("suggest", "--subnet", switch, "-n", "3")
    assert (done.code, done.stdout, done.stderr) == (0, "10.16.0.89\n10.16.0.87\n10.16.0.86\n", "")
    assert site.command("suggest", f"--subnet={switch}", "--family=6").stdout == f"{TOP}\n".replace("7f", "7e")
    run = site.command("suggest", "--subnet", switch, "-n", "3", "--contiguous")
    assert run.stdout == "10.16.0.87\n10.16.0.86\n10.16.0.85\n"
    assert [site.reserve(switch).v4 for _ in range(3)] == ["10.16.0.89", "10.16.0.87", "10.16.0.86"]


def test_nothing_is_written_by_asking(site: Site) -> None:
    switch = site.switch()
    with site.nothing_written():
        assert site.command("suggest", "--subnet", switch, "-n", "253").stdout.count("\n") == 253
        assert explained(site, switch, "10.16.0.9") == (0, ["10.16.0.9 is free"])


def test_where_there_are_fewer_they_are_named_and_the_exit_status_says_so(site: Site) -> None:
    switch = site.switch("10.16.0.0/29")
    site.port(switch, f"{MAC} 10.16.0.5")
    done = site.command("suggest", "--subnet", switch, "-n", "9")
    assert (done.code, done.stdout.split()) == (1, ["10.16.0.6", "10.16.0.4", "10.16.0.3", "10.16.0.2"])
    assert done.stderr == f"error: only 4 of 9 IPv4 addresses are free on subnet {switch}\n"
    done = site.command("suggest", "--subnet", switch, "-n", "4", "--contiguous")
    assert (done.code, done.stdout.split()) == (1, ["10.16.0.4", "10.16.0.3", "10.16.0.2"])
    assert done.stderr == f"error: only 3 of 4 IPv4 addresses are free on subnet {switch} in one run\n"
    site.nb("set", "logical_switch", switch, "other_config:exclude_ips=10.16.0.1..10.16.0.6")
    done = site.command("suggest", "--subnet", switch)
    assert done == (1, "", f"error: no IPv4 address is free on subnet {switch}\n")


def test_what_a_pool_has_is_not_suggested_and_its_owner_named(site: Site) -> None:
    switch = site.switch("10.16.0.0/29")
    spec = {"subnet": switch, "ips": ["10.16.0.5..10.16.0.6"], "namespaces": ["prod"]}
    site.apply({"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": "pool-1"}, "spec": spec})
    assert site.command("suggest", "--subnet", switch).stdout == "10.16.0.4\n"
    refusal = "of IPPool pool-1, which is for namespace prod"
    assert explained(site, switch, "10.16.0.6") == (
        1,
        [
            "10.16.0.6 is in IPPool pool-1, for namespace prod",
            f"10.16.0.6 may not be given (spec.v4IpAddress): {refusal}",
        ],
    )
    assert site.reserve(switch, v4IpAddress="10.16.0.6").causes == {"spec.v4IpAddress": f"10.16.0.6 is {refusal}"}
    assert site.reserve(switch, namespace="prod", v4IpAddress="10.16.0.6").result == "created"



def test_what_is_in_quarantine_comes_last_and_is_marked(site: Site) -> None:
    switch = site.switch("10.16.0.0/29")
    released = site.reserve(switch, v4IpAddress="10.16.0.6")
    site.release(released.name)
    done = site.command("suggest", "--subnet", switch, "-n", "4")
    assert (done.code, done.stdout.split()[0], done.stderr) == (0, "10.16.0.5", "")
    done = site.command("suggest", "--subnet", switch, "-n", "5")
    assert (done.code, done.stdout.split()[-1]) == (0, "10.16.0.6")
    assert done.stderr.startswith("Warning: in quarantine, since nothing else is free: 10.16.0.6 until 20")
    found = json.loads(site.command("suggest", "--subnet", switch, "-n", "5", "-o", "json").stdout)
    assert [each.get("quarantinedUntil", "")[:2] for each in found["addresses"]] == ["", "", "", "", "20"]
    code, lines = explained(site, switch, "10.16.0.6")
    assert code == 1
    assert lines[0].startswith("10.16.0.6 is in quarantine until 20")
    assert lines[1] == "10.16.0.6 may be given (spec.v4IpAddress)"
    assert site.reserve(switch, v4IpAddress="10.16.0.6").result == "created"


def test_each_holder_is_named_and_what_may_be_given_may(site: Site) -> None:
    switch = site.switch(exclude_ips="10.16.0.40..10.16.0.49 // printers")
    answer = site.reserve(switch)
    port = site.port(switch, answer.addresses, name=answer.name)
    wait_until(lambda: site.condition(answer.name, "Bound")["status"] == "True", what="bound")
    router = site.router(switch, "10.16.0.1/24")
    site.nb("lr-nat-add", router, "snat", "10.16.0.30", "192.168.0.0/24")
    assert explained(site, switch, answer.v4) == (
        1,
        [
            f"{answer.v4} is held by IP {answer.name} (Bound)",
            f"{answer.v4} is held by logical switch port {port}",
            f"{answer.v4} may not be given (spec.v4IpAddress)",
        ],
    )
    for address, what, may in (
        ("10.16.0.1", f"held by logical router port {router}-{switch}", False),
        ("10.16.0.30", "held by NAT", False),
        ("10.16.0.44", "excluded by the operator (10.16.0.40..10.16.0.49 in other_config:exclude_ips)", True),
        ("10.16.0.255", "the broadcast address of 10.16.0.0/24", False),
        ("10.17.0.1", "outside of 10.16.0.0/24", False),
        ("fd00::1", "outside of 10.16.0.0/24", False),
    ):
        code, lines = explained(site, switch, address)
        assert code == 1
        assert lines[0].startswith(f"{address} is {what}")
        assert lines[-1].startswith(f"{address} may {'' if may else 'not '}be given")
        field = "v6IpAddress" if ":" in address else "v4IpAddress"
        assert (site.reserve(switch, **{field: address}).result == "created") is may, address


def test_a_subnet_is_missing_or_ambiguous_as_for_get_subnet(site: Site) -> None:
    for command in (("suggest", "--subnet", "nowhere"), ("suggest", "--subnet", "nowhere", "--explain", "10.0.0.1")):
        done = site.command(*command)
        assert done == (1, "", 'Error from server (NotFound): subnets.kubeovn.io "nowhere" not found\n')
    site.switch(name="twins")
    site.nb("--id=@twin", "create", "logical_switch", "name=twins", 'other_config:subnet="10.17.0.0/24"')
    of_get = site.command("get", "subnet", "twins")
    assert of_get.stderr.startswith("Error from server (Conflict): ")
    assert site.command("suggest", "--subnet", "twins") == of_get


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "subnet is required"),
        ("subnet=x&count=0", "count=0: must be a whole number from 1 to 65536"),
        ("subnet=x&count=65537", "count=65537: must be a whole number from 1 to 65536"),
        ("subnet=x&count=-1", "count=-1: must be a whole number from 1 to 65536"),
        ("subnet=x&count=%C2%B2", "count=²: must be a whole number from 1 to 65536"),
        ("subnet=x&contiguous=maybe", "contiguous=maybe: must be true or false"),
        ("subnet=x&family=5", "family=5: must be 4 or 6"),
        ("subnet=x&cuont=2", "unknown parameter cuont"),
        ("subnet=x&explain=10.16.0.9&count=2", "explain is about one address: it does not go with count"),
    ],
)
def test_a_question_that_means_nothing_is_refused(site: Site, query: str, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        site.client.get(f"{SUGGEST}?{query}")
    assert (refused.value.status["code"], refused.value.message) == (400, message)


def test_what_is_no_address_is_refused_and_named(site: Site) -> None:
    switch = site.switch()
    with pytest.raises(StatusError, match='explain: "" is neither an IPv4 nor an IPv6 address'):
        site.client.get(f"{SUGGEST}?subnet={switch}&explain=")
    done = site.command("suggest", "--subnet", switch, "--explain", "10.16.0")
    assert done.code == 1
    assert done.stderr.endswith('explain: "10.16.0" is neither an IPv4 nor an IPv6 address\n')


def test_a_question_waits_for_no_change_that_is_under_way(servers: Servers, daemon: Daemon) -> None:
    """Not even for one that the database does not answer."""
    site = Site(servers, daemon)
    switch = site.switch()
    site.client.get(f"{SUGGEST}?subnet={switch}")
    servers.nb_server.pause()
    try:
        other = site.new_client()
        with pytest.raises(StatusError) as late:
            other.post("/apis/kubeovn.io/v1/ips?timeout=0.3", site.document(switch))
        assert late.value.status["code"] == 504
        assert site.client.get(f"{SUGGEST}?subnet={switch}")["addresses"] == [{"address": "10.16.0.253"}]
    finally:
        servers.nb_server.resume()


def test_it_is_answered_as_the_database_was_seen_last_and_not_before_it_was(servers: Servers, tmp_path: Path) -> None:
    with Daemon(servers, tmp_path / "state") as daemon:
        site = Site(servers, daemon)
        switch = site.switch()
        site.reserve(switch)
        servers.nb_server.kill()
        wait_until(lambda: state(site) == "disconnected", what="disconnected")
        assert site.client.get(f"{SUGGEST}?subnet={switch}")["addresses"] == [{"address": "10.16.0.253"}]
        daemon.stop()
        daemon.start(wait=False)
        site.client.close()
        wait_until(lambda: ovnreserve("status", environment=daemon.client_environment).code == 0, what="it answers")
        done = site.command("suggest", "--subnet", switch)
        assert done.code == 1
        assert done.stderr.startswith(
            "Error from server (ServiceUnavailable): the northbound database has not been seen as a whole"
        )
        servers.nb_server.start()


def test_a_standby_suggests_the_same(servers: Servers, tmp_path: Path) -> None:
    def run(name: str) -> Daemon:
        return Daemon(servers, tmp_path / name, run_dir=servers.run_dir / name)

    with run("active") as one, run("standby") as two:
        active, standby = Site(servers, one), Site(servers, two)
        switch = active.switch()
        answer = active.reserve(switch)
        wait_until(lambda: standby.ip(answer.name) is not None, what="it follows")
        assert standby.command("suggest", "--subnet", switch).stdout == "10.16.0.253\n"
        assert explained(standby, switch, answer.v4)[0] == 1
