"""`history`: who has held a name, an address or a MAC, and who did at one time."""

from __future__ import annotations

import re

from ovnreserve.cli import render, resources
from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError, UsageError, printable
from ovnreserve.cli.formats import as_json, check_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report

_FORMATS = ("json", "wide", "yaml")
_COLUMNS = (
    ("SINCE", "since"),
    ("UNTIL", "until"),
    ("NAME", "name"),
    ("SUBNET", "subnet"),
    ("V4IP", "v4IpAddress"),
    ("V6IP", "v6IpAddress"),
    ("MAC", "macAddress"),
    ("ACTOR", "actor"),
)
_WIDE = (("ENDED BY", "endedBy"), ("UID", "uid"))
_MAC = re.compile(
    r"[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){5}|[0-9a-f]{4}(?:[.:-][0-9a-f]{4}){2}|[0-9a-f]{12}", re.ASCII | re.IGNORECASE
).fullmatch
_QUAD = re.compile(r"\d+(?:\.\d+){3}", re.ASCII).fullmatch


def history(options: Options, client: Client, report: Report) -> None:
    """A table of tenures, the first one first, or as -o says."""
    if len(options.arguments) != 1:
        raise UsageError("exactly one NAME, ADDRESS or MAC is required", options.command)
    check_output(options, *_FORMATS)
    key, value = subject(options.arguments[0])
    if not value:
        raise CommandError("resource name may not be empty")
    query = f"?{key}={quote(value)}"
    if options.at is not None:
        query += f"&at={quote(str(options.at))}"
    answer = client.get(f"/apis/ovnreserve.io/v1/history{query}")
    if options.output == "yaml":
        from ovnreserve.cli import yamlout

        report.say(yamlout.dump(answer).removesuffix("\n"))
    elif options.output == "json":
        report.say(as_json(answer, sort_keys=True))
    elif answer.get("tenures"):
        report.say(table(answer["tenures"], wide=options.output == "wide"))
    elif other := _other_kind(options.arguments[0]):
        report.note(f"No resources found: only IPs are held; see 'ovnreserve get events --for={printable(other)}'")
    else:
        report.note("No resources found")


def subject(text: str) -> tuple[str, str]:
    """(`mac`, `address` or `name`, what it is asked by). `ip/NAME` is a name whatever it looks like."""
    word, slash, name = text.partition("/")
    if slash:
        if word.lower() in resources.IP.words():
            return "name", name
        return "name", _other_kind(text) or text
    if _MAC(text):
        return "mac", text
    return ("address" if _QUAD(text) or ":" in text else "name"), text


def _other_kind(text: str) -> str:
    """What the journal calls `KIND/NAME` and `KIND/NAMESPACE/NAME` of another kind than IP; "" if it is none."""
    word, _, name = text.partition("/")
    kind = resources.kind_of(word)
    if kind is None or not name or kind in (resources.IP, resources.EVENT):
        return ""
    if kind.namespaced and "/" not in name:
        name = f"{resources.DEFAULT_NAMESPACE}/{name}"
    return f"{kind.singular}/{name}"


def table(tenures: list[dict[str, Any]], *, wide: bool) -> str:
    """Times are those of the server, in UTC; one not yet over ends `<none>`."""
    columns = _COLUMNS + (_WIDE if wide else ())
    rows = [tuple(title for title, _ in columns)]
    rows += [tuple(_cell(tenure, field) for _, field in columns) for tenure in tenures]
    return render.align(rows, space=3, minimum=6)


def _cell(tenure: dict[str, Any], field: str) -> str:
    value = tenure.get(field)
    if field == "since" and not value:
        return "<unknown>"
    if field in ("since", "until") and isinstance(value, str):
        return render.one_line(f"{value.partition('.')[0]}Z" if "." in value else value)
    return render.one_line(render.value_text(value))
