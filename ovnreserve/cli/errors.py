"""What the command line says when something is wrong. All of it goes to stderr, and the exit status is 1.

    CommandError            `error: …`
    ├── UsageError          and where the usage is explained
    ├── ManifestError       a file that cannot be read, or not be understood
    ├── UnreachableError    no daemon, or no whole answer from it: `ovnreserve: SOCKET: …`
    └── StatusError         what the server refused, in kubectl's words

The wording of a refusal is kubectl's (pkg/cmd/util/helpers.go, `checkErr` and `MultilineError`).
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name type checkers take for true; importing typing would cost 2 ms
if TYPE_CHECKING:
    from typing import Any


class CommandError(Exception):
    """Something the user has to know; `str()` is the text as it is printed."""

    def __str__(self) -> str:
        return f"error: {printable(super().__str__())}"


class UsageError(CommandError):
    """A command line that means nothing. `command` is the subcommand, or "" before there is one."""

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command

    def __str__(self) -> str:
        path = f"ovnreserve {self.command}".rstrip()
        return f"{super().__str__()}\nSee '{path} --help' for usage."


class ManifestError(CommandError):
    """A manifest that cannot be read or parsed; nothing has been sent. It quotes the manifest, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", "\\n"))


class UnreachableError(CommandError):
    """The server could not be asked, or broke off. `doubtful`: it may have done what it was asked all the same."""

    def __init__(self, address: str, what: str, hint: str = "", *, doubtful: bool = False) -> None:
        super().__init__(what)
        self.doubtful = doubtful
        self.address = address
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        text = f"ovnreserve: {printable(self.address)}: {printable(self.what)}"
        return f"{text}\n{self.hint}" if self.hint else text


class StatusError(CommandError):
    """A `kind: Status` answer; `status` is the decoded object."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.message = str(status.get("message") or "")
        super().__init__(self.message)
        self.status = status

    @property
    def not_found(self) -> bool:
        return self.status.get("reason") == "NotFound"

    @property
    def unavailable(self) -> bool:
        """It can do nothing now, and has changed nothing: another may."""
        return self.status.get("reason") == "ServiceUnavailable"

    def __str__(self) -> str:
        return status_text(self.status)


def status_text(status: dict[str, Any], doing: str = "", *, alone: bool = True) -> str:
    """A refusal as kubectl prints it; `doing` goes before the message (`error when creating "x.yaml": `).

    An invalid object is told by its causes, one on the same line, several on lines `* field: message`; but
    where it is not the only refusal, by its message on one line like the others (seen with kubectl 1.32).
    """
    reason = status.get("reason") or ""
    message = printable(str(status.get("message") or ""))
    if reason == "Invalid" and alone:
        return _invalid_text(status.get("details") or {}, message)
    start = f"Error from server ({reason})" if reason else "Error from server"
    return f"{start}: {doing}{message}"


def _invalid_text(details: dict[str, Any], message: str) -> str:
    kind, name = details.get("kind") or "", details.get("name") or ""
    text = "The request is invalid"
    if kind or name:
        text = f'The {printable(kind)} "{printable(name)}" is invalid'
    causes: dict[str, None] = {}
    for cause in details.get("causes") or ():
        field, why = cause.get("field") or "", cause.get("message") or ""
        causes[printable(f"{field}: {why}" if field else why)] = None
    if not causes:
        return f"{text}: {message}" if message else text
    if len(causes) == 1:
        return f"{text}: {next(iter(causes))}"
    return "\n".join([f"{text}: ", *(f"* {cause}" for cause in causes)])


def printable(text: str) -> str:
    """The text with control characters written out, so that no manifest or message can drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """The same where each line means something: line breaks and tabs are written out as well, so that no port's name
    can make up a line.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
