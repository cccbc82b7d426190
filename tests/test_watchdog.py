"""The watchdog, over processes of its own: who is killed and who is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMIT = 0.4
COMM = "ovnr-watchdog"

WATCHED = f"""
import sys
import ovnreserve.log
from ovnreserve.watchdog import Watchdog
ovnreserve.log.configure("console")
watchdog = Watchdog({LIMIT})
print(watchdog.pid, flush=True)
for line in sys.stdin:
    if line == "beat\\n":
        watchdog.beat()
    elif line == "close\\n":
        watchdog.close()
    print("done", flush=True)
"""


class Watched:
    """A process with a watchdog, that beats when it is told to."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", WATCHED]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, process_group=0, **pipes)
        self.watchdog = int(self.process.stdout.readline())
        until(lambda: comm_of(self.watchdog) == COMM, "the watchdog is set up")

    def tell(self, word: str) -> None:
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def beats_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tell("beat")
            time.sleep(LIMIT / 20)

    def status(self) -> int:
        return self.process.wait(timeout=20)


@pytest.fixture
def watched():
    watched = Watched()
    yield watched
    watched.process.kill()
    watched.process.communicate()
    gone(watched.watchdog)


def until(condition, what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, f"not within 20 s: {what}"
        time.sleep(0.01)


def gone(pid: int) -> None:
    """Wait until the process has ended, whether or not whoever adopted it has noticed."""
    until(lambda: state_of(pid) in ("", "Z"), f"process {pid} ends")


def comm_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_who_beats_lives_and_who_stops_to_is_killed_with_a_line_that_says_why(watched):
    watched.beats_for(3 * LIMIT)
    began = time.monotonic()
    assert watched.status() == -signal.SIGKILL
    assert time.monotonic() - began > LIMIT / 2
    [line] = watched.process.stderr.read().splitlines()
    assert "daemon_killed" in line
    assert f"pid={watched.process.pid}" in line
    assert f"its engine gave no sign of life for {LIMIT:g} s" in line


def test_a_stopped_process_is_killed_too(watched):
    watched.tell("beat")
    watched.process.send_signal(signal.SIGSTOP)
    assert watched.status() == -signal.SIGKILL


def test_nothing_is_counted_before_the_first_beat(watched):
    with pytest.raises(subprocess.TimeoutExpired):
        watched.process.wait(3 * LIMIT)


def test_it_ends_with_its_daemon_however_that_ends(watched):
    watched.process.kill()
    gone(watched.watchdog)


def test_it_ends_when_it_is_closed_and_the_daemon_lives_on(watched):
    watched.tell("beat")
    watched.tell("close")
    assert state_of(watched.watchdog) == ""
    watched.beats_for(0)
    with pytest.raises(subprocess.TimeoutExpired):
        watched.process.wait(2 * LIMIT)


def test_signals_to_the_whole_group_are_for_the_daemon(watched):
    watched.tell("beat")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(watched.watchdog, number)
    watched.beats_for(LIMIT)
    assert state_of(watched.watchdog) == "S"


def test_a_group_that_was_stopped_as_a_whole_goes_on_as_a_whole(watched):
    watched.tell("beat")
    os.killpg(watched.process.pid, signal.SIGSTOP)
    time.sleep(2 * LIMIT)  # time that passes is what this is about
    os.killpg(watched.process.pid, signal.SIGCONT)
    watched.beats_for(2 * LIMIT)
    assert watched.process.poll() is None


def test_nothing_of_the_daemon_stays_open_in_it_but_stderr(watched):
    watched.tell("beat")
    files = {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{watched.watchdog}/fd").iterdir()}
    assert files.pop(0) == files.pop(1) == "/dev/null"
    assert files.pop(2) == str(Path(f"/proc/{watched.process.pid}/fd/2").readlink())
    assert sorted(name.partition(":")[0] for name in files.values()) == ["anon_inode", "pipe"]


def test_a_daemon_whose_watchdog_was_killed_says_so_once_and_goes_on(watched):
    watched.tell("beat")
    os.kill(watched.watchdog, signal.SIGKILL)
    gone(watched.watchdog)
    watched.beats_for(LIMIT)
    assert state_of(watched.watchdog) == ""
    watched.process.terminate()
    [line] = watched.process.communicate()[1].splitlines()
    assert "watchdog_gone" in line
