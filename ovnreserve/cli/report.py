"""Where output goes: lines to stdout, complaints to stderr, in one order even where both are one file."""

from __future__ import annotations

import os
import sys

from ovnreserve.cli.errors import CommandError, printable

TYPE_CHECKING = False


class Report:
    """Gathers lines and writes them in one go, since 10,000 of them are usual; complaints push them out."""

    def __init__(self) -> None:
        self.failed = False
        self._lines: list[str] = []
        self._warned: set[str] = set()

    def say(self, text: str) -> None:
        self._lines.append(text)

    def complain(self, text: object) -> None:
        """Something went wrong: the exit status will be 1."""
        self.failed = True
        self.note(str(text))

    def warn(self, text: str) -> None:
        """A warning of the server; the same one is shown once."""
        if text not in self._warned:
            self._warned.add(text)
            self.note(f"Warning: {printable(text)}")

    def note(self, text: str) -> None:
        """A line on stderr."""
        self.flush()
        if sys.stderr is not None:
            try:
                print(text, file=sys.stderr, flush=True)
            except OSError:
                return  # then there is nowhere left to say it

    def flush(self) -> None:
        """Write what has been gathered. Raises BrokenPipeError where nobody reads, CommandError for other reasons."""
        lines, self._lines = self._lines, []
        if lines and sys.stdout is not None:
            try:
                print("\n".join(lines), flush=True)
            except OSError as error:
                # The interpreter's last flush shall go nowhere, instead of failing once more with a message.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                if isinstance(error, BrokenPipeError):
                    raise
                raise CommandError(f"writing the output: {error.strerror or error}") from error
