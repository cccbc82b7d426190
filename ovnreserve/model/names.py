"""Names: of Kubernetes objects (RFC 1123) and of logical switch ports.

The port of a workload is called `podName.namespace`, or `podName.namespace.provider` where the subnet's provider is
not `ovn`; the IP of that workload has the same name. Names reach logs, SQL and OVSDB, so nothing else is let in.
"""

from __future__ import annotations

import re

from ovnreserve.model.involved import DATABASE, LEDGER

DEFAULT_PROVIDER = "ovn"

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII).fullmatch
_ONE_LABEL = re.compile(_LABEL, re.ASCII).fullmatch
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII).fullmatch

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
LABEL_VALUE_RULE = "must be a valid label value of at most 63 characters"


def is_subdomain(name: str) -> bool:
    """An RFC 1123 subdomain of at most 253 characters, as names of most Kubernetes objects."""
    return len(name) <= 253 and _SUBDOMAIN(name) is not None


def is_label(name: str) -> bool:
    """An RFC 1123 label of at most 63 characters, as names of namespaces."""
    return len(name) <= 63 and _ONE_LABEL(name) is not None


def is_label_key(key: str) -> bool:
    """A label's or annotation's key: `[prefix/]name`."""
    prefix, slash, name = key.rpartition("/")
    return (not slash or is_subdomain(prefix)) and len(name) <= 63 and _QUALIFIED(name) is not None


def is_label_value(value: str) -> bool:
    return value == "" or (len(value) <= 63 and _QUALIFIED(value) is not None)


def port_name(pod_name: str, namespace: str, provider: str) -> str:
    """The name of the workload's logical switch port on a subnet of that provider, and of its IP."""
    name = f"{pod_name}.{namespace}"
    return name if provider == DEFAULT_PROVIDER else f"{name}.{provider}"


def is_port_name(name: str) -> bool:
    """May an IP have this name, since a port has it that somebody else has named? One word, without a slash, and none
    that the journal has for something else.
    """
    is_word = 0 < len(name) <= 253 and name.isprintable() and not {" ", "/"} & set(name)
    return is_word and name not in (LEDGER, DATABASE)
