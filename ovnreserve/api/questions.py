"""Questions about the world: `suggest`, and `verify`, which may be followed by a repair (docs/api.md)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ovnreserve.api.desk import Desk
from ovnreserve.api.http import json, waiting
from ovnreserve.engine import Look, Verified, Verify, explain, suggest
from ovnreserve.model.documents import timestamp
from ovnreserve.model.errors import BadRequest, OutcomeUnknown, Unavailable, shown

MAX_ADDRESSES: Final = 65_536
"""That are suggested at once: an answer of 2 MiB."""
_WITHIN: Final = 10.0
"""Seconds in which the engine has to take its next turn."""
_VERIFIED_WITHIN: Final = 120.0
"""Seconds that the engine may take to hold the stores against each other: some with 60,000 reservations."""
_PAUSE: Final = 0.05
"""Seconds from one look at what a repair has come to to the next, at least; at least twice as long as a look takes."""

_MOMENT: Final = 0.25
"""Seconds after which a difference that is still there is one. While two clients reserved, bound and released as fast
as they could, one look in 17 at an active daemon found ports that were just being bound, one in four at a standby."""


class Questions:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._quarantine = desk.engine.quarantine
        self._verifying = asyncio.Lock()

    async def suggest(self, request: HttpRequest) -> Response:
        query = request.query_params
        for key in query:
            if key not in ("subnet", "count", "contiguous", "family", "explain"):
                raise BadRequest(f"unknown parameter {shown(key)}", kind="subnets")
        subnet = query.get("subnet", "")
        if not subnet:
            raise BadRequest("subnet is required", kind="subnets")
        if "explain" in query:
            for key in ("count", "contiguous", "family"):
                if key in query:
                    raise BadRequest(f"explain is about one address: it does not go with {key}", kind="subnets")
            return json(await self._explain(subnet, query["explain"]))
        count = _count(query.get("count", "1"))
        contiguous, family = query.get("contiguous", "false"), query.get("family", "")
        if contiguous not in ("true", "false"):
            raise BadRequest(f"contiguous={shown(contiguous)}: must be true or false", kind="subnets")
        if family not in ("", "4", "6"):
            raise BadRequest(f"family={shown(family)}: must be 4 or 6", kind="subnets")
        return json(await self._suggest(subnet, count, contiguous == "true", int(family) if family else None))

    async def _suggest(self, subnet: str, count: int, contiguous: bool, family: int | None) -> dict[str, Any]:
        found = await self._look(
            Look(lambda world: suggest(world, subnet, count, contiguous=contiguous, family=family))
        )
        addresses = [{"address": found.cidr.format(address)} for address in found.addresses]
        for number, shown_ in zip(found.addresses, addresses, strict=True) if found.quarantined else ():
            since = found.quarantined.get(number)
            if since is not None:
                shown_["quarantinedUntil"] = timestamp(since + self._quarantine)
        return {
            "subnet": subnet,
            "family": 4 if found.cidr.bits == 32 else 6,
            "count": count,
            "addresses": addresses,
        }

    async def _explain(self, subnet: str, address: str) -> dict[str, Any]:
        found = await self._look(Look(lambda world: explain(world, subnet, address, self._quarantine)))
        return {
            "subnet": subnet,
            "address": found.address,
            "free": not found.reasons,
            "reasons": found.reasons,
            "mayBeGiven": not found.refusal,
            "refusal": found.refusal,
        }

    async def verify(self, _request: HttpRequest) -> Response:
        async with self._verifying:
            return json(_verified(await self._lasting()))

    async def repair(self, request: HttpRequest) -> Response:
        """Until nothing is left but what stays, or the time is over."""
        timeout, _wait_sb = waiting(request)
        loop = asyncio.get_running_loop()
        async with self._verifying:
            until = loop.time() + timeout
            before = now = await self._verified()
            await self._look(Verify(repair=True), _VERIFIED_WITHIN)
            while True:
                started = loop.time()
                last, now = now, await self._verified()
                done = not now.is_busy and (not now.total or now == last)
                if done or loop.time() >= until:
                    break
                await asyncio.sleep(max(_PAUSE, 2 * (loop.time() - started)))
        left = {difference.what for difference in now.differences}
        repaired = [difference.what for difference in before.differences if difference.what not in left]
        return json({"repaired": repaired, **_verified(now)})

    async def _lasting(self) -> Verified:
        """What differs at two looks: a port that came just now is about to be given its addresses."""
        first = await self._verified()
        if not first.total:
            return first
        await asyncio.sleep(_MOMENT)
        now = await self._verified()
        if max(first.total - len(first.differences), now.total - len(now.differences)) > 0:
            return now  # not all are named, so none is known to be new
        commands = {difference.command for difference in first.differences}
        lasting = [difference for difference in now.differences if difference.command in commands]
        return now._replace(differences=lasting, total=len(lasting))

    async def _verified(self) -> Verified:
        found: Verified = await self._look(Verify(), _VERIFIED_WITHIN)
        return found

    async def _look(self, look: Look | Verify, seconds: float = _WITHIN) -> Any:
        try:
            [answer] = await self._desk.ask([look], seconds)
        except OutcomeUnknown:
            raise Unavailable("the daemon is held up; ask again", kind="") from None
        if answer.refused is not None:
            raise answer.refused
        return answer.found


def _verified(found: Verified) -> dict[str, Any]:
    differences = [difference._asdict() for difference in found.differences]
    return {"clean": not found.total, "total": found.total, "differences": differences}


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= count <= MAX_ADDRESSES:
        raise BadRequest(f"count={shown(text)}: must be a whole number from 1 to {MAX_ADDRESSES}", kind="subnets")
    return count
