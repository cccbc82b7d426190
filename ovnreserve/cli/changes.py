"""`label` and `scale`: merge patches of what is there. Their words are kubectl's (pkg/cmd/label, pkg/cmd/scale)."""

from __future__ import annotations

from ovnreserve.cli import resources
from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError, StatusError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report
    from ovnreserve.cli.resources import Kind


_ANY = -1
"""--current-replicas: whatever the number is."""


def label(options: Options, client: Client, report: Report) -> None:
    """Each object has its own line: labeled, unlabeled where labels were only removed, or not labeled."""
    named, wanted, removed = _labels(options)
    for kind, names in resources.targets(named, options.namespace):
        if names and options.selector:
            raise CommandError("name cannot be provided when a selector is specified")
        for name in names or _selected(kind, options, client):
            try:
                _label(kind, name, wanted, removed, options, client, report)
            except StatusError as error:
                report.complain(error)


def _labels(options: Options) -> tuple[list[str], dict[str, str], list[str]]:
    """(what to label, labels to set, labels to remove)."""
    first = next((at for at, word in enumerate(options.arguments) if _is_change(word)), len(options.arguments))
    named, changes = options.arguments[:first], options.arguments[first:]
    for word in changes:
        if not _is_change(word):
            raise CommandError(f"all resources must be specified before label changes: {word}")
        if word.count("=") > 1:
            raise CommandError(f"invalid label spec: {word}")
    if not named:
        raise UsageError("one or more resources must be specified as <resource> <name> or <resource>/<name>", "label")
    if not changes:
        raise UsageError("at least one label update is required", "label")
    wanted: dict[str, str] = {}
    for word in changes:
        key, equals, value = word.partition("=")
        if equals:
            wanted[key] = value
    removed = [word[:-1] for word in changes if "=" not in word]
    if not wanted.keys().isdisjoint(removed):
        raise CommandError("can not both modify and remove a label in the same command")
    return named, wanted, removed


def _is_change(word: str) -> bool:
    """Is it KEY=VALUE or KEY-, not a resource?"""
    return ("=" in word and not word.startswith("=")) or (word.endswith("-") and word != "-")


def _selected(kind: Kind, options: Options, client: Client) -> list[str]:
    if not options.selector:
        raise CommandError("resource(s) were provided, but no name was specified")
    path = kind.path(namespace=options.namespace or resources.DEFAULT_NAMESPACE)
    items = client.get(f"{path}?labelSelector={quote(options.selector)}").get("items") or ()
    return [resources.name_of({"kind": kind.kind, **item}) for item in items]


def _label(
    kind: Kind,
    name: str,
    wanted: dict[str, str],
    removed: list[str],
    options: Options,
    client: Client,
    report: Report,
) -> None:
    """Do it, and say so."""
    shown = f"{kind.singular}.{kind.group}/{printable(resources.bare(name))}"
    there = resources.metadata(client.get(kind.path(name)))
    labels: dict[str, Any] = resources.section(there, "labels")
    for key in removed:
        if key not in labels:
            report.say(f'label "{printable(key)}" not found.')
    gone = [key for key in removed if key in labels]
    changed = {key: value for key, value in wanted.items() if labels.get(key) != value}
    kept = [key for key in changed if key in labels and not options.overwrite]
    for key in kept:
        report.complain(CommandError(f"'{key}' already has a value ({labels[key]}), and --overwrite is false"))
    if kept:
        return
    if not gone and not changed:
        report.say(f"{shown} not labeled")
        return
    client.patch(kind.path(name), {"metadata": {"labels": {**changed, **dict.fromkeys(gone)}}})
    report.say(f"{shown} {'labeled' if changed else 'unlabeled'}")


def scale(options: Options, client: Client, report: Report) -> None:
    """Tell the daemon how many pods StatefulSets have."""
    if options.replicas is None:
        raise UsageError('required flag(s) "replicas" not set', options.command)
    if options.replicas < 0:
        raise CommandError("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0")
    if options.current_replicas < _ANY:
        raise CommandError("The --current-replicas must specify an integer of -1 or greater")
    if not options.arguments:
        raise UsageError("You must provide one or more resources by argument.", options.command)
    for kind, names in resources.targets(options.arguments, options.namespace):
        if kind is not resources.STATEFUL_SET:
            raise CommandError(f"cannot scale {kind.plural}: only statefulsets have replicas")
        if not names:
            raise CommandError("resource(s) were provided, but no name was specified")
        for name in names:
            try:
                _scale(kind, name, options, client)
            except CommandError as error:
                report.complain(error)
            else:
                report.say(f"{kind.singular}.{kind.group}/{printable(resources.bare(name))} scaled")


def _scale(kind: Kind, name: str, options: Options, client: Client) -> None:
    patch: dict[str, Any] = {"spec": {"replicas": options.replicas}}
    if options.current_replicas != _ANY:
        there = client.get(kind.path(name))
        current = resources.section(there, "spec").get("replicas")
        if current != options.current_replicas:
            raise CommandError(f"Expected replicas to be {options.current_replicas}, was {current}")
        patch["metadata"] = {"resourceVersion": resources.metadata(there).get("resourceVersion")}
    client.patch(kind.path(name), patch)
