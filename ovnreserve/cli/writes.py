"""`apply`, `create` and `delete`.

Each sends everything it was given as one bulk request, so that all of it is one group commit. Each object has
its own line, in the order of the files, and a bad one does not stop the others.
"""

from __future__ import annotations

from ovnreserve.cli import manifests, resources, waiting
from ovnreserve.cli.client import PATIENCE
from ovnreserve.cli.errors import CommandError, UsageError, printable, status_text
from ovnreserve.cli.formats import check_no_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.manifests import Document
    from ovnreserve.cli.report import Report

def apply(options: Options, client: Client, report: Report) -> None:
    """Create what is not there, configure what is; the same again is unchanged."""
    if not options.filenames:
        raise UsageError("must specify -f", options.command)
    check_no_arguments(options)
    documents = _placed(manifests.load(options.filenames), options)
    if not documents:
        raise CommandError(f"no objects passed to {options.command}")
    query = "?objects=false"  # only names are printed
    if options.barrier == "sb":
        seconds = 30.0 if options.timeout is None else max(options.timeout, 0.0)
        query += f"&wait=sb&timeout={seconds:g}"
        client.patience = PATIENCE + seconds
    results = _bulk(client, options.command, documents, query)
    alone = _failures(results) == 1
    for source, document, result in results:
        for warning in result.get("warnings") or ():
            report.warn(str(warning))
        if result.get("result") == "error":
            doing = f'error when creating "{printable(source)}": '
            report.complain(status_text(resources.section(result, "status"), doing, alone=alone))
        else:
            report.say(f"{printable(resources.full_name(document))} {result.get('result')}")


create = apply  # the verb is the command's name


def delete(options: Options, client: Client, report: Report) -> None:
    """Delete, say so, and wait until they are gone: their finalizer has to release the address first. Pools come last,
    since those are not deleted whose addresses somebody has.
    """
    documents = _condemned(options)
    if not documents:
        report.note("No resources found")
        return
    pools = [each for each in documents if each[1].get("kind") == resources.IP_POOL.kind]
    others = [each for each in documents if each[1].get("kind") != resources.IP_POOL.kind]
    for some in filter(None, (others, pools)):
        _delete(some, options, client, report)


def _delete(documents: list[tuple[str, Document]], options: Options, client: Client, report: Report) -> None:
    awaited: list[waiting.Awaited] = []
    labelled: set[object] = set()
    results = _bulk(client, "delete", documents)
    alone = _failures(results) == 1
    for source, document, result in results:
        for warning in result.get("warnings") or ():
            report.warn(str(warning))
        if result.get("result") == "error":
            status = resources.section(result, "status")
            if not (options.ignore_not_found and status.get("reason") == "NotFound"):
                doing = f'error when deleting "{printable(source)}": ' if source else ""
                report.complain(status_text(status, doing, alone=alone))
            continue
        gone = result.get("object") or {}
        if gone.get("kind") in (None, "Status"):  # nothing is left of it to be shown
            gone = document
        name = str(resources.metadata(gone).get("name") or "")
        report.say(f'{printable(resources.full_kind(gone))} "{printable(name)}" deleted')
        kind = resources.BY_KIND.get(str(gone.get("kind")))
        if kind is not None:
            awaited.append((kind, resources.name_of(gone), resources.metadata(gone).get("uid")))
            labelled.add(resources.section(resources.metadata(gone), "labels").get(resources.RESERVED))
    report.flush()
    if options.wait:
        allowed = waiting.seconds(options.timeout or -1.0)
        selector = f"{resources.RESERVED}=true" if labelled == {"true"} else ""
        for kind, name, _ in waiting.until_gone(client, awaited, allowed, selector):
            report.complain(waiting.timed_out(kind, name))


def _condemned(options: Options) -> list[tuple[str, Document]]:
    """What to delete, each with the file that says so."""
    if options.filenames:
        if options.arguments:
            raise CommandError(
                "when paths, URLs, or stdin is provided as resource input, you may not specify resource "
                "arguments as well"
            )
        return _placed(manifests.load(options.filenames), options)
    if not options.arguments:
        raise UsageError("You must provide one or more resources by argument or filename.", options.command)
    documents: list[tuple[str, Document]] = []
    for kind, names in resources.targets(options.arguments, options.namespace):
        if not names:
            raise CommandError("resource(s) were provided, but no name was specified")
        for name in names:
            namespace, slash, _ = name.partition("/") if kind.namespaced else ("", "", "")
            metadata = {"name": resources.bare(name), "namespace": namespace} if slash else {"name": name}
            documents.append(("", {"apiVersion": f"{kind.group}/v1", "kind": kind.kind, "metadata": metadata}))
    return documents


def _placed(documents: list[tuple[str, Document]], options: Options) -> list[tuple[str, Document]]:
    """Documents of namespaced kinds, with --namespace where they say none themselves. Raises CommandError."""
    for _, document in documents:
        kind = resources.BY_KIND.get(str(document.get("kind")))
        metadata = document.get("metadata")
        if kind is None or not kind.namespaced or not options.namespace or not isinstance(metadata, dict):
            continue
        given = metadata.get("namespace")
        if given not in (None, "", options.namespace):
            raise CommandError(
                f"the namespace from the provided object {_quoted(given)} does not match the namespace "
                f"{_quoted(options.namespace)}. You must pass '--namespace={given}' to perform this operation."
            )
        metadata["namespace"] = options.namespace
    return documents


def _quoted(value: object) -> str:
    return f'"{printable(str(value))}"'


def _failures(results: list[tuple[str, Document, dict[str, Any]]]) -> int:
    return sum(result.get("result") == "error" for _, _, result in results)


def _bulk(
    client: Client, verb: str, documents: list[tuple[str, Document]], query: str = ""
) -> list[tuple[str, Document, dict[str, Any]]]:
    """Send all in one request; each document with its source and what became of it."""
    results = client.bulk(verb, [document for _, document in documents], query)
    return [(source, document, result) for (source, document), result in zip(documents, results, strict=True)]
