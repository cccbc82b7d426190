"""Backup and restore: each test destroys the original."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sites import Site
from support import wait_until

from ovnreserve.cli.main import main
from ovnreserve.ledger.backup import read_backup
from ovnreserve.ledger.schema import MIGRATIONS
from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.exclude_ips import parse
from ovnreserve.model.resource import State
from ovnreserve.sandbox import Daemon, Servers, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

V4, V6 = "10.16.0.0/16", "fd00:16::/64"
BACKUP = "/apis/ovnreserve.io/v1/backup"


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped, killed and destroyed."""
    return Site(servers, daemon)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "file"


def backup(site: Site, file: Path) -> str:
    """Back up to FILE; the line that says so."""
    file.parent.mkdir(exist_ok=True)
    done = site.command("backup", str(file))
    assert (done.code, done.stderr) == (0, "")
    return done.stdout


def lose_the_ledger(site: Site, how: str = "stopped", what: str = "*") -> None:
    """The daemon ends, and its state directory is emptied, or only loses the files of that pattern."""
    (site.daemon.stop if how == "stopped" else site.daemon.kill)()
    site.client.close()
    for file in site.daemon.state_dir.glob(what):
        file.unlink()


def lose_the_database(site: Site) -> None:
    """The northbound server ends, and its database is a new one."""
    site.servers.nb_server.kill()
    (site.servers.run_dir / "ovnnb_db.db").unlink()
    site.servers._create("ovnnb", "ovn-nb.ovsschema")
    site.servers.nb_server.start()
    site.nb("--wait=sb", "sync", timeout=30)


def start(site: Site) -> None:
    site.daemon.start()
    wait_until(lambda: status(site)["state"] == "active", 20, what="the daemon is active")


def status(site: Site) -> dict[str, Any]:
    return site.client.get("/apis/ovnreserve.io/v1/status")


def shown(site: Site) -> dict[str, dict[str, Any]]:
    """By name, what a user has said or was given: spec, labels and annotations."""
    ips = {ip["metadata"]["name"]: ip for ip in site.ips()}
    return {
        name: {"spec": ip["spec"], **{key: ip["metadata"].get(key, {}) for key in ("labels", "annotations")}}
        for name, ip in ips.items()
    }


def specs(ips: list[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
    return {
        ip["metadata"]["name"]: (ip["spec"]["v4IpAddress"], ip["spec"]["v6IpAddress"], ip["spec"]["macAddress"])
        for ip in ips
    }


def versions(site: Site) -> int:
    """The highest resourceVersion there is."""
    answer = site.client.get("/apis/kubeovn.io/v1/ips")
    return max(
        int(answer["metadata"]["resourceVersion"]),
        *(int(ip["metadata"]["resourceVersion"]) for ip in answer["items"]),
    )


def furnish(site: Site) -> str:
    """A switch with one reservation of each kind; its name."""
    switch = site.switch(V4, V6, exclude_ips="10.16.0.5 // theirs")
    full = site.document(switch, "full", podType="VirtualMachine", nodeName="node-1", containerID="c-1")
    full["metadata"] |= {"labels": {"team": "red"}, "annotations": {"why": "because"}}
    full["spec"] |= {"attachIps": ["10.9.0.1"], "attachMacs": ["02:00:00:00:00:01"], "attachSubnets": ["other"]}
    assert site.apply(full).result == "created"
    assert site.reserve(switch, "given", v4IpAddress="10.16.3.7", macAddress="0a:00:00:00:00:07").result == "created"
    site.port(switch, "dynamic", name="adopted.default")
    assert site.reserve(switch, "adopted").result == "created"
    assert site.reserve(switch, "bound").result == "created"
    site.port(switch, "dynamic", name="bound.default")
    for name in ("adopted.default", "bound.default"):
        wait_until(lambda name=name: site.condition(name, "Bound")["status"] == "True", what=f"{name} bound")
    return switch


# ---- the ledger is gone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "what"), [("stopped", "*"), ("killed", "*"), ("stopped", "ledger.db")])
def test_a_ledger_that_is_gone_is_rebuilt_from_the_database_and_nothing_of_that_changes(
    own: Site, how: str, what: str
) -> None:
    switch = furnish(own)
    own.release(own.reserve(switch, "gone").name)  # it had the highest version of all
    before, uids, highest = shown(own), {ip["metadata"]["uid"] for ip in own.ips()}, versions(own)
    written, excluded = len(own.ours()), own.exclude_ips(switch)
    lose_the_ledger(own, how, what)
    start(own)
    assert shown(own) == before
    assert {ip["metadata"]["uid"] for ip in own.ips()} == uids
    for name in before:
        assert "Followed" in dict(own.events(name)), f"the journal says where {name} comes from"
        assert own.condition(name, "Bound")["status"] == str(name in ("adopted.default", "bound.default"))
    own.nb("--wait=sb", "sync")
    assert (len(own.ours()), own.exclude_ips(switch)) == (written, excluded)
    assert versions(own) > highest
    made = own.reserve(switch)
    assert int(made.ip["metadata"]["resourceVersion"]) > highest
    assert shown(own).keys() == before.keys() | {made.name}


def test_a_release_that_was_under_way_is_finished_by_the_rebuilt_ledger(own: Site) -> None:
    switch = furnish(own)
    with own.northd_paused():
        own.client.request("DELETE", "/apis/kubeovn.io/v1/ips/bound.default")
        wait_until(lambda: own.ip("bound.default")["status"]["phase"] == "Releasing", what="being released")
        lose_the_ledger(own, "killed")
        start(own)
    wait_until(lambda: own.ip("bound.default") is None, what="released")
    assert own.records().keys() == shown(own).keys() == {"full.default", "given.default", "adopted.default"}
    wait_until(lambda: own.events("bound.default")[-1][0] == "Released", what="the journal is written")
    assert {port["name"] for port in own.rows("Logical_Switch_Port")} == {"adopted.default"}
    assert own.reserve(switch, "bound").result == "created"


# ---- the ledger and the database are gone --------------------------------------------------------------------------


def test_what_both_stores_have_lost_is_restored(own: Site, file: Path) -> None:
    switch = furnish(own)
    before, uids = shown(own), {ip["metadata"]["uid"] for ip in own.ips()}
    assert backup(own, file) == f"{file} saved with 4 reservations\n"
    assert file.stat().st_mode & 0o777 == 0o600

    lose_the_ledger(own)
    lose_the_database(own)
    own.switch(V4, V6, name=switch, exclude_ips="10.16.0.5 // theirs")
    start(own)
    assert own.ips() == []

    lines = [f"ip.kubeovn.io/{name} restored" for name in sorted(before)]
    dry = own.command("restore", "--dry-run", str(file))
    assert dry.stdout.splitlines() == [f"{line} (dry run)" for line in lines] + [
        "4 restored, 0 unchanged, 0 not restored (dry run)"
    ]
    assert (dry.code, dry.stderr, own.ips()) == (0, "", [])
    done = own.command("restore", str(file))
    assert done.stdout.splitlines() == [*lines, "4 restored, 0 unchanged, 0 not restored"]
    assert (done.code, done.stderr) == (0, "")
    assert shown(own) == before
    assert not uids & {ip["metadata"]["uid"] for ip in own.ips()}
    assert own.records().keys() == before.keys()
    assert excluded(own, switch, before.values())

    with own.nothing_written():
        again = own.command("restore", str(file))
    assert again.stdout.splitlines() == [line.replace("restored", "unchanged") for line in lines] + [
        "0 restored, 4 unchanged, 0 not restored"
    ]
    assert (again.code, again.stderr) == (0, "")

    # Its port comes back, and has what it had.
    own.port(switch, "dynamic", name="bound.default")
    wait_until(lambda: own.condition("bound.default", "Bound")["status"] == "True", what="bound")
    v4, v6, mac = specs(own.ips())["bound.default"]
    assert own.addresses("bound.default") == {f"{mac} {v4} {v6}"}


def excluded(site: Site, switch: str, ips: Iterable[dict[str, Any]]) -> bool:
    """Are the addresses of all of these excluded?"""
    ranges = parse(site.exclude_ips(switch) or "", 10 << 24 | 16 << 16, 16).ranges
    addresses = [parse_v4(ip["spec"]["v4IpAddress"]) for ip in ips]
    return all(any(first <= address <= last for first, last in ranges) for address in addresses)


def test_released_ones_are_restored_though_the_journal_knows_that_they_were_released(own: Site, file: Path) -> None:
    switch = own.switch(V4)
    kept = own.bulk("apply", [own.document(switch) for _ in range(20)])
    backup(own, file)
    for answer in kept[:3]:
        own.release(answer.name)
    done = own.command("restore", str(file))
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "3 restored, 17 unchanged, 0 not restored"
    assert specs(own.ips()) == specs([answer.ip for answer in kept])
    own.restart()
    wait_until(lambda: status(own)["state"] == "active", 20, what="active")
    assert specs(own.ips()) == specs([answer.ip for answer in kept])


def test_a_backup_in_the_place_of_the_ledger_republishes_what_the_database_has_lost(own: Site, file: Path) -> None:
    switch = furnish(own)
    before = shown(own)
    backup(own, file)
    lose_the_ledger(own)
    own.nb("--all", "destroy", "dns")
    own.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    own.nb("remove", "logical_switch", switch, "external_ids", "ovnreserve/excluded")
    file.rename(own.daemon.state_dir / "ledger.db")
    start(own)
    assert shown(own) == before
    wait_until(lambda: own.records().keys() == before.keys(), what="the records are back")
    wait_until(lambda: excluded(own, switch, before.values()), what="they are excluded")


def test_a_backup_in_the_place_of_the_ledger_follows_a_database_that_has_gone_on(own: Site, file: Path) -> None:
    switch = furnish(own)
    backup(own, file)
    own.release("given.default")
    own.reserve(switch, "later")
    after, highest = shown(own), versions(own)
    lose_the_ledger(own)
    file.rename(own.daemon.state_dir / "ledger.db")
    start(own)
    assert shown(own) == after
    assert own.records().keys() == after.keys()
    assert versions(own) > highest
    assert own.reserve(switch, "given", v4IpAddress="10.16.3.7").result == "created"


# ---- what cannot be had back ---------------------------------------------------------------------------------------


def test_what_cannot_be_had_back_is_said_with_the_reason_and_the_rest_is_restored(own: Site, file: Path) -> None:
    lan, gone = own.switch(V4), own.switch("10.17.0.0/24")
    addresses = {f"pod-{i}": f"10.16.1.{i}" for i in range(1, 8)}
    for pod, address in addresses.items():
        assert own.reserve(lan, pod, v4IpAddress=address).result == "created"
    lost = own.reserve(gone, "lost")
    with own.northd_paused():
        own.client.request("DELETE", "/apis/kubeovn.io/v1/ips/pod-7.default")
        backup(own, file)
        assert {r.name for r in read_backup(file) if r.state is State.RELEASING} == {"pod-7.default"}
    db = sqlite3.connect(file)
    db.execute("UPDATE reservation SET state = 'failed', live = 0 WHERE name = 'pod-6.default'")
    db.commit()
    db.close()

    lose_the_ledger(own)
    lose_the_database(own)
    own.switch(V4, name=lan)
    start(own)
    taken = own.reserve(lan, "somebody", v4IpAddress="10.16.1.1")
    own.port(lan, f"0a:00:00:00:00:02 {addresses['pod-2']}", name="squatter")
    own.port(lan, "0a:00:00:00:00:03 10.16.1.33", name="pod-3.default")
    other = own.reserve(lan, "pod-4", v4IpAddress="10.16.1.44")
    done = own.command("restore", str(file))
    assert done.code == 1
    assert done.stdout.splitlines() == [
        "ip.kubeovn.io/pod-5.default restored",
        "1 restored, 0 unchanged, 5 not restored; left out: 1 that was being released, 1 that had failed",
    ]
    lines = {name: line for line in done.stderr.splitlines() for name in (*addresses, "lost") if f"{name}.def" in line}
    assert len(lines) == len(done.stderr.splitlines()) == 5
    for name, reason in {
        "lost": f'spec.subnet: Invalid value: "{gone}": no logical switch has this name',
        "pod-1": taken.name,
        "pod-2": "squatter",
        "pod-3": "10.16.1.33",
        "pod-4": f"has {other.mac} {other.v4} on subnet {lan}, the backup ",
    }.items():
        assert reason in lines[name], name
    assert lines["lost"].startswith(f'Error from server (Invalid): error when restoring "{lost.name}": ')
    assert lines["pod-4"].startswith("error: ip.kubeovn.io/pod-4.default: has ")
    assert own.addresses("pod-3.default") == {"0a:00:00:00:00:03 10.16.1.33"}
    expected = {"somebody": "10.16.1.1", "pod-4": "10.16.1.44", "pod-5": addresses["pod-5"]}
    assert {ip["spec"]["podName"]: ip["spec"]["v4IpAddress"] for ip in own.ips()} == expected


# ---- under load ----------------------------------------------------------------------------------------------------


class Crowd(threading.Thread):
    """Applies and deletes in bulk until it is told to stop; knows what was acknowledged and what it gave up."""

    def __init__(self, site: Site, switch: str) -> None:
        super().__init__()
        self.kept: dict[str, tuple[str, str, str]] = {}
        self.given_up: set[str] = set()
        self.enough = threading.Event()
        self._site, self._switch = Site(site.servers, site.daemon), switch
        self._batch = 0

    def run(self) -> None:
        while not self.enough.is_set():
            self._batch += 1
            pods = [f"{self.name.lower()}-{self._batch}-{i}" for i in range(20)]
            made = self._site.bulk("apply", [self._site.document(self._switch, pod) for pod in pods])
            self.kept = self.kept | specs([answer.ip for answer in made if answer.result == "created"])
            some = [answer.name for answer in made[:5]]
            self.given_up = self.given_up | set(some)
            self._site.bulk("delete", [{"kind": "IP", "metadata": {"name": name}} for name in some])


def test_all_that_was_acknowledged_before_a_backup_began_is_in_it_and_comes_back(own: Site, file: Path) -> None:
    switch = own.switch("10.16.0.0/14")
    crowd = [Crowd(own, switch) for _ in range(3)]
    for each in crowd:
        each.start()
    try:
        for number in range(3):
            wait_until(lambda n=number: all(len(each.kept) > 100 * (n + 1) for each in crowd), 60, what="some work")
            acknowledged = {name: kept for each in crowd for name, kept in each.kept.items()}
            backup(own, file)
            given_up = {name for each in crowd for name in each.given_up}
            copied = {r.name: (*r.addresses, "", r.mac) for r in read_backup(file) if r.state is State.HELD}
            expected = {name: kept for name, kept in acknowledged.items() if name not in given_up}
            assert {name: copied.get(name) for name in expected} == expected
            assert len(expected) > 100
    finally:
        for each in crowd:
            each.enough.set()
        for each in crowd:
            each.join()
    lose_the_ledger(own, "killed")
    lose_the_database(own)
    own.switch("10.16.0.0/14", name=switch)
    start(own)
    done = own.command("restore", str(file))
    assert (done.code, done.stderr) == (0, "")
    assert {name: found for name, found in specs(own.ips()).items() if name in expected} == expected


# ---- files that are no backups -------------------------------------------------------------------------------------


def garbled(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def replaced(file: Path) -> None:
    file.write_text("kind: IP\n")


def made_a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def of_a_newer_version(file: Path) -> None:
    db = sqlite3.connect(file)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()


@pytest.mark.parametrize(
    ("destroy", "what"),
    [
        (garbled, "is damaged ("),
        (emptied, "is no ledger\n"),
        (replaced, "is no ledger\n"),
        (made_a_directory, "Is a directory\n"),
        (of_a_newer_version, f"is of version {len(MIGRATIONS) + 1}, this program knows {len(MIGRATIONS)}; install"),
        (lambda file: file.unlink(), "No such file or directory\n"),
    ],
)
def test_what_is_no_backup_is_told_in_one_line_and_nothing_is_asked(
    site: Site, file: Path, destroy: Callable[[Path], None], what: str
) -> None:
    answer = site.reserve(site.switch(V4))
    backup(site, file)
    destroy(file)
    site.release(answer.name)
    with site.nothing_written():
        done = site.command("restore", str(file))
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {file}: {what}")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_file_that_is_not_ours_is_told_in_one_line(
    site: Site, file: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    backup(site, file)
    file.parent.chmod(0o700)
    nobody = 65534
    os.seteuid(nobody)
    try:
        code = main([command, f"--server={site.daemon.client_environment['OVNRESERVE_SERVER']}", str(file)])
    finally:
        os.seteuid(0)
    assert (code, capsys.readouterr()) == (1, ("", f"error: {file}: Permission denied\n"))


# ---- where it is written -------------------------------------------------------------------------------------------


def test_a_backup_takes_the_place_of_the_last_one_whole_or_not_at_all(site: Site, file: Path) -> None:
    switch = site.switch(V4)
    first = site.reserve(switch)
    backup(site, file)
    file.chmod(0o644)
    site.bulk("apply", [site.document(switch) for _ in range(200)])
    last = file.read_bytes()
    full = _limited(site, 16384, "backup", str(file))
    assert (full.returncode, full.stdout) == (1, "")
    assert full.stderr == f"error: {file}: File too large\n"
    assert file.read_bytes() == last
    assert list(file.parent.iterdir()) == [file]
    assert [r.name for r in read_backup(file)] == [first.name]
    assert backup(site, file) == f"{file} saved with 201 reservations\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def _limited(site: Site, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where no file may become larger than `size` bytes: a disk that is full."""
    return subprocess.run(
        [sys.executable, "-m", "ovnreserve.cli.main", *arguments],
        env=clean_environment(site.daemon.client_environment),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_backup_to_standard_output_is_the_same_file(site: Site, file: Path) -> None:
    answer = site.reserve(site.switch(V4))
    file.parent.mkdir()
    with file.open("wb") as out:
        subprocess.run(
            [sys.executable, "-m", "ovnreserve.cli.main", "backup", "-"],
            env=clean_environment(site.daemon.client_environment), stdout=out, timeout=60, check=True,
        )  # fmt: skip
    assert [r.name for r in read_backup(file)] == [answer.name]


def test_of_several_servers_the_one_that_is_active_is_backed_up_and_restored(site: Site, file: Path) -> None:
    answer = site.reserve(site.switch(V4))
    file.parent.mkdir()
    ours = site.daemon.client_environment["OVNRESERVE_SERVER"]
    servers = f"--server={file.parent}/nobody.sock,{ours}"
    assert site.command("backup", servers, str(file)) == (0, f"{file} saved with 1 reservation\n", "")
    site.release(answer.name)
    done = site.command("restore", servers, str(file))
    assert done.stdout.splitlines()[-1] == "1 restored, 0 unchanged, 0 not restored"
    assert specs(site.ips()) == specs([answer.ip])
    nobody = site.command("backup", f"--server={file.parent}/nobody.sock,{file.parent}/no.sock", str(file))
    assert nobody.code == 1
    assert "none of them answers" in nobody.stderr


@pytest.mark.parametrize("out", ["a terminal", "a full disk", "nobody"])
def test_standard_output_that_takes_no_backup(site: Site, out: str) -> None:
    site.reserve(site.switch(V4))
    reading, writing = os.openpty() if out == "a terminal" else os.pipe()
    if out == "a full disk":
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    elif out == "nobody":
        os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "ovnreserve.cli.main", "backup", "-"],
        env=clean_environment(site.daemon.client_environment), stdout=writing, stderr=subprocess.PIPE,
        timeout=60, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    if out != "nobody":
        os.close(reading)
    assert (done.returncode, done.stderr) == {
        "a terminal": (1, "error: a backup is no text: name a FILE, or redirect the output\n"),
        "a full disk": (1, "error: writing the output: No space left on device\n"),
        "nobody": (141, ""),
    }[out]


def test_no_file_but_a_regular_one_is_replaced_and_never_a_ledger(site: Site, tmp_path: Path) -> None:
    ledger = site.daemon.state_dir / "ledger.db"
    inode = ledger.stat().st_ino
    link = tmp_path / "link"
    link.symlink_to(ledger)
    for target in (str(ledger), str(link)):
        done = site.command("backup", target)
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr == (
            f"error: {ledger}: is the ledger of a daemon, by the .lock beside it; name another FILE\n"
        )
    assert ledger.stat().st_ino == inode
    for target in ("/dev/null", str(tmp_path)):
        assert site.command("backup", target).stderr == f"error: {target}: is no regular file\n"
    missing = tmp_path / "missing" / "file"
    assert site.command("backup", str(missing)).stderr == f"error: {missing}: No such file or directory\n"


# ---- the daemon's own copy -----------------------------------------------------------------------------------------


def copies(site: Site) -> list[str]:
    """What there is of a copy: as a file in the state directory, or held open by the daemon."""
    found = [str(file) for file in site.daemon.state_dir.iterdir() if "copy" in file.name]
    for descriptor in (Path("/proc") / str(site.daemon.pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [target] if "ledger.db.copy" in (target := str(descriptor.readlink())) else []
    return found


def test_nothing_of_the_daemon_s_copy_is_left_also_where_the_client_hangs_up(own: Site, file: Path) -> None:
    switch = own.switch(V4)
    documents = [own.document(switch) for _ in range(1500)]
    for document in documents:
        document["metadata"]["annotations"] = {"why": "x" * 3000}  # more than sockets hold
    assert {answer.result for answer in own.bulk("apply", documents)} == {"created"}
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(own.daemon.client_environment["OVNRESERVE_SERVER"])
        caller.sendall(f"GET {BACKUP} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b"200 OK" in caller.recv(4096)
        assert len(copies(own)) == 1
        assert len(list(own.daemon.state_dir.glob("*copy*"))) == 0
    wait_until(lambda: not copies(own), what="the copy is gone")
    assert backup(own, file) == f"{file} saved with 1500 reservations\n"
    wait_until(lambda: not copies(own), what="the copy is gone")
    assert own.reserve(switch).result == "created"


def test_a_daemon_whose_disk_is_full_says_so_and_works_on(own: Site, file: Path) -> None:
    switch = own.switch(V4)
    own.bulk("apply", [own.document(switch) for _ in range(1500)])
    backup(own, file)
    last = file.read_bytes()
    # Settled, so that the ledger itself has nothing to write; and its log has room.
    limit = 131072
    assert own.daemon.log.stat().st_size < limit < len(last)
    unlimited = resource.prlimit(own.daemon.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    done = own.command("backup", str(file))
    resource.prlimit(own.daemon.pid, resource.RLIMIT_FSIZE, unlimited)
    assert (done.code, done.stdout) == (1, "")
    ledger = own.daemon.state_dir / "ledger.db"
    assert done.stderr.startswith(f"Error from server (ServiceUnavailable): {ledger}: cannot be copied (")
    assert done.stderr.count("\n") == 1
    assert copies(own) == []
    assert file.read_bytes() == last
    assert own.reserve(switch).result == "created"
    assert backup(own, file) == f"{file} saved with 1501 reservations\n"


def test_a_daemon_without_a_database_can_be_backed_up(own: Site, file: Path) -> None:
    switch = own.switch(V4)
    own.reserve(switch)
    own.servers.nb_server.kill()
    wait_until(lambda: status(own)["state"] == "disconnected", what="disconnected")
    assert backup(own, file) == f"{file} saved with 1 reservation\n"
