"""The watchdog: a child that kills the daemon when its engine shows no sign of life.

A daemon that hangs (its disk does not answer, a deadlock, SIGSTOP) keeps the OVSDB lock for as long as its connection
stands. Over tcp and ssl the server's inactivity probe ends that; over unix it has none (facts/ovn, section 7), and only
the death of the process does. Nothing inside a hung process can see to that, so it is done from outside:

    daemon                      watchdog
    beat() ──one byte──> pipe ──> read: count from zero
    hung                        no byte within a slice of the limit, again and again: SIGKILL by pidfd
    gone, or close()            end of file: exit

What is counted is not a clock but slices of waiting that were over without a beat. A machine that was suspended, or a
group of processes that was stopped and goes on, finds its watchdog as late as its daemon, and both go on.

The child is forked before there is any thread, and before the pidfile and the ledger are opened, so that it shares
none of their locks. The pidfd is the daemon's for certain, whatever becomes of its pid.
"""

from __future__ import annotations

import gc
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import structlog

_log = structlog.get_logger(__name__)

_SLICES: Final = 10
_COMM: Final = b"ovnr-watchdog"
"""What ps shows (at most 15 bytes): the command line is the daemon's."""


class Watchdog:
    """The daemon's end. Made in the main thread before there is another; `beat` from one thread at a time.

    `seconds` without a beat, counted from the first one, and the process that made this is killed.
    """

    def __init__(self, seconds: float) -> None:
        daemon = os.getpid()
        pidfd = os.pidfd_open(daemon)
        read, self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.pid = os.fork()
        if not self.pid:
            _child(read, daemon, pidfd, seconds)
        os.close(pidfd)
        os.close(read)

    def beat(self) -> None:
        """A sign of life. Never blocks, never raises."""
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, b"!")
        except BlockingIOError:
            return  # it has been stopped itself, and finds more than enough when it goes on
        except BrokenPipeError:
            _log.error("watchdog_gone", pid=self.pid, hint="from now on nobody ends this daemon should it hang")
            self.close()

    def close(self) -> None:
        """Let the child end, and wait for it."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


def _child(pipe: int, daemon: int, pidfd: int, seconds: float) -> NoReturn:
    """All that the child does. Nothing of the daemon's is left open but stderr."""
    status = 1
    try:
        # Signals to the whole group or control group are for the daemon, which ends us by ending.
        for meant_for_all in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(meant_for_all, signal.SIG_IGN)
        gc.disable()
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1):
            os.dup2(nothing, standard)
        for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if number not in (0, 1, 2, pipe, pidfd):
                with suppress(OSError):  # the one that listed them
                    os.close(number)
        with suppress(OSError):
            Path("/proc/self/comm").write_bytes(_COMM)
        if _is_silent(pipe, seconds):
            # First the deed: whoever reads stderr may be what the daemon hangs on.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _log.error("daemon_killed", pid=daemon, reason=f"its engine gave no sign of life for {seconds:g} s")
        status = 0
    finally:
        os._exit(status)


def _is_silent(pipe: int, seconds: float) -> bool:
    """Wait for the end: True if no beat came for so long, False if the daemon has ended."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.poll()  # before the first beat it holds no lock, and opening a large ledger takes its time
    missed = 0
    while missed < _SLICES:
        if not poll.poll(1000 * seconds / _SLICES):
            missed += 1
        elif os.read(pipe, 4096):
            missed = 0
        else:
            return False
    return True
