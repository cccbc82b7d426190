"""Nothing is acknowledged that only the ledger says: should the daemon end there and then, it would not be true."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sites import Site
from stores import in_ledger, restart, stores_agree
from support import wait_until

from ovnreserve.cli.errors import CommandError

if TYPE_CHECKING:
    from ovnreserve.sandbox import Daemon, Servers


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped, killed and paused."""
    return Site(servers, daemon)


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
        document = {**other.ip, "metadata": {"name": other.name, "labels": {"tier": "gold"}}}
        document["spec"] = {key: other.ip["spec"][key] for key in ("subnet", "podName", "namespace", "podType")}
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
