"""`backup` and `restore`.

A backup is the daemon's ledger as one file. It is written beside FILE, read once as `restore` would, and then renamed,
so that FILE is a whole backup or what it was before. Restoring reserves what is missing anew, through the API like
everybody else: what somebody else got meanwhile stays theirs, and what cannot be had back is said.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ovnreserve.cli import resources
from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import CommandError, UsageError, printable, status_text
from ovnreserve.cli.flags import Options
from ovnreserve.cli.report import Report
from ovnreserve.ledger.backup import read_backup
from ovnreserve.ledger.guard import LedgerError
from ovnreserve.model.ip import API_VERSION, Status, render
from ovnreserve.model.owner import Owner
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State

_BACKUP = "/apis/ovnreserve.io/v1/backup"
_ITEMS = 1000
_BYTES = 16 << 20
"""What one request holds: the daemon takes 64 MiB, and annotations may be 256 kB each."""


def backup(options: Options, client: Client, report: Report) -> None:
    """Write the daemon's ledger to FILE, durably, or to standard output."""
    file = _file(options)
    if file == "-":
        _to_stdout(client)
        return
    try:
        kept = _save(client, Path(os.path.realpath(file)))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    report.say(f"{printable(file)} saved with {counted(kept)}")


def _file(options: Options) -> str:
    if len(options.arguments) != 1 or not options.arguments[0]:
        raise UsageError("You must provide one FILE.", options.command)
    return options.arguments[0]


def _to_stdout(client: Client) -> None:
    if sys.stdout is None or sys.stdout.isatty():
        raise CommandError("a backup is no text: name a FILE, or redirect the output")
    try:
        sys.stdout.buffer.writelines(client.download(_BACKUP))
        sys.stdout.buffer.flush()
    except OSError as error:
        # The interpreter's last flush shall go nowhere, instead of failing once more with a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandError(f"writing the output: {error.strerror}") from error


def _save(client: Client, target: Path) -> list[Resource]:
    """What is in it. Raises OSError and CommandError; `target` is as before then."""
    if target.exists() and not target.is_file():
        raise CommandError(f"{target}: is no regular file")
    if target.with_name(f"{target.name}.lock").exists():
        raise CommandError(f"{target}: is the ledger of a daemon, by the .lock beside it; name another FILE")
    handle, name = tempfile.mkstemp(prefix=".ovnreserve-", dir=target.parent)  # of mode 0600
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.writelines(client.download(_BACKUP))
            out.flush()
            os.fsync(out.fileno())
        kept = read_backup(written)
        written.replace(target)
    except LedgerError as error:
        what = str(error).removeprefix(f"{written}: ")
        raise CommandError(f"{target}: not written, since what the daemon sent {what}") from None
    finally:
        written.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return kept


def restore(options: Options, client: Client, report: Report) -> None:
    """Have again what the backup has and the daemon has not; say of each what became of it. What reservations depend on
    comes first.
    """
    try:
        kept = read_backup(Path(_file(options)))
    except LedgerError as error:
        raise CommandError(str(error)) from None
    restored = unchanged = 0
    for kept_as, of_kind in _by_kind(kept):
        kind = kept_as.kind
        items = client.get(kind.path()).get("items") or ()
        found = {resources.name_of({"kind": kind.kind, **item}): item for item in items}
        missing = []
        for r in of_kind:
            wanted = kept_as.document(r)
            title = printable(f"{kind.singular}.{kind.group}/{resources.metadata(wanted)['name']}")
            present = found.get(resources.name_of(wanted))
            if present is not None and kind is resources.IP and not resources.metadata(present).get("finalizers"):
                present = None  # it only lives with its port
            if present is None:
                missing.append(wanted)
            elif differs := kept_as.difference(r, present):
                report.complain(CommandError(f"{title}: {differs}"))
            else:
                unchanged += 1
                report.say(f"{title} unchanged")
        if options.dry_run:
            restored += len(missing)
            for each in missing:
                report.say(f"{printable(resources.full_name(each))} restored (dry run)")
        else:
            restored += sum(_ask(client, report, documents) for documents in chunks(missing))
    report.say(summary(kept, restored, unchanged) + " (dry run)" * options.dry_run)


def _by_kind(kept: list[Resource]) -> Iterator[tuple[_Kept, list[Resource]]]:
    """What is to be had again, in the order of the kinds."""
    wanted = [r for r in kept if r.state in (State.HELD, State.INTENDED)]
    for kept_as in _KEPT:
        of_kind = [r for r in wanted if kind_of(r) == kept_as.kind.kind]
        if of_kind:
            yield kept_as, of_kind


def _ask(client: Client, report: Report, documents: list[dict[str, Any]]) -> int:
    """How many of these are reserved again."""
    restored = 0
    for each, result in zip(documents, client.bulk("create", documents, "?objects=false"), strict=True):
        for warning in result.get("warnings") or ():
            report.warn(str(warning))
        if result.get("result") == "error":
            doing = f'error when restoring "{resources.metadata(each)["name"]}": '
            report.complain(status_text(resources.section(result, "status"), doing, alone=False))
        else:
            restored += 1
            report.say(f"{printable(resources.full_name(each))} restored")
    report.flush()
    return restored


# ---- what a backup means -------------------------------------------------------------------------------------------


def document(r: Reservation) -> dict[str, Any]:
    """What asks for the same addresses again. Of what the server sets, nothing: it is another reservation."""
    spec = msgspec.to_builtins(render(r, Status("", ())).spec)
    labels = r.labels if r.reserved else {**r.labels, resources.RESERVED: "false"}
    metadata = {"name": r.name, "labels": labels, "annotations": r.annotations}
    return {"apiVersion": API_VERSION, "kind": resources.IP.kind, "metadata": metadata, "spec": spec}


def difference(r: Reservation, ip: dict[str, Any]) -> str:
    """Why the IP of that name is not what the backup has; empty if it has the same addresses."""
    phase = resources.section(ip, "status").get("phase")
    if phase == "Releasing":
        return "is being deleted; restore again when it is gone"
    if phase == "Failed":
        return "has failed; delete it first"
    spec = resources.section(ip, "spec")
    addresses = [spec.get("macAddress"), spec.get("v4IpAddress"), spec.get("v6IpAddress")]
    has = " ".join(str(address) for address in addresses if address)
    ours = [r.mac, *r.addresses]
    if spec.get("subnet") == r.subnet and all(address in addresses for address in ours):
        return ""
    return f"has {has} on subnet {spec.get('subnet')}, the backup {r.port_addresses} on subnet {r.subnet}"


def pool_document(pool: Pool) -> dict[str, Any]:
    """What asks for the same pool again."""
    metadata = {"name": pool.title, "labels": pool.labels, "annotations": pool.annotations}
    spec = {"subnet": pool.subnet, "namespaces": list(pool.namespaces), "ips": list(pool.ips)}
    return {"apiVersion": API_VERSION, "kind": resources.IP_POOL.kind, "metadata": metadata, "spec": spec}


def pool_difference(pool: Pool, present: dict[str, Any]) -> str:
    """Why the pool of that name is not what the backup has; empty if it is."""
    if resources.metadata(present).get("deletionTimestamp"):
        return "is being deleted; restore again when it is gone"
    spec, ours = resources.section(present, "spec"), pool_document(pool)["spec"]
    for field, value in ours.items():
        if spec.get(field) != value:
            return f"has {field} {json.dumps(spec.get(field))}, the backup {json.dumps(value)}"
    return ""


def owner_document(owner: Owner) -> dict[str, Any]:
    """What tells of the same owner again."""
    told = owner.document()
    metadata = {
        "name": owner.title, "namespace": owner.namespace, "labels": owner.labels, "annotations": owner.annotations,
    }  # fmt: skip
    return {"apiVersion": told["apiVersion"], "kind": owner.kind, "metadata": metadata, "spec": told.get("spec", {})}


def owner_difference(owner: Owner, present: dict[str, Any]) -> str:
    """Why the owner of that name is not what the backup has; empty if it is."""
    has, ours = resources.section(present, "spec"), owner_document(owner)["spec"]
    if has == ours:
        return ""
    return f"has spec {json.dumps(has)}, the backup {json.dumps(ours)}"


class _Kept(NamedTuple):
    """How resources of a kind are asked for again, and compared with one that is there."""

    kind: resources.Kind
    document: Callable[[Any], dict[str, Any]]
    difference: Callable[[Any, dict[str, Any]], str]


_KEPT = (
    _Kept(resources.STATEFUL_SET, owner_document, owner_difference),
    _Kept(resources.VIRTUAL_MACHINE, owner_document, owner_difference),
    _Kept(resources.IP_POOL, pool_document, pool_difference),
    _Kept(resources.IP, document, difference),
)
"""In the order in which they are restored: an IP is retained if its owner says so, and may be from a pool."""


def kind_of(r: Resource) -> str:
    """The kind that users know it by."""
    if isinstance(r, Owner):
        return r.kind
    return resources.IP_POOL.kind if isinstance(r, Pool) else resources.IP.kind


def counted(kept: list[Resource]) -> str:
    """`2 reservations`, and what else there is."""
    counts = (("reservation", Reservation), ("pool", Pool), ("owner", Owner))
    numbers = [(word, sum(isinstance(r, type_) for r in kept)) for word, type_ in counts]
    told = [f"{number} {word}{'s' * (number != 1)}" for word, number in numbers if number or word == "reservation"]
    return " and ".join((", ".join(told[:-1]), told[-1])) if len(told) > 1 else told[0]


def chunks(documents: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many in each as one request may hold."""
    chunk: list[dict[str, Any]] = []
    size = 0
    for each in documents:
        length = len(json.dumps(each))
        if chunk and (len(chunk) == _ITEMS or size + length > _BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += length
    if chunk:
        yield chunk


def summary(kept: list[Resource], restored: int, unchanged: int) -> str:
    """`2 restored, 1 unchanged, 0 not restored; left out: 1 that was being released, 1 that had failed`."""
    releasing = sum(r.state is State.RELEASING for r in kept)
    failed = sum(r.state is State.FAILED for r in kept)
    lost = len(kept) - releasing - failed - restored - unchanged
    text = f"{restored} restored, {unchanged} unchanged, {lost} not restored"
    left_out = [
        f"{count} that {what}" for count, what in ((releasing, "was being released"), (failed, "had failed")) if count
    ]
    return f"{text}; left out: {', '.join(left_out)}" if left_out else text
