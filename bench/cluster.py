"""How long writes stop when a cluster loses a member: `python -m bench.cluster [--runs N] [WAY...]`.

Each run has a cluster of three (TLS, election timer 1 s, inactivity probe 5 s, all as shipped) and one daemon of its
own. One client makes one reservation after the other. Measured are

    unavailable   the longest time between two acknowledgements that it has got, in seconds
    refused       how many of its requests were answered 503 meanwhile, each at once; it asks again 5 ms later

and printed as `median [lowest..highest]`. What was acknowledged has to be there at the end.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import ways
from bench.failover import Writer, pki
from bench.harness import Table, expect
from bench.site import SUBNET, SWITCH
from functional.cluster import Cluster, Member
from ovnreserve.cli.client import Client
from ovnreserve.sandbox import Daemon, find_schema


class Way(NamedTuple):
    """What becomes of the cluster, whose leader is given."""

    title: str
    lose: Callable[[Cluster, Member], object]


WAYS = {
    "kill": Way("leader: kill -9", lambda _cluster, leader: leader.kill()),
    "exit": Way("leader: SIGTERM", lambda _cluster, leader: leader.server.stop()),
    "stop": Way("leader: SIGSTOP", lambda _cluster, leader: leader.pause()),
    "cut": Way("leader: cut off from the others", lambda cluster, leader: cluster.cut_off(leader)),
    "follower": Way("a follower: kill -9", lambda cluster, leader: cluster.others(leader)[0].kill()),
    "convert": Way("schema converted", lambda cluster, _leader: cluster.convert(find_schema("ovn-nb.ovsschema"))),
}


class _Counting(Client):
    """Knows how often it was told that nothing was changed."""

    refused = 0

    def bulk(self, verb: str, items: list[dict[str, Any]], query: str = "") -> list[dict[str, Any]]:
        results = super().bulk(verb, items, query)
        self.refused += sum(result.get("status", {}).get("code") == 503 for result in results)
        return results


def measure(way: Way) -> dict[str, float]:
    """One run: by figure."""
    with tempfile.TemporaryDirectory(prefix="ovnreserve-") as name:
        directory = Path(name)
        pki(directory)
        (directory / "ca.pem").write_bytes((directory / "cert.pem").read_bytes())
        with Cluster(directory) as cluster, Daemon(cluster, directory / "state", *cluster.tls) as daemon:
            cluster.nbctl("ls-add", SWITCH, "--", "set", "logical_switch", SWITCH, f"other_config:subnet={SUBNET}")
            client = _Counting(f"{daemon.run_dir}/ovnreserved.sock", lambda _warning: None)
            writer = Writer(client)
            try:
                writer.wait_for(50)
                time.sleep(0.5)  # the pace before
                lost = time.monotonic()
                way.lose(cluster, cluster.leader())
                while writer.acknowledged[-1] < lost + 1.5:  # by then a leader that is cut off knows
                    writer.wait_for(len(writer.acknowledged) + 1)
            finally:
                writer.stop()
            there = {item["metadata"]["name"] for item in client.get("/apis/kubeovn.io/v1/ips")["items"]}
            client.close()
            expect(there >= set(writer.names), "what was acknowledged is not there")
            gaps = (later - earlier for earlier, later in itertools.pairwise(writer.acknowledged))
            return {"unavailable": max(gaps), "refused": client.refused}


if __name__ == "__main__":
    table = Table("cluster", "A member of the cluster is lost", ["what happens", "unavailable, s", "refused", "runs"])
    sys.exit(ways.main(table, WAYS, measure, ("unavailable", "refused"), __doc__))
