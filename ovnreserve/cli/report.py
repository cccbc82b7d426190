"""Where output goes: lines to stdout, complaints to stderr, in one order even where both are one file."""

from __future__ import annotations

import sys

from ovnreserve.cli.errors import printable

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
            print(text, file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Write what has been gathered. Raises OSError, BrokenPipeError among them."""
        lines, self._lines = self._lines, []
        if lines and sys.stdout is not None:
            print("\n".join(lines), flush=True)
