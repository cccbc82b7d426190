"""Being a service: what systemd is told, and the pidfile by which OVN's tools find the process.

`Notifier` speaks sd_notify(3). `Pidfile` follows the protocol of Open vSwitch's daemons (lib/daemon-unix.c,
python/ovs/daemon.py): the file holds the pid, and the process holds an fcntl(2) write lock on it for as
long as it lives. `ovn-appctl -t ovnreserved` reads the pid, asks with F_GETLK who has the lock, and takes
the file for stale unless it is that pid. A crash therefore leaves a file without a lock, which the next
start replaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

PROGRAM: Final = "ovnreserved"

_NOTIFY_TIMEOUT: Final = 1.0
"""Seconds to wait for a service manager that does not read its socket, before the message is dropped."""

_FLOCK: Final = struct.Struct("@hhqqi4x")
"""struct flock of fcntl(2): l_type, l_whence, l_start, l_len, l_pid, and the compiler's padding."""


class AlreadyRunning(Exception):  # noqa: N818  it says what is the case
    """Another live process holds the pidfile. Fields: `path`, and `pid` of the holder (0 if not known)."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(
            f"{path}: already running as pid {pid or '(unknown)'}: stop it first, or choose another run directory"
        )
        self.path = path
        self.pid = pid


class Notifier:
    """Tells the service manager how the daemon is doing; does nothing where there is none. Never raises.

    Reads the environment when made and takes the variables out of it, so that no child speaks for the daemon.
    """

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        interval = os.environ.pop("WATCHDOG_USEC", "")
        meant_for = os.environ.pop("WATCHDOG_PID", "")
        # A path or an abstract name; other address families (vsock:) are for virtual machines as a whole.
        self._address = os.fsencode(address) if address.startswith(("/", "@")) else b""
        if self._address.startswith(b"@"):
            self._address = b"\0" + self._address[1:]
        self.watchdog_interval: float | None = None
        """Seconds from one call of `watchdog` to the next: half of the limit, as systemd advises. None if
        nobody watches."""
        if self._address and interval.isdecimal() and meant_for in ("", str(os.getpid())):
            self.watchdog_interval = int(interval) / 2_000_000

    def ready(self, status: str) -> None:
        """Start-up is finished: what waits for this unit may go on."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows: one line."""
        self._send(f"STATUS={_one_line(text)}")

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The daemon is alive: the watchdog's time starts anew."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.settimeout(_NOTIFY_TIMEOUT)
            notify.sendto("\n".join(assignments).encode(errors="replace"), self._address)


def _one_line(text: str) -> str:
    # A newline would end the assignment and begin another one.
    return " ".join(text.split())


class Pidfile:
    """The daemon's pidfile, held from `__enter__` to `__exit__`.

    At most one for each file and process: fcntl locks belong to the process, which loses them as soon as it
    closes any descriptor of the file. For the same reason nothing in the daemon may open its own pidfile.

    Raises AlreadyRunning if another process holds it, OSError if the directory cannot be written.
    """

    def __init__(self, run_dir: Path, program: str = PROGRAM) -> None:
        self.path = run_dir / f"{program}.pid"
        self._descriptor = -1
        self._owner = 0

    def __enter__(self) -> Self:
        self._owner = os.getpid()
        # Written and locked under another name, it is complete and locked as soon as it has its own. It is
        # linked instead of renamed, as in python-ovs, because that fails when the name is taken.
        temporary = self.path.with_name(f"{self.path.name}.tmp{self._owner}")
        self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(self._descriptor, f"{self._owner}\n".encode())
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            while True:
                try:
                    os.link(temporary, self.path)
                except FileExistsError:
                    _remove_if_stale(self.path)
                else:
                    return self
        except BaseException:
            os.close(self._descriptor)
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._owner:
            return  # a forked child leaves its parent's file alone
        # Removed before it is unlocked, so that nobody sees it as stale; and only if it is the one we made.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self.path.stat(), os.fstat(self._descriptor)):
                self.path.unlink()
        os.close(self._descriptor)


def _remove_if_stale(path: Path) -> None:
    """Remove the pidfile of a process that is gone. Raises AlreadyRunning if the process is there.

    Of several that find the same stale file only the one that gets its lock removes it, and only if the name
    still belongs to it: the file may have been replaced between the opening and the locking.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
            kind, pid = _lock_holder(descriptor)
            if kind == fcntl.F_UNLCK:
                return  # gone meanwhile: the caller tries again
            raise AlreadyRunning(path, pid or _written_pid(descriptor)) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                path.unlink()
    finally:
        os.close(descriptor)


def _lock_holder(descriptor: int) -> tuple[int, int]:
    """The type of the lock that would be in our way, and its holder's pid (0 from another pid namespace)."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return kind, pid


def _written_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
