"""exclude_ips and its mark: others' text is kept byte for byte, and ours is read by ovn-northd whatever theirs is."""

from __future__ import annotations

from typing import Final

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import parse_v4

_NETWORK: Final = parse_v4("10.0.0.0")
_OURS: Final = ("", "10.0.0.5", "10.0.0.5 10.0.0.9..10.0.0.12")
_ADDRESSES: Final = (set(), {5}, {5, 9, 10, 11, 12})
# Each was read by real servers (facts: exclude_ips).
SEEDS: Final = tuple(
    text.encode()
    for text in (
        "10.0.0.5",
        "10.0.0.5 10.0.0.7..10.0.0.9 10.0.0.11",
        "  10.0.0.5    10.0.0.7 .. 10.0.0.9  ",
        "10.0.0.5\n10.0.0.9 /* c */ // c\n10.0.0.11",
        "10.0.0.5,10.0.0.6 foo 10.0.0.300",
        "10.0.0.4-10.0.0.6 10.0.0.4/30 10.0.0.4/255.255.255.0",
        "0.0.0.0..255.255.255.255",
        ".. 10.0.0.3",
        "fd00::a00:5 0xa000005 167772165 18446744073709551616 007",
        "00:11:22:33:44:55 0x11:0x22:0x33:0x44:0x55:0x66",
        '"quoted \\u0041 \\n" $set @group ^template <-> && || == != <= >= -- ! { } [ ] ; :',
        "/* open",
    )
)


def check(data: bytes) -> None:
    theirs = data.decode("utf-8", "ignore")
    for ours, addresses in zip(_OURS, _ADDRESSES, strict=True):
        value, mark = exclude_ips.join(ours, theirs)
        split, kept = exclude_ips.split(value, mark)
        assert kept == theirs
        assert exclude_ips.join("", kept) == (theirs, "")
        found = exclude_ips.parse(value, _NETWORK, 24)
        read = {address - _NETWORK for first, last in found.ranges for address in range(first, last + 1)}
        alone = exclude_ips.parse(theirs, _NETWORK, 24)
        also = {address - _NETWORK for first, last in alone.ranges for address in range(first, last + 1)}
        assert read == addresses | also
        assert alone.ignored == "" or theirs.endswith(alone.ignored)
        assert split.startswith(ours)
    half = len(theirs) // 2  # a value and a mark that nobody of us wrote
    ours, kept = exclude_ips.split(theirs[:half], theirs[half:])
    assert (ours, kept) == ("", theirs[:half])
    exclude_ips.tokens(theirs)
