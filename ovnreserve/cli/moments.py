"""Points in time as people write them: RFC 3339 and shorter forms of it, or how long ago."""

from __future__ import annotations

import time

from ovnreserve.cli import durations

_EXAMPLES = "must be a time such as 2026-11-27T08:00:00Z or 2026-11-27, or how long ago, as 2h"


def parse(text: str) -> float:
    """Seconds since the epoch of `2026-11-27T08:00:00Z`, `2026-11-27 08:00` and `2026-11-27` (UTC where they name no
    zone), or of the time that `2h`, `90m` or `3d` ago was. Raises ValueError.
    """
    found = _parse(text.strip())
    if found < 0:
        raise ValueError("must not be before 1970")
    return found


def _parse(word: str) -> float:
    if word[-1:] in ("d", "h", "m", "s") and word[:1].isdigit():
        days, _, rest = word.rpartition("d") if "d" in word else ("", "", word)
        if not days or days.isdecimal():
            return time.time() - 86400.0 * int(days or 0) - (durations.parse(rest) if rest else 0.0)
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(word)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(_EXAMPLES) from None
