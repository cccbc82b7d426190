"""Restart: whatever is killed, paused or rewritten at whatever moment, what was acknowledged stays true."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sites import Answer, Site
from stores import active, in_ledger, listening, logged, restart, specs, state, stores_agree
from support import wait_until
from witnesses import Crowd, told_the_truth

from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import CommandError, StatusError
from ovnreserve.sandbox import Daemon, SandboxError, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KILLS = 15
THEIRS = "10.16.0.5..10.16.0.9 // theirs"
SQUATTERS_MAC = "0a:00:00:00:00:77"


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped, killed and paused."""
    return Site(servers, daemon)


# ---- killed at any time --------------------------------------------------------------------------------------------


def while_it_works(site: Site, work: Callable[[], object]) -> threading.Thread:
    """Begin the work in another thread, and return when it has come as far as the database, or is done."""
    log = site.servers.run_dir / "ovnnb_db.db"
    size = log.stat().st_size
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: log.stat().st_size > size or not thread.is_alive(), what="it is being written")
    return thread


def test_killed_at_any_moment_what_was_acknowledged_is_true(own: Site) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    switch = own.switch("10.16.0.0/16", exclude_ips=THEIRS)
    crowd = Crowd(own, switch, dice)
    moment = threading.Event()
    for kill in itertools.count(1):
        thread = while_it_works(own, crowd.run)
        moment.wait(dice.uniform(0, 0.05))
        own.daemon.kill()
        thread.join()
        came = dice.choice(sorted(crowd.held)) if crowd.held else ""  # killed before anything was acknowledged
        if came:
            own.nb("--may-exist", "lsp-add", switch, came, "--", "lsp-set-addresses", came, "dynamic")
        restart(own)

        shown = stores_agree(own, switch, THEIRS)
        told_the_truth([crowd], shown)
        crowd.learn(shown)
        if came:
            _uid, v4, mac = crowd.held[came]
            wait_until(lambda came=came, has={f"{mac} {v4}"}: own.addresses(came) == has, what="bound")
        if kill >= KILLS and crowd.held and crowd.released:
            break
        assert kill < 10 * KILLS, "nothing was acknowledged, or no release was"


@pytest.mark.parametrize("verb", ["apply", "delete"])
def test_what_was_in_the_ledger_only_when_it_was_killed_is_carried_out(own: Site, verb: str) -> None:
    switch = own.switch(exclude_ips=THEIRS)
    answers = [own.reserve(switch) for _ in range(3)]
    own.port(switch, name=answers[0].name)
    wait_until(lambda: own.condition(answers[0].name, "Bound")["status"] == "True", what="bound")
    documents = [own.document(switch) for _ in range(3)] if verb == "apply" else [answers[0].ip, answers[1].ip]
    expected = {answer.name for answer in answers} ^ {document["metadata"]["name"] for document in documents}
    own.servers.nb_server.pause()
    before = in_ledger(own)

    def work() -> None:
        with contextlib.suppress(CommandError):
            own.new_client().post("/apis/ovnreserve.io/v1/bulk", {"verb": verb, "items": documents})

    asked = threading.Thread(target=work)
    asked.start()
    wait_until(lambda: in_ledger(own) != before, what="it is in the ledger")
    own.daemon.kill()
    asked.join()
    own.servers.nb_server.kill()  # and with it whatever it had been sent
    own.servers.nb_server.start()
    restart(own)
    wait_until(lambda: specs(own.ips()).keys() == expected, what="it is carried out")
    stores_agree(own, switch, THEIRS)
    assert len(own.rows("Logical_Switch_Port")) == (verb == "apply")


def test_ports_that_came_while_it_was_down_are_bound(own: Site) -> None:
    switch = own.switch()
    answers = [own.reserve(switch) for _ in range(5)]
    own.daemon.kill()
    for answer in answers:
        own.port(switch, "dynamic", name=answer.name)
    restart(own)
    for answer in answers:
        wait_until(lambda name=answer.name: own.condition(name, "Bound")["status"] == "True", what="bound")
        assert own.addresses(answer.name) == {answer.addresses}


# ---- the database comes and goes -----------------------------------------------------------------------------------


class Deaf:
    """Something that listens where the database should be, and hangs up; `calls` counts."""

    def __init__(self, path: Path) -> None:
        self.calls = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._path = path
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.calls += 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._path.unlink()


def test_a_missing_database_is_waited_for_without_a_flood(servers: Servers, tmp_path: Path) -> None:
    servers.nb_server.kill()
    deaf = Deaf(servers.run_dir / "ovnnb_db.sock")
    daemon = Daemon(servers, tmp_path / "state")
    daemon.start(wait=False)
    with daemon:
        site = Site(servers, daemon)
        listening(daemon)
        assert state(site) == "disconnected"
        assert site.ips() == []
        refused = site.create(site.document("anywhere"), "?timeout=30")
        assert refused.code == 503
        assert "nothing was changed" in refused.message
        wait_until(lambda: deaf.calls >= 3, what="it tries again and again")
        assert "READY=1" not in daemon.messages
        lines = daemon.log.read_text().splitlines()
        assert len(lines) <= 3, lines
        deaf.close()
        servers.nb_server.start()
        daemon.wait_ready()
        active(site)
        changes = [line for line in daemon.log.read_text().splitlines() if "state_changed" in line]
        assert len(changes) <= 4, changes


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_restarted_database_is_found_again(own: Site, how: str) -> None:
    switch = own.switch("10.16.0.0/16", exclude_ips=THEIRS)
    first = own.reserve(switch)
    server = own.servers.nb_server
    before = len(logged(own, "state_changed"))
    (server.kill if how == "killed" else server.stop)()
    wait_until(lambda: state(own) == "disconnected", what="disconnected")
    assert specs(own.ips()) == specs([first.ip])
    refused = own.create(own.document(switch), "?timeout=20")
    assert refused.code == 503
    server.start()
    active(own)
    second = own.reserve(switch, wait="sb")
    assert second.result == "created"
    assert stores_agree(own, switch, THEIRS) == specs([first.ip, second.ip])
    assert len(logged(own, "state_changed")) - before <= 4
    own.port(switch, "dynamic", name=first.name)
    wait_until(lambda: own.condition(first.name, "Bound")["status"] == "True", what="bound")


def test_a_database_killed_while_many_are_reserved_loses_nothing(own: Site) -> None:
    switch = own.switch("10.16.0.0/16", exclude_ips=THEIRS)
    kept: dict[str, tuple[str, str, str]] = {}
    unsure: set[str] = set()
    for _ in range(3):
        documents = [own.document(switch) for _ in range(2000)]
        answers: list[Answer] = []
        asked = while_it_works(own, partial(ask, own, documents, answers))
        own.servers.nb_server.kill()
        own.servers.nb_server.start()
        asked.join()
        kept |= specs(answer.ip for answer in answers if answer.result == "created")
        unsure |= {d["metadata"]["name"] for d, a in zip(documents, answers, strict=True) if a.result != "created"}
        active(own)
        shown = stores_agree(own, switch, THEIRS)
        assert {name: shown.get(name) for name in kept} == kept
        assert shown.keys() <= kept.keys() | unsure


def ask(site: Site, documents: list[dict[str, Any]], answers: list[Answer]) -> None:
    answers += site.bulk("apply", documents)


def test_a_paused_database_delays_writes_within_their_timeout_and_no_reads(own: Site) -> None:
    switch = own.switch()
    first = own.reserve(switch)
    own.servers.nb_server.pause()
    refusals: list[Answer] = []
    seconds: list[float] = []

    def create(document: dict[str, Any]) -> None:
        asker = Site(own.servers, own.daemon)
        start = time.monotonic()
        refusals.append(asker.create(document, "?timeout=1.5"))
        seconds.append(time.monotonic() - start)

    documents = [own.document(switch) for _ in range(3)]
    threads = [threading.Thread(target=create, args=(document,)) for document in documents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        start = time.monotonic()
        assert first.name in specs(own.ips())
        assert own.subnet(switch)["spec"]["cidrBlock"]
        assert time.monotonic() - start < 1.2
        threads[0].join(0.1)
    assert all(1.4 < s < 3 for s in seconds), seconds
    assert {refused.code for refused in refusals} <= {503, 504}
    assert 504 in {refused.code for refused in refusals}
    assert all(
        ("may still be done" if refused.code == 504 else "nothing was changed") in refused.message
        for refused in refusals
    )
    own.servers.nb_server.resume()
    # The truth shows: each is there or is not, in all stores alike; and asking again settles it.
    active(own)
    again = own.bulk("apply", documents)
    assert {answer.result for answer in again} <= {"created", "unchanged"}
    shown = stores_agree(own, switch)
    assert shown == specs([first.ip, *(answer.ip for answer in again)])


# ---- stopping and starting -----------------------------------------------------------------------------------------


def test_sigterm_stops_it_cleanly(own: Site) -> None:
    own.reserve(own.switch())
    daemon = own.daemon
    pid = daemon.pid
    files = [daemon.run_dir / name for name in ("ovnreserved.sock", "ovnreserved.pid", f"ovnreserved.{pid}.ctl")]
    assert all(file.exists() for file in files)
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert files[1].read_text() == f"{pid}\n"
    assert daemon.stop() == 0
    assert not [file for file in files if file.exists()]
    assert "STOPPING=1" in daemon.messages
    assert daemon.messages.index("READY=1") < daemon.messages.index("STOPPING=1")


def test_what_is_under_way_at_sigterm_is_finished_or_said_to_be_unknown(own: Site) -> None:
    switch = own.switch("10.16.0.0/16")
    documents = [own.document(switch) for _ in range(3000)]
    answers: list[Answer] = []
    asked = while_it_works(own, partial(ask, own, documents, answers))
    assert own.daemon.stop() == 0
    asked.join()
    kept = specs(answer.ip for answer in answers if answer.result == "created")
    restart(own)
    shown = stores_agree(own, switch)
    assert {name: shown.get(name) for name in kept} == kept


def test_sigterm_is_obeyed_while_the_database_is_paused(own: Site) -> None:
    switch = own.switch()
    own.reserve(switch)
    own.servers.nb_server.pause()
    asker = Site(own.servers, own.daemon)
    answers: list[Answer] = []
    asked = threading.Thread(target=lambda: answers.append(asker.create(own.document(switch), "?timeout=60")))
    asked.start()
    wait_until(lambda: len(in_ledger(own)) == 2, what="it is under way")
    assert own.daemon.stop(timeout=15) == 0
    asked.join(5)
    assert not asked.is_alive()
    assert [answer.code for answer in answers] == [504]
    own.servers.nb_server.resume()
    restart(own)
    stores_agree(own, switch)


def test_it_is_ready_only_after_it_has_compared_everything(own: Site) -> None:
    switch = own.switch()
    answer = own.reserve(switch)
    own.daemon.stop()
    own.client.close()
    own.servers.nb_server.pause()
    own.daemon.start(wait=False)
    listening(own.daemon)
    assert specs(own.ips()) == specs([answer.ip])
    assert "READY=1" not in own.daemon.messages
    own.servers.nb_server.resume()
    own.daemon.wait_ready()
    assert state(own) in ("active", "standby")
    assert logged(own, "state_changed")


# ---- others write over it ------------------------------------------------------------------------------------------


def rewrite(site: Site, switch: str, value: str) -> None:
    """Another client sets the whole of exclude_ips, and our text is gone."""
    site.nb("set", "logical_switch", switch, f"other_config:exclude_ips={json.dumps(value)}")


def test_a_rewritten_exclude_ips_is_repaired(own: Site) -> None:
    switch = own.switch(exclude_ips=THEIRS)
    answer = own.reserve(switch)
    rewrite(own, switch, "10.16.0.30")
    wait_until(lambda: own.exclude_ips(switch) == f"{answer.v4} 10.16.0.30", what="repaired")
    own.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    wait_until(lambda: own.exclude_ips(switch) == answer.v4, what="repaired")
    own.nb("remove", "logical_switch", switch, "external_ids", "ovnreserve/excluded")
    wait_until(lambda: own.row("Logical_Switch", switch)["external_ids"], what="the mark is back")
    assert own.condition(answer.name, "Conflicted")["status"] == "False"


@pytest.mark.parametrize("how", ["paused", "killed"])
def test_a_repair_renumbers_no_port_that_got_the_address_meanwhile(own: Site, how: str) -> None:
    switch = own.switch()
    answer = own.reserve(switch, v4IpAddress="10.16.0.2")
    other = own.reserve(switch)
    (own.daemon.pause if how == "paused" else own.daemon.kill)()
    rewrite(own, switch, "10.16.0.30")
    lucky = own.port(switch, name="lucky")
    has = own.dynamic_addresses(lucky)
    assert has.endswith(" 10.16.0.2")
    own.daemon.resume() if how == "paused" else restart(own)
    wait_until(lambda: own.exclude_ips(switch) == f"{other.v4} 10.16.0.30", what="repaired but for one")
    wait_until(lambda: own.condition(answer.name, "Conflicted")["status"] == "True", what="conflicted")
    assert "lucky" in own.condition(answer.name, "Conflicted")["message"]
    assert own.condition(answer.name, "Enforced")["reason"] == "Withheld"
    wait_until(lambda: "Withheld" in dict(own.events(answer.name)), what="an event")

    # Neither another reservation on the switch nor a restart does what the repair did not.
    third = own.reserve(switch)
    restarted = f"{third.v4}..{other.v4} 10.16.0.30"
    assert own.exclude_ips(switch) == restarted
    own.daemon.stop()
    restart(own)
    own.nb("--wait=sb", "sync")
    assert own.exclude_ips(switch) == restarted
    assert own.dynamic_addresses(lucky) == has

    own.nb("lsp-del", lucky)
    wait_until(lambda: own.exclude_ips(switch) == f"10.16.0.2 {restarted}", what="added when the port has left")
    wait_until(lambda: own.condition(answer.name, "Conflicted")["status"] == "False", what="no conflict")


def test_a_repair_pins_the_reservation_s_own_port_that_got_the_address_meanwhile(own: Site) -> None:
    switch = own.switch()
    answer = own.reserve(switch, v4IpAddress="10.16.0.2")
    own.daemon.pause()
    rewrite(own, switch, "10.16.0.30")
    own.port(switch, name=answer.name)
    assert own.dynamic_addresses(answer.name).endswith(" 10.16.0.2")
    own.daemon.resume()
    wait_until(lambda: own.exclude_ips(switch) == "10.16.0.2 10.16.0.30", what="repaired")
    assert own.addresses(answer.name) == {answer.addresses}
    wait_until(lambda: own.condition(answer.name, "Bound")["status"] == "True", what="bound")


def test_a_reservation_made_while_a_repair_waits_renumbers_nobody(own: Site) -> None:
    """The repair waits for ovn-northd, which is about to choose; nobody else puts the lost address back meanwhile."""
    switch = own.switch()
    answer = own.reserve(switch, v4IpAddress="10.16.0.2")
    with own.northd_paused():
        own.daemon.pause()
        rewrite(own, switch, "10.16.0.30")
        own.nb("lsp-add", switch, "lucky", "--", "lsp-set-addresses", "lucky", "dynamic")
        made: list[Answer] = []
        asked = threading.Thread(target=lambda: made.append(own.reserve(switch)))
        asked.start()
        own.daemon.resume()
        wait_until(lambda: own.new_client().get("/apis/ovnreserve.io/v1/status")["ports"], what="the port is seen")
        # What ovn-northd has computed before it sees any of that.
        own.nb("set", "logical_switch_port", "lucky", 'dynamic_addresses="0a:00:00:00:00:02 10.16.0.2"')
        asked.join()
        assert [answer.result for answer in made] == ["created"]
    own.nb("--wait=sb", "sync")
    assert own.dynamic_addresses("lucky").endswith(" 10.16.0.2")
    assert own.exclude_ips(switch) == f"{made[0].v4} 10.16.0.30"
    assert own.condition(answer.name, "Enforced")["reason"] == "Withheld"


def test_a_record_that_is_deleted_by_hand_is_written_again(own: Site) -> None:
    switch = own.switch()
    answer = own.reserve(switch)
    own.nb("destroy", "dns", own.records()[answer.name]["_uuid"])
    wait_until(lambda: answer.name in own.records(), what="written again")
    assert stores_agree(own, switch) == specs([answer.ip])


def test_all_records_deleted_by_hand_are_written_again(own: Site) -> None:
    switch = own.switch("10.16.0.0/16")
    answers = own.bulk("apply", [own.document(switch) for _ in range(50)])
    own.nb("--all", "destroy", "dns")
    wait_until(lambda: len(own.records()) == 50, what="written again")
    assert stores_agree(own, switch) == specs(answer.ip for answer in answers)
    assert own.reserve(switch).result == "created"


@pytest.mark.parametrize("down", [False, True])
def test_a_record_that_is_garbled_by_hand_is_written_again(own: Site, down: bool) -> None:
    switch = own.switch()
    answer = own.reserve(switch)
    if down:
        own.daemon.kill()
    row = own.records()[answer.name]["_uuid"]
    own.nb("set", "dns", row, 'external_ids:"ovnreserve/record"="{}"')
    if down:
        restart(own)
    wait_until(lambda: "10.16.0." in own.records()[answer.name]["external_ids"]["ovnreserve/record"], what="repaired")
    assert stores_agree(own, switch) == specs([answer.ip])


def test_a_wiped_database_is_filled_again(own: Site) -> None:
    """Records and excludes are gone, and the reservation's port is there and dynamic."""
    switch = own.switch("10.16.0.0/16")
    answers = [own.reserve(switch, v4IpAddress=f"10.16.0.{host}") for host in range(2, 22)]
    own.daemon.stop()
    own.nb("--all", "destroy", "dns", "--", "remove", "logical_switch", switch, "other_config", "exclude_ips")
    own.nb("clear", "logical_switch", switch, "external_ids")
    own.port(switch, name=answers[0].name)
    lucky = own.port(switch, name="lucky")
    has = own.dynamic_addresses(lucky)
    assert has.endswith(" 10.16.0.3")
    restart(own)
    wait_until(lambda: own.exclude_ips(switch) == "10.16.0.2 10.16.0.4..10.16.0.21", what="filled again")
    assert len(own.records()) == 20
    assert own.addresses(answers[0].name) == {answers[0].addresses}
    own.nb("--wait=sb", "sync")
    assert own.dynamic_addresses(lucky) == has
    assert "lucky" in own.condition(answers[1].name, "Conflicted")["message"]


# ---- two daemons ---------------------------------------------------------------------------------------------------


@pytest.fixture
def standby(own: Site, tmp_path: Path) -> Iterator[Site]:
    """Another daemon on the same database, with directories of its own."""
    with Daemon(own.servers, tmp_path / "second", run_dir=own.servers.run_dir / "second") as daemon:
        yield Site(own.servers, daemon)
        print("---- the second daemon ----", daemon.log.read_text(), sep="\n")


def test_a_second_daemon_in_the_same_run_directory_is_refused(own: Site, tmp_path: Path) -> None:
    answer = own.reserve(own.switch())
    second = Daemon(own.servers, tmp_path / "second")
    # Of the sandbox's Daemon only the command: its notify socket is the first one's.
    second._notify = own.servers.run_dir / "second.notify"
    with pytest.raises(SandboxError, match=f"already running as pid {own.daemon.pid}"):
        second.start()
    second._stop_listening()
    assert specs(own.ips()) == specs([answer.ip])
    assert (own.servers.run_dir / "ovnreserved.pid").read_text() == f"{own.daemon.pid}\n"


def test_a_second_daemon_on_the_same_database_is_standby(own: Site, standby: Site) -> None:
    switch = own.switch()
    assert (state(own), state(standby)) == ("active", "standby")
    answer = own.reserve(switch)
    wait_until(lambda: specs(standby.ips()) == specs([answer.ip]), what="the standby follows")
    for refused in (standby.create(standby.document(switch)), *standby.bulk("delete", [answer.ip])):
        assert refused.code == 503
        assert "standby" in refused.message
    own.port(switch, name=answer.name)
    wait_until(lambda: standby.condition(answer.name, "Bound")["status"] == "True", what="the standby sees it bound")
    own.release(answer.name)
    wait_until(lambda: standby.ips() == [], what="the standby follows")


def test_the_standby_takes_over_with_everything(own: Site, standby: Site) -> None:
    switch = own.switch("10.16.0.0/16", exclude_ips=THEIRS)
    kept = own.bulk("apply", [own.document(switch) for _ in range(100)])
    gone = own.reserve(switch)
    with own.northd_paused():
        own.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{gone.name}")
        own.daemon.kill()
        own.client.close()
        wait_until(lambda: state(standby) == "active", what="the standby has taken over")
    expected = specs(answer.ip for answer in kept)
    wait_until(lambda: gone.name not in specs(standby.ips()), what="the release is finished")
    assert stores_agree(standby, switch, THEIRS) == expected
    made = standby.reserve(switch)
    assert made.result == "created"
    # The old one comes back, with a ledger that knows nothing of that.
    own.daemon.start()
    assert state(own) == "standby"
    expected |= specs([made.ip])
    wait_until(lambda: specs(own.ips()) == expected, what="the old one follows")
    standby.daemon.stop()
    active(own)
    assert stores_agree(own, switch, THEIRS) == expected


def test_a_frozen_active_that_wakes_up_does_no_harm(own: Site, standby: Site) -> None:
    """Its connection is gone meanwhile; what it had not sent is not done behind the new one's back."""
    switch = own.switch("10.16.0.0/16")
    first = own.reserve(switch)
    own.daemon.pause()
    asker = Client(own.daemon.client_environment["OVNRESERVE_SERVER"], lambda _warning: None)
    outcome: list[object] = []
    document = own.document(switch, v4IpAddress="10.16.0.9")

    def ask() -> None:
        try:
            outcome.append(asker.post("/apis/kubeovn.io/v1/ips?timeout=5", document))
        except StatusError as error:
            outcome.append(error.status["code"])

    asked = threading.Thread(target=ask)
    asked.start()
    own.servers.nb_server.stop()
    own.servers.nb_server.start()
    wait_until(lambda: state(standby) == "active", 20, what="the standby has taken over")
    made = standby.reserve(switch, v4IpAddress="10.16.0.9")
    assert made.result == "created"
    own.daemon.resume()
    asked.join()
    assert outcome == [503]
    wait_until(lambda: specs(own.ips()) == specs([first.ip, made.ip]), what="the old one follows")
    assert state(own) == "standby"
    assert stores_agree(standby, switch) == specs([first.ip, made.ip])


def test_sigint_and_sighup(own: Site) -> None:
    own.daemon._started().send_signal(signal.SIGHUP)
    assert own.reserve(own.switch()).result == "created"
    own.daemon._started().send_signal(signal.SIGINT)
    wait_until(lambda: not own.daemon.alive, what="stopped")
    assert own.daemon.stop() == 0
