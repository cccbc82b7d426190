"""Who is a port for: pod, namespace and type, in the words of the CMS that made it.

    CMS              port's name                       external_ids
    kube-ovn         pod.namespace[.provider]          pod=namespace/pod, vendor, ls. A VM's port is named after the
                                                       VM; pod names the VM, too, or its virt-launcher pod
    ovn-kubernetes   [network_]namespace_pod           namespace, pod=true
    Neutron          the port's uuid                   neutron:device_id, neutron:device_owner (of a VM compute:...),
                                                       neutron:project_id, neutron:port_name
    LXD, Incus       lxd-netID-instance-UUID-device    lxd_switch, incus_switch
    anybody else     pod.namespace[.provider]          -

and anybody may write `ovnreserve/pod-type`, which then is the type. Of a port of nobody's without a dot in its name,
that is the pod's name, and nothing is said of a namespace.

`identity` reads that; `contradiction` asks whether it speaks against a reservation whose name is the port's already.
What is not said contradicts nothing. A port that a reservation binds to is for whom the reservation is for.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

from ovnreserve.model.names import DEFAULT_PROVIDER
from ovnreserve.model.topology import Port

POD_TYPE: Final = "ovnreserve/pod-type"
VIRTUAL_MACHINE: Final = "VirtualMachine"

_LONGEST: Final = 58
"""Kubernetes cuts a generateName to this before it adds its five random characters."""
_INSTANCE = re.compile(r"(?:lxd|incus)-net\d+-instance-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+)-.+").fullmatch


class Identity(NamedTuple):
    """What is not said is ""."""

    pod_name: str
    namespace: str
    pod_type: str


class Named(Protocol):
    """What of a port tells who it is for."""

    @property
    def name(self) -> str: ...

    @property
    def external_ids(self) -> dict[str, str]: ...


def identity(port: Named, provider: str) -> Identity:
    """Who the port is for; `provider` is its switch's."""
    name, ids = port.name, port.external_ids
    said = ids.get(POD_TYPE)
    if "/" in ids.get("pod", ""):
        found = _of_kube_ovn(name, ids["pod"], provider, said)
    elif ids.get("namespace"):
        found = _of_ovn_kubernetes(name, ids["namespace"], provider)
    elif "neutron:device_id" in ids or "neutron:port_name" in ids:
        found = _of_neutron(ids)
    elif (instance := _INSTANCE(name)) is not None:
        found = Identity(instance[1], "", "")
    else:
        found = _of_name(name, provider)
    return found if said is None else found._replace(pod_type=said)


def _of_kube_ovn(name: str, pod: str, provider: str, said: str | None) -> Identity:
    namespace, _slash, pod_name = pod.partition("/")
    named = _named(name, namespace, provider)
    if pod_name != named and said in (None, VIRTUAL_MACHINE) and _is_launcher(pod, named, namespace):
        return Identity(named, namespace, VIRTUAL_MACHINE)
    return Identity(pod_name, namespace, "")


def _of_ovn_kubernetes(name: str, namespace: str, provider: str) -> Identity:
    head, underscore, pod_name = name.rpartition("_")
    if underscore and (head == namespace or head.endswith(f"_{namespace}")):
        return Identity(pod_name, namespace, "")
    return Identity(_named(name, namespace, provider), namespace, "")


def _of_neutron(ids: dict[str, str]) -> Identity:
    """Of a port that no device has, its own name is all there is."""
    who = ids.get("neutron:device_id") or ids.get("neutron:port_name", "")
    is_vm = ids.get("neutron:device_owner", "").startswith("compute:")
    return Identity(who, ids.get("neutron:project_id", ""), VIRTUAL_MACHINE if is_vm else "")


def _of_name(name: str, provider: str) -> Identity:
    pod_name, dot, namespace = _without(name, provider).rpartition(".")
    return Identity(pod_name, namespace, "") if dot else Identity(namespace, "", "")


def _named(name: str, namespace: str, provider: str) -> str:
    """The pod of this namespace that the port is named after; "" if it is named otherwise. kube-ovn's switches need not
    say their provider.
    """
    short = _without(name, provider)
    ours = f".{namespace}"
    if short.endswith(ours):
        return short.removesuffix(ours)
    pod_name, found, _provider = name.partition(f"{ours}.")
    return pod_name if found else ""


def _without(name: str, provider: str) -> str:
    return name if provider == DEFAULT_PROVIDER else name.removesuffix(f".{provider}")


def contradiction(port: Port, pod_name: str, namespace: str, pod_type: str) -> str | None:
    """What of the port's external_ids speaks against the reservation, in words; None if nothing does."""
    ids = port.external_ids
    pod = ids.get("pod")
    if (
        pod
        and "/" in pod
        and pod != f"{namespace}/{pod_name}"
        and not (pod_type == VIRTUAL_MACHINE and _is_launcher(pod, pod_name, namespace))
    ):
        return f"external_ids:pod={pod}, the reservation is for {namespace}/{pod_name}"
    theirs = ids.get("namespace")
    if theirs and theirs != namespace:
        return f"external_ids:namespace={theirs}, the reservation is for namespace {namespace}"
    theirs = ids.get(POD_TYPE)
    if theirs is not None and theirs != pod_type:
        return f'external_ids:{POD_TYPE}={theirs}, the reservation is for podType "{pod_type}"'
    return None


def _is_launcher(pod: str, machine: str, namespace: str) -> bool:
    """Is the pod the launcher of that VM? Its port is named after the VM, and it virt-launcher-NAME-xxxxx."""
    return bool(machine) and pod.startswith(f"{namespace}/{f'virt-launcher-{machine}-'[:_LONGEST]}")
