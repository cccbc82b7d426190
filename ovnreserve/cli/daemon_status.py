"""`status` and `version`."""

from __future__ import annotations

from ovnreserve import __version__
from ovnreserve.cli import render
from ovnreserve.cli.formats import as_json, check_no_arguments, check_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report

_STATUS = "/apis/ovnreserve.io/v1/status"


def status(options: Options, client: Client, report: Report) -> None:
    """What the daemon is and sees. That it answers is success, whatever it says."""
    check_no_arguments(options)
    check_output(options, "json")
    answer = client.get(_STATUS)
    if options.output == "json":
        report.say(as_json(answer))
    else:
        report.say(render.status(answer))


def version(options: Options, client: Client, report: Report) -> None:
    """Both versions; the client's also where there is no daemon."""
    check_no_arguments(options)
    report.say(f"Client Version: {__version__}")
    report.say(f"Server Version: {render.value_text(client.get(_STATUS).get('version'))}")
