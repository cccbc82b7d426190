"""Why a request was refused.

    Refused                       reason (Kubernetes)     code
    ├── BadRequest                BadRequest              400
    ├── NotFound                  NotFound                404
    ├── MethodNotAllowed          MethodNotAllowed        405
    ├── AlreadyExists             AlreadyExists           409
    ├── Conflict                  Conflict                409
    │   └── NoAvailableAddress    Conflict                409
    ├── RequestEntityTooLarge     RequestEntityTooLarge   413
    ├── UnsupportedMediaType      UnsupportedMediaType    415
    ├── Invalid                   Invalid                 422   one cause a field
    ├── HeadTooLarge              BadRequest              431
    ├── Unavailable               ServiceUnavailable      503   nothing was written
    └── OutcomeUnknown            Timeout                 504   it may have been written

Messages say what, where and what to do; wording follows the Kubernetes API server, so that kubectl prints it well.
They quote what strangers wrote, in requests and in the database, so each is one line of bounded length.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final, NamedTuple

GROUP = "kubeovn.io"

PLURALS: Final = {"StatefulSet": "statefulsets", "VirtualMachine": "virtualmachines", "IPPool": "ippools", "IP": "ips"}
_GROUPS: Final = {
    **dict.fromkeys(("StatefulSet", "statefulsets"), "apps"),
    **dict.fromkeys(("VirtualMachine", "virtualmachines"), "kubevirt.io"),
}


def group_of(kind: str) -> str:
    """The API group of a kind or its plural."""
    return _GROUPS.get(kind, GROUP)


MOST_CAUSES: Final = 32
"""How many things that are wrong are named in one answer."""
_LONGEST: Final = 8192


class FieldError(NamedTuple):
    """One thing wrong with one field. `reason` is a Kubernetes CauseType, `field` a path such as `spec.subnet`."""

    reason: str
    field: str
    message: str

    @classmethod
    def required(cls, field: str) -> FieldError:
        return cls("FieldValueRequired", field, "Required value")

    @classmethod
    def invalid(cls, field: str, value: object, why: str) -> FieldError:
        return cls("FieldValueInvalid", field, f"Invalid value: {_shown(value)}: {why}")

    @classmethod
    def unsupported(cls, field: str, value: object, supported: tuple[str, ...]) -> FieldError:
        names = ", ".join(f'"{name}"' for name in supported)
        message = f"Unsupported value: {_shown(value)}: supported values: {names}"
        return cls("FieldValueNotSupported", field, message)

    @classmethod
    def unknown(cls, field: str) -> FieldError:
        return cls("FieldValueInvalid", field, f'unknown field "{field}"')

    @classmethod
    def too_long(cls, field: str, limit: str) -> FieldError:
        return cls("FieldValueTooLong", field, f"Too long: must have at most {limit}")


def shown(text: str, most: int = 253) -> str:
    """The text on one line, of at most so many characters of its own, whatever somebody sent."""
    text = text[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _shown(value: object) -> str:
    """The value as the API server quotes it."""
    text = value if isinstance(value, str) else reprlib.repr(value) if _is_number(value) else in_json(value)
    text = shown(text, 200)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_json(value: object) -> str:
    """What a value is, in the words of JSON: `null`, `true`, `a string`, `a number`, `a list`, `an object`."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, dict) else "a number"


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that is answered with a Status object; nothing was changed unless the class says otherwise."""

    reason: ClassVar[str] = "InternalError"
    code: ClassVar[int] = 500

    def __init__(self, message: str, *, kind: str = "ips", name: str = "", causes: tuple[FieldError, ...] = ()) -> None:
        self.message = shown(message, _LONGEST)
        super().__init__(self.message)
        self.kind = kind
        self.name = shown(name)
        self.causes = tuple(
            FieldError(reason, shown(field, 512), shown(why, _LONGEST)) for reason, field, why in causes[:MOST_CAUSES]
        )

    def status(self) -> dict[str, Any]:
        """The Status object (Kubernetes API conventions, "Response Status Kind")."""
        details: dict[str, Any] = {"group": group_of(self.kind), "kind": self.kind}
        if self.name:
            details["name"] = self.name
        if self.causes:
            details["causes"] = [cause._asdict() for cause in self.causes]
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code,
        }


class BadRequest(Refused):
    reason, code = "BadRequest", 400


class NotFound(Refused):
    reason, code = "NotFound", 404

    @classmethod
    def of(cls, kind: str, name: str) -> NotFound:
        return cls(f'{kind}.{group_of(kind)} "{shown(name)}" not found', kind=kind, name=name)


    @classmethod
    def resource(cls, name: str) -> NotFound:
        """Of what is known by that name: an IP, or `KIND/[NAMESPACE/]NAME`."""
        kind, slash, rest = name.partition("/")
        plural = {kind.lower(): plural for kind, plural in PLURALS.items()}.get(kind)
        if not slash or plural is None:
            return cls.of("ips", name)
        return cls.of(plural, rest.rpartition("/")[2])


class MethodNotAllowed(Refused):
    reason, code = "MethodNotAllowed", 405


class AlreadyExists(Refused):
    reason, code = "AlreadyExists", 409

    @classmethod
    def of(cls, kind: str, name: str) -> AlreadyExists:
        return cls(f'{kind}.{group_of(kind)} "{name}" already exists', kind=kind, name=name)


class Conflict(Refused):
    """Somebody else holds what was asked for. The message names the holder."""

    reason, code = "Conflict", 409

    @classmethod
    def over(cls, name: str, field: str, what: str, kind: str = "ips") -> Conflict:
        message = f'Operation cannot be fulfilled on {kind}.{group_of(kind)} "{name}": {field}: {what}'
        return cls(message, kind=kind, name=name, causes=(FieldError("FieldValueDuplicate", field, what),))

    @classmethod
    def ambiguous(cls, name: str, uuids: Collection[str]) -> Conflict:
        """Several logical switches have the name of a subnet."""
        what = f"ambiguous: {len(uuids)} logical switches have this name: {', '.join(uuids)}"
        causes = (FieldError("FieldValueDuplicate", "metadata.name", what),)
        return cls(f'subnets.{GROUP} "{shown(name)}" is {what}', kind="subnets", name=name, causes=causes)


class NoAvailableAddress(Conflict):
    @classmethod
    def on(cls, name: str, subnet: str, family: str, pools: Sequence[str] = ()) -> NoAvailableAddress:
        """`pools` are those from which it was to be."""
        of = f"IPPool{'s' * (len(pools) > 1)} {', '.join(pools)} of " if pools else ""
        what = f"no {family} address is available {'in' if pools else 'on'} {of}subnet {subnet}"
        message = f'Operation cannot be fulfilled on ips.{GROUP} "{name}": {what}'
        return cls(message, name=name, causes=(FieldError("NoAvailableAddress", "spec.subnet", what),))


class RequestEntityTooLarge(Refused):
    reason, code = "RequestEntityTooLarge", 413


class UnsupportedMediaType(Refused):
    reason, code = "UnsupportedMediaType", 415


class Invalid(Refused):
    reason, code = "Invalid", 422

    @classmethod
    def because(cls, name: str, causes: list[FieldError] | tuple[FieldError, ...], kind: str = "IP") -> Invalid:
        lines = [
            cause.message
            if cause.field in cause.message[:60] and cause.message.startswith("unknown")
            else f"{cause.field}: {cause.message}"
            for cause in causes[:MOST_CAUSES]
        ]
        if len(causes) > MOST_CAUSES:
            lines.append("and more")
        text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
        message = f'{kind}.{group_of(kind)} "{shown(name)}" is invalid: {text}'
        return cls(message, kind=kind, name=name, causes=tuple(causes))


class HeadTooLarge(Refused):
    reason, code = "BadRequest", 431


class Unavailable(Refused):
    reason, code = "ServiceUnavailable", 503


class OutcomeUnknown(Refused):
    """The northbound database did not answer in time. What was asked may still happen; `get` will tell."""

    reason, code = "Timeout", 504
