"""What readers see: frozen values that the engine has published.

The engine's thread writes, any thread reads. Each look-up and each copy of a dict's values is one atomic step of the
interpreter, and every value in it is immutable, so readers need no lock and never see half a change of one resource.
"""

from __future__ import annotations

from ovnreserve.model.ip import IP, Subnet, render
from ovnreserve.model.owner import Owner
from ovnreserve.model.reservation import Reservation
from ovnreserve.plan import status
from ovnreserve.plan.findings import Finding
from ovnreserve.plan.status import Observed


class Published:
    def __init__(self) -> None:
        self.ips: dict[str, tuple[Reservation, Observed]] = {}
        self.owners: dict[str, Owner] = {}
        """By name among the resources; also those that are remembered as gone."""
        self.subnets: dict[str, Subnet] = {}
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
        found = self.ips.get(name)
        return None if found is None else document(*found)

    def all_ips(self) -> list[tuple[Reservation, Observed]]:
        """Every reservation, by name."""
        return sorted(self.ips.values(), key=lambda pair: pair[0].name)

    def all_subnets(self) -> list[Subnet]:
        return sorted(self.subnets.values(), key=lambda subnet: (subnet.name, subnet.uid))


def document(r: Reservation, observed: Observed) -> IP:
    return render(r, status.render(r, observed))
