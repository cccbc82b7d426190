"""The northbound tables and columns we read, and how each is kept in Python.

Only what is needed is monitored: at 20k ports four columns cost 2.8-3.6 s and 20 MB, all of them 5.3-6.5 s and
57 MB (python-ovs). A column that an older schema lacks is left out of the monitor and reads as its kind's empty
value; `REQUIRED` columns exist in every OVN since 20.03, and without them we refuse to run.

Kinds, by the column's type in ovn-nb.ovsschema (RFC 7047, section 3.2):

======== ======================================== =====================
kind     OVSDB type                               Python value
======== ======================================== =====================
SCALAR   exactly one, a string                    str
INTEGER  exactly one, an integer                  int
OPTIONAL min 0, max 1                             the value, or None
SET      max more than one, no value type         frozenset
MAP      key and value                            dict
======== ======================================== =====================

UUIDs are plain strings.
"""

from __future__ import annotations

import enum
from typing import Final


class Kind(enum.Enum):
    SCALAR = "scalar"
    INTEGER = "integer"
    OPTIONAL = "optional"
    SET = "set"
    MAP = "map"


SCALAR, INTEGER, OPTIONAL, SET, MAP = Kind

COLUMNS: Final[dict[str, dict[str, Kind]]] = {
    "NB_Global": {"nb_cfg": INTEGER, "sb_cfg": INTEGER, "options": MAP},
    "Logical_Switch": {
        "name": SCALAR,
        "ports": SET,
        "other_config": MAP,
        "external_ids": MAP,
        "load_balancer": SET,
        "load_balancer_group": SET,
        "forwarding_groups": SET,
    },
    "Logical_Switch_Port": {
        "name": SCALAR,
        "type": SCALAR,
        "addresses": SET,
        "dynamic_addresses": OPTIONAL,
        "port_security": SET,
        "options": MAP,
        "external_ids": MAP,
        "up": OPTIONAL,
        "enabled": OPTIONAL,
        "dhcpv4_options": OPTIONAL,
        "dhcpv6_options": OPTIONAL,
        "health_checks": SET,
    },
    "Logical_Switch_Port_Health_Check": {"src_ip": SCALAR, "address": SCALAR},
    "Forwarding_Group": {"name": SCALAR, "vip": SCALAR, "vmac": SCALAR},
    "DHCP_Options": {"cidr": SCALAR, "options": MAP},
    "Load_Balancer": {"name": SCALAR, "vips": MAP, "ip_port_mappings": MAP},
    "Load_Balancer_Group": {"name": SCALAR, "load_balancer": SET},
    "Logical_Router": {
        "name": SCALAR,
        "ports": SET,
        "nat": SET,
        "static_routes": SET,
        "policies": SET,
        "load_balancer": SET,
        "load_balancer_group": SET,
    },
    "Logical_Router_Port": {
        "name": SCALAR,
        "mac": SCALAR,
        "networks": SET,
        "ipv6_prefix": SET,
        "dhcp_relay": OPTIONAL,
    },
    "DHCP_Relay": {"name": SCALAR, "servers": OPTIONAL},
    "NAT": {"type": SCALAR, "external_ip": SCALAR, "external_mac": OPTIONAL, "logical_port": OPTIONAL},
    "Logical_Router_Static_Route": {"nexthop": SCALAR},
    "Logical_Router_Policy": {"nexthop": OPTIONAL, "nexthops": SET},
    "BFD": {"logical_port": SCALAR, "dst_ip": SCALAR},
    "Static_MAC_Binding": {"logical_port": SCALAR, "ip": SCALAR, "mac": SCALAR},
    "DNS": {"external_ids": MAP},
}

REQUIRED: Final[dict[str, frozenset[str]]] = {
    "NB_Global": frozenset({"nb_cfg", "sb_cfg", "options"}),
    "Logical_Switch": frozenset({"name", "ports", "other_config", "external_ids"}),
    "Logical_Switch_Port": frozenset({"name", "type", "addresses", "dynamic_addresses", "options", "external_ids"}),
    "DNS": frozenset({"external_ids"}),
}
