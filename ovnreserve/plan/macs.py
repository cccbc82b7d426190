"""MAC addresses of reservations.

Automatic ones come from a prefix of our own: locally administered, unicast, and never the `mac_prefix` of NB_Global,
from which ovn-northd derives its own (facts: MAC). The other prefix is there for a cloud that uses the first as
mac_prefix.
"""

from __future__ import annotations

from random import Random

from ovnreserve.plan.segment import Segment
from ovnreserve.plan.world import World

PREFIXES = ("02:6f:76", "06:6f:76")
_HEX = [f"{byte:02x}" for byte in range(256)]


def our_prefix(world: World) -> str:
    theirs = world.mac_prefix()
    return PREFIXES[1] if theirs == PREFIXES[0] else PREFIXES[0]


def choose_mac(world: World, segment: Segment, random: Random) -> str:
    """A MAC that no port and no reservation has, on any switch, and nothing else on this one."""
    prefix = our_prefix(world)
    others = segment.claims.macs if segment.claims else {}
    while True:
        suffix = random.getrandbits(24)
        mac = f"{prefix}:{_HEX[suffix >> 16]}:{_HEX[suffix >> 8 & 255]}:{_HEX[suffix & 255]}"
        if mac not in world.macs and mac not in others:
            return mac
