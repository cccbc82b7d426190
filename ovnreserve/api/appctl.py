"""The control socket of `ovn-appctl -t ovnreserved`, on python-ovs' unixctl server.

A command is a function from its arguments to the text it answers. It runs in the thread that calls `run`;
what it raises becomes the error reply, and a ValueError is the way to refuse arguments. Beyond the commands
it is given, the socket answers those that every daemon of OVN has: `version`, `list-commands`, `help`,
`vlog/set`, `vlog/list`, `vlog/reopen`, `memory/show` and `coverage/show`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ovs.dirs
import ovs.poller
import ovs.unixctl
import ovs.unixctl.server
import ovs.util
import ovs.version
import ovs.vlog
import structlog

import ovnreserve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Command = Callable[[list[str]], str]

PROGRAM: Final = "ovnreserved"

LOG = structlog.get_logger()


class Appctl:
    """The unixctl server at `path`, driven by the loop of its owner: `run`, then `wait` and `poller.block()`.

    `path` is `RUNDIR/ovnreserved.PID.ctl`, which is found by way of the pidfile. `commands` win over those
    that are built in. Raises OSError if the socket cannot be made.

    python-ovs keeps the commands in one table for the process, so that there is one Appctl at a time. It
    installs handlers for SIGTERM, SIGINT, SIGHUP and SIGALRM where there are none: make the Appctl in the
    main thread, after the daemon's own handlers.
    """

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        path = path.absolute()
        # python-ovs takes its names from sys.argv[0], and its directories from /usr/local.
        ovs.util.PROGRAM_NAME = PROGRAM
        ovs.dirs.RUNDIR = str(path.parent)
        self._names: list[str] = []
        for name, command in {**_BUILT_IN, **commands}.items():
            # The first registration wins: without this, that of an earlier Appctl.
            ovs.unixctl.commands.pop(name, None)
            ovs.unixctl.command_register(name, "", 0, sys.maxsize, _answer, (name, command))
            self._names.append(name)
        self._server = _listen(path)

    def run(self) -> None:
        """Answer what has been asked. Does not block."""
        self._server.run()

    def wait(self, poller: Any) -> None:
        """Let the `ovs.poller.Poller` wake up when there is something to do for `run`."""
        self._server.wait(poller)

    def block(self, wake: int, seconds: float) -> None:
        """Sleep until there is something to do for `run`, the descriptor `wake` is readable, or the time is over."""
        poller = ovs.poller.Poller()
        poller.timer_wait(int(seconds * 1000))
        poller.fd_wait(wake, ovs.poller.POLLIN)
        self.wait(poller)
        poller.block()

    def close(self) -> None:
        """Close the socket and remove it."""
        self._server.close()
        for name in self._names:
            ovs.unixctl.commands.pop(name, None)


def _listen(path: Path) -> Any:
    # The socket's mode comes from the umask alone: python-ovs changes it after binding, and then that
    # of the descriptor, not of the file.
    umask = os.umask(0o177)
    try:
        error, server = ovs.unixctl.server.UnixctlServer.create(str(path))
    finally:
        os.umask(umask)
    if error:
        raise OSError(error, os.strerror(error), str(path))
    path.chmod(0o600)
    # Its argument parser leaves the process at a wrong option.
    ovs.unixctl.commands.pop("set-options", None)
    return server


def _answer(connection: Any, arguments: list[str], named: tuple[str, Command]) -> None:
    name, command = named
    try:
        reply = _ended(command(arguments))
    except Exception as error:  # whatever it is: the one who asked is told, and the daemon goes on
        expected = isinstance(error, ValueError)
        LOG.warning("appctl_command_failed", command=name, error=str(error), exc_info=not expected)
        connection.reply_error(_ended(str(error) or type(error).__name__))
    else:
        connection.reply(reply)


def _ended(text: str) -> str:
    # The servers in C end each reply with a newline, and the client prints it as it comes.
    return text if not text or text.endswith("\n") else f"{text}\n"


def _version(_arguments: list[str]) -> str:
    return f"{PROGRAM} {ovnreserve.__version__}\nPython Open vSwitch Library {ovs.version.VERSION}"


def _list_commands(_arguments: list[str]) -> str:
    return "\n".join(["The available commands are:", *(f"  {name}" for name in sorted(ovs.unixctl.commands))])


def _vlog_set(arguments: list[str]) -> str:
    if not arguments:
        raise ValueError('"vlog/set" command requires at least 1 arguments')
    for argument in arguments:
        refusal = ovs.vlog.Vlog.set_levels_from_string(argument)
        if refusal:
            raise ValueError(refusal)
    # Everything goes to stderr, which is `console`: a level at another destination would count for it too.
    for destination in ("syslog", "file"):
        ovs.vlog.Vlog.set_level("any", destination, "off")
    return ""


def _vlog_list(_arguments: list[str]) -> str:
    levels: str = ovs.vlog.Vlog.get_levels()
    return levels


def _vlog_reopen(_arguments: list[str]) -> str:
    # Debian's logrotate sends it to every control socket in the run directory; stderr needs no reopening.
    return "Logging to file not configured"


def _memory_show(_arguments: list[str]) -> str:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    rss, peak = (lines[key].split()[0] for key in ("VmRSS", "VmHWM"))
    return f"rss-kB:{rss} peak-rss-kB:{peak} threads:{lines['Threads'].strip()}"


def _coverage_show(_arguments: list[str]) -> str:
    return f"{PROGRAM} keeps no coverage counters"


_BUILT_IN: Final[dict[str, Command]] = {
    "version": _version,
    "list-commands": _list_commands,
    "vlog/set": _vlog_set,
    "vlog/list": _vlog_list,
    "vlog/reopen": _vlog_reopen,
    "memory/show": _memory_show,
    "coverage/show": _coverage_show,
}
