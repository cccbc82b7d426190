"""The commands, one function each: options in, exit status out. Words, order and exit status are kubectl's.

`apply`, `create` and `delete` send everything as one bulk request, so that all of it is one group commit; each object
gets its own line, in the order of the files, and a bad one does not stop the others.
"""

from __future__ import annotations

import sys
import time

from ovnreserve.cli import render, resources
from ovnreserve.cli.client import PATIENCE, Client, quote
from ovnreserve.cli.errors import CommandError, StatusError, UnreachableError, UsageError, printable, status_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ovnreserve.cli.flags import Options

_WEEK = 7 * 24 * 3600.0
_BULK = "/apis/ovnreserve.io/v1/bulk"
_STATUS = "/apis/ovnreserve.io/v1/status"
# Polling: the first wait, its growth and the longest one, in seconds.
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.002, 1.5, 0.1
_MANY = 32  # from here on one list is cheaper than a GET each


def apply(options: Options) -> int:
    return _write(options, "apply")


def create(options: Options) -> int:
    return _write(options, "create")


def _write(options: Options, verb: str) -> int:
    if not options.filenames:
        raise UsageError("must specify one of -f and --filename", verb)
    if options.arguments:
        raise UsageError(f"Unexpected args: [{' '.join(options.arguments)}]", verb)
    documents = _documents(options, verb)
    query, patience = "", PATIENCE
    if options.barrier == "sb":
        timeout = 30.0 if options.timeout is None else max(options.timeout, 0.0)
        query, patience = f"?wait=sb&timeout={timeout:g}", PATIENCE + timeout
    client = Client(options.server)
    results = _bulk(client, verb, [document for _, document in documents], query, patience)
    failures = 0
    with_warnings = _Report(client)
    for (source, document), result in zip(documents, results, strict=True):
        with_warnings.warn(result.get("warnings") or ())
        if result.get("result") == "error":
            failures += 1
            doing = f'error when creating "{printable(source)}": '
            with_warnings.complain(status_text(resources.section(result, "status"), doing))
        else:
            with_warnings.say(f"{resources.full_name(result.get('object') or document)} {result.get('result')}")
    with_warnings.flush()
    return 1 if failures else 0
