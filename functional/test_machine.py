"""The machine misbehaves: its disk, its files, its clock, its other users. What was acknowledged stays true."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pytest
from faulty_clock import DaemonWithClock
from sites import Site
from support import wait_until
from test_restart import active, in_ledger, logged, restart, specs, state, stores_agree

from ovnreserve.api.limits import BODIES
from ovnreserve.cli.errors import CommandError
from ovnreserve.engine.inbox import MAX_WAITING
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Kept = dict[str, tuple[str, str, str]]
PAGE = 4096


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own."""
    return Site(servers, daemon)


@pytest.fixture
def dice() -> random.Random:
    seed = time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)


def ledger_of(site: Site) -> Path:
    return site.daemon.state_dir / "ledger.db"


def reserved(site: Site, switch: str, count: int) -> Kept:
    answers = site.bulk("apply", [site.document(switch) for _ in range(count)])
    assert {answer.result for answer in answers} == {"created"}
    return specs(answer.ip for answer in answers)


def ended(site: Site) -> int:
    """Wait until the daemon has ended by itself; its exit status."""
    wait_until(lambda: not site.daemon.alive, 20, what="the daemon ends")
    return site.daemon.stop()


def ledger_events(site: Site) -> list[str]:
    return [reason for reason, _message in site.events("ledger")]


# ---- the disk is full ------------------------------------------------------------------------------------------------


class FileSizeLimit:
    """The daemon can make no file larger than its ledger's log is now. (Python ignores SIGXFSZ.)"""

    def __init__(self, state_dir: Path) -> None:
        self._log = state_dir / "ledger.db-wal"
        self._daemon = 0

    def fill(self, daemon: Daemon) -> None:
        self._daemon = daemon.pid
        resource.prlimit(self._daemon, resource.RLIMIT_FSIZE, (self._log.stat().st_size, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        resource.prlimit(self._daemon, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        pass


class SmallFileSystem:
    """The state directory is a file system of 2 MiB of its own, and somebody fills it."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._filler = state_dir / "filler"
        state_dir.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(state_dir)], check=True)

    def fill(self, _daemon: Daemon) -> None:
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * PAGE)

    def make_room(self) -> None:
        self._filler.unlink()

    def close(self) -> None:
        subprocess.run(["umount", str(self._state_dir)], check=True)


Disk = FileSizeLimit | SmallFileSystem
DISKS = [FileSizeLimit, *([SmallFileSystem] if os.geteuid() == 0 else [])]  # only root can mount


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made: Disk = request.param(tmp_path / "state")
    yield made
    made.close()


class Writers:
    """Some who reserve and release all the time, whatever they are told, and note what they were told."""

    def __init__(self, site: Site, switch: str) -> None:
        self.kept: Kept = {}
        self.released: set[str] = set()
        self.unknown: set[str] = set()
        self.refusals: list[str] = []
        self._site, self._switch = site, switch
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        site = Site(self._site.servers, self._site.daemon)
        mine: list[dict[str, Any]] = []
        try:
            while not self._stop.is_set():
                name = f"pod-{id(site)}-{len(mine)}-{time.time_ns()}"
                made = site.create(site.document(self._switch, name), "?timeout=5")
                if made.result == "created":
                    self.kept.update(specs([made.ip]))
                    mine.append(made.ip)
                else:
                    self._note(f"{name}.default", made.code, made.message)
                if len(mine) > 5:
                    gone = mine.pop(0)["metadata"]["name"]
                    [answer] = site.bulk("delete", [{"kind": "IP", "metadata": {"name": gone}}])
                    if answer.result == "deleted":
                        del self.kept[gone]
                        self.released.add(gone)
                    else:
                        self._note(gone, answer.code, answer.message)
        finally:
            site.client.close()

    def _note(self, name: str, code: int, message: str) -> None:
        if code == 504:
            self.unknown.add(name)
        else:
            assert code == 503, message
            self.refusals.append(message)


def test_a_full_disk_refuses_writes_and_nothing_else_and_is_recovered_from(
    servers: Servers, tmp_path: Path, disk: Disk
) -> None:
    with Daemon(servers, tmp_path / "state") as daemon:
        site = Site(servers, daemon)
        switch = site.switch("10.16.0.0/16")
        with Writers(site, switch) as writers:
            wait_until(lambda: len(writers.kept) > 10, what="some are reserved")
            disk.fill(daemon)
            wait_until(lambda: writers.refusals, what="the first is refused")
        assert all("nothing was changed: " in message for message in writers.refusals), writers.refusals
        assert "ledger.db: cannot be written" in writers.refusals[-1]
        # While it is full: writes are refused in time, reads are answered.
        refused = [site.create(site.document(switch), "?timeout=5") for _ in range(3)]
        assert {answer.code for answer in refused} == {503}
        shown = specs(site.ips())
        assert {name: shown.get(name) for name in writers.kept} == writers.kept
        assert site.subnet(switch)["spec"]["cidrBlock"] == "10.16.0.0/16"
        assert site.records().keys() <= shown.keys()
        assert state(site) == "active"
        some = next(iter(writers.kept))
        assert site.events(some)
        # When there is room again it goes on by itself, and what was refused was not done.
        disk.make_room()
        wait_until(lambda: site.reserve(switch).result == "created", what="it goes on by itself")
        late = reserved(site, switch, 3)
        daemon.kill()
        restart(site)
        shown = stores_agree(site, switch)
        assert {name: shown.get(name) for name in writers.kept} == writers.kept
        assert late.items() <= shown.items()
        assert not (writers.released - writers.unknown) & shown.keys()
        assert not {f"{answer.name}" for answer in refused if answer.ip} & shown.keys()
        site.client.close()
        daemon.stop()


# ---- the ledger is damaged -------------------------------------------------------------------------------------------


def overwrite(file: Path, offset: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(content)


def header(file: Path, dice: random.Random) -> None:
    overwrite(file, 0, dice.randbytes(100))


def random_pages(file: Path, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 3)):
        overwrite(file, PAGE * dice.randrange(file.stat().st_size // PAGE), dice.randbytes(PAGE))


def truncated(file: Path, dice: random.Random) -> None:
    os.truncate(file, dice.randrange(1, file.stat().st_size - PAGE))


def empty(file: Path, _dice: random.Random) -> None:
    os.truncate(file, 0)


def text(file: Path, _dice: random.Random) -> None:
    file.write_text("this is no database\n" * 1000)


def test_a_ledger_damaged_while_it_was_stopped_is_moved_aside_and_rebuilt(own: Site, dice: random.Random) -> None:
    switch = own.switch("10.16.0.0/16")
    ledger = ledger_of(own)
    kept = reserved(own, switch, 40)
    for number, damage in enumerate((header, random_pages, truncated, empty, text), 1):
        assert own.daemon.stop() == 0
        damage(ledger, dice)
        restart(own)
        assert stores_agree(own, switch) == kept, damage
        aside = [file for file in ledger.parent.glob("ledger.db.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]
        assert len(aside) == len(logged(own, "ledger_corrupt")) == number, damage
        assert ledger_events(own) == ["LedgerCorrupt"]
        kept |= reserved(own, switch, 3)
    assert stores_agree(own, switch) == kept


def test_a_ledger_whose_log_is_damaged_after_a_kill_is_filled_up_again(own: Site, dice: random.Random) -> None:
    switch = own.switch("10.16.0.0/16")
    log = own.daemon.state_dir / "ledger.db-wal"
    kept = reserved(own, switch, 40)
    gone = next(iter(kept))
    for damage in (header, random_pages, truncated, empty, text):
        kept |= reserved(own, switch, 3)
        own.daemon.kill()
        own.client.close()
        damage(log, dice)
        restart(own)
        assert stores_agree(own, switch) == kept, damage
    own.release(gone)
    del kept[gone]
    assert stores_agree(own, switch) == kept


def test_damage_that_shows_while_it_runs_ends_the_daemon_and_is_put_right_by_the_next(own: Site) -> None:
    switch = own.switch("10.16.0.0/16")
    kept = reserved(own, switch, 5000)  # more than SQLite keeps in memory
    own.daemon.stop()  # and all of it in the main file
    restart(own)
    size = ledger_of(own).stat().st_size
    overwrite(ledger_of(own), PAGE, b"\xa5" * (size - PAGE))
    created: Kept = {}
    unknown: set[str] = set()
    with contextlib.suppress(CommandError):
        for number in range(1000):
            made = own.create(own.document(switch, f"{number * 7919 % 1000}-late"))
            if made.result == "created":
                created |= specs([made.ip])
            else:
                unknown.add(f"{number * 7919 % 1000}-late.default")
                assert made.code == 504, made.message
    assert ended(own) == 1
    [lost] = logged(own, "ledger_lost")
    assert "ledger.db: is corrupt" in lost
    assert "Traceback" not in own.daemon.log.read_text()
    restart(own)
    assert len(logged(own, "ledger_corrupt")) == 1
    shown = stores_agree(own, switch)
    assert {name: shown.get(name) for name in kept | created} == kept | created
    assert shown.keys() - kept.keys() - created.keys() <= unknown


# ---- the ledger is deleted, replaced, put back, in use ---------------------------------------------------------------


def delete_all(ledger: Path) -> None:
    for file in ledger.parent.glob("ledger.db*"):
        file.unlink()


def delete_main_file(ledger: Path) -> None:
    ledger.unlink()


def delete_log(ledger: Path) -> None:
    ledger.with_name("ledger.db-wal").unlink()


def replace(ledger: Path) -> None:
    shutil.copy(ledger, ledger.with_name("copy"))
    ledger.with_name("copy").rename(ledger)


@pytest.mark.parametrize("act", [delete_all, delete_main_file, delete_log, replace])
def test_a_ledger_that_is_deleted_or_replaced_while_it_runs_is_noticed_before_the_next_answer(
    own: Site, act: Callable[[Path], None]
) -> None:
    switch = own.switch()
    kept = reserved(own, switch, 5)
    stores_agree(own, switch)
    act(ledger_of(own))
    asked = own.document(switch)
    with contextlib.suppress(CommandError):
        assert own.create(asked).code == 504
    assert ended(own) == 1
    [lost] = logged(own, "ledger_lost")
    assert "was deleted or replaced while it was in use" in lost
    restart(own)
    shown = stores_agree(own, switch)
    assert {name: shown.get(name) for name in kept} == kept
    assert shown.keys() - kept.keys() <= {asked["metadata"]["name"]}
    assert own.reserve(switch).result == "created"


def test_a_ledger_put_back_from_a_copy_counts_under_a_new_incarnation(own: Site, tmp_path: Path) -> None:
    switch = own.switch()
    kept = reserved(own, switch, 5)
    gone = own.reserve(switch)
    own.daemon.stop()
    copied = time.time()
    shutil.copytree(own.daemon.state_dir, tmp_path / "copy")
    restart(own)
    [before] = own.client.get("/apis/ovnreserve.io/v1/status")["revision"]
    kept |= reserved(own, switch, 5)
    own.release(gone.name)
    own.daemon.stop()
    wait_until(lambda: time.time() > copied + 0.2, what="it is not the same moment any more")
    for file in (tmp_path / "copy").iterdir():
        shutil.copy2(file, own.daemon.state_dir / file.name)
    restart(own)
    [restored] = logged(own, "ledger_restored")
    assert before in restored
    assert ledger_events(own) == ["LedgerRestored"]
    assert stores_agree(own, switch) == kept
    kept |= reserved(own, switch, 1)
    assert before in own.client.get("/apis/ovnreserve.io/v1/status")["revision"]
    assert len(own.client.get("/apis/ovnreserve.io/v1/status")["revision"]) == 2
    own.daemon.kill()
    restart(own)
    assert stores_agree(own, switch) == kept
    assert len(logged(own, "ledger_restored")) == 1


def test_a_second_daemon_with_the_same_state_directory_is_refused_with_the_pid(own: Site, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ovnreserve.daemon", "--db", own.servers.nb, "--run-dir", str(tmp_path / "run")]
    second = subprocess.run(
        [*command, "--state-dir", str(own.daemon.state_dir)], capture_output=True, text=True, check=False, timeout=30
    )
    assert second.returncode == 1
    [line] = second.stderr.splitlines()
    assert line.startswith(f"ovnreserved: {ledger_of(own)}.lock: ovnreserved, pid {own.daemon.pid}, uses this ledger")
    assert own.reserve(own.switch()).result == "created"


def test_a_program_that_holds_the_ledger_locked_delays_no_read_and_is_named(own: Site) -> None:
    switch = own.switch()
    kept = reserved(own, switch, 3)
    stores_agree(own, switch)
    other = sqlite3.connect(ledger_of(own), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refusals: list[tuple[int, str]] = []
    seconds: list[float] = []

    def create() -> None:
        asker = Site(own.servers, own.daemon)
        for _ in range(3):
            start = time.monotonic()
            refused = asker.create(asker.document(switch, f"{threading.get_ident()}-{time.time_ns()}"), "?timeout=4")
            seconds.append(time.monotonic() - start)
            refusals.append((refused.code, refused.message))
        asker.client.close()

    threads = [threading.Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        start = time.monotonic()
        assert specs(own.ips()) == kept
        assert own.events(next(iter(kept)))
        assert own.subnet(switch)["spec"]["cidrBlock"]
        assert time.monotonic() - start < 2
        threads[0].join(0.05)
    assert max(seconds) < 4
    assert {code for code, _message in refusals} == {503}
    said = f"nothing was changed: {ledger_of(own)}: cannot be written (locked by "
    assert all(message.startswith(said) and f"pid {os.getpid()})" in message for _code, message in refusals), refusals
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: own.reserve(switch).result == "created", what="it goes on by itself")
    active(own)


# ---- the clock jumps -------------------------------------------------------------------------------------------------

DAY = 86400.0
YEAR = 365 * DAY


@pytest.fixture
def with_clock(servers: Servers, tmp_path: Path) -> Iterator[tuple[Site, Callable[[float], None]]]:
    """A site of this test's own, and how its daemon's clock is set."""
    with DaemonWithClock(servers, tmp_path / "state", "--quarantine", "2s") as daemon:
        yield Site(servers, daemon), daemon.jump
        print(daemon.log.read_text())


def test_whatever_its_clock_does_nothing_hangs_and_nothing_is_lost(
    with_clock: tuple[Site, Callable[[float], None]],
) -> None:
    site, jump = with_clock
    switch = site.switch("10.16.0.0/16")
    kept = reserved(site, switch, 3)
    version = 0
    for seconds in (DAY, -YEAR, 0.0):
        jump(seconds)
        made = site.reserve(switch, wait="sb")
        kept |= specs([made.ip])
        created = datetime.fromisoformat(made.ip["metadata"]["creationTimestamp"]).timestamp()
        assert abs(created - time.time() - seconds) < 10
        assert int(made.ip["metadata"]["resourceVersion"]) > version
        version = int(made.ip["metadata"]["resourceVersion"])
        assert site.condition(made.name, "Enforced")["status"] == "True"
        gone = next(iter(kept))
        site.port(switch, name=gone)
        wait_until(lambda gone=gone: site.condition(gone, "Bound")["status"] == "True", what="bound")
        site.release(gone)
        del kept[gone]
        described = site.command("describe", "ip", made.name)
        ages = re.findall(r"Normal +Reserved +(\S+)", described.stdout)
        assert ages, described
        assert all(re.fullmatch(r"(\d+[smhdy])+|<invalid>", age) for age in ages), ages  # as kubectl shows the future
        assert site.client.get("/apis/ovnreserve.io/v1/status")["uptime"] >= 0
    site.daemon.kill()
    restart(site)
    assert stores_agree(site, switch) == kept


@pytest.mark.parametrize("seconds", [DAY, -YEAR])
def test_a_clock_that_jumps_while_somebody_waits_does_not_change_how_long(
    with_clock: tuple[Site, Callable[[float], None]], seconds: float
) -> None:
    site, jump = with_clock
    switch = site.switch()
    times: dict[str, float] = {}

    def create(query: str) -> None:
        asker = Site(site.servers, site.daemon)
        start = time.monotonic()
        asker.create(asker.document(switch, query), f"?timeout=1.5&wait={query}")
        times[query] = time.monotonic() - start
        asker.client.close()

    def waits(query: str) -> None:
        thread = threading.Thread(target=create, args=(query,))
        before = len(in_ledger(site))
        thread.start()
        wait_until(lambda: len(in_ledger(site)) > before, what="it is under way")
        jump(seconds)
        thread.join()

    with site.northd_paused():
        waits("sb")
    jump(0.0)
    site.servers.nb_server.pause()
    waits("none")
    site.servers.nb_server.resume()
    assert all(1.4 < elapsed < 4 for elapsed in times.values()), times
    assert times.keys() == {"sb", "none"}
    active(site)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_set_back_keeps_no_address_in_quarantine_for_longer_than_its_time(
    with_clock: tuple[Site, Callable[[float], None]], restarted: bool
) -> None:
    site, jump = with_clock
    switch = site.switch()
    first = site.reserve(switch)
    site.release(first.name)
    assert site.reserve(switch).v4 != first.v4
    set_back = time.monotonic()
    jump(-YEAR)
    if restarted:
        site.restart()
        active(site)
    wait_until(lambda: site.reserve(switch).v4 == first.v4, 10, what="the address is chosen again")
    assert time.monotonic() - set_back < 2 + 8


# ---- too many clients, too much of everything ------------------------------------------------------------------------


@pytest.mark.parametrize("descriptors", [64, 128])
def test_clients_that_take_all_descriptors_take_none_of_what_the_daemon_needs(own: Site, descriptors: int) -> None:
    switch = own.switch()
    kept = reserved(own, switch, 1)
    hard = resource.prlimit(own.daemon.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(own.daemon.pid, resource.RLIMIT_NOFILE, (descriptors, hard))
    path = own.daemon.client_environment["OVNRESERVE_SERVER"]
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(300)]
        answers = Counter(asks_version(client, path) for client in clients)
        assert answers.keys() == {"200", "503"}, answers
        # Who was connected before goes on, with the ledger, the journal and the database.
        kept |= reserved(own, switch, 1)
        wait_until(lambda: "Reserved" in dict(own.events(next(iter(kept)))), what="the journal is read")
        assert not [line for line in logged(own, "state_changed") if "disconnected" in line.partition("before=")[0]]
        # The database goes and comes back meanwhile.
        own.servers.nb_server.kill()
        wait_until(lambda: state(own) == "disconnected", what="disconnected")
        own.servers.nb_server.start()
        active(own)
        kept |= reserved(own, switch, 1)
    wait_until(lambda: own.command("get", "ips").code == 0, what="they have left, and others are served")
    assert stores_agree(own, switch) == kept
    assert "Traceback" not in own.daemon.log.read_text()
    assert len(own.daemon.log.read_text().splitlines()) < 60


def asks_version(client: socket.socket, path: str) -> str:
    """The status of the answer; the connection stays open."""
    client.settimeout(30)
    client.connect(path)
    with contextlib.suppress(OSError):  # it may have been refused before it asks
        client.sendall(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
    return client.recv(65536).split()[1].decode()


MIB = 1024 * 1024
BOUND = 64 * MIB + MAX_WAITING * 4096 + 3 * BODIES
"""Bytes of memory: the daemon without anything; what waits in the engine, at 3 KB each as measured; and bodies, which
are joined and decoded.
"""


def memory(site: Site, key: str = "VmHWM") -> int:
    """Bytes of the daemon's memory: the most there was, or VmRSS as it is now."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{site.daemon.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_bodies_of_any_number_of_clients_take_no_more_memory_than_their_limit(own: Site) -> None:
    """Each sends 60 MiB and keeps the last byte to itself."""
    path = own.daemon.client_environment["OVNRESERVE_SERVER"]
    size = 60 * MIB
    head = f"POST /apis/ovnreserve.io/v1/bulk HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode()
    content = b" " * MIB
    refused = 0
    with contextlib.ExitStack() as opened:
        for _ in range(12):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(30)
            client.connect(path)
            client.sendall(head)
            for _ in range(59):
                client.sendall(content)
            client.sendall(content[1:])
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                answer = client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 503 "), answer
                assert b"nothing was changed: too much is being sent" in answer
                refused += 1
        assert refused >= 10
        assert memory(own) < 64 * MIB + 3 * BODIES
        assert own.ips() == []
    wait_until(lambda: own.reserve(own.switch()).result == "created", what="there is room again")


def test_a_flood_of_requests_while_the_database_hangs_is_answered_in_bounded_memory(own: Site) -> None:
    switch = own.switch("10.0.0.0/8")
    kept = reserved(own, switch, 1)
    path = own.daemon.client_environment["OVNRESERVE_SERVER"]
    documents = [own.document(switch, f"{{}}-{number}") for number in range(5000)]
    template = json.dumps({"verb": "apply", "items": documents})
    bulk = "/apis/ovnreserve.io/v1/bulk?timeout=2"
    answered: list[bytes] = []
    own.servers.nb_server.pause()

    def flood(number: int) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(90)
            client.connect(path)
            with client.makefile("rb") as answers:
                for again in range(2):
                    content = template.replace("{}", f"{number}-{again}").encode()
                    head = f"POST {bulk} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
                    client.sendall(head.encode() + content)
                    answered.append(read_answer(answers))

    def pipeline() -> None:
        """Hundreds of requests at once, on a connection that reads only afterwards."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(90)
            client.connect(path)
            client.sendall(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n" * 300)
            with client.makefile("rb") as answers:
                assert {read_answer(answers)[9:12] for _ in range(300)} == {b"200"}

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(8)]
    threads += [threading.Thread(target=pipeline) for _ in range(8)]
    for thread in threads:
        thread.start()
    idle = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
    for client in idle:
        client.connect(path)
    for thread in threads:
        thread.join()
    for client in idle:
        client.close()
    assert len(answered) == 16
    assert {answer[9:12] for answer in answered} <= {b"200", b"503", b"504"}
    assert memory(own) < BOUND
    own.servers.nb_server.resume()
    active(own)
    wait_until(lambda: own.reserve(switch).result == "created", 30, what="it works again")
    assert kept.items() <= specs(own.ips()).items()
    assert memory(own) < BOUND


def read_answer(stream: BinaryIO) -> bytes:
    """The head of the next answer, whose body is read too."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        assert line, "the connection was closed"
        head += line
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    stream.read(int(length[1]))
    return head
