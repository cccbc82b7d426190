"""Steps: what a plan wants done to the northbound database. Frozen; every one can be done again.

One batch of steps is one ledger transaction, then one northbound transaction. `seen` is what a port was like when the
plan was made:
`addresses`, `dynamic_addresses` and `type`; a write to the port is guarded by it.
"""

from __future__ import annotations

from typing import NamedTuple

from ovnreserve.model.resource import Resource

Seen = tuple[frozenset[str], str | None, str]


class PutRecord(NamedTuple):
    """Write the resource's record, and its IPv4 addresses into its switch's exclude_ips."""

    resource: Resource


class UpdateRecord(NamedTuple):
    """Rewrite the record of a resource that has one: it has changed, or it is being released."""

    resource: Resource


class DropRecord(NamedTuple):
    """Delete the record, and take its IPv4 addresses out of its switch's exclude_ips."""

    resource: Resource


class WriteExcludes(NamedTuple):
    """Make our part of the switch's exclude_ips what it should be: what is kept there of IPv4, but these."""

    switch: str
    withheld: frozenset[int]


class WriteAddresses(NamedTuple):
    """Set a port's `addresses`, if the port is still as it was seen (`addresses`, `dynamic_addresses` and `type`).

    `reservation` names the one this is for: its record, where it was there before, must be unchanged too.
    """

    port: str
    seen: Seen
    addresses: frozenset[str]
    reservation: str


class SetEnabled(NamedTuple):
    """Set a port's `enabled` (None: absent), if the port is still as it was seen and its `enabled` is what it `was`.

    `reservation` names the one this is for: its record, where it was there before, must be unchanged too.
    """

    port: str
    seen: Seen
    was: bool | None
    enabled: bool | None
    reservation: str


class DeletePort(NamedTuple):
    """Delete a port, if it is still as it was seen, from its switch."""

    port: str
    switch: str
    seen: Seen


class PortUnchanged(NamedTuple):
    """Write nothing at all unless the port is still as it was seen."""

    port: str
    seen: Seen


class MembersUnchanged(NamedTuple):
    """Write nothing at all unless the switch has the ports that it had when the plan was made."""

    switch: str


class PublishRevision(NamedTuple):
    """Have the ledger row say what the ledger says. Every transaction does; this is for one that does nothing else."""


class Barrier(NamedTuple):
    """Increment nb_cfg: ovn-northd answers in sb_cfg once it has seen everything up to here."""


Step = (
    PutRecord
    | UpdateRecord
    | DropRecord
    | WriteExcludes
    | WriteAddresses
    | SetEnabled
    | DeletePort
    | PortUnchanged
    | MembersUnchanged
    | PublishRevision
    | Barrier
)
