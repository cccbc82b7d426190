"""Active and standby: whoever dies, in whatever way, another goes on with everything."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from link import Link
from sites import Answer, Site
from support import Result, ovnreserve, wait_until
from test_restart import in_ledger, logged, specs, state, stores_agree

from ovnreserve.cli.errors import UnreachableError
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    Start = Callable[..., Site]

PROBE = 1000  # milliseconds; the server's own default is 5000
TAKEN_OVER = 40  # seconds, on a machine that does other things too


@pytest.fixture
def servers() -> Iterator[Servers]:
    """As everywhere, but that remotes may be added by `remote_of`."""
    keys = ("private_key", "certificate", "ca_cert")
    ssl = [f"--{key.replace('_', '-')}=db:OVN_Northbound,SSL,{key}" for key in keys]
    with Servers(nb_options=["--remote=db:OVN_Northbound,NB_Global,connections", *ssl]) as servers:
        yield servers


@pytest.fixture
def start(servers: Servers, tmp_path: Path) -> Iterator[Start]:
    """`start(name, *arguments, main='', **environment)`: a daemon with directories of its own, ready; `main` is another
    module than ovnreserve.daemon to run it.
    """
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str, main: str = "", **environment: str) -> Site:
            directories = {"state_dir": tmp_path / name, "run_dir": servers.run_dir / name}
            daemon = Daemon(servers, directories["state_dir"], *arguments, run_dir=directories["run_dir"],
                            environment=environment)  # fmt: skip
            if main:
                daemon.command = tuple(main if word == "ovnreserve.daemon" else word for word in daemon.command)
            stack.callback(lambda: print(f"---- {name} ----", daemon.log.read_text(), sep="\n"))
            stack.enter_context(daemon)
            site = Site(servers, daemon)
            site._numbers = numbers  # no name twice, whichever site thinks of it
            return site

        numbers = itertools.count(1)
        yield start


def becomes(site: Site, wanted: str) -> None:
    def is_so() -> bool:
        with contextlib.suppress(UnreachableError):  # it is just being started
            return state(site) == wanted
        return False

    wait_until(is_so, TAKEN_OVER, what=f"it is {wanted}")


def follows(site: Site, *answers: Answer) -> None:
    wait_until(lambda: specs(site.ips()) == specs(answer.ip for answer in answers), 20, what="it shows the same")


def remote_of(servers: Servers, remote: str) -> str:
    """Have the northbound server listen there too, with a short inactivity probe; how clients call it."""
    servers.nbctl("set-connection", remote, "--", "set", "connection", ".", f"inactivity_probe={PROBE}")
    port = wait_until(
        lambda: servers.nbctl("--if-exists", "get", "connection", ".", "status:bound_port").strip().strip('"'),
        what="it listens",
    )
    return f"{remote.partition(':')[0].removeprefix('p')}:127.0.0.1:{port}"


@pytest.fixture(params=["tcp", "ssl"])
def remote(request: pytest.FixtureRequest, servers: Servers, pki: Path) -> tuple[str, ...]:
    """A daemon's options for a connection that the server probes."""
    if request.param == "tcp":
        return ("--db", remote_of(servers, "ptcp:0:127.0.0.1"))
    servers.nbctl("set-ssl", f"{pki}/key.pem", f"{pki}/cert.pem", f"{pki}/ca.pem")
    tls = ("-p", f"{pki}/key.pem", "-c", f"{pki}/cert.pem", "-C", f"{pki}/ca.pem")
    return ("--db", remote_of(servers, "pssl:0:127.0.0.1"), *tls)


# ---- ways of dying -------------------------------------------------------------------------------------------------


def test_of_three_that_are_killed_one_after_the_other_each_goes_on_with_everything(start: Start) -> None:
    first, second, third = (start(name) for name in ("first", "second", "third"))
    assert [state(site) for site in (first, second, third)] == ["active", "standby", "standby"]
    switch = first.switch("10.16.0.0/16")
    answers = [first.reserve(switch) for _ in range(3)]
    active, left = first, [second, third]
    while left:
        active.daemon.kill()
        active = wait_until(lambda: next((s for s in left if state(s) == "active"), None), TAKEN_OVER, what="another")
        answers.append(active.reserve(switch))
        assert answers[-1].result == "created"
        active.release(answers.pop(0).name)
        for site in left:
            follows(site, *answers)
        left.remove(active)
    assert stores_agree(active, switch) == specs(answer.ip for answer in answers)


def test_a_stopped_one_loses_the_lock_by_the_servers_probe_and_does_no_harm_when_it_goes_on(
    start: Start, remote: tuple[str, ...]
) -> None:
    old, new = start("old", "--watchdog=0", *remote), start("new", *remote)
    switch = old.switch("10.16.0.0/16")
    kept, gone = old.reserve(switch), old.reserve(switch)
    old.daemon.pause()
    becomes(new, "active")
    new.release(gone.name)
    made = new.reserve(switch, v4IpAddress=gone.v4)
    assert made.result == "created"
    transactions = len(new.ours())
    old.daemon.resume()
    becomes(old, "standby")
    follows(old, kept, made)
    assert len(new.ours()) == transactions
    assert stores_agree(new, switch) == specs([kept.ip, made.ip])


def test_a_stopped_one_is_killed_by_its_watchdog_where_the_server_does_not_probe(start: Start) -> None:
    old, new = start("old", "--watchdog=1s"), start("new", "--watchdog=1s")
    switch = old.switch()
    kept = old.reserve(switch)
    pid = old.daemon.pid
    old.daemon.pause()
    becomes(new, "active")
    wait_until(lambda: not old.daemon.alive, what="it is gone")
    assert old.daemon.stop() == -signal.SIGKILL
    wait_until(lambda: logged(old, "daemon_killed"), what="a line says why")
    [line] = logged(old, "daemon_killed")
    assert f"pid={pid}" in line
    made = new.reserve(switch)
    assert stores_agree(new, switch) == specs([kept.ip, made.ip])
    old.daemon.start()
    assert state(old) == "standby"
    follows(old, kept, made)


def test_one_whose_engine_hangs_in_the_ledgers_disk_is_killed_though_it_still_answers(
    start: Start, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    old = start("old", "--watchdog=3s", main="functional.hung_disk", HANGS_ON=str(fifo))
    new = start("new")
    switch = old.switch()
    kept = old.reserve(switch)
    os.mkfifo(fifo)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(Site(old.servers, old.daemon).reserve(switch))
        except Exception as error:  # noqa: BLE001 - whatever it is, no success
            answers.append(error)

    asked = threading.Thread(target=ask)
    asked.start()
    writer = wait_until(lambda: held_open(fifo), what="its engine hangs")
    assert specs(old.ips()) == specs([kept.ip])  # reads are still answered, from what was published
    becomes(new, "active")
    wait_until(lambda: not old.daemon.alive, what="it is gone")
    asked.join()
    os.close(writer)
    assert not isinstance(answers[0], Answer)
    assert stores_agree(new, switch) == specs([kept.ip])


def held_open(fifo: Path) -> int | None:
    """The other end of the FIFO, as soon as somebody wants to read from it; who then waits until we close it."""
    with contextlib.suppress(OSError):
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    return None


# ---- the connection to the database --------------------------------------------------------------------------------


def test_one_that_loses_its_connection_answers_reads_and_follows_when_it_is_back(
    start: Start, servers: Servers
) -> None:
    with Link(servers) as link:
        old, new = start("old", "--db", link.remote), start("new")
        switch = old.switch()
        kept = old.reserve(switch)
        link.cut()
        becomes(new, "active")
        wait_until(lambda: state(old) == "disconnected", what="it knows")
        made = new.reserve(switch)
        assert specs(old.ips()) == specs([kept.ip])
        refused = old.reserve(switch)
        assert refused.code == 503
        assert "nothing was changed" in refused.message
        link.mend()
        becomes(old, "standby")
        follows(old, kept, made)
        assert stores_agree(new, switch) == specs([kept.ip, made.ip])


def test_what_one_sent_into_a_black_hole_is_not_done_when_another_has_worked_since(
    start: Start, servers: Servers
) -> None:
    """Its intent is in its ledger, and its transaction on the way, which ends nowhere."""
    database = remote_of(servers, "ptcp:0:127.0.0.1")
    with Link(servers, database) as link:
        old, new = start("old", "--db", link.remote), start("new")
        switch = old.switch()
        kept = old.reserve(switch)
        link.hold()
        document = old.document(switch, "contested", v4IpAddress="10.16.0.9")
        answers: list[Answer] = []
        asked = threading.Thread(target=lambda: answers.append(old.create(document, "?timeout=3")))
        asked.start()
        wait_until(lambda: in_ledger(old).get("contested.default", ("", "", ""))[1] == "intended", what="the intent")
        becomes(new, "active")
        made = new.reserve(switch, "contested", v4IpAddress="10.16.0.77")
        other = new.reserve(switch, v4IpAddress="10.16.0.9")
        assert (made.result, other.result) == ("created", "created")
        asked.join()
        assert answers[0].code == 504
        transactions = len(new.ours())
        link.mend()
        becomes(old, "standby")
        follows(old, kept, made, other)
        assert len(new.ours()) == transactions
        assert stores_agree(new, switch) == specs([kept.ip, made.ip, other.ip])
        wait_until(lambda: in_ledger(old) == in_ledger(new), what="its ledger says the same")
        assert "Superseded" in dict(old.events("contested.default"))


# ---- a standby -----------------------------------------------------------------------------------------------------


def test_a_standby_has_it_in_its_ledger_whenever_the_others_are_gone(start: Start, servers: Servers) -> None:
    active, standby = start("active"), start("standby")
    switch = active.switch("10.16.0.0/16")
    answers = active.bulk("apply", [active.document(switch) for _ in range(50)])
    for gone in answers[:10]:
        active.release(gone.name)
    kept = answers[10:]
    follows(standby, *kept)
    active.daemon.kill()
    standby.daemon.kill()
    servers.nb_server.kill()
    standby.client.close()
    standby.daemon.start(wait=False)
    becomes(standby, "disconnected")
    assert specs(standby.ips()) == specs(answer.ip for answer in kept)


def test_a_standby_that_is_started_later_has_everything_too(start: Start) -> None:
    active = start("active")
    switch = active.switch("10.16.0.0/16")
    answers = active.bulk("apply", [active.document(switch) for _ in range(50)])
    standby = start("standby")
    assert state(standby) == "standby"
    assert specs(standby.ips()) == specs(answer.ip for answer in answers)
    assert in_ledger(standby) == specs(answer.ip for answer in answers)


@pytest.mark.parametrize("how", ["given back", "released while the standby sleeps"])
def test_what_was_let_go_does_not_come_back_with_yesterdays_database_after_a_fail_over(
    start: Start, servers: Servers, how: str
) -> None:
    active, standby = start("one"), start("two")
    switch = active.switch()
    old = active.reserve(switch, "old", v4IpAddress="10.16.0.60")
    active.port(switch, name=old.name)
    wait_until(lambda: active.condition(old.name, "Bound")["status"] == "True", what="bound")
    database = servers.run_dir / "ovnnb_db.db"
    yesterday = database.with_suffix(".yesterday")
    shutil.copy(database, yesterday)  # OVSDB's log: every prefix of it is a database
    follows(standby, old)
    if how == "given back":
        patch = {"metadata": {"labels": {"ovn.kubernetes.io/ip_reserved": "false"}}}
        active.client.patch(f"/apis/kubeovn.io/v1/ips/{old.name}", patch)
        wait_until(lambda: old.name not in active.records(), what="given back")
        active.nb("lsp-del", old.name)
        wait_until(lambda: active.ip(old.name) is None, what="gone")
    else:
        standby.daemon.pause()
        active.release(old.name)
    heir = active.reserve(switch, "heir", v4IpAddress=old.v4)
    assert heir.result == "created"
    standby.daemon.resume()
    wait_until(lambda: standby.ip(heir.name) is not None, what="it follows")
    active.daemon.kill()
    becomes(standby, "active")
    made = standby.reserve(switch, "made")
    servers.nb_server.stop()
    shutil.copy(yesterday, database)
    servers.nb_server.start()
    wait_until(lambda: standby.records().keys() == {heir.name, made.name}, 20, what="the records are what they were")
    assert stores_agree(standby, switch).keys() == {heir.name, made.name}


def test_an_address_rests_also_where_its_name_was_given_again_before_the_standby_saw_it(start: Start) -> None:
    active, standby = start("one"), start("two")
    switch = active.switch()
    first = active.reserve(switch, "a")
    follows(standby, first)
    standby.daemon.pause()
    active.release(first.name)
    again = active.reserve(switch, "a")
    standby.daemon.resume()
    wait_until(lambda: in_ledger(standby).get(first.name, ("",))[0] == again.ip["metadata"]["uid"], what="it follows")
    active.daemon.kill()
    becomes(standby, "active")
    assert first.v4 not in (again.v4, standby.reserve(switch, "b").v4)


def test_owners_and_what_they_retain_go_on_at_another_daemon(start: Start) -> None:
    first, second = (start(name, "--keep-vm-ip") for name in ("first", "second"))
    switch = first.switch()

    def owner(kind: str, name: str, **spec: Any) -> dict[str, Any]:
        version = {"StatefulSet": "apps/v1", "VirtualMachine": "kubevirt.io/v1"}[kind]
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}

    machine = owner("VirtualMachine", "vm1")
    for document in (owner("StatefulSet", "web", replicas=3), machine):
        assert first.apply(document).result == "created"
    for pod in ("web-0", "web-1", "vm1"):
        first.port(switch, name=f"{pod}.default")
    retained = {"web-0.default", "web-1.default", "vm1.default"}
    wait_until(lambda: retained <= first.records().keys(), what="retained")
    first.nb("lsp-del", "web-1.default", "--", "lsp-del", "vm1.default")
    wait_until(lambda: retained <= in_ledger(second).keys(), what="the other follows")
    first.daemon.kill()
    becomes(second, "active")
    assert retained <= second.records().keys()
    second.port(switch, name="web-2.default")
    wait_until(lambda: "web-2.default" in second.records(), what="the new one retains")
    assert second.apply(owner("StatefulSet", "web", replicas=1)).result == "configured"
    second.bulk("delete", [machine])
    wait_until(lambda: second.records().keys() == {"web-0.default"}, what="let go")


def test_a_standby_names_who_wrote_last_on_one_line_whatever_is_written_there(start: Start) -> None:
    active, standby = start("active"), start("standby")
    switch = active.switch()
    refused = standby.reserve(switch)
    assert refused.message == "this ovnreserved is standby; another one holds the OVSDB lock: ask that one"
    kept = active.reserve(switch)
    follows(standby, kept)
    writer = f"{os.uname().nodename} (pid {active.daemon.pid}, {active.daemon.run_dir}/ovnreserved.sock)"
    for refused in (standby.reserve(switch), *standby.bulk("delete", [kept.ip])):
        assert refused.code == 503
        assert refused.message == f"this ovnreserved is standby; {writer} wrote last: ask that one"
    assert f"Last Writer: {writer}\n" in standby.command("status").stdout
    row = "external_ids:ovnreserve/kind=ledger"
    uuid = active.nb("--bare", "--columns=_uuid", "find", "dns", row).strip()
    active.nb("set", "dns", uuid, 'external_ids:"ovnreserve/writer"="me\\n\\u001b[2J: all is well"')
    told = wait_until(
        lambda: standby.reserve(switch).message if "me" in standby.reserve(switch).message else "", what="it is seen"
    )
    assert told == "this ovnreserved is standby; me\\u000a\\u001b[2J: all is well wrote last: ask that one"
    assert standby.command("status").stdout.splitlines()[-1].startswith("Last Writer: me\\u000a")


def test_an_active_one_that_takes_over_without_having_written_names_nobody_but_itself(start: Start) -> None:
    active, standby = start("active"), start("standby")
    kept = active.reserve(active.switch())
    follows(standby, kept)
    active.daemon.stop()
    becomes(standby, "active")
    assert "Last Writer" not in standby.command("status").stdout


# ---- the command line ----------------------------------------------------------------------------------------------


def command(sites: list[Site], *arguments: str, stdin: str = "") -> Result:
    servers = ",".join(f"{site.daemon.run_dir}/ovnreserved.sock" for site in sites)
    return ovnreserve(*arguments, environment={"OVNRESERVE_SERVER": servers}, stdin=stdin)


def yaml(document: dict[str, Any]) -> str:
    return json.dumps(document)


def test_the_command_line_finds_the_active_one_before_and_after_a_fail_over(start: Start) -> None:
    one, other = start("one"), start("other")
    switch = one.switch()
    document = one.document(switch)
    name = document["metadata"]["name"]
    both = [other, one]
    assert command(both, "create", "-f", "-", stdin=yaml(document)).stdout == f"ip.kubeovn.io/{name} created\n"
    assert "Status: active\n" in command(both, "status").stdout
    one.daemon.kill()
    second = one.document(switch)
    done = command(both, "create", "-f", "-", stdin=yaml(second))
    assert done == (0, f"ip.kubeovn.io/{second['metadata']['name']} created\n", "")
    assert command(both, "delete", "ip", name) == (0, f'ip.kubeovn.io "{name}" deleted\n', "")
    assert command(both, "get", "ip", "-o", "name").stdout == f"ip.kubeovn.io/{second['metadata']['name']}\n"


def test_writes_during_a_fail_over_are_done_once_it_is_over(start: Start) -> None:
    """By three command lines, begun before the active one is killed and going on for as long as it takes."""
    one, other = start("one"), start("other")
    switch = one.switch("10.16.0.0/16")
    documents = [[one.document(switch) for _ in range(10)] for _ in range(3)]
    results: list[Result] = []

    def work(mine: list[dict[str, Any]]) -> None:
        results.extend(command([one, other], "create", "-f", "-", stdin=yaml(document)) for document in mine)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in documents]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(results) >= 5, 30, what="some are done")
    one.daemon.kill()
    for thread in threads:
        thread.join()
    assert [result for result in results if result.code != 0] == []
    names = {document["metadata"]["name"] for mine in documents for document in mine}
    shown = stores_agree(other, switch)
    assert shown.keys() == names


def test_without_an_active_one_the_command_line_says_of_each_what_it_said(start: Start, servers: Servers) -> None:
    one = start("one")
    switch = one.switch()
    servers.nb_server.kill()
    wait_until(lambda: state(one) == "disconnected", what="disconnected")
    nowhere = f"{servers.run_dir}/nowhere"
    socket = f"{one.daemon.run_dir}/ovnreserved.sock"
    document = yaml(one.document(switch))
    failed = ovnreserve("apply", "-f", "-", "--timeout=1s", f"--server={socket},{nowhere}", stdin=document)
    assert failed.code == 1
    assert failed.stderr.splitlines() == [
        f"ovnreserve: {socket},{nowhere}: none of them has become active within 1 s",
        f"  {socket}: disconnected: {servers.nb}: database connection failed (Connection refused)",
        f"  {nowhere}: connection failed (No such file or directory)",
    ]
