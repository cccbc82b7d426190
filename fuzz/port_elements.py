"""What others write of addresses: elements of a port's columns, a switch's settings, and the texts of other tables."""

from __future__ import annotations

import re
from typing import Any, Final

from ovnreserve.api import selectors
from ovnreserve.model import ovn_text
from ovnreserve.model.addresses import parse_cidr, parse_mac
from ovnreserve.model.errors import Refused
from ovnreserve.model.topology import parse_element, port_of, switch_of

SEEDS: Final = tuple(
    text.encode()
    for text in (
        "0a:00:00:00:00:01 10.0.0.5 fd00::5",
        "dynamic 10.0.0.5 fd00::5",
        "0A:0:0:0:0:1 dynamic",
        "dynamic",
        "unknown",
        "router",
        "0a:00:00:00:00:01 10.0.0.0/24 10.0.0.5/24 fd00::/64",
        "10.0.0.5/255.255.255.0",
        "10.0.0.5-10.0.0.9",
        "[fd00::5]:80",
        "{10.0.0.5, 10.0.0.6}",
        "lsp:[fd00::5]:az",
        "app=web,tier!=db,env in (a,b),!x",
    )
)
_is_mac: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}").fullmatch


def check(data: bytes) -> None:
    text = data.decode("utf-8", "ignore")
    element = parse_element(text)
    assert element.text == text
    port = port_of("uuid", _port(text), None)
    macs, v4, v6 = port.own()
    assert all(map(_is_mac, macs))
    assert all(0 <= address < 1 << 32 for address in v4)
    assert all(0 <= address < 1 << 128 for address in v6)
    keys = ("subnet", "ipv6_prefix", "exclude_ips", "ovnreserve/provider", "ovnreserve/auto")
    settings = dict.fromkeys(keys, text)
    switch = switch_of("uuid", {"name": text, "other_config": settings, "external_ids": settings})
    for cidr in (switch.v4, switch.v6):
        assert cidr is None or parse_cidr(str(cidr)) == cidr
    for read in (ovn_text.words, ovn_text.mac_of, ovn_text.address_of, ovn_text.network_of, ovn_text.span_of,
                 ovn_text.host_of, ovn_text.without_port, ovn_text.source_of):  # fmt: skip
        read(text)
    try:
        assert _is_mac(parse_mac(text))
    except ValueError as error:
        assert str(error).isprintable()
    for parse in (selectors.parse, lambda text: selectors.parse_fields(text, ("metadata.name",))):
        try:
            parse(text)
        except Refused as refused:
            assert refused.message.isprintable()


def _port(text: str) -> dict[str, Any]:
    return {
        "name": text, "type": text, "addresses": {text, "dynamic"}, "dynamic_addresses": text, "port_security": {text},
        "external_ids": {}, "up": None, "enabled": None, "dhcpv4_options": None, "dhcpv6_options": None,
        "health_checks": (),
    }  # fmt: skip
