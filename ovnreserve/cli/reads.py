"""`get` and `describe`."""

from __future__ import annotations

from ovnreserve.cli import events, render, resources
from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError, StatusError, UsageError, in_one_line
from ovnreserve.cli.formats import as_json, check_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report
    from ovnreserve.cli.resources import Kind

    Found = list[tuple[Kind, list[dict[str, Any]]]]

_FORMATS = ("json", "name", "wide", "yaml")


def get(options: Options, client: Client, report: Report) -> None:
    """Objects as a table, or as -o says. One object asked for by name stands alone, more are a List."""
    check_output(options, *_FORMATS)
    found, missing = _find(options, client)
    items = [item for _, some in found for item in some]
    if items or not missing:
        _show(items[0] if _names_one(options) else None, found, options, report)
    for error in missing:
        report.complain(error)


def _show(alone: dict[str, Any] | None, found: Found, options: Options, report: Report) -> None:
    items = [item for _, some in found for item in some]
    if options.output in ("json", "yaml"):
        empty_meta = {"resourceVersion": ""}
        document = alone or {"apiVersion": "v1", "items": items, "kind": "List", "metadata": empty_meta}
        if options.output == "yaml":
            from ovnreserve.cli import yamlout

            report.say(yamlout.dump(document).removesuffix("\n"))
        else:
            report.say(as_json(document, sort_keys=True))
    elif options.output == "name":
        for item in items:
            report.say(in_one_line(resources.full_name(item)))
    elif not items:
        report.note(_nothing(found, options))
    else:
        full_names = len({kind.kind for kind, some in found if some}) > 1
        tables = [
            render.table(
                kind.kind,
                some,
                wide=options.output == "wide",
                headers=not options.no_headers,
                full_names=full_names,
                namespaces=options.all_namespaces and kind.namespaced,
            )
            for kind, some in found
            if some
        ]
        report.say("\n\n".join(tables))


def describe(options: Options, client: Client, report: Report) -> None:
    """Objects one after the other, two empty lines between them."""
    found, missing = _find(options, client)
    described = 0
    for kind, items in found:
        for item in items:
            name = str(resources.metadata(item).get("name") or "")
            field = quote(f"involvedObject.kind={kind.kind},involvedObject.name={name}{_of_namespace(item)}")
            told = _items(client, f"{resources.EVENT.path()}?fieldSelector={field}", "Event")
            about = [e for e in told if resources.section(e, "involvedObject").get("kind") in (kind.kind, None)]
            report.say(("\n\n" if described else "") + render.describe(item, about))
            described += 1
    if not described and not missing:
        report.note(_nothing(found, options))
    for error in missing:
        report.complain(error)


def _nothing(found: Found, options: Options) -> str:
    """What is said where there is nothing of what was asked for."""
    if options.all_namespaces or not all(kind.namespaced for kind, _ in found):
        return "No resources found"
    return f"No resources found in {options.namespace or resources.DEFAULT_NAMESPACE} namespace."


def _find(options: Options, client: Client) -> tuple[Found, list[StatusError]]:
    """What was asked for and is there, and the refusals for what is not."""
    if not options.arguments:
        raise UsageError("Required resource not specified.", options.command)
    found: Found = []
    missing: list[StatusError] = []
    targets = resources.targets(options.arguments, options.namespace)
    if options.about and any(kind is not resources.EVENT for kind, _ in targets):
        raise CommandError("--for is for events only")
    for kind, names in targets:
        if names and options.selector:
            raise CommandError("name cannot be provided when a selector is specified")
        if names and options.all_namespaces and kind.namespaced:
            raise CommandError("a resource cannot be retrieved by name across all namespaces")
        if kind is resources.EVENT:
            found.append((kind, _events(options, names, client)))
            continue
        if not names:
            query = f"?labelSelector={quote(options.selector)}" if options.selector else ""
            namespace = "" if options.all_namespaces else options.namespace or resources.DEFAULT_NAMESPACE
            found.append((kind, _items(client, kind.path(namespace=namespace) + query, kind.kind)))
            continue
        items = []
        for name in names:
            try:
                items.append(client.get(kind.path(name)))
            except StatusError as error:
                missing.append(error)
        found.append((kind, items))
    return found, missing


def _events(options: Options, names: list[str], client: Client) -> list[dict[str, Any]]:
    """What the journal tells, of whom --for says."""
    if options.command != "get" or names:
        raise CommandError("events are shown by 'ovnreserve get events', of one object with --for=ip/NAME")
    labels = f"labelSelector={quote(options.selector)}" if options.selector else ""
    namespace = "" if options.all_namespaces else options.namespace
    query = "&".join(filter(None, (events.query(options.about, namespace), labels)))
    return events.in_order(_items(client, f"{resources.EVENT.path()}?{query}".removesuffix("?"), "Event"))


def _of_namespace(item: dict[str, Any]) -> str:
    namespace = resources.metadata(item).get("namespace")
    return f",involvedObject.namespace={namespace}" if namespace else ""


def _names_one(options: Options) -> bool:
    targets = resources.targets(options.arguments)
    return len(targets) == 1 and len(targets[0][1]) == 1


def _items(client: Client, path: str, kind: str) -> list[dict[str, Any]]:
    """The objects of a list, each with the kind that the list has for all."""
    answer = client.get(path)
    version = answer.get("apiVersion")
    return [{"apiVersion": version, "kind": kind, **item} for item in answer.get("items") or ()]
