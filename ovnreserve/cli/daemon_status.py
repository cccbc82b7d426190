"""`status` and `version`."""

from __future__ import annotations

from ovnreserve import __version__
from ovnreserve.cli import render
from ovnreserve.cli.errors import CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report

_STATUS = "/apis/ovnreserve.io/v1/status"


def status(options: Options, client: Client, report: Report) -> None:
    """What the daemon is and sees. That it answers is success, whatever it says."""
    if options.arguments:
        raise UsageError(f"Unexpected args: [{' '.join(options.arguments)}]", options.command)
    if options.output not in ("", "json"):
        raise CommandError(
            f'unable to match a printer suitable for the output format "{options.output}", allowed formats are: json'
        )
    answer = client.get(_STATUS)
    if options.output == "json":
        import json

        report.say(json.dumps(answer, indent=4, ensure_ascii=False))
    else:
        report.say(render.status(answer))


def version(options: Options, client: Client, report: Report) -> None:
    """Both versions; the client's also where there is no daemon."""
    if options.arguments:
        raise UsageError(f"Unexpected args: [{' '.join(options.arguments)}]", options.command)
    report.say(f"Client Version: {__version__}")
    report.say(f"Server Version: {render.value_text(client.get(_STATUS).get('version'))}")
