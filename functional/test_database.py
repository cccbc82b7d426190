"""The database misbehaves: clients get a clear answer within their timeout, reads are answered always, and in the end
what was answered is true.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from ovsdb import Connection
from proxy import Proxy
from sites import Answer, Site
from stores import active, listening, specs, state, stores_agree
from support import cpu_of, wait_until

from ovnreserve.sandbox import Daemon, Servers, find_program, find_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy import Meeting


READ_WITHIN = 1.5
"""Seconds. Half of one is how long a read of subnets waits for the latest counts; the rest is for a slow machine."""


BUSY_READ_WITHIN = 3.0
"""Seconds of the daemon's CPU, while 100,000 rows are received: the decoder, written in C, holds the interpreter for
half a second (0.7 s for the slowest read). What else the machine does meanwhile is not the daemon's to answer for.
"""


LATE = 20.0
"""Seconds after which an answer is late however slow the machine is."""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Proxy]]:
    """Servers and a daemon with the proxy between them, for the whole module."""
    state_dir = tmp_path_factory.mktemp("proxied") / "state"
    with (
        Servers() as servers,
        Proxy(servers) as proxy,
        Daemon(servers, state_dir, "--db", proxy.remote) as daemon,
    ):
        yield Site(servers, daemon), proxy


@pytest.fixture
def proxy(proxied: tuple[Site, Proxy]) -> Proxy:
    return proxied[1]


@pytest.fixture
def site(proxied: tuple[Site, Proxy]) -> Iterator[Site]:
    """A site whose daemon reaches the database through the proxy."""
    site, proxy = proxied
    logged = site.daemon.log.stat().st_size
    yield site
    print(site.daemon.log.read_bytes()[logged:].decode())
    proxy.reset()
    active(site)
    site.clean()


def bound(site: Site, name: str) -> None:
    wait_until(lambda: site.condition(name, "Bound")["status"] == "True", 20, what=f"{name} is bound")


def delete(site: Site, name: str) -> dict:
    return site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{name}")


def gone(site: Site, name: str) -> None:
    wait_until(lambda: site.ip(name) is None, 20, what=f"{name} is gone")


def slowest_read(
    site: Site, switch: str, name: str, while_: Callable[[], bool], clock: Callable[[], float] = time.monotonic
) -> float:
    """Read everything there is to read again and again; the seconds that the slowest took by the clock."""
    slowest = 0.0
    while while_():
        for path in (
            f"/apis/kubeovn.io/v1/ips/{name}",
            f"/apis/kubeovn.io/v1/subnets/{switch}",
            "/apis/ovnreserve.io/v1/status",
            f"/api/v1/events?fieldSelector=involvedObject.name%3D{name}",
        ):
            begun = clock()
            assert site.client.get(path)
            slowest = max(slowest, clock() - begun)
    return slowest


class Asking(threading.Thread):
    """Somebody who asks with a client of their own, and waits for the answer."""

    def __init__(self, site: Site, ask: Callable[[Site], Any]) -> None:
        super().__init__()
        self.seconds = 0.0
        """How long the answer took."""
        self._answer: Any = None
        self._error: BaseException | None = None
        self._site = Site(site.servers, site.daemon)
        self._ask = ask
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self._answer = self._ask(self._site)
        except BaseException as error:  # noqa: BLE001 - raised again for whoever waits
            self._error = error
        self.seconds = time.monotonic() - begun

    def come(self) -> Any:
        """The answer. Raises what asking raised."""
        self.join(60)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._answer


# ---- the connection breaks in mid-transaction ----------------------------------------------------------------------


def unheard(proxy: Proxy, comment: str) -> Meeting:
    """The changes are seen, and the connection breaks before the reply."""
    meeting = proxy.hold(comment)

    def cut() -> None:
        meeting.wait()
        proxy.cut()
        meeting.let_go()

    threading.Thread(target=cut).start()
    return meeting


@pytest.fixture(params=["before it arrives", "before anything is heard of it"])
def cut(request: pytest.FixtureRequest, proxy: Proxy) -> Callable[[str], Meeting]:
    """`cut(comment)`: break the connection when that transaction comes, and wherever the parameter says."""
    return {"before it arrives": proxy.cut_before, "before anything is heard of it": proxy.cut_after}[request.param]


@pytest.mark.parametrize("how", ["before it arrives", "before anything is heard of it", "before the reply"])
def test_a_reservation_cut_in_mid_transaction_is_made_once(site: Site, proxy: Proxy, how: str) -> None:
    switch = site.switch()
    cut = {
        "before it arrives": proxy.cut_before,
        "before anything is heard of it": proxy.cut_after,
        "before the reply": partial(unheard, proxy),
    }[how]
    meeting = cut("reserve ")
    answer = site.create(site.document(switch))
    assert meeting.has_come
    assert answer.result == "created", answer
    assert stores_agree(site, switch) == specs([answer.ip])


def test_an_adoption_cut_in_mid_transaction_pins_the_port_once(site: Site, cut: Callable[[str], Meeting]) -> None:
    switch = site.switch()
    name = site.port(switch, name="pod-a.default")
    has = site.dynamic_addresses(name)
    meeting = cut("reserve ")
    answer = site.create(site.document(switch, "pod-a"))
    assert meeting.has_come
    assert answer.addresses == has
    assert stores_agree(site, switch) == specs([answer.ip])
    site.nb("--wait=sb", "sync")
    assert site.addresses(name) == {has}


def test_a_bind_cut_in_mid_transaction_is_done(site: Site, cut: Callable[[str], Meeting]) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    meeting = cut("bind ")
    site.port(switch, name=answer.name)
    meeting.wait()
    bound(site, answer.name)
    assert site.addresses(answer.name) == {answer.addresses}
    assert stores_agree(site, switch) == specs([answer.ip])


@pytest.mark.parametrize("transaction", ["release ", "free "])
def test_a_release_cut_in_mid_transaction_goes_to_its_end(
    site: Site, cut: Callable[[str], Meeting], transaction: str
) -> None:
    switch = site.switch(exclude_ips="10.16.0.2")
    answer, other = site.reserve(switch), site.reserve(switch)
    site.port(switch, name=answer.name)
    bound(site, answer.name)
    meeting = cut(transaction)
    shown = delete(site, answer.name)
    assert shown["metadata"]["deletionTimestamp"]
    meeting.wait()
    gone(site, answer.name)
    assert [row["name"] for row in site.rows("Logical_Switch_Port")] == []
    assert stores_agree(site, switch, " 10.16.0.2") == specs([other.ip])
    wait_until(lambda: "Released" in dict(site.events(answer.name)), what="the journal is written")
    assert [reason for reason, _message in site.events(answer.name)].count("Released") == 1


def test_a_port_whose_deletion_is_cut_in_mid_transaction_is_deleted_once(
    site: Site, cut: Callable[[str], Meeting]
) -> None:
    switch = site.switch()
    site.port(switch, name="web-0.shop")
    shown = wait_until(lambda: site.ip("web-0.shop"), what="the IP that was born with it")
    before = len(site.ours())
    meeting = cut("delete port ")
    assert delete(site, "web-0.shop") == shown
    assert meeting.has_come
    assert site.row("Logical_Switch", switch)["ports"] == []
    assert site.ip("web-0.shop") is None
    ours = [transaction["_comment"] for transaction in site.ours()[before:]]
    assert ours.count("ovnreserve: delete port web-0.shop") == 1


def test_a_port_made_anew_while_its_deletion_has_no_outcome_stays(site: Site, proxy: Proxy) -> None:
    """It is another IP: what was to be deleted is gone."""
    switch = site.switch()
    site.port(switch, name="web-0.shop")
    shown = wait_until(lambda: site.ip("web-0.shop"), what="the IP that was born with it")
    meeting = proxy.hold("delete port ")
    asking = Asking(site, lambda own: delete(own, "web-0.shop"))
    meeting.wait()
    proxy.cut()
    site.servers.nbctl("--if-exists", "lsp-del", "web-0.shop")
    site.servers.nbctl("--wait=sb", "lsp-add", switch, "web-0.shop", "--", "lsp-set-addresses", "web-0.shop", "dynamic")
    meeting.let_go()
    assert asking.come()["metadata"]["uid"] == shown["metadata"]["uid"]
    new = wait_until(lambda: site.ip("web-0.shop"), what="the new port's IP")
    assert new["metadata"]["uid"] == site.row("Logical_Switch_Port", "web-0.shop")["_uuid"] != shown["metadata"]["uid"]


def test_a_release_is_acknowledged_only_when_the_database_has_it(site: Site, proxy: Proxy) -> None:
    """Also where it was sent before, and the connection broke: until then only our own ledger knows of it."""
    switch = site.switch()
    answer = site.reserve(switch)
    early: list[bool] = []

    def look() -> None:
        asking.join(0.3)
        early.append(not asking.is_alive())

    proxy.cut_before("release ")
    proxy.between("release ", look)
    asking = Asking(site, lambda asker: delete(asker, answer.name))
    assert asking.come()["metadata"]["deletionTimestamp"]
    assert early == [False]
    gone(site, answer.name)


def test_a_release_is_not_shown_as_done_before_the_database_has_done_it(site: Site, proxy: Proxy) -> None:
    """Not even where ovn-northd's answer comes together with the reply to the first transaction."""
    answer = site.reserve(site.switch())
    there: list[bool] = []
    freed = proxy.between("free ", lambda: there.append(site.ip(answer.name) is not None))
    begun = proxy.between("release ", site.daemon.pause)
    asking = Asking(site, lambda asker: delete(asker, answer.name))
    begun.wait()
    site.nb("--wait=sb", "sync")
    site.daemon.resume()
    asking.come()
    freed.wait()
    assert there == [True]
    gone(site, answer.name)


def test_a_repair_cut_in_mid_transaction_is_done(site: Site, cut: Callable[[str], Meeting]) -> None:
    switch = site.switch()
    answers = [site.reserve(switch) for _ in range(2)]
    meeting = cut("repair ")
    site.nb("set", "logical_switch", switch, 'other_config:exclude_ips="10.16.0.30"')
    meeting.wait()
    both = "10.16.0.253..10.16.0.254 10.16.0.30"
    wait_until(lambda: site.exclude_ips(switch) == both, 20, what="repaired")
    assert stores_agree(site, switch, " 10.16.0.30") == specs(answer.ip for answer in answers)


# ---- a transaction times out, and is carried out later -------------------------------------------------------------


def refused(results: list) -> bool:
    """Did one of its guards fail?"""
    return any(result and result.get("error") == "timed out" for result in results)


def test_a_reservation_that_arrives_after_other_work_is_refused(site: Site, proxy: Proxy) -> None:
    """Its client was told that it may still be done, and so it was: long ago."""
    switch = site.switch()
    document = site.document(switch, v4IpAddress="10.16.0.9")
    late = proxy.late("reserve ", cut=True)
    answer = site.create(document, "?timeout=0.5")
    assert answer.code == 504
    assert "may still be done" in answer.message
    name = document["metadata"]["name"]
    wait_until(lambda: site.records().keys() == {name}, what="it is done all the same")
    # The same name and the same address are somebody else's by now.
    site.release(name)
    again = site.apply(document)
    assert again.result == "created"
    assert refused(late.wait().deliver())
    assert stores_agree(site, switch) == specs([again.ip])


def test_a_reservation_that_arrives_while_it_is_made_again_is_recognised(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    late = proxy.late("reserve ", cut=True)
    results: list = []
    again = proxy.between("republish ", lambda: results.extend(late.deliver()))
    answer = site.create(site.document(switch))
    assert again.wait().has_come
    assert not refused(results)
    assert answer.result == "created"
    assert stores_agree(site, switch) == specs([answer.ip])


def test_a_release_that_arrives_after_other_work_is_refused(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    first = site.reserve(switch, "pod-a", v4IpAddress="10.16.0.9")
    site.port(switch, name=first.name)
    bound(site, first.name)
    late = proxy.late("release ", cut=True)
    delete(site, first.name)
    gone(site, first.name)
    # The pod was started again, and its address reserved again.
    second = site.reserve(switch, "pod-a", v4IpAddress="10.16.0.9")
    site.port(switch, name=second.name)
    bound(site, second.name)
    assert refused(late.wait().deliver())
    assert stores_agree(site, switch) == specs([second.ip])
    assert site.addresses(second.name) == {second.addresses}


def test_the_end_of_a_release_that_arrives_after_other_work_is_refused(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    first = site.reserve(switch, "pod-a", v4IpAddress="10.16.0.9")
    late = proxy.late("free ", cut=True)
    delete(site, first.name)
    late.wait()
    gone(site, first.name)
    second = site.reserve(switch, "pod-a", v4IpAddress="10.16.0.9")
    assert refused(late.deliver())
    assert stores_agree(site, switch) == specs([second.ip])


def test_a_release_that_arrives_while_it_is_begun_again_is_recognised(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.port(switch, name=answer.name)
    bound(site, answer.name)
    late = proxy.late("release ", cut=True)
    results: list = []
    proxy.between("release ", lambda: results.extend(late.deliver()))
    delete(site, answer.name)
    gone(site, answer.name)
    assert results
    assert not refused(results)
    assert stores_agree(site, switch) == {}
    assert site.rows("Logical_Switch_Port") == []


def test_a_bind_that_arrives_after_other_work_is_refused(site: Site, proxy: Proxy) -> None:
    """The port was given other addresses by hand meanwhile."""
    switch = site.switch()
    answer = site.reserve(switch)
    late = proxy.late("bind ", cut=True)
    site.port(switch, name=answer.name)
    late.wait()
    bound(site, answer.name)
    other = site.reserve(switch)
    site.nb("lsp-set-addresses", answer.name, "0a:00:00:00:00:77 10.16.0.77")
    assert refused(late.deliver())
    assert site.addresses(answer.name) == {"0a:00:00:00:00:77 10.16.0.77"}
    assert stores_agree(site, switch) == specs([answer.ip, other.ip])


def test_a_bind_that_arrives_while_it_is_done_again_is_recognised(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    late = proxy.late("bind ", cut=True)
    results: list = []
    again = proxy.between("bind ", lambda: results.extend(late.deliver()))
    site.nb("lsp-add", switch, answer.name)
    again.wait()
    bound(site, answer.name)
    assert not refused(results)
    assert site.addresses(answer.name) == {answer.addresses}
    assert stores_agree(site, switch) == specs([answer.ip])


# ---- something goes between the last look and the write ------------------------------------------------------------


def test_a_port_deleted_just_before_it_is_bound_costs_nothing(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    meeting = proxy.between("bind ", lambda: site.nb("lsp-del", answer.name))
    site.nb("lsp-add", switch, answer.name, "--", "lsp-set-addresses", answer.name, "dynamic")
    meeting.wait()
    wait_until(lambda: site.condition(answer.name, "Bound")["reason"] == "NoPort", what="it is seen")
    assert stores_agree(site, switch) == specs([answer.ip])
    site.port(switch, name=answer.name)
    bound(site, answer.name)


@pytest.mark.parametrize("given", [{}, {"v4IpAddress": "10.16.0.2"}])
def test_a_port_deleted_just_before_it_is_adopted_is_not_waited_for(
    site: Site, proxy: Proxy, given: dict[str, str]
) -> None:
    switch = site.switch()
    name = site.port(switch, name="pod-a.default")
    meeting = proxy.between("reserve ", lambda: site.nb("lsp-del", name))
    answer = site.create(site.document(switch, "pod-a", **given))
    assert meeting.has_come
    assert answer.result == "created"
    assert answer.v4 == given.get("v4IpAddress", "10.16.0.254")
    assert stores_agree(site, switch) == specs([answer.ip])
    assert site.rows("Logical_Switch_Port") == []


def test_a_port_deleted_just_before_it_is_released_is_no_error(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    answer = site.reserve(switch)
    site.port(switch, name=answer.name)
    bound(site, answer.name)
    meeting = proxy.between("release ", lambda: site.nb("lsp-del", answer.name))
    delete(site, answer.name)
    assert meeting.has_come
    gone(site, answer.name)
    assert stores_agree(site, switch) == {}


def test_a_port_deleted_just_before_a_repair_pins_it_does_not_stop_the_repair(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    answer = site.reserve(switch, v4IpAddress="10.16.0.2")
    site.daemon.pause()
    site.nb("set", "logical_switch", switch, 'other_config:exclude_ips="10.16.0.30"')
    site.port(switch, name=answer.name)
    assert site.dynamic_addresses(answer.name).endswith(" 10.16.0.2")
    meeting = proxy.between("repair ", lambda: site.nb("lsp-del", answer.name))
    site.daemon.resume()
    meeting.wait()
    wait_until(lambda: site.exclude_ips(switch) == "10.16.0.2 10.16.0.30", what="repaired")
    assert stores_agree(site, switch, " 10.16.0.30") == specs([answer.ip])


def test_a_switch_deleted_just_before_is_said_to_be_missing(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    meeting = proxy.between("reserve ", lambda: site.nb("ls-del", switch))
    answer = site.create(site.document(switch))
    assert meeting.has_come
    assert answer.code == 422
    assert switch in answer.message
    assert site.ips() == []
    assert site.records() == {}


# ---- a bad line ----------------------------------------------------------------------------------------------------


def test_a_slow_line_delays_writes_and_no_reads(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    first = site.reserve(switch)
    proxy.delay = 0.4
    asking = Asking(site, lambda asker: asker.create(asker.document(switch)))
    slowest = slowest_read(site, switch, first.name, asking.is_alive)
    assert asking.come().result == "created"
    assert slowest < READ_WITHIN


def test_a_thin_line_with_much_on_it_delays_writes_and_no_reads(site: Site, proxy: Proxy) -> None:
    switch = site.switch()
    first = site.reserve(switch)
    proxy.rate = 300_000
    site.nb("set", "logical_switch", switch, *(f"external_ids:x{n}={'y' * 1000}" for n in range(300)))
    asking = Asking(site, lambda asker: asker.create(asker.document(switch)))
    slowest = slowest_read(site, switch, first.name, asking.is_alive)
    assert asking.come().result == "created"
    assert slowest < READ_WITHIN


def test_a_line_that_goes_dead_is_said_to_be_so_and_asking_again_settles_it(site: Site, proxy: Proxy) -> None:
    """Until the probe finds it out; here it is cut instead, which is what that comes to."""
    switch = site.switch()
    first = site.reserve(switch)
    proxy.silent = True
    document = site.document(switch)
    asking = Asking(site, lambda asker: asker.create(document, "?timeout=1"))
    slowest = slowest_read(site, switch, first.name, asking.is_alive)
    assert asking.come().code == 504
    assert slowest < READ_WITHIN
    proxy.silent = False
    proxy.cut()
    wait_until(lambda: len(site.records()) == 2, what="it is settled")
    again = site.apply(document)
    assert again.result == "unchanged", again
    assert stores_agree(site, switch) == specs([first.ip, again.ip])


# ---- the server hangs ----------------------------------------------------------------------------------------------

PAUSE = 30.0
"""Seconds that the server is stopped: the daemon's probe gives it up after 10, and then again after another 10."""


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped, killed and paused."""
    return Site(servers, daemon)


def clear(answer: Answer) -> bool:
    """Does the refusal say what is true of the database?"""
    return {503: "nothing was changed", 504: "may still be done"}.get(answer.code, "(none)") in answer.message


def test_a_database_that_hangs_for_half_a_minute(own: Site) -> None:
    """Writers with different timeouts each have a clear answer in time, readers at once, and in the end all is true."""
    switch = own.switch()
    first, leaving = own.reserve(switch), own.reserve(switch)
    own.servers.nb_server.pause()
    until = time.monotonic() + PAUSE
    writers: dict[str, tuple[float, Asking]] = {}
    documents = []

    def write(timeout: float) -> None:
        document = own.document(switch)
        documents.append(document)
        asking = Asking(own, lambda asker: asker.create(document, f"?timeout={timeout:g}"))
        writers[document["metadata"]["name"]] = timeout, asking

    for timeout in (0.5, 2, 8, 15, 60):
        write(timeout)
    deleting = Asking(own, lambda asker: asker.bulk("delete", [leaving.ip])[0])
    slowest = 0.0
    while (now := time.monotonic()) < until:
        end = min(until, now + 2)
        slowest = max(slowest, slowest_read(own, switch, first.name, lambda end=end: time.monotonic() < end))
        write(1 + len(writers) % 3)
    own.servers.nb_server.resume()
    active(own)
    assert own.reserve(switch).result == "created"

    codes = set()
    for name, (timeout, asking) in writers.items():
        answer = asking.come()
        assert asking.seconds < timeout + 1, (name, timeout, asking.seconds, answer)
        assert answer.result == "created" or clear(answer), answer
        if answer.code != 504:
            assert (own.ip(name) is not None) == (answer.result == "created"), (name, answer)
        codes.add(answer.code)
    assert codes >= {503, 504}
    answer = deleting.come()
    assert answer.result == "deleted" or clear(answer), answer
    assert slowest < READ_WITHIN
    print(f"{len(writers)} writers, codes {codes}; the slowest read took {slowest:.2f} s")

    again = own.bulk("apply", documents)
    assert {answer.result for answer in again} <= {"created", "unchanged"}
    own.bulk("delete", [leaving.ip])
    gone(own, leaving.name)
    shown = stores_agree(own, switch)
    assert shown.keys() >= {first.name, *writers}
    assert shown == specs(own.ips())


# ---- yesterday's file ----------------------------------------------------------------------------------------------


def test_a_database_restored_from_yesterdays_file_loses_nothing_acknowledged(own: Site) -> None:
    switch = own.switch(exclude_ips="10.16.0.5")
    kept, bound_since, labelled = (own.reserve(switch, pod) for pod in ("kept", "bound", "labelled"))
    released = own.reserve(switch, "released", v4IpAddress="10.16.0.60")
    own.port(switch, name=released.name)
    bound(own, released.name)
    old = [own.port(switch, name=f"old-{n}") for n in range(2)]
    had = [own.dynamic_addresses(name) for name in old]
    database = own.servers.run_dir / "ovnnb_db.db"
    yesterday = database.with_suffix(".yesterday")
    own.servers.nb_server.stop()
    shutil.copy(database, yesterday)
    own.servers.nb_server.start()
    active(own)

    own.port(switch, name=bound_since.name)
    bound(own, bound_since.name)
    document = own.document(switch, "labelled")
    document["metadata"]["labels"] = {"tier": "front"}
    assert own.apply(document).result == "configured"
    own.release(released.name)
    for name in old:
        own.nb("--wait=sb", "lsp-del", name)
    taken = own.reserve(switch, "taken", v4IpAddress=had[0].split()[1])
    heir = own.reserve(switch, "heir", v4IpAddress=released.v4)
    made = own.reserve(switch, "made")
    assert [answer.result for answer in (taken, heir, made)] == ["created"] * 3
    acknowledged = specs(own.ips())

    own.servers.nb_server.stop()
    shutil.copy(yesterday, database)
    own.servers.nb_server.start()
    wait_until(lambda: own.records().keys() == acknowledged.keys(), 20, what="the records are what they were")
    own.nb("--wait=sb", "sync")
    assert specs(own.ips()) == acknowledged
    assert own.ip(labelled.name)["metadata"]["labels"]["tier"] == "front"
    assert '"tier":"front"' in own.records()[labelled.name]["external_ids"]["ovnreserve/record"]
    # Whom ovn-northd has given an address yesterday that is reserved today keeps it, and is named.
    assert [own.dynamic_addresses(name) for name in old] == had
    wait_until(lambda: old[0] in own.condition(taken.name, "Conflicted")["message"], what="conflicted")
    assert own.condition(taken.name, "Enforced")["reason"] == "Withheld"
    wait_until(lambda: released.name in own.condition(heir.name, "Conflicted")["message"], what="conflicted")
    assert {own.condition(name, "Conflicted")["status"] for name in (kept.name, made.name)} == {"False"}
    # The rest is as it was, and goes on.
    own.nb("lsp-del", old[0], "--", "lsp-del", released.name)
    wait_until(lambda: own.condition(taken.name, "Conflicted")["status"] == "False", what="no conflict")
    own.port(switch, name=bound_since.name)
    bound(own, bound_since.name)
    assert own.addresses(bound_since.name) == {bound_since.addresses}
    assert own.reserve(switch, wait="sb").result == "created"
    stores_agree(own, switch, " 10.16.0.5")
    wait_until(lambda: own.command("verify").code == 0, what="the ledger row, too, says what the ledger does")


# ---- no NB_Global row ----------------------------------------------------------------------------------------------


def test_without_nb_global_all_goes_on_and_waiting_for_northd_ends_in_time(own: Site) -> None:
    """It is deleted by hand, which ovn-northd would undo; and so it is found by a daemon that starts."""
    switch = own.switch()
    first = own.reserve(switch, wait="sb")
    with Connection(own.servers) as other, own.northd_paused():

        def globals_() -> int:
            return len(other.transact({"op": "select", "table": "NB_Global", "where": []})[0]["rows"])

        assert other.committed({"op": "delete", "table": "NB_Global", "where": []})
        leaving = own.reserve(switch)
        waiting = Asking(own, lambda asker: asker.create(asker.document(switch), "?wait=sb&timeout=1"))
        delete(own, leaving.name)
        answer = waiting.come()
        assert answer.result == "created"
        assert any("ovn-northd has not answered yet" in warning for warning in answer.warnings)
        assert waiting.seconds < 2
        assert own.condition(answer.name, "Enforced")["status"] == "Unknown"
        own.daemon.stop()
        own.client.close()
        own.daemon.start()
        made = own.reserve(switch)
        assert made.result == "created"
        gone(own, leaving.name)
        assert globals_() == 0
    own.nb("--wait=sb", "sync")
    last = own.reserve(switch, wait="sb")
    assert not last.warnings
    for name in (first.name, answer.name, made.name, last.name):
        wait_until(lambda name=name: own.condition(name, "Enforced")["status"] == "True", what=f"{name} is enforced")
    assert stores_agree(own, switch) == specs([first.ip, answer.ip, made.ip, last.ip])


def test_a_release_without_nb_global_goes_on_after_its_bound(own: Site) -> None:
    switch = own.switch()
    answer = own.reserve(switch)
    with Connection(own.servers) as other, own.northd_paused():
        assert other.committed({"op": "delete", "table": "NB_Global", "where": []})
        delete(own, answer.name)
        gone(own, answer.name)
    wait_until(lambda: own.events(answer.name)[-1][0] == "Released", what="the journal is written")
    assert "BarrierTimeout" in dict(own.events(answer.name))


# ---- very much at once ---------------------------------------------------------------------------------------------

SWITCHES, PORTS = 100, 1000
"""100,000 ports."""


class Figures(NamedTuple):
    """What clients met: the slowest read and write in seconds of the daemon's CPU, and its resident memory in MB at the
    end.
    """

    read: float
    write: float
    memory: int


def meanwhile(site: Site, switch: str, name: str, ports: int, work: Callable[[], object]) -> Figures:
    """Read and write all the time until the work is done and the daemon has seen it, and has so many ports."""
    done = threading.Event()
    writes = []
    clock = partial(cpu_of, site.daemon.pid)

    def write(asker: Site) -> None:
        for timeout in itertools.cycle((2, 20)):
            document = asker.document(switch, f"writer-{time.monotonic_ns()}")
            begun, late = clock(), time.monotonic() + timeout + LATE
            answer = asker.create(document, f"?timeout={timeout}")
            writes.append(clock() - begun)
            assert time.monotonic() < late, (timeout, answer)
            assert writes[-1] < timeout + BUSY_READ_WITHIN, (timeout, writes[-1], answer)
            assert answer.result == "created" or clear(answer), answer
            if done.wait(0.05):
                break

    def change(asker: Site) -> None:
        work()
        wait_until(
            lambda: asker.reserve(switch, f"then-{time.monotonic_ns()}").result == "created",
            60,
            what="all that came before is seen",
        )
        assert asker.client.get("/apis/ovnreserve.io/v1/status")["ports"] == ports

    writing, changing = Asking(site, write), Asking(site, change)
    slowest = slowest_read(site, switch, name, changing.is_alive, clock)
    done.set()
    changing.come()
    writing.come()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{site.daemon.pid}/status").read_text())
    assert found is not None
    return Figures(slowest, max(writes), int(found[1]) // 1024)


def test_a_hundred_thousand_rows_at_once_hold_nobody_up(servers: Servers, tmp_path: Path) -> None:
    """Inserted, changed and deleted by others, without ovn-northd, to whom that is much more work than to us."""
    servers.northd.stop()
    with Daemon(servers, tmp_path / "state") as daemon, Connection(servers) as other:
        site = Site(servers, daemon)
        switch = site.switch("10.200.0.0/16")
        name = site.reserve(switch).name
        wide = {"other_config": ["map", [["subnet", "10.100.0.0/16"]]]}
        other.transact(*(
            {"op": "insert", "table": "Logical_Switch", "row": {"name": f"wide-{n}", **wide}} for n in range(SWITCHES)
        ))  # fmt: skip

        def insert() -> None:
            for first in range(0, SWITCHES, 10):
                operations = [op for number in range(first, first + 10) for op in many_ports(number)]
                assert other.committed(*operations)

        def change() -> None:
            update = {"op": "update", "table": "Logical_Switch_Port", "where": [], "row": {"up": True}}
            [result, *_] = other.transact(update)
            assert result == {"count": SWITCHES * PORTS}

        def delete_all() -> None:
            where = [["name", "!=", switch]]
            assert other.committed({"op": "update", "table": "Logical_Switch", "where": where, "row": {"ports": EMPTY}})

        figures = {
            "inserted": meanwhile(site, switch, name, SWITCHES * PORTS, insert),
            "changed": meanwhile(site, switch, name, SWITCHES * PORTS, change),
            "deleted": meanwhile(site, switch, name, 0, delete_all),
        }
        print(*(f"{what}: {found}" for what, found in figures.items()), sep="\n")
        assert max(found.read for found in figures.values()) < BUSY_READ_WITHIN
        assert site.reserve(switch, "last").result == "created"
        assert figures["deleted"].memory < 0.85 * figures["changed"].memory
        assert all(ip["status"]["phase"] == "Reserved" for ip in site.ips())
        print(daemon.log.read_text())


EMPTY = ["set", []]


def many_ports(number: int) -> Iterator[dict]:
    """The operations for a switch's ports."""
    for port in range(PORTS):
        host = f"{port >> 8}.{port & 255}"
        row = {"name": f"wide-{number}-{port}", "addresses": f"0a:00:{number:02x}:00:{port >> 8:02x}:{port & 255:02x} "
               f"10.100.{host}", "external_ids": ["map", [["pod", f"default/wide-{number}-{port}"]]]}  # fmt: skip
        yield {"op": "insert", "table": "Logical_Switch_Port", "row": row, "uuid-name": f"p{number}_{port}"}
    ports = ["set", [["named-uuid", f"p{number}_{port}"] for port in range(PORTS)]]
    where = [["name", "==", f"wide-{number}"]]
    yield {"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": [["ports", "insert", ports]]}


# ---- another database ----------------------------------------------------------------------------------------------


def told(site: Site) -> str:
    """What `status` says is the matter with the database."""
    return site.client.get("/apis/ovnreserve.io/v1/status")["database"]["problem"]


def test_a_database_that_is_taken_out_of_its_server_is_missed_and_found_again(own: Site) -> None:
    switch = own.switch()
    first = own.reserve(switch)
    control = str(own.servers.run_dir / "ovnnb_db.ctl")
    appctl(control, "ovsdb-server/remove-db", "OVN_Northbound")
    wait_until(lambda: state(own) == "disconnected", 20, what="disconnected")
    refused_ = own.create(own.document(switch), "?timeout=2")
    assert refused_.code == 503
    assert clear(refused_)
    assert specs(own.ips()) == specs([first.ip])
    wait_until(lambda: "OVN_Northbound" in told(own), 20, what="status says what is missing")
    appctl(control, "ovsdb-server/add-db", str(own.servers.run_dir / "ovnnb_db.db"))
    active(own)
    assert told(own) == ""
    second = own.reserve(switch)
    assert stores_agree(own, switch) == specs([first.ip, second.ip])


def test_a_server_without_the_database_is_waited_for(servers: Servers, tmp_path: Path) -> None:
    control = str(servers.run_dir / "ovnnb_db.ctl")
    appctl(control, "ovsdb-server/remove-db", "OVN_Northbound")
    daemon = Daemon(servers, tmp_path / "state")
    daemon.start(wait=False)
    with daemon:
        site = Site(servers, daemon)
        listening(daemon)
        wait_until(lambda: "OVN_Northbound" in told(site), what="status says what is missing")
        assert state(site) == "disconnected"
        appctl(control, "ovsdb-server/add-db", str(servers.run_dir / "ovnnb_db.db"))
        active(site)
        assert site.reserve(site.switch()).result == "created"


@pytest.mark.parametrize("how", ["richer", "poorer"])
def test_a_database_that_is_converted_meanwhile_is_used_as_it_is_now(own: Site, tmp_path: Path, how: str) -> None:
    """As `ovn-ctl` does when OVN is upgraded, or downgraded to one that lacks what we can do without."""
    switch = own.switch()
    first = own.reserve(switch)
    schema = json.loads(find_schema("ovn-nb.ovsschema").read_text())
    if how == "richer":
        schema["tables"]["Something_New"] = {"columns": {"name": {"type": "string"}}, "isRoot": True}
    else:
        del schema["tables"]["BFD"]["columns"]["dst_ip"], schema["tables"]["BFD"]["indexes"]
    convert(own.servers, tmp_path, schema)
    wait_until(lambda: own.reserve(switch).result == "created", 20, what="it can be written again")
    own.nb("lsp-add", switch, first.name)
    bound(own, first.name)
    stores_agree(own, switch)


def test_a_database_converted_to_what_cannot_be_used_is_said_to_be_so(own: Site, tmp_path: Path) -> None:
    switch = own.switch()
    first = own.reserve(switch)
    whole = json.loads(find_schema("ovn-nb.ovsschema").read_text())
    without = json.loads(json.dumps(whole))
    del without["tables"]["DNS"], without["tables"]["Logical_Switch"]["columns"]["dns_records"]
    convert(own.servers, tmp_path, without)
    wait_until(lambda: state(own) == "disconnected", 20, what="disconnected")
    wait_until(lambda: "DNS" in told(own), 20, what="status says what is missing")
    assert specs(own.ips()) == specs([first.ip])
    refused_ = own.create(own.document(switch), "?timeout=2")
    assert refused_.code == 503
    assert clear(refused_)
    convert(own.servers, tmp_path, whole)
    active(own)
    wait_until(lambda: first.name in own.records(), what="its record is written again")
    assert own.reserve(switch).result == "created"
    stores_agree(own, switch)


def appctl(target: str, *arguments: str) -> None:
    subprocess.run([find_program("ovs-appctl"), "-t", target, *arguments], check=True, timeout=30, capture_output=True)


def convert(servers: Servers, directory: Path, schema: dict) -> None:
    file = directory / "converted.ovsschema"
    schema["version"] = f"{schema['version'].split('.')[0]}.99.{time.monotonic_ns() % 10**6}"
    schema.pop("cksum", None)
    file.write_text(json.dumps(schema))
    command = [find_program("ovsdb-client"), "convert", servers.nb, str(file)]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
