"""`wait`, and the waiting of `delete`: ask again and again, ever more slowly, until it is so or time is up.

A --timeout below 0 is a week. One of 0 asks once in `wait`; in `delete` it is a week, as in kubectl.
"""

from __future__ import annotations

import time

from ovnreserve.cli import resources
from ovnreserve.cli.client import PATIENCE, quote
from ovnreserve.cli.errors import CommandError, StatusError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ovnreserve.cli.client import Client
    from ovnreserve.cli.flags import Options
    from ovnreserve.cli.report import Report
    from ovnreserve.cli.resources import Kind

    Awaited = tuple[Kind, str, object]  # the kind, the name and the uid of what shall go, None for any

_WEEK = 7 * 24 * 3600.0
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.002, 1.5, 0.1  # seconds
_MANY = 32  # from here on one list is cheaper than a GET for each


def wait(options: Options, client: Client, report: Report) -> None:
    """Wait for each object named, all within one --timeout."""
    if not options.arguments:
        raise UsageError("You must provide one or more resources by argument.", options.command)
    named = [(kind, name) for kind, names in resources.targets(options.arguments, options.namespace) for name in names]
    if not named:
        raise CommandError("resource(s) were provided, but no name was specified")
    wanted = _wanted(options.condition)
    allowed = seconds(30.0 if options.timeout is None else options.timeout)
    deadline = time.monotonic() + allowed
    for kind, name in named:
        try:
            met = _wait_one(client, kind, name, wanted, max(deadline - time.monotonic(), 0.0))
        except StatusError as error:
            if wanted or not error.not_found:  # of what was gone before, kubectl says nothing
                report.complain(error)
            continue
        if met:
            report.say(f"{kind.singular}.{kind.group}/{printable(resources.bare(name))} condition met")
        elif allowed:
            report.complain(timed_out(kind, name))
        else:
            report.complain(CommandError(f"condition not met for {kind.plural}/{resources.bare(name)}"))
        report.flush()


def _wanted(condition: str) -> tuple[str, str] | None:
    """What --for asks: a condition's type and status in lower case, or None for `delete`."""
    if condition.lower() == "delete":
        return None
    what, _, detail = condition.partition("=")
    wanted, _, value = detail.partition("=")
    if what.lower() != "condition" or not wanted:
        raise CommandError(f'unrecognized condition: "{condition}"')
    return wanted.lower(), (value or "True").lower()


def _wait_one(client: Client, kind: Kind, name: str, wanted: tuple[str, str] | None, allowed: float) -> bool:
    if wanted is None:
        uid = resources.metadata(client.get(kind.path(name))).get("uid")
        return not until_gone(client, [(kind, name, uid)], allowed)

    def holds() -> bool:
        status = resources.section(client.get(kind.path(name)), "status")
        return any(
            (str(condition.get("type")).lower(), str(condition.get("status")).lower()) == wanted
            for condition in status.get("conditions") or ()
        )

    return _until(client, holds, allowed)


def seconds(timeout: float) -> float:
    """How long a --timeout is: less than 0 means a week."""
    return _WEEK if timeout < 0 else timeout


def timed_out(kind: Kind, name: str) -> CommandError:
    return CommandError(f"timed out waiting for the condition on {kind.plural}/{resources.bare(name)}")


def until_gone(client: Client, awaited: Iterable[Awaited], allowed: float, selector: str = "") -> list[Awaited]:
    """Wait until all are gone, or others by the same name are there; those left when time is up. `selector` is of
    labels that all of them have: of 100,000 IPs few may have to be listed.

    The others are not asked for while the first is there: polling for all of 10,000 took 2.7 s of our CPU instead
    of 0.4 s, and the daemon had to write them out while it had their release to do.
    """
    pending = list(awaited)

    def all_gone() -> bool:
        nonlocal pending
        if pending and not _is_there(client, pending[0]):
            pending = _present(client, pending[1:], selector)
        return not pending

    return [] if _until(client, all_gone, allowed) else _present(client, pending, selector)


def _present(client: Client, awaited: list[Awaited], selector: str) -> list[Awaited]:
    if len(awaited) < _MANY:
        return [each for each in awaited if _is_there(client, each)]
    present: set[tuple[str, object, object]] = set()
    query = f"?labelSelector={quote(selector)}" if selector else ""
    for kind in {kind.kind: kind for kind, _, _ in awaited}.values():
        for item in client.get(kind.path() + query).get("items") or ():
            named = {"kind": kind.kind, **item}
            uid = resources.metadata(item).get("uid")
            present |= {(kind.kind, resources.name_of(named), each) for each in (uid, None)}
    return [each for each in awaited if (each[0].kind, each[1], each[2]) in present]


def _is_there(client: Client, each: Awaited) -> bool:
    kind, name, uid = each
    try:
        found = resources.metadata(client.get(kind.path(name))).get("uid")
    except StatusError as error:
        if error.not_found:
            return False
        raise
    return uid is None or found == uid


def _until(client: Client, holds: Callable[[], bool], allowed: float) -> bool:
    """Ask until it holds; False when `allowed` seconds are over. Asks at least once."""
    client.patience = min(PATIENCE, max(allowed, 1.0))  # a daemon that hangs is no reason to wait longer
    deadline = time.monotonic() + allowed
    pause = _FIRST_PAUSE
    while not holds():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)
    return True
