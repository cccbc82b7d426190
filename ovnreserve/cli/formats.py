"""Formats: what `-o` may be, and JSON as it is printed."""

from __future__ import annotations

from ovnreserve.cli.errors import CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ovnreserve.cli.flags import Options


def check_output(options: Options, *allowed: str) -> None:
    """Raises CommandError, worded as kubectl does, if -o is none of them."""
    if options.output and options.output not in allowed:
        raise CommandError(
            f'unable to match a printer suitable for the output format "{options.output}", '
            f"allowed formats are: {','.join(allowed)}"
        )


def check_no_arguments(options: Options) -> None:
    if options.arguments:
        raise UsageError(f"Unexpected args: [{' '.join(options.arguments)}]", options.command)


def as_json(answer: Any, *, sort_keys: bool = False) -> str:
    import json

    return json.dumps(answer, indent=4, sort_keys=sort_keys, ensure_ascii=False)
