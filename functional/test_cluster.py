"""A cluster of three, over TLS: whatever becomes of its leader, nothing acknowledged is lost or done twice."""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from cluster import Cluster, Member
from sites import Answer, Site
from stores import in_ledger, specs, state, stores_agree
from support import wait_until
from witnesses import Crowd, told_the_truth

from ovnreserve.sandbox import Daemon, find_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

THEIRS = "10.16.0.5..10.16.0.9 // theirs"
_EACH = re.compile(r" (reserved|releasing|released|stores_followed) (name|count)=").search
LONG = 40
"""Seconds that an outage may take on a busy machine; a paused leader is found out in 10."""


@pytest.fixture(scope="module")
def cluster(pki: Path) -> Iterator[Cluster]:
    with Cluster(pki) as cluster:
        yield cluster


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A daemon on the cluster, which is whole before and after."""
    with Daemon(cluster, tmp_path / "state", *cluster.tls) as daemon:
        site = Site(cluster, daemon)
        try:
            yield site
        finally:
            print(*without_each(daemon), sep="\n")
            cluster.heal()
    empty(cluster)


def empty(cluster: Cluster) -> None:
    """Leave nothing of a test whose daemons have ended."""
    tables = ("DNS", "Logical_Switch", "Load_Balancer")
    cluster.nbctl(*(word for table in tables for word in ("--", "--all", "destroy", table)))


def without_each(daemon: Daemon) -> list[str]:
    """The log without a line for each reservation."""
    return [line for line in daemon.log.read_text().splitlines() if not _EACH(line)]


def problem(site: Site) -> str:
    return site.client.get("/apis/ovnreserve.io/v1/status")["database"]["problem"]


def active(site: Site) -> None:
    wait_until(lambda: state(site) == "active", LONG, what="the daemon is active")


class Crowds:
    """Several clients at once, until the block ends: two that ask for one after the other, and one for many."""

    def __init__(self, site: Site, switch: str, *, prefix: str = "pod", sizes: tuple[int, ...] = (1, 2, 20)) -> None:
        """`prefix` begins the names of all Pods; `sizes` is how many each asks for at most at a time."""
        seed = time.time_ns()
        print(f"seed {seed}")
        self.all = [Crowd(site, switch, random.Random(seed + most), most=most, prefix=prefix) for most in sizes]
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=crowd.run, args=(self._enough,)) for crowd in self.all]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def get_on(self) -> None:
        """Wait until each of them has been told of something that is reserved, and of something released."""
        created = [crowd.created for crowd in self.all]
        released = [len(crowd.released) for crowd in self.all]
        wait_until(
            lambda: all(
                crowd.created > created[i] + 1 and len(crowd.released) > released[i] + 1
                for i, crowd in enumerate(self.all)
            ),
            LONG,
            what="all get on",
        )


def nothing_twice(cluster: Cluster) -> None:
    """Each of our transactions gives the ledger's row a revision of its own; raft's log has none of them twice."""
    seen: dict[str, Any] = {}
    for transaction in cluster.leader().log():
        comment = transaction.get("_comment", "")
        if comment.startswith("ovnreserve:"):
            rows = (row for row in transaction.get("DNS", {}).values() if row)
            ids = [dict(row["external_ids"][1]) for row in rows if "external_ids" in row]
            for revision in (i["ovnreserve/revision"] for i in ids if "ovnreserve/revision" in i):
                assert revision not in seen, f"{transaction} has the revision of {seen[revision]}"
                seen[revision] = transaction
    assert seen


def lose(cluster: Cluster, leader: Member, how: str) -> None:
    match how:
        case "killed":
            leader.kill()
        case "paused":
            leader.pause()
        case "cut off":
            cluster.cut_off(leader)


@pytest.mark.parametrize("how", ["killed", "paused", "cut off"])
def test_while_the_leader_is_lost_and_comes_back_clients_are_told_the_truth(
    cluster: Cluster, site: Site, how: str
) -> None:
    switch = site.switch("10.16.0.0/16", exclude_ips=THEIRS)
    with Crowds(site, switch) as crowds:
        crowds.get_on()
        leader = cluster.leader()
        lose(cluster, leader, how)
        crowds.get_on()
        assert cluster.leader(cluster.others(leader)) is not leader
        cluster.heal()
        crowds.get_on()
    told_the_truth(crowds.all, stores_agree(site, switch, THEIRS))
    nothing_twice(cluster)


# ---- the schema changes ---------------------------------------------------------------------------------------------


@pytest.fixture
def converted(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`converted(version, without=())`: convert to a schema of that version, without these columns ("Table.column").

    Afterwards it is the one that was there before.
    """
    original = find_schema("ovn-nb.ovsschema")
    schema = tmp_path / "changed.ovsschema"

    def convert(version: str, without: Iterable[str] = ()) -> None:
        changed = json.loads(original.read_text())
        changed["version"] = version
        del changed["cksum"]
        for name in without:
            table, _, column = name.partition(".")
            del changed["tables"][table]["columns"][column]
        schema.write_text(json.dumps(changed))
        cluster.convert(schema)

    yield convert
    cluster.convert(original)


def test_while_the_schema_is_converted_clients_are_told_the_truth(
    cluster: Cluster, site: Site, converted: Callable[..., None]
) -> None:
    switch = site.switch("10.16.0.0/16", exclude_ips=THEIRS)
    with Crowds(site, switch) as crowds:
        crowds.get_on()
        for _ in range(5):
            cluster.convert(find_schema("ovn-nb.ovsschema"))
            crowds.get_on()
        converted("99.0.0")
        crowds.get_on()
    told_the_truth(crowds.all, stores_agree(site, switch, THEIRS))
    nothing_twice(cluster)


def test_a_column_that_a_conversion_takes_away_is_done_without_and_used_when_it_is_back(
    site: Site, converted: Callable[..., None]
) -> None:
    def schema() -> str:
        return site.client.get("/apis/ovnreserve.io/v1/status")["database"]["schema"]

    switch = site.switch()
    first = site.reserve(switch)
    converted("98.0.0", without=["Load_Balancer.ip_port_mappings"])
    wait_until(lambda: schema() == "98.0.0" and state(site) == "active", LONG, what="it has found its way")
    second = site.reserve(switch)
    assert second.result == "created"
    converted("99.0.0")
    wait_until(lambda: schema() == "99.0.0" and state(site) == "active", LONG, what="it has found its way")
    source = "ip_port_mappings:10.16.0.5=port:10.16.0.77"
    site.nb("lb-add", "lb", "10.16.0.9:80", "10.16.0.5:80", "--", "set", "load_balancer", "lb", source)
    site.nb("ls-lb-add", switch, "lb")
    wait_until(lambda: site.reserve(switch, "nobody", v4IpAddress="10.16.0.77").code == 409, what="it is seen")
    assert stores_agree(site, switch) == specs([first.ip, second.ip])


def test_what_the_server_cancels_for_a_conversion_is_done_all_the_same(cluster: Cluster, site: Site) -> None:
    """The conversion and then the reservation wait for the others' consent; when it comes, the server cancels."""
    switch = site.switch()
    site.reserve(switch)
    leader = cluster.leader()
    before = in_ledger(site)
    made: list[Answer] = []
    converting = threading.Thread(target=cluster.convert, args=(find_schema("ovn-nb.ovsschema"),))
    asking = threading.Thread(target=lambda: made.append(site.create(site.document(switch))))
    cluster.cut_off(leader)
    converting.start()
    wait_until(lambda: leader.status["Entries not yet committed"] != "0", what="the conversion is proposed")
    asking.start()
    wait_until(lambda: in_ledger(site).keys() != before.keys(), what="the reservation is sent")
    cluster.mend()
    converting.join()
    asking.join()
    assert [answer.result for answer in made] == ["created"]
    assert stores_agree(site, switch).keys() == before.keys() | {made[0].name}


# ---- the members are not all the same ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["before-sending-append-request", "after-sending-append-request", "before-sending-execute-command-reply"]
)
def test_whenever_the_leader_crashes_what_a_follower_was_asked_for_is_done_once(
    cluster: Cluster, tmp_path: Path, moment: str
) -> None:
    """Before the others know of it, before they have agreed, and before the follower knows that they have."""
    leader = cluster.leader()
    follower = cluster.others(leader)[0]
    options = ["--db", follower.remote, "--no-leader-only", *cluster.tls]
    with Daemon(cluster, tmp_path / "state", *options) as daemon:
        site = Site(cluster, daemon)
        switch = site.switch()
        site.reserve(switch)
        leader.fail(f"crash-{moment}")
        answer = site.create(site.document(switch))
        assert not leader.server.alive
        cluster.heal()
        assert answer.result == "created"
        assert answer.name in stores_agree(site, switch)
        nothing_twice(cluster)
    empty(cluster)


@contextlib.contextmanager
def another(cluster: Cluster, tmp_path: Path, *options: str) -> Iterator[Site]:
    """A second daemon on the cluster, with directories of its own."""
    with Daemon(cluster, tmp_path / "second", *cluster.tls, *options, run_dir=cluster.run_dir / "second") as daemon:
        site = Site(cluster, daemon)
        try:
            yield site
        finally:
            print("---- the second daemon ----", *without_each(daemon), sep="\n")


def test_of_two_daemons_one_goes_on_whichever_member_leads(cluster: Cluster, site: Site, tmp_path: Path) -> None:
    switch = site.switch("10.16.0.0/16")
    first = site.reserve(switch, "first")
    with another(cluster, tmp_path) as other:
        assert (state(site), state(other)) == ("active", "standby")
        leader = cluster.leader()
        leader.kill()

        def second() -> Answer | None:
            """Whichever of the two works now, and it may change once more when both have found the next leader."""
            working = [asked for asked in (site, other) if state(asked) == "active"]
            documents = [site.document(switch, "second")]
            answers = [answer for asked in working for answer in asked.bulk("apply", documents, timeout=3)]
            return next((answer for answer in answers if answer.result != "error"), None)

        answer = wait_until(second, LONG, what="one of them works")
        assert answer is not None
        expected = specs([first.ip, answer.ip])
        for follows in (site, other):
            wait_until(lambda follows=follows: specs(follows.ips()) == expected, LONG, what="both know")
        cluster.heal()
        assert stores_agree(site, switch) == expected
        assert stores_agree(other, switch) == expected
        nothing_twice(cluster)


def test_two_daemons_that_both_work_since_locks_are_per_server_do_each_other_no_harm(
    cluster: Cluster, site: Site, tmp_path: Path
) -> None:
    """One is at the leader, the other at a follower, and both hold the lock."""
    switch = site.switch("10.16.0.0/16", exclude_ips=THEIRS)
    follower = cluster.others(cluster.leader())[0]
    with another(cluster, tmp_path, "--db", follower.remote, "--no-leader-only") as other:
        assert (state(site), state(other)) == ("active", "active")
        with Crowds(other, switch, prefix="other", sizes=(1, 5)) as others:
            with Crowds(site, switch, sizes=(1, 5)) as crowds:
                both = [*crowds.all, *others.all]
                wait_until(lambda: sum(crowd.created for crowd in both) > 100, LONG, what="there is competition")
            others.get_on()  # where one is nearer to the leader, the other may have to wait until it is done
        shown = stores_agree(site, switch, THEIRS)
        wait_until(lambda: specs(other.ips()) == shown, LONG, what="they agree")
        told_the_truth(both, shown)
        nothing_twice(cluster)


def test_a_member_that_is_behind_is_left_and_used_when_it_has_caught_up(
    cluster: Cluster, site: Site, tmp_path: Path
) -> None:
    """The second daemon can reach that member only."""
    switch = site.switch("10.16.0.0/16")
    behind = cluster.others(cluster.leader())[0]
    with another(cluster, tmp_path, "--db", behind.remote, "--no-leader-only") as other:
        before = site.reserve(switch)
        wait_until(lambda: specs(other.ips()) == specs([before.ip]), LONG, what="it follows")
        behind.kill()
        told = [before, *(site.reserve(switch) for _ in range(100))]
        cluster.cut_off(behind)
        behind.server.start(wait=False)
        wait_until(lambda: "disconnected from its cluster" in problem(other), LONG, what="it is found to be alone")
        refused = other.create(other.document(switch))
        assert (refused.code, state(other)) == (503, "disconnected")
        assert specs(other.ips()) == specs([before.ip])
        cluster.mend()
        wait_until(lambda: specs(other.ips()) == specs(answer.ip for answer in told), LONG, what="it has caught up")
        wait_until(lambda: state(other) == "active", LONG, what="it works")
        told.append(other.reserve(switch, "late"))
        assert told[-1].result == "created"
        wait_until(lambda: len(site.ips()) == len(told), LONG, what="the first has seen it")
        assert stores_agree(site, switch) == specs(answer.ip for answer in told)
        nothing_twice(cluster)


def test_a_cluster_that_was_built_anew_is_not_taken_for_one_that_is_behind(tmp_path: Path) -> None:
    """Its log begins at the beginning again."""
    with Cluster() as cluster, Daemon(cluster, tmp_path / "state") as daemon:
        site = Site(cluster, daemon)
        switch = site.switch()
        told = [site.reserve(switch) for _ in range(20)]
        before = cluster.leader().applied
        assert cluster.rebuild().applied < before
        active(site)
        told.append(site.reserve(switch))
        assert told[-1].result == "created"
        assert stores_agree(site, switch) == specs(answer.ip for answer in told)
