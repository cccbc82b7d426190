"""What is an owner's is found, whatever its port is called, and whenever owner and port come."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from builders import MAC, NOW, Cloud

from ovnreserve.model.owner import STATEFUL_SET, Owner
from ovnreserve.model.resource import State

WEB = "statefulset/default/web"


def web(**fields: Any) -> Owner:
    values = {"name": WEB, "uid": "u", "kind": STATEFUL_SET, "namespace": "default", "title": "web", "replicas": 1}
    return Owner(**{**values, "state": State.HELD, "created": NOW, "resource_version": 1, **fields})


NAMES = [
    ("web-0.default", {}),
    ("web-0.default.net1.default.ovn", {"pod": "default/web-0"}),
    ("default_web-0", {"namespace": "default", "pod": "true"}),
    ("blue_default_web-0", {"namespace": "default", "pod": "true"}),
    ("lsp-17", {"pod": "default/web-0", "vendor": "kube-ovn"}),
]


@pytest.mark.parametrize(("name", "ids"), NAMES)
def test_a_port_is_found_by_who_it_is_for_and_not_by_its_name(name: str, ids: dict[str, str]) -> None:
    cloud = Cloud()
    cloud.port(cloud.switch(), name, f"{MAC} 10.0.0.5", ids=ids)
    cloud.world.put(web())
    assert cloud.world.coverage.of(WEB) == {name}


def test_a_set_that_grows_has_the_ports_that_came_before_it_did() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    for ordinal in range(3):
        cloud.port(switch, f"web-{ordinal}.default", "dynamic")
    cloud.world.put(web(replicas=1))
    cloud.world.put(web(replicas=3))
    assert cloud.world.coverage.of(WEB) == {f"web-{ordinal}.default" for ordinal in range(3)}


@pytest.mark.parametrize("seed", range(8))
def test_a_port_that_is_made_anew_in_one_transaction_is_still_there(seed: int) -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.world.put(web())
    for _ in range(seed):  # other uuids: rows come in any order
        cloud.new_uuid()
    old = cloud.port(switch, "web-0.default", f"{MAC} 10.0.0.5")
    del cloud.tables["Logical_Switch_Port"][old]
    cloud.tables["Logical_Switch"][switch]["ports"] -= {old}
    cloud.port(switch, "web-0.default", f"{MAC} 10.0.0.5")
    assert cloud.world.coverage.of(WEB) == {"web-0.default"}
    assert cloud.world.coverage.take_emptied() == set()


@pytest.mark.parametrize("order", list(permutations(["owner", "port", "reservation"])))
def test_it_does_not_matter_what_comes_first(order: tuple[str, ...]) -> None:
    cloud = Cloud()
    switch = cloud.switch()
    for what in order:
        match what:
            case "owner":
                cloud.world.put(web())
            case "port":
                port = cloud.port(switch, "web-0.default", f"{MAC} 10.0.0.5")
            case "reservation":
                cloud.reserve(switch, "web-1.default", pod_type=STATEFUL_SET)
    coverage = cloud.world.coverage
    assert coverage.of(WEB) == {"web-0.default", "web-1.default"}
    cloud.delete_port(port)
    assert coverage.of(WEB) == {"web-1.default"}
    assert coverage.take_emptied() == set()
    cloud.world.drop("web-1.default")
    assert coverage.of(WEB) == set()
    assert coverage.take_emptied() == {WEB}
    assert coverage.take_emptied() == set(), "said once"


def test_an_owner_that_is_not_known_has_nothing_and_is_never_emptied() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    port = cloud.port(switch, "web-0.default", "dynamic")
    assert cloud.world.coverage.of(WEB) == set()
    cloud.world.put(web())
    cloud.world.drop(WEB)
    cloud.delete_port(port)
    assert cloud.world.coverage.take_emptied() == set()


def test_nothing_is_left_of_a_switch_whose_ports_are_named_by_its_provider() -> None:
    cloud = Cloud()
    switch = cloud.switch(ids={"ovnreserve/provider": "net1.default.ovn"})
    port = cloud.port(switch, "web-0.default.net1.default.ovn", "dynamic")
    cloud.world.put(web())
    assert cloud.world.coverage.of(WEB) == {"web-0.default.net1.default.ovn"}
    del cloud.tables["Logical_Switch"][switch], cloud.tables["Logical_Switch_Port"][port]
    cloud.sync()
    assert cloud.world.coverage.take_emptied() == {WEB}


def test_a_switch_that_takes_another_provider_has_ports_of_others_from_then_on() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.port(switch, "web-0.default.net1.default.ovn", "dynamic")
    cloud.world.put(web())
    assert cloud.world.coverage.of(WEB) == set()
    touched = cloud.change("Logical_Switch", switch, external_ids={"ovnreserve/provider": "net1.default.ovn"})
    assert cloud.world.coverage.of(WEB) == {"web-0.default.net1.default.ovn"}
    assert "web-0.default.net1.default.ovn" in touched.names
