"""`ovnreserve`, the command line: read the options, run one command, and leave with kubectl's exit status.

0: done. 1: something was wrong, and stderr says what. 130: interrupted. 141: nobody reads our output.
Each command's module is imported when it is the one to run.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

from ovnreserve.cli import flags
from ovnreserve.cli.errors import CommandError
from ovnreserve.cli.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options


def main(argv: list[str] | None = None) -> int:
    """Run a command line; sys.argv where none is given. Returns the exit status and raises nothing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # no name may be unprintable in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    report = Report()
    try:
        return _guarded(sys.argv[1:] if argv is None else argv, report)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130


def _guarded(argv: list[str], report: Report) -> int:
    try:
        status = _run(argv, report)
        report.flush()
    except CommandError as error:
        report.complain(error)
        status = 1
    except BrokenPipeError:
        raise
    except Exception as error:
        # Most likely an answer of another shape than docs/api.md has; a trace is for those who ask for it.
        if os.environ.get("OVNRESERVE_DEBUG"):
            raise
        what = f"internal error ({type(error).__name__}: {error}); OVNRESERVE_DEBUG=1 shows where"
        report.complain(CommandError(what))
        status = 1
    return 1 if report.failed else status


def _run(argv: list[str], report: Report) -> int:
    options = flags.parse(argv)
    if options.version:
        from ovnreserve import __version__

        report.say(f"ovnreserve {__version__}")
        return 0
    if options.command == "sandbox" and not options.help:
        from ovnreserve import sandbox

        return sandbox.main(options.arguments)
    if options.help or options.command in ("", "help"):
        topic = options.arguments[0] if options.command == "help" and options.arguments else options.command
        report.say(flags.usage(topic))
        return 0
    from ovnreserve.cli.client import connect

    client = connect(options.server, report.warn, options.timeout)
    if options.command not in ("delete", "wait"):  # those may run for a week
        gc.disable()  # 10,000 documents hold no cycles; looking for some is a fifth of all the time they take
    try:
        _command(options.command)(options, client, report)
    finally:
        client.close()
        gc.enable()
    return 0


_COMMANDS = {
    "apply": ("writes", "apply"),
    "backup": ("backup", "backup"),
    "create": ("writes", "apply"),
    "delete": ("writes", "delete"),
    "describe": ("reads", "describe"),
    "get": ("reads", "get"),
    "history": ("history", "history"),
    "label": ("changes", "label"),
    "restore": ("backup", "restore"),
    "scale": ("changes", "scale"),
    "status": ("daemon_status", "status"),
    "suggest": ("suggesting", "suggest"),
    "verify": ("verifying", "verify"),
    "version": ("daemon_status", "version"),
    "wait": ("waiting", "wait"),
}
"""Where the function of each command is."""


def _command(name: str) -> Callable[[Options, Client, Report], None]:
    module, function = _COMMANDS[name]
    found: Callable[[Options, Client, Report], None] = getattr(import_module(f"ovnreserve.cli.{module}"), function)
    return found


if __name__ == "__main__":
    sys.exit(main())
