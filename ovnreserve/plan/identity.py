"""Is this port the one that the reservation is for?

The names are equal already. What the port's external_ids say of pod, namespace and type, in the words of the CMS that
wrote them, must not contradict: kube-ovn writes `pod=namespace/name`, ovn-kubernetes `namespace`, and anybody may
write `ovnreserve/pod-type`. What is not said contradicts nothing.
"""

from __future__ import annotations

from typing import Final

from ovnreserve.model.topology import Port

_LONGEST: Final = 58
"""Kubernetes cuts a generateName to this before it adds its five random characters."""


def contradiction(port: Port, pod_name: str, namespace: str, pod_type: str) -> str | None:
    """What of the port's external_ids speaks against the reservation, in words; None if nothing does."""
    ids = port.external_ids
    pod = ids.get("pod")
    if (
        pod
        and "/" in pod
        and pod != f"{namespace}/{pod_name}"
        and not _is_virtual_machine_pod(pod, pod_name, namespace, pod_type)
    ):
        return f"external_ids:pod={pod}, the reservation is for {namespace}/{pod_name}"
    theirs = ids.get("namespace")
    if theirs and theirs != namespace:
        return f"external_ids:namespace={theirs}, the reservation is for namespace {namespace}"
    theirs = ids.get("ovnreserve/pod-type")
    if theirs is not None and theirs != pod_type:
        return f'external_ids:ovnreserve/pod-type={theirs}, the reservation is for podType "{pod_type}"'
    return None


def _is_virtual_machine_pod(pod: str, pod_name: str, namespace: str, pod_type: str) -> bool:
    """A VirtualMachine's port is named after the VM, while `pod` names its launcher pod (virt-launcher-NAME-xxxxx)."""
    return pod_type == "VirtualMachine" and pod.startswith(f"{namespace}/{f'virt-launcher-{pod_name}-'[:_LONGEST]}")
