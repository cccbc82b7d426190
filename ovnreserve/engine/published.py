"""What readers see: frozen values that the engine has published.

The engine's thread writes, any thread reads. Each look-up and each copy of a dict is one atomic step of the
interpreter, and every value in it is immutable, so readers need no lock and never see half a change of one resource.
An IP whose port is reserved or no longer so moves from one dict to the other: it is put into the one before it is taken
out of the other, and who looks for it looks into the first once more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ovnreserve.model.documents import Condition, timestamp
from ovnreserve.model.ip import IP, Subnet, labels_of, render
from ovnreserve.model.owner import Owner
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.plan import born, status
from ovnreserve.plan.born import Born
from ovnreserve.plan.findings import Finding
from ovnreserve.plan.pool_status import PoolStatus
from ovnreserve.plan.status import Observed

Shown = tuple[Reservation, Observed] | Born
"""What is shown as an IP: a reservation and what was seen of it, or what was born with a port."""


class PublishedPool(NamedTuple):
    """`since` is when its condition last changed."""

    pool: Pool
    status: PoolStatus
    since: float

    def document(self) -> dict[str, Any]:
        """As it goes out."""
        counts, ready, reason, message = self.status
        condition = Condition("Ready", str(ready), reason, message, timestamp(self.since))
        return self.pool.document(counts, condition)


class Published:
    def __init__(self) -> None:
        self.ips: dict[str, tuple[Reservation, Observed]] = {}
        self.owners: dict[str, Owner] = {}
        """By name among the resources; also those that are remembered as gone."""
        self.born: dict[str, Born] = {}
        """The IPs of ports for whose names nothing is reserved."""
        self.subnets: dict[str, Subnet] = {}
        self.pools: dict[str, PublishedPool] = {}
        self.version = 0
        self.state = "disconnected"
        self.since = 0.0
        self.busy_at = 0.0
        """When the last batch was begun (monotonic)."""
        self.problem = ""
        self.findings: tuple[Finding, ...] = ()
        """What is wrong with the database as a whole."""
        self.schema = ""
        self.ports = 0
        self.subnet_count = 0
        self.revision: dict[str, int] = {}
        self.writer = ""
        """The daemon that wrote to the database last, on one line."""

    def ip(self, name: str) -> IP | None:
        found = self.ips.get(name) or self.born.get(name) or self.ips.get(name)
        return None if found is None else document(found)

    def all_ips(self) -> dict[str, Shown]:
        """Every IP by its name."""
        before = self.ips.copy()
        return {**before, **self.born.copy(), **self.ips.copy()}

    def all_pools(self) -> list[PublishedPool]:
        """Every pool, by name."""
        return sorted(self.pools.values(), key=lambda published: published.pool.title)

    def all_subnets(self) -> list[Subnet]:
        return sorted(self.subnets.values(), key=lambda subnet: (subnet.name, subnet.uid))


def document(shown: Shown) -> IP:
    if isinstance(shown, Born):
        return born.render(shown)
    r, observed = shown
    return render(r, status.render(r, observed))


def labels(shown: Shown) -> dict[str, str]:
    """The labels of its document."""
    return shown.labels if isinstance(shown, Born) else labels_of(shown[0])
