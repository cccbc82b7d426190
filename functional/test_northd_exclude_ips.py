"""What ovn-northd excludes, seen from what it hands out, is what `parse` says."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from ovnreserve.model.exclude_ips import TokenRuns, join, parse
from ovnreserve.sandbox import Servers, find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUBNET = "10.0.0.0/28"
NETWORK, PREFIXLEN = 10 << 24, 28
HOSTS = range(2, 15)  # the last octets that IPAM may hand out of a /28

TEXTS = [
    "10.0.0.5",
    "10.0.0.5 10.0.0.7..10.0.0.9 10.0.0.11",
    "  10.0.0.5    10.0.0.7 .. 10.0.0.9  ",
    "9.0.0.1..10.0.0.3 10.0.0.12..11.0.0.1",
    "10.0.0.5\n10.0.0.9",
    "10.0.0.5\t10.0.0.6\v10.0.0.7\f10.0.0.8\r10.0.0.9",
    "10.0.0.5 /* c */ 10.0.0.9",
    "10.0.0.5 // c\n10.0.0.9",
    "10.0.0.5 // c 10.0.0.9",
    "10.0.0.5//c\n10.0.0.9",
    "/**/10.0.0.5 /*/ 10.0.0.9",
    "10.0.0.5 /* a\nb */ 10.0.0.9",
    " ",
    "// nothing",
    "10.0.0.0 10.0.0.9",
    "10.0.0.5 10.1.0.6 10.0.0.7",
    "10.0.0.5 10.0.0.9..10.0.0.7 10.0.0.12",
    "0.0.0.0..255.255.255.255",
    "10.0.0.2..255.255.255.255 10.0.0.4",
    "10.0.0.1..10.0.0.15",
    "10.0.0.5,10.0.0.6",
    "10.0.0.5 foo 10.0.0.7",
    "10.0.0.5 10.0.0.300 10.0.0.7",
    "10.1.0.6 10.0.0.300 10.0.0.7",
    "10.0.0.4-10.0.0.6 10.0.0.9",
    "10.0.0.4/30 10.0.0.9",
    "10.0.0.4/33 10.0.0.9",
    "10.0.0.05 10.0.0.9",
    "10.0.0.5..  foo 10.0.0.9",
    "10.0.0.5...10.0.0.9",
    "10.0.0.5.. 10.0.0.9",
    "10.0.0.5 10.0.0.7 ..",
    "10.0.0.5. 10.0.0.7",
    "10.0.0.5_a",
    "10.0.0.5:80 10.0.0.7",
    "10.0.0.5::a00:6 10.0.0.7",
    "fd00::a00:5 fd00::10.0.0.6 0x0A000007 167772168 00:00:0a:00:00:09",
    "18446744069582422021 0xffffffff0a000005 0:0:0000a:0:00:06",
    "00 10.0.0.5",
    "0x" + "0" * 300 + "a000005",
    "0x1" + "0" * 256 + " 10.0.0.5",
    "0000:0000:0000:0000:0000:ffff:10.0.0.5 ::" + "0" * 44,
    "..10.0.0.9",
    " .. 10.0.0.9 10.0.0.11",
    "/* c */ .. 10.0.0.9",
    "// c\n..\n10.0.0.9",
    "... 10.0.0.9",
    ". .",
    "a..b",
    '"10.0.0.5" 10.0.0.6',
    '10.0.0.5 "10.0.0.6',
    '"\\q"',
    "$set",
    "^template 10.0.0.5",
    "10.0.0.5 # why",
    "10.0.0.5\N{NO-BREAK SPACE}10.0.0.6",
    "10.0.0.5 /* \N{SNOWMAN} */ 10.0.0.6",
    "10.0.0.5\\",
]

each_text = pytest.mark.parametrize("text", TEXTS, ids=ascii)


@pytest.fixture(scope="module")
def unlimited(ovn: Servers) -> Iterator[Servers]:
    """`ovn` with an ovn-northd that logs every complaint, however many there are in a second."""

    def limit(command: str) -> None:
        target = str(next(ovn.run_dir.glob("ovn-northd.*.ctl")))
        subprocess.run([find_program("ovn-appctl"), "-t", target, f"vlog/{command}"], check=True, timeout=10)

    limit("disable-rate-limit")
    yield ovn
    limit("enable-rate-limit")


@pytest.fixture
def hand_out(ovn: Servers, switch: Callable[..., str]) -> Callable[[str], tuple[str, set[int]]]:
    """`hand_out(text) -> (switch, last octets)`: what a new switch's dynamic ports get, till none is left."""

    def hand_out(text: str) -> tuple[str, set[int]]:
        name = switch(SUBNET, **({"exclude_ips": text} if text else {}))
        ports = [f"{name}-{number}" for number in range(len(HOSTS) + 1)]
        commands = [["--", "lsp-add", name, port, "--", "lsp-set-addresses", port, "dynamic"] for port in ports]
        ovn.nbctl("--wait=sb", *itertools.chain.from_iterable(commands))
        listing = json.loads(
            ovn.nbctl("--format=json", "--columns=dynamic_addresses", "list", "logical_switch_port", *ports)
        )
        addresses = [re.search(r" 10\.0\.0\.(\d+)$", str(address)) for (address,) in listing["data"]]
        return name, {int(address[1]) for address in addresses if address}

    return hand_out


def left_by(text: str) -> set[int]:
    ranges = parse(text, NETWORK, PREFIXLEN).ranges
    return {n for n in HOSTS if not any(first <= NETWORK + n <= last for first, last in ranges)}


def complaint(ovn: Servers, name: str) -> str | None:
    """The first thing that ovn-northd logged of a switch's exclude_ips."""
    uuid = ovn.nbctl("--bare", "--columns=_uuid", "list", "logical_switch", name).strip()
    log = ovn.northd.log.read_text(errors="replace")
    found = re.search(rf"{uuid}: bad exclude_ips \((.*)\)$", log, re.MULTILINE)
    return found[1] if found else None


@each_text
def test_northd_hands_out_what_parse_leaves_and_complains_of_the_same(unlimited, hand_out, text):
    name, handed_out = hand_out(text)
    assert handed_out == left_by(text)
    expected = parse(text, NETWORK, PREFIXLEN).error
    if expected is None:
        assert complaint(unlimited, name) is None
    else:
        wait_until(lambda: complaint(unlimited, name) == expected, what=f"a log entry with: {expected}")


@pytest.mark.parametrize("ours", [[(3, 3), (6, 7), (12, 12)], [(4, 4), (9, 10)]], ids=["address", "range"])
@each_text
def test_with_our_tokens_in_front_northd_keeps_back_ours_and_what_it_would_have_kept_back(hand_out, text, ours):
    runs = TokenRuns((NETWORK + first, NETWORK + last) for first, last in ours)
    value, _ = join(runs.text(), text)
    _, handed_out = hand_out(value)
    assert handed_out == {n for n in left_by(text) if NETWORK + n not in runs}


def test_only_a_range_at_the_end_of_our_text_stops_theirs_from_taking_hold_of_it(hand_out):
    assert 6 in hand_out("10.0.0.6 .. 10.0.0.3")[1], "the harm that joining with a space alone would do"
    assert 6 not in hand_out(join("10.0.0.6", ".. 10.0.0.3")[0])[1]


def test_in_the_last_subnet_of_all_a_range_up_to_its_broadcast_address_excludes_nothing(ovn, switch):
    name = switch("255.255.255.248/29", exclude_ips="255.255.255.251 255.255.255.252..255.255.255.255")
    ports = [f"{name}-{number}" for number in range(6)]
    for port in ports:
        ovn.nbctl("lsp-add", name, port, "--", "lsp-set-addresses", port, "dynamic")
    ovn.nbctl("--wait=sb", "sync")
    addresses = ovn.nbctl("--bare", "--columns=dynamic_addresses", "list", "logical_switch_port", *ports)
    assert set(re.findall(r"255\.255\.255\.(\d+)", addresses)) == {"250", "252", "253", "254"}
