"""The two flows of the specification, word for word: docs/examples holds its documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sites import Site
from support import Result, ovnreserve, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
OPERATORS = "10.16.0.1 // the gateway\n10.16.255.0..10.16.255.254  "


@pytest.fixture
def run(site: Site) -> Callable[..., Result]:
    """`run(*arguments) -> Result`: the command line; it must succeed."""

    def run_(*arguments: str) -> Result:
        done = ovnreserve(*arguments, environment=site.daemon.client_environment)
        assert done.code == 0, done
        return done

    return run_


@pytest.fixture
def subnet(site: Site) -> str:
    return site.switch("10.16.0.0/16", name="ovn-default", exclude_ips=OPERATORS)


def get(run: Callable[..., Result], name: str) -> dict[str, Any]:
    return json.loads(run("get", "ip", name, "-o", "json").stdout)


@pytest.mark.parametrize("addresses", [[], "dynamic"])
@pytest.mark.parametrize(
    ("example", "name", "pod_type", "expected"),
    [
        ("01-dynamic.yaml", "vm-dynamic-01.default", "VirtualMachine", "10.16.254.255"),
        ("02-static.yaml", "pod-static-01.default", "", "10.16.0.3"),
    ],
)
def test_reserve_use_keep_and_delete(
    site: Site,
    run: Callable[..., Result],
    subnet: str,
    example: str,
    name: str,
    pod_type: str,
    expected: str,
    addresses: str | list[str],
) -> None:
    file = str(EXAMPLES / example)

    # Reserved: excluded, and no port.
    assert run("apply", "-f", file).stdout == f"ip.kubeovn.io/{name} created\n"
    ip = get(run, name)
    address, mac = ip["spec"]["v4IpAddress"], ip["spec"]["macAddress"]
    assert address == expected
    assert ip["spec"] == {
        "attachIps": [], "attachMacs": [], "attachSubnets": [], "containerID": "", "ipAddress": address,
        "macAddress": mac, "namespace": "default", "nodeName": "", "podName": name.partition(".")[0],
        "podType": pod_type, "subnet": subnet, "v4IpAddress": address, "v6IpAddress": "",
    }  # fmt: skip
    assert ip["metadata"]["labels"] == {
        "ovn.kubernetes.io/ip_reserved": "true", "ovn.kubernetes.io/node-name": "", "ovn.kubernetes.io/subnet": subnet,
    }  # fmt: skip
    assert ip["metadata"]["finalizers"] == ["ovnreserve/release"]
    assert site.exclude_ips(subnet) == f"{address} {OPERATORS}"
    assert name not in site.nb("show", subnet)
    assert name in site.records()
    assert run("apply", "-f", file).stdout == f"ip.kubeovn.io/{name} unchanged\n"

    # Used: the port is given exactly what was reserved.
    for _ in range(2):
        site.port(subnet, addresses, name=name)
        wait_until(lambda: get(run, name)["status"]["phase"] == "Bound", what="bound")
        assert site.addresses(name) == {f"{mac} {address}"}
        site.nb("--wait=sb", "sync")
        assert site.dynamic_addresses(name) == ""

        # Kept: the port goes, the reservation stays, and nobody else is given the address.
        site.nb("--wait=sb", "lsp-del", name)
        wait_until(lambda: get(run, name)["status"]["phase"] == "Reserved", what="reserved")
        assert site.exclude_ips(subnet) == f"{address} {OPERATORS}"
        others = [site.port(subnet) for _ in range(3)]
        assert all(address not in site.dynamic_addresses(port).split() for port in others)

    # Deleted, while its port is there: port, address and record are gone, and nothing else.
    site.port(subnet, addresses, name=name)
    wait_until(lambda: get(run, name)["status"]["phase"] == "Bound", what="bound")
    assert run("delete", "-f", file).stdout == f'ip.kubeovn.io "{name}" deleted\n'
    assert ovnreserve("get", "ip", name, environment=site.daemon.client_environment).code == 1
    assert name not in site.nb("show", subnet)
    assert site.exclude_ips(subnet) == OPERATORS
    assert site.records() == {}


def test_a_pod_that_runs_already_keeps_what_it_has(site: Site, run: Callable[..., Result], subnet: str) -> None:
    name = site.port(subnet, "dynamic", name="vm-dynamic-01.default")
    has = site.dynamic_addresses(name)
    assert run("apply", "-f", str(EXAMPLES / "01-dynamic.yaml")).stdout == f"ip.kubeovn.io/{name} created\n"
    site.nb("--wait=sb", "sync")
    assert site.addresses(name) == {has}
    spec = get(run, name)["spec"]
    assert f"{spec['macAddress']} {spec['v4IpAddress']}" == has
    assert site.exclude_ips(subnet) == f"{spec['v4IpAddress']} {OPERATORS}"
    run("delete", "ip", name)
    assert name not in site.nb("show", subnet)
    assert site.exclude_ips(subnet) == OPERATORS
