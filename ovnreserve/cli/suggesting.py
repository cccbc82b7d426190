"""`suggest`: addresses that are free, or why one is not."""

from __future__ import annotations

from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError, UsageError, in_one_line
from ovnreserve.cli.formats import as_json, check_no_arguments, check_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report

_SUGGEST = "/apis/ovnreserve.io/v1/suggest"
_NAMED = 3
"""How many addresses in quarantine a warning names."""


def suggest(options: Options, client: Client, report: Report) -> None:
    """One address a line, as many as were asked for or as there are; with --explain one reason a line."""
    check_no_arguments(options)
    if not options.subnet:
        raise UsageError('required flag(s) "subnet" not set', options.command)
    check_output(options, "json")
    if options.explain == "":
        raise CommandError("--explain is of one address, and may not be empty")
    if options.explain is not None and (options.count is not None or options.contiguous or options.family is not None):
        raise CommandError("--explain is about one address; it goes with --subnet and -o only")
    answer = client.get(f"{_SUGGEST}?{_query(options)}")
    if options.output == "json":
        report.say(as_json(answer))
    if options.explain is not None:
        if options.output != "json":
            _explain(answer, report)
        report.failed |= not answer["free"]
    else:
        _suggest(answer, options, report)


def _query(options: Options) -> str:
    query = f"subnet={quote(options.subnet)}"
    if options.explain is not None:
        return f"{query}&explain={quote(options.explain)}"
    if options.count is not None:
        query += f"&count={options.count}"
    if options.contiguous:
        query += "&contiguous=true"
    return query if options.family is None else f"{query}&family={options.family}"


def _suggest(answer: dict[str, Any], options: Options, report: Report) -> None:
    found = answer["addresses"]
    if options.output != "json":
        for each in found:
            report.say(each["address"])
    resting = [f"{each['address']} until {each['quarantinedUntil']}" for each in found if "quarantinedUntil" in each]
    if resting:
        more = f" and {len(resting) - _NAMED} more" if len(resting) > _NAMED else ""
        report.warn(f"in quarantine, since nothing else is free: {', '.join(resting[:_NAMED])}{more}")
    if len(found) < answer["count"]:
        kind = f"IPv{answer['family']} address{'' if answer['count'] == 1 else 'es'}"
        where = f"free on subnet {options.subnet}" + (" in one run" if options.contiguous else "")
        few = f"only {len(found)} of {answer['count']} {kind} {'is' if len(found) == 1 else 'are'}"
        report.complain(CommandError(f"{few if found else f'no {kind} is'} {where}"))


def _explain(answer: dict[str, Any], report: Report) -> None:
    address = in_one_line(answer["address"])
    if answer["free"]:
        report.say(f"{address} is free")
        return
    for reason in answer["reasons"]:
        report.say(in_one_line(f"{address} is {reason}"))
    field = "spec.v6IpAddress" if ":" in address else "spec.v4IpAddress"
    if answer["mayBeGiven"]:
        report.say(f"{address} may be given ({field})")
    else:
        refusal = answer["refusal"]
        more = "" if any(reason.startswith(refusal) for reason in answer["reasons"]) else f": {refusal}"
        report.say(in_one_line(f"{address} may not be given ({field}){more}"))
