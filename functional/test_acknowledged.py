"""Nothing is acknowledged that only the ledger says: should the daemon end there and then, it would not be true."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sites import Site
from stores import active, in_ledger, restart, state, stores_agree
from support import wait_until

from ovnreserve.cli.errors import CommandError
from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sites import Answer

    from ovnreserve.sandbox import Servers


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped, killed and paused."""
    return Site(servers, daemon)


@pytest.fixture
def standby(own: Site, tmp_path: Path) -> Iterator[Site]:
    """Another daemon on the same database, with directories of its own."""
    with Daemon(own.servers, tmp_path / "second", run_dir=own.servers.run_dir / "second") as daemon:
        yield Site(own.servers, daemon)


def with_label(ip: dict[str, Any], tier: str) -> dict[str, Any]:
    """A document that only adds the label."""
    spec = {key: ip["spec"][key] for key in ("subnet", "podName", "namespace", "podType")}
    metadata = {"name": ip["metadata"]["name"], "labels": {"tier": tier}}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata, "spec": spec}


def left_in_the_ledger(site: Site, verb: str, document: dict[str, Any]) -> None:
    """The daemon is killed when it has written its intent, before the database has: both are down afterwards."""
    site.servers.nb_server.pause()
    wal = site.daemon.state_dir / "ledger.db-wal"
    size = wal.stat().st_size

    def ask() -> None:
        with contextlib.suppress(CommandError):
            site.new_client().post("/apis/ovnreserve.io/v1/bulk", {"verb": verb, "items": [document]})

    asked = threading.Thread(target=ask)
    asked.start()
    wait_until(lambda: wal.stat().st_size > size, what="it is in the ledger")
    site.daemon.kill()
    asked.join()
    site.servers.nb_server.kill()


@pytest.mark.parametrize("what", ["a reservation", "a label", "a release"])
def test_who_asks_again_is_not_answered_before_the_database_has_it(own: Site, what: str) -> None:
    """The second time it is all in the ledger, so that there seems to be nothing to do. But it is not written yet: the
    switch is to be repaired first, and that waits for ovn-northd.
    """
    switch = own.switch()
    kept, other = (own.reserve(switch, v4IpAddress=f"10.16.0.{host}") for host in (2, 50))
    verb, document = "apply", own.document(switch, "new", v4IpAddress="10.16.0.51")
    if what == "a label":
        document = with_label(other.ip, "gold")
    elif what == "a release":
        verb, document = "delete", other.ip
    name = document["metadata"]["name"]
    wait_until(lambda: len(in_ledger(own)) == 2, what="both are settled")
    left_in_the_ledger(own, verb, document)
    own.servers.nb_server.start()
    with own.northd_paused():
        own.nb("set", "logical_switch", switch, "other_config:exclude_ips=10.16.0.30")
        own.nb("lsp-add", switch, "pending", "--", "lsp-set-addresses", "pending", "dynamic")
        restart(own)
        [answer] = own.bulk(verb, [document])
        assert answer.status == {}
        record = own.records().get(name, {}).get("external_ids", {}).get("ovnreserve/record", "")
        match what:
            case "a reservation":
                assert "10.16.0.51" in record
            case "a label":
                assert "gold" in record
            case "a release":
                assert not record or '"deleted"' in record
    expected = {kept.name, other.name, name} - ({name} if what == "a release" else set())
    wait_until(lambda: {ip["metadata"]["name"] for ip in own.ips()} == expected, what="it is so")
    assert stores_agree(own, switch, "10.16.0.30").keys() == expected


@pytest.mark.parametrize("verb", ["apply", "delete"])
def test_what_another_daemon_has_superseded_is_not_acknowledged(own: Site, standby: Site, verb: str) -> None:
    """A label or a release is under way when the database is killed, and before the daemon is connected again the
    other one has taken over and worked.
    """
    switch = own.switch()
    kept = own.reserve(switch)
    wait_until(lambda: standby.ip(kept.name), what="the standby follows")
    document = with_label(kept.ip, "gold") if verb == "apply" else kept.ip
    wal = own.daemon.state_dir / "ledger.db-wal"
    wait_until(lambda: len(in_ledger(own)) == 1, what="it is settled")
    size = wal.stat().st_size
    own.servers.nb_server.pause()
    answers: list[Answer] = []
    asked = threading.Thread(target=lambda: answers.extend(own.bulk(verb, [document])))
    asked.start()
    wait_until(lambda: wal.stat().st_size > size, what="it is in the ledger")
    own.daemon.pause()
    own.servers.nb_server.kill()
    own.servers.nb_server.start()
    wait_until(lambda: state(standby) == "active", 20, what="the standby has taken over")
    made = standby.reserve(switch)
    own.daemon.resume()
    asked.join()
    [answer] = answers
    assert answer.code == 503
    wait_until(lambda: state(own) == "standby", 20, what="it follows")
    assert stores_agree(standby, switch).keys() == {kept.name, made.name}
    assert "tier" not in standby.ip(kept.name)["metadata"]["labels"]


@pytest.mark.parametrize("what", ["a reservation", "a label", "a release"])
def test_an_intent_of_before_is_given_up_once_another_daemon_has_worked(own: Site, standby: Site, what: str) -> None:
    """The daemon is standby by then and follows. What it had not committed is not carried out when it is active again,
    for those it was meant for have long asked the other one.
    """
    switch = own.switch()
    kept = own.reserve(switch)
    wait_until(lambda: standby.ip(kept.name), what="the standby follows")
    verb, document = "apply", own.document(switch, "new")
    if what == "a label":
        document = with_label(kept.ip, "gold")
    elif what == "a release":
        verb, document = "delete", kept.ip
    wait_until(lambda: len(in_ledger(own)) == 1, what="it is settled")
    wal = own.daemon.state_dir / "ledger.db-wal"
    size = wal.stat().st_size
    own.servers.nb_server.pause()
    answers: list[Answer] = []
    asked = threading.Thread(target=lambda: answers.extend(own.bulk(verb, [document])))
    asked.start()
    wait_until(lambda: wal.stat().st_size > size, what="it is in the ledger")
    own.daemon.pause()
    own.servers.nb_server.kill()
    own.servers.nb_server.start()
    wait_until(lambda: state(standby) == "active", 20, what="the standby has taken over")
    own.daemon.resume()
    client = own.new_client()
    wait_until(lambda: client.get("/apis/ovnreserve.io/v1/status")["state"] == "standby", 20, what="it has come back")
    made = standby.reserve(switch)
    asked.join()
    [answer] = answers
    assert answer.code == 503
    standby.daemon.stop()
    active(own)
    assert stores_agree(own, switch).keys() == {kept.name, made.name}
    assert "tier" not in own.ip(kept.name)["metadata"]["labels"]
