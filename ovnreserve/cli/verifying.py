"""`verify`: what is not as it should be, and with --repair what has become of it."""

from __future__ import annotations

from ovnreserve.cli.client import PATIENCE
from ovnreserve.cli.errors import CommandError, in_one_line
from ovnreserve.cli.formats import as_json, check_no_arguments, check_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report

_VERIFY = "/apis/ovnreserve.io/v1/verify"
_LONGEST = 600.0


def verify(options: Options, client: Client, report: Report) -> None:
    """One difference a line, with the command that shows it behind it; nothing where there is none, as of a diff."""
    check_no_arguments(options)
    check_output(options, "json")
    if options.timeout is not None and not options.repair:
        raise CommandError("--timeout says how long a repair may take; it goes with --repair")
    seconds = 30.0 if options.timeout is None else options.timeout
    if not 0 < seconds <= _LONGEST:
        raise CommandError(f"--timeout must be greater than 0 and at most {_LONGEST:g}s")
    client.patience = 2 * PATIENCE + seconds
    answer = client.post(f"{_VERIFY}?timeout={seconds:g}", {}) if options.repair else client.get(_VERIFY)
    if options.output == "json":
        report.say(as_json(answer))
    else:
        _show(answer, options, report)
    report.failed |= not answer["clean"]


def _show(answer: dict[str, Any], options: Options, report: Report) -> None:
    for what in answer.get("repaired", ()):
        report.say(in_one_line(f"repaired: {what}"))
    found = answer["differences"]
    for each in found:
        if options.repair:
            why = each["left"] or "not repaired in time"
            report.say(in_one_line(f"left: {each['what']} ({why})  # {each['command']}"))
        else:
            report.say(in_one_line(f"{each['what']}  # {each['command']}"))
    if answer["total"] > len(found):
        report.note(f"and {answer['total'] - len(found)} more")
