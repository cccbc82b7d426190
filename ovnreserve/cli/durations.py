"""Durations as Go writes and kubectl shows them: `1m30s` in, `5d2h` out."""

from __future__ import annotations

_NUMBER = "0123456789."
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def parse(text: str) -> float:
    """Seconds of `30s`, `1h15m`, `-1s`, `1.5h` or a bare number. Raises ValueError in Go's words."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in ("-", "+") else text
    if _is_number(rest):
        return sign * float(rest)
    total = 0.0
    while rest:
        number = rest[: next((i for i, c in enumerate(rest) if c not in _NUMBER), len(rest))]
        rest = rest[len(number) :]
        unit = rest[: next((i for i, c in enumerate(rest) if c in _NUMBER), len(rest))]
        rest = rest[len(unit) :]
        if not _is_number(number) or unit not in _UNITS:
            raise ValueError(f'time: invalid duration "{text}"')
        total += float(number) * _UNITS[unit]
    if text in ("", "+", "-"):
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * total


def _is_number(text: str) -> bool:
    return text.isascii() and text.count(".") <= 1 and text.replace(".", "", 1).isdigit()


def human(seconds: float) -> str:
    """As in kubectl's AGE column (apimachinery, duration.HumanDuration): `119s`, `9m59s`, `7h5m`, `5d2h`."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _two(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"


def since(timestamp: object) -> str:
    """The age of an RFC 3339 time, `<unknown>` of anything else."""
    from datetime import UTC, datetime

    try:
        then = datetime.fromisoformat(str(timestamp))
        return human((datetime.now(UTC) - then).total_seconds())
    except (ValueError, TypeError):
        return "<unknown>"
