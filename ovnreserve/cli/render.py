"""What is shown, laid out as kubectl does: tables, descriptions, the daemon's status. Pure."""

from __future__ import annotations

import json

from ovnreserve.cli import durations, resources
from ovnreserve.cli.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

NONE = "<none>"
# A column: its title, then where its value is. `@` names what is worked out of the object as a whole.
_COLUMNS = {
    "IP": (
        ("NAME", "@name"),
        ("V4IP", "spec.v4IpAddress"),
        ("V6IP", "spec.v6IpAddress"),
        ("MAC", "spec.macAddress"),
        ("NODE", "spec.nodeName"),
        ("SUBNET", "spec.subnet"),
    ),
    "IPPool": (
        ("NAME", "@name"),
        ("SUBNET", "spec.subnet"),
        ("IPS", "spec.ips"),
        ("V4USED", "status.v4UsingIPs"),
        ("V4AVAILABLE", "status.v4AvailableIPs"),
        ("V6USED", "status.v6UsingIPs"),
        ("V6AVAILABLE", "status.v6AvailableIPs"),
    ),
    "Subnet": (
        ("NAME", "@name"),
        ("PROVIDER", "spec.provider"),
        ("VPC", "spec.vpc"),
        ("PROTOCOL", "spec.protocol"),
        ("CIDR", "spec.cidrBlock"),
        ("GATEWAY", "spec.gateway"),
        ("V4USED", "status.v4usingIPs"),
        ("V4AVAILABLE", "status.v4availableIPs"),
        ("V6USED", "status.v6usingIPs"),
        ("V6AVAILABLE", "status.v6availableIPs"),
        ("EXCLUDEIPS", "spec.excludeIps"),
    ),
    "StatefulSet": (
        ("NAME", "@name"),
        ("REPLICAS", "spec.replicas"),
        ("RETAINED", "status.retainedIPs"),
        ("AGE", "@age"),
    ),
    "VirtualMachine": (("NAME", "@name"), ("RETAINED", "status.retainedIPs"), ("AGE", "@age")),
    "Event": (
        ("LAST SEEN", "@last"),
        ("TYPE", "type"),
        ("REASON", "reason"),
        ("OBJECT", "@object"),
        ("MESSAGE", "message"),
    ),
}
_WIDE = {
    "IP": (
        ("PHASE", "status.phase"),
        ("PODTYPE", "spec.podType"),
        ("NAMESPACE", "spec.namespace"),
        ("POD", "spec.podName"),
        ("AGE", "@age"),
    ),
    "IPPool": (("NAMESPACES", "spec.namespaces"), ("AGE", "@age")),
    "Subnet": (
        ("V4QUARANTINED", "status.v4quarantinedIPs"),
        ("V6QUARANTINED", "status.v6quarantinedIPs"),
        ("AGE", "@age"),
    ),
    "StatefulSet": (("ORDINALS", "spec.ordinals"),),
    "VirtualMachine": (),
    "Event": (
        ("ACTOR", "@actor"),
        ("SOURCE", "source.component"),
        ("FIRST SEEN", "@first"),
        ("COUNT", "count"),
        ("NAME", "@name"),
    ),
}
# How a word within a field's name is written in a description: v4IpAddress is `V4 IP Address`.
_WORDS = {"ip": "IP", "ips": "IPs", "mac": "MAC", "macs": "MACs", "cidr": "CIDR", "vpc": "VPC", "id": "ID"}


def table(
    kind: str,
    items: Iterable[dict[str, Any]],
    *,
    wide: bool = False,
    headers: bool = True,
    full_names: bool = False,
    namespaces: bool = False,
) -> str:
    """The table of objects of one kind, without a final newline."""
    columns = _COLUMNS[kind] + (_WIDE[kind] if wide else ())
    if namespaces:
        columns = (("NAMESPACE", "metadata.namespace"), *columns)
    rows = [tuple(title for title, _ in columns)] if headers else []
    for item in items:
        name = resources.full_name(item) if full_names else str(resources.metadata(item).get("name") or "")
        rows.append(tuple(_cell(item, where, name) for _, where in columns))
    # kubectl's: at least 6 wide, 3 of them space
    return align(rows, space=3, minimum=6)


def _cell(item: dict[str, Any], where: str, name: str) -> str:
    if where == "@name":
        return one_line(name)
    if where == "@age":
        return durations.since(resources.metadata(item).get("creationTimestamp"))
    if where in ("@last", "@first"):
        return durations.since(item.get(f"{where[1:]}Timestamp"))
    if where == "@object":
        return one_line(_involved(item))
    if where == "@actor":
        return one_line(value_text(_actor(item)))
    part, dot, field = where.partition(".")
    return one_line(value_text(resources.section(item, part).get(field) if dot else item.get(part)))


def _involved(event: dict[str, Any]) -> str:
    """`ip/NAME` of an event, with the namespace between them where there is one."""
    about = resources.section(event, "involvedObject")
    words = (str(about.get("kind") or "").lower(), about.get("namespace"), about.get("name"))
    return "/".join(str(word) for word in words if word)


def _actor(event: dict[str, Any]) -> object:
    """At whose wish it came to that."""
    return resources.section(resources.metadata(event), "annotations").get("ovnreserve.io/actor")


def value_text(value: object) -> str:
    """A value in a table: `<none>` where there is none, lists and mappings as compact JSON."""
    if value is None or value in ("", [], {}):
        return NONE
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def one_line(text: str) -> str:
    """The text up to its first line break, `...` standing for the rest."""
    first, *rest = printable(text).splitlines() or [""]
    return f"{first}..." if rest else first


def align(rows: Sequence[Sequence[str]], *, space: int, minimum: int = 0, indent: str = "") -> str:
    """Rows as lines, their columns padded; the last column is not."""
    widths = [max(max(map(len, column)) + space, minimum) for column in zip(*rows, strict=True)]
    return "\n".join(indent + "".join(map(str.ljust, row[:-1], widths)) + row[-1] if row else indent for row in rows)


def describe(item: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    """An object in detail, with the events about it; without a final newline."""
    meta, status = resources.metadata(item), resources.section(item, "status")
    fields: list[tuple[str, object]] = [
        ("Name", meta.get("name")),
        ("Labels", _pairs(meta.get("labels"), "=")),
        ("Annotations", _pairs(meta.get("annotations"), ": ")),
        ("API Version", item.get("apiVersion")),
        ("Kind", item.get("kind")),
        ("UID", meta.get("uid")),
        ("Created", meta.get("creationTimestamp")),
    ]
    if meta.get("deletionTimestamp"):
        fields.append(("Deleted", meta["deletionTimestamp"]))
    if meta.get("finalizers"):
        fields.append(("Finalizers", meta["finalizers"]))
    conditions = status.get("conditions")
    lines = [_labelled(fields), "Spec:", _labelled(_fields(resources.section(item, "spec")), "  "), "Status:"]
    lines.append(_labelled(_fields({k: v for k, v in status.items() if k != "conditions"}), "  "))
    if conditions is not None:
        lines += _section("Conditions", ("Type", "Status", "Reason", "Age", "Message"), map(_condition, conditions))
    lines += _section("Events", ("Type", "Reason", "Age", "From", "Message"), map(_event, events))
    return "\n".join(line for line in lines if line)


def _labelled(fields: Iterable[tuple[str, object]], indent: str = "") -> str:
    """`Label:  value` lines; of a list, one value a line."""
    rows: list[tuple[str, str]] = []
    for label, value in fields:
        values = value if isinstance(value, list) and value else [value]
        for index, each in enumerate(values):
            rows.append(("" if index else f"{label}:", printable(value_text(each)).replace("\n", "\\n")))
    return align(rows, space=2, indent=indent)


def _pairs(value: object, between: str) -> list[str]:
    return [f"{key}{between}{value[key]}" for key in sorted(value)] if isinstance(value, dict) else []


def _fields(values: dict[str, Any]) -> list[tuple[str, object]]:
    return [(title(name), value) for name, value in values.items()]


def title(name: str) -> str:
    """A field's name as a label: podName is `Pod Name`, v4usingIPs `V4 Using IPs`."""
    spaced = f"{name[:2]} {name[2:]}" if name[:2] in ("v4", "v6") else name
    for index in range(len(spaced) - 1, 0, -1):
        if spaced[index].isupper() and spaced[index - 1].islower():
            spaced = f"{spaced[:index]} {spaced[index:]}"
    return " ".join(_WORDS.get(word.lower(), word[0].upper() + word[1:]) for word in spaced.split())


def _section(name: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = list(rows)
    if not body:
        return [f"{name}:  {NONE}"]
    ruled = [titles, ["-" * len(each) for each in titles], *body]
    return [f"{name}:", align(ruled, space=2, indent="  ")]


def _condition(condition: dict[str, Any]) -> tuple[str, ...]:
    return (
        *(one_line(value_text(condition.get(key))) for key in ("type", "status", "reason")),
        durations.since(condition.get("lastTransitionTime")),
        one_line(str(condition.get("message") or "")),
    )


def _event(event: dict[str, Any]) -> tuple[str, ...]:
    age = durations.since(event.get("lastTimestamp"))
    count = event.get("count")
    if isinstance(count, int) and count > 1:
        age = f"{age} (x{count} over {durations.since(event.get('firstTimestamp'))})"
    return (
        *(one_line(value_text(event.get(key))) for key in ("type", "reason")),
        age,
        one_line(value_text(_actor(event) or resources.section(event, "source").get("component"))),
        one_line(str(event.get("message") or "")),
    )


def status(answer: dict[str, Any]) -> str:
    """What the daemon says of itself, as labelled lines."""
    database = resources.section(answer, "database")
    connection = "connected" if database.get("connected") else "not connected"
    if database.get("since"):
        connection += f" since {database['since']}"
    schema = f", schema {database['schema']}" if database.get("schema") else ""
    counts = resources.section(answer, "reservations")
    parts = ", ".join(f"{number} {name}" for name, number in counts.items() if name != "total")
    revision = ", ".join(f"{who}:{count}" for who, count in resources.section(answer, "revision").items())
    uptime = answer.get("uptime")
    born = answer.get("born")
    fields = {
        "Status": value_text(answer.get("state")),
        "Version": value_text(answer.get("version")),
        "PID": value_text(answer.get("pid")),
        "Uptime": durations.human(uptime) if isinstance(uptime, int | float) else NONE,
        "Database": f"{value_text(database.get('remote'))} ({connection}{schema})",
        "Reservations": value_text(counts.get("total")) + (f" ({parts})" if parts else ""),
        "Subnets": value_text(answer.get("subnets")),
        "Ports": value_text(answer.get("ports")) + (f" ({born} with an IP that is not reserved)" if born else ""),
        "Revision": value_text(revision),
        "Ledger": value_text(answer.get("ledger")),
    }
    if database.get("problem"):
        fields["Problem"] = value_text(database["problem"])
    findings = answer.get("findings")
    for finding in findings if isinstance(findings, list) else ():
        fields["Warning"] = value_text(finding.get("message"))
    if answer.get("writer") and answer.get("state") != "active":
        fields["Last Writer"] = value_text(answer.get("writer"))
    return "\n".join(f"{label}: {printable(text)}" for label, text in fields.items())
