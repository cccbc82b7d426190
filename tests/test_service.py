"""What systemd is told, and the pidfile as OVN's tools see it: real sockets, real locks, real processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import ovnreserve
from ovnreserve.service import AlreadyRunning, Notifier, Pidfile

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ovnreserve.__file__).parents[1])}

HOLD = """
import sys
from pathlib import Path
from ovnreserve.service import AlreadyRunning, Pidfile
try:
    with Pidfile(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except AlreadyRunning as refusal:
    print(refusal, flush=True)
"""

GETLK = """
import fcntl, os, struct, sys
flock = struct.Struct("@hhqqi4x")
file = os.open(sys.argv[1], os.O_RDWR)
kind, _, _, _, pid = flock.unpack(fcntl.fcntl(file, fcntl.F_GETLK, flock.pack(fcntl.F_WRLCK, 0, 0, 0, 0)))
print(kind == fcntl.F_WRLCK, pid)
"""


@contextlib.contextmanager
def another_daemon(run_dir):
    """A process that tries to hold the pidfile, and the line that it said about it; ends with its stdin."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run_dir],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(timeout=10)


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The service manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            address = str(tmp_path / "notify")
            receiver.bind(address)
        else:
            address = f"@ovnreserve-{uuid.uuid4()}"
            receiver.bind("\0" + address[1:])
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield receiver


def test_systemd_is_told_of_readiness_status_life_and_stop(manager):
    notifier = Notifier()
    notifier.ready("active")
    notifier.status("standby: another daemon has the lock")
    notifier.watchdog()
    notifier.stopping()
    assert [manager.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=active",
        b"STATUS=standby: another daemon has the lock",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_a_status_cannot_smuggle_in_another_assignment(manager):
    Notifier().status("no\nREADY=1\r\n")
    assert manager.recv(4096) == b"STATUS=no READY=1"


def test_children_do_not_inherit_the_notification_socket(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notifier = Notifier()
    assert notifier.watchdog_interval == 15.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    notifier.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.usefixtures("manager")
def test_a_watchdog_meant_for_another_process_is_not_ours(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Notifier().watchdog_interval is None


@pytest.mark.parametrize(
    "address", [None, "", "/nonexistent/notify", "@nobody-listens", "vsock:2:1", "x", "/" + "x" * 200]
)
def test_without_anybody_who_listens_nothing_happens(address, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier()
    notifier.ready("active")
    notifier.status("\udcff")
    notifier.watchdog()
    notifier.stopping()


def test_a_manager_that_does_not_read_stops_nobody(manager):
    notifier = Notifier()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, contextlib.suppress(BlockingIOError):
        filler.setblocking(False)
        while True:
            filler.sendto(b"x", manager.getsockname())
    notifier.ready("active")


def test_the_pidfile_holds_the_pid_and_goes_away_at_the_end(tmp_path):
    with Pidfile(tmp_path) as pidfile:
        # Read by another process: to close it in this one would drop the lock.
        text = subprocess.run(["cat", pidfile.path], capture_output=True, text=True, check=True).stdout
        assert text == f"{os.getpid()}\n"
        assert [path.name for path in tmp_path.iterdir()] == ["ovnreserved.pid"]
    assert not list(tmp_path.iterdir())


def test_the_lock_is_seen_by_another_process_with_our_pid_as_its_holder(tmp_path):
    with Pidfile(tmp_path) as pidfile:
        seen = subprocess.run(
            [sys.executable, "-c", GETLK, pidfile.path], capture_output=True, text=True, check=True
        ).stdout
    assert seen == f"True {os.getpid()}\n"


def test_a_second_daemon_is_refused_with_the_pid_and_the_file(tmp_path):
    with another_daemon(tmp_path) as (first, said):
        assert said == "held"
        with pytest.raises(AlreadyRunning) as refusal, Pidfile(tmp_path):
            pass
        assert (refusal.value.pid, refusal.value.path) == (first.pid, tmp_path / "ovnreserved.pid")
        assert f"{tmp_path}/ovnreserved.pid: already running as pid {first.pid}" in str(refusal.value)
        assert [path.name for path in tmp_path.iterdir()] == ["ovnreserved.pid"]
        with another_daemon(tmp_path) as (_, refused):
            assert "already running" in refused
    assert not list(tmp_path.iterdir())


def test_the_holder_is_named_even_if_the_file_says_otherwise(tmp_path):
    with another_daemon(tmp_path) as (first, _):
        # Written without a lock of ours that its closing could drop: the lock is the other process's.
        (tmp_path / "ovnreserved.pid").write_text("nonsense\n")
        with pytest.raises(AlreadyRunning, match=f"pid {first.pid}"), Pidfile(tmp_path):
            pass


@pytest.mark.parametrize("left", ["1\n", "", "?\n", f"{os.getpid()}\n"], ids=["init", "empty", "nonsense", "own"])
def test_a_stale_pidfile_is_taken_over(tmp_path, left):
    (tmp_path / "ovnreserved.pid").write_text(left)
    with another_daemon(tmp_path) as (_, said):
        assert said == "held"


def test_the_pidfile_of_a_killed_daemon_is_taken_over(tmp_path):
    with another_daemon(tmp_path) as (first, _):
        first.kill()
        first.wait(timeout=10)
        assert (tmp_path / "ovnreserved.pid").exists()
        with another_daemon(tmp_path) as (_, said):
            assert said == "held"


def test_of_many_that_start_at_once_on_a_stale_file_one_wins(tmp_path):
    (tmp_path / "ovnreserved.pid").write_text("1\n")
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HOLD, tmp_path],
                    env=ENVIRONMENT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(8)
        ]
        said = [process.stdout.readline().strip() for process in processes]
        for process in processes:
            process.stdin.close()
    winner = processes[said.index("held")]
    assert said.count("held") == 1
    assert all(f"as pid {winner.pid}:" in line for line in said if line != "held")


def test_a_pidfile_that_is_no_longer_ours_stays(tmp_path):
    with Pidfile(tmp_path) as pidfile:
        pidfile.path.unlink()
        pidfile.path.write_text("2\n")
    assert pidfile.path.read_text() == "2\n"


def test_a_forked_child_that_leaves_does_not_take_the_pidfile_along(tmp_path):
    with Pidfile(tmp_path) as pidfile:
        child = os.fork()
        if child == 0:
            pidfile.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert pidfile.path.exists()


def test_a_run_directory_that_is_missing_is_said_to_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"), Pidfile(tmp_path / "absent"):
        pass
